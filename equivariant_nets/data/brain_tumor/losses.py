"""A loss on the nested regions of a tumour, for networks with one sigmoid channel a region."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from equivariant_nets.data.brain_tumor.labels import checked_regions, label_to_regions

__all__ = ["RegionLoss"]


class RegionLoss(nn.Module):
    """A loss between logits, one channel a region, and a map of classes, which it turns into such channels.

    Args:
        loss: takes logits and binary targets, both (B, R, D, H, W), such as ``monai.losses.DiceLoss(sigmoid=True)``.
        regions: the regions in the order of the channels.

    Shapes:
        logits (B, R, D, H, W) and classes (B, 1, D, H, W) to what the loss returns.

    Raises:
        ValueError: a region is unknown or given twice; on call, the logits have not one channel a region, or the map
            of classes has not one channel.
    """

    def __init__(
        self, loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], regions: Sequence[str] = ("ET", "TC", "WT")
    ) -> None:
        super().__init__()
        self.loss = loss
        self.regions = checked_regions(regions)

    def extra_repr(self) -> str:
        return f"regions={self.regions}"

    def forward(self, logits: torch.Tensor, class_map: torch.Tensor) -> torch.Tensor:
        if logits.shape[1] != len(self.regions):
            raise ValueError(
                f"logits is of shape {tuple(logits.shape)}; legal are {len(self.regions)} channels on axis 1, one for "
                f"each of {', '.join(self.regions)}. Set the network's output channels, or regions."
            )
        return self.loss(logits, label_to_regions(class_map, self.regions, channel_axis=1).to(logits.dtype))
