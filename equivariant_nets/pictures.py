"""Pictures of label maps over the images that they belong to."""

from __future__ import annotations

from equivariant_nets import bundles_extra  # noqa: F401

# isort: split

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps, font_manager
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure  # not of pyplot, which would choose a backend for the user's own figures
from matplotlib.patches import Patch
from monai.utils import convert_to_numpy
from torch import Tensor

__all__ = ["label_centre", "photograph_with_labels", "save_figure", "show_plane", "three_planes", "volume_with_labels"]


# Of the classes from 1; from the 21st on they begin anew.
LABEL_COLOURS = ListedColormap([*colormaps["tab10"].colors, *colormaps["tab20"].colors[1::2]])  # type: ignore[attr-defined]
_PLANES = ("sagittal", "coronal", "axial")  # across the first, second and third axis, to the right, to the front and up
_SIDES = (("P", "A"), ("L", "R"), ("L", "R"))  # at the left and the right of each plane
_MM3_PER_ML = 1000.0
_FONT = "DejaVu Sans"  # which comes with matplotlib
_PLACEHOLDERS = "Last Resort High-Efficiency"  # a font that has every character, as a box


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
    volume = convert_to_numpy(image, dtype=float)
    maps = [convert_to_numpy(label).astype(int) for _, label in labels]
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
    panel.imshow(
        (overlay - 1) % LABEL_COLOURS.N, cmap=LABEL_COLOURS, vmin=0, vmax=LABEL_COLOURS.N - 1, alpha=0.6, **style
    )
    panel.set_aspect(up / across)
    panel.set_axis_off()


def volume_with_labels(
    image: Tensor | np.ndarray,
    label: Tensor | np.ndarray,
    path: str | Path,
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
    class_names: Sequence[str] | None = None,
    title: str = "",
) -> Path:
    """Write a PNG: an image in three planes, below it the same with a label map laid over it, and what was found.

    Args:
        image: ``(D, H, W)``, with the axes to the right, to the front and up.
        label: integers ``(D, H, W)``; the planes go through the middle of its foreground.
        path: the PNG to write.
        spacing_mm: between voxels along D, H and W.
        class_names: of the classes from 1; None numbers them.
        title: such as the name of the case, in any script.
    """
    volume, classes = convert_to_numpy(image, dtype=float), convert_to_numpy(label).astype(int)
    centre = label_centre(classes)
    figure = Figure(figsize=(9, 7.2))
    axes = figure.subplots(2, 3, squeeze=False)
    for row, overlay in enumerate((np.zeros_like(classes), classes)):
        for axis, (plane, sides) in enumerate(zip(_PLANES, _SIDES, strict=True)):
            panel = axes[row, axis]
            show_plane(panel, volume, overlay, axis, centre[axis], spacing_mm)
            if row == 0:
                panel.set_title(plane)
            for place, side in zip((0.02, 0.98), sides, strict=True):
                style: dict[str, Any] = {"ha": "left" if place < 0.5 else "right", "va": "center", "color": "yellow"}
                panel.text(place, 0.5, side, transform=panel.transAxes, **style)
    text, family = _drawable(title)
    figure.suptitle(text, family=family, parse_math=False)
    voxel_ml = float(np.prod(np.asarray(spacing_mm, dtype=float))) / _MM3_PER_ML
    counts = np.bincount(classes[classes > 0])
    if counts.any():
        values = range(1, max(len(counts), len(class_names or ()) + 1))
        lines = [_found(value, counts, voxel_ml, class_names) for value in values]
        colours = [LABEL_COLOURS((value - 1) % LABEL_COLOURS.N) for value in values]
        handles = [Patch(color=colour, label=line) for colour, line in zip(colours, lines, strict=True)]
        figure.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.08), ncols=2, frameon=False)
    else:
        figure.text(0.5, 0.05, "Nothing was found: no voxel is labelled.", ha="center")
    return save_figure(figure, path)


def _found(value: int, counts: np.ndarray, voxel_ml: float, class_names: Sequence[str] | None) -> str:
    """A line of the legend: a class, and how much of it there is."""
    name = class_names[value - 1] if class_names and value <= len(class_names) else f"class {value}"
    count = int(counts[value]) if value < len(counts) else 0
    return f"{name}: {count} voxels, {count * voxel_ml:.3g} mL" if count else f"{name}: nothing found"


def _drawable(text: str) -> tuple[str, list[str]]:
    """A text and the fonts that have its characters; characters that no installed font has become their numbers."""
    fonts, missing = _fonts_of(frozenset(text))
    shown = (char.encode("ascii", "backslashreplace").decode() if char in missing else char for char in text)
    return "".join(shown), [_FONT, *fonts]


@cache
def _fonts_of(characters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Fonts that have, with matplotlib's own, these characters; and those characters that none has."""
    missing = {char for char in characters if ord(char) not in _characters(font_manager.findfont(_FONT))}
    names = []
    for font in font_manager.fontManager.ttflist if missing else ():
        known = _characters(font.fname)
        if font.name != _PLACEHOLDERS and any(ord(char) in known for char in missing):
            names.append(font.name)
            missing = {char for char in missing if ord(char) not in known}
    return tuple(names), frozenset(missing)


def _characters(font_file: str) -> dict[int, int]:
    return dict(font_manager.get_font(font_file).get_charmap())


def photograph_with_labels(image: Tensor | np.ndarray, label: Tensor | np.ndarray, path: str | Path) -> Path:
    """Write a PNG: a colour photograph, and beside it the same with a label map laid over it.

    Args:
        image: ``(3, W, H)``, values from 0 to 255.
        label: ``(W, H)``; what is above 0 is drawn.
        path: the PNG to write.
    """
    colours = convert_to_numpy(image, dtype=float).T.clip(0, 255) / 255
    foreground = convert_to_numpy(label).T > 0
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
