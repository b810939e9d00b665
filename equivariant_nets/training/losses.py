"""A loss for soft labels: at each voxel the share of every class, as where label maps are resampled linearly."""

from __future__ import annotations

from typing import Any

from monai.losses import DiceCELoss

__all__ = ["SoftDiceCELoss"]


class SoftDiceCELoss(DiceCELoss):
    """MONAI's ``DiceCELoss`` whose least value is at the shares themselves.

    Dice as the former has it asks a voxel of shares 0.6 and 0.4 for 1 and 0. By ``soft_label`` of
    :class:`monai.losses.DiceLoss`, which ``DiceCELoss`` does not pass on, it asks for 0.6 and 0.4, as cross entropy
    does. Of labels that are 0 or 1, both are the same.

    Args:
        **kwargs: those of :class:`monai.losses.DiceCELoss`.

    Inputs of a call are logits and shares, both of shape (B, C, *spatial), the latter from 0 to 1.

    Source: Wang Z. et al. Dice semimetric losses: optimizing the Dice score with soft labels. MICCAI 2023.

    Examples:
        >>> loss = SoftDiceCELoss(softmax=True)
        >>> shares = torch.tensor([0.6, 0.4]).view(1, 2, 1, 1)
        >>> bool(loss(shares.log(), shares) < loss(torch.tensor([9.0, -9.0]).view(1, 2, 1, 1), shares))
        True
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dice.soft_label = True
