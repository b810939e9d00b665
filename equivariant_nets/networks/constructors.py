"""Constructors of the U-Net for each family of features."""

from __future__ import annotations

from collections.abc import Sequence

from equivariant_nets.networks.conventional import ConventionalFamily
from equivariant_nets.networks.regular import RegularFamily, ScaleGroup, find_group
from equivariant_nets.networks.steerable import SteerableFamily
from equivariant_nets.networks.unet import UNet

__all__ = ["ConventionalUNet", "RegularUNet", "ScaleUNet", "SteerableUNet"]


def _widths(features: int | Sequence[int], depth: int) -> list[int]:
    """The width of each level: doubled with each halving, or as given."""
    levels = max(depth, 0) + 1
    if isinstance(features, int):
        widths = [features * 2**level for level in range(levels)]
    else:
        widths = list(features) if isinstance(features, Sequence) else []
    if len(widths) != levels or not all(isinstance(width, int) and width >= 1 for width in widths):
        raise ValueError(
            f"features={features!r} are no widths for depth={depth}: give one whole number from 1, which doubles with "
            f"each halving, or {levels} of them, one for each level, finest first."
        )
    return widths


class SteerableUNet(UNet):
    """The SO(3)- or O(3)-steerable U-Net: exactly equivariant under the symmetries of the voxel lattice at every size
    (with ``max``, but for ties: see :class:`equivariant_nets.networks.steerable.NormMaxPool`), approximately under all
    others.

    Args:
        irreps_in: what the input channels carry: ``4x0e`` for four image contrasts, ``1x1o`` for a vector field.
        irreps_out: what the output channels carry; ``3x0e`` for the logits of three classes.
        features: irreps of the first level; multiplicities double with each halving.
        depth: number of halvings.
        kernel_size: voxels along the finest axis, odd.
        group: ``SO3``; ``O3`` for equivariance under reflections too (the features then need odd irreps as well).
        lmax: highest order of the spherical harmonics in the kernels.
        radial_basis: ``gaussian_rings``, or the paper's ``smooth_finite``.
        normalization: ``instance``, ``batch`` or ``none``; or ``content``: ``instance`` over the voxels where the input
            is not 0, and 0 outside, so that filled corners count nowhere (a voxel where all
            channels of a level are 0 is as filled).
        downsampling: ``blur`` (anti-aliased), ``average`` or ``max`` (of the norm, for irreps other than 0e).
        dropout: probability of dropping an irrep after each layer.
        decoder_features: irreps of the first level of the decoder, where they differ; ``30x0e`` for scalars only.
        activation: the non-linearity on 0e: ``relu``, ``silu`` or ``gelu``. Other irreps are gated.
        gates: ``scalars`` makes the gates a pointwise map of a layer's 0e features, at next to no cost; ``convolution``
            convolves for them, as in the paper, and as every layer without 0e does.
        spacing: of the voxels along each axis, in mm; alike along all axes if None. Kernels have the extent of
            ``kernel_size`` voxels of the finest axis, so fewer taps along coarser ones, and an axis is halved only when
            its spacing is due.
        residual: give every block a shortcut.
        deep_supervision: number of decoder levels below the finest with a head of their own; in training mode, the
            output is then a list, finest first, as ``monai.losses.DeepSupervisionLoss`` takes it.
        upsampling: ``linear``, or ``spline`` (cubic B-splines), which smooths: steerable networks with random weights
            have a third less error under free rotations.

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
        gates: str = "scalars",
        spacing: Sequence[float] | None = None,
        residual: bool = False,
        deep_supervision: int = 0,
        upsampling: str = "linear",
    ) -> None:
        family = SteerableFamily(
            irreps_in=irreps_in,
            irreps_out=irreps_out,
            features=features,
            decoder_features=decoder_features,
            group=group,
            kernel_size=kernel_size,
            lmax=lmax,
            radial_basis=radial_basis,
            normalization=normalization,
            downsampling=downsampling,
            dropout=dropout,
            activation=activation,
            gates=gates,
        )
        super().__init__(
            family, depth, spacing=spacing, residual=residual, deep_supervision=deep_supervision, upsampling=upsampling
        )
        self.irreps_in = family.input
        self.irreps_out = family.output


class RegularUNet(UNet):
    """The U-Net on fields of the regular representation of a finite group: exactly equivariant at every size under
    those of its elements that take the voxel lattice to itself, approximately under the others.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output.
        group: in 2-D ``C1``, ``C2``, ... (rotations) or ``D1``, ``D2``, ... (and reflections); in 3-D ``V4`` (half
            turns), ``T``, ``O`` (the 24 rotations of the cube) or ``O_h`` (and reflections); ``trivial`` in both.
        features: fields of the first level, which double with each halving; or those of each level, finest first. A
            field has as many channels as the group has elements.
        depth: number of halvings.
        kernel_size: voxels along the finest axis, odd.
        separable: mix fields and elements at each voxel, then filter each channel in space, in place of one convolution
            that does both: the group convolutions of the paper.
        normalization: ``instance``, ``batch`` or ``none``, jointly over a field; or ``content``: ``instance`` over the
            voxels where the input is not 0, and 0 outside, so that filled corners count nowhere (a voxel where all
            channels of a level are 0 is as filled).
        downsampling: ``blur`` (anti-aliased), ``average`` or ``max``.
        dropout: probability of dropping a field after each layer.
        projection: how fields become invariant before the last map: ``mean`` or ``max`` over the group.
        activation: ``relu``, ``leaky_relu``, ``silu`` or ``gelu``.
        spacing: of the voxels along each axis, in mm; alike along all axes if None. Kernels have the extent of
            ``kernel_size`` voxels of the finest axis, so fewer taps along coarser ones, and an axis is halved only when
            its spacing is due.
        residual: give every block a shortcut.
        deep_supervision: number of decoder levels below the finest with a head of their own; in training mode, the
            output is then a list, finest first, as ``monai.losses.DeepSupervisionLoss`` takes it.
        upsampling: ``linear``, or ``spline`` (cubic B-splines), which smooths: steerable networks with random weights
            have a third less error under free rotations.

    Shape: ``(B, in_channels, *spatial)`` to ``(B, out_channels, *spatial)``; both are scalars.

    Raises:
        ValueError: a group that is not known, or takes axes of different spacing to each other, or an option that is
            not among those above.

    Source: Cohen and Welling 2016, Group equivariant convolutional networks; Weiler and Cesa 2019, General
    E(2)-equivariant steerable CNNs; the group-convolution U-Net of MELBA 2024:010.

    Example:
        >>> import torch
        >>> from equivariant_nets import RegularUNet
        >>> RegularUNet(in_channels=3, group="C4", features=2, depth=2)(torch.zeros(1, 3, 9, 10)).shape
        torch.Size([1, 1, 9, 10])
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 1,
        group: str = "D8",
        features: int | Sequence[int] = 4,
        depth: int = 3,
        kernel_size: int = 3,
        separable: bool = False,
        normalization: str = "instance",
        downsampling: str = "blur",
        dropout: float = 0.0,
        projection: str = "mean",
        activation: str = "leaky_relu",
        spacing: Sequence[float] | None = None,
        residual: bool = False,
        deep_supervision: int = 0,
        upsampling: str = "linear",
    ) -> None:
        family = RegularFamily(
            group=find_group(group, spatial_dims),
            in_channels=in_channels,
            out_channels=out_channels,
            features=_widths(features, depth),
            kernel_size=kernel_size,
            separable=separable,
            normalization=normalization,
            downsampling=downsampling,
            dropout=dropout,
            projection=projection,
            activation=activation,
        )
        super().__init__(
            family, depth, spacing=spacing, residual=residual, deep_supervision=deep_supervision, upsampling=upsampling
        )
        self.group = family.group


