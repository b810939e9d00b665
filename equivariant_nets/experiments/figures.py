"""The plots of an experiment: Dice against angle, value, structure or number of parameters."""

from __future__ import annotations

from equivariant_nets import bundles_extra  # noqa: F401

# isort: split

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from equivariant_nets.evaluation.plots import FLOOR
from equivariant_nets.evaluation.poses import RANDOM
from equivariant_nets.experiments.findings import SMOKE_RUN
from equivariant_nets.experiments.plan import Experiment
from equivariant_nets.experiments.results import UPRIGHT, Pose, Setting
from equivariant_nets.experiments.statistics import case_means, mean_and_error, seed_means
from equivariant_nets.experiments.tables import RANDOM_POSE, UPRIGHT_POSE
from equivariant_nets.pictures import save_figure

__all__ = ["plot_experiment"]

_HALF_TURN = Pose("turned by 45 degrees", angle_degrees=45.0)
_LOG_SPAN = 4  # values that span a greater factor stand on a logarithmic axis
_GROUP_WIDTH = 0.7  # of the points of one structure, which stand 1 apart
_MARKS: dict[str, Any] = {"marker": "o", "markersize": 4, "capsize": 3}


def plot_experiment(experiment: Experiment, settings: Sequence[Setting], folder: Path) -> list[Path]:
    """Draw the main picture of an experiment, and of rotations a compact one beside it.

    Points are means over cases, bars and bands their standard errors.

    Args:
        experiment: says what to draw.
        settings: what was measured.
        folder: receives the PNGs.

    Returns:
        their paths; none where an experiment on rotations measured no pose.
    """
    plots: dict[str, Callable[[Experiment, Sequence[Setting]], dict[str, Figure]]] = {
        "rotation": _plot_rotation,
        "curve": _plot_curve,
        "structures": _plot_structures,
        "parameters": _plot_parameters,
    }
    with matplotlib.rc_context(
        {"text.parse_math": False, "axes.grid": True, "grid.alpha": 0.3, "axes.axisbelow": True}
    ):
        figures = plots[experiment.plot](experiment, settings)
        if experiment.quick:
            for figure in figures.values():
                figure.suptitle(SMOKE_RUN, color="#a00")
        return [save_figure(figure, folder / f"{name}.png") for name, figure in figures.items()]


def _plot_rotation(experiment: Experiment, settings: Sequence[Setting]) -> dict[str, Figure]:
    structures: list[str | None] = [None, *_structures(settings)]
    figures = {
        "rotation_mean": _rotation_grid(settings, structures[:1]),
        "rotation": _rotation_grid(settings, structures),
    }
    return {name: figure for name, figure in figures.items() if figure is not None}


def _rotation_grid(settings: Sequence[Setting], structures: Sequence[str | None]) -> Figure | None:
    """A row for each structure (None: the mean over all), a column for each plane, and one for random rotations."""
    measured = dict.fromkeys(s.plane for setting in settings for s in setting.scores if s.plane != UPRIGHT)
    planes = sorted(measured, key=lambda plane: (plane == RANDOM, plane))
    if not planes:
        return None
    widths = [0.6 if plane == RANDOM else 1 for plane in planes]
    figure = Figure(figsize=(3.2 * sum(widths), 0.9 + 2.2 * len(structures)), layout="constrained")
    axes = figure.subplots(len(structures), len(planes), width_ratios=widths, sharey=True, squeeze=False)
    for row, structure in enumerate(structures):
        for panel, plane in zip(axes[row], planes, strict=True):
            if plane == RANDOM:
                _points(panel, settings, RANDOM_POSE, structure)
                panel.set_xlim(-0.5, 0.5)
                panel.set_xticks([])
            else:
                _angle_curves(panel, settings, plane, structure)
            panel.set_ylim(0, 1.04)  # the floor at 1 is seen
            if row == 0:
                panel.set_title("random rotations" if plane == RANDOM else f"{plane} plane")
            if row == len(structures) - 1 and plane != RANDOM:
                panel.set_xlabel("rotation (degrees)")
        axes[row, 0].set_ylabel(f"Dice, {structure or 'mean'}")
    _legend(figure, [setting.label for setting in settings], floor=True)
    return figure


def _angle_curves(panel: Axes, settings: Sequence[Setting], plane: str, structure: str | None) -> None:
    for position, setting in enumerate(settings):
        angles = sorted({s.angle_degrees for s in setting.scores if s.plane == plane})
        poses = [Pose("", plane, angle) for angle in angles]
        for column in ("dice", "interpolation_dice")[: 2 if position == 0 else 1]:
            values = [mean_and_error(case_means(setting.within(pose, structure), column)) for pose in poses]
            means, errors = np.array(values).reshape(-1, 2).T
            if column != "dice":
                panel.plot(angles, means, color=FLOOR["color"], linestyle=FLOOR["linestyle"], zorder=1)
                continue
            panel.plot(angles, means, marker="o", markersize=3, color=f"C{position}")
            panel.fill_between(angles, means - errors, means + errors, color=f"C{position}", alpha=0.2, linewidth=0)
    panel.set_xticks(range(0, 181, 45))


