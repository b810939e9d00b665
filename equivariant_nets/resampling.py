"""Halving and doubling of the voxel grid, for every family of features.

An axis of n points is halved to m = ceil(n / 2) points that lie symmetrically about its centre: between two voxels
where n is even (0.5, 2.5, ...), on every second voxel where n is odd (0, 2, ...). Down- and upsampling along an axis
are an (m, n) and an (n, m) matrix on that grid, so both commute with every symmetry of the lattice at every size,
and, being linear and alike for all channels, with every representation that the channels carry.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

__all__ = ["LINEAR_DOWNSAMPLINGS", "Downsample", "Upsample", "max_pool_windows"]

# Window weights at the distances 0, 1/2, 1, 3/2 and 2 voxels from the centre of a coarse voxel. `blur` is [1 3 3 1] on
# even axes and [1 8 14 8 1] on odd ones: both remove the Nyquist frequency and both have variance 3/4, so that a
# volume of mixed sizes is blurred alike along each axis. `average` is [1 1] and [1 2 1].
LINEAR_DOWNSAMPLINGS = {"blur": (14.0, 12.0, 8.0, 4.0, 1.0), "average": (2.0, 2.0, 1.0, 0.0, 0.0)}
LINEAR_INTERPOLATION = (4.0, 3.0, 2.0, 1.0, 0.0)  # a tent that reaches zero at the neighbouring coarse voxel


@functools.lru_cache(maxsize=512)
def _window_matrix(size: int, window: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Window weights, of shape (ceil(size / 2), size), of each fine voxel for each coarse voxel."""
    fine = 2 * torch.arange(size)  # in half voxels, so that all distances are integers
    coarse = 4 * torch.arange((size + 1) // 2) + (1 if size % 2 == 0 else 0)
    half_voxels = (fine - coarse[:, None]).abs().clamp(max=len(window))
    return torch.tensor((*window, 0.0), device=device, dtype=dtype)[half_voxels.to(device)]


def _along_axis(matrix: Tensor, x: Tensor, axis: int) -> Tensor:
    """Multiply one axis of x by a matrix, as matrix products on views of x in either memory format."""
    if x.dim() == 5 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last_3d):
        return _along_axis(matrix, x.permute(0, 2, 3, 4, 1), axis - 1).permute(0, 4, 1, 2, 3)
    if axis == x.dim() - 1:
        return x @ matrix.T
    shape = (*x.shape[:axis], matrix.shape[0], *x.shape[axis + 1 :])
    return (matrix @ x.reshape(*x.shape[: axis + 1], -1)).reshape(shape)


class Downsample(nn.Module):
    """Halve every spatial axis with a linear window.

    Args:
        window: ``blur`` (binomial, anti-aliased) or ``average``.

    Shape: ``(B, C, *spatial)`` to ``(B, C, *[ceil(n / 2) for n in spatial])``. At the border, a window is cut and its
    weights are normalised, so that constants stay constant.
    """

    def __init__(self, window: str = "blur") -> None:
        super().__init__()
        if window not in LINEAR_DOWNSAMPLINGS:
            raise ValueError(f"window={window!r} is not a linear downsampling; choose from {[*LINEAR_DOWNSAMPLINGS]}.")
        self.window = window

    def forward(self, x: Tensor) -> Tensor:
        for axis in reversed(range(2, x.dim())):
            weights = _window_matrix(x.shape[axis], LINEAR_DOWNSAMPLINGS[self.window], x.device, x.dtype)
            x = _along_axis(weights / weights.sum(1, keepdim=True), x, axis)
        return x

    def extra_repr(self) -> str:
        return self.window


class Upsample(nn.Module):
    """Linear interpolation back to the size that an axis had before it was halved.

    Shape: ``(B, C, *[ceil(n / 2) for n in size])`` and ``size`` to ``(B, C, *size)``.
    """

    def forward(self, x: Tensor, size: tuple[int, ...] | torch.Size) -> Tensor:
        for axis, fine in enumerate(size, start=2):
            weights = _window_matrix(fine, LINEAR_INTERPOLATION, x.device, x.dtype).T
            x = _along_axis(weights / weights.sum(1, keepdim=True), x, axis)
        return x


def max_pool_windows(size: tuple[int, ...] | torch.Size) -> tuple[list[int], list[int], list[int]]:
    """Kernel size, stride and padding of a ``max_pool3d`` or ``max_pool2d`` that halves each axis symmetrically:
    windows of 2 on an even axis, of 3, centred on every second voxel, on an odd one."""
    return [2 + n % 2 for n in size], [2 for _ in size], [n % 2 for n in size]
