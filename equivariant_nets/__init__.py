"""Segmentation networks that are equivariant by construction."""

from .equivariance import assert_equivariant, equivariance_curve, equivariance_error, interpolation_error
from .unet import ConventionalUNet, SteerableUNet, UNet

__version__ = "0.1.0"
__all__ = [
    "ConventionalUNet",
    "SteerableUNet",
    "UNet",
    "assert_equivariant",
    "equivariance_curve",
    "equivariance_error",
    "interpolation_error",
]
