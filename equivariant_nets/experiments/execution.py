"""Carry out the runs of an experiment: each is MONAI's own command, in a process of its own, and none is repeated."""

from __future__ import annotations

from equivariant_nets import bundles_extra  # noqa: F401

# isort: split

import json
import os
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import version
from multiprocessing.pool import ThreadPool
from pathlib import Path
from queue import Queue
from threading import Lock
from typing import Any

import psutil
import torch
from filelock import FileLock
from tqdm import tqdm

from equivariant_nets.cluster import Cluster, TaskError, threads_of_this_worker
from equivariant_nets.experiments.identity import config_of
from equivariant_nets.experiments.plan import Run
from equivariant_nets.files import write_json, write_text
from equivariant_nets.fingerprints import content_of
from equivariant_nets.ownership import FolderLock
from equivariant_nets.training.resume import FILE_NAME
from equivariant_nets.training.weights import FILE_NAME as WEIGHTS

__all__ = ["evaluation_dir", "execute", "training_dir"]

RECORD = "record.json"  # its presence says that a training, or an evaluation, is finished
PROCESS = ".process"  # holds the number, the start and the machine of the process that works in a folder
_PACKAGES = ("equivariant_nets", "torch", "monai", "e3nn", "pytorch-ignite", "numpy")
_LOG_LINES = 15
_GRACE_SECONDS = 10
_building = Lock()


def training_dir(run: Run, output_dir: str | Path) -> Path:
    """Where a training writes, whichever experiment asks for it."""
    return Path(output_dir).absolute() / "runs" / run.training_id


def evaluation_dir(run: Run, output_dir: str | Path) -> Path:
    """Where an evaluation of a training writes."""
    return training_dir(run, output_dir) / run.evaluation_id


def execute(
    runs: Sequence[Run],
    output_dir: str | Path,
    jobs: int = 1,
    processes_per_run: int = 1,
    dask: str | None = None,
) -> list[str]:
    """Train and evaluate what is not finished yet.

    Finished trainings and evaluations are left as they are, unless their weights or tables were changed or damaged
    since, and a training that was killed goes on after its last epoch. Several processes, on machines that share the
    folder, may work on it at once.

    Args:
        runs: the runs; several may share a training.
        output_dir: receives ``runs/TRAINING/EVALUATION``.
        jobs: runs at a time. Where there are GPUs they are dealt out to the runs, else the CPU's cores are.
        processes_per_run: processes of one training, each with a GPU of its own where there are any (``torchrun``).
        dask: address of a scheduler, whose workers carry the runs out in place of this machine; each has as many at a
            time as it has threads, and deals its GPUs or cores out to them.

    Returns:
        what failed, one message for each, with the end of its log; empty if all is well.

    Raises:
        ValueError: ``jobs`` or ``processes_per_run`` is below 1, there are too few GPUs for them, or no scheduler
            answers.
        RuntimeError: a worker lacks the package or a folder, or the scheduler is gone.
    """
    if jobs < 1 or processes_per_run < 1:
        raise ValueError(f"jobs={jobs} and processes_per_run={processes_per_run} must be 1 or more.")
    if dask and jobs > 1:
        raise ValueError(f"jobs={jobs} is for this machine; by dask, each worker has as many runs as threads.")
    output_dir = Path(output_dir).absolute()
    unique = {(run.training_id, run.evaluation_id): run for run in runs}
    if dask:
        ending = _on_workers(unique, output_dir, processes_per_run, dask)
    else:
        ending = _here(list(unique.values()), output_dir, jobs, processes_per_run)
    with ending as problems:
        return [problem for problem in tqdm(problems, total=len(unique), desc="runs", unit="run") if problem]


@contextmanager
def _here(runs: Sequence[Run], output_dir: Path, jobs: int, processes: int) -> Iterator[Iterator[str]]:
    """The problems of the runs as they end, on this machine."""
    slots = _deal_out(jobs, processes)
    with ThreadPool(jobs) as pool:  # each waits for a process
        yield pool.imap_unordered(partial(_carry_out, output_dir=output_dir, slots=slots, processes=processes), runs)


@contextmanager
def _on_workers(
    runs: Mapping[tuple[str, str], Run], output_dir: Path, processes: int, address: str
) -> Iterator[Iterator[str]]:
    """The problems of the runs as they end, on the workers of a Dask cluster."""
    folders = sorted({str(folder) for run in runs.values() for folder in (run.bundle, run.dataset_dir)})
    with Cluster(address, output_dir, folders) as cluster:
        outcomes = cluster.outcomes(_carry_out_here, {key: (run, output_dir, processes) for key, run in runs.items()})
        yield (
            _problem(runs[key], str(outcome)) if isinstance(outcome, TaskError) else outcome
            for key, outcome in outcomes
        )


def _carry_out_here(run: Run, output_dir: Path, processes: int) -> str:
    """One run, in a worker."""
    with _building:
        slots = _slots_of_this_worker(threads_of_this_worker(), processes)
    return _carry_out(run, output_dir, slots, processes)


def _deal_out(jobs: int, processes: int) -> Queue[dict[str, str]]:
    """The environments of runs at a time, which take turns."""
    gpus = _visible_gpus()
    if 0 < len(gpus) < jobs * processes:
        raise ValueError(
            f"jobs={jobs} of processes_per_run={processes} need {jobs * processes} GPUs, and there are "
            f"{len(gpus)}: give fewer."
        )
    slots: Queue[dict[str, str]] = Queue()
    for job in range(jobs):
        slots.put(_environment(job, jobs, processes, gpus))
    return slots


_slots_of_this_worker = cache(_deal_out)


