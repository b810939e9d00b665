"""The last words of a command that fails: what was wrong, and what to do."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.dummy import DummyProcess
from pathlib import Path
from types import TracebackType
from typing import Any

from equivariant_nets.errors import find_cause

__all__ = ["end_with_the_cause", "tell", "without_traceback"]

_MAX_WAIT_SECONDS = 5


def end_with_the_cause(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A ``sys.excepthook`` that prints the cause behind the traceback, or without one where it is told."""
    sys.stdout.flush()
    if not isinstance(error, Exception):  # such as Ctrl+C
        sys.__excepthook__(kind, error, trace)
        return
    _wait_for_pools()
    cause = find_cause(error)
    if not cause.is_told:
        sys.__excepthook__(kind, error, trace)
    tell(cause.text)


def _wait_for_pools() -> None:
    """Let threads of a pool that was left, as that of a ``CacheDataset``, end: Python may abort at exit otherwise."""
    latest = time.monotonic() + _MAX_WAIT_SECONDS
    for thread in threading.enumerate():
        if isinstance(thread, DummyProcess):
            thread.join(max(0.0, latest - time.monotonic()))


def tell(text: str) -> None:
    """Print a cause as the last words of this process, and of ``torchrun`` where that started it."""
    print(f"\n{text}", file=sys.stderr, flush=True)
    if file := os.environ.get("TORCHELASTIC_ERROR_FILE"):  # its summary of a failure shows what this file holds
        extra = {"timestamp": str(int(time.time()))}
        Path(file).write_text(json.dumps({"message": {"message": text, "extraInfo": extra}}), encoding="utf-8")


def without_traceback(factory: Callable[..., logging.LogRecord]) -> Callable[..., logging.LogRecord]:
    """Log records as of a factory, where an error that MONAI's ``StatsHandler`` only passes on is one line."""

    def record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        made = factory(*args, **kwargs)
        if made.module == "stats_handler":
            made.exc_info = None
        return made

    return record
