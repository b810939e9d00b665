"""Left and right from a network that holds reflections: classes of both sides from scalars and pseudoscalars."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equivariant_nets.networks.level import LARGEST_TERM, Level, plain
from equivariant_nets.networks.precision import widened
from equivariant_nets.networks.rescaling import Rescale

__all__ = ["SidedClasses", "SidedStructures", "voxel_ratio"]

LARGEST_RATIO = 2  # beyond it, the image that is enlarged costs eight times what it did


class SidedClasses(nn.Module):
    """Logits of structures that come in pairs, left and right, around a network that is equivariant under O(3).

    The network gives each pair a scalar a, that it is this structure, and a pseudoscalar c, which side; the logits of
    left and right are a + c and a - c. A mirror changes the sign of c: so the segmentation of the mirrored image is the
    mirrored one with the sides exchanged, exactly, and what is learned on one side holds on the other.

    Args:
        network: equivariant under O(3), such as ``SteerableUNet(group="O3")``, with the outputs
            ``(1 + pairs + singles)x0e + pairs x0o``: background, a scalar for each pair, one for each single structure,
            and a pseudoscalar for each pair.
        pairs: number of structures with two sides.
        singles: number of structures without.

    Shape: ``(B, C, *spatial)`` to ``(B, 1 + 2 pairs + singles, *spatial)``: the background, left and right of each
    pair in turn, and the single structures, as :func:`equivariant_nets.data.target_structures` names them.

    Raises:
        ValueError: the numbers are not legal, or the outputs of the network are others.

    Example:
        >>> import torch
        >>> from equivariant_nets import SidedClasses, SteerableUNet
        >>> net = SteerableUNet(irreps_out="3x0e+1x0o", features="2x0e+1x0o+1x1e+1x1o", group="O3", depth=1)
        >>> SidedClasses(net, pairs=1, singles=1)(torch.zeros(1, 1, 9, 10, 11)).shape
        torch.Size([1, 4, 9, 10, 11])
    """

    def __init__(self, network: nn.Module, pairs: int, singles: int = 0) -> None:
        super().__init__()
        _check_numbers(pairs, singles)
        _check_heads(network=network)
        wanted = f"{1 + pairs + singles}x0e+{pairs}x0o"
        given = str(getattr(network, "irreps_out", None))
        if given != wanted:
            raise ValueError(
                f"irreps_out={given} of the network do not fit pairs={pairs} and singles={singles}: give it "
                f"irreps_out={wanted!r} and group='O3'."
            )
        self.network = network
        self.pairs = pairs

    def forward(self, x: Tensor) -> Tensor:
        y = self.network(x)
        background, rest = y[:, :1], y[:, 1:]
        structure, single, side = rest[:, : self.pairs], rest[:, self.pairs : -self.pairs], rest[:, -self.pairs :]
        both = torch.stack([structure + side, structure - side], 2).flatten(1, 2)
        return torch.cat([background, both, single], 1)

    def extra_repr(self) -> str:
        return f"pairs={self.pairs}"


class SidedStructures(nn.Module):
    """Logits of structures that come in pairs, left and right, of two networks: which structure, and which side.

    One network gives a scalar a, that it is this structure, and another one, under O(3), a pseudoscalar c, which side.
    The logit of the side that c points to is a, that of the other a - 2 |c|: so the likeliest class is, its sides
    aside, that of the first network, and left and right are to each other as with :class:`SidedClasses`. Probabilities
    of both sides add up to more than that of the structure alone, and where logits of overlapping windows are averaged
    that tell different sides, both lose. A mirror changes the sign of c, exactly, and so exchanges the sides of
    whatever the first network finds in the mirrored image, which is the same only as far as that has learned so.

    The sides may be told on coarser voxels than the structures: that network sees the image resampled about its centre,
    which commutes with the symmetries of the grid.

    Args:
        structures: any network that returns one tensor, of ``1 + pairs + singles`` scalars (``x0e``): background, one
            for each pair, one for each single structure.
        sides: equivariant under O(3), whose last outputs are ``pairs x0o``. Others are not read; a scalar among them
            gives the last level scalars, which act on its pseudoscalars as gates.
        pairs: number of structures with two sides.
        singles: number of structures without.
        voxel_ratio: edge of a voxel of the input over that of one that ``sides`` knows, from 1/64 to 2 and rounded to a
            fraction of denominators up to 64; 0.625 of 1.25 mm and 2 mm.

    Shape: ``(B, C, *spatial)`` to ``(B, 1 + 2 pairs + singles, *spatial)``: the background, left and right of each
    pair in turn, and the single structures, as :func:`equivariant_nets.data.target_structures` names them.

    Raises:
        ValueError: the numbers are not legal, or the outputs of a network are others.

    Example:
        >>> import torch
        >>> from equivariant_nets import SidedStructures, SteerableUNet
        >>> structures = SteerableUNet(irreps_out="3x0e", features="2x0e+1x1e", depth=1)
        >>> sides = SteerableUNet(irreps_out="1x0o", features="2x0e+1x0o+1x1e+1x1o", group="O3", depth=1)
        >>> net = SidedStructures(structures, sides, pairs=1, singles=1, voxel_ratio=0.5)
        >>> net(torch.zeros(1, 1, 9, 10, 11)).shape
        torch.Size([1, 4, 9, 10, 11])
    """

    def __init__(
        self, structures: nn.Module, sides: nn.Module, pairs: int, singles: int = 0, voxel_ratio: float = 1.0
    ) -> None:
        super().__init__()
        _check_numbers(pairs, singles)
        _check_heads(structures=structures, sides=sides)
        if not 1 / LARGEST_TERM <= voxel_ratio <= LARGEST_RATIO:
            raise ValueError(
                f"voxel_ratio={voxel_ratio} is not legal: give one from 1/{LARGEST_TERM} to {LARGEST_RATIO}."
            )
        ratio = Fraction(voxel_ratio).limit_denominator(LARGEST_TERM)
        self.channels = 1 + pairs + singles
        wanted = f"{self.channels}x0e"
        if (given := str(getattr(structures, "irreps_out", wanted))) != wanted:
            raise ValueError(
                f"irreps_out={given} of structures do not fit pairs={pairs} and singles={singles}: give it {wanted!r}."
            )
        if (given := str(getattr(sides, "irreps_out", None))).split("+")[-1] != f"{pairs}x0o":
            raise ValueError(
                f"irreps_out={given} of sides do not fit pairs={pairs}: give it '{pairs}x0o' and group='O3'."
            )
        self.structures = structures
        self.sides = sides
        self.pairs = pairs
        self.there, self.back = Level(ratio, sides), Rescale(1 / ratio)

    def forward(self, x: Tensor) -> Tensor:
        y = self.structures(x)  # first, for it checks its input
        if not torch.jit.is_scripting():
            x = plain(x)
            wanted = (x.shape[0], self.channels, *x.shape[2:])
            given = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
            if given != wanted:
                raise ValueError(
                    f"structures returned {given} where one tensor {wanted} is needed: build it with {self.channels} "
                    "outputs, without deep supervision."
                )
        side = 2 * widened(self.back(self.sides(self.there(x))[:, -self.pairs :], x.shape[2:]))
        structure = widened(y[:, 1 : 1 + self.pairs])
        both = torch.stack([structure - F.relu(-side), structure - F.relu(side)], 2).flatten(1, 2)
        return torch.cat([y[:, :1], both.to(y.dtype), y[:, 1 + self.pairs :]], 1)

    def extra_repr(self) -> str:
        return f"pairs={self.pairs}"


def voxel_ratio(spacing_mm: Sequence[float], known_mm: float) -> float:
    """Edge of the voxels of a spacing over that of those that a network knows, both in mm.

    Raises:
        ValueError: the edges of the voxels differ, or the ratio is not within what :class:`SidedStructures` takes.
    """
    smallest, largest = known_mm / LARGEST_TERM, known_mm * LARGEST_RATIO
    if len(set(spacing_mm)) != 1 or not smallest <= spacing_mm[0] <= largest:
        raise ValueError(
            f"spacing_mm={list(spacing_mm)} is not legal here: give three times the same edge, from {smallest:g} to "
            f"{largest:g} mm, for the network of the sides sees the image resampled to {known_mm:g} mm, alike along "
            "all axes."
        )
    return spacing_mm[0] / known_mm


def _check_numbers(pairs: int, singles: int) -> None:
    if pairs < 1 or singles < 0:
        raise ValueError(
            f"pairs={pairs} and singles={singles}: give 1 or more pairs, and 0 or more single ones. Where no structure "
            "has sides, a network needs no wrapper; the classes of a bundle have them with --targets sides."
        )


def _check_heads(**networks: nn.Module) -> None:
    for name, network in networks.items():
        if len(getattr(network, "coarse_heads", ())) > 0:
            raise ValueError(f"{name} has heads at coarser levels: build it with deep_supervision=0.")
