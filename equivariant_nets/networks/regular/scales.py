"""The truncated group of scales, and the Hermite-Gaussian filters at each of them.

No change of scale takes the voxel lattice to itself, so filters are not sampled but projected: of all filters on the
taps whose response to low polynomials is exactly that of the continuous filter, that one is taken which responds to
smooth images most like it. On five taps, a sampled filter of the second order answers a change of scale by 0.9 with an
error above 0.15 (a test), a lifting layer of projected ones with 0.002 (``benchmarks/scale.py``).
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.polynomial.hermite_e import hermeval
from torch import Tensor

from equivariant_nets.networks.checks import check_spatial_dims
from equivariant_nets.networks.kernels import CORRELATION_LENGTH, tap_correlation
from equivariant_nets.types import Filters

__all__ = ["ScaleGroup", "hermite_gaussians"]

# Standard deviation of the largest filters, as a share of the extent of the kernel.
WIDTH = 0.2
# Part of the images that filters are projected for, without which the taps could grow large and cancel each other.
WHITE_NOISE = 0.02


@dataclass(frozen=True)
class ScaleGroup:
    """The scales 1, ratio, ratio^2, ... of filters: the first few of a group that has no last element.

    Attributes:
        spatial_dims: 2 or 3.
        order: number of scales.
        ratio: of each scale to the one before, below 1.
        scale_size: how many scales of its input an output scale reads: its own and the next smaller ones.
        max_order: highest total order of the Hermite polynomials.
        isotropic: keep only those filters that no rotation changes.
    """

    spatial_dims: int
    order: int = 4
    ratio: float = 0.9
    scale_size: int = 1
    max_order: int = 2
    isotropic: bool = False

    is_lattice_group = False

    def __post_init__(self) -> None:
        check_spatial_dims(self.spatial_dims)
        if self.order < 1:
            raise ValueError(f"num_scales={self.order} is not a number of scales; give 1 or more.")
        if not 0 < self.ratio < 1:
            raise ValueError(f"ratio={self.ratio} must be above 0 and below 1: it makes each scale of the one before.")
        if not 1 <= self.scale_size <= self.order:
            raise ValueError(f"scale_size={self.scale_size} is not from 1 to {self.order}, the number of scales.")
        if self.max_order < 0:
            raise ValueError(f"max_order={self.max_order} must be 0 or more: it is the order of polynomials.")

    @property
    def name(self) -> str:
        return f"{self.order} scales of ratio {self.ratio:g}"

    @property
    def relative(self) -> np.ndarray:
        """How many steps scale t is smaller than scale s, ``(order, order)``; -1 where an output at s does not read t.

        At the smallest scales, what an output would read beyond the last one is left out.
        """
        steps = np.arange(self.order) - np.arange(self.order)[:, None]
        return np.where(steps < self.scale_size, steps.clip(min=-1), -1)


def hermite_gaussians(group: ScaleGroup, axes: list[Tensor], kernel_size: int) -> Filters:
    """psi_b(x / scale) / scale^d at the taps x of a kernel, for each scale and filter b.

    psi(x) = He_n(x_1) He_m(x_2) He_k(x_3) exp(-|x|^2 / 2), in units of the width of the largest filters, for all orders
    with n + m + k <= max_order: a set that every rotation takes to mixtures of itself. The factor 1 / scale^d gives the
    response to a pattern, at the scale that fits it, the same magnitude however large the pattern is.

    Args:
        group: the scales.
        axes: coordinates of the taps along each axis, in voxels of spacing 1.
        kernel_size: extent of the kernel in these voxels.

    Returns:
        float64, ``(scales, filters, taps)``. An order that an axis has too few taps for is left out.

    Source: Wimmer et al. 2023, Scale-equivariant deep learning for 3D data; Sosnovik et al. 2020, Scale-equivariant
    steerable networks.
    """
    at_scales = []
    for scale in (group.ratio**step for step in range(group.order)):
        lines = [_lines(axis, WIDTH * kernel_size * scale, group.max_order) for axis in axes]
        at_scales.append(torch.stack([*_products(lines, group.max_order, group.isotropic)]))
    return torch.stack(at_scales)


def _products(lines: list[list[Tensor]], max_order: int, isotropic: bool) -> Iterator[Tensor]:
    """The products of one line along each axis, ``(taps,)``, up to a total order; or their isotropic sums."""

    def product(orders: tuple[int, ...]) -> Tensor:
        return functools.reduce(torch.kron, [line[order] for line, order in zip(lines, orders, strict=True)])

    every = itertools.product(*[range(len(line)) for line in lines])
    chosen = [orders for orders in every if sum(orders) <= max_order]
    if not isotropic:
        yield from map(product, chosen)
        return
    # The k-th power of the Laplacian of a Gaussian, by the multinomial theorem: an even order 2 n_i along each axis.
    fewest = min(len(line) for line in lines)
    for power in range(max_order // 2 + 1):
        terms = [orders for orders in chosen if sum(orders) == 2 * power and not any(n % 2 for n in orders)]
        if 2 * power < fewest:  # else an axis lacks a term
            yield sum(
                (math.factorial(power) / math.prod(math.factorial(n // 2) for n in orders)) * product(orders)
                for orders in terms
            )  # type: ignore[misc]


def _lines(axis: Tensor, width: float, max_order: int) -> list[Tensor]:
    """Hermite-Gaussian filters of each order along one axis, projected on its taps."""
    return [_projected(axis, width, order) for order in range(min(max_order, len(axis) - 1) + 1)]


def _projected(axis: Tensor, width: float, order: int) -> Tensor:
    """The taps h that minimise E[(sum_x h(x) f(x) - integral psi(y) f(y) dy)^2] over images f, a noise that a Gaussian
    correlates and a little white noise, under the condition that both are equal for f(x) = x^k, k <= order.

    The integral of a Hermite-Gaussian against a Gaussian is a wider Hermite-Gaussian, since both are derivatives of
    Gaussians, and its moments are known: nothing is integrated numerically.
    """
    correlation = tap_correlation([axis], 0.0) + WHITE_NOISE * torch.eye(len(axis), dtype=axis.dtype)
    wider = math.hypot(width, CORRELATION_LENGTH)
    factor = math.sqrt(2 * math.pi) * CORRELATION_LENGTH * (width / wider) ** order
    with_filter = factor * _hermite_gaussian(axis, wider, order) + WHITE_NOISE * _hermite_gaussian(axis, width, order)
    # He_n is orthogonal to all lower orders, and its n-th moment is n!. Moments of the other parity vanish by symmetry.
    powers = torch.arange(order % 2, order + 1, 2)
    moments = (axis / width) ** powers[:, None]
    values = torch.zeros(len(powers), dtype=axis.dtype)
    values[-1] = math.factorial(order) * math.sqrt(2 * math.pi)
    system = torch.cat([torch.cat([correlation, moments.T], 1), F.pad(moments, (0, len(powers)))])
    taps = torch.linalg.solve(system, torch.cat([with_filter, values]))[: len(axis)]
    return (taps + (-1) ** order * taps.flip(0)) / 2  # symmetric to the last bit


def _hermite_gaussian(axis: Tensor, width: float, order: int) -> Tensor:
    """He_n(x / width) exp(-x^2 / (2 width^2)) / width."""
    x = axis / width
    polynomial = torch.from_numpy(np.asarray(hermeval(x.numpy(), [0] * order + [1])))
    return polynomial * torch.exp(-(x**2) / 2) / width
