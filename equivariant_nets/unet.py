"""The one U-Net, and a constructor for each family of features."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .conventional import ConventionalFamily
from .resampling import LINEAR_DOWNSAMPLINGS, Upsample
from .steerable import SteerableFamily
from .steerable.basis import KernelSpace

__all__ = ["ConventionalUNet", "Family", "SteerableUNet", "UNet"]

DOWNSAMPLINGS = (*LINEAR_DOWNSAMPLINGS, "max")


class Family(Protocol):
    """What the U-Net asks of a family of features. A representation ``rep`` says what the channels carry; ``a + b`` is
    the representation of concatenated channels."""

    spatial_dims: int
    downsampling: str
    input: Any
    output: Any

    def encoder_features(self, level: int) -> Any: ...

    def decoder_features(self, level: int) -> Any: ...

    def block_features(self, rep_in: Any, target: Any) -> tuple[Any, Any]:
        """What of target the first and the second layer of a block can produce from rep_in."""

    def head_input(self, rep: Any) -> Any:
        """What of rep the head can use."""

    def block(self, rep_in: Any, middle: Any, rep_out: Any) -> nn.Module: ...

    def downsample(self, rep: Any) -> nn.Module: ...

    def head(self, rep: Any) -> nn.Module: ...


class UNet(nn.Module):
    """A U-Net over any family of features: two convolutions a block, ``depth`` halvings, linear upsampling, skips by
    concatenation, and a pointwise head.

    Shape: ``(B, C_in, *spatial)`` to ``(B, C_out, *spatial)``. Sizes need not be divisible by anything; each axis must
    have at least ``2**(depth - 1) + 1`` voxels, so that every halving still halves it, and one axis ``2**depth + 1``,
    so that the coarsest level has more than one voxel to normalise over.

    Raises:
        ValueError: input with the wrong number of axes or channels, another type than the weights, or too few voxels.
    """

    def __init__(self, family: Family, depth: int = 3) -> None:
        super().__init__()
        if depth < 0:
            raise ValueError(f"depth={depth} must be 0 or more: it is the number of halvings.")
        if family.downsampling not in DOWNSAMPLINGS:
            raise ValueError(f"downsampling={family.downsampling!r} is not known; choose from {list(DOWNSAMPLINGS)}.")
        self.depth = depth
        self.spatial_dims = family.spatial_dims
        self.encoders, self.downsamples, self.decoders = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.upsample = Upsample()
        rep, skips = family.input, []
        for level in range(depth + 1):
            rep = self._add_block(self.encoders, family, rep, family.encoder_features(level), last=depth == 0)
            if level < depth:
                skips.append(rep)
                self.downsamples.append(family.downsample(rep))
        for level in reversed(range(depth)):
            target = family.decoder_features(level)
            rep = self._add_block(self.decoders, family, rep + skips[level], target, last=level == 0)
        self.head = family.head(rep)
        self.in_channels = getattr(family.input, "dim", family.input)

    @staticmethod
    def _add_block(blocks: nn.ModuleList, family: Family, rep_in: Any, target: Any, last: bool) -> Any:
        middle, rep_out = family.block_features(rep_in, target)
        if last:
            rep_out = family.head_input(rep_out)
        blocks.append(family.block(rep_in, middle, rep_out))
        return rep_out

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        x = x.as_subclass(Tensor)  # MetaTensors would run every operation through Python once more
        skips = []
        for encoder, downsample in zip(self.encoders, self.downsamples, strict=False):
            skips.append(encoder(x))
            x = downsample(skips[-1])
        x = self.encoders[-1](x)
        for decoder, skip in zip(self.decoders, reversed(skips), strict=True):
            x = decoder(torch.cat([self.upsample(x, skip.shape[2:]), skip], dim=1))
        return self.head(x)

    def _check(self, x: Tensor) -> None:
        axes = "(B, C, D, H, W)" if self.spatial_dims == 3 else "(B, C, H, W)"
        if x.dim() != self.spatial_dims + 2 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"Input of shape {tuple(x.shape)}: this network takes {axes} with C={self.in_channels}. Add a batch "
                "and a channel axis where they are missing, or build the network for these channels."
            )
        dtype = next(self.parameters()).dtype
        if x.dtype != dtype and not (x.is_floating_point() and torch.is_autocast_enabled(x.device.type)):
            raise ValueError(f"Input of type {x.dtype}: the weights are {dtype}. Convert it with x.to({dtype}).")
        smallest = 2 ** (self.depth - 1) + 1 if self.depth else 1
        if min(x.shape[2:]) < smallest or max(x.shape[2:]) <= 2**self.depth:
            raise ValueError(
                f"Input of spatial size {tuple(x.shape[2:])} cannot be halved {self.depth} times: every axis needs at "
                f"least {smallest} voxels, and one axis {2**self.depth + 1}, so that more than one voxel is left. "
                "Pad the input, or build the network with a smaller depth."
            )


class SteerableUNet(UNet):
    """The SO(3)- or O(3)-steerable U-Net: exactly equivariant under the symmetries of the voxel lattice at every size
    (with ``max``, but for ties: see :class:`equivariant_nets.steerable.NormMaxPool`), approximately under all others.

    Args:
        irreps_in: what the input channels carry: ``4x0e`` for four image contrasts, ``1x1o`` for a vector field.
        irreps_out: what the output channels carry; ``3x0e`` for the logits of three classes.
        features: irreps of the first level; multiplicities double with each halving.
        depth: number of halvings.
        kernel_size: voxels along each axis, odd.
        group: ``SO3``; ``O3`` for equivariance under reflections too (the features then need odd irreps as well).
        lmax: highest order of the spherical harmonics in the kernels.
        radial_basis: ``gaussian_rings``, or the paper's ``smooth_finite``.
        normalization: ``instance``, ``batch`` or ``none``.
        downsampling: ``blur`` (anti-aliased), ``average`` or ``max`` (of the norm, for irreps other than 0e).
        dropout: probability of dropping an irrep after each layer.
        decoder_features: irreps of the first level of the decoder, where they differ; ``30x0e`` for scalars only.
        activation: the non-linearity on 0e: ``relu``, ``silu`` or ``gelu``. Other irreps are gated.

    Shape: ``(B, irreps_in.dim, D, H, W)`` to ``(B, irreps_out.dim, D, H, W)``.

    Raises:
        ValueError: irreps that cannot be read or reached, or an option that is not among those above.

    Source: Diaz et al., Leveraging SO(3)-steerable convolutions for pose-robust semantic segmentation in 3D medical
    data, MELBA 2024:010.

    Example:
        >>> import torch
        >>> from equivariant_nets import SteerableUNet
        >>> SteerableUNet(irreps_out="3x0e", features="2x0e+1x1e", depth=2)(torch.zeros(1, 1, 9, 10, 11)).shape
        torch.Size([1, 3, 9, 10, 11])
    """

    def __init__(
        self,
        irreps_in: str = "1x0e",
        irreps_out: str = "3x0e",
        features: str = "8x0e+4x1e+2x2e",
        depth: int = 3,
        kernel_size: int = 5,
        group: str = "SO3",
        lmax: int = 2,
        radial_basis: str = "gaussian_rings",
        normalization: str = "instance",
        downsampling: str = "blur",
        dropout: float = 0.0,
        decoder_features: str | None = None,
        activation: str = "relu",
    ) -> None:
        space = KernelSpace(kernel_size, lmax, radial_basis, group)
        family = SteerableFamily(
            irreps_in, irreps_out, features, decoder_features, space, normalization, downsampling, dropout, activation
        )
        super().__init__(family, depth)
        self.irreps_in = family.input
        self.irreps_out = family.output


class ConventionalUNet(UNet):
    """The plain U-Net with the same wiring: the reference, and equivariant under translations only.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output.
        features: channels of the first level; they double with each halving.
        depth: number of halvings.
        kernel_size: voxels along each axis, odd.
        normalization: ``instance``, ``batch`` or ``none``.
        downsampling: ``blur``, ``average`` or ``max``.
        dropout: probability of dropping a channel after each layer.

    Shape: ``(B, in_channels, *spatial)`` to ``(B, out_channels, *spatial)``.

    Raises:
        ValueError: an option that is not among those above.

    Example:
        >>> import torch
        >>> from equivariant_nets import ConventionalUNet
        >>> ConventionalUNet(features=4, depth=2)(torch.zeros(1, 1, 9, 10, 11)).shape
        torch.Size([1, 3, 9, 10, 11])
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        out_channels: int = 3,
        features: int = 30,
        depth: int = 3,
        kernel_size: int = 5,
        normalization: str = "instance",
        downsampling: str = "blur",
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            ConventionalFamily(
                spatial_dims, in_channels, out_channels, features, kernel_size, normalization, downsampling, dropout
            ),
            depth,
        )
