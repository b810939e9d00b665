"""Tasks on the workers of a Dask cluster: processes on any number of machines that share a file system."""

from __future__ import annotations

from equivariant_nets import bundles_extra  # noqa: F401

# isort: split

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from equivariant_nets import __version__
from equivariant_nets.errors import shortened

__all__ = ["Cluster", "TaskError", "threads_of_this_worker"]

_CONNECT_SECONDS = 10
_POLL_SECONDS = 1.0
_ADVICE = "Each worker needs this package, of the same version, and the same folders under the same paths."
_at_work: Counter[str] = Counter()  # of this process, a worker: its tasks by the folder of their results


class TaskError(RuntimeError):
    """A task failed on its worker, or with it."""


class Cluster:
    """The workers of a Dask scheduler, for tasks whose results lie in a folder that all of them share.

    The workers that are there must have this package and the folders. Tasks of an earlier command for the folder of
    results, which a worker still has at hand, are waited for. A task whose worker ends is given to another; one that
    ends four workers is given up. Workers that join later get tasks too.

    Args:
        address: of the scheduler, such as ``tcp://10.0.0.1:8786``.
        output_dir: the folder of the results.
        folders: others that the tasks read.

    Raises:
        ModuleNotFoundError: Dask is not installed.
        ValueError: no scheduler answers at the address.
        RuntimeError: on entering, a worker lacks the package or a folder.
    """

    def __init__(self, address: str, output_dir: str | Path, folders: Sequence[str | Path] = ()) -> None:
        try:
            from distributed import Client, comm
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "Dask is not installed, here or on a worker: pip install -e '.[dask]'", name=error.name
            ) from None
        try:  # by itself: a client that has not connected goes on trying when the program ends
            asyncio.run(_close(comm.connect(str(address), timeout=_CONNECT_SECONDS)))
            self.client = Client(str(address), timeout=_CONNECT_SECONDS, set_as_default=False)
        except (OSError, TypeError, ValueError) as error:
            raise ValueError(
                f"No Dask scheduler answers at {str(address)!r}. Start one by `dask scheduler`, and give the address "
                f"that it prints, such as tcp://10.0.0.1:8786. ({shortened(str(error))})"
            ) from error
        self.address = address
        self.output_dir = Path(output_dir).absolute()
        self.folders = [str(Path(folder).absolute()) for folder in (self.output_dir, *folders)]
        self.mark = self.output_dir / f".shared-{uuid.uuid4().hex}"  # whoever sees it sees this file system

    def __enter__(self) -> Cluster:
        try:
            self.output_dir.mkdir(parents=True, exist_ok=True)
            self.mark.touch()
            self._check_workers()
            self._wait_for_former_tasks()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self.mark.unlink(missing_ok=True)
        self.client.close()

    def outcomes(
        self, function: Callable[..., Any], tasks: Mapping[Any, Sequence[Any]], shared: bytes | None = None
    ) -> Iterator[tuple[Any, Any]]:
        """Carry tasks out, and give what each returned, or a ``TaskError``, as they end.

        Args:
            function: of a module, which a worker calls with ``shared``, where it is given, and the task's arguments.
            tasks: the arguments by a name of the task.
            shared: what all tasks have in common; a worker receives it once.

        Raises:
            RuntimeError: the scheduler is gone.
        """
        from distributed import as_completed

        started = uuid.uuid4().hex  # no task takes the result of one of another command
        names = {f"{function.__name__}-{started}-{number}": name for number, name in enumerate(tasks)}
        common: dict[str, Any] = {"function": function, "folders": self.folders, "mark": str(self.mark)}
        if shared is not None:
            common["shared"] = self.client.submit(bytes, shared, key=f"shared-{started}")
        own = list(tasks.values())
        futures = self.client.map(_carry_out, own, key=list(names), pure=False, version=__version__, **common)
        for future in as_completed(futures, loop=self.client.loop):
            if future.status == "cancelled":
                raise RuntimeError(
                    f"The Dask scheduler at {self.address} is gone. Give the command again when there is one: what is "
                    "finished is not repeated."
                )
            error = future.exception()
            yield names[future.key], future.result() if error is None else TaskError(_told(error))

    def _check_workers(self) -> None:
        found = self.client.run(_problem, self.folders, str(self.mark), __version__, on_error="return")
        for worker, problem in found.items():
            if problem:
                text = _told(problem) if isinstance(problem, Exception) else problem
                raise RuntimeError(f"The worker {worker} cannot take part: {text.rstrip('.')}. {_ADVICE}")
        if not found:
            print(f"The scheduler has no worker yet. Start some: dask worker {self.address}", flush=True)

    def _wait_for_former_tasks(self) -> None:
        while any(self.client.run(_tasks_at_work, str(self.output_dir), on_error="ignore").values()):
            time.sleep(_POLL_SECONDS)


async def _close(connecting: Awaitable[Any]) -> None:
    await (await connecting).close()


def threads_of_this_worker() -> int:
    """How many tasks this process, a worker, carries out at once."""
    from distributed import get_worker

    return int(get_worker().state.nthreads)


def _carry_out(
    own: Sequence[Any],
    function: Callable[..., Any],
    folders: list[str],
    mark: str,
    version: str,
    shared: bytes | None = None,
) -> Any:
    """One task, on a worker."""
    if problem := _problem(folders, mark, version):
        raise RuntimeError(f"The worker {_name_of_this_worker()} cannot take part: {problem} {_ADVICE}")
    _at_work[folders[0]] += 1
    try:
        return function(*own) if shared is None else function(shared, *own)
    finally:
        _at_work[folders[0]] -= 1


def _problem(folders: list[str], mark: str, version: str) -> str:
    """Why this process, a worker, cannot take part; empty if it can."""
    if version != __version__:
        return f"its equivariant_nets is {__version__}, that of the command {version}."
    missing = [folder for folder in folders if not Path(folder).is_dir()]
    if missing:
        return f"there is no folder {missing[0]} on its machine."
    if not Path(mark).exists():
        return f"{folders[0]} on its machine is another folder than that of the command."
    return ""


def _tasks_at_work(folder: str) -> int:
    return _at_work[folder]


def _name_of_this_worker() -> str:
    from distributed import get_worker

    return get_worker().address


def _told(error: BaseException) -> str:
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        workers = error.allowed_failures + 1
        return f"{workers} workers ended while they had it. Look at their logs: was there too little memory?"
    is_told = type(error) in (Exception, RuntimeError)  # ours, and what Dask makes of errors that it cannot pass on
    return str(error) if is_told else f"{type(error).__name__}: {shortened(str(error))}"
