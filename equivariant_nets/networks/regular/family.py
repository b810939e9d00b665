"""The parts of a U-Net with fields of a regular representation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from equivariant_nets.networks.checks import check_channels, check_choice
from equivariant_nets.networks.content import ContentBlock, FieldContentNorm
from equivariant_nets.networks.family import FamilyOptions, numbered
from equivariant_nets.networks.lattice import Lattice
from equivariant_nets.networks.regular.convolution import Channels, DepthwiseConvolution, Fields, GroupConvolution
from equivariant_nets.networks.regular.groups import Group
from equivariant_nets.networks.regular.normalization import ElementInstanceNorm, FieldDropout, FieldNorm
from equivariant_nets.networks.regular.projection import GroupPool
from equivariant_nets.networks.regular.scales import ScaleGroup
from equivariant_nets.networks.resampling import ContentDownsample, Downsample, MaxPool

__all__ = ["RegularFamily"]

ACTIVATIONS: dict[str, Callable[..., nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(inplace=True),
    "silu": lambda: nn.SiLU(inplace=True),
    "gelu": nn.GELU,
}
POINTWISE: dict[int, Callable[..., nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}


@dataclass(frozen=True, kw_only=True)
class RegularFamily(FamilyOptions):
    """Parts for :class:`equivariant_nets.networks.unet.UNet`; a representation is a number of fields.

    The options are those of :class:`equivariant_nets.RegularUNet`, with the group itself; ``features`` has one number
    for each level.
    """

    in_channels: int
    out_channels: int
    group: Group | ScaleGroup
    features: Sequence[int]
    separable: bool = False
    projection: str
    activation: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check_channels("in_channels", self.in_channels)
        check_channels("out_channels", self.out_channels)
        check_choice("activation", self.activation, ACTIVATIONS)

    @property
    def spatial_dims(self) -> int:
        return self.group.spatial_dims

    @property
    def input(self) -> Fields:
        return Channels(self.in_channels)

    def encoder_target(self, level: int) -> Fields:
        return Fields(self.features[level], self.group.order)

    decoder_target = encoder_target

    def reachable(self, rep_in: Fields, target: Fields) -> Fields:
        return target

    def read(self, rep: Fields, readers: Sequence[Fields], by_head: bool) -> Fields:
        return rep

    def block(self, rep_in: Fields, middle: Fields, rep_out: Fields, lattice: Lattice) -> nn.Module:
        layers = [*self._layer(rep_in, middle, lattice), *self._layer(middle, rep_out, lattice)]
        block = ContentBlock if self.normalization == "content" else nn.Sequential
        return block(numbered(layers, FieldDropout))

    def _layer(self, rep_in: Fields, rep_out: Fields, lattice: Lattice) -> list[nn.Module]:
        lifting = isinstance(rep_in, Channels)
        bias = self.normalization == "none"
        options: dict[str, Any] = {"kernel_size": self.kernel_size, "spacing": lattice.spacing, "bias": bias}
        layer: list[nn.Module] = []
        if self.separable and not lifting:
            layer.append(GroupConvolution(rep_in.count, rep_out.count, self.group, kernel_size=1))
            layer.append(DepthwiseConvolution(rep_out.count, self.group, **options))
        else:
            layer.append(GroupConvolution(rep_in.count, rep_out.count, self.group, lifting=lifting, **options))
        over_scales = isinstance(self.group, ScaleGroup)
        if self.normalization == "content":
            layer.append(FieldContentNorm(rep_out.count, self.group.order, joint=not over_scales))
        elif self.normalization == "instance" and over_scales:
            layer.append(ElementInstanceNorm(rep_out.count, self.group.order))
        elif not bias:
            layer.append(FieldNorm(rep_out.count, self.normalization))
        layer.append(ACTIVATIONS[self.activation]())
        if self.dropout:
            layer.append(FieldDropout(rep_out.count, self.dropout))
        return layer

    def shortcut(self, rep_in: Fields, rep_out: Fields) -> nn.Module:
        if rep_in == rep_out:
            return nn.Identity()
        lifting = isinstance(rep_in, Channels)
        return GroupConvolution(rep_in.count, rep_out.count, self.group, kernel_size=1, lifting=lifting)

    def downsample(self, rep: Fields, lattice: Lattice) -> nn.Module:
        if self.normalization == "content":
            return ContentDownsample(self.downsampling, lattice.halved)
        if self.downsampling == "max":
            return MaxPool(rep.dim, lattice.halved)
        return Downsample(self.downsampling, lattice.halved)

    def head(self, rep: Fields) -> nn.Module:
        return nn.Sequential(
            GroupPool(rep.count, self.projection), POINTWISE[self.spatial_dims](rep.count, self.out_channels, 1)
        )
