"""The axes along which nnU-Net mirrors: those whose mirror images a network does not know from its group."""

from __future__ import annotations

import itertools

from equivariant_nets.nnunet.networks import NNUNetConvention

__all__ = ["mirror_axes"]


def mirror_axes(network: NNUNetConvention) -> tuple[int, ...]:
    """The fewest axes whose mirror images, with what the group of a network gives, are those of all axes.

    nnU-Net averages a prediction over all mirror images along these axes, 2 to the power of their number. What is left
    out gives outputs that are the same but for rounding, so that the average is that over the mirror images along all
    axes: one axis under the rotations of space, none under the reflections too.

    Args:
        network: one of :mod:`equivariant_nets.nnunet`.

    Returns:
        spatial axes, from 0; those of the first few among choices of the same number.

    Example:
        >>> from equivariant_nets.nnunet import RegularUNet
        >>> from equivariant_nets.nnunet.mirroring import mirror_axes
        >>> [mirror_axes(RegularUNet(1, 2, [[1, 1], [2, 2]], group=group, features=1)) for group in ("C1", "C4", "D4")]
        [(0, 1), (0,), ()]
    """
    axes = range(network.spatial_dims)
    flips = [frozenset(chosen) for count in range(len(axes) + 1) for chosen in itertools.combinations(axes, count)]
    known = [flip for flip in flips if network.keeps([-1 if axis in flip else 1 for axis in axes])]
    return next(
        tuple(sorted(chosen))
        for chosen in flips  # fewest first
        if {made ^ one for made in flips if made <= chosen for one in known} == set(flips)
    )
