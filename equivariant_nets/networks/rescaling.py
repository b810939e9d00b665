"""Resampling by a rational factor about the centre of a volume, for every family of features.

Points of the new grid lie 1 / factor apart, symmetrically about the centre of the old one, whatever the sizes are: the
centre stays the centre, and a voxel at x from it comes to lie at factor * x. So rescaling commutes with every symmetry
of the lattice, and the way back by the inverse factor takes each voxel to where it was. Interpolation is linear, and
anti-aliased where the new grid is coarser: the tent is then as wide as the new voxels.
"""

from __future__ import annotations

import functools
from fractions import Fraction

import torch
from torch import Tensor, nn

from equivariant_nets.networks.resampling import along_axis

__all__ = ["Rescale", "rescaled_size"]


def rescaled_size(size: int, up: int, down: int) -> int:
    """Of an axis, times up / down, rounded."""
    return (2 * size * up + down) // (2 * down)


def rescaling_matrix(size: int, new_size: int, up: int, down: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """What takes an axis of a size to a new one whose points lie down / up voxels apart: ``(new_size, size)``, rows of
    sum 1. Beyond the border, the last voxel goes on."""
    unit = 2 * up  # to a voxel, so that all places are whole numbers
    old = unit * torch.arange(size, device=device)
    new = (2 * torch.arange(new_size, device=device) - (new_size - 1)) * down + (size - 1) * up
    distance = (old - torch.minimum(new.clamp(min=0), old[-1]).unsqueeze(1)).abs()
    weights = (2 * max(up, down) - distance).clamp(min=0).to(dtype)
    return weights / weights.sum(1, keepdim=True)


@functools.lru_cache(maxsize=512)
def _cached_matrix(size: int, new_size: int, up: int, down: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # an inference tensor could never be trained with
        return rescaling_matrix(size, new_size, up, down, device, dtype)


def _matrix(size: int, new_size: int, up: int, down: int, x: Tensor) -> Tensor:
    # TorchScript has no caches, and sizes can be symbols in other compilers.
    if not torch.jit.is_scripting():  # noqa: SIM102
        if not (torch.compiler.is_compiling() or torch.jit.is_tracing()):
            return _cached_matrix(size, new_size, up, down, x.device, x.dtype)
    return rescaling_matrix(size, new_size, up, down, x.device, x.dtype)


class Rescale(nn.Module):
    """Enlarge or reduce all that lies on a grid by a factor, about its centre.

    Args:
        factor: above 1 to enlarge, which makes the grid finer.

    Shape: ``(B, C, *spatial)`` and a size to ``(B, C, *size)``: any, of which :func:`rescaled_size` covers all.
    """

    def __init__(self, factor: Fraction) -> None:
        super().__init__()
        self.up, self.down = factor.numerator, factor.denominator

    def forward(self, x: Tensor, size: list[int]) -> Tensor:
        for axis in range(2, x.dim()):
            x = along_axis(_matrix(x.shape[axis], size[axis - 2], self.up, self.down, x), x, axis)
        return x

    def extra_repr(self) -> str:
        return f"{self.up}/{self.down}"
