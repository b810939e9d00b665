"""The parts of a U-Net with steerable features."""

from __future__ import annotations

from e3nn import o3
from torch import nn

from ..resampling import Downsample
from .basis import KernelSpace, reachable
from .convolution import Convolution
from .dropout import Dropout
from .gate import Gate
from .irreps import parse_irreps
from .normalization import BatchNorm, InstanceNorm
from .pooling import NormMaxPool

__all__ = ["SteerableFamily"]

NORMALIZATIONS = {"instance": InstanceNorm, "batch": BatchNorm, "none": None}


class SteerableFamily:
    """Parts for :class:`equivariant_nets.unet.UNet`; a representation is an ``e3nn.o3.Irreps``.

    The arguments are those of :func:`equivariant_nets.SteerableUNet`.
    """

    spatial_dims = 3

    def __init__(
        self,
        irreps_in: str,
        irreps_out: str,
        features: str,
        decoder_features: str | None,
        space: KernelSpace,
        normalization: str,
        downsampling: str,
        dropout: float,
        activation: str,
    ) -> None:
        if normalization not in NORMALIZATIONS:
            raise ValueError(f"normalization={normalization!r} is not known; choose from {list(NORMALIZATIONS)}.")
        self.input = parse_irreps(irreps_in, space.group, "irreps_in")
        self.output = parse_irreps(irreps_out, space.group, "irreps_out")
        self._encoder = parse_irreps(features, space.group, "features")
        self._decoder = parse_irreps(decoder_features or features, space.group, "decoder_features")
        self.space = space
        self.normalization = normalization
        self.downsampling = downsampling
        self.dropout = dropout
        self.activation = activation

    def encoder_features(self, level: int) -> o3.Irreps:
        return o3.Irreps([(mul * 2**level, ir) for mul, ir in self._encoder])

    def decoder_features(self, level: int) -> o3.Irreps:
        return o3.Irreps([(mul * 2**level, ir) for mul, ir in self._decoder])

    def block_output(self, rep_in: o3.Irreps, rep_out: o3.Irreps) -> o3.Irreps:
        """Those of rep_out that two layers can reach: under O(3) 0o, for one, needs three from an image."""
        found = reachable(reachable(rep_in, rep_out, self.space), rep_out, self.space)
        if found.dim == 0:
            raise ValueError(
                f"No kernel leads from {rep_in} to any of {rep_out} under {self.space.group} with "
                f"lmax={self.space.lmax}. Add irreps to features, or raise lmax."
            )
        return found

    def block(self, rep_in: o3.Irreps, rep_out: o3.Irreps) -> nn.Module:
        middle = reachable(rep_in, rep_out, self.space)
        return nn.Sequential(*self._layer(rep_in, middle), *self._layer(middle, rep_out))

    def _layer(self, rep_in: o3.Irreps, rep_out: o3.Irreps) -> list[nn.Module]:
        gate = Gate(rep_out, self.activation)
        norm = NORMALIZATIONS[self.normalization]
        layer: list[nn.Module] = [self._convolution(rep_in, gate.irreps_in, bias=norm is None)]
        if norm is not None:
            layer.append(norm(gate.irreps_in))
        layer.append(gate)
        if self.dropout:
            layer.append(Dropout(rep_out, self.dropout))
        return layer

    def _convolution(self, rep_in: o3.Irreps, rep_out: o3.Irreps, bias: bool, kernel_size: int | None = None) -> nn.Module:
        space = self.space if kernel_size is None else self.space._replace(kernel_size=kernel_size)
        return Convolution(rep_in, rep_out, **space._asdict(), bias=bias)

    def downsample(self, rep: o3.Irreps) -> nn.Module:
        return NormMaxPool(rep) if self.downsampling == "max" else Downsample(self.downsampling)

    def head(self, rep: o3.Irreps) -> nn.Module:
        return self._convolution(rep, self.output, bias=True, kernel_size=1)
