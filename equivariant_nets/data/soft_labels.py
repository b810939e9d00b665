"""Soft labels: at each voxel a number of every class, as where indicators of the classes are interpolated."""

from __future__ import annotations

import torch

from equivariant_nets.types import VolumeOfAnyType

__all__ = ["rest_is_background"]


def rest_is_background(label: VolumeOfAnyType) -> VolumeOfAnyType:
    """Soft labels whose first class, the background, is what the others leave: for ``Lambdad``.

    Padding and turns fill all classes with 0 beyond the volume; there it becomes 1.

    Args:
        label: numbers from 0 to 1 of shape ``(classes, *spatial)``, the background first, which is not read.

    Example:
        >>> import torch
        >>> from equivariant_nets.data import rest_is_background
        >>> rest_is_background(torch.tensor([[0.0, 0.5], [0.0, 0.5]]))
        tensor([[1.0000, 0.5000],
                [0.0000, 0.5000]])
    """
    return torch.cat([1 - label[1:].sum(0, keepdim=True), label[1:]])
