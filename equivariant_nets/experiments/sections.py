"""The section of an experiment in the report, and the report of all sections that lie in a folder."""

from __future__ import annotations

from equivariant_nets import bundles_extra  # noqa: F401

# isort: split

import json
from collections.abc import Sequence
from pathlib import Path

from equivariant_nets import webpage
from equivariant_nets.experiments.figures import plot_experiment
from equivariant_nets.experiments.findings import main_finding
from equivariant_nets.experiments.layout import tables
from equivariant_nets.experiments.pictures import MAX_NETWORKS, draw_cases
from equivariant_nets.experiments.plan import Experiment
from equivariant_nets.experiments.protocol import progress, protocol
from equivariant_nets.experiments.results import Setting, read_settings, write_scores
from equivariant_nets.experiments.tables import summarize, write_summary
from equivariant_nets.files import write_text

__all__ = ["write_experiments_report", "write_section"]

SECTION = "section.json"


def write_section(experiment: Experiment, output_dir: str | Path, command: str) -> Path:
    """Write what the finished runs of an experiment show; of a smoke run that it shows nothing.

    The folder ``output_dir/NAME`` receives ``scores.csv``, all scores as they were measured; ``summary.csv``, the
    figures of the tables; the plots and pictures as PNGs; and ``section.json``, which the report is made of.

    Args:
        experiment: the experiment.
        output_dir: the folder that was given to :func:`equivariant_nets.experiments.execute`.
        command: what a user types to make it; it ends the section.

    Returns:
        the folder.

    Raises:
        ValueError: nothing is finished, or a file of a run is damaged.
    """
    settings, unfinished = read_settings(experiment, output_dir)
    folder = Path(output_dir) / experiment.name
    write_scores(settings, folder / "scores.csv", experiment.quick)
    rows = summarize(settings, tests=not experiment.quick)
    write_summary(rows, folder / "summary.csv", experiment.quick)
    finding = main_finding(experiment, settings, rows)
    finished, missing = progress(experiment, unfinished)
    section = webpage.render(
        "section",
        experiment=experiment,
        finding=finding,
        progress=finished,
        missing=missing,
        plots=plot_experiment(experiment, settings, folder),
        tables=tables(rows, experiment.varies, experiment.quick),
        how_chosen=_how_chosen(settings),
        cases=draw_cases(settings, output_dir, folder, experiment.quick),
        protocol=protocol(experiment, settings),
        command=command,
    )
    content = {"title": experiment.title, "finding": finding, "html": section}
    write_text(folder / SECTION, json.dumps(content) + "\n")
    return folder


def write_experiments_report(output_dir: str | Path) -> Path:
    """Write ``output_dir/report.html`` from the sections of all experiments there, with a table of contents.

    Raises:
        ValueError: there is no section, or one is damaged.
    """
    output_dir = Path(output_dir)
    sections = {path.parent.name: _read_section(path) for path in sorted(output_dir.glob(f"*/{SECTION}"))}
    if not sections:
        raise ValueError(f"{output_dir} holds no section of an experiment. Write one first, with write_section.")
    path = output_dir / "report.html"
    write_text(path, webpage.render("experiments", sections=sections))
    return path


def _read_section(path: Path) -> dict[str, str]:
    try:
        section = json.loads(path.read_text(encoding="utf-8"))
        return {key: section[key] for key in ("title", "finding", "html")}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is no section of a report ({error!r}). Delete it and run its experiment again; finished runs are "
            "not repeated."
        ) from None


def _how_chosen(settings: Sequence[Setting]) -> str:
    text = (
        "Of each network, at its largest value and first seed, the median and the worst test case by upright Dice, "
        "chosen by rank: 1 is the best, and of an even number of cases the median is the lower one. On the right the "
        "case turned by 45 degrees in the axial plane: volumes as files, pictures after preprocessing. Dice is the "
        "mean over structures."
    )
    left_out = list(dict.fromkeys(setting.network for setting in settings))[MAX_NETWORKS:]
    return f"{text} Not drawn: {', '.join(left_out)}." if left_out else text
