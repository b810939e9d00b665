"""What files are found to be: faults that stop, and notes and warnings, each once in a process."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

__all__ = ["FileFault", "collected_warnings", "note_once", "warn_once"]

_collected: ContextVar[list[str] | None] = ContextVar("collected", default=None)


class FileFault(ValueError):
    """A file that can be read, but must not be used: what is wrong with it and what to do, without its name."""


@contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """The warnings of what is read within, also those that were logged before, each once."""
    texts: list[str] = []
    token = _collected.set(texts)
    try:
        yield texts
    finally:
        _collected.reset(token)


def warn_once(logger: logging.Logger, text: str) -> None:
    """Log a warning, unless it was logged before: a training reads its files again and again."""
    texts = _collected.get()
    if texts is not None and text not in texts:
        texts.append(text)
    _log_once(logger, logging.WARNING, text)


def note_once(logger: logging.Logger, text: str) -> None:
    """Log a piece of information, unless it was logged before."""
    _log_once(logger, logging.INFO, text)


@cache
def _log_once(logger: logging.Logger, level: int, text: str) -> None:
    logger.log(level, text)
