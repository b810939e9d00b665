"""The memory that a forward pass and sliding windows take, found without running them, and the memory that is free."""

from __future__ import annotations

import logging
import math
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from equivariant_nets.networks.materialize import materialize

__all__ = [
    "Forward",
    "LiveBytes",
    "Need",
    "Shortage",
    "SlidingWindowMemory",
    "estimate_peak_bytes",
    "free_bytes",
    "trace_forward",
]

logger = logging.getLogger(__name__)

# Memory of a forward pass over its live tensors, for workspaces of convolutions: 1.0 to 1.6 in all, measured on CPUs
# with the networks of this package at 96^3 and 128^3.
SAFETY = 1.6
_skeletons: weakref.WeakKeyDictionary[nn.Module, nn.Module] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Forward:
    """A forward pass: the peak of its live tensors, and the shapes of its outputs."""

    peak_bytes: int
    output_shapes: tuple[tuple[int, ...], ...]


def estimate_peak_bytes(network: nn.Module, shape: Sequence[int]) -> int:
    """Peak of live tensors of a forward pass without gradients: parameters, buffers, input, features and outputs.

    The network runs on tensors without memory, so this takes a moment at any size. Workspaces inside of an operation
    come on top.

    Args:
        network: of this package, which counts as materialized, or any other that takes one tensor. It is left as it is.
        shape: of the input, ``(B, C, *spatial)``.

    Returns:
        bytes.

    Raises:
        TypeError: network is no module.

    Example:
        >>> import torch
        >>> from equivariant_nets.inference.memory import estimate_peak_bytes
        >>> estimate_peak_bytes(torch.nn.ReLU(), (1, 2, 10, 10, 10))  # 4 bytes each, of input and output
        16000
    """
    return trace_forward(_skeleton(network), shape).peak_bytes


def _skeleton(network: nn.Module) -> nn.Module:
    """A copy of a network in evaluation mode whose tensors have shapes alone, and plain modules where it has such."""
    if isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
        network = network.module
    return materialize(network).to("meta")


def trace_forward(bones: nn.Module, shape: Sequence[int]) -> Forward:
    """Run a skeleton of a network on an input ``(B, C, *spatial)`` without memory, of the dtype of its weights."""
    weights = [*bones.parameters(), *bones.buffers()]
    dtype = next((weight.dtype for weight in weights if weight.is_floating_point()), torch.float32)
    x = torch.empty(tuple(shape), dtype=dtype, device="meta")
    with torch.no_grad(), LiveBytes([*weights, x]) as counter:
        outputs = [leaf for leaf in tree_leaves(bones(x)) if isinstance(leaf, Tensor)]
    return Forward(counter.peak, tuple(tuple(output.shape) for output in outputs))


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that operations make, from when they appear until they die.

    Args:
        tensors: that are there before.

    Attributes:
        live: bytes now.
        peak: the most that there were.
    """

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.known: set[int] = set()
        self.finalizers: list[weakref.finalize[Any, Any]] = []
        self._add(tensors)

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for finalizer in self.finalizers:  # of weights: they outlive this, and each pass would leave another
            finalizer.detach()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self._add(leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
        return result

    def _add(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage._cdata not in self.known:  # a view shares the storage of another tensor
                self.known.add(storage._cdata)
                self.live += storage.nbytes()
                self.finalizers.append(weakref.finalize(storage, self._remove, storage._cdata, storage.nbytes()))
                self.finalizers[-1].atexit = False
        self.peak = max(self.peak, self.live)

    def _remove(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.live -= size


def free_bytes(device: torch.device) -> int | None:
    """Memory that a device can still give, in bytes; None where that is not known."""
    if device.type == "cpu":
        return psutil.virtual_memory().available
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)  # held back by torch
        return torch.cuda.mem_get_info(device)[0] + unused
    return None


@dataclass(frozen=True)
class Need:
    """Bytes that are needed on a device."""

    device: torch.device
    needed_bytes: int

    def __str__(self) -> str:
        return f"{self.needed_bytes / 1e9:.3g} GB on {self.device}"


@dataclass(frozen=True)
class Shortage(Need):
    """A need that the memory that is free does not meet."""

    free_bytes: int

    def __str__(self) -> str:
        return f"{super().__str__()}, where {self.free_bytes / 1e9:.3g} GB are free"


class SlidingWindowMemory:
    """What inference in sliding windows allocates: windows on one device, the stitched output there or on another.

    A forward pass on windows counts by its estimate, times a factor for workspaces; the output as MONAI stitches it, as
    a weighted sum and the sum of weights. The volume itself is there already. Of a network that is no module, or that
    does not run on tensors without memory, an output of one channel counts and no more.

    Args:
        inputs: the volume, ``(B, C, *spatial)``.
        network: takes windows of it.
        sw_batch_size: windows at a time.
        sw_device: where windows are computed.
        stitching_device: where the output is stitched.
    """

    def __init__(
        self,
        inputs: Tensor,
        network: Callable[..., Any],
        sw_batch_size: int,
        sw_device: torch.device | str,
        stitching_device: torch.device | str,
    ) -> None:
        self.batch, self.channels, *self.size = inputs.shape
        self.itemsize = inputs.element_size()
        self.sw_batch_size = sw_batch_size
        self.sw_device, self.stitching_device = (torch.empty(0, device=d).device for d in (sw_device, stitching_device))
        self.bones = _remembered_skeleton(network)
        self.forwards: dict[tuple[int, ...], Forward | None] = {}

    def forward(self, window: tuple[int, ...]) -> Forward | None:
        """The forward pass on windows of a size; None if it cannot be estimated."""
        if self.bones is not None and window not in self.forwards:
            try:
                self.forwards[window] = trace_forward(self.bones, (self._at_a_time(window), self.channels, *window))
            except Exception as error:  # what the network raises is for its own call to raise
                logger.info("No estimate of memory for windows of %s: %s", window, error)
                self.forwards[window] = None
        return self.forwards.get(window)

    def _at_a_time(self, window: tuple[int, ...]) -> int:
        return self.sw_batch_size if list(window) != self.size else min(self.sw_batch_size, self.batch)

    def needs(self, window: tuple[int, ...]) -> list[Need]:
        """What windows of a size ``(D, H, W)`` or ``(H, W)`` need, on each device."""
        voxels = math.prod(window)
        forward = self.forward(window) or Forward(0, ((1, 1, *window),))
        needed = dict.fromkeys((self.sw_device, self.stitching_device), 0)
        needed[self.sw_device] += int(SAFETY * forward.peak_bytes) + voxels * self.itemsize  # and their weights
        for _, channels, *size in forward.output_shapes:
            stitched = math.prod(self.size) * math.prod(size) // voxels  # of an output at another resolution too
            needed[self.stitching_device] += (self.batch * channels + 1) * stitched * self.itemsize
        return [Need(device, count) for device, count in needed.items()]

    def shortage(self, window: tuple[int, ...]) -> Shortage | None:
        """The device that lacks memory for windows of a size; None if they fit."""
        for need in self.needs(window):
            free = free_bytes(need.device)
            if free is not None and need.needed_bytes > free:
                return Shortage(need.device, need.needed_bytes, free)
        return None


def _remembered_skeleton(network: Any) -> nn.Module | None:
    """The skeleton of a network, made once; None of what has none, such as a function or an exported program."""
    if not isinstance(network, nn.Module):
        return None
    if network not in _skeletons:
        try:
            _skeletons[network] = _skeleton(network)
        except Exception as error:  # whatever a module may refuse
            logger.info("No estimate of memory for %s: %s", type(network).__name__, error)
            return None
    return _skeletons[network]
