"""The tables of an experiment: tidy rows, from which its CSV, its HTML tables and its main finding are made."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from equivariant_nets.evaluation.poses import RANDOM
from equivariant_nets.experiments.results import SMOKE_COLUMN, UPRIGHT, Pose, Setting
from equivariant_nets.experiments.statistics import (
    Interval,
    bootstrap_interval,
    case_means,
    compare,
    differences,
    seed_means,
)
from equivariant_nets.files import replace_file

__all__ = ["RANDOM_POSE", "START", "UPRIGHT_POSE", "Row", "measured_poses", "summarize", "write_summary"]

UPRIGHT_POSE = Pose(UPRIGHT, UPRIGHT)
RANDOM_POSE = Pose("random rotations", RANDOM)
START = Pose("0 degrees", angle_degrees=0.0)  # of the sweep: the cases that are turned, before they are
_TABLE_ANGLES = (45, 90, 180)


class Row(NamedTuple):
    """One figure. In the table ``seeds``, low and high are the least and the greatest mean of one seed.

    Args:
        table: ``dice``, ``structure``, ``drop``, ``difference`` or ``seeds``.
        network, value: the setting.
        reference: what it is compared with, in the table ``difference``.
        structure: empty for the mean of all.
        pose: name of the pose.
        mean, low, high: with the ends of the 95 % confidence interval over the cases.
        cases, seeds: how many.
        p, p_holm: of the signed-rank test, in the table ``difference``.
    """

    table: str
    network: str
    value: str
    reference: str
    structure: str
    pose: str
    mean: float
    low: float
    high: float
    cases: int
    seeds: int
    p: float = float("nan")
    p_holm: float = float("nan")


def measured_poses(settings: Sequence[Setting]) -> list[Pose]:
    """The poses of the tables: upright, 45, 90 and 180 degrees (if none of these all angles), random rotations.

    Only those that were measured.
    """
    scores = [score for setting in settings for score in setting.scores]
    angles = {s.angle_degrees for s in scores if s.plane not in (UPRIGHT, RANDOM)} - {0.0}
    shown = angles & set(_TABLE_ANGLES) or angles
    poses = [UPRIGHT_POSE, *(Pose(f"{angle:g} degrees", angle_degrees=angle) for angle in sorted(shown)), RANDOM_POSE]
    return [pose for pose in poses if any(score in pose for score in scores)]


def summarize(settings: Sequence[Setting], tests: bool = True) -> list[Row]:
    """All tables of these settings; without those of tests, where figures are not to be compared."""
    poses, rows = measured_poses(settings), []
    for setting in settings:
        structures = dict.fromkeys(score.structure for score in setting.scores)
        start = case_means(setting.within(START))
        for pose in poses:
            means = case_means(setting.within(pose))
            rows.append(_row("dice", setting, pose, bootstrap_interval(means)))
            if seeds := seed_means(setting.within(pose)).values():
                spread = Interval(float(np.mean(list(seeds))), min(seeds), max(seeds), len(means))
                rows.append(_row("seeds", setting, pose, spread))
            for name in structures:
                own = case_means(setting.within(pose, name))
                rows.append(_row("structure", setting, pose, bootstrap_interval(own), structure=name))
            if pose != UPRIGHT_POSE and (drops := differences(start, means)):
                rows.append(_row("drop", setting, pose, bootstrap_interval(drops)))
    for c in compare(settings, poses) if tests else ():
        row = _row("difference", c.setting, c.pose, c.difference, reference=c.reference.label)
        rows.append(row._replace(p=c.p, p_holm=c.p_holm))
    return [row for row in rows if row.cases]


def _row(table: str, setting: Setting, pose: Pose, interval: Interval, reference: str = "", structure: str = "") -> Row:
    own = (table, setting.network, setting.value_text, reference, structure, pose.name)
    return Row(*own, interval.mean, interval.low, interval.high, interval.cases, len(setting.seeds))


def write_summary(rows: Sequence[Row], path: Path, smoke_run: bool = False) -> Path:
    """Write the rows as CSV, figures with 5 decimals; the last column says whether they are of a smoke run."""
    with replace_file(path) as unfinished, unfinished.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*Row._fields, SMOKE_COLUMN])
        writer.writerows([*(f"{v:.5f}" if isinstance(v, float) else v for v in row), smoke_run] for row in rows)
    return path
