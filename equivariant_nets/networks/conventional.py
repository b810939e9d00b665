"""The parts of a conventional U-Net: plain channels, the reference for every equivariant family."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from equivariant_nets.networks.family import numbered
from equivariant_nets.networks.lattice import Lattice, num_taps
from equivariant_nets.networks.resampling import Downsample, MaxPool

__all__ = ["ConventionalFamily"]

CONVOLUTIONS: dict[int, Callable[..., nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
NORMALIZATIONS: dict[str, dict[int, type[nn.Module]] | None] = {
    "instance": {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d},
    "batch": {2: nn.BatchNorm2d, 3: nn.BatchNorm3d},
    "none": None,
}
DROPOUTS = {2: nn.Dropout2d, 3: nn.Dropout3d}


class ConventionalFamily:
    """Parts for :class:`equivariant_nets.networks.unet.UNet`; a representation is a number of channels.

    The arguments are those of :func:`equivariant_nets.ConventionalUNet`; ``features`` has one number for each level.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        features: Sequence[int],
        kernel_size: int,
        normalization: str,
        downsampling: str,
        dropout: float,
    ) -> None:
        if spatial_dims not in CONVOLUTIONS:
            raise ValueError(f"spatial_dims={spatial_dims} is not supported; choose 2 or 3.")
        for name, channels in {"in_channels": in_channels, "out_channels": out_channels}.items():
            if channels < 1:
                raise ValueError(f"{name}={channels} is not a number of channels; give 1 or more.")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size} must be odd and positive, so that a kernel has a centre.")
        if normalization not in NORMALIZATIONS:
            raise ValueError(f"normalization={normalization!r} is not known; choose from {list(NORMALIZATIONS)}.")
        self.spatial_dims = spatial_dims
        self.input = in_channels
        self.output = out_channels
        self.features = features
        self.kernel_size = kernel_size
        self.normalization = normalization
        self.downsampling = downsampling
        self.dropout = dropout

    def encoder_features(self, level: int) -> int:
        return self.features[level]

    decoder_features = encoder_features

    def reachable(self, rep_in: int, target: int) -> int:
        return target

    def read(self, rep: int, readers: Sequence[int], by_head: bool) -> int:
        return rep

    def block(self, rep_in: int, middle: int, rep_out: int, lattice: Lattice) -> nn.Module:
        layers = [*self._layer(rep_in, middle, lattice), *self._layer(middle, rep_out, lattice)]
        return nn.Sequential(numbered(layers, DROPOUTS[self.spatial_dims]))

    def _layer(self, rep_in: int, rep_out: int, lattice: Lattice) -> list[nn.Module]:
        norm = NORMALIZATIONS[self.normalization]
        convolution = CONVOLUTIONS[self.spatial_dims]
        taps = num_taps(self.kernel_size, lattice.spacing)
        layer: list[nn.Module] = [convolution(rep_in, rep_out, taps, padding=[n // 2 for n in taps], bias=norm is None)]
        if norm is not None:
            layer.append(norm[self.spatial_dims](rep_out, affine=True))
        layer.append(nn.LeakyReLU(inplace=True))
        if self.dropout:
            layer.append(DROPOUTS[self.spatial_dims](self.dropout))
        return layer

    def shortcut(self, rep_in: int, rep_out: int) -> nn.Module:
        return nn.Identity() if rep_in == rep_out else CONVOLUTIONS[self.spatial_dims](rep_in, rep_out, 1, bias=False)

    def downsample(self, rep: int, lattice: Lattice) -> nn.Module:
        if self.downsampling == "max":
            return MaxPool(rep, lattice.halved)
        return Downsample(self.downsampling, lattice.halved)

    def head(self, rep: int) -> nn.Module:
        return CONVOLUTIONS[self.spatial_dims](rep, self.output, 1)
