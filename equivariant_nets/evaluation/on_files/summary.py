"""Tables, plots and a picture of what was measured at poses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from matplotlib.figure import Figure  # not of pyplot, which would choose a backend for the user's own figures

from equivariant_nets.evaluation.on_files.cases import Case
from equivariant_nets.evaluation.on_files.measure import Settings, load_mask
from equivariant_nets.evaluation.on_files.poses import TURNS, Pose
from equivariant_nets.evaluation.on_files.scores import Row
from equivariant_nets.evaluation.tables import group_means
from equivariant_nets.pictures import save_figure, three_planes

__all__ = ["draw_angles", "draw_kinds", "draw_worst", "kind_table", "pose_table"]

COLUMNS = ("dice", "floor", "rmse")


def kind_table(rows: Sequence[Row]) -> list[list[str]]:
    """A table of each kind of pose, with its header: means over classes and cases, and the lowest pose."""
    header = ["kind", "poses", "Dice", "floor", "RMSE", "lowest pose", "its Dice"]
    lines = []
    for kind in dict.fromkeys(row.kind for row in rows):
        own = [row for row in rows if row.kind == kind]
        by_pose = {pose: _means([row for row in own if row.pose == pose])[0] for pose in _poses(own)}
        lowest = min(by_pose, key=lambda pose: np.nan_to_num(by_pose[pose], nan=np.inf))
        lines.append([kind, str(len(by_pose)), *_told(_means(own)), lowest, *_told([by_pose[lowest]])])
    return [header, *lines]


def pose_table(rows: Sequence[Row]) -> list[list[str]]:
    """A table of each pose, with its header: Dice of each class, and means over classes and cases."""
    classes = list(dict.fromkeys(row.class_name for row in rows))
    header = ["pose", "cases", *(f"Dice {name}" for name in classes), "Dice", "floor", "RMSE"]
    lines = []
    for pose in _poses(rows):
        own = [row for row in rows if row.pose == pose]
        by_class = [_means([row for row in own if row.class_name == name])[0] for name in classes]
        lines.append([pose, str(len({row.case for row in own})), *_told([*by_class, *_means(own)])])
    return [header, *lines]


def draw_angles(rows: Sequence[Row], path: Path) -> Path:
    """Plot the mean Dice of each case, over its classes, against the angle that the patient was turned by."""
    figure = Figure(figsize=(6.5, 3.6))
    axis = figure.subplots()
    turned = [row for row in rows if row.kind in TURNS]
    for position, kind in enumerate(dict.fromkeys(row.kind for row in turned)):
        points = np.reshape(_case_points([row for row in turned if row.kind == kind]), (-1, 2))
        axis.plot(points[:, 0], points[:, 1], ".", color=f"C{position}", alpha=0.6, label=kind)
    floors = group_means((row.angle_degrees, row.floor) for row in turned)
    points = np.reshape(sorted(floors.items()), (-1, 2))
    axis.plot(points[:, 0], points[:, 1], color="grey", linestyle=":", label="labels there and back")
    axis.set_xlabel("angle of rotation (degrees)")
    axis.set_ylabel("Dice")
    axis.set_xlim(-5, 185)
    axis.set_ylim(0, 1.02)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, bbox_to_anchor=(1, 1), loc="upper left")
    return save_figure(figure, path)


def draw_kinds(rows: Sequence[Row], path: Path) -> Path:
    """Plot the mean Dice of each case in each pose, by the kind of pose, with the mean of the floor."""
    kinds = list(dict.fromkeys(row.kind for row in rows))
    figure = Figure(figsize=(1.2 + 0.9 * len(kinds), 3.6))
    axis = figure.subplots()
    by_kind = [[row for row in rows if row.kind == kind] for kind in kinds]
    axis.boxplot([[dice for _, dice in _case_points(own)] for own in by_kind], tick_labels=kinds)
    floors = [_means(own)[1] for own in by_kind]
    axis.plot(range(1, len(kinds) + 1), floors, color="grey", linestyle=":", marker="_", label="labels there and back")
    axis.set_ylabel("Dice")
    axis.set_ylim(0, 1.02)
    axis.grid(alpha=0.3, axis="y")
    axis.legend(frameon=False, bbox_to_anchor=(0.5, 1), loc="lower center")
    return save_figure(figure, path)


def draw_worst(
    rows: Sequence[Row], settings: Settings, cases: Sequence[Case], poses: Sequence[Pose], folder: Path, path: Path
) -> tuple[Path, str]:
    """Write a picture of the case and pose that is farthest below its floor, and say which it is.

    Args:
        rows: the scores.
        settings: they were measured with.
        cases, poses: that were measured.
        folder: of the masks.
        path: the PNG to write.
    """
    below = group_means(((row.case, row.pose), row.floor - row.dice) for row in rows)
    first = rows[0].case, rows[0].pose  # where no class has a Dice
    case_name, pose_name = max(below, key=lambda key: below[key], default=first)
    case = next(case for case in cases if case.name == case_name)
    pose = next(pose for pose in poses if pose.name == pose_name)
    volumes = case.load()
    place = settings.placement(case, pose, volumes.label.shape, volumes.affine)
    true = place.label(settings.classes.true_codes(volumes.label))
    predicted = settings.classes.predicted_codes(load_mask(folder, case, pose))
    maps = [("labels", _drawn(true)), ("prediction", _drawn(predicted))]
    turned = place.image(volumes.image[:1], settings.turning.of(pose))[0]
    three_planes(turned, maps, path, nib.affines.voxel_sizes(place.affine).tolist())
    dice, *_ = _means([row for row in rows if (row.case, row.pose) == (case_name, pose_name)])
    if not below:
        return path, f"No case holds a class that is scored; drawn is {case_name}, {pose_name}."
    return path, f"Farthest below the floor: {case_name}, {pose_name}, mean Dice {dice:.3f}."


def _drawn(codes: np.ndarray) -> np.ndarray:
    """The number of the first class of each voxel, from 1; 0 where there is none."""
    lowest_bit = codes & -codes
    return np.where(codes > 0, np.log2(np.maximum(lowest_bit, 1)).astype(int) + 1, 0)


def _case_points(rows: Sequence[Row]) -> list[tuple[float, float]]:
    """The angle and the mean Dice over the classes of each case in each pose."""
    means = group_means(((row.case, row.pose, row.angle_degrees), row.dice) for row in rows)
    return [(angle, dice) for (_, _, angle), dice in means.items()]


def _poses(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(row.pose for row in rows))


def _means(rows: Sequence[Row]) -> list[float]:
    """Means of Dice, floor and RMSE: over the classes of a case in a pose, then over these."""
    means = []
    for column in COLUMNS:
        cases = group_means(((row.case, row.pose), getattr(row, column)) for row in rows)
        means.append(float(np.mean(list(cases.values()))) if cases else float("nan"))
    return means


def _told(values: Iterable[float]) -> list[str]:
    return ["-" if np.isnan(value) else f"{value:.3f}" for value in values]
