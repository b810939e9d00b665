"""What all families with constrained kernels share: rings, the inputs that kernels are normalised for, and a
convolution whose dense kernel is assembled from a few weights."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equivariant_nets.networks.materialize import plain_convolution
from equivariant_nets.networks.precision import autocast_off
from equivariant_nets.types import ChannelBias, Features, FeaturesOut, Kernel, Taps

__all__ = ["SHARE_OF_MEAN", "AssembledConvolution", "gaussian_ring", "tap_correlation"]

RING_SIGMA = 0.6  # voxels: narrower rings alias, wider ones blur into each other
# The inputs for which kernels are normalised: correlated over this many voxels, as images and pooled features are, with
# the mean that a ReLU leaves in scalars (1/pi of its second moment). On white noise of mean 0, kernels of l = 0 would
# seem weak, and in a network their outputs would grow from layer to layer.
CORRELATION_LENGTH = 1.0
SHARE_OF_MEAN = 1 / math.pi

CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {2: F.conv2d, 3: F.conv3d}


def gaussian_ring(radius: Taps, ring: int, reach: float) -> Taps:
    """A Gaussian of width RING_SIGMA at an integer radius; ring 0 is a delta at the centre.

    The taps are cut to a ball of radius ``reach``: the corners of their cube would continue the outermost ring along
    the diagonals alone, which multiplies that ring's error under a free turn by 2 to 13 on smooth images.
    """
    if ring == 0:
        return (radius == 0).to(radius)
    return (radius < reach) * torch.exp(-((radius - ring) ** 2) / (2 * RING_SIGMA**2))


def tap_correlation(axes: Sequence[Tensor], share_of_mean: float) -> Tensor:
    """E[f(x) f(y)] between the n taps of a kernel, (n, n), for the inputs that kernels are normalised for.

    Args:
        axes: coordinates of the taps along each axis.
        share_of_mean: of the second moment of f, what its mean makes.
    """
    lines = [torch.exp(-((axis - axis[:, None]) ** 2) / (2 * CORRELATION_LENGTH**2)) for axis in axes]
    return share_of_mean + (1 - share_of_mean) * functools.reduce(torch.kron, lines)


class AssembledConvolution(nn.Module):
    """A convolution of 2-D or 3-D features whose dense kernel is a function of its weights, with zeros outside.

    Args:
        weight: what the kernel is assembled from.
        bias: learned constants, or None.
        taps: of the kernel along each axis, odd.
        groups: of channels that are convolved apart from each other.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, taps: Sequence[int], groups: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = None if bias is None else nn.Parameter(bias)
        self.taps = tuple(taps)
        self.groups = groups
        self._cached: tuple[Tensor, Tensor] | None = None

    def kernel(self) -> Kernel:
        """The dense kernel, ``(C_out, C_in / groups, *taps)``, differentiable in the weights."""
        raise NotImplementedError

    def dense_bias(self) -> ChannelBias | None:
        """The bias of each channel, ``(C_out,)``."""
        raise NotImplementedError

    def _kernel_for_call(self) -> Tensor:
        """Assemble the kernel, or take that of the last call where no gradient is asked for and no weight changed.

        The weights themselves are compared: version counters miss what is written through ``.data``. Weights that are
        no parameters are put in place for one call, and may be those of a transform, which have no values."""
        recorded = torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing()
        if recorded or self.weight.is_meta or not isinstance(self.weight, nn.Parameter):
            self._cached = None
            return self.kernel()
        if self._cached is None or not _same(self._cached[0], self.weight):
            self._cached = (self.weight.detach().clone(), self.kernel())
        return self._cached[1]

    def forward(self, x: Features) -> FeaturesOut:
        with autocast_off(x):
            kernel = self._kernel_for_call()
        padding = [taps // 2 for taps in self.taps]
        return CONVOLUTIONS[len(self.taps)](x, kernel, self.dense_bias(), padding=padding, groups=self.groups)

    def materialize(self) -> nn.Module:
        """The plain convolution with the same kernel."""
        bias = self.dense_bias()
        return plain_convolution(self.kernel().detach(), None if bias is None else bias.detach(), self.groups)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_cached": None}  # type: ignore[misc]


def _same(a: Tensor, b: Tensor) -> bool:
    return a.device == b.device and a.dtype == b.dtype and torch.equal(a, b)
