"""Spacing, patch and batch for a network, from those that nnU-Net chose for its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from equivariant_nets.nnunet.memory import training_bytes
from equivariant_nets.nnunet.networks import NNUNetConvention

__all__ = ["NEARLY_EQUAL", "Fit", "evened_spacing", "fitted", "padded_patch"]

NEARLY_EQUAL = 0.8  # ratio from which on spacings of two axes count as equal
FEWEST_PATCHES = 2  # of a batch, as in nnU-Net


class Fit(NamedTuple):
    """A patch, the number of them in a batch, and the bytes that a training step takes."""

    patch: tuple[int, ...]
    batch: int
    needed_bytes: int


def evened_spacing(spacing: Sequence[float]) -> list[float] | None:
    """A spacing with its nearly equal axes made equal, at their geometric mean; None where all are.

    A network halves an axis only when its spacing is due: of two axes of 0.78 and 0.80 mm it would halve one alone.

    Args:
        spacing: of the voxels along each axis, in mm.

    Example:
        >>> from equivariant_nets.nnunet.sizes import evened_spacing
        >>> evened_spacing([1.0, 0.9, 1.0]), evened_spacing([5.0, 0.78, 0.8])
        (None, [5.0, 0.7899, 0.7899])
    """
    order = sorted(range(len(spacing)), key=lambda axis: spacing[axis])
    groups = [[order[0]]]
    for axis in order[1:]:
        if spacing[groups[-1][0]] >= NEARLY_EQUAL * spacing[axis]:
            groups[-1].append(axis)
        else:
            groups.append([axis])
    if len(groups) == 1:
        return None
    means = {axis: math.prod(spacing[one] for one in group) ** (1 / len(group)) for group in groups for axis in group}
    return [round(means[axis], 4) for axis in range(len(spacing))]


def padded_patch(patch: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The smallest patch, not smaller than the given one, that all halvings divide."""
    factors = _factors(strides)
    return tuple(math.ceil(size / factor) * factor for size, factor in zip(patch, factors, strict=True))


def _factors(strides: Sequence[Sequence[int]]) -> list[int]:
    """By what all halvings together divide each axis."""
    return [math.prod(along) for along in zip(*strides, strict=True)]


def fitted(
    network: NNUNetConvention,
    strides: Sequence[Sequence[int]],
    patch: Sequence[int],
    batch: int,
    median_shape: Sequence[float],
    budget_bytes: int,
) -> Fit:
    """The largest patch, and then the largest batch of it, whose training step fits, up to those given.

    As in nnU-Net, the patch loses voxels along the axis on which it covers most of an image, until a batch of 2 fits.

    Args:
        network: whose memory counts.
        strides: of its levels.
        patch: the largest that is wanted, which is padded for the halvings.
        batch: the largest that is wanted.
        median_shape: of the images, in voxels.
        budget_bytes: what a training step may take.

    Raises:
        ValueError: no patch fits.
    """
    factors = _factors(strides)
    size = list(padded_patch(patch, strides))
    while (needed := training_bytes(network, FEWEST_PATCHES, size)) > budget_bytes:
        axes = [axis for axis in range(len(size)) if size[axis] > 2 * factors[axis]]
        if not axes:
            raise ValueError(
                f"A batch of {FEWEST_PATCHES} patches of {' x '.join(map(str, size))} voxels, the smallest, needs "
                f"{needed / 1e9:.3g} GB, and {budget_bytes / 1e9:.3g} GB are given. Give a larger --gpu_memory_gb, or "
                "fewer --features."
            )
        largest = max(axes, key=lambda axis: size[axis] / median_shape[axis])
        size[largest] -= factors[largest]
    fits, too_many = FEWEST_PATCHES, max(batch, FEWEST_PATCHES) + 1
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if (more := training_bytes(network, middle, size)) <= budget_bytes:
            fits, needed = middle, more
        else:
            too_many = middle
    return Fit(tuple(size), fits, needed)
