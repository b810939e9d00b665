"""Normalization and dropout of whole fields."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equivariant_nets.networks.checks import check_dropout

__all__ = ["ElementInstanceNorm", "FieldDropout", "FieldNorm"]

NORMS: dict[str, type[nn.Module]] = {"instance": nn.InstanceNorm1d, "batch": nn.BatchNorm1d}


class FieldNorm(nn.Module):
    """Instance or batch normalization with one mean, one deviation and one learned affine map a field.

    Args:
        fields: number of fields.
        normalization: ``instance`` or ``batch``.

    Shape: ``(B, fields * order, *spatial)`` to the same.
    """

    def __init__(self, fields: int, normalization: str) -> None:
        super().__init__()
        if normalization not in NORMS:
            raise ValueError(f"normalization={normalization!r} needs no FieldNorm; choose 'instance' or 'batch'.")
        self.fields = fields
        self.norm = NORMS[normalization](fields, affine=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.reshape(x.shape[0], self.fields, -1)).view(x.shape)


class ElementInstanceNorm(nn.Module):
    """Instance normalization with a mean and a deviation for each element, and one learned affine map a field.

    For scales: when a pattern shrinks, its features move to the next scale, and take their statistics with them. Joint
    ones would change, since one scale leaves the truncated group and another enters it.

    Args:
        fields: number of fields.
        order: elements of a field.
        eps: added to the variance.

    Shape: ``(B, fields * order, *spatial)`` to the same.
    """

    def __init__(self, fields: int, order: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(fields))
        self.bias = nn.Parameter(torch.zeros(fields))
        self.order = order
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.repeat_interleave(self.order), self.bias.repeat_interleave(self.order)
        return F.instance_norm(x, weight=weight, bias=bias, eps=self.eps)


class FieldDropout(nn.Module):
    """Drop whole fields: all elements and all voxels of one field of one sample together.

    Args:
        fields: number of fields.
        p: probability of a drop; what is kept is divided by 1 - p.

    Shape: ``(B, fields * order, *spatial)`` to the same.
    """

    def __init__(self, fields: int, p: float) -> None:
        super().__init__()
        check_dropout(p)
        self.fields = fields
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout1d(x.reshape(x.shape[0], self.fields, -1), self.p, self.training).view(x.shape)

    def materialize(self) -> nn.Identity:
        """What dropout is in evaluation."""
        return nn.Identity()

    def extra_repr(self) -> str:
        return f"p={self.p}"
