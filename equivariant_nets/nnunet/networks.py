"""The networks as nnU-Net v2 builds them from a plan, switches their deep supervision, and loads their weights.

nnU-Net builds ``network_class_name(input_channels=, num_classes=, deep_supervision=, **arch_kwargs)``, sets
``network.decoder.deep_supervision``, and takes, as long as that is on and in evaluation too, an output for each level
but the coarsest, finest first. It loads weights strictly, whether deep supervision was on or off: the heads are always
there. Nothing here imports nnU-Net.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from equivariant_nets.networks import constructors
from equivariant_nets.networks.lattice import lattices
from equivariant_nets.networks.regular import Group, ScaleGroup
from equivariant_nets.networks.steerable import Convolution
from equivariant_nets.networks.unet import UNet

__all__ = ["ConventionalUNet", "NNUNetConvention", "RegularUNet", "ScaleUNet", "SteerableUNet", "strides_of"]

Flip = Sequence[int]  # -1 for each axis that is mirrored, 1 for the others


def strides_of(spacing: Sequence[float] | None, spatial_dims: int, depth: int) -> list[list[int]]:
    """What nnU-Net calls ``strides``: 1 along each axis for the first level, then the factors of each halving.

    Args:
        spacing: of the voxels of the input along each axis, in mm; alike along all axes if None.
        spatial_dims: number of axes.
        depth: number of halvings.

    Raises:
        ValueError: a spacing for another number of axes, or one that is not positive.

    Example:
        >>> from equivariant_nets.nnunet.networks import strides_of
        >>> strides_of((2.0, 1.0, 1.0), 3, 2)
        [[1, 1, 1], [1, 2, 2], [2, 2, 2]]
    """
    levels = lattices(spacing, spatial_dims, depth)[:depth]
    return [[1] * spatial_dims, *([2 if halve else 1 for halve in level.halved] for level in levels)]


class NNUNetConvention(UNet):
    """A U-Net that is built, and whose deep supervision is switched, as nnU-Net does it.

    Args:
        input_channels: of the image.
        num_classes: channels of the output.
        strides: of each level, the first being 1 along each axis: those of :func:`strides_of`.
        deep_supervision: give an output for each level but the coarsest, finest first, in training and in evaluation.
        spacing: of the voxels along each axis, in mm; alike along all axes if None.
        options: further ones of the class of the same name in :mod:`equivariant_nets`.

    Shape: ``(B, input_channels, *spatial)`` to ``(B, num_classes, *spatial)``, or to a list of these. The state dict is
    that of the class of the same name with ``deep_supervision=depth - 1``.

    Raises:
        ValueError: strides that do not follow from the spacing, or what the network itself refuses.

    Example:
        >>> import torch
        >>> from equivariant_nets.nnunet import SteerableUNet
        >>> net = SteerableUNet(1, 3, [[1] * 3, [2] * 3, [2] * 3], deep_supervision=True, features="2x0e+1x1e")
        >>> [tuple(logits.shape) for logits in net.eval()(torch.zeros(1, 1, 8, 12, 16))]
        [(1, 3, 8, 12, 16), (1, 3, 4, 6, 8)]
    """

    def __init__(
        self,
        input_channels: int,
        num_classes: int,
        strides: Sequence[Sequence[int]],
        deep_supervision: bool = False,
        spacing: Sequence[float] | None = None,
        **options: Any,
    ) -> None:
        depth, spatial_dims = len(strides) - 1, len(strides[0])
        own = strides_of(spacing, spatial_dims, depth)
        if [list(factors) for factors in strides] != own:
            raise ValueError(
                f"strides={strides!r} of the plan are not those of spacing={spacing!r}, which are {own}. Write the "
                "plan with python -m equivariant_nets.nnunet plan, where --depth changes their number."
            )
        channels = self._channels(spatial_dims, input_channels, num_classes)
        # The constructor that comes next is that of the network, not of UNet.
        super().__init__(**channels, depth=depth, spacing=spacing, deep_supervision=max(depth - 1, 0), **options)  # type: ignore[call-arg, misc]
        self.deep_supervision = deep_supervision

    @staticmethod
    def _channels(spatial_dims: int, channels_in: int, channels_out: int) -> dict[str, Any]:
        """The options that say what comes in and goes out."""
        return {"spatial_dims": spatial_dims, "in_channels": channels_in, "out_channels": channels_out}

    @property
    def decoder(self) -> NNUNetConvention:
        """What nnU-Net switches ``deep_supervision`` of."""
        return self

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:  # type: ignore[override]
        return self._outputs(x, of_all_heads=self.deep_supervision)

    def keeps(self, flip: Flip) -> bool:
        """Whether mirroring the input mirrors the output: for each axis -1 where it is mirrored, else 1."""
        return min(flip) == 1


class SteerableUNet(NNUNetConvention, constructors.SteerableUNet):
    """:class:`equivariant_nets.SteerableUNet` in nnU-Net's convention; channels in and out are scalars, 0e."""

    head: Convolution

    @staticmethod
    def _channels(spatial_dims: int, channels_in: int, channels_out: int) -> dict[str, Any]:
        if spatial_dims != 3:
            raise ValueError(
                f"SteerableUNet is 3-D, and the strides of the plan are {spatial_dims}-D. Plan a 3-D configuration, or "
                "take RegularUNet: --symmetry e2."
            )
        return {"irreps_in": f"{channels_in}x0e", "irreps_out": f"{channels_out}x0e"}

    def keeps(self, flip: Flip) -> bool:
        return self.head.space.group == "O3" or math.prod(flip) == 1


class RegularUNet(NNUNetConvention, constructors.RegularUNet):
    """:class:`equivariant_nets.RegularUNet` in nnU-Net's convention."""

    group: Group

    def keeps(self, flip: Flip) -> bool:
        return bool(np.isclose(self.group.matrices, np.diag(flip)).all((1, 2)).any())


class ScaleUNet(NNUNetConvention, constructors.ScaleUNet):
    """:class:`equivariant_nets.ScaleUNet` in nnU-Net's convention."""

    group: ScaleGroup

    def keeps(self, flip: Flip) -> bool:
        return self.group.isotropic or super().keeps(flip)


class ConventionalUNet(NNUNetConvention, constructors.ConventionalUNet):
    """:class:`equivariant_nets.ConventionalUNet` in nnU-Net's convention."""
