"""Pictures and the self-contained HTML report of an evaluation.

python -m equivariant_nets.report summary output/so3/rotation_dice.csv
python -m equivariant_nets.report curves curves.png --steerable so3/rotation_dice.csv --plain unet/rotation_dice.csv
python -m equivariant_nets.report scale_summary output/so3/scale_dice.csv
python -m equivariant_nets.report scales scales.png --steerable so3/scale_dice.csv --plain unet/scale_dice.csv
"""

from __future__ import annotations

import csv
import html
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import fire
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # not of pyplot, which would choose a backend for the user's own figures
from torch import Tensor

from . import webpage

__all__ = [
    "case_means",
    "group_means",
    "label_centre",
    "photograph_with_labels",
    "plot_rotation_curves",
    "plot_scale_curves",
    "plot_vessel_curves",
    "read_table",
    "save_figure",
    "show_plane",
    "standard_error",
    "summarize_rotation_table",
    "summarize_scale_table",
    "three_planes",
    "write_report",
]

Key = TypeVar("Key", bound=Hashable)

LABEL_COLOURS = "tab10"
FLOOR: dict[str, Any] = {"color": "grey", "linestyle": ":", "label": "labels there and back"}


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
            summary[f"{angle:g} degrees"] = _mean(case_means(chosen, "dice"))
    if random := [r for r in rows if r["plane"] == "random"]:
        summary["random rotations"] = _mean(case_means(random, "dice"))
    return summary


def summarize_scale_table(table: str | Path) -> dict[str, float]:
    """Mean Dice over classes and cases at each factor of size, ``{"1": 0.9, "0.8": 0.85}``."""
    rows = read_table(table)
    factors = dict.fromkeys(float(row["factor"]) for row in rows)
    return {f"{f:g}": _mean(case_means([r for r in rows if float(r["factor"]) == f], "dice")) for f in factors}


def plot_rotation_curves(tables: Mapping[str, str | Path], path: str | Path) -> Path:
    """Plot mean Dice, with its standard error over the cases, against the angle in each plane and at random rotations.

    Args:
        tables: the ``rotation_dice.csv`` of each network, by the name that the legend shows.
        path: the PNG to write.
    """
    tables_rows = {name: read_table(table) for name, table in tables.items()}
    planes = list(dict.fromkeys(row["plane"] for rows in tables_rows.values() for row in rows))
    figure = Figure(figsize=(3.4 * len(planes), 3.4))
    axes = figure.subplots(1, len(planes), sharey=True, squeeze=False)
    for axis, plane in zip(axes[0], planes, strict=True):
        for position, (name, rows) in enumerate(tables_rows.items()):
            chosen = [row for row in rows if row["plane"] == plane]
            colour = f"C{position}"
            if plane == "random":
                means = case_means(chosen, "dice")
                axis.errorbar(position, _mean(means), yerr=standard_error(means), fmt="o", capsize=4, color=colour)
                continue
            _plot_curve(axis, chosen, "angle_degrees", "dice", color=colour, label=name, marker="o", markersize=3)
            if position == 0:
                _plot_curve(axis, chosen, "angle_degrees", "interpolation_dice", **FLOOR)
        if plane == "random":
            axis.set_xticks(range(len(tables_rows)), tables_rows, rotation=15)
            axis.set_xlim(-0.5, len(tables_rows) - 0.5)
            axis.set_title("random rotations")
        else:
            axis.set_title(f"{plane} plane")
            axis.set_xlabel("rotation (degrees)")
            axis.set_xticks(range(0, 181, 45))
        axis.set_ylim(0, 1)
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("mean Dice")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    if labels:  # random rotations alone need no legend: their names stand below them
        figure.legend(handles, labels, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=len(labels), frameon=False)
    return save_figure(figure, path)


