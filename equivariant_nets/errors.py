"""Why something failed: the cause of an error below what MONAI, ignite and PyTorch wrap it in."""

from __future__ import annotations

from equivariant_nets import bundles_extra  # noqa: F401

# isort: split

import dis
import itertools
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import torch
from monai.utils import OptionalImportError

__all__ = ["Cause", "find_cause", "shortened"]

PACKAGE = Path(__file__).resolve().parent
EXPORTS = ("onnx", "onnxscript", "onnx_ir", "onnxruntime")
_MAX_LINES, _MAX_CHARACTERS = 4, 300
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
        yield Cause(f"{type(error).__name__}: {shortened(text)}{_remedy(error)}", False)


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
    return Cause(shortened(text), False)


def shortened(text: str) -> str:
    """The first lines of a text, and of each the beginning."""
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
