"""From fields back to plain channels."""

from __future__ import annotations

from torch import Tensor, nn

from equivariant_nets.networks.checks import check_choice

__all__ = ["GroupPool"]

PROJECTIONS = ("mean", "max")


class GroupPool(nn.Module):
    """The mean or the maximum of each field over the elements of the group: one invariant channel a field.

    Args:
        fields: number of fields.
        projection: ``mean`` or ``max``.

    Shape: ``(B, fields * order, *spatial)`` to ``(B, fields, *spatial)``.
    """

    def __init__(self, fields: int, projection: str) -> None:
        super().__init__()
        check_choice("projection", projection, PROJECTIONS)
        self.fields = fields
        self.projection = projection

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(1, [self.fields, -1])
        return x.mean(2) if self.projection == "mean" else x.amax(2)

    def extra_repr(self) -> str:
        return f"{self.projection}, {self.fields} fields"
