"""Fields of the regular representation of a finite group of rotations and reflections."""

from .convolution import DepthwiseConvolution, GroupConvolution
from .family import RegularFamily
from .groups import Group, find_group
from .normalization import FieldDropout, FieldNorm
from .projection import GroupPool

__all__ = [
    "DepthwiseConvolution",
    "FieldDropout",
    "FieldNorm",
    "Group",
    "GroupConvolution",
    "GroupPool",
    "RegularFamily",
    "find_group",
]
