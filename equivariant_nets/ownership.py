"""One process at a time writes into a folder: a lock that the kernel releases when its owner ends, however it ends."""

from __future__ import annotations

from equivariant_nets import bundles_extra  # noqa: F401

# isort: split

import json
import os
import shlex
import socket
import sys
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from equivariant_nets.files import write_json

__all__ = ["FolderLock"]

LOCK_FILE = ".owner.lock"  # stays, empty
OWNER_FILE = ".owner.json"  # who holds the lock, or was killed while it did
_MAX_COMMAND = 200


class FolderLock:
    """Own a folder, so that no other process writes results into it.

    The lock is the kernel's (``flock``) on ``.owner.lock``: what a killed process held is free at once, and processes
    that it forks hold nothing. A process may own a folder several times over, and gives it up as often. Over NFS the
    lock works between machines where the server's locks do, which is the default; on a file system without them,
    ``filelock`` warns and uses the existence of the file.

    Args:
        folder: made when it is acquired.

    Example:
        >>> import tempfile
        >>> from equivariant_nets.ownership import FolderLock
        >>> with FolderLock(tempfile.mkdtemp()) as lock:
        ...     lock.is_lost
        False
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser().absolute()
        # One object for each file of a process, shared by its threads.
        self._lock = FileLock(os.path.realpath(self.folder / LOCK_FILE), thread_local=False, is_singleton=True)
        self._inode: int | None = None

    def acquire(self) -> FolderLock:
        """Own the folder.

        Raises:
            RuntimeError: another process owns it; the message says which.
            OSError: the folder cannot be written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
            try:
                self._inode = (self.folder / LOCK_FILE).stat().st_ino
                write_json(self.folder / OWNER_FILE, _identity())
            except BaseException:
                self._lock.release()
                raise
        except Timeout:
            raise RuntimeError(
                f"{self.folder} is in use by {self._owner()}: two would mix their results. Wait for its end, stop it, "
                "or give another folder."
            ) from None
        except OSError as error:
            raise OSError(f"{self.folder} cannot be written to: give another --output_dir. ({error})") from error
        return self

    def release(self) -> None:
        """Give the folder up."""
        if self._lock.lock_counter == 1 and not self.is_lost:
            (self.folder / OWNER_FILE).unlink(missing_ok=True)
        self._lock.release()

    def wait(self) -> None:
        """Wait until no other process owns the folder."""
        with self._lock.acquire():
            return

    def renew(self) -> None:
        """Own what is in the place of a folder that was removed.

        Raises:
            RuntimeError: another process owns it by now.
            OSError: the folder cannot be written to.
        """
        self._lock.release(force=True)
        self.acquire()

    @property
    def is_lost(self) -> bool:
        """Whether the folder was removed or replaced since, so that another process may own what is there now."""
        try:
            return (self.folder / LOCK_FILE).stat().st_ino != self._inode
        except OSError:
            return True

    def __enter__(self) -> FolderLock:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def _owner(self) -> str:
        try:
            owner = json.loads((self.folder / OWNER_FILE).read_text(encoding="utf-8"))
            return f"process {owner['process']} on {owner['host']} since {owner['since']} ({owner['command']})"
        except (OSError, LookupError, TypeError, ValueError):  # it has not come to write who it is
            return "another process"


def _identity() -> dict[str, str | int]:
    command = shlex.join(["python", *sys.argv])
    if len(command) > _MAX_COMMAND:
        command = f"{command[:_MAX_COMMAND]} ..."
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    return {"process": os.getpid(), "host": socket.gethostname(), "since": since, "command": command}
