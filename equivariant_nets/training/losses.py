"""A loss for soft labels: at each voxel a number of every class, as where their indicators are interpolated."""

from __future__ import annotations

from typing import Any

import torch
from monai.losses import DiceCELoss

__all__ = ["SoftDiceCELoss"]


class SoftDiceCELoss(DiceCELoss):
    """MONAI's ``DiceCELoss`` whose least value is at the soft labels themselves, unless ``weight`` weighs classes.

    Dice as the former has it asks a voxel of 0.6 and 0.4 for 1 and 0. By ``soft_label`` of
    :class:`monai.losses.DiceLoss`, which ``DiceCELoss`` does not pass on, it asks for 0.6 and 0.4, as cross entropy
    does. Of labels that are 0 or 1, both are the same.

    Args:
        **kwargs: those of :class:`monai.losses.DiceCELoss`.

    Inputs of a call are logits and soft labels, both of shape (B, C, *spatial), the latter from 0 to 1. The first
    class is the background: it has what the others leave, also where a smaller volume of a batch is padded with 0.

    Source: Wang Z. et al. Dice semimetric losses: optimizing the Dice score with soft labels. MICCAI 2023.

    Example:
        >>> import torch
        >>> from equivariant_nets.training.losses import SoftDiceCELoss
        >>> loss = SoftDiceCELoss(softmax=True)
        >>> label = torch.tensor([0.6, 0.4]).view(1, 2, 1, 1)
        >>> bool(loss(label.log(), label) < loss(torch.tensor([9.0, -9.0]).view(1, 2, 1, 1), label))
        True
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dice.soft_label = True

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if target.shape == input.shape:  # otherwise MONAI says what is wrong
            target = torch.cat([target[:, :1] + 1 - target.sum(1, keepdim=True), target[:, 1:]], dim=1)
        return super().forward(input, target)
