"""Pictures of label maps over the images that they belong to."""

from __future__ import annotations

from equivariant_nets import bundles_extra  # noqa: F401

# isort: split

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure  # not of pyplot, which would choose a backend for the user's own figures
from torch import Tensor

__all__ = ["label_centre", "photograph_with_labels", "save_figure", "show_plane", "three_planes"]


LABEL_COLOURS = "tab10"


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
