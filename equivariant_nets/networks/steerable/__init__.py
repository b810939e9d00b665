"""Steerable features: direct sums of irreps of SO(3) or O(3)."""

from equivariant_nets.networks.steerable.convolution import Convolution
from equivariant_nets.networks.steerable.dropout import Dropout
from equivariant_nets.networks.steerable.family import SteerableFamily
from equivariant_nets.networks.steerable.gate import Gate
from equivariant_nets.networks.steerable.normalization import BatchNorm, InstanceNorm
from equivariant_nets.networks.steerable.pooling import NormMaxPool

__all__ = ["BatchNorm", "Convolution", "Dropout", "Gate", "InstanceNorm", "NormMaxPool", "SteerableFamily"]
