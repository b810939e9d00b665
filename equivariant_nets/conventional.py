"""The parts of a conventional U-Net: plain channels, the reference for every equivariant family."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .resampling import Downsample, max_pool_windows

__all__ = ["ConventionalFamily", "MaxPool"]

CONVOLUTIONS = {2: nn.Conv2d, 3: nn.Conv3d}
NORMALIZATIONS: dict[str, dict[int, type[nn.Module]] | None] = {
    "instance": {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d},
    "batch": {2: nn.BatchNorm2d, 3: nn.BatchNorm3d},
    "none": None,
}
DROPOUTS = {2: nn.Dropout2d, 3: nn.Dropout3d}
MAX_POOLS = {2: F.max_pool2d, 3: F.max_pool3d}


class MaxPool(nn.Module):
    """Halve every spatial axis by the maximum of windows that lie symmetrically at every size.

    Shape: ``(B, C, *spatial)`` to ``(B, C, *[ceil(n / 2) for n in spatial])``, in 2-D and 3-D.
    """

    def forward(self, x: Tensor) -> Tensor:
        return MAX_POOLS[x.dim() - 2](x, *max_pool_windows(x.shape[2:]))


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

    def block_features(self, rep_in: int, target: int) -> tuple[int, int]:
        return target, target

    def head_input(self, rep: int) -> int:
        return rep

    def block(self, rep_in: int, middle: int, rep_out: int) -> nn.Module:
        return nn.Sequential(*self._layer(rep_in, middle), *self._layer(middle, rep_out))

    def _layer(self, rep_in: int, rep_out: int) -> list[nn.Module]:
        norm = NORMALIZATIONS[self.normalization]
        convolution = CONVOLUTIONS[self.spatial_dims]
        layer: list[nn.Module] = [
            convolution(rep_in, rep_out, self.kernel_size, padding=self.kernel_size // 2, bias=norm is None)
        ]
        if norm is not None:
            layer.append(norm[self.spatial_dims](rep_out, affine=True))
        layer.append(nn.LeakyReLU(inplace=True))
        if self.dropout:
            layer.append(DROPOUTS[self.spatial_dims](self.dropout))
        return layer

    def downsample(self, rep: int) -> nn.Module:
        return MaxPool() if self.downsampling == "max" else Downsample(self.downsampling)

    def head(self, rep: int) -> nn.Module:
        return CONVOLUTIONS[self.spatial_dims](rep, self.output, 1)
