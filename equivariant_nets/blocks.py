"""How the layers of a block are named in the state dict of a network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from torch import nn

__all__ = ["numbered"]


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
