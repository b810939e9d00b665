"""What files are found to be: faults that stop, and notes and warnings, each once in a process."""

from __future__ import annotations

import logging
from functools import cache

__all__ = ["FileFault", "note_once", "warn_once"]


class FileFault(ValueError):
    """A file that can be read, but must not be used: what is wrong with it and what to do, without its name."""


@cache
def warn_once(logger: logging.Logger, text: str) -> None:
    """Log a warning, unless it was logged before: a training reads its files again and again."""
    logger.warning(text)


@cache
def note_once(logger: logging.Logger, text: str) -> None:
    """Log a piece of information, unless it was logged before."""
    logger.info(text)
