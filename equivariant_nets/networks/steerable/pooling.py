"""Max-pooling of steerable features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from e3nn import o3
from torch import nn

from equivariant_nets.networks.materialize import PlainMaxPool
from equivariant_nets.networks.precision import widened
from equivariant_nets.networks.resampling import max_pool_windows
from equivariant_nets.networks.steerable.irreps import summands
from equivariant_nets.types import Features, Halved

__all__ = ["NormMaxPool"]


class NormMaxPool(nn.Module):
    """Halve axes: the maximum of 0e, and the vector of largest norm of every other irrep.

    Args:
        irreps: channels of the features.
        halved: for each spatial axis, whether it is halved.

    Shape: ``(B, irreps.dim, D, H, W)`` to ``(B, irreps.dim, ceil(D / 2), ceil(H / 2), ceil(W / 2))``.

    Where two vectors of one window have the same norm to the last bit, the first one in memory is taken, which is not
    the same one after a rotation: exactness holds for inputs without such ties, so not for symmetric ones.

    Source: MELBA 2024:010, section 3.
    """

    def __init__(self, irreps: o3.Irreps, halved: Sequence[bool] = (True, True, True)) -> None:
        super().__init__()
        self.irreps = irreps
        self.summands = summands(irreps)
        self.halved = tuple(halved)

    def forward(self, x: Features) -> Halved:
        if torch.compiler.is_exporting() or torch.jit.is_tracing():
            return self.materialize()(x)
        windows = max_pool_windows(x.shape[2:], self.halved)
        outputs = []
        blocks = x.split([mul * max(components, 1) for mul, components in self.summands], dim=1)
        for block, (mul, components) in zip(blocks, self.summands, strict=True):
            if components == 0:
                outputs.append(F.max_pool3d(block, *windows))
                continue
            vectors = block.unflatten(1, (mul, components))
            squared_norm = widened(vectors.detach()).square().sum(2)
            _, voxel = F.max_pool3d_with_indices(squared_norm, *windows)
            index = voxel.flatten(2).unsqueeze(2).expand(-1, -1, components, -1)
            outputs.append(vectors.flatten(3).gather(3, index).unflatten(3, voxel.shape[2:]).flatten(1, 2))
        return torch.cat(outputs, dim=1)

    def materialize(self) -> nn.Module:
        """The same without a window that depends on the size."""
        return PlainMaxPool(self.summands, self.halved)

    def extra_repr(self) -> str:
        return str(self.irreps)
