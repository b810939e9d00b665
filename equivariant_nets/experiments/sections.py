"""The section of an experiment in the report, and the report of all sections that lie in a folder."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path

from equivariant_nets import webpage
from equivariant_nets.experiments.figures import plot_experiment
from equivariant_nets.experiments.findings import main_finding
from equivariant_nets.experiments.layout import tables_html
from equivariant_nets.experiments.pictures import MAX_NETWORKS, draw_cases
from equivariant_nets.experiments.plan import Experiment
from equivariant_nets.experiments.protocol import progress_html, protocol_html
from equivariant_nets.experiments.results import Setting, read_settings, write_scores
from equivariant_nets.experiments.tables import summarize, write_summary

__all__ = ["write_experiments_report", "write_section"]

SECTION = "section.json"
STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:75em;margin:2em auto;padding:0 1em;color:#222}"
    "h1,h2,h3{line-height:1.2}h2{margin-top:3em;border-top:2px solid #444;padding-top:.6em}"
    ".finding{font-size:1.15em;font-weight:bold}.note{color:#555;font-size:.9em}.missing{color:#a00}"
    "table{border-collapse:collapse;margin:.5em 0 1em;font-size:.9em}"
    "td,th{padding:.25em .8em;text-align:left;vertical-align:top;border-bottom:1px solid #ddd;overflow-wrap:anywhere}"
    "th{border-bottom:2px solid #888}img{max-width:100%}code{overflow-wrap:anywhere}"
    "summary{cursor:pointer;margin:.5em 0;color:#135}"
    "@media print{body{max-width:none;margin:0}img,tr{break-inside:avoid}h2{break-before:page}}"
)


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
    plots = plot_experiment(experiment, settings, folder)
    cases = draw_cases(settings, output_dir, folder, experiment.quick)
    parts = [
        f'<section id="{html.escape(experiment.name)}"><h2>{html.escape(experiment.title)}</h2>',
        webpage.paragraph(finding, "finding"),
        webpage.paragraph(experiment.question),
        *progress_html(experiment, unfinished),
        *(webpage.picture(path, f"{experiment.title}: {path.stem}") for path in plots),
        *tables_html(rows, experiment.varies, experiment.quick),
        "<h3>Test cases</h3>",
        webpage.paragraph(_how_chosen(settings), "note"),
        *(webpage.picture(path, title) for path, title in cases),
        *protocol_html(experiment, settings, command),
        "</section>",
    ]
    content = {"title": experiment.title, "finding": finding, "html": "".join(parts)}
    (folder / SECTION).write_text(json.dumps(content) + "\n", encoding="utf-8")
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
    entries = (
        f'<li><a href="#{html.escape(name)}">{html.escape(section["title"])}</a><br>'
        f'<span class="note">{html.escape(section["finding"])}</span></li>'
        for name, section in sections.items()
    )
    contents = f"<h1>Experiments</h1><nav><ol>{''.join(entries)}</ol></nav>"
    body = contents + "".join(section["html"] for section in sections.values())
    return webpage.page(output_dir / "report.html", "Experiments", body, STYLE)


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
        "case, and its labels, turned in the axial plane. Dice is the mean over structures."
    )
    left_out = list(dict.fromkeys(setting.network for setting in settings))[MAX_NETWORKS:]
    return f"{text} Not drawn: {', '.join(left_out)}." if left_out else text
