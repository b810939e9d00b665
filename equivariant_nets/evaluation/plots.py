"""Plots of Dice against what was done to the image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # not of pyplot, which would choose a backend for the user's own figures

from equivariant_nets.evaluation.tables import case_means, mean, read_sizes, read_table, standard_error
from equivariant_nets.pictures import save_figure

__all__ = ["plot_rotation_curves", "plot_scale_curves", "plot_vessel_curves"]


FLOOR: dict[str, Any] = {"color": "grey", "linestyle": ":", "label": "labels there and back"}


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
                axis.errorbar(position, mean(means), yerr=standard_error(means), fmt="o", capsize=4, color=colour)
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
        tables: the table of each network, as of :func:`read_sizes`, by the name that the legend shows.
        path: the PNG to write.
    """
    figure = Figure(figsize=(4.5, 3.4))
    axis = figure.subplots()
    for position, (name, table) in enumerate(tables.items()):
        rows = read_sizes(table)
        _plot_curve(axis, rows, "factor", "dice", color=f"C{position}", label=name, marker="o", markersize=3)
        if position == 0:
            _plot_curve(axis, rows, "factor", "interpolation_dice", **FLOOR)
    axis.set_xlabel("size of the anatomy (1: as it is)")
    axis.set_ylabel("mean Dice")
    axis.set_ylim(0, 1)
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return save_figure(figure, path)


def _plot_curve(axis: Axes, rows: Sequence[dict[str, str]], over: str, column: str, **style: Any) -> None:
    """Means of a column, with their standard errors over the cases, against the values of another."""
    positions = sorted({float(row[over]) for row in rows})
    by_position = [case_means([r for r in rows if float(r[over]) == p], column) for p in positions]
    means = np.array([mean(values) for values in by_position])
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
