"""Convolutions between fields of a regular representation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from equivariant_nets.networks.constants import Constant
from equivariant_nets.networks.kernels import AssembledConvolution
from equivariant_nets.networks.lattice import num_taps
from equivariant_nets.networks.regular.basis import filter_basis
from equivariant_nets.networks.regular.groups import Group
from equivariant_nets.networks.regular.scales import ScaleGroup
from equivariant_nets.types import ChannelBias, Kernel

__all__ = ["Channels", "DepthwiseConvolution", "Fields", "GroupConvolution"]


@dataclass(frozen=True)
class Fields:
    """Fields of a regular representation: each has as many channels as the group has elements, side by side."""

    count: int
    order: int

    @property
    def dim(self) -> int:
        """Number of channels."""
        return self.count * self.order

    def __add__(self, other: Fields) -> Fields:
        return Fields(self.count + other.count, self.order)


@dataclass(frozen=True)
class Channels(Fields):
    """Plain channels, which a group does nothing but move, as fields of one channel: those of an image."""

    order: int = field(default=1, init=False)


class _FilterConvolution(AssembledConvolution):
    """A convolution whose kernel is made of the filters of a group.

    Args:
        group: its elements turn the filters.
        kernel_size: voxels of spacing 1 along each axis, odd.
        spacing: of the voxels along each axis; 1 if None.
        weight_shape: of the weights, without the last axis, that of the filters.
        fan_in: how many of them, times the filters, a channel of the output sums.
        num_fields: of the output.
        bias: a learned constant for each field of the output.
        groups: of channels that are convolved apart from each other.
    """

    def __init__(
        self,
        group: Group | ScaleGroup,
        kernel_size: int,
        spacing: Sequence[float] | None,
        weight_shape: Sequence[int],
        fan_in: int,
        num_fields: int,
        bias: bool,
        groups: int = 1,
    ) -> None:
        steps = (1.0,) * group.spatial_dims if spacing is None else tuple(spacing)
        if isinstance(group, Group) and group.is_lattice_group and not group.keeps(steps):
            raise ValueError(
                f"group={group.name} takes axes to each other whose spacing differs: it is {steps}. Resample to equal "
                "spacing along these axes, or choose a smaller group, such as V4 in 3-D or D2 in 2-D."
            )
        taps = num_taps(kernel_size, steps)
        basis = Constant(_flat_filters, group, kernel_size, steps)
        num_filters = basis.shape[1]
        zeros = torch.zeros(num_fields) if bias else None
        super().__init__(torch.randn(*weight_shape, num_filters), zeros, taps, groups)
        self.group = group
        self.kernel_size = kernel_size
        self._factor = (fan_in * num_filters) ** -0.5
        self._basis = basis

    def dense_bias(self) -> ChannelBias | None:
        return None if self.bias is None else self.bias.repeat_interleave(self.group.order)


class GroupConvolution(_FilterConvolution):
    """Convolution that commutes with a group, from fields of its regular representation, or from plain channels.

    Between fields, K[(o, g), (i, h)](x) = sum_b w[o, i, g^-1 h, b] psi_b(g^-1 x); from plain channels (the lifting
    convolution), K[(o, g), i](x) = sum_b w[o, i, b] psi_b(g^-1 x), over the filters psi_b of the group. Of scales, h is
    read from g where it is as many steps smaller as ``scale_size`` allows, and the kernel is 0 elsewhere.

    Args:
        fields_in: number of fields of the input.
        fields_out: number of fields of the output.
        group: see :func:`equivariant_nets.networks.regular.find_group` and
            :class:`equivariant_nets.networks.regular.ScaleGroup`.
        kernel_size: voxels of spacing 1 along each axis, odd.
        lifting: the input has plain channels, one a field.
        spacing: of the voxels along each axis; 1 if None.
        bias: a learned constant for each field of the output.

    Shape: ``(B, fields_in * order, *spatial)``, or ``(B, fields_in, *spatial)`` for a lifting convolution, to
    ``(B, fields_out * order, *spatial)``; the channels of a field lie side by side, in the order of the elements.

    Raises:
        ValueError: an even kernel, or a group that takes axes of different spacing to each other.

    Source: Cohen and Welling 2016, Group equivariant convolutional networks.
    """

    def __init__(
        self,
        fields_in: int,
        fields_out: int,
        group: Group | ScaleGroup,
        kernel_size: int = 3,
        lifting: bool = False,
        spacing: Sequence[float] | None = None,
        bias: bool = False,
    ) -> None:
        size_in = 1 if lifting else int(group.relative.max()) + 1
        shape = fields_out, fields_in, size_in
        super().__init__(group, kernel_size, spacing, shape, fields_in * size_in, fields_out, bias)
        self.lifting = lifting
        self._cut = not lifting and bool((group.relative < 0).any())  # some elements are not read: their weight is 0
        self._relative = Constant(_relative_elements, group)

    def kernel(self) -> Kernel:
        fields_out, fields_in, _, filters = self.weight.shape
        order = self.group.order
        weight = self.weight * self._factor
        if self.lifting:
            channels_in = fields_in
            weight = weight.view(1, -1, filters).expand(order, -1, -1)
        else:
            channels_in = fields_in * order
            if self._cut:
                weight = F.pad(weight, (0, 0, 0, 1))
            weight = weight.index_select(2, self._relative.like(weight))  # of g^-1 h, for each g and h
            weight = weight.view(fields_out, fields_in, order, order, filters).permute(2, 0, 1, 3, 4)
            weight = weight.reshape(order, -1, filters)
        kernel = torch.bmm(weight, self._basis.like(weight)).view(order, fields_out, channels_in, -1)
        return kernel.transpose(0, 1).reshape(fields_out * order, channels_in, *self.taps)

    def extra_repr(self) -> str:
        fields_out, fields_in, _, filters = self.weight.shape
        kind = "lifting, " if self.lifting else ""
        return f"{kind}{fields_in} -> {fields_out} fields, {self.group.name}, taps={self.taps}, {filters} filters"


class DepthwiseConvolution(_FilterConvolution):
    """Convolution of each channel with the filter of its field: K[(o, g)](x) = sum_b w[o, b] psi_b(g^-1 x).

    After a :class:`GroupConvolution` of one tap, which mixes fields and elements, it makes the separable group
    convolution.

    Args:
        fields: number of fields.
        group, kernel_size, spacing, bias: as for :class:`GroupConvolution`.

    Shape: ``(B, fields * order, *spatial)`` to the same.

    Source: the group convolutions of MELBA 2024:010; Lengyel and van Gemert 2021, Exploiting learned symmetries in
    group equivariant convolutions.
    """

    def __init__(
        self,
        fields: int,
        group: Group | ScaleGroup,
        kernel_size: int = 3,
        spacing: Sequence[float] | None = None,
        bias: bool = False,
    ) -> None:
        super().__init__(group, kernel_size, spacing, (fields,), 1, fields, bias, groups=fields * group.order)

    def kernel(self) -> Kernel:
        kernel = torch.einsum("nb,gbx->ngx", self.weight * self._factor, self._basis.like(self.weight))
        return kernel.reshape(self.groups, 1, *self.taps)

    def extra_repr(self) -> str:
        fields, filters = self.weight.shape
        return f"{fields} fields, {self.group.name}, taps={self.taps}, {filters} filters"


def _flat_filters(group: Group | ScaleGroup, kernel_size: int, spacing: tuple[float, ...]) -> Tensor:
    """The filters of each element, ``(order, filters, taps)``."""
    return filter_basis(group, kernel_size, spacing).flatten(2)


def _relative_elements(group: Group | ScaleGroup) -> Tensor:
    """g^-1 h for each g and h, ``(order^2,)``; for those that are not read, the number after the last one."""
    relative = group.relative
    return torch.from_numpy(np.where(relative < 0, relative.max() + 1, relative)).flatten()
