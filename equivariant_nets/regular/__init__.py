"""Fields of the regular representation of a finite group of rotations and reflections, or of a few scales."""

from .convolution import DepthwiseConvolution, GroupConvolution
from .family import RegularFamily
from .groups import Group, find_group
from .normalization import ElementInstanceNorm, FieldDropout, FieldNorm
from .projection import GroupPool
from .scales import ScaleGroup

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
