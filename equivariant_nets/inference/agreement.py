"""A score of a segmentation without a label: whether turned copies of its image are segmented alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from monai.metrics import compute_dice
from monai.utils import convert_to_tensor
from torch import Tensor

from equivariant_nets.rotations import random_rotation
from equivariant_nets.transforms import RotateMatrixd

__all__ = ["TurnedAgreement"]

_SEED = 0  # so that every case is turned alike, at any time


class TurnedAgreement:
    """The Dice between the segmentation of a volume and those of its turned copies, brought back.

    The copies are turned by fixed random rotations, trilinearly, with zeros for what lies beyond the border: no pose of
    the lattice, under which equivariant networks repeat themselves. They keep the size of the volume, so that each
    takes as long as the volume itself; what turns out of it is not compared. Where a network is sure of what it finds,
    it finds it in every copy.

    Args:
        num_turns: number of copies. 0 for no score.
        exclusive: whether a voxel has the class of the highest output; otherwise it has all whose outputs are above 0.

    Raises:
        ValueError: ``num_turns`` is no whole number from 0.
    """

    def __init__(self, num_turns: int = 0, exclusive: bool = True) -> None:
        if isinstance(num_turns, bool) or not isinstance(num_turns, int) or num_turns < 0:
            raise ValueError(
                f"num_turns={num_turns!r} is no number of turned copies: give a whole number from 0, such as "
                "--agreement 3."
            )
        self.num_turns = num_turns
        self.exclusive = exclusive

    def __call__(self, image: Tensor, output: Tensor, predict: Callable[[Tensor], Tensor]) -> float:
        """The score of a volume.

        Args:
            image: ``(1, C, D, H, W)``, as the network takes it.
            output: of the network for it, ``(1, K, D, H, W)``.
            predict: from a volume of another size to the network's output for it.

        Returns:
            the mean over the copies and the classes that the volume or its copy holds, background aside; 1 where
            neither holds any.
        """
        image, upright = convert_to_tensor(image, track_meta=False), self._labels(output)
        random_state = np.random.RandomState(_SEED)
        scores = []
        for _ in range(self.num_turns):
            matrix = random_rotation(random_state)
            there = RotateMatrixd(("image", "inside"), matrix, mode=("bilinear", "nearest"), keep_size=True)
            back = RotateMatrixd(("label", "inside"), matrix.T, mode=("one_hot", "nearest"), keep_size=True)
            item = there({"image": image[0], "inside": torch.ones_like(upright[:1])})
            item["label"] = self._labels(predict(item["image"][None].to(image)))
            copy = back(item)
            inside = torch.as_tensor(copy["inside"])
            scores.append(_mean_dice(torch.as_tensor(copy["label"]) * inside, upright * inside))
        return float(np.mean(scores))

    def _labels(self, output: Tensor) -> Tensor:
        """Label maps: ``(1, D, H, W)`` of exclusive classes, else ``(K, D, H, W)``."""
        output = convert_to_tensor(output, track_meta=False)[0]
        return output.argmax(0, keepdim=True) if self.exclusive else (output > 0).to(torch.uint8)


def _mean_dice(a: Tensor, b: Tensor) -> float:
    """The mean over the values above 0 that either map ``(C, D, H, W)`` holds in a channel; 1 where there is none."""
    pairs = [
        (one == value, other == value)
        for one, other in zip(a, b, strict=True)
        for value in torch.cat([one, other]).unique().tolist()
        if value
    ]
    if not pairs:
        return 1.0
    of_a, of_b = (torch.stack(masks)[None] for masks in zip(*pairs, strict=True))
    return float(compute_dice(of_a, of_b, ignore_empty=False).mean())
