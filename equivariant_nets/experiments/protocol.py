"""How the figures of an experiment came about: its runs, what is unfinished, versions, times and the command."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from equivariant_nets import webpage
from equivariant_nets.experiments.plan import Experiment, Run
from equivariant_nets.experiments.results import Setting

__all__ = ["progress_html", "protocol_html"]


def progress_html(experiment: Experiment, unfinished: Sequence[Run]) -> Iterable[str]:
    """How many runs are finished, and the names of the others."""
    total = len(experiment.runs)
    yield webpage.paragraph(f"{total - len(unfinished)} of {total} runs are finished.", "note")
    if unfinished:
        names = "; ".join(_run_name(experiment, run) for run in unfinished)
        yield webpage.paragraph(f"Not finished, and not in what follows: {names}.", "missing")


def protocol_html(experiment: Experiment, settings: Sequence[Setting], command: str) -> Iterable[str]:
    """What was run, with which versions, on what, how long, when, and what makes it again."""
    yield "<h3>What was run</h3>"
    overrides = [finished.run.overrides for setting in settings for finished in setting.finished]
    own = {"seed", *([experiment.varies] if experiment.varies else [])}
    common = {
        key: value
        for key, value in overrides[0].items()
        if key not in own and all(other.get(key) == value for other in overrides)
    }
    evaluation = settings[0].finished[0].run.evaluation
    yield webpage.paragraph(f"Overrides of all trainings: {_overrides_text(common)}.")
    yield webpage.paragraph(f"Of all evaluations: {_overrides_text(evaluation)}.")
    header = ["network", *([experiment.varies] if experiment.varies else []), "bundle", "further overrides"]
    rows = [[*header, "parameters", "seeds", "seconds of a training", "of its evaluation", "finished"]]
    for setting in settings:
        run, records = setting.finished[0].run, setting.finished
        further = {key: value for key, value in run.overrides.items() if key not in own | set(common)}
        dates = sorted(finished.evaluation["finished"][:10] for finished in records)
        rows.append(
            [
                setting.network,
                *([setting.value_text] if experiment.varies else []),
                f"{run.bundle.name} {records[0].training['bundle_version']}",
                _overrides_text(further),
                f"{setting.parameters:,}",
                ", ".join(map(str, setting.seeds)),
                f"{np.mean([finished.training['seconds'] for finished in records]):.0f}",
                f"{np.mean([finished.evaluation['seconds'] for finished in records]):.0f}",
                " to ".join(dict.fromkeys((dates[0], dates[-1]))),
            ]
        )
    yield webpage.table(rows)
    own_records = [r for setting in settings for f in setting.finished for r in (f.training, f.evaluation)]
    yield from _versions(own_records)
    yield "<p>Made by:</p>"
    yield f"<pre><code>{html.escape(command)}</code></pre>"


def _versions(records: Sequence[dict[str, Any]]) -> Iterable[str]:
    names = dict.fromkeys(name for record in records for name in record["versions"])
    found = {name: sorted({record["versions"].get(name, "none") for record in records}) for name in names}
    text = ", ".join(f"{name} {' and '.join(versions)}" for name, versions in found.items())
    yield webpage.paragraph(f"Versions: {text}. Device: {', '.join(sorted({record['device'] for record in records}))}.")
    if differing := [name for name, versions in found.items() if len(versions) > 1]:
        yield webpage.paragraph(
            f"The runs differ in their versions of {', '.join(differing)}: their figures may not be comparable.",
            "missing",
        )


def _run_name(experiment: Experiment, run: Run) -> str:
    value = [] if run.value is None else [f"{experiment.varies} {run.value}"]
    return ", ".join([run.network, *value, f"seed {run.seed}"])


def _overrides_text(overrides: dict[str, Any]) -> str:
    return ", ".join(f"{key} {json.dumps(value, ensure_ascii=False)}" for key, value in overrides.items()) or "none"
