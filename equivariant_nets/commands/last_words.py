"""The last words of a command that fails: what was wrong, and what to do."""

from __future__ import annotations

import dis
import itertools
import json
import logging
import os
import re
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.dummy import DummyProcess
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import torch
from monai.utils import OptionalImportError

__all__ = ["Cause", "end_with_the_cause", "find_cause", "tell", "without_traceback"]

PACKAGE = Path(__file__).resolve().parents[1]
EXPORTS = ("onnx", "onnxscript", "onnx_ir", "onnxruntime")
_MAX_LINES, _MAX_CHARACTERS = 4, 300
_MAX_WAIT_SECONDS = 5
_WRAPPED = "\n\nThe above exception was the direct cause of the following exception:\n\n"


class Cause(NamedTuple):
    """Why a command failed."""

    text: str  # of one paragraph
    is_told: bool  # by this package, in words for the user: no traceback says more


def find_cause(error: BaseException) -> Cause:
    """The cause of an error below what MONAI wraps it in.

    It is the innermost error of the chain that this package raises, or else the innermost of all. The chain goes on
    inside the text of an error of another process, as PyTorch's data loader passes it on.
    """
    causes = [cause for link in _chain(error) for cause in _causes(link)]
    return next((cause for cause in reversed(causes) if cause.is_told), causes[-1])


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__


def _causes(error: BaseException) -> Iterator[Cause]:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if _is_raised_here(error.__traceback__):
        yield Cause(text, True)
    elif "\nOriginal Traceback " in text:
        yield from (_written(part) for part in reversed(text.split(_WRAPPED)))
    else:
        if isinstance(error, OptionalImportError):
            text = text.split("\n\n")[0]  # advice and a traceback follow
        yield Cause(f"{type(error).__name__}: {_shortened(text)}{_remedy(error)}", False)


def _is_raised_here(trace: TracebackType | None) -> bool:
    """Whether a ``raise`` of this package made an error, rather than an operation that failed."""
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    is_raise = dis.opname[code.co_code[trace.tb_lasti]] == "RAISE_VARARGS"
    return is_raise and PACKAGE in Path(code.co_filename).resolve().parents


def _written(trace: str) -> Cause:
    """The cause at the end of a traceback in text."""
    lines = trace.partition("Traceback (most recent call last):\n")[2].splitlines()
    frames = list(itertools.takewhile(lambda line: line.startswith("  "), lines))
    text = "\n".join(lines[len(frames) :])
    file, _, rest = "\n".join(frames).rpartition('  File "')[2].partition('", line ')
    source = rest.partition("\n")[2].lstrip()
    if PACKAGE in Path(file).resolve().parents and source.startswith("raise "):
        return Cause(text.partition(": ")[2], True)
    return Cause(_shortened(text), False)


def _shortened(text: str) -> str:
    lines = [textwrap.shorten(line, _MAX_CHARACTERS, placeholder=" ...") for line in text.strip().splitlines()]
    rest = [f"... and {len(lines) - _MAX_LINES} more lines"] if len(lines) > _MAX_LINES else []
    return "\n".join([*lines[:_MAX_LINES], *rest])


def _remedy(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, ImportError):
        module = (error.name or "".join(re.findall(r"No module named '([\w.]+)'", text)[:1])).partition(".")[0]
        if module in EXPORTS:
            return "\nInstall what the export needs: pip install onnx onnxscript onnxruntime"
        return f"\nIf it is not installed: pip install {module}" if module else ""
    if isinstance(error, FileNotFoundError) and str(error.filename).endswith(".pt"):
        return "\nThese weights are not there: train the network first, or give others by --ckpt_dir or --ckpt_path."
    if "loading state_dict" in text:
        return (
            "\nThe weights are those of another network: give the options that it was trained with, or other weights."
        )
    if isinstance(error, torch.OutOfMemoryError):
        return "\nGive a smaller --roi_size, --patch_size or --batch_size, or --device cpu."
    return ""


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
