"""The voxel lattice of each level of a U-Net: how far apart its voxels lie, and what a kernel covers of them.

A kernel has the same extent along every axis, in the unit of its level: the finest spacing of the input, doubled with
each level. Where an axis is coarser, the kernel has fewer taps along it, and the axis is halved only from the level on
where this does not make it coarser than the unit of the next one (MELBA 2024:010, section 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Lattice", "lattices", "num_taps"]

TOLERANCE = 1e-6


class Lattice(NamedTuple):
    """One level: the spacing of its voxels along each axis, in the unit of the level, and the axes that are halved on
    the way to the next one."""

    spacing: tuple[float, ...]
    halved: tuple[bool, ...]


def lattices(spacing: Sequence[float] | None, spatial_dims: int, depth: int) -> list[Lattice]:
    """The lattices of all levels, finest first.

    Args:
        spacing: of the voxels of the input along each axis, in mm or any other unit; alike along all axes if None.
        spatial_dims: number of axes.
        depth: number of halvings.

    Raises:
        ValueError: a spacing for another number of axes, or one that is not positive.
    """
    try:
        steps = [1.0] * spatial_dims if spacing is None else [float(step) for step in spacing]
    except (TypeError, ValueError):
        steps = []
    if len(steps) != spatial_dims or not all(step > 0 and math.isfinite(step) for step in steps):
        raise ValueError(
            f"spacing={spacing!r} is not a spacing: give {spatial_dims} positive numbers, one for each axis, in mm."
        )
    steps = [step / min(steps) for step in steps]
    levels = []
    for _ in range(depth + 1):
        halved = tuple(step <= 1 + TOLERANCE for step in steps)
        levels.append(Lattice(tuple(steps), halved))
        steps = [step if halve else step / 2 for step, halve in zip(steps, halved, strict=True)]
    return levels


def num_taps(kernel_size: int, spacing: Sequence[float]) -> tuple[int, ...]:
    """The taps along each axis of a kernel that covers ``kernel_size`` voxels of spacing 1: an odd number.

    Raises:
        ValueError: kernel_size is even, or below 1.
    """
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel_size={kernel_size} must be odd and positive, so that a kernel has a centre.")
    return tuple(2 * math.floor(kernel_size / 2 / step + TOLERANCE) + 1 for step in spacing)
