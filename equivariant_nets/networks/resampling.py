"""Halving and doubling of the voxel grid, for every family of features.

An axis of n points is halved to m = ceil(n / 2) points that lie symmetrically about its centre: between two voxels
where n is even (0.5, 2.5, ...), on every second voxel where n is odd (0, 2, ...). Down- and upsampling along an axis
are an (m, n) and an (n, m) matrix on that grid, so both commute with every symmetry of the lattice at every size,
and, being linear and alike for all channels, with every representation that the channels carry.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equivariant_nets.networks.materialize import PlainMaxPool, content_mask

__all__ = [
    "LINEAR_DOWNSAMPLINGS",
    "UPSAMPLINGS",
    "ContentDownsample",
    "ContentUpsample",
    "Downsample",
    "MaxPool",
    "Upsample",
    "max_pool_windows",
]

# Window weights at the distances 0, 1/2, 1, 3/2 and 2 voxels from the centre of a coarse voxel. `blur` is [1 3 3 1] on
# even axes and [1 8 14 8 1] on odd ones: both remove the Nyquist frequency and both have variance 3/4, so that a
# volume of mixed sizes is blurred alike along each axis. `average` is [1 1] and [1 2 1].
LINEAR_DOWNSAMPLINGS = {"blur": (14.0, 12.0, 8.0, 4.0, 1.0), "average": (2.0, 2.0, 1.0, 0.0, 0.0)}
MAX_POOLS = {2: F.max_pool2d, 3: F.max_pool3d}
# The same about a fine voxel, of coarse ones, which are 2 voxels apart: a tent that reaches zero at the next, and the
# cubic B-spline, 384 times, which reaches it at the next but one. Neither is negative; the spline smooths.
UPSAMPLINGS = {"linear": (4.0, 3.0, 2.0, 1.0, 0.0), "spline": (256.0, 235.0, 184.0, 121.0, 64.0, 27.0, 8.0, 1.0)}


def window_matrix(size: int, window: list[float], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Window weights, of shape (ceil(size / 2), size), of each fine voxel for each coarse voxel."""
    fine = 2 * torch.arange(size, device=device)  # in half voxels, so that all distances are integers
    coarse = 4 * torch.arange((size + 1) // 2, device=device) + (1 - size % 2)
    half_voxels = (fine - coarse[:, None]).abs().clamp(max=len(window))
    return torch.tensor(window + [0.0], device=device, dtype=dtype)[half_voxels]  # noqa: RUF005  TorchScript


def resampling_matrix(size: int, window: list[float], up: bool, device: torch.device, dtype: torch.dtype) -> Tensor:
    """What takes an axis of that size to its half, or back to it: window weights whose rows sum to 1."""
    weights = window_matrix(size, window, device, dtype)
    if up:
        weights = weights.transpose(0, 1)
    return weights / weights.sum(1, keepdim=True)


@functools.lru_cache(maxsize=512)
def _cached_matrix(size: int, window: tuple[float, ...], up: bool, device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # an inference tensor could never be trained with
        return resampling_matrix(size, list(window), up, device, dtype)


def _matrix(size: int, window: list[float], up: bool, x: Tensor) -> Tensor:
    # TorchScript has no caches, and sizes can be symbols in other compilers.
    if not torch.jit.is_scripting():  # noqa: SIM102
        if not (torch.compiler.is_compiling() or torch.jit.is_tracing()):
            return _cached_matrix(size, tuple(window), up, x.device, x.dtype)
    return resampling_matrix(size, window, up, x.device, x.dtype)


def along_axis(matrix: Tensor, x: Tensor, axis: int) -> Tensor:
    """Multiply one axis of x by a matrix."""
    if axis == x.dim() - 1:
        return x @ matrix.transpose(0, 1)
    return (matrix @ x.flatten(axis + 1)).unflatten(axis + 1, x.shape[axis + 1 :])


def _is_channels_last(x: Tensor) -> bool:
    return x.dim() == 5 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last_3d)


class Downsample(nn.Module):
    """Halve spatial axes with a linear window.

    Args:
        window: ``blur`` (binomial, anti-aliased) or ``average``.
        halved: for each spatial axis, whether it is halved.

    Shape: ``(B, C, *spatial)`` to ``(B, C, *[ceil(n / 2) for n in spatial])``. At the border, a window is cut and its
    weights are normalised, so that constants stay constant.
    """

    def __init__(self, window: str, halved: Sequence[bool]) -> None:
        super().__init__()
        if window not in LINEAR_DOWNSAMPLINGS:
            raise ValueError(f"window={window!r} is not a linear downsampling; choose from {[*LINEAR_DOWNSAMPLINGS]}.")
        self.window = window
        self.weights = list(LINEAR_DOWNSAMPLINGS[window])
        self.axes = [axis for axis, halve in reversed(list(enumerate(halved, start=2))) if halve]

    def forward(self, x: Tensor) -> Tensor:
        channels_last = _is_channels_last(x)
        if channels_last:  # the same products, on a view whose memory they can run through
            x = x.permute(0, 2, 3, 4, 1)
        for axis in self.axes:
            view_axis = axis - 1 if channels_last else axis
            x = along_axis(_matrix(x.shape[view_axis], self.weights, False, x), x, view_axis)
        return x.permute(0, 4, 1, 2, 3) if channels_last else x

    def extra_repr(self) -> str:
        return f"{self.window}, axes {self.axes}"


class Upsample(nn.Module):
    """Back to the size that axes had before they were halved.

    Args:
        halved: for each spatial axis, whether it was halved.
        window: ``linear`` interpolation, or the cubic ``spline``.

    Shape: ``(B, C, *[ceil(n / 2) for n in size])`` and ``size`` to ``(B, C, *size)``.
    """

    def __init__(self, halved: Sequence[bool], window: str = "linear") -> None:
        super().__init__()
        self.weights = list(UPSAMPLINGS[window])
        self.axes = [axis for axis, halve in enumerate(halved, start=2) if halve]

    def forward(self, x: Tensor, size: list[int]) -> Tensor:
        channels_last = _is_channels_last(x)
        if channels_last:
            x = x.permute(0, 2, 3, 4, 1)
        for axis in self.axes:
            x = along_axis(_matrix(size[axis - 2], self.weights, True, x), x, axis - 1 if channels_last else axis)
        return x.permute(0, 4, 1, 2, 3) if channels_last else x

    def extra_repr(self) -> str:
        window = next(name for name, weights in UPSAMPLINGS.items() if list(weights) == self.weights)
        return f"{window}, axes {self.axes}"


def over_content(resampled: Tensor, least: float) -> Tensor:
    """Features of which the last channel says how much of their window was content: their mean over this content, and
    0 where it is not more than a least share."""
    share = resampled[:, -1:]
    return torch.where(share > least, resampled[:, :-1] / share.clamp(min=least), torch.zeros_like(share))


class ContentDownsample(nn.Module):
    """:class:`Downsample` over the content, where not all channels are 0: windows are cut there as at the border of the
    canvas, and their weights are normalised. A third of a window is no content: one that is centred on the corner of a
    box has more, and one beside its face less.

    Args and shape: as for :class:`Downsample`.
    """

    def __init__(self, window: str, halved: Sequence[bool]) -> None:
        super().__init__()
        self.resample = Downsample(window, halved)

    def forward(self, x: Tensor) -> Tensor:
        return over_content(self.resample(torch.cat([x, content_mask(x)], 1)), 1 / 3)


class ContentUpsample(nn.Module):
    """:class:`Upsample` over the content, where not all channels are 0, as :class:`ContentDownsample`. Half a window is
    no content, as beside the face of a box; of a spline a bit more, for the border of the canvas may cut it there. At
    the corner of a box it is 0.58.

    Args and shape: as for :class:`Upsample`.
    """

    def __init__(self, halved: Sequence[bool], window: str = "linear") -> None:
        super().__init__()
        self.resample = Upsample(halved, window)

    def forward(self, x: Tensor, size: list[int]) -> Tensor:
        least = 0.5 if len(self.resample.weights) == 5 else 0.55  # of the tent
        return over_content(self.resample(torch.cat([x, content_mask(x)], 1), size), least)


def max_pool_windows(size: Sequence[int], halved: Sequence[bool]) -> tuple[list[int], list[int], list[int]]:
    """Kernel size, stride and padding of a ``max_pool3d`` or ``max_pool2d`` that halves axes symmetrically: windows of
    2 on an even axis, of 3, centred on every second voxel, on an odd one."""
    axes = list(zip(size, halved, strict=True))
    return [2 + n % 2 if h else 1 for n, h in axes], [1 + h for _, h in axes], [n % 2 if h else 0 for n, h in axes]


class MaxPool(nn.Module):
    """Halve spatial axes by the maximum of windows that lie symmetrically at every size.

    Args:
        channels: of the features.
        halved: for each spatial axis, whether it is halved.

    Shape: ``(B, C, *spatial)`` to ``(B, C, *[ceil(n / 2) for n in spatial])``, in 2-D and 3-D.
    """

    def __init__(self, channels: int, halved: Sequence[bool]) -> None:
        super().__init__()
        self.channels = channels
        self.halved = tuple(halved)

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_exporting() or torch.jit.is_tracing():
            return self.materialize()(x)
        return MAX_POOLS[x.dim() - 2](x, *max_pool_windows(x.shape[2:], self.halved))

    def materialize(self) -> nn.Module:
        """The same without a window that depends on the size."""
        return PlainMaxPool([(self.channels, 0)], self.halved)
