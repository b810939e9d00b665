"""Tables of scores: written by MONAI's handlers, read, and summarized."""

from __future__ import annotations

import csv
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import monai.handlers
import numpy as np
from ignite import distributed as idist
from ignite.engine import Engine

from equivariant_nets.files import replace_file
from equivariant_nets.training.weights import weights_name

__all__ = [
    "ClassMetricsSaver",
    "case_means",
    "group_means",
    "read_sizes",
    "read_table",
    "standard_error",
    "summarize_rotation_table",
    "summarize_scale_table",
]


UPRIGHT_AT = re.compile(r"upright|size (?P<size>[\d.e+-]+)")  # names of poses

Key = TypeVar("Key", bound=Hashable)


def read_table(table: str | Path) -> list[dict[str, str]]:
    """The rows of a table of scores, such as ``rotation_dice.csv``."""
    with Path(table).open(newline="") as file:
        return list(csv.DictReader(file))


def group_means(values: Iterable[tuple[Key, float]]) -> dict[Key, float]:
    """The mean of the values of each key, in the order in which the keys come.

    NaN, such as Dice of a class that a case lacks, does not count, and a key of nothing else has no mean.
    """
    groups: dict[Key, list[float]] = {}
    for key, value in values:
        if not np.isnan(value):
            groups.setdefault(key, []).append(value)
    return {key: float(np.mean(own)) for key, own in groups.items()}


def case_means(rows: Iterable[Mapping[str, str]], column: str = "dice") -> np.ndarray:
    """Mean over classes (and poses) of each case in rows of a table."""
    return np.array(list(group_means((row["case"], float(row[column])) for row in rows).values()))


def summarize_rotation_table(table: str | Path, angles_degrees: Sequence[float] = (0, 45, 90, 180)) -> dict[str, float]:
    """Mean Dice over classes and cases at some angles (averaged over the planes) and over random rotations."""
    rows = read_table(table)
    summary = {}
    for angle in angles_degrees:
        chosen = [r for r in rows if r["plane"] != "random" and float(r["angle_degrees"]) == angle]
        if chosen:
            summary[f"{angle:g} degrees"] = mean(case_means(chosen, "dice"))
    if random := [r for r in rows if r["plane"] == "random"]:
        summary["random rotations"] = mean(case_means(random, "dice"))
    return summary


def read_sizes(table: str | Path) -> list[dict[str, str]]:
    """The rows of a ``scale_dice.csv``; or those of a ``poses_dice.csv`` that are upright, at any size, in its columns.

    Raises:
        ValueError: the table is neither.
    """
    rows = read_table(table)
    if rows and "pose" in rows[0]:
        found = [(row, UPRIGHT_AT.fullmatch(row["pose"])) for row in rows]
        return [{**row, "factor": at["size"] or "1", "interpolation_dice": row["floor"]} for row, at in found if at]
    if not rows or "factor" not in rows[0]:
        raise ValueError(f"{table} is no table of sizes: give scale_dice.csv, or poses_dice.csv of --poses size:0.7.")
    return rows


def summarize_scale_table(table: str | Path) -> dict[str, float]:
    """Mean Dice over classes and cases at each factor of size, ``{"1": 0.9, "0.8": 0.85}``.

    Args:
        table: as of :func:`read_sizes`.
    """
    rows = read_sizes(table)
    factors = dict.fromkeys(float(row["factor"]) for row in rows)
    return {f"{f:g}": mean(case_means([r for r in rows if float(r["factor"]) == f], "dice")) for f in factors}


def mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def standard_error(values: np.ndarray) -> float:
    """Of the mean of values ``(n,)``; 0 of fewer than two."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


class ClassMetricsSaver(monai.handlers.MetricsSaver):
    """MONAI's tables of metrics by the names of the classes: its ``class0`` is the first one behind the background.

    The last column, ``weights``, is the file that a :class:`WeightsLoader` of the same engine loaded; ``metrics.csv``,
    which has no header, has a row of it.

    Args:
        save_dir: receives ``metrics.csv``, and of each metric with details ``<metric>_raw.csv`` and
            ``<metric>_summary.csv``.
        class_names: names of the labels 1, 2, ...
        others: as for ``monai.handlers.MetricsSaver``.
    """

    def __init__(self, save_dir: str, class_names: Sequence[str], **kwargs: Any) -> None:
        super().__init__(save_dir, **kwargs)
        self.names = {f"class{index}": name for index, name in enumerate(class_names)}

    def __call__(self, engine: Engine) -> None:
        super().__call__(engine)
        if idist.get_rank() != self.save_rank:
            return
        weights = weights_name(getattr(engine.state, "weights", None))
        for metric in getattr(engine.state, "metric_details", {}):
            for table in Path(self.save_dir).glob(f"{metric}_*.csv"):
                header, *rows = self._read(table)
                named = [[self.names.get(cell, cell) for cell in row] for row in (header, *rows)]
                self._write(table, [[*named[0], "weights"], *([*row, weights] for row in named[1:])])
        overall = Path(self.save_dir) / "metrics.csv"
        if overall.is_file():
            self._write(overall, [*self._read(overall), ["weights", weights]])

    def _read(self, table: Path) -> list[list[str]]:
        with table.open(newline="") as file:
            return list(csv.reader(file, delimiter=self.deli))

    def _write(self, table: Path, rows: Iterable[Sequence[str]]) -> None:
        with replace_file(table) as unfinished, unfinished.open("w", newline="") as file:
            csv.writer(file, delimiter=self.deli, lineterminator="\n").writerows(rows)