def plot_scale_curves(tables: Mapping[str, str | Path], path: str | Path) -> Path:
    """Plot mean Dice, with its standard error over the cases, against the factor by which the anatomy was resized.

    Args:
        tables: the ``scale_dice.csv`` of each network, by the name that the legend shows.
        path: the PNG to write.
    """
    figure = Figure(figsize=(4.5, 3.4))
    axis = figure.subplots()
    for position, (name, table) in enumerate(tables.items()):
        rows = read_table(table)
        _plot_curve(axis, rows, "factor", "dice", color=f"C{position}", label=name, marker="o", markersize=3)
        if position == 0:
            _plot_curve(axis, rows, "factor", "interpolation_dice", **FLOOR)
    axis.set_xlabel("size of the anatomy (1: as it is)")
    axis.set_ylabel("mean Dice")
    axis.set_ylim(0, 1)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return save_figure(figure, path)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def standard_error(values: np.ndarray) -> float:
    """Of the mean of values ``(n,)``; 0 of fewer than two."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0


def _plot_curve(axis: Axes, rows: Sequence[dict[str, str]], over: str, column: str, **style: Any) -> None:
    """Means of a column, with their standard errors over the cases, against the values of another."""
    positions = sorted({float(row[over]) for row in rows})
    by_position = [case_means([r for r in rows if float(r[over]) == p], column) for p in positions]
    means = np.array([_mean(values) for values in by_position])
    errors = np.array([standard_error(values) for values in by_position])
    axis.plot(positions, means, **style)
    axis.fill_between(positions, means - errors, means + errors, color=style["color"], alpha=0.15, linewidth=0)


def plot_vessel_curves(tables: Mapping[str, str | Path], path: str | Path) -> Path:
    """Plot the Dice of vessels against the angle by which photographs were turned, a panel for each data set.

    Args:
        tables: the ``vessel_scores.csv`` of each network, by the name that the legend shows.
        path: the PNG to write.
    """
    rows = {name: read_table(table) for name, table in tables.items()}
    datasets = list(dict.fromkeys(row["dataset"] for own in rows.values() for row in own))
    figure = Figure(figsize=(4 * len(datasets), 3.4))
    axes = figure.subplots(1, len(datasets), sharey=True, squeeze=False)
    for axis, dataset in zip(axes[0], datasets, strict=True):
        for name, own in rows.items():
            chosen = [row for row in own if row["dataset"] == dataset and row["reader"] == "network"]
            curve = sorted((float(row["angle_degrees"]), float(row["dice"])) for row in chosen)
            axis.plot(*zip(*curve, strict=True), marker="o", markersize=3, label=name)
        human = [
            row for own in rows.values() for row in own if row["dataset"] == dataset and row["reader"] != "network"
        ]
        if human:
            axis.axhline(float(human[0]["dice"]), color="grey", linestyle=":", label="second observer")
        axis.set_title(dataset)
        axis.set_xlabel("rotation (degrees)")
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("Dice of vessels")
    axes[0, 0].legend(frameon=False)
    return save_figure(figure, path)


def three_planes(
    image: Tensor | np.ndarray,
    labels: Sequence[tuple[str, Tensor | np.ndarray]],
    path: str | Path,
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
) -> Path:
    """Write a PNG: an image in three orthogonal planes, a row for each label map laid over it.

    Args:
        image: ``(D, H, W)``.
        labels: titles and integer maps ``(D, H, W)``; the planes go through the middle of the first one's foreground.
        path: the PNG to write.
        spacing_mm: between voxels along D, H and W, so that nothing looks squeezed.
    """
    volume = np.asarray(torch.as_tensor(image), dtype=float)
    maps = [np.asarray(torch.as_tensor(label)).astype(int) for _, label in labels]
    centre = label_centre(maps[0])
    figure = Figure(figsize=(9, 3.2 * len(maps)))
    axes = figure.subplots(len(maps), 3, squeeze=False)
    for row, ((title, _), label) in enumerate(zip(labels, maps, strict=True)):
        for axis in range(3):
            show_plane(axes[row, axis], volume, label, axis, centre[axis], spacing_mm)
        axes[row, 1].set_title(title)
    return save_figure(figure, path)


def label_centre(label: np.ndarray) -> np.ndarray:
    """The voxel ``(3,)`` in the middle of the foreground of a map ``(D, H, W)``; of the map, where it has none."""
    foreground = np.argwhere(label > 0)
    return foreground.mean(0).round().astype(int) if len(foreground) else np.array(label.shape) // 2


def show_plane(
    panel: Axes, volume: np.ndarray, label: np.ndarray, axis: int, index: int, spacing_mm: Sequence[float]
) -> None:
    """Draw one slice of a volume, with the classes of a label map over it.

    Args:
        panel: what to draw on.
        volume, label: ``(D, H, W)``; each class from 1 has its own colour of ``LABEL_COLOURS``.
        axis: 0, 1 or 2, what the slice lies across.
        index: of the slice.
        spacing_mm: between voxels along D, H and W.
    """
    across, up = (spacing_mm[other] for other in range(3) if other != axis)
    low, high = np.percentile(volume, (1, 99))
    panel.imshow(volume.take(index, axis).T, cmap="gray", vmin=low, vmax=high, origin="lower")
    overlay = np.ma.masked_equal(label.take(index, axis).T, 0)
    style: dict[str, Any] = {"origin": "lower", "interpolation": "nearest"}
    panel.imshow(overlay, cmap=LABEL_COLOURS, vmin=1, vmax=10, alpha=0.6, **style)
    panel.set_aspect(up / across)
    panel.set_axis_off()


def photograph_with_labels(image: Tensor | np.ndarray, label: Tensor | np.ndarray, path: str | Path) -> Path:
    """Write a PNG: a colour photograph, and beside it the same with a label map laid over it.

    Args:
        image: ``(3, W, H)``, values from 0 to 255.
        label: ``(W, H)``; what is above 0 is drawn.
        path: the PNG to write.
    """
    colours = np.asarray(torch.as_tensor(image), dtype=float).T.clip(0, 255) / 255
    foreground = np.asarray(torch.as_tensor(label)).T > 0
    figure = Figure(figsize=(12, 6))
    axes = figure.subplots(1, 2)
    for axis in axes:
        axis.imshow(colours)
        axis.set_axis_off()
    axes[1].imshow(np.ma.masked_equal(foreground, 0), cmap="winter", alpha=0.8, interpolation="nearest")
    return save_figure(figure, path)


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG and return the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, bbox_inches="tight")
    return path


def write_report(
    path: str | Path,
    title: str,
    paragraphs: Sequence[str],
    tables: Sequence[Sequence[Sequence[str]]],
    pictures: Sequence[Path],
) -> Path:
    """Write one HTML file that opens from disk without a network: text, tables (first row the header) and pictures."""
    parts = [f"<h1>{html.escape(title)}</h1>", *map(webpage.paragraph, paragraphs)]
    parts += [*map(webpage.table, tables), *map(webpage.picture, pictures)]
    return webpage.page(path, title, "".join(parts))


def _curves(path: str, **tables: str) -> Path:
    """Plot rotation_dice.csv files, each given as --NAME FILE, into one PNG."""
    return plot_rotation_curves(tables, path)


def _scales(path: str, **tables: str) -> Path:
    """Plot scale_dice.csv files, each given as --NAME FILE, into one PNG."""
    return plot_scale_curves(tables, path)


if __name__ == "__main__":
    commands = {"summary": summarize_rotation_table, "scale_summary": summarize_scale_table}
    fire.Fire({"curves": _curves, "scales": _scales, **commands})
