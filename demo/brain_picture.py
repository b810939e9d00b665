"""The picture of the demo: what two networks find in one brain, however it lies."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from brain_poses import CLASS_NAMES, Answer, PosedBrain
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from equivariant_nets.pictures import save_figure

__all__ = ["draw_brain"]

NIGHT, LIGHT, DIM = "#0b0e14", "#f2f5f8", "#a3adb8"
COLOURS = ("#3d8bfd", "#ff9f1c", "#22d3ee", "#ff4d6d", "#b57bff", "#f7f052", "#6bd425")  # of the classes from 1
PLANES = (0, 2)  # sagittal and axial: the axis that a slice lies across
FILE_ZOOM = 1.2  # a turned brain reaches farther than an upright one
CELL, CELL_GAP, ROW_GAP = 3.9, 0.3, 0.5  # inches, as are those below
ABOVE, BELOW, LEFT, RIGHT = 1.2, 2.1, 2.0, 0.15
NOTE_CHARACTERS = 190


def draw_brain(
    posed: Mapping[str, PosedBrain],
    answers: Mapping[str, Mapping[str, Answer]],
    names: Mapping[str, str],
    notes: Sequence[str],
    path: Path,
) -> Path:
    """Write a PNG: a column for each pose; above the file, below what each network finds, brought back.

    The slices are those that show most of all structures in the first network's upright answer.

    Args:
        posed, answers: of :func:`brain_poses.write_poses` and :func:`brain_poses.segment_poses`.
        names: of the rows, by network.
        notes: lines at the foot.
        path: the PNG to write.
    """
    upright = next(iter(posed.values())).image
    reference = next(iter(next(iter(answers.values())).values())).label
    slices = {axis: fullest_slice(reference, axis) for axis in PLANES}
    shapes = [upright.take(0, axis).shape for axis in PLANES]
    heights = [CELL * max(shape[1] for shape in shapes) / sum(shape[0] for shape in shapes)] * (1 + len(answers))
    width = LEFT + (CELL + CELL_GAP) * len(posed) - CELL_GAP + RIGHT
    height = ABOVE + sum(heights) + ROW_GAP * len(heights) + BELOW
    figure = Figure(figsize=(width, height), facecolor=NIGHT)

    def write(x: float, y: float, text: str, **style: Any) -> None:  # in inches from the top left
        figure.text(x / width, 1 - y / height, text, **{"color": LIGHT, "ha": "center", "va": "center", **style})

    def panels(row: int, column: int) -> list[Axes]:
        top = ABOVE + sum(heights[:row]) + ROW_GAP * row
        left = LEFT + column * (CELL + CELL_GAP)
        made = []
        for shape in shapes:
            own = CELL * shape[0] / sum(shape[0] for shape in shapes)
            made.append(
                figure.add_axes((left / width, 1 - (top + heights[row]) / height, own / width, heights[row] / height))
            )
            left += own
        return made

    write(width / 2, 0.4, "One brain, three poses, two networks", size=22, weight="bold")
    for column, (pose, brain) in enumerate(posed.items()):
        middle = LEFT + column * (CELL + CELL_GAP) + CELL / 2
        write(middle, 0.95, brain.title, size=16)
        for panel, axis, shape in zip(panels(0, column), PLANES, shapes, strict=True):
            show_slice(panel, brain.image, brain.image.shape[axis] // 2, axis, [FILE_ZOOM * side for side in shape])
        for row, network in enumerate(answers, 1):
            answer = answers[network][pose]
            for panel, axis, shape in zip(panels(row, column), PLANES, shapes, strict=True):
                show_slice(panel, upright, slices[axis], axis, shape)
                colour_classes(panel, answer.label.take(slices[axis], axis))
            below = ABOVE + sum(heights[: row + 1]) + ROW_GAP * row + 0.2
            if column == 0:
                write(middle, below, "its answer upright", size=11, color=DIM)
            else:
                write(middle, below, f"agreement with upright {np.nanmean(answer.dice):.2f}", size=14, weight="bold")
    for row, name in enumerate(["the file,\nas it lies", *(names[network] for network in answers)]):
        middle = ABOVE + sum(heights[:row]) + ROW_GAP * row + heights[row] / 2
        write(0.15, middle, name, size=14, ha="left", linespacing=1.3)
    handles = [Patch(color=colour, label=name) for colour, name in zip(COLOURS, CLASS_NAMES, strict=True)]
    figure.legend(
        handles=handles, loc="center", bbox_to_anchor=((LEFT + (width - RIGHT)) / 2 / width, (BELOW - 0.25) / height),
        ncols=len(handles), frameon=False, labelcolor=LIGHT, fontsize=12, handlelength=1.2, handleheight=1.2,
    )  # fmt: skip
    lines = [line for note in notes for line in textwrap.wrap(note, NOTE_CHARACTERS)]
    write(0.15, height - 0.12, "\n".join(lines), ha="left", va="bottom", color=DIM, size=10, linespacing=1.45)
    return save_figure(figure, path)


def fullest_slice(label: np.ndarray, axis: int) -> int:
    """The index along an axis at which most classes of a map (X, Y, Z) show most of themselves."""
    others = tuple(other for other in range(3) if other != axis)
    areas = np.stack([(label == value).sum(others) for value in range(1, len(CLASS_NAMES) + 1)])
    shares = areas / np.maximum(areas.max(1, keepdims=True), 1)
    return int(np.sqrt(shares).sum(0).argmax())


def show_slice(panel: Axes, volume: np.ndarray, index: int, axis: int, window: Sequence[float]) -> None:
    """Draw a slice of a volume (X, Y, Z) through a window (width, height), in voxels, about what it shows."""
    image, dark = volume.take(index, axis).T, volume.min()
    bright = np.percentile(volume[volume > dark], 99.8)
    panel.imshow(np.ma.masked_less_equal(image, dark), cmap="gray", vmin=dark, vmax=bright, origin="lower")
    for limits, side, shown in zip(
        (panel.set_xlim, panel.set_ylim), window, (image.shape[1], image.shape[0]), strict=True
    ):
        limits((shown - 1 - side) / 2, (shown - 1 + side) / 2)
    panel.set_axis_off()


def colour_classes(panel: Axes, label: np.ndarray) -> None:
    """Fill the classes of a slice (X, Y), each within its outline."""
    for value, colour in enumerate(COLOURS, 1):
        if (mask := (label == value).T).any():
            panel.contourf(mask, levels=[0.5, 1.5], colors=[colour], alpha=0.72)
            panel.contour(mask, levels=[0.5], colors=[colour], linewidths=1)
