"""The parts of a conventional U-Net: plain channels, the reference for every equivariant family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from torch import nn

from equivariant_nets.networks.checks import check_channels, check_spatial_dims
from equivariant_nets.networks.content import ContentBlock, FieldContentNorm
from equivariant_nets.networks.family import FamilyOptions, numbered
from equivariant_nets.networks.lattice import Lattice, num_taps
from equivariant_nets.networks.resampling import ContentDownsample, Downsample, MaxPool

__all__ = ["ConventionalFamily"]

CONVOLUTIONS: dict[int, Callable[..., nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
NORMS: dict[str, dict[int, Callable[..., nn.Module]]] = {
    "instance": {2: partial(nn.InstanceNorm2d, affine=True), 3: partial(nn.InstanceNorm3d, affine=True)},
    "batch": {2: nn.BatchNorm2d, 3: nn.BatchNorm3d},
    "content": {2: FieldContentNorm, 3: FieldContentNorm},
}
DROPOUTS = {2: nn.Dropout2d, 3: nn.Dropout3d}


@dataclass(frozen=True, kw_only=True)
class ConventionalFamily(FamilyOptions):
    """Parts for :class:`equivariant_nets.networks.unet.UNet`; a representation is a number of channels.

    The options are those of :class:`equivariant_nets.ConventionalUNet`; ``features`` has one number for each level.
    """

    spatial_dims: int
    in_channels: int
    out_channels: int
    features: Sequence[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_spatial_dims(self.spatial_dims)
        check_channels("in_channels", self.in_channels)
        check_channels("out_channels", self.out_channels)

    @property
    def input(self) -> int:
        return self.in_channels

    def encoder_target(self, level: int) -> int:
        return self.features[level]

    decoder_target = encoder_target

    def reachable(self, rep_in: int, target: int) -> int:
        return target

    def read(self, rep: int, readers: Sequence[int], by_head: bool) -> int:
        return rep

    def block(self, rep_in: int, middle: int, rep_out: int, lattice: Lattice) -> nn.Module:
        layers = [*self._layer(rep_in, middle, lattice), *self._layer(middle, rep_out, lattice)]
        block = ContentBlock if self.normalization == "content" else nn.Sequential
        return block(numbered(layers, DROPOUTS[self.spatial_dims]))

    def _layer(self, rep_in: int, rep_out: int, lattice: Lattice) -> list[nn.Module]:
        norm = NORMS.get(self.normalization)
        convolution = CONVOLUTIONS[self.spatial_dims]
        taps = num_taps(self.kernel_size, lattice.spacing)
        layer: list[nn.Module] = [convolution(rep_in, rep_out, taps, padding=[n // 2 for n in taps], bias=norm is None)]
        if norm is not None:
            layer.append(norm[self.spatial_dims](rep_out))
        layer.append(nn.LeakyReLU(inplace=True))
        if self.dropout:
            layer.append(DROPOUTS[self.spatial_dims](self.dropout))
        return layer

    def shortcut(self, rep_in: int, rep_out: int) -> nn.Module:
        return nn.Identity() if rep_in == rep_out else CONVOLUTIONS[self.spatial_dims](rep_in, rep_out, 1, bias=False)

    def downsample(self, rep: int, lattice: Lattice) -> nn.Module:
        if self.normalization == "content":
            return ContentDownsample(self.downsampling, lattice.halved)
        if self.downsampling == "max":
            return MaxPool(rep, lattice.halved)
        return Downsample(self.downsampling, lattice.halved)

    def head(self, rep: int) -> nn.Module:
        return CONVOLUTIONS[self.spatial_dims](rep, self.out_channels, 1)
