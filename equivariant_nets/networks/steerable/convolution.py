"""The steerable convolution: one dense convolution whose kernel is assembled from a few weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from e3nn import o3
from torch import Tensor

from equivariant_nets.networks.checks import check_choice
from equivariant_nets.networks.constants import Constant
from equivariant_nets.networks.kernels import AssembledConvolution
from equivariant_nets.networks.lattice import num_taps
from equivariant_nets.networks.steerable.basis import RADIAL_BASES, KernelSpace, kernel_basis
from equivariant_nets.networks.steerable.irreps import is_scalar, num_scalars, parse_irreps
from equivariant_nets.types import ChannelBias, Kernel

__all__ = ["Convolution"]


class _Row(NamedTuple):
    """A summand of the output: its multiplicity and dimension, the factor of its weights, and whether it is 0e."""

    mul: int
    dim: int
    factor: float
    is_scalar: bool


class Convolution(AssembledConvolution):
    """3-D convolution that commutes with rotations, between features of any irreps.

    y_o = sum_i K_oi * x_i with K_oi = sum_p w_p b_p over the basis of :func:`kernel_basis`. The centre tap (a delta
    for l = 0) stands for the self-connection that steerable networks often add as a second linear map. With weights
    drawn from N(0, 1), smooth inputs of unit second moment give outputs of unit second moment.

    Args:
        irreps_in: channels of the input, in order; each irrep's 2l+1 components lie side by side. The components of
            an l = 1 feature point along the spatial axes D, H and W, in this order.
        irreps_out: channels of the output.
        kernel_size: voxels of spacing 1 along each axis, odd.
        lmax: highest order of the spherical harmonics.
        radial_basis: ``gaussian_rings``, or the paper's ``smooth_finite``.
        group: ``SO3``, or ``O3`` for kernels that commute with reflections too.
        spacing: of the voxels along D, H and W, in the unit in which kernel_size counts. Along a coarser axis, the
            kernel has fewer taps.
        bias: a learned constant on every 0e channel.
        allow_zero: leave output irreps that no kernel reaches at zero, rather than raise.

    Shape: ``(B, irreps_in.dim, D, H, W)`` to ``(B, irreps_out.dim, D, H, W)``, zeros outside the volume.

    Raises:
        ValueError: an even kernel, an unknown radial basis or group, or an output irrep that no kernel reaches.

    Source: Diaz et al., Leveraging SO(3)-steerable convolutions, MELBA 2024:010, section 3; Weiler et al. 2018.

    Example:
        >>> import torch
        >>> from equivariant_nets.networks.steerable import Convolution
        >>> Convolution("1x0e", "8x0e+4x1e+2x2e")(torch.zeros(1, 1, 9, 9, 9)).shape
        torch.Size([1, 30, 9, 9, 9])
    """

    def __init__(
        self,
        irreps_in: str | o3.Irreps,
        irreps_out: str | o3.Irreps,
        kernel_size: int = 5,
        lmax: int = 2,
        radial_basis: str = "gaussian_rings",
        group: str = "SO3",
        spacing: Sequence[float] = (1.0, 1.0, 1.0),
        bias: bool = False,
        allow_zero: bool = False,
    ) -> None:
        check_choice("radial_basis", radial_basis, RADIAL_BASES)
        parsed_in = parse_irreps(irreps_in, group, "irreps_in")
        parsed_out = parse_irreps(irreps_out, group, "irreps_out")
        space = KernelSpace(kernel_size, lmax, radial_basis, group, tuple(spacing))
        paths = [[len(kernel_basis(i, o, space)) for _, i in parsed_in] for _, o in parsed_out]
        if not allow_zero:
            _check_reached(parsed_in, parsed_out, paths, space)
        # Terms that a component of each summand of the output sums, one a weight.
        fans = [sum(mul * count for (mul, _), count in zip(parsed_in, row, strict=True)) for row in paths]
        num_weights = sum(mul * fan for (mul, _), fan in zip(parsed_out, fans, strict=True))
        num_biases = num_scalars(parsed_out) if bias else 0
        zeros = torch.zeros(num_biases) if num_biases else None
        super().__init__(torch.randn(num_weights), zeros, num_taps(kernel_size, spacing))
        self.irreps_in, self.irreps_out, self.space = parsed_in, parsed_out, space
        # What the kernel is assembled from, as plain numbers, for compilers cannot look into irreps.
        self._rows = [
            _Row(mul, ir.dim, max(fan, 1) ** -0.5, is_scalar(ir))
            for (mul, ir), fan in zip(parsed_out, fans, strict=True)
        ]
        self._columns = [(mul, ir.dim) for mul, ir in parsed_in]
        self._paths = paths
        self._bases = [[Constant(_flat_basis, i, o, space) for _, i in parsed_in] for _, o in parsed_out]

    def kernel(self) -> Kernel:
        """The dense kernel, ``(irreps_out.dim, irreps_in.dim, *taps)``, differentiable in the weights."""
        offset = 0
        rows = []
        for (mul_out, dim_out, factor, _), row_paths, bases in zip(self._rows, self._paths, self._bases, strict=True):
            row = []
            for (mul_in, dim_in), paths, basis in zip(self._columns, row_paths, bases, strict=True):
                count = mul_out * mul_in * paths
                weight = self.weight[offset : offset + count].view(mul_out * mul_in, paths) * factor
                block = (weight @ basis.like(weight)).view(mul_out, mul_in, dim_out, dim_in, -1)
                row.append(block.transpose(1, 2).reshape(mul_out * dim_out, mul_in * dim_in, *self.taps))
                offset += count
            rows.append(torch.cat(row, dim=1))
        return torch.cat(rows, dim=0)

    def fewer_channels(self, weight: Tensor) -> int:
        """The multiplicity of the input that weights are for, where it is below that of this convolution, of one irrep;
        0 where their number, which alone decides, fits no such convolution."""
        narrow_in, rest = divmod(weight.numel() * self._columns[0][0], self.weight.numel())
        return narrow_in if len(self._columns) == 1 and not rest and narrow_in < self._columns[0][0] else 0

    def widened(self, weight: Tensor) -> Tensor:
        """Weights whose kernel is that of other weights on the first channels of the input, and 0 on the others.

        Args:
            weight: those of a convolution that differs in its input alone, by :meth:`fewer_channels`.

        Returns:
            weights of this convolution.
        """
        mul_in, narrow_in = self._columns[0][0], self.fewer_channels(weight)
        parts, offset = [], 0
        for (mul_out, *_), (paths,) in zip(self._rows, self._paths, strict=True):
            count = mul_out * narrow_in * paths
            wide = weight.new_zeros(mul_out, mul_in, paths)
            # The factor of a row belongs to the number of its terms.
            wide[:, :narrow_in] = weight[offset : offset + count].view(mul_out, narrow_in, paths)
            parts.append((mul_in / narrow_in) ** 0.5 * wide.flatten())
            offset += count
        return torch.cat(parts)

    def dense_bias(self) -> ChannelBias | None:
        if self.bias is None:
            return None
        parts, used = [], 0
        for mul, dim, _, scalar in self._rows:
            parts.append(self.bias[used : used + mul] if scalar else self.bias.new_zeros(mul * dim))
            used += mul if scalar else 0
        return torch.cat(parts)

    def extra_repr(self) -> str:
        return (
            f"{self.irreps_in} -> {self.irreps_out}, {', '.join(f'{k}={v}' for k, v in self.space._asdict().items())}"
        )


def _check_reached(
    irreps_in: o3.Irreps, irreps_out: o3.Irreps, paths: Sequence[Sequence[int]], space: KernelSpace
) -> None:
    """Raise a ValueError unless some kernel leads to each summand of the output."""
    for (_, out), counts in zip(irreps_out, paths, strict=True):
        if not any(counts):
            raise ValueError(
                f"No kernel leads from {irreps_in} to {out} under {space.group} with lmax={space.lmax} and "
                f"kernel_size={space.kernel_size}. Remove {out} from {irreps_out}, raise lmax, "
                f"or add an irrep to {irreps_in} from which {out} can be reached."
            )


def _flat_basis(irrep_in: o3.Irrep, irrep_out: o3.Irrep, space: KernelSpace) -> Tensor:
    """A kernel basis with a row for each path."""
    return kernel_basis(irrep_in, irrep_out, space).flatten(1)