def _plot_curve(experiment: Experiment, settings: Sequence[Setting]) -> dict[str, Figure]:
    values = list(dict.fromkeys(setting.value_text for setting in settings))
    numbers = [setting.value for setting in settings]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in numbers):
        log = min(numbers) > 0 and max(numbers) / min(numbers) > _LOG_SPAN
        positions, scale = {s.value_text: float(s.value) for s in settings}, "log2" if log else "linear"
    else:
        positions, scale = {value: float(index) for index, value in enumerate(values)}, "linear"

    def place(setting: Setting) -> float:
        return positions[setting.value_text]

    figure, panels = _panels(settings, [UPRIGHT_POSE, _HALF_TURN, RANDOM_POSE])
    for panel, pose in panels:
        _lines(panel, settings, pose, place)
        if scale == "log2":
            panel.set_xscale("log", base=2)
        panel.set_xticks(list(positions.values()), list(positions))
        panel.minorticks_off()
        panel.set_xlabel(experiment.varies or "")
    _legend(figure, list(dict.fromkeys(setting.network for setting in settings)))
    return {"curve": figure}


def _plot_parameters(experiment: Experiment, settings: Sequence[Setting]) -> dict[str, Figure]:
    figure, panels = _panels(settings, [UPRIGHT_POSE, RANDOM_POSE])
    counts = [setting.parameters for setting in settings]
    ticks = (1, 3) if max(counts) > 10 * min(counts) else (1, 1.5, 2, 3, 5, 7)
    for panel, pose in panels:
        _lines(panel, settings, pose, lambda setting: setting.parameters)
        panel.set_xscale("log")
        panel.xaxis.set_major_locator(LogLocator(subs=ticks))
        panel.xaxis.set_major_formatter("{x:,.0f}")
        panel.tick_params(axis="x", rotation=20)
        panel.minorticks_off()
        panel.set_xlabel("parameters")
    _legend(figure, list(dict.fromkeys(setting.network for setting in settings)))
    return {"parameters": figure}


def _plot_structures(experiment: Experiment, settings: Sequence[Setting]) -> dict[str, Figure]:
    structures: list[str | None] = [None, *_structures(settings)]
    figure, panels = _panels(settings, [UPRIGHT_POSE, RANDOM_POSE], width=1.5 + 1.0 * len(structures))
    for panel, pose in panels:
        for index, structure in enumerate(structures):
            _points(panel, settings, pose, structure, index)
        panel.set_xticks(range(len(structures)), [name or "mean" for name in structures], rotation=20)
        panel.grid(axis="x", visible=False)
    _legend(figure, [setting.label for setting in settings])
    return {"structures": figure}


def _structures(settings: Sequence[Setting]) -> list[str]:
    return list(dict.fromkeys(score.structure for setting in settings for score in setting.scores))


def _panels(
    settings: Sequence[Setting], poses: Sequence[Pose], width: float = 3.8
) -> tuple[Figure, list[tuple[Axes, Pose]]]:
    """A panel for each pose that was measured."""
    shown = [pose for pose in poses if any(setting.within(pose) for setting in settings)]
    figure = Figure(figsize=(width * len(shown), 3.8), layout="constrained")
    axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)
    for panel, pose in zip(axes[0], shown, strict=True):
        panel.set_title(pose.name)
    axes[0, 0].set_ylabel("mean Dice")
    return figure, list(zip(axes[0], shown, strict=True))


def _lines(panel: Axes, settings: Sequence[Setting], pose: Pose, place: Callable[[Setting], float]) -> None:
    """A line for each network, and each seed alone faintly behind it."""
    for position, network in enumerate(dict.fromkeys(setting.network for setting in settings)):
        own = sorted((s for s in settings if s.network == network), key=place)
        means, errors = np.array([mean_and_error(case_means(s.within(pose))) for s in own]).T
        panel.errorbar([place(s) for s in own], means, errors, color=f"C{position}", **_MARKS)
        for setting in own:
            if len(seeds := list(seed_means(setting.within(pose)).values())) > 1:
                panel.scatter([place(setting)] * len(seeds), seeds, s=9, color=f"C{position}", alpha=0.35)


def _points(panel: Axes, settings: Sequence[Setting], pose: Pose, structure: str | None, centre: float = 0.0) -> None:
    """A point for each setting, side by side about a position on the axis."""
    for position, setting in enumerate(settings):
        offset = _GROUP_WIDTH * ((position + 0.5) / len(settings) - 0.5)
        mean, error = mean_and_error(case_means(setting.within(pose, structure)))
        panel.errorbar(centre + offset, mean, error, color=f"C{position}", linestyle="", **_MARKS)


def _legend(figure: Figure, labels: Sequence[str], floor: bool = False) -> None:
    handles = [Line2D([], [], color=f"C{index}", marker="o", markersize=4) for index in range(len(labels))]
    names = list(labels)
    if floor:
        handles.append(Line2D([], [], color=FLOOR["color"], linestyle=FLOOR["linestyle"]))
        names.append(FLOOR["label"])
    figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 5), frameon=False)
