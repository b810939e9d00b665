"""Normalization of steerable features."""

from __future__ import annotations

from typing import Any

import torch
from e3nn import o3
from torch import Tensor, nn

from equivariant_nets.networks.constants import Constant
from equivariant_nets.networks.content import OverContent
from equivariant_nets.networks.materialize import (
    PlainAffine,
    PlainContentNorm,
    PlainInstanceNorm,
    content_moments,
    moments,
)
from equivariant_nets.networks.precision import autocast_off, widened
from equivariant_nets.networks.steerable.irreps import (
    average_of_irrep,
    irrep_of_channel,
    is_scalar_channel,
    num_scalars,
)
from equivariant_nets.types import ChannelMap, Features

__all__ = ["BatchNorm", "ContentNorm", "InstanceNorm"]


class _Norm(nn.Module):
    """Scale every irrep to unit root mean square, with a learned factor; centre 0e, with a learned bias.

    For an irrep with components x_m,
    y_m = weight * (x_m - mean_m) / sqrt(average over space and m of (x_m - mean_m)^2 + eps),
    where the mean is that of the voxels for 0e and 0 otherwise: no other irrep has an invariant constant to subtract.
    Statistics are float32 at least; the output has the type of the input.
    """

    def __init__(self, irreps: o3.Irreps, eps: float = 1e-5) -> None:
        super().__init__()
        self.irreps = irreps
        self.eps = eps
        self._irrep_of_channel = Constant(irrep_of_channel, irreps)
        self._is_scalar = Constant(is_scalar_channel, irreps)
        self._average = Constant(average_of_irrep, irreps)
        self.weight = nn.Parameter(torch.ones(irreps.num_irreps))
        self.bias = nn.Parameter(torch.zeros(num_scalars(irreps)))

    def affine(self, x: Features) -> tuple[ChannelMap, ChannelMap]:
        """The normalization of x as a map of its channels: scale and shift, ``(B or 1, irreps.dim)``."""
        raise NotImplementedError

    def _affine(self, mean: Tensor, square: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift for the moments (B or 1, C) and (B or 1, irreps)."""
        weight, bias = self._affine_of_channels()
        scale = weight * torch.rsqrt(square + self.eps)[:, self._irrep_of_channel.like(square)]
        return scale, bias - mean * scale

    def _affine_of_channels(self) -> tuple[Tensor, Tensor]:
        """The learned weight and bias of each channel, ``(C,)``."""
        weight, bias = widened(self.weight), widened(self.bias)
        is_scalar = self._is_scalar.like(bias)
        zeros = torch.zeros_like(is_scalar, dtype=bias.dtype)
        return weight[self._irrep_of_channel.like(weight)], zeros.masked_scatter(is_scalar, bias)

    def _moments(self, x: Tensor, over_batch: bool) -> tuple[Tensor, Tensor]:
        """Mean by channel (0 but for 0e) and mean square about it by irrep, over the voxels."""
        axes = [0, *range(2, x.dim())] if over_batch else list(range(2, x.dim()))
        dtype = torch.promote_types(self.weight.dtype, torch.float32)
        is_scalar = self._is_scalar.like(x)
        if torch.compiler.is_exporting() or torch.jit.is_tracing():  # an autograd function would fix the sizes
            mean, square = moments(x.to(dtype), is_scalar, axes)
        else:
            mean, square = _Moments.apply(x, is_scalar, axes, dtype)
        mean, square = mean.view(-1, x.shape[1]), square.view(-1, x.shape[1])
        return mean, square @ self._average.like(square)

    def forward(self, x: Features) -> Features:
        with autocast_off(x):
            scale, shift = (values.reshape(*values.shape, *[1] * (x.dim() - 2)) for values in self.affine(x))
            return torch.addcmul(shift, x.to(scale.dtype), scale).to(x.dtype)

    def extra_repr(self) -> str:
        return str(self.irreps)


class InstanceNorm(_Norm):
    """Normalization with the statistics of each sample: the formula of the base class, over the voxels of a sample.

    Args:
        irreps: channels of the features.
        eps: added to the mean square.

    Shape: ``(B, irreps.dim, D, H, W)`` to the same.
    """

    def affine(self, x: Features) -> tuple[ChannelMap, ChannelMap]:
        return self._affine(*self._moments(x, over_batch=False))

    def materialize(self) -> PlainInstanceNorm:
        """The same as plain tensor operations."""
        weight, bias = (values.detach().to(self.weight.dtype) for values in self._affine_of_channels())
        over_components = self._average.like(weight)[:, self._irrep_of_channel.like(weight)]
        return PlainInstanceNorm(weight, bias, self._is_scalar.like(weight), over_components, self.eps)


class ContentNorm(_Norm, OverContent):
    """Normalization with the statistics of the content of each sample, the voxels of a mask; 0 outside.

    Where the mask holds all voxels, it is :class:`InstanceNorm`, and weights of one fit the other.

    Args:
        irreps: channels of the features.
        eps: added to the mean square.

    Shape: ``(B, irreps.dim, D, H, W)`` and the mask ``(B, 1, D, H, W)``, 1 in the content and 0 outside, to the
    features.
    """

    def affine(self, x: Tensor, content: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        wide = x.to(torch.promote_types(self.weight.dtype, torch.float32))
        mean, square = content_moments(wide, content, self._is_scalar.like(x))
        return self._affine(mean, square @ self._average.like(square))

    def forward(self, x: Tensor, content: Tensor) -> Tensor:  # type: ignore[override]
        with autocast_off(x):
            scale, shift = (values.reshape(*values.shape, *[1] * (x.dim() - 2)) for values in self.affine(x, content))
            return torch.addcmul(shift, x.to(scale.dtype), scale).to(x.dtype) * content.to(x.dtype)

    def materialize(self) -> PlainContentNorm:
        """The same as plain tensor operations."""
        weight, bias = (values.detach().to(self.weight.dtype) for values in self._affine_of_channels())
        over_components = self._average.like(weight)[:, self._irrep_of_channel.like(weight)]
        return PlainContentNorm(weight, bias, self._is_scalar.like(weight), over_components, self.eps)


class BatchNorm(_Norm):
    """Normalization with the statistics of the batch in training, and with their running averages in evaluation.

    Args:
        irreps: channels of the features.
        eps: added to the mean square.
        momentum: the share of a batch in the running statistics.

    Shape: ``(B, irreps.dim, D, H, W)`` to the same.

    In training on several processes, each takes the statistics of its own part of the batch, and
    ``torch.nn.SyncBatchNorm.convert_sync_batchnorm`` leaves this layer as it is: take ``InstanceNorm``, or parts that
    are large enough.
    """

    running_mean: Tensor
    running_square: Tensor

    def __init__(self, irreps: o3.Irreps, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(irreps, eps)
        self.momentum = momentum
        self.register_buffer("running_mean", torch.zeros(irreps.dim))
        self.register_buffer("running_square", torch.ones(irreps.num_irreps))

    def affine(self, x: Features) -> tuple[ChannelMap, ChannelMap]:
        if not self.training:
            return self._affine(widened(self.running_mean[None]), widened(self.running_square[None]))
        mean, square = self._moments(x, over_batch=True)
        with torch.no_grad():
            for running, batch in ((self.running_mean, mean), (self.running_square, square)):
                running.lerp_(batch[0].to(running.dtype), self.momentum)
        return self._affine(mean, square)

    def materialize(self) -> PlainAffine:
        """The map that this normalization is in evaluation."""
        scale, shift = self._affine(widened(self.running_mean[None]), widened(self.running_square[None]))
        return PlainAffine(*(values[0].detach().to(self.weight.dtype) for values in (scale, shift)))


class _Moments(torch.autograd.Function):
    """Mean (0 but for 0e) and mean square about it, over the axes of ``(B, C, *spatial)``; keeps x alone."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, scalar: Tensor, axes: list[int], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        return moments(x.to(dtype), scalar, axes)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, scalar, _, _ = inputs
        ctx.save_for_backward(x, scalar, output[0])

    @staticmethod
    def backward(ctx: Any, grad_mean: Tensor, grad_square: Tensor) -> tuple[Tensor, None, None, None]:
        x, scalar, mean = ctx.saved_tensors
        count = x.numel() // mean.numel()
        slope = 2 * grad_square / count
        offset = torch.where(scalar, grad_mean / count - slope * mean, 0.0)
        shape = (-1, x.shape[1], *[1] * (x.dim() - 2))
        grad = torch.addcmul(offset.view(shape), x.to(slope.dtype), slope.view(shape))
        return grad.to(x.dtype), None, None, None
