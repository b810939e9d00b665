"""Sliding-window inference that pads nothing and favours no side; training in mixed precision on any device."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import monai.inferers
import torch

__all__ = ["AutocastInferer", "SlidingWindowInferer"]


class SlidingWindowInferer(monai.inferers.SlidingWindowInferer):
    """MONAI's sliding-window inferer with windows that lie symmetrically in the volume, and never exceed it.

    MONAI pads a volume that is smaller than the window, by one voxel more on one side where the difference is odd, and
    in a larger one its last window lies nearer to its neighbour than the others do. Either way an exactly equivariant
    network is no longer exact. These networks take every size: a short axis gets a window of its own size, and on a
    long one the windows shrink by the few voxels that let them be evenly spaced. With cubic windows, what is exact
    under a rotation of the lattice stays so at every size.

    Args:
        roi_size: the largest window, ``(D, H, W)`` or ``(H, W)``, in voxels.
        overlap: the least overlap of neighbouring windows, as a fraction of their size.
        others: as for ``monai.inferers.SlidingWindowInferer``.
    """

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor | tuple[torch.Tensor, ...] | dict[Any, torch.Tensor]:
        size = inputs.shape[2:]
        roi_size = monai.utils.fall_back_tuple(self.roi_size, size)
        fitting = copy.copy(self)
        overlaps = monai.utils.ensure_tuple_rep(self.overlap, len(size))
        windows = [_even_windows(n, r, o) for n, r, o in zip(size, roi_size, overlaps, strict=True)]
        fitting.roi_size, fitting.overlap = zip(*windows, strict=True)
        if fitting.roi_size != roi_size:
            fitting.roi_weight_map = None  # it was made for windows of the largest size
        return super(SlidingWindowInferer, fitting).__call__(inputs, network, *args, **kwargs)


def _even_windows(size: int, largest: int, overlap: float) -> tuple[int, float]:
    """Size and overlap of windows that lie evenly from end to end: as asked, or smaller with more overlap."""
    if size <= largest:
        return size, 0.0
    gaps = math.ceil((size - largest) / max(1, int(largest * (1 - overlap))))
    while True:
        window = largest - (largest - size) % gaps
        step = (size - window) // gaps
        if step <= max(1, int(window * (1 - overlap))):
            return window, max(0.0, 1 - (step + 0.01) / window)  # MONAI rounds the step down
        gaps += 1


class AutocastInferer(monai.inferers.SimpleInferer):
    """MONAI's simple inferer in mixed precision with bfloat16, on any device, with outputs in float32.

    For training on CPUs that multiply bfloat16 in hardware (AMX, AVX512_BF16), several times faster there. MONAI's
    engines know mixed precision on GPUs alone.

    Args:
        enabled: whether to use it.
    """

    def __init__(self, enabled: bool = True) -> None:
        super().__init__()
        self.enabled = enabled

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        if not self.enabled:  # an engine's own mixed precision stays as it is
            return super().__call__(inputs, network, *args, **kwargs)
        with torch.autocast(inputs.device.type, torch.bfloat16):
            return super().__call__(inputs, network, *args, **kwargs).float()