class ScaleUNet(UNet):
    """The U-Net on fields of a few scales: what it finds changes little when everything shrinks or grows by the ratio
    of neighbouring scales, as far as the scales reach.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output.
        features: fields of the first level, which double with each halving; or those of each level, finest first. A
            field has as many channels as there are scales.
        num_scales: number of scales of the filters.
        ratio: of each scale to the one before, below 1.
        scale_size: how many scales of its input an output scale reads: its own and the next smaller ones.
        depth: number of halvings.
        kernel_size: voxels along the finest axis, odd. The largest filters are Gaussians of a fifth of it.
        max_order: highest total order of the Hermite polynomials in the filters. Higher orders answer a change of
            scale with larger errors, for they need more taps.
        isotropic: keep only those filters that no rotation changes: the network is then exactly equivariant under the
            symmetries of the voxel lattice too, and approximately under all rotations.
        normalization: ``instance`` (of each scale), ``batch`` (jointly over the scales) or ``none``; or ``content``:
            ``instance`` over the voxels where the input is not 0, and 0 outside, so that filled corners count nowhere
            (a voxel where all channels of a level are 0 is as filled).
        downsampling: ``blur`` (anti-aliased), ``average`` or ``max``.
        dropout: probability of dropping a field after each layer.
        projection: how fields become invariant before the last map: ``mean`` or ``max`` over the scales.
        activation: ``relu``, ``leaky_relu``, ``silu`` or ``gelu``.
        spacing: of the voxels along each axis, in mm; alike along all axes if None. Kernels have the extent of
            ``kernel_size`` voxels of the finest axis, so fewer taps along coarser ones, and an axis is halved only when
            its spacing is due.
        residual: give every block a shortcut.
        deep_supervision: number of decoder levels below the finest with a head of their own; in training mode, the
            output is then a list, finest first, as ``monai.losses.DeepSupervisionLoss`` takes it.
        upsampling: ``linear``, or ``spline`` (cubic B-splines), which smooths: steerable networks with random weights
            have a third less error under free rotations.

    Shape: ``(B, in_channels, *spatial)`` to ``(B, out_channels, *spatial)``; both are scalars.

    Raises:
        ValueError: an option that is not among those above.

    Source: Wimmer et al., Scale-equivariant deep learning for 3D data, arXiv:2304.05864.

    Example:
        >>> import torch
        >>> from equivariant_nets import ScaleUNet
        >>> ScaleUNet(in_channels=2, features=1, depth=2)(torch.zeros(1, 2, 9, 10, 11)).shape
        torch.Size([1, 1, 9, 10, 11])
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 4,
        out_channels: int = 1,
        features: int | Sequence[int] = 4,
        num_scales: int = 4,
        ratio: float = 0.9,
        scale_size: int = 1,
        depth: int = 3,
        kernel_size: int = 5,
        max_order: int = 2,
        isotropic: bool = False,
        normalization: str = "instance",
        downsampling: str = "blur",
        dropout: float = 0.0,
        projection: str = "mean",
        activation: str = "silu",
        spacing: Sequence[float] | None = None,
        residual: bool = False,
        deep_supervision: int = 0,
        upsampling: str = "linear",
    ) -> None:
        scales = ScaleGroup(
            spatial_dims=spatial_dims,
            order=num_scales,
            ratio=ratio,
            scale_size=scale_size,
            max_order=max_order,
            isotropic=isotropic,
        )
        family = RegularFamily(
            group=scales,
            in_channels=in_channels,
            out_channels=out_channels,
            features=_widths(features, depth),
            kernel_size=kernel_size,
            normalization=normalization,
            downsampling=downsampling,
            dropout=dropout,
            projection=projection,
            activation=activation,
        )
        super().__init__(
            family, depth, spacing=spacing, residual=residual, deep_supervision=deep_supervision, upsampling=upsampling
        )
        self.group = family.group


class ConventionalUNet(UNet):
    """The plain U-Net with the same wiring: the reference, and equivariant under translations only.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input.
        out_channels: channels of the output.
        features: channels of the first level, which double with each halving; or those of each level, finest first.
        depth: number of halvings.
        kernel_size: voxels along the finest axis, odd.
        normalization: ``instance``, ``batch`` or ``none``; or ``content``: ``instance`` over the voxels where the input
            is not 0, and 0 outside, so that filled corners count nowhere (a voxel where all
            channels of a level are 0 is as filled).
        downsampling: ``blur``, ``average`` or ``max``.
        dropout: probability of dropping a channel after each layer.
        spacing: of the voxels along each axis, in mm; alike along all axes if None. Kernels have the extent of
            ``kernel_size`` voxels of the finest axis, so fewer taps along coarser ones, and an axis is halved only when
            its spacing is due.
        residual: give every block a shortcut.
        deep_supervision: number of decoder levels below the finest with a head of their own; in training mode, the
            output is then a list, finest first, as ``monai.losses.DeepSupervisionLoss`` takes it.
        upsampling: ``linear``, or ``spline`` (cubic B-splines), which smooths: steerable networks with random weights
            have a third less error under free rotations.

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
        features: int | Sequence[int] = 30,
        depth: int = 3,
        kernel_size: int = 5,
        normalization: str = "instance",
        downsampling: str = "blur",
        dropout: float = 0.0,
        spacing: Sequence[float] | None = None,
        residual: bool = False,
        deep_supervision: int = 0,
        upsampling: str = "linear",
    ) -> None:
        family = ConventionalFamily(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            out_channels=out_channels,
            features=_widths(features, depth),
            kernel_size=kernel_size,
            normalization=normalization,
            downsampling=downsampling,
            dropout=dropout,
        )
        super().__init__(
            family, depth, spacing=spacing, residual=residual, deep_supervision=deep_supervision, upsampling=upsampling
        )
