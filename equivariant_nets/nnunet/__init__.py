"""nnU-Net v2 trains these networks from its plans, and its plans are made for them. Only training needs nnU-Net."""

from equivariant_nets.nnunet.networks import ConventionalUNet, RegularUNet, ScaleUNet, SteerableUNet

__all__ = ["ConventionalUNet", "RegularUNet", "ScaleUNet", "SteerableUNet"]
