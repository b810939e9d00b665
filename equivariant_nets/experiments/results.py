"""What the finished runs of an experiment measured, read from their folders and checked."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from equivariant_nets.data.datalist import case_name
from equivariant_nets.evaluation.poses import RANDOM
from equivariant_nets.evaluation.tables import read_table
from equivariant_nets.experiments.execution import RECORD, evaluation_dir, training_dir
from equivariant_nets.experiments.plan import Experiment, Run
from equivariant_nets.files import replace_file

__all__ = ["UPRIGHT", "Finished", "Pose", "Score", "Setting", "read_settings", "unique_case_names", "write_scores"]

UPRIGHT = "upright"  # stands in the plane column for the whole test section, as it is
UPRIGHT_TABLE = "mean_dice_raw.csv"
ROTATION_TABLE = "rotation_dice.csv"
SMOKE_COLUMN = "smoke_run"  # of the tables that are written
_ROTATION_COLUMNS = ("case", "plane", "angle_degrees", "class", "dice", "interpolation_dice")


class Score(NamedTuple):
    """Dice of one structure of one case in one pose, by the network of one seed; NaN where the case lacks it."""

    seed: int
    case: str
    structure: str
    plane: str
    angle_degrees: float
    dice: float
    interpolation_dice: float


@dataclass(frozen=True)
class Pose:
    """A pose of the patient; a score is ``in`` it or not.

    Args:
        name: what tables call it.
        plane: of the rotation, ``upright`` or ``random``; None for all planes of rotation.
        angle_degrees: of the rotation, or None for all.
    """

    name: str
    plane: str | None = None
    angle_degrees: float | None = None

    def __contains__(self, score: Score) -> bool:
        in_plane = score.plane == self.plane if self.plane else score.plane not in (UPRIGHT, RANDOM)
        return in_plane and self.angle_degrees in (None, score.angle_degrees)


@dataclass(frozen=True)
class Finished:
    """A run, and the records that its training and its evaluation left."""

    run: Run
    training: dict[str, Any]
    evaluation: dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """A network at one value of what the experiment varies.

    Args:
        network: its name.
        value: of what the experiment varies, or None.
        finished: its finished runs, one a seed and fold, in the order of the seeds.
        scores: of all of them, sorted.
    """

    network: str
    value: Any
    finished: tuple[Finished, ...]
    scores: tuple[Score, ...]

    @property
    def value_text(self) -> str:
        """The value as tables show it; empty if nothing varies."""
        return "" if self.value is None else self.value if isinstance(self.value, str) else json.dumps(self.value)

    @property
    def label(self) -> str:
        """Network and value."""
        return f"{self.network}, {self.value_text}" if self.value_text else self.network

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return self.finished[0].training["parameters"]

    @property
    def seeds(self) -> list[int]:
        """Of its finished runs."""
        return list(dict.fromkeys(finished.run.seed for finished in self.finished))

    def within(self, pose: Pose, structure: str | None = None) -> list[Score]:
        """Its scores in a pose, of one structure or of all."""
        return [s for s in self.scores if s in pose and structure in (None, s.structure)]


def read_settings(experiment: Experiment, output_dir: str | Path) -> tuple[list[Setting], list[Run]]:
    """Read what is finished.

    Args:
        experiment: the experiment.
        output_dir: the folder that was given to :func:`equivariant_nets.experiments.execute`.

    Returns:
        the settings of which a run is finished, in the order of the experiment's file, and the unfinished runs.

    Raises:
        ValueError: nothing is finished, or a file is damaged; the message names it, and the folder to delete.
    """
    groups: dict[tuple[str, str], list[Run]] = {}
    for network in experiment.networks:
        for run in experiment.runs:
            if run.network == network:
                groups.setdefault((network, json.dumps(run.value)), []).append(run)
    settings, unfinished = [], []
    for runs in groups.values():
        finished, scores = [], []
        for run in sorted(runs, key=lambda run: run.seed):
            training, evaluation = training_dir(run, output_dir), evaluation_dir(run, output_dir)
            if not (training / RECORD).is_file() or not (evaluation / RECORD).is_file():
                unfinished.append(run)
                continue
            finished.append(Finished(run, _read_record(training), _read_record(evaluation)))
            scores += [*_upright_scores(run.seed, evaluation), *_rotation_scores(run.seed, evaluation)]
        if finished:
            settings.append(Setting(runs[0].network, runs[0].value, tuple(finished), tuple(sorted(scores))))
    if not settings:
        raise ValueError(
            f"None of the {len(experiment.runs)} runs of {experiment.name} is finished in {Path(output_dir)}, so there "
            "is nothing to show. Run the experiment, with the same data set and folder."
        )
    return settings, unfinished


def unique_case_names(images: Sequence[str]) -> list[str]:
    """Names of cases by the paths of their images; where files share a name, with that of their folder."""
    names = [case_name(image) for image in images]
    counts = Counter(names)
    return [
        name if counts[name] == 1 else f"{Path(image).parent.name}/{name}"
        for name, image in zip(names, images, strict=True)
    ]


def write_scores(settings: Iterable[Setting], path: Path, smoke_run: bool = False) -> Path:
    """Write all scores as one tidy table, a row each, with the network, its value and its number of parameters.

    The last column says whether they are of a smoke run.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        names = ("seed", "case", "class", *Score._fields[3:])
        writer.writerow(["network", "value", "parameters", *names, SMOKE_COLUMN])
        for setting in settings:
            own = (setting.network, setting.value_text, setting.parameters)
            writer.writerows([*own, *score, smoke_run] for score in setting.scores)
    return path


