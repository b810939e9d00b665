"""Sliding-window inference that pads nothing and favours no side."""

from __future__ import annotations

import copy
import logging
import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import monai.inferers
import torch

from equivariant_nets.inference.memory import SlidingWindowMemory
from equivariant_nets.networks.materialize import materialize
from equivariant_nets.networks.scale_pyramid import ScalePyramid
from equivariant_nets.networks.sides import SidedClasses, SidedStructures
from equivariant_nets.networks.unet import UNet
from equivariant_nets.types import Features

__all__ = ["SlidingWindowInferer"]

logger = logging.getLogger(__name__)


class SlidingWindowInferer(monai.inferers.SlidingWindowInfererAdapt):
    """MONAI's adaptive sliding-window inferer with windows that lie symmetrically in the volume, and never exceed it.

    MONAI pads a volume that is smaller than the window, by one voxel more on one side where the difference is odd, and
    in a larger one its last window lies nearer to its neighbour than the others do. Either way an exactly equivariant
    network is no longer exact. These networks take every size: a short axis gets a window of its own size, and on a
    long one the windows shrink by the few voxels that let them be evenly spaced. With cubic windows, what is exact
    under a rotation of the lattice stays so at every size.

    A volume may lie on the CPU, with ``sw_device`` that of the network; its output then lies there too. Where an input
    on a GPU leaves too little memory for stitching, that moves to the CPU, for later volumes of this size as well.
    Without gradients, a network of this package in evaluation mode is materialized for all windows.
    Whether all will fit is estimated before the first window, once for each shape.

    Args:
        roi_size: the largest window, ``(D, H, W)`` or ``(H, W)``, in voxels.
        overlap: the least overlap of neighbouring windows, as a fraction of their size.
        others: as for ``monai.inferers.SlidingWindowInferer``.

    Raises:
        MemoryError: when called, if windows or output exceed the memory that is free.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Of each network, the shapes and windows that were checked.
        self.fitted: weakref.WeakKeyDictionary[Any, set[tuple[Any, ...]]] = weakref.WeakKeyDictionary()

    def __call__(
        self, inputs: Features, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor | tuple[torch.Tensor, ...] | dict[Any, torch.Tensor]:
        size = inputs.shape[2:]
        roi_size = monai.utils.fall_back_tuple(self.roi_size, size)
        fitting = copy.copy(self)
        fitting.fitted = self.fitted  # which no copy takes along
        fitting.device = kwargs.pop("device", self.device)
        fitting.roi_size, fitting.overlap = self.windows(size, roi_size)
        if fitting.roi_size != roi_size:
            fitting.roi_weight_map = None  # it was made for windows of the largest size
        if not (torch.jit.is_tracing() or torch.compiler.is_compiling() or torch.compiler.is_exporting()):
            fitting._check_memory(inputs, network)
        if any(n < whole for n, whole in zip(fitting.roi_size, size, strict=True)):
            network = _materialized(network)
        result = super(SlidingWindowInferer, fitting).__call__(inputs, network, *args, **kwargs)
        self.cpu_thresh, self.buffer_steps = fitting.cpu_thresh, fitting.buffer_steps  # with which it fitted
        return result

    def windows(self, size: Sequence[int], roi_size: Sequence[int]) -> tuple[tuple[int, ...], tuple[float, ...]]:
        """Sizes and overlaps of the windows, along each axis."""
        overlaps = monai.utils.ensure_tuple_rep(self.overlap, len(size))
        windows = [_even_windows(n, r, o) for n, r, o in zip(size, roi_size, overlaps, strict=True)]
        return tuple(n for n, _ in windows), tuple(overlap for _, overlap in windows)

    def _check_memory(self, inputs: Features, network: Callable[..., Any]) -> None:
        window = monai.utils.ensure_tuple(self.roi_size)
        fitted, key = self._fitted_of(network), (inputs.shape, inputs.dtype, window)
        if key in fitted:
            return
        # The last resort of what adapts itself is to stitch on the CPU.
        memory = SlidingWindowMemory(
            inputs, network, self.sw_batch_size, self.sw_device or inputs.device, self.device or "cpu"
        )
        if (shortage := memory.shortage(window)) is not None:
            advice = "free memory, or crop or resample the volume: smaller windows do not help"
            for roi_size in _smaller(window):
                smaller, _ = self.windows(inputs.shape[2:], roi_size)
                if memory.forward(smaller) and not memory.shortage(smaller):
                    advice = f"free memory, or give roi_size={roi_size}, which fits"
                    break
            raise MemoryError(
                f"A volume of shape {tuple(inputs.shape)} in windows of {window} needs {shortage}: {advice}."
            )
        needs = " and ".join(str(need) for need in memory.needs(window))
        level = logging.DEBUG if any(self.fitted.values()) else logging.INFO  # one line a run, beside a progress bar
        logger.log(level, "A volume of shape %s in windows of %s needs %s.", tuple(inputs.shape), window, needs)
        fitted.add(key)

    def _fitted_of(self, network: Callable[..., Any]) -> set[tuple[Any, ...]]:
        try:
            return self.fitted.setdefault(network, set())
        except TypeError:  # nothing can refer to it weakly: it is checked at every call
            return set()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "fitted"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, fitted=weakref.WeakKeyDictionary())


def _materialized(network: Callable[..., Any]) -> Callable[..., Any]:
    """A network of this package as plain convolutions, of fewer operations, where it does nothing but infer."""
    if torch.is_grad_enabled() or not isinstance(network, UNet | ScalePyramid | SidedClasses | SidedStructures):
        return network
    # Dropout that samples would cease to, and a hook would hear nothing.
    if any(part.training or part._forward_hooks or part._forward_pre_hooks for part in network.modules()):
        return network
    return materialize(network)


def _smaller(window: Sequence[int], step: int = 16) -> Iterator[tuple[int, ...]]:
    """Windows whose longest axes are cut in steps of 16 voxels, largest first."""
    for longest in range((max(window) - 1) // step * step, 0, -step):
        yield tuple(min(n, longest) for n in window)


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
