"""Files that are there whole or not at all."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["replace_file", "write_json", "write_text"]


@contextmanager
def replace_file(path: str | Path, *, shared: bool = False) -> Iterator[Path]:
    """Write a file under a hidden name beside it, which becomes its name when all is written and on the disk.

    Whoever is killed on the way leaves the former file as it was.

    Args:
        path: the file; its folder exists.
        shared: whether several processes may write it at once. Each then has a hidden name of its own.

    Yields:
        the hidden name, which ends as ``path`` does.

    Raises:
        OSError: the file cannot be written. What was written of it is removed, as after any other error.
    """
    path = Path(path)
    partial = path.with_name(f".{uuid.uuid4().hex}.{path.name}" if shared else f".{path.name}")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def write_text(path: str | Path, text: str, *, shared: bool = False) -> None:
    """Replace a file by a text in UTF-8; see :func:`replace_file`."""
    with replace_file(path, shared=shared) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any, *, indent: int = 1) -> None:
    """Replace a file by JSON; see :func:`replace_file`."""
    write_text(path, json.dumps(content, indent=indent) + "\n")
