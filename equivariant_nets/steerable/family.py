"""The parts of a U-Net with steerable features."""

from __future__ import annotations

from e3nn import o3
from torch import nn

from ..resampling import Downsample
from .basis import KernelSpace, reachable
from .convolution import Convolution
from .dropout import Dropout
from .gate import Gate
from .irreps import num_gates, parse_irreps
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

    def block_features(self, rep_in: o3.Irreps, target: o3.Irreps) -> tuple[o3.Irreps, o3.Irreps]:
        """Those of target that one and two layers can reach: under O(3) 0o, for one, needs three from an image."""
        middle = self._reachable(rep_in, target)
        return middle, self._reachable(middle, target)

    def _reachable(self, rep_in: o3.Irreps, target: o3.Irreps) -> o3.Irreps:
        found = reachable(rep_in, target, self.space)
        if found.dim == 0:
            raise ValueError(
                f"No kernel leads from {rep_in} to any of the features {target} under {self.space.group} with "
                f"lmax={self.space.lmax}. Add to the features an irrep that {rep_in} reaches, or raise lmax."
            )
        if num_gates(found) and not reachable(rep_in, o3.Irreps("0e"), self.space):
            raise ValueError(
                f"The features {found} are gated by 0e channels, and no kernel leads from {rep_in} to 0e under "
                f"{self.space.group} with lmax={self.space.lmax}. Add an irrep that leads to 0e, or raise lmax."
            )
        return found

    def head_input(self, rep: o3.Irreps) -> o3.Irreps:
        """Those irreps that the pointwise head can use: a kernel of one voxel maps an irrep to itself alone."""
        available = {ir for _, ir in rep}
        for _, ir in self.output:
            if ir not in available:
                raise ValueError(
                    f"irreps_out={self.output} asks for {ir}, and the last features, {rep}, hold none. "
                    f"Add {ir} to features, or to decoder_features where they are given."
                )
        wanted = {ir for _, ir in self.output}
        return o3.Irreps([(mul, ir) for mul, ir in rep if ir in wanted])

    def block(self, rep_in: o3.Irreps, middle: o3.Irreps, rep_out: o3.Irreps) -> nn.Module:
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

    def _convolution(
        self, rep_in: o3.Irreps, rep_out: o3.Irreps, bias: bool, kernel_size: int | None = None
    ) -> nn.Module:
        space = self.space if kernel_size is None else self.space._replace(kernel_size=kernel_size)
        return Convolution(rep_in, rep_out, **space._asdict(), bias=bias)

    def downsample(self, rep: o3.Irreps) -> nn.Module:
        return NormMaxPool(rep) if self.downsampling == "max" else Downsample(self.downsampling)

    def head(self, rep: o3.Irreps) -> nn.Module:
        return self._convolution(rep, self.output, bias=True, kernel_size=1)
