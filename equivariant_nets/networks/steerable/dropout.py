"""Dropout of steerable features."""

from __future__ import annotations

from e3nn import o3
from torch import nn

from equivariant_nets.networks.checks import check_dropout
from equivariant_nets.networks.constants import Constant
from equivariant_nets.networks.steerable.irreps import irrep_of_channel
from equivariant_nets.types import Features

__all__ = ["Dropout"]


class Dropout(nn.Module):
    """Drop whole irreps: all components and all voxels of one irrep of one sample together.

    Args:
        irreps: channels of the features.
        p: probability of a drop; what is kept is divided by 1 - p.

    Shape: ``(B, irreps.dim, D, H, W)`` to the same.
    """

    def __init__(self, irreps: o3.Irreps, p: float) -> None:
        super().__init__()
        check_dropout(p)
        self.p = p
        self.num_irreps = irreps.num_irreps
        self._irrep_of_channel = Constant(irrep_of_channel, irreps)

    def forward(self, x: Features) -> Features:
        if not self.training or self.p == 0:
            return x
        keep = x.new_empty(x.shape[0], self.num_irreps).bernoulli_(1 - self.p) / (1 - self.p)
        return x * keep[:, self._irrep_of_channel.like(x)].view(*x.shape[:2], *[1] * (x.dim() - 2))

    def materialize(self) -> nn.Identity:
        """What dropout is in evaluation."""
        return nn.Identity()

    def extra_repr(self) -> str:
        return f"p={self.p}"
