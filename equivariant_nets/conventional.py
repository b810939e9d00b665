"""The parts of a conventional U-Net: plain channels, the reference for every equivariant family."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .lattice import Lattice, num_taps
from .plain import PlainMaxPool
from .resampling import Downsample, max_pool_windows

__all__ = ["ConventionalFamily", "MaxPool"]

CONVOLUTIONS: dict[int, Callable[..., nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
NORMALIZATIONS: dict[str, dict[int, type[nn.Module]] | None] = {
    "instance": {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d},
    "batch": {2: nn.BatchNorm2d, 3: nn.BatchNorm3d},
    "none": None,
}
DROPOUTS = {2: nn.Dropout2d, 3: nn.Dropout3d}
MAX_POOLS = {2: F.max_pool2d, 3: F.max_pool3d}


class MaxPool(nn.Module):
    """Halve spatial axes by the maximum of windows that lie symmetrically at every size.

    Args:
        channels: of the features.
        halved: for each spatial axis, whether it is halved.

    Shape: ``(B, C, *spatial)`` to ``(B, C, *[ceil(n / 2) for n in spatial])``, in 2-D and 3-D.
    """

    def __init__(self, channels: int, halved: Sequence[bool]) -> None:
        super().__init__()
        self.channels = channels
        self.halved = tuple(halved)

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_exporting():
            return self.materialize()(x)
        return MAX_POOLS[x.dim() - 2](x, *max_pool_windows(x.shape[2:], self.halved))

    def materialize(self) -> nn.Module:
        """The same without a window that depends on the size."""
        return PlainMaxPool([(self.channels, 0)], self.halved)


class ConventionalFamily:
    """Parts for :class:`equivariant_nets.unet.UNet`; a representation is a number of channels.

    The arguments are those of :func:`equivariant_nets.ConventionalUNet`.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        out_channels: int,
        features: int,
        kernel_size: int,
        normalization: str,
        downsampling: str,
        dropout: float,
    ) -> None:
        if spatial_dims not in CONVOLUTIONS:
            raise ValueError(f"spatial_dims={spatial_dims} is not supported; choose 2 or 3.")
        for name, channels in {"in_channels": in_channels, "out_channels": out_channels, "features": features}.items():
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
        return self.features * 2**level

    decoder_features = encoder_features

    def reachable(self, rep_in: int, target: int) -> int:
        return target

    def read(self, rep: int, readers: Sequence[int], by_head: bool) -> int:
        return rep

    def block(self, rep_in: int, middle: int, rep_out: int, lattice: Lattice) -> nn.Module:
        return nn.Sequential(*self._layer(rep_in, middle, lattice), *self._layer(middle, rep_out, lattice))

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
