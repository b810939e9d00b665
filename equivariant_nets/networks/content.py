"""Blocks whose statistics leave out what a volume is filled with."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from equivariant_nets.networks.materialize import PlainContentBlock, content_mask, content_moments
from equivariant_nets.networks.precision import widened

__all__ = ["ContentBlock", "FieldContentNorm", "OverContent"]


class OverContent(nn.Module):
    """What a :class:`ContentBlock` calls with the content of its input beside the features."""


class ContentBlock(nn.Sequential):
    """Layers in order, over the content of their input: where not all of its channels are 0. Outside, the output is 0.

    So what a volume is filled with, once it is 0, is as what lies outside the canvas: it enters no statistics, and
    convolutions see zeros there at every level. A normalization makes them, and what follows it leaves 0 as it is.
    """

    def forward(self, x: Tensor) -> Tensor:
        content = content_mask(x)
        for module in self:
            x = module(x, content) if isinstance(module, OverContent) else module(x)
        return x

    def materialize(self) -> PlainContentBlock:
        """The same layers, for :func:`equivariant_nets.materialize`."""
        norms: list[nn.Module] = []
        between: list[list[nn.Module]] = [[]]
        for module in self:
            if isinstance(module, OverContent):
                norms.append(module)
                between.append([])
            else:
                between[-1].append(module)
        return PlainContentBlock(norms, [nn.Sequential(*modules) for modules in between])


class FieldContentNorm(OverContent):
    """Instance normalization over the content of each sample, with one learned affine map a field; 0 outside.

    Args:
        fields: number of fields.
        order: elements of a field, each a channel.
        joint: one mean and one deviation a field; otherwise one for each element.
        eps: added to the variance.

    Shape: ``(B, fields * order, *spatial)`` and the content ``(B, 1, *spatial)``, 1 there and 0 outside, to the
    features.
    """

    def __init__(self, fields: int, order: int = 1, joint: bool = True, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(fields))
        self.bias = nn.Parameter(torch.zeros(fields))
        self.shared = order if joint else 1  # channels of one mean and one deviation
        self.repeats = 1 if joint else order
        self.eps = eps

    def forward(self, x: Tensor, content: Tensor) -> Tensor:
        weight = widened(self.weight).repeat_interleave(self.repeats)
        bias = widened(self.bias).repeat_interleave(self.repeats)
        wide = widened(x).reshape(x.shape[0], weight.shape[0], -1)
        inside = content.flatten(2).repeat(1, 1, self.shared)
        mean, variance = content_moments(wide, inside, torch.ones_like(weight, dtype=torch.bool))
        scale = weight * torch.rsqrt(variance + self.eps)
        shift = bias - mean * scale
        y = torch.addcmul(shift.unsqueeze(2), wide, scale.unsqueeze(2))
        return y.to(x.dtype).view(x.shape) * content.to(x.dtype)

    def extra_repr(self) -> str:
        return f"{len(self.weight)}, eps={self.eps}"
