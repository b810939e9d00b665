"""A whole network that keeps its segmentation when the anatomy shrinks or grows: any network, on a pyramid of sizes.

The network sees the image at a geometric series of sizes. An image that is smaller by one step shows it, one level
further, what it saw of the larger one: the pyramid moves by a level, and what is merged of all levels stays, but for
interpolation and for the two ends. Levels are merged by how sure the network is of what it finds at each. A network
that was trained at one size is sure of itself at this size, and doubts what is too large or too small for it, so
nothing has to be learned of other sizes.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equivariant_nets.networks.checks import check_choice
from equivariant_nets.networks.level import LARGEST_TERM, Level, plain
from equivariant_nets.networks.precision import widened
from equivariant_nets.networks.rescaling import Rescale

__all__ = ["ScalePyramid", "expected_dice"]

ACTIVATIONS = ("softmax", "sigmoid")
SHARPNESS = 50.0  # a level that expects a Dice higher by 1 / 50 counts e times as much
OWN = "network."  # before the names of the parameters inside


def expected_dice(probabilities: Tensor) -> Tensor:
    """The Dice that a network expects of its own segmentation: that of where each class is most probable with a label
    of which its probabilities are true, in the ratio of expectations, over all classes and voxels.

    Args:
        probabilities: ``(B, K, *spatial)``, of exclusive classes with the background first.

    Returns:
        ``(B,)``, from 0, where there is nothing but background, to 1. What is added around changes nothing.
    """
    label = probabilities.argmax(1, keepdim=True)
    classes = torch.arange(1, probabilities.shape[1], device=label.device)
    chosen = label == classes.view([1, -1] + [1] * (label.dim() - 2))
    return _dice(probabilities[:, 1:], chosen)


def _dice(probabilities: Tensor, chosen: Tensor) -> Tensor:
    common = (probabilities * chosen.to(probabilities.dtype)).flatten(1).sum(1)
    total = probabilities.flatten(1).sum(1) + chosen.to(probabilities.dtype).flatten(1).sum(1)
    return 2 * common / (total + 1)  # a voxel more: nothing is no segmentation to be sure of


class ScalePyramid(nn.Module):
    """Any network, equivariant under changes of scale too: exactly by the steps of its pyramid, but for interpolation
    and as far as the pyramid reaches, and approximately between them. It keeps the symmetries of the network, so that
    around a :class:`equivariant_nets.SteerableUNet` it is equivariant under rotations and scale at once.

    In evaluation mode, the network segments the image at each size; its logits are resampled back; and its
    probabilities are averaged with weights softmax(50 d), where d is the Dice that it expects of itself at each level
    (:func:`expected_dice`), one for a whole image or window. The logits of these averages are the output. In training
    mode, it is the network alone, at the size of the image: training costs what it did, and no other size is seen.

    It has no weights of its own, and its state dict is that of the network: weights of either load into the other.

    Args:
        network: from ``(B, C, *spatial)`` to logits ``(B, K, *spatial)`` of scalars, on 2 or 3 spatial axes.
        ratio: of neighbouring levels, above 1; rounded to a fraction of numbers up to 64, such as 5/4.
        enlarged: number of levels at which the image is enlarged, for anatomy smaller than that of the training. With
            the image of n voxels, level k is one of n * ratio**(3 k), which is what it costs beside the network alone.
        reduced: number of levels at which the image is reduced, for larger anatomy.
        activation: of the logits: ``softmax`` of exclusive classes, the background first, or ``sigmoid`` of classes
            that may overlap.

    Shape: ``(B, C, *spatial)`` to ``(B, K, *spatial)``, of any size that the network takes.

    Raises:
        ValueError: an option that is not among those above, or a network of vectors or tensors.

    Example:
        >>> import torch
        >>> from equivariant_nets import ScalePyramid, SteerableUNet
        >>> net = ScalePyramid(SteerableUNet(irreps_out="3x0e", features="2x0e+1x1e", depth=2)).eval()
        >>> net(torch.zeros(1, 1, 9, 10, 11)).shape
        torch.Size([1, 3, 9, 10, 11])
    """

    def __init__(
        self,
        network: nn.Module,
        ratio: float = 1.25,
        enlarged: int = 2,
        reduced: int = 2,
        activation: str = "softmax",
    ) -> None:
        super().__init__()
        check_choice("activation", activation, ACTIVATIONS)
        if not (1 < ratio <= 2):
            raise ValueError(f"ratio={ratio} must be above 1 and at most 2: it is that of neighbouring sizes.")
        for name, count in (("enlarged", enlarged), ("reduced", reduced)):
            if not (isinstance(count, int) and count >= 0):
                raise ValueError(f"{name}={count!r} is not a number of levels; give 0 or more.")
        irreps_out = str(getattr(network, "irreps_out", "0e"))
        if not all(part.strip().endswith("0e") for part in irreps_out.split("+")):
            raise ValueError(f"irreps_out={irreps_out!r} of the network are no logits of classes; give scalars, 0e.")
        self.network = network
        self.sharpness = SHARPNESS
        self.activation = activation
        step = Fraction(ratio).limit_denominator(LARGEST_TERM)
        factors = [step**level for level in (*range(-reduced, 0), *range(1, enlarged + 1))]
        self.there = nn.ModuleList(Level(factor, network) for factor in factors)
        self.back = nn.ModuleList(Rescale(1 / factor) for factor in factors)
        self.register_state_dict_post_hook(_without_prefix)
        self.register_load_state_dict_pre_hook(_with_prefix)

    def forward(self, x: Tensor) -> Tensor:
        own = self.network(x)  # first, for it checks its input
        if self.training or len(self.there) == 0:
            return own
        if not torch.jit.is_scripting():
            x = plain(x)
        outputs, sure = [own], [self._expected_dice(own)]
        for there, back in zip(self.there, self.back):  # noqa: B905  TorchScript has no zip(strict=)
            level = self.network(there(x))
            sure.append(self._expected_dice(level))
            outputs.append(back(level, x.shape[2:]))
        weights = (self.sharpness * torch.stack(sure)).log_softmax(0)
        weights = weights.view(list(weights.shape) + [1] * (x.dim() - 1))
        logits = widened(torch.stack(outputs))
        if self.activation == "softmax":
            return (weights + logits.log_softmax(2)).logsumexp(0).to(own.dtype)
        inside = (weights + F.logsigmoid(logits)).logsumexp(0)
        return (inside - (weights + F.logsigmoid(-logits)).logsumexp(0)).to(own.dtype)

    def _expected_dice(self, logits: Tensor) -> Tensor:
        logits = widened(logits)
        if self.activation == "softmax":
            return expected_dice(logits.softmax(1))
        return _dice(logits.sigmoid(), logits > 0)


def _without_prefix(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    _renamed(state, prefix + OWN, prefix)


def _with_prefix(module: nn.Module, state: dict[str, Any], prefix: str, *others: Any) -> None:
    _renamed(state, prefix, prefix + OWN)


def _renamed(state: dict[str, Any], old: str, new: str) -> None:
    for key in [key for key in state if key.startswith(old)]:
        state[new + key.removeprefix(old)] = state.pop(key)
