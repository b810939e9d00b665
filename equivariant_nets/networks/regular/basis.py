"""The filters that group convolutions are made of, turned by every element of the group.

Where the group permutes the taps of the lattice, the filters are those taps, and nothing is interpolated. Otherwise
they are Gaussian rings times circular harmonics, ring(|x|) cos(m phi) and ring(|x|) sin(m phi) (Weiler and Cesa 2019,
General E(2)-equivariant steerable CNNs), which can be sampled at every angle. Scales have filters of their own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from equivariant_nets.networks.kernels import SHARE_OF_MEAN, gaussian_ring, tap_correlation
from equivariant_nets.networks.lattice import num_taps
from equivariant_nets.networks.regular.groups import Group
from equivariant_nets.networks.regular.scales import ScaleGroup, hermite_gaussians
from equivariant_nets.types import Filters

__all__ = ["filter_basis"]

# A ring of radius r carries harmonics up to the order r + 1: higher ones alias on the lattice. On smooth images their
# error under a turn by 45 degrees exceeds 0.9, that of the highest order kept is 0.03 to 0.3.
ORDERS_ABOVE_RADIUS = 1


def filter_basis(group: Group | ScaleGroup, kernel_size: int, spacing: tuple[float, ...]) -> Filters:
    """psi_b(g^-1 x) at the taps x of a kernel, for each element g and filter b.

    Args:
        group: of order n.
        kernel_size: voxels of spacing 1 along each axis, odd.
        spacing: of the taps along each axis.

    Returns:
        float64, ``(n, filters, *taps)``. Each filter turns a smooth input of unit second moment into an output of unit
        second moment; on average over the elements, where these are scales.
    """
    taps = num_taps(kernel_size, spacing)
    axes = [(torch.arange(n, dtype=torch.float64) - n // 2) * step for n, step in zip(taps, spacing, strict=True)]
    if isinstance(group, ScaleGroup):
        filters = typical = hermite_gaussians(group, axes, kernel_size)
    else:
        points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)
        # x = g^-1 y for every tap y: as rows, y^T g.
        sources = [points @ torch.from_numpy(matrix) for matrix in group.matrices]
        if group.is_lattice_group:
            filters = torch.stack([_taps(points, source) for source in sources])
        else:
            filters = torch.stack([_harmonics(source, kernel_size) for source in sources])
        typical = filters[:1]
    correlation = tap_correlation(axes, SHARE_OF_MEAN)
    power = torch.einsum("gbx,xy,gby->gb", typical, correlation, typical).mean(0)
    return (filters / power.sqrt()[:, None]).unflatten(-1, taps)


def _taps(points: Tensor, sources: Tensor) -> Tensor:
    """Filter b is 1 where a source is point b: ``(filters, taps)``."""
    return (torch.cdist(points, sources) < 1e-6).double()


def _harmonics(sources: Tensor, kernel_size: int) -> Tensor:
    """Rings times circular harmonics at each source, ``(filters, taps)``."""
    radius = sources.norm(dim=-1)
    direction = torch.complex(sources[:, 0], sources[:, 1]) / radius.clamp(min=1e-9)
    filters = []
    for ring in range(kernel_size // 2 + 1):
        profile = gaussian_ring(radius, ring, reach=kernel_size / 2)
        for order in range(ring + ORDERS_ABOVE_RADIUS + 1 if ring else 1):
            harmonic = profile * direction**order
            filters += [harmonic.real, harmonic.imag] if order else [profile]
    return torch.stack(filters)
