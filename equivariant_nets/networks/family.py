"""What a family of features brings to the U-Net, and how the layers of its blocks are named in a state dict."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from torch import nn

from equivariant_nets.networks.lattice import Lattice

__all__ = ["Family", "numbered"]


def numbered(layers: Iterable[nn.Module], dropout: type[nn.Module]) -> OrderedDict[str, nn.Module]:
    """Layers by their number, as ``nn.Sequential`` names them, but for dropout, which has no weights and no number.

    So weights that were trained with one dropout fit another, such as the one that measures uncertainty.
    """
    names: OrderedDict[str, nn.Module] = OrderedDict()
    number = 0
    for layer in layers:
        if isinstance(layer, dropout):
            names[f"dropout{number}"] = layer
        else:
            names[str(number)] = layer
            number += 1
    return names


class Family(Protocol):
    """What the U-Net asks of a family of features. A representation ``rep`` says what the channels carry; ``a + b`` is
    the representation of concatenated channels."""

    spatial_dims: int
    normalization: str
    downsampling: str
    input: Any
    output: Any

    def encoder_features(self, level: int) -> Any: ...

    def decoder_features(self, level: int) -> Any: ...

    def reachable(self, rep_in: Any, target: Any) -> Any:
        """What of target a layer can produce from rep_in."""

    def read(self, rep: Any, readers: Sequence[Any], by_head: bool) -> Any:
        """What of rep layers that produce the readers, and the head, can make use of."""

    def block(self, rep_in: Any, middle: Any, rep_out: Any, lattice: Lattice) -> nn.Module: ...

    def shortcut(self, rep_in: Any, rep_out: Any) -> nn.Module:
        """A pointwise linear map."""

    def downsample(self, rep: Any, lattice: Lattice) -> nn.Module: ...

    def head(self, rep: Any) -> nn.Module: ...
