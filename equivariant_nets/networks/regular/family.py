"""The parts of a U-Net with fields of a regular representation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from equivariant_nets.networks.family import numbered
from equivariant_nets.networks.lattice import Lattice
from equivariant_nets.networks.regular.convolution import Channels, DepthwiseConvolution, Fields, GroupConvolution
from equivariant_nets.networks.regular.groups import Group
from equivariant_nets.networks.regular.normalization import NORMALIZATIONS, ElementInstanceNorm, FieldDropout, FieldNorm
from equivariant_nets.networks.regular.projection import PROJECTIONS, GroupPool
from equivariant_nets.networks.regular.scales import ScaleGroup
from equivariant_nets.networks.resampling import Downsample, MaxPool

__all__ = ["RegularFamily"]

ACTIVATIONS: dict[str, Callable[..., nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(inplace=True),
    "silu": lambda: nn.SiLU(inplace=True),
    "gelu": nn.GELU,
}
POINTWISE: dict[int, Callable[..., nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}


class RegularFamily:
    """Parts for :class:`equivariant_nets.networks.unet.UNet`; a representation is a number of fields.

    The arguments are those of :func:`equivariant_nets.RegularUNet`, with the group itself; ``features`` has one number
    for each level.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        group: Group | ScaleGroup,
        features: Sequence[int],
        kernel_size: int,
        separable: bool,
        normalization: str,
        downsampling: str,
        dropout: float,
        projection: str,
        activation: str,
    ) -> None:
        for name, channels in {"in_channels": in_channels, "out_channels": out_channels}.items():
            if channels < 1:
                raise ValueError(f"{name}={channels} is not a number of channels; give 1 or more.")
        for name, value, legal in (
            ("normalization", normalization, NORMALIZATIONS),
            ("projection", projection, PROJECTIONS),
            ("activation", activation, ACTIVATIONS),
        ):
            if value not in legal:
                raise ValueError(f"{name}={value!r} is not known; choose from {list(legal)}.")
        self.spatial_dims = group.spatial_dims
        self.group = group
        self.input = Channels(in_channels)
        self.output = out_channels
        self.features = features
        self.kernel_size = kernel_size
        self.separable = separable
        self.normalization = normalization
        self.downsampling = downsampling
        self.dropout = dropout
        self.projection = projection
        self.activation = activation

    def encoder_features(self, level: int) -> Fields:
        return Fields(self.features[level], self.group.order)

    decoder_features = encoder_features

    def reachable(self, rep_in: Channels | Fields, target: Fields) -> Fields:
        return target

    def read(self, rep: Fields, readers: Sequence[Fields], by_head: bool) -> Fields:
        return rep

    def block(self, rep_in: Channels | Fields, middle: Fields, rep_out: Fields, lattice: Lattice) -> nn.Module:
        layers = [*self._layer(rep_in, middle, lattice), *self._layer(middle, rep_out, lattice)]
        return nn.Sequential(numbered(layers, FieldDropout))

    def _layer(self, rep_in: Channels | Fields, rep_out: Fields, lattice: Lattice) -> list[nn.Module]:
        lifting = isinstance(rep_in, Channels)
        bias = self.normalization == "none"
        layer: list[nn.Module] = []
        if self.separable and not lifting:
            layer.append(GroupConvolution(rep_in.count, rep_out.count, self.group, 1))
            layer.append(DepthwiseConvolution(rep_out.count, self.group, self.kernel_size, lattice.spacing, bias))
        else:
            options = self.group, self.kernel_size, lifting, lattice.spacing, bias
            layer.append(GroupConvolution(rep_in.count, rep_out.count, *options))
        if self.normalization == "instance" and isinstance(self.group, ScaleGroup):
            layer.append(ElementInstanceNorm(rep_out.count, self.group.order))
        elif not bias:
            layer.append(FieldNorm(rep_out.count, self.normalization))
        layer.append(ACTIVATIONS[self.activation]())
        if self.dropout:
            layer.append(FieldDropout(rep_out.count, self.dropout))
        return layer

    def shortcut(self, rep_in: Channels | Fields, rep_out: Fields) -> nn.Module:
        if rep_in == rep_out:
            return nn.Identity()
        return GroupConvolution(rep_in.count, rep_out.count, self.group, 1, lifting=isinstance(rep_in, Channels))

    def downsample(self, rep: Fields, lattice: Lattice) -> nn.Module:
        if self.downsampling == "max":
            return MaxPool(rep.dim, lattice.halved)
        return Downsample(self.downsampling, lattice.halved)

    def head(self, rep: Fields) -> nn.Module:
        return nn.Sequential(
            GroupPool(rep.count, self.projection), POINTWISE[self.spatial_dims](rep.count, self.output, 1)
        )
