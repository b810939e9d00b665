"""Commands of bundles, printed before they run."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import sleep
from typing import NamedTuple

from tqdm import tqdm

__all__ = ["BUNDLES", "BundleRun", "bundle_run", "bundle_runs"]

BUNDLES = Path(__file__).resolve().parent.parent / "bundles"


class BundleRun(NamedTuple):
    """A command of a bundle.

    Args:
        bundle: its folder.
        configs: names of its own configs, or paths of others; overlays after them.
        overrides: values at the top of the configs.
    """

    bundle: Path
    configs: Sequence[str | Path]
    overrides: Mapping[str, object]

    def command(self) -> list[str]:
        """Its words."""
        paths = [str(self.bundle / "configs" / config) for config in self.configs]  # a path that is absolute stays
        command = [sys.executable, "-m", "monai.bundle", "run", "--bundle_root", str(self.bundle)]
        command += ["--config_file", str(paths)]
        for key, value in self.overrides.items():
            command += [f"--{key}", str(value)]
        return command


def bundle_run(bundle: Path, configs: Sequence[str | Path], **overrides: object) -> None:
    """Run a bundle and let its progress bars through.

    Args:
        bundle, configs, overrides: as for :class:`BundleRun`.

    Raises:
        SystemExit: the command failed.
    """
    command = BundleRun(bundle, configs, overrides).command()
    print("\n$ " + shlex.join(command), flush=True)
    if (code := subprocess.run(command, check=False).returncode) != 0:
        raise SystemExit(f"The command above failed with exit code {code}; its last lines say why.")


def bundle_runs(runs: Mapping[str, BundleRun], folder: Path, results: Sequence[Path]) -> None:
    """Run bundles side by side, which share the cores, under one progress bar.

    Args:
        runs: by name.
        folder: receives ``NAME.log``, what each run says.
        results: the files that the runs write.

    Raises:
        SystemExit: a command failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    environment = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // len(runs))), **os.environ}
    logs = {name: folder / f"{name}.log" for name in runs}
    with ExitStack() as stack:
        processes = {}
        for name, run in runs.items():
            print("\n$ " + shlex.join(run.command()), flush=True)
            log = stack.enter_context(logs[name].open("w", encoding="utf-8"))
            process = subprocess.Popen(run.command(), stdout=log, stderr=subprocess.STDOUT, env=environment)
            processes[name] = stack.enter_context(process)
        bar = stack.enter_context(tqdm(total=len(results), desc="segmenting", unit="file"))
        try:
            while any(process.poll() is None for process in processes.values()):
                sleep(0.2)
                bar.update(sum(path.is_file() for path in results) - bar.n)
        finally:
            for process in processes.values():
                process.terminate()
        bar.update(sum(path.is_file() for path in results) - bar.n)
    for name, process in processes.items():
        if process.returncode != 0:
            print(logs[name].read_text(encoding="utf-8"), file=sys.stderr)
            text = f"The command of {runs[name].bundle.name} failed with exit code {process.returncode}"
            raise SystemExit(f"{text}; the last lines of {logs[name]}, above, say why.")
