"""Normalization of steerable features."""

from __future__ import annotations

import torch
from e3nn import o3
from torch import Tensor, nn

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

    def _moments(self, x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Mean (0 but for 0e) by channel and mean square about it by irrep, over the given axes of (B, C, *spatial)."""
        variance, mean = torch.var_mean(x, dims, correction=0)
        square = torch.where(self.scalar, variance, variance + mean**2)
        return torch.where(self.scalar, mean, 0.0), square @ self.average.to(x.dtype)

    def _scale_and_shift(self, x: Tensor, mean: Tensor, square: Tensor) -> Tensor:
        """x normalised by moments of shape (B, C) or (C), (B, irreps) or (irreps)."""
        scale = (self.weight * torch.rsqrt(square + self.eps))[..., self.irrep_of_channel]
        bias = torch.zeros_like(mean).masked_scatter(
            self.scalar.expand_as(mean), self.bias.expand(*mean.shape[:-1], -1)
        )
        shape = (*scale.shape, *[1] * (x.dim() - 2))
        return torch.addcmul((bias - mean * scale).view(shape), x, scale.view(shape))

    def extra_repr(self) -> str:
        return str(self.irreps)


class InstanceNorm(_Norm):
    """Normalization with the statistics of each sample: the formula of the base class, over the voxels of a sample.

    Args:
        irreps: channels of the features.
        eps: added to the mean square.

    Shape: ``(B, irreps.dim, D, H, W)`` to the same.
    """

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.weight.dtype)
            return self._scale_and_shift(x, *self._moments(x, tuple(range(2, x.dim()))))


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

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.weight.dtype)
            if not self.training:
                return self._scale_and_shift(x, self.running_mean, self.running_square)
            mean, square = self._moments(x, (0, *range(2, x.dim())))
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_square.lerp_(square, self.momentum)
            return self._scale_and_shift(x, mean, square)