def _visible_gpus() -> list[str]:
    """The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them: by numbers, UUIDs or MIG names."""
    count = torch.cuda.device_count()
    if (inherited := os.environ.get("CUDA_VISIBLE_DEVICES")) is None:
        return [str(index) for index in range(count)]
    names = [name.strip() for name in inherited.split(",")]
    if count and names[0].startswith("MIG-"):  # a process sees one part of a GPU at most, however many are named
        return names
    return names[:count]  # CUDA ignores what stands behind a name that there is not


def _environment(job: int, jobs: int, processes: int, gpus: Sequence[str]) -> dict[str, str]:
    """What sets the jobs apart: their GPUs, or their share of the cores."""
    if gpus:
        return {**os.environ, "CUDA_VISIBLE_DEVICES": ",".join(gpus[job * processes : (job + 1) * processes])}
    threads = max(1, (os.cpu_count() or 1) // (jobs * processes))
    return {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}


def _carry_out(run: Run, output_dir: Path, slots: Queue[dict[str, str]], processes: int) -> str:
    training, evaluation = training_dir(run, output_dir), evaluation_dir(run, output_dir)
    training.mkdir(parents=True, exist_ok=True)
    environment = slots.get()
    try:
        with FileLock(training / ".lock"):
            common = {"dataset_dir": str(run.dataset_dir), "ckpt_dir": str(training), **run.overrides}
            if not _is_finished(training):
                launcher, configs = ["-m", "monai.bundle"], ["train.json"]
                if processes > 1:
                    launcher = [
                        "-m",
                        "torch.distributed.run",
                        "--standalone",
                        f"--nproc_per_node={processes}",
                        *launcher,
                    ]
                    configs.append("multi_gpu_train.json")
                overrides = {**common, "output_dir": str(training), "resume": True}
                _step(run, training, launcher, configs, overrides, environment)
                (training / FILE_NAME).unlink(missing_ok=True)  # it is large, and the training is finished
            if not _is_finished(evaluation):
                overrides = {**common, "output_dir": str(evaluation), **run.evaluation}
                _step(run, evaluation, ["-m", "monai.bundle"], ["train.json", "evaluate.json"], overrides, environment)
    except (OSError, RuntimeError) as error:
        return _problem(run, str(error))
    finally:
        slots.put(environment)
    return ""


def _problem(run: Run, text: str) -> str:
    return f"{run.network}, {run.overrides}: {text}"


def _contents(folder: Path) -> dict[str, str]:
    """The content of the tables in a folder, and of the weights there and above, which they are of."""
    paths = [*folder.glob("*.csv"), *(path for path in (folder / WEIGHTS, folder.parent / WEIGHTS) if path.is_file())]
    return {os.path.relpath(path, folder): content_of(path) for path in sorted(paths)}


def _is_finished(folder: Path) -> bool:
    """Whether a step has its record, and the files are as it left them."""
    try:
        written = json.loads((folder / RECORD).read_text(encoding="utf-8"))["files"]
        changed = [name for name, content in written.items() if not _is_content(folder / name, content)]
    except FileNotFoundError:
        return False
    except (AttributeError, LookupError, TypeError, ValueError):
        return True  # which reading the results tells
    for name in changed:
        tqdm.write(f"{folder / name} was changed, damaged or removed since, and is made again.")
    return not changed


def _is_content(path: Path, content: str) -> bool:
    return path.is_file() and content_of(path) == content


def _stop_orphan(folder: Path) -> None:
    """Stop what still works in a folder although the experiment that started it was killed, or wait for its end."""
    try:
        pid, created, machine = json.loads((folder / PROCESS).read_text(encoding="utf-8"))
        if machine != socket.gethostname():
            FolderLock(folder).wait()
            return
        process = psutil.Process(pid)
        if process.create_time() == created:
            process.terminate()
            for hung in psutil.wait_procs([process], timeout=_GRACE_SECONDS)[1]:
                hung.kill()
                hung.wait()
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return  # there is none


def _count_parameters(run: Run) -> int:
    """Of its network; one at a time, for imports and compilers of other threads change what this one walks through."""
    with _building:
        return sum(p.numel() for p in config_of(run).get_parsed_content("network_def").parameters())


def _step(
    run: Run, folder: Path, launcher: list[str], configs: list[str], overrides: dict[str, Any], environment: dict
) -> None:
    """One command, its overrides and log beside what it writes, and a record of it if it succeeds."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).unlink(missing_ok=True)
    _stop_orphan(folder)
    own = folder / "overrides.json"
    write_json(own, overrides, indent=2)
    files = [str(run.bundle / "configs" / name) for name in configs] + [str(own)]
    arguments = [*launcher, "run", "--bundle_root", str(run.bundle), "--config_file", str(files)]
    start, log = time.perf_counter(), folder / "log.txt"
    with log.open("a", encoding="utf-8") as file:
        process = psutil.Popen([sys.executable, *arguments], env=environment, stdout=file, stderr=subprocess.STDOUT)
        write_text(folder / PROCESS, json.dumps([process.pid, process.create_time(), socket.gethostname()]))
        code = process.wait()
    (folder / PROCESS).unlink()
    if code:
        end = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:])
        raise RuntimeError(f"the command failed with exit status {code}; the end of {log}:\n{end}")
    record = {
        "command": ["python", *arguments],
        "files": _contents(folder),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - start, 1),
        "parameters": _count_parameters(run),
        "bundle_version": json.loads((run.bundle / "configs" / "metadata.json").read_text(encoding="utf-8"))["version"],
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "CPU",
    }
    write_json(folder / RECORD, record, indent=2)
