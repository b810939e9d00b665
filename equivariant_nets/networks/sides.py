"""Left and right from a network that holds reflections: classes of both sides from scalars and pseudoscalars."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["SidedClasses"]


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
        if pairs < 1 or singles < 0:
            raise ValueError(f"pairs={pairs} and singles={singles}: give 1 or more pairs, and 0 or more single ones.")
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
