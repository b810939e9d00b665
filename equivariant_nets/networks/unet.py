"""The one U-Net, over any family of features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from equivariant_nets.networks.checks import check_choice
from equivariant_nets.networks.family import Family, Rep
from equivariant_nets.networks.lattice import Lattice, lattices
from equivariant_nets.networks.materialize import content_mask
from equivariant_nets.networks.plan import PlannedBlock, plan_blocks
from equivariant_nets.networks.resampling import UPSAMPLINGS, ContentUpsample, Upsample

__all__ = ["PlainUNet", "UNet"]


class Residual(nn.Module):
    """A block, and a shortcut around it."""

    def __init__(self, block: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) + self.shortcut(x)


class PlainUNet(nn.Module):
    """The wiring of a U-Net: two convolutions a block, halvings, linear upsampling, skips by concatenation, and a
    pointwise head. Every part is given.

    Args:
        encoders: blocks, finest first.
        downsamples: what comes before each encoder; the first one is the identity.
        decoders: blocks, coarsest first.
        upsamples: what comes before each decoder.
        head: after the last decoder.
        in_channels: of the input.
        lattices: of each level, finest first.
    """

    def __init__(
        self,
        encoders: nn.ModuleList,
        downsamples: nn.ModuleList,
        decoders: nn.ModuleList,
        upsamples: nn.ModuleList,
        head: nn.Module,
        in_channels: int,
        lattices: Sequence[Lattice],
    ) -> None:
        super().__init__()
        self.encoders = encoders
        self.downsamples = downsamples
        self.decoders = decoders
        self.upsamples = upsamples
        self.head = head
        self.in_channels = in_channels
        self.spatial_dims = len(lattices[0].spacing)
        self.depth = len(lattices) - 1
        # How often each axis is halved.
        self.halvings = [sum(axis) for axis in zip(*[lattice.halved for lattice in lattices[:-1]], strict=True)]
        self.halvings = self.halvings or [0] * self.spatial_dims
        self.over_content = any(isinstance(upsample, ContentUpsample) for upsample in upsamples)

    def forward(self, x: Tensor) -> Tensor:
        if not torch.jit.is_scripting():
            x = self._checked(x)
        return self.head(self._features(x)[-1])

    def _features(self, x: Tensor) -> list[Tensor]:
        """The coarsest features and those of every decoder."""
        # TorchScript, which an exported network is compiled to, has no zip(strict=).
        skips: list[Tensor] = []
        for encoder, downsample in zip(self.encoders, self.downsamples):  # noqa: B905
            x = encoder(downsample(x))
            skips.append(x)
        features = [skips.pop()]
        for decoder, upsample in zip(self.decoders, self.upsamples):  # noqa: B905
            skip = skips.pop()
            x = upsample(features[-1], skip.shape[2:])
            if self.over_content:  # that of the level: coarse voxels reach beyond it
                x = x * content_mask(skip)
            features.append(decoder(torch.cat([x, skip], 1)))
        return features

    def _checked(self, x: Tensor) -> Tensor:
        """The input as a plain tensor, for MetaTensors would run every operation through Python once more."""
        if torch.compiler.is_exporting():  # sizes are symbols
            return x
        axes = "(B, C, D, H, W)" if self.spatial_dims == 3 else "(B, C, H, W)"
        if x.dim() != self.spatial_dims + 2 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"Input of shape {tuple(x.shape)}: this network takes {axes} with C={self.in_channels}. Add a batch "
                "and a channel axis where they are missing, or build the network for these channels."
            )
        dtype = self._weight_type()
        if x.dtype != dtype and not (x.is_floating_point() and torch.is_autocast_enabled(x.device.type)):
            raise ValueError(f"Input of type {x.dtype}: the weights are {dtype}. Convert it with x.to({dtype}).")
        smallest = tuple(2 ** (halvings - 1) + 1 if halvings else 1 for halvings in self.halvings)
        larger = tuple(2**halvings + 1 for halvings in self.halvings)
        sizes = list(zip(x.shape[2:], smallest, larger, strict=True))
        if any(size < least for size, least, _ in sizes) or all(size < more for size, _, more in sizes):
            raise ValueError(
                f"Input of spatial size {tuple(x.shape[2:])} cannot be halved {self.depth} times: the axes need at "
                f"least {smallest} voxels, and one of them as many as in {larger}, so that more than one voxel is "
                "left. Pad the input, or build the network with a smaller depth."
            )
        return x if type(x) is Tensor else x.as_subclass(Tensor)

    def _weight_type(self) -> torch.dtype:
        for parameter in self.parameters():
            return parameter.dtype
        # A replica of nn.DataParallel has none: its weights are attributes of their layers.
        return next(w.dtype for m in self.modules() if isinstance(w := getattr(m, "weight", None), Tensor))


def _build_block(family: Family[Rep], planned: PlannedBlock[Rep], lattice: Lattice, residual: bool) -> nn.Module:
    block = family.block(planned.rep_in, planned.middle, planned.rep_out, lattice)
    return Residual(block, family.shortcut(planned.rep_in, planned.rep_out)) if residual else block


class UNet(PlainUNet):
    """A U-Net over any family of features.

    Args:
        family: makes the parts.
        depth: number of halvings.
        spacing: of the input along each axis; alike along all if None.
        residual: give every block a shortcut.
        deep_supervision: number of decoder levels below the finest that have a head of their own.
        upsampling: ``linear`` or ``spline``.

    Shape: ``(B, C_in, *spatial)`` to ``(B, C_out, *spatial)``. Sizes need not be divisible by anything; an axis that is
    halved h times must have at least ``2**(h - 1) + 1`` voxels, so that every halving still halves it, and one axis
    ``2**h + 1``, so that the coarsest level has more than one voxel to normalise over. In training mode with deep
    supervision, a list of outputs, finest first, each at the size of its level.

    Raises:
        ValueError: input with the wrong number of axes or channels, another type than the weights, or too few voxels.
    """

    def __init__(
        self,
        family: Family[Rep],
        depth: int = 3,
        spacing: Sequence[float] | None = None,
        residual: bool = False,
        deep_supervision: int = 0,
        upsampling: str = "linear",
    ) -> None:
        check_choice("upsampling", upsampling, UPSAMPLINGS)
        levels = lattices(spacing, family.spatial_dims, depth)
        plan = plan_blocks(family, depth, deep_supervision)
        blocks = [_build_block(family, planned, levels[planned.level], residual) for planned in plan]
        downsamples = [family.downsample(planned.rep_out, levels[planned.level]) for planned in plan[:depth]]
        upsample = ContentUpsample if family.normalization == "content" else Upsample
        upsamples = [upsample(levels[planned.level].halved, upsampling) for planned in plan[depth + 1 :]]
        super().__init__(
            encoders=nn.ModuleList(blocks[: depth + 1]),
            downsamples=nn.ModuleList([nn.Identity(), *downsamples]),
            decoders=nn.ModuleList(blocks[depth + 1 :]),
            upsamples=nn.ModuleList(upsamples),
            head=family.head(plan[-1].rep_out),
            in_channels=family.in_channels,
            lattices=levels,
        )
        self.lattices = levels
        coarser = reversed(plan[-1 - deep_supervision : -1])
        self.coarse_heads = nn.ModuleList(family.head(planned.rep_out) for planned in coarser)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:  # type: ignore[override]
        return self._outputs(x, of_all_heads=self.training and len(self.coarse_heads) > 0)

    def _outputs(self, x: Tensor, of_all_heads: bool) -> Tensor | list[Tensor]:
        features = self._features(self._checked(x))
        if not of_all_heads:
            return self.head(features[-1])
        heads = [self.head, *self.coarse_heads]
        return [head(rep) for head, rep in zip(heads, reversed(features), strict=False)]

    def materialize(self) -> PlainUNet:
        """The same wiring around the same parts, for :func:`equivariant_nets.materialize`."""
        parts = self.encoders, self.downsamples, self.decoders, self.upsamples, self.head
        return PlainUNet(*parts, self.in_channels, self.lattices)

    def __prepare_scriptable__(self) -> nn.Module:
        """What ``torch.jit.script`` compiles, and so ``monai.bundle ckpt_export``."""
        from equivariant_nets.networks.materialize import materialize

        return materialize(self)
