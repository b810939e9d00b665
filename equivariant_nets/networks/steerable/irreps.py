"""Irreps of SO(3) and O(3), written as e3nn writes them: ``8x0e+4x1e+2x2e``."""

from __future__ import annotations

import torch
from e3nn import o3
from torch import Tensor

from equivariant_nets.networks.checks import check_choice
from equivariant_nets.types import ChannelMask

__all__ = [
    "GROUPS",
    "average_of_irrep",
    "irrep_of_channel",
    "is_scalar",
    "is_scalar_channel",
    "num_gates",
    "num_scalars",
    "parse_irreps",
    "summands",
]

GROUPS = ("SO3", "O3")


def parse_irreps(irreps: str | o3.Irreps, group: str = "SO3", name: str = "irreps") -> o3.Irreps:
    """Read irreps. Under SO(3), where parity has no meaning, every irrep is taken as even.

    Raises:
        ValueError: the text is not a list of irreps, holds none, or the group is unknown.
    """
    check_choice("group", group, GROUPS)
    try:
        parsed = o3.Irreps(irreps)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{name}={irreps!r} is not a list of irreps; write it as in '8x0e+4x1e+2x2e'.") from error
    parsed = o3.Irreps([(mul, ir if group == "O3" else (ir.l, 1)) for mul, ir in parsed if mul > 0])
    if parsed.dim == 0:
        raise ValueError(f"{name}={irreps!r} holds no channel; give at least one irrep, as in '8x0e+4x1e'.")
    return parsed


def is_scalar(irrep: o3.Irrep) -> bool:
    """True for 0e, the one irrep that no symmetry changes."""
    return bool(irrep.l == 0 and irrep.p == 1)


def irrep_of_channel(irreps: o3.Irreps) -> Tensor:
    """The irrep that each channel belongs to, ``(irreps.dim,)``, with every copy numbered on its own."""
    dims = [ir.dim for mul, ir in irreps for _ in range(mul)]
    return torch.tensor([number for number, dim in enumerate(dims) for _ in range(dim)])


def is_scalar_channel(irreps: o3.Irreps) -> ChannelMask:
    """Whether each channel is a 0e, ``(irreps.dim,)``."""
    return torch.tensor([is_scalar(ir) for mul, ir in irreps for _ in range(mul * ir.dim)])


def average_of_irrep(irreps: o3.Irreps) -> Tensor:
    """What takes the channels to the mean over the components of each irrep, ``(irreps.dim, irreps.num_irreps)``."""
    one_hot = (irrep_of_channel(irreps)[:, None] == torch.arange(irreps.num_irreps)).double()
    return one_hot / one_hot.sum(0)


def num_scalars(irreps: o3.Irreps) -> int:
    """The number of 0e channels."""
    return sum(mul for mul, ir in irreps if is_scalar(ir))


def num_gates(irreps: o3.Irreps) -> int:
    """The number of 0e channels that gate the irreps other than 0e, one for each."""
    return sum(mul for mul, ir in irreps if not is_scalar(ir))


def summands(irreps: o3.Irreps) -> list[tuple[int, int]]:
    """Multiplicity and number of components of each summand; 0 components stand for 0e."""
    return [(mul, 0 if is_scalar(ir) else ir.dim) for mul, ir in irreps]
