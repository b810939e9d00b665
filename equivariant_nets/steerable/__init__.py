"""Steerable features: direct sums of irreps of SO(3) or O(3)."""

from .convolution import Convolution
from .dropout import Dropout
from .family import SteerableFamily
from .gate import Gate
from .normalization import BatchNorm, InstanceNorm
from .pooling import NormMaxPool

__all__ = ["BatchNorm", "Convolution", "Dropout", "Gate", "InstanceNorm", "NormMaxPool", "SteerableFamily"]
