"""Fields of the regular representation of a finite group of rotations and reflections, or of a few scales."""

from equivariant_nets.networks.regular.convolution import DepthwiseConvolution, GroupConvolution
from equivariant_nets.networks.regular.family import RegularFamily
from equivariant_nets.networks.regular.groups import Group, find_group
from equivariant_nets.networks.regular.normalization import ElementInstanceNorm, FieldDropout, FieldNorm
from equivariant_nets.networks.regular.projection import GroupPool
from equivariant_nets.networks.regular.scales import ScaleGroup

__all__ = [
    "DepthwiseConvolution",
    "ElementInstanceNorm",
    "FieldDropout",
    "FieldNorm",
    "Group",
    "GroupConvolution",
    "GroupPool",
    "RegularFamily",
    "ScaleGroup",
    "find_group",
]
