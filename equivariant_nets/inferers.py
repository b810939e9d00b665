"""Sliding-window inference that pads nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import monai.inferers
import torch

__all__ = ["SlidingWindowInferer"]


class SlidingWindowInferer(monai.inferers.SlidingWindowInferer):
    """MONAI's sliding-window inferer with windows that never exceed the volume.

    MONAI pads a volume that is smaller than the window, by one voxel more on one side where the difference is odd. That
    moves the content off the volume's centre, and with it the network's grids: an exactly equivariant network is then
    no longer exact. These networks take every size, so a small axis gets a window of its own size.

    Args:
        roi_size: the largest window, ``(D, H, W)`` or ``(H, W)``, in voxels.
        others: as for ``monai.inferers.SlidingWindowInferer``.
    """

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor | tuple[torch.Tensor, ...] | dict[Any, torch.Tensor]:
        size = inputs.shape[2:]
        roi_size = monai.utils.fall_back_tuple(self.roi_size, size)
        fitting = copy.copy(self)
        fitting.roi_size = tuple(min(r, n) for r, n in zip(roi_size, size, strict=True))
        if fitting.roi_size != roi_size:
            fitting.roi_weight_map = None  # it was made for windows of the largest size
        return super(SlidingWindowInferer, fitting).__call__(inputs, network, *args, **kwargs)
