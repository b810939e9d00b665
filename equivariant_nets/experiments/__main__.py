"""Run experiments, and report what they show.

python -m equivariant_nets.experiments experiments/hippocampus_rotation.json --dataset_dir data/hippocampus \
    --output_dir output/experiments
"""

from __future__ import annotations

import os
import shlex
import sys

from equivariant_nets.cli import command_line
from equivariant_nets.experiments.execution import execute
from equivariant_nets.experiments.findings import SMOKE_RUN
from equivariant_nets.experiments.plan import read_experiment
from equivariant_nets.experiments.sections import write_experiments_report, write_section


def run(
    *files: str,
    dataset_dir: str,
    output_dir: str,
    quick: bool = False,
    jobs: int = 1,
    processes_per_run: int = 1,
    dask: str | None = None,
    bundles_dir: str | None = None,
) -> None:
    """Run experiments on one set of data.

    Args:
        files: the experiments' JSON files.
        dataset_dir: folder of the data of their bundles.
        output_dir: receives the runs, a folder of tables and pictures for each experiment, and report.html. Given
            again, it repeats no finished run.
        quick: the small version of each, a smoke run of minutes: it shows that all works, and its numbers mean nothing.
        jobs: runs at a time, each with its share of the GPUs, or of the cores.
        processes_per_run: processes of one training, by torchrun.
        dask: address of a Dask scheduler, such as tcp://10.0.0.1:8786, whose workers carry the runs out.
        bundles_dir: folder of the bundles, where it is not beside the folder of the file.
    """
    if not files:
        sys.exit("No experiment was given. Name one or more JSON files, such as experiments/hippocampus_rotation.json.")
    try:
        experiments = [read_experiment(file, dataset_dir, bundles_dir, quick) for file in files]
        problems = execute([run for e in experiments for run in e.runs], output_dir, jobs, processes_per_run, dask)
    except (ModuleNotFoundError, OSError, RuntimeError, ValueError) as error:
        sys.exit(str(error))
    for file, experiment in zip(files, experiments, strict=True):
        paths = [shlex.quote(os.path.relpath(path)) for path in (file, dataset_dir, output_dir)]
        command = "python -m equivariant_nets.experiments {} --dataset_dir {} --output_dir {}".format(*paths)
        try:
            write_section(experiment, output_dir, command + (" --quick" if quick else ""))
        except ValueError as error:
            problems.append(str(error))
    try:
        print(f"The report is {write_experiments_report(output_dir)}")
    except ValueError as error:  # no experiment has results: the problems before say why
        problems.append(str(error))
    if quick:
        print(SMOKE_RUN)
    if problems:
        sys.exit("\n\n".join([f"{len(problems)} problems:", *problems]))


cli = command_line(run)

if __name__ == "__main__":
    cli()
