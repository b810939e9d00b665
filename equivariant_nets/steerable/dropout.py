"""Dropout of steerable features."""

from __future__ import annotations

import torch
from e3nn import o3
from torch import Tensor, nn

__all__ = ["Dropout"]


class Dropout(nn.Module):
    """Drop whole irreps: all components and all voxels of one irrep of one sample together.

    Args:
        irreps: channels of the features.
        p: probability of a drop; what is kept is divided by 1 - p.

    Shape: ``(B, irreps.dim, D, H, W)`` to the same.
    """

    irrep_of_channel: Tensor

    def __init__(self, irreps: o3.Irreps, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"dropout={p} is not a probability; give 0 <= dropout < 1.")
        self.p = p
        dims = torch.tensor([ir.dim for mul, ir in irreps for _ in range(mul)])
        channels = torch.repeat_interleave(torch.arange(len(dims)), dims)
        self.register_buffer("irrep_of_channel", channels, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        num_irreps = int(self.irrep_of_channel[-1]) + 1
        keep = torch.empty(x.shape[0], num_irreps, device=x.device, dtype=x.dtype).bernoulli_(1 - self.p) / (1 - self.p)
        return x * keep[:, self.irrep_of_channel].view(*x.shape[:2], *[1] * (x.dim() - 2))

    def extra_repr(self) -> str:
        return f"p={self.p}"
