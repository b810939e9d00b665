"""Groups, and how they act on fields."""

import torch

from equivariant_nets.equivariance import transform_field
from equivariant_nets.networks.regular import find_group

PLANE = ["trivial", "C1", "C2", "C3", "C4", "C6", "C8", "C16", "D1", "D2", "D3", "D4", "D8"]
SPACE = ["trivial", "V4", "T", "O", "O_h"]
GROUPS = [(name, 2) for name in PLANE] + [(name, 3) for name in SPACE]
LATTICE_GROUPS = [case for case in GROUPS if find_group(*case).is_lattice_group]


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def turn_fields(x, group, element):
    """(g f)[h](x) = f[g^-1 h](g^-1 x), for fields of the regular representation."""
    moved = transform_field(x, group.matrices[element]).unflatten(1, (-1, group.order))
    return moved[:, :, torch.from_numpy(group.relative[element])].flatten(1, 2)
