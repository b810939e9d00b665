"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["replace_file", "write_json", "write_text"]


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def replace_file(path: str | Path, *, shared: bool = False) -> Iterator[Path]:
    """Write a file under a hidden name beside it, which becomes its name when all is written and on the disk.

    Whoever is killed on the way leaves the former file as it was. A link under the hidden name is not followed.

    Args:
        path: the file; its folder exists.
        shared: whether several processes may write it at once. Each then has a hidden name of its own.

    Yields:
        the hidden name, which ends as ``path`` does.

    Raises:
        OSError: the file cannot be written. What was written of it is removed, as after any other error. Where the disk
            is full, the error names the file, and says what is kept.
    """
    path = Path(path)
    partial = path.with_name(f".{uuid.uuid4().hex}.{path.name}" if shared else f".{path.name}")
    partial.unlink(missing_ok=True)  # of a run that was killed, or a link to something else
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            kept = "Its former content is kept" if path.exists() else "Nothing of it is left"
            raise OSError(
                f"{path} cannot be written: {os.strerror(error.errno)}. {kept}. Free space, and give the command again."
            ) from error
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where the system can."""
    if hasattr(os, "O_DIRECTORY"):  # not on Windows
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        except OSError as error:  # some network file systems cannot
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(descriptor)


def write_text(path: str | Path, text: str, *, shared: bool = False) -> None:
    """Replace a file by a text in UTF-8; see :func:`replace_file`."""
    with replace_file(path, shared=shared) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: Any, *, indent: int = 1) -> None:
    """Replace a file by JSON; see :func:`replace_file`."""
    write_text(path, json.dumps(content, indent=indent) + "\n")
