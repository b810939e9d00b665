"""The parts of a U-Net with steerable features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from e3nn import o3
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from equivariant_nets.networks.content import ContentBlock
from equivariant_nets.networks.family import FamilyOptions, numbered
from equivariant_nets.networks.lattice import Lattice
from equivariant_nets.networks.precision import autocast_off
from equivariant_nets.networks.resampling import ContentDownsample, Downsample
from equivariant_nets.networks.steerable.basis import KernelSpace, reachable
from equivariant_nets.networks.steerable.convolution import Convolution
from equivariant_nets.networks.steerable.dropout import Dropout
from equivariant_nets.networks.steerable.gate import Gate
from equivariant_nets.networks.steerable.irreps import num_gates, parse_irreps
from equivariant_nets.networks.steerable.normalization import BatchNorm, ContentNorm, InstanceNorm
from equivariant_nets.networks.steerable.pooling import NormMaxPool

__all__ = ["SteerableFamily"]

NORMS: dict[str, type[InstanceNorm | BatchNorm | ContentNorm]] = {
    "instance": InstanceNorm,
    "batch": BatchNorm,
    "content": ContentNorm,
}


class Block(nn.Sequential):
    """Layers in order, where a normalization and the gate after it are one operation, if no hooks wait for either."""

    def forward(self, x: Tensor) -> Tensor:
        norm: InstanceNorm | BatchNorm | None = None  # that is left to the gate after it
        for module in self:
            if norm is not None and isinstance(module, Gate) and not _has_hooks(module):
                with autocast_off(x):
                    scale, shift = norm.affine(x)
                x, norm = module(x, scale, shift), None
                continue
            if norm is not None:
                x, norm = norm(x), None
            if isinstance(module, InstanceNorm | BatchNorm) and not _has_hooks(module):
                norm = module
            else:
                x = module(x)
        return x if norm is None else norm(x)

    def materialize(self) -> nn.Sequential:
        """The same layers one by one, for :func:`equivariant_nets.materialize`."""
        return nn.Sequential(*self)


def _has_hooks(module: nn.Module) -> bool:
    """Whether something waits for the calls of a module."""
    own = module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks
    return any(own) or bool(_has_any_global_hook())


@dataclass(frozen=True, kw_only=True)
class SteerableFamily(FamilyOptions):
    """Parts for :class:`equivariant_nets.networks.unet.UNet`; a representation is an ``e3nn.o3.Irreps``.

    The options are those of :class:`equivariant_nets.SteerableUNet`.
    """

    irreps_in: str
    irreps_out: str
    features: str
    decoder_features: str | None
    group: str
    lmax: int
    radial_basis: str
    activation: str
    gates: str

    spatial_dims = 3

    @property
    def space(self) -> KernelSpace:
        return KernelSpace(self.kernel_size, self.lmax, self.radial_basis, self.group)

    @property
    def in_channels(self) -> int:
        return self.input.dim

    @cached_property
    def input(self) -> o3.Irreps:
        return parse_irreps(self.irreps_in, self.group, "irreps_in")

    @cached_property
    def output(self) -> o3.Irreps:
        return parse_irreps(self.irreps_out, self.group, "irreps_out")

    @cached_property
    def _encoder(self) -> o3.Irreps:
        return parse_irreps(self.features, self.group, "features")

    @cached_property
    def _decoder(self) -> o3.Irreps:
        return parse_irreps(self.decoder_features or self.features, self.group, "decoder_features")

    def encoder_target(self, level: int) -> o3.Irreps:
        return o3.Irreps([(mul * 2**level, ir) for mul, ir in self._encoder])

    def decoder_target(self, level: int) -> o3.Irreps:
        return o3.Irreps([(mul * 2**level, ir) for mul, ir in self._decoder])

    def reachable(self, rep_in: o3.Irreps, target: o3.Irreps) -> o3.Irreps:
        """Those of target that one layer reaches: under O(3) 0o, for one, needs three from an image."""
        found = reachable(rep_in, target, self.space)
        if found.dim == 0:
            raise ValueError(
                f"No kernel leads from {rep_in} to any of the features {target} under {self.group} with "
                f"lmax={self.lmax}. Add to the features an irrep that {rep_in} reaches, or raise lmax."
            )
        if num_gates(found) and not reachable(rep_in, o3.Irreps("0e"), self.space):
            raise ValueError(
                f"The features {found} are gated by 0e channels, and no kernel leads from {rep_in} to 0e under "
                f"{self.group} with lmax={self.lmax}. Add an irrep that leads to 0e, or raise lmax."
            )
        return found

    def read(self, rep: o3.Irreps, readers: Sequence[o3.Irreps], by_head: bool) -> o3.Irreps:
        """Those irreps that a kernel leads from; the pointwise head maps an irrep to itself alone."""
        available = {ir for _, ir in rep}
        for _, ir in self.output if by_head else ():
            if ir not in available:
                raise ValueError(
                    f"irreps_out={self.output} asks for {ir}, and the last features, {rep}, hold none. "
                    f"Add {ir} to features, or to decoder_features where they are given."
                )
        wanted = {ir for _, ir in self.output} if by_head else set()
        for reader in readers:
            gates = o3.Irreps([(num_gates(reader), (0, 1))])
            wanted |= {ir for ir in available if reachable(o3.Irreps([(1, ir)]), reader + gates, self.space).dim}
        return o3.Irreps([(mul, ir) for mul, ir in rep if ir in wanted])

    def block(self, rep_in: o3.Irreps, middle: o3.Irreps, rep_out: o3.Irreps, lattice: Lattice) -> nn.Module:
        layers = [*self._layer(rep_in, middle, lattice), *self._layer(middle, rep_out, lattice)]
        block = ContentBlock if self.normalization == "content" else Block
        return block(numbered(layers, Dropout))

    def _layer(self, rep_in: o3.Irreps, rep_out: o3.Irreps, lattice: Lattice) -> list[nn.Module]:
        gate = Gate(rep_out, self.activation, self.gates)
        norm = NORMS.get(self.normalization)
        layer: list[nn.Module] = [self._convolution(rep_in, gate.irreps_in, spacing=lattice.spacing, bias=norm is None)]
        if norm is not None:
            layer.append(norm(gate.irreps_in))
        layer.append(gate)
        if self.dropout:
            layer.append(Dropout(rep_out, self.dropout))
        return layer

    def _convolution(self, rep_in: o3.Irreps, rep_out: o3.Irreps, **options: Any) -> Convolution:
        return Convolution(rep_in, rep_out, **{**self.space._asdict(), **options})

    def shortcut(self, rep_in: o3.Irreps, rep_out: o3.Irreps) -> nn.Module:
        if rep_in == rep_out:
            return nn.Identity()
        return self._convolution(rep_in, rep_out, kernel_size=1, allow_zero=True)

    def downsample(self, rep: o3.Irreps, lattice: Lattice) -> nn.Module:
        if self.normalization == "content":
            return ContentDownsample(self.downsampling, lattice.halved)
        if self.downsampling == "max":
            return NormMaxPool(rep, lattice.halved)
        return Downsample(self.downsampling, lattice.halved)

    def head(self, rep: o3.Irreps) -> nn.Module:
        return self._convolution(rep, self.output, kernel_size=1, bias=True)
