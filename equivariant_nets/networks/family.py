"""What a family of features brings to the U-Net, and how the layers of its blocks are named in a state dict."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

from torch import nn

from equivariant_nets.networks.checks import check_choice
from equivariant_nets.networks.lattice import Lattice
from equivariant_nets.networks.resampling import LINEAR_DOWNSAMPLINGS

__all__ = ["Family", "FamilyOptions", "Rep", "numbered"]

NORMALIZATIONS = ("instance", "batch", "none", "content")
DOWNSAMPLINGS = (*LINEAR_DOWNSAMPLINGS, "max")


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


@dataclass(frozen=True, kw_only=True)
class FamilyOptions:
    """The options of every family, which the constructors of the networks explain.

    Raises:
        ValueError: a normalization or downsampling that is not known, or ``content`` with ``max``.
    """

    kernel_size: int
    normalization: str
    downsampling: str
    dropout: float

    def __post_init__(self) -> None:
        check_choice("normalization", self.normalization, NORMALIZATIONS)
        check_choice("downsampling", self.downsampling, DOWNSAMPLINGS)
        if (self.normalization, self.downsampling) == ("content", "max"):
            raise ValueError(
                "normalization='content' averages over content: it does not go with downsampling='max'. Choose blur or "
                "average."
            )


class Representation(Protocol):
    """What channels carry: a number of them, of fields, or irreps. ``a + b`` is that of concatenated channels."""

    def __add__(self, other: Self, /) -> Self:
        """That of the channels of both, one behind the other."""


Rep = TypeVar("Rep", bound=Representation)


class Family(Protocol[Rep]):
    """What the U-Net asks of a family of features, whose channels carry a representation ``rep``."""

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""

    @property
    def normalization(self) -> str:
        """One of NORMALIZATIONS."""

    @property
    def in_channels(self) -> int:
        """Channels of the input of the network."""

    @property
    def input(self) -> Rep:
        """What these carry."""

    def encoder_target(self, level: int) -> Rep:
        """What the features of a level of the encoder are to carry, as far as they can."""

    def decoder_target(self, level: int) -> Rep:
        """The same of the decoder."""

    def reachable(self, rep_in: Rep, target: Rep) -> Rep:
        """What of target a layer can produce from rep_in."""

    def read(self, rep: Rep, readers: Sequence[Rep], by_head: bool) -> Rep:
        """What of rep layers that produce the readers, and the head, can make use of."""

    def block(self, rep_in: Rep, middle: Rep, rep_out: Rep, lattice: Lattice) -> nn.Module:
        """Two layers of a level: from rep_in to middle, and to rep_out."""

    def shortcut(self, rep_in: Rep, rep_out: Rep) -> nn.Module:
        """A pointwise linear map."""

    def downsample(self, rep: Rep, lattice: Lattice) -> nn.Module:
        """Halve the axes of a lattice that are due."""

    def head(self, rep: Rep) -> nn.Module:
        """A pointwise map from the last features to the output."""
