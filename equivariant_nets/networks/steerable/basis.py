"""The kernels of a steerable convolution between two irreps: radial functions times spherical harmonics.

A kernel K from irrep i to irrep o is steerable when K(R x) = D_o(R) K(x) D_i(R)^-1. All of them are sums of

    b[m_o, m_i](x) = ring(|x|) sum_m C(l_i m_i, l m, l_o m_o) Y_lm(x / |x|),   |l_i - l_o| <= l <= l_i + l_o,

with Clebsch-Gordan coefficients C; under O(3) the parities obey p_i p_o = (-1)^l (Weiler et al. 2018, 3D Steerable
CNNs). Bases are computed once a process, in float64.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from e3nn import o3
from torch import Tensor

from equivariant_nets.networks.kernels import SHARE_OF_MEAN, gaussian_ring, tap_correlation
from equivariant_nets.networks.lattice import num_taps
from equivariant_nets.networks.steerable.irreps import is_scalar

__all__ = ["RADIAL_BASES", "KernelSpace", "kernel_basis", "reachable"]

SMOOTH_FINITE_FUNCTIONS = 5
# The Gram matrix of the 2l+1 harmonics of a ring is a multiple of the identity where the lattice samples them well.
# Below this ratio of its smallest to its largest eigenvalue some component is all but invisible: the pair is dropped.
SAMPLING_THRESHOLD = 0.1


class KernelSpace(NamedTuple):
    """What, beside the two irreps, determines a basis. ``kernel_size`` is odd, and counts voxels of spacing 1."""

    kernel_size: int = 5
    lmax: int = 2
    radial_basis: str = "gaussian_rings"
    group: str = "SO3"
    spacing: tuple[float, ...] = (1.0, 1.0, 1.0)

    @property
    def axes(self) -> list[Tensor]:
        """Coordinates of the taps along each axis."""
        taps = num_taps(self.kernel_size, self.spacing)
        axes = [torch.arange(n, dtype=torch.float64) - n // 2 for n in taps]
        return [axis * step for axis, step in zip(axes, self.spacing, strict=True)]


def _gaussian_rings(radius: Tensor, kernel_size: int, l: int) -> list[Tensor]:
    """Gaussians at the integer radii, and a delta at the centre for l = 0."""
    rings = range(min(l, 1), kernel_size // 2 + 1)
    return [gaussian_ring(radius, ring, reach=(kernel_size + 1) / 2) for ring in rings]


def _smooth_finite(radius: Tensor, kernel_size: int, l: int) -> list[Tensor]:
    """The paper's smooth bumps of compact support, centred at equal steps from 0 to half the kernel's width; with the
    centre delta of the self-connection for l = 0."""

    def step(x: Tensor) -> Tensor:
        return torch.where(x > 0, torch.exp(-1 / x.clamp(min=1e-9)), torch.zeros_like(x))

    centres = torch.linspace(0, kernel_size / 2, SMOOTH_FINITE_FUNCTIONS, dtype=radius.dtype)
    offsets = (radius - centres[:, None, None, None]) / centres[1]
    centre = [(radius == 0).to(radius)] if l == 0 else []
    return centre + list(step(offsets + 1) * step(1 - offsets))


RADIAL_BASES = {"gaussian_rings": _gaussian_rings, "smooth_finite": _smooth_finite}


@functools.cache
def _angular_filters(l: int, space: KernelSpace) -> list[Tensor]:
    """The sampled filters ring(|x|) Y_lm(x), one tensor (2l+1, *taps) a ring that the lattice can sample."""
    points = torch.stack(torch.meshgrid(*space.axes, indexing="ij"), dim=-1)
    harmonics = o3.spherical_harmonics(l, points, normalize=True, normalization="component").movedim(-1, 0)
    filters = [ring * harmonics for ring in RADIAL_BASES[space.radial_basis](points.norm(dim=-1), space.kernel_size, l)]
    threshold = SAMPLING_THRESHOLD if space.radial_basis == "gaussian_rings" else 0.0
    return [f for f in filters if _sampling_quality(f) > threshold]


def _sampling_quality(filters: Tensor) -> float:
    """Smallest over largest eigenvalue of the Gram matrix of (2l+1, *taps) filters; 0 where they vanish.

    On a lattice of a single layer, harmonics that are odd across it vanish whatever the ring: those are left out.
    """
    flat = filters.flatten(1)
    eigenvalues = torch.linalg.eigvalsh(flat @ flat.T)
    largest = float(eigenvalues[-1])
    if largest < 1e-12:
        return 0.0
    if 1 in filters.shape[1:]:
        eigenvalues = eigenvalues[eigenvalues > 1e-9 * largest]
    return max(float(eigenvalues[0]), 1e-12) / largest


def _coupling_orders(irrep_in: o3.Irrep, irrep_out: o3.Irrep, space: KernelSpace) -> list[int]:
    """The orders l of the harmonics that couple two irreps."""
    highest = min(irrep_in.l + irrep_out.l, space.lmax)
    orders = range(abs(irrep_in.l - irrep_out.l), highest + 1)
    return [l for l in orders if space.group == "SO3" or irrep_in.p * irrep_out.p == (-1) ** l]


def reachable(irreps_in: o3.Irreps, irreps_out: o3.Irreps, space: KernelSpace) -> o3.Irreps:
    """Those of ``irreps_out`` that some kernel connects with ``irreps_in``."""
    sources = {ir for _, ir in irreps_in}
    return o3.Irreps([(mul, ir) for mul, ir in irreps_out if any(_coupling_orders(s, ir, space) for s in sources)])


@functools.cache
def kernel_basis(irrep_in: o3.Irrep, irrep_out: o3.Irrep, space: KernelSpace) -> Tensor:
    """A linearly independent basis of the steerable kernels between two irreps.

    Returns:
        float64, ``(paths, 2 l_out + 1, 2 l_in + 1, *taps)``. Each function turns a smooth input of unit second
        moment into an output whose components have unit second moment. No path: a first axis of length 0.
    """
    with torch.inference_mode(False), torch.device("cpu"):  # whatever the mode in which the first network is built
        functions = _basis_functions(irrep_in, irrep_out, space)
        none = torch.zeros(0, irrep_out.dim, irrep_in.dim, *map(len, space.axes), dtype=torch.float64)
        return torch.stack(functions) if functions else none


def _basis_functions(irrep_in: o3.Irrep, irrep_out: o3.Irrep, space: KernelSpace) -> list[Tensor]:
    correlation = tap_correlation(space.axes, SHARE_OF_MEAN if is_scalar(irrep_in) else 0.0)
    accepted: list[Tensor] = []
    directions: list[Tensor] = []  # orthonormal, spanning the accepted functions
    for l in _coupling_orders(irrep_in, irrep_out, space):
        coupling = o3.wigner_3j(irrep_out.l, irrep_in.l, l, dtype=torch.float64)
        for filters in _angular_filters(l, space):
            function = torch.einsum("oim,mxyz->oixyz", coupling, filters)
            taps = function.flatten(0, 1).flatten(1)
            function = function / torch.einsum("ax,xy,ay->", taps, correlation, taps).div(irrep_out.dim).sqrt()
            residual = function.flatten() / function.norm()
            for direction in directions:
                residual = residual - (residual @ direction) * direction
            if residual.norm() > 1e-4:
                directions.append(residual / residual.norm())
                accepted.append(function)
    return accepted
