"""How the figures of an experiment came about: its runs, what is unfinished, versions, times and the command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from equivariant_nets.experiments.plan import Experiment, Run
from equivariant_nets.experiments.results import Setting

__all__ = ["Protocol", "progress", "protocol"]


class Protocol(NamedTuple):
    """What was run, with which versions, on what, how long and when."""

    overrides: str
    evaluation: str
    rows: Sequence[Sequence[str]]  # of a table, the first is its header
    versions: str
    warning: str


def progress(experiment: Experiment, unfinished: Sequence[Run]) -> tuple[str, str]:
    """How many runs are finished, and the names of the others if there are any."""
    total = len(experiment.runs)
    names = "; ".join(_run_name(experiment, run) for run in unfinished)
    missing = f"Not finished, and not in what follows: {names}." if unfinished else ""
    return f"{total - len(unfinished)} of {total} runs are finished.", missing


def protocol(experiment: Experiment, settings: Sequence[Setting]) -> Protocol:
    """What was run, with which versions, on what, how long and when."""
    overrides = [finished.run.overrides for setting in settings for finished in setting.finished]
    own = {"seed", "fold", *([experiment.varies] if experiment.varies else [])}
    common = {
        key: value
        for key, value in overrides[0].items()
        if key not in own and all(other.get(key) == value for other in overrides)
    }
    evaluation = settings[0].finished[0].run.evaluation
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
    measured = [r for setting in settings for f in setting.finished for r in (f.training, f.evaluation)]
    return Protocol(_overrides_text(common), _overrides_text(evaluation), rows, *_versions(measured))


def _versions(records: Sequence[dict[str, Any]]) -> tuple[str, str]:
    names = dict.fromkeys(name for record in records for name in record["versions"])
    found = {name: sorted({record["versions"].get(name, "none") for record in records}) for name in names}
    text = ", ".join(f"{name} {' and '.join(versions)}" for name, versions in found.items())
    differing = ", ".join(name for name, versions in found.items() if len(versions) > 1)
    warning = f"The runs differ in their versions of {differing}: their figures may not be comparable."
    devices = ", ".join(sorted({record["device"] for record in records}))
    return f"Versions: {text}. Device: {devices}.", warning if differing else ""


def _run_name(experiment: Experiment, run: Run) -> str:
    value = [] if run.value is None else [f"{experiment.varies} {run.value}"]
    fold = [] if run.fold is None else [f"fold {run.fold}"]
    return ", ".join([run.network, *value, *fold, f"seed {run.seed}"])


def _overrides_text(overrides: dict[str, Any]) -> str:
    return ", ".join(f"{key} {json.dumps(value, ensure_ascii=False)}" for key, value in overrides.items()) or "none"
