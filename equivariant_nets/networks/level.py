"""An image at another size, for networks that see it at sizes other than its own."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor, nn

from equivariant_nets.networks.content import OverContent
from equivariant_nets.networks.materialize import PlainContentBlock, content_mask
from equivariant_nets.networks.resampling import over_content
from equivariant_nets.networks.rescaling import Rescale, rescaled_size

__all__ = ["LARGEST_TERM", "Level", "plain"]

LARGEST_TERM = 64  # of the fraction that a ratio is rounded to, so that no place in a voxel is rounded


class Level(nn.Module):
    """An image at another size, for a network that is to see it there.

    The border goes on where a reduced image has fewer voxels than the network needs, unless the image itself has
    fewer. Voxels stay 0 where the image is filled with 0, if the statistics of the network leave these out.

    Args:
        factor: above 1 to enlarge.
        network: that is to see the image, of this package or another; only its halvings and normalization are read.

    Shape: ``(B, C, *spatial)`` to ``(B, C, *level)``.
    """

    def __init__(self, factor: Fraction, network: nn.Module) -> None:
        super().__init__()
        self.rescale = Rescale(factor)
        self.up, self.down = factor.numerator, factor.denominator
        self.smallest = [2**count + 1 for count in getattr(network, "halvings", [])]
        self.over_content = any(isinstance(module, OverContent | PlainContentBlock) for module in network.modules())

    def forward(self, x: Tensor) -> Tensor:
        size = [rescaled_size(n, self.up, self.down) for n in x.shape[2:]]
        for axis, smallest in enumerate(self.smallest):
            size[axis] = max(size[axis], min(x.shape[2 + axis], smallest))
        if self.over_content:
            return over_content(self.rescale(torch.cat([x, content_mask(x)], 1), size), 1 / 2)
        return self.rescale(x, size)


def plain(x: Tensor) -> Tensor:
    """Without the class of a MetaTensor, which would run every operation through Python once more."""
    return x if torch.compiler.is_exporting() or type(x) is Tensor else x.as_subclass(Tensor)
