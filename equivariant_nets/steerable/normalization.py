"""Normalization of steerable features."""

from __future__ import annotations

from typing import Any

import torch
from e3nn import o3
from torch import Tensor, nn

from ..plain import PlainAffine, PlainInstanceNorm, moments
from .irreps import irrep_of_channel, is_scalar

__all__ = ["BatchNorm", "InstanceNorm"]


class _Norm(nn.Module):
    """Scale every irrep to unit root mean square, with a learned factor; centre 0e, with a learned bias.

    For an irrep with components x_m,
    y_m = weight * (x_m - mean_m) / sqrt(average over space and m of (x_m - mean_m)^2 + eps),
    where the mean is that of the voxels for 0e and 0 otherwise: no other irrep has an invariant constant to subtract.
    """

    scalar: Tensor
    irrep_of_channel: Tensor
    average: Tensor

    def __init__(self, irreps: o3.Irreps, eps: float = 1e-5) -> None:
        super().__init__()
        self.irreps = irreps
        self.eps = eps
        channels = irrep_of_channel(irreps)
        scalar = torch.tensor([is_scalar(ir) for mul, ir in irreps for _ in range(mul * ir.dim)])
        one_hot = channels[:, None] == torch.arange(irreps.num_irreps)
        self.register_buffer("irrep_of_channel", channels, persistent=False)
        self.register_buffer("scalar", scalar, persistent=False)
        self.register_buffer("average", one_hot / one_hot.sum(0), persistent=False)  # over the components of an irrep
        self.weight = nn.Parameter(torch.ones(irreps.num_irreps))
        self.bias = nn.Parameter(torch.zeros(sum(mul for mul, ir in irreps if is_scalar(ir))))

    def affine(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The normalization of x as a map of its channels: scale and shift, ``(B or 1, irreps.dim)``."""
        raise NotImplementedError

    def _affine(self, mean: Tensor, square: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and shift for the moments (B or 1, C) and (B or 1, irreps)."""
        scale = (self.weight * torch.rsqrt(square + self.eps))[:, self.irrep_of_channel]
        bias = torch.zeros_like(mean).masked_scatter(self.scalar.expand_as(mean), self.bias.expand(len(mean), -1))
        return scale, bias - mean * scale

    def _affine_of_channels(self) -> tuple[Tensor, Tensor]:
        """The learned weight and bias of each channel, ``(C,)``, without gradient."""
        bias = torch.zeros_like(self.scalar, dtype=self.bias.dtype).masked_scatter(self.scalar, self.bias.detach())
        return self.weight.detach()[self.irrep_of_channel], bias

    def _moments(self, x: Tensor, over_batch: bool) -> tuple[Tensor, Tensor]:
        """Mean by channel (0 but for 0e) and mean square about it by irrep, over the voxels."""
        axes = [0, *range(2, x.dim())] if over_batch else list(range(2, x.dim()))
        if torch.compiler.is_exporting():  # an autograd function would fix the sizes
            mean, square = moments(x, self.scalar, axes)
        else:
            mean, square = _Moments.apply(x, self.scalar, axes, self.weight.dtype)
        mean, square = mean.view(-1, x.shape[1]), square.view(-1, x.shape[1])
        return mean, square @ self.average.to(square.dtype)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            scale, shift = (values.reshape(*values.shape, *[1] * (x.dim() - 2)) for values in self.affine(x))
            return torch.addcmul(shift, x.to(scale.dtype), scale)

    def extra_repr(self) -> str:
        return str(self.irreps)


class InstanceNorm(_Norm):
    """Normalization with the statistics of each sample: the formula of the base class, over the voxels of a sample.

    Args:
        irreps: channels of the features.
        eps: added to the mean square.

    Shape: ``(B, irreps.dim, D, H, W)`` to the same.
    """

    def affine(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self._affine(*self._moments(x, over_batch=False))

    def materialize(self) -> PlainInstanceNorm:
        """The same as plain tensor operations."""
        weight, bias = self._affine_of_channels()
        over_components = self.average[:, self.irrep_of_channel]
        return PlainInstanceNorm(weight, bias, self.scalar, over_components.to(weight.dtype), self.eps)


class BatchNorm(_Norm):
    """Normalization with the statistics of the batch in training, and with their running averages in evaluation.

    Args:
        irreps: channels of the features.
        eps: added to the mean square.
        momentum: the share of a batch in the running statistics.

    Shape: ``(B, irreps.dim, D, H, W)`` to the same.
    """

    running_mean: Tensor
    running_square: Tensor

    def __init__(self, irreps: o3.Irreps, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(irreps, eps)
        self.momentum = momentum
        self.register_buffer("running_mean", torch.zeros(irreps.dim))
        self.register_buffer("running_square", torch.ones(irreps.num_irreps))

    def affine(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if not self.training:
            return self._affine(self.running_mean[None], self.running_square[None])
        mean, square = self._moments(x, over_batch=True)
        with torch.no_grad():
            self.running_mean.lerp_(mean[0], self.momentum)
            self.running_square.lerp_(square[0], self.momentum)
        return self._affine(mean, square)

    def materialize(self) -> PlainAffine:
        """The map that this normalization is in evaluation."""
        scale, shift = self._affine(self.running_mean[None], self.running_square[None])
        return PlainAffine(scale[0].detach(), shift[0].detach())


class _Moments(torch.autograd.Function):
    """Mean (0 but for 0e) and mean square about it, over the axes of ``(B, C, *spatial)``; keeps x alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scalar: Tensor, axes: list[int], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        mean, square = moments(x.to(dtype), scalar, axes)
        ctx.save_for_backward(x, scalar, mean)
        return mean, square

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_mean: Tensor, grad_square: Tensor) -> tuple[Tensor, None, None, None]:
        x, scalar, mean = ctx.saved_tensors
        count = x.numel() // mean.numel()
        slope = 2 * grad_square / count
        offset = torch.where(scalar, grad_mean / count - slope * mean, 0.0)
        shape = (-1, x.shape[1], *[1] * (x.dim() - 2))
        grad = torch.addcmul(offset.view(shape), x.to(slope.dtype), slope.view(shape))
        return grad.to(x.dtype), None, None, None