def _upright_scores(seed: int, folder: Path) -> list[Score]:
    rows = _rows(folder / UPRIGHT_TABLE, ("filename",))
    structures = [name for name in rows[0] if name not in ("filename", "mean", "weights")]
    if not structures:
        raise _damaged(folder / UPRIGHT_TABLE, "has no column of a class")
    cases = unique_case_names([row["filename"] for row in rows])
    scores = [
        Score(seed, case, name, UPRIGHT, 0.0, _number(folder / UPRIGHT_TABLE, row, name), 1.0)
        for case, row in zip(cases, rows, strict=True)
        for name in structures
    ]
    if all(np.isnan(score.dice) for score in scores):
        raise _damaged(folder / UPRIGHT_TABLE, "holds no Dice but NaN")
    return _without_doubles(scores, folder / UPRIGHT_TABLE)


def _rotation_scores(seed: int, folder: Path) -> list[Score]:
    path = folder / ROTATION_TABLE
    if not path.is_file():  # a bundle whose evaluation turns nothing
        return []
    scores = [
        Score(seed, row["case"], row["class"], row["plane"], *(_number(path, row, n) for n in Score._fields[4:]))
        for row in _rows(path, _ROTATION_COLUMNS)
    ]
    return _without_doubles(scores, path)


def _without_doubles(scores: list[Score], path: Path) -> list[Score]:
    counts = Counter(score[1:5] for score in scores if score.plane != RANDOM)
    if double := [key for key, count in counts.items() if count > 1]:
        raise _damaged(path, f"has more than one row of {', '.join(map(str, double[0]))}: cases need different names")
    return scores


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    try:
        rows = read_table(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _damaged(path, f"cannot be read ({error})") from None
    if not rows:
        raise _damaged(path, "has no rows")
    if missing := [name for name in columns if name not in rows[0]]:
        raise _damaged(path, f"lacks the columns {', '.join(missing)}")
    if any(None in row or None in row.values() for row in rows):
        raise _damaged(path, "has a row that is shorter or longer than its header")
    return rows


def _number(path: Path, row: dict[str, str], column: str) -> float:
    try:
        return float(row[column])
    except ValueError:
        raise _damaged(path, f"holds {row[column]!r} in the column {column}, which is not a number") from None


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if missing := {"finished", "seconds", "parameters", "bundle_version", "versions", "device"} - set(record):
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    except (OSError, TypeError, ValueError) as error:
        raise _damaged(path, f"cannot be read ({error})") from None
    return record


def _damaged(path: Path, problem: str) -> ValueError:
    return ValueError(f"{path} {problem}. Delete the folder {path.parent} and run the experiment again.")
