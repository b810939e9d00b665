"""Names of shapes, for signatures.

Axes of one name have one size wherever they stand in a signature; ``*spatial`` is two axes or three. The tests check
what goes in and comes out, by the typechecker that ``pyproject.toml`` names; nothing else does. Where jaxtyping is not
installed, as for those who use the package, the names are annotations and no more.

What TorchScript compiles, which knows no type but ``Tensor``, what checks its input itself, and the gate, of whose many
small functions each call would be checked, have plain annotations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Shaped
else:
    try:
        from jaxtyping import Bool, Float, Shaped
    except ImportError:
        from typing import Annotated

        Bool = Float = Shaped = Annotated

__all__ = [
    "ChannelBias",
    "ChannelMap",
    "ChannelMask",
    "Features",
    "FeaturesOut",
    "Field",
    "Filters",
    "Halved",
    "Kernel",
    "LabelMap",
    "Mask",
    "Matrix",
    "OriginalLabelMap",
    "ProbabilityMap",
    "Rotation",
    "Taps",
    "ThresholdCurve",
    "TurnedFeatures",
    "TurnedField",
    "Volume",
    "VolumeOfAnyType",
]

# Of batches: the input of a network or a layer, an output on the same grid, one on a grid that is half as fine, and one
# of another size, turned or scaled.
Features = Float[Tensor, "batch channels *spatial"]
FeaturesOut = Float[Tensor, "batch channels_out *spatial"]
Halved = Float[Tensor, "batch channels *halved"]
TurnedFeatures = Float[Tensor, "batch channels *turned"]
Field = Shaped[Tensor, "batch channels *spatial"]  # label maps too
TurnedField = Shaped[Tensor, "batch channels *turned"]

# Of one case, as transforms and metrics see it.
Volume = Float[Tensor, "channels *spatial"]
VolumeOfAnyType = Shaped[Tensor, "channels *spatial"]
LabelMap = Shaped[Tensor, "1 *spatial"]
OriginalLabelMap = Shaped[Tensor, "1 *original"]  # before it was turned or scaled
ProbabilityMap = Float[Tensor, "1 *spatial"]
Mask = Bool[Tensor, "*spatial"]
ThresholdCurve = Float[Tensor, "thresholds"]

# Of layers: kernels, their biases, and what they are made of.
Kernel = Float[Tensor, "channels_out channels_in *taps"]
ChannelBias = Float[Tensor, "channels_out"]
Taps = Float[Tensor, "*taps"]  # a function at the taps of a kernel
Filters = Float[Tensor, "elements filters *taps"]  # of each element of a group
ChannelMap = Float[Tensor, "samples channels"]  # a factor or a constant of each channel, of one sample or each
ChannelMask = Bool[Tensor, "channels"]

# Acting on coordinates in the order of the spatial axes.
Matrix = Float[np.ndarray, "spatial_dims spatial_dims"]
Rotation = Float[np.ndarray, "3 3"]
