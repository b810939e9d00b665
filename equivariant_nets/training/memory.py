"""The memory that a training step takes, found without running it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from equivariant_nets.inference.memory import LiveBytes

__all__ = ["estimate_training_bytes"]


def estimate_training_bytes(
    network: nn.Module,
    shape: Sequence[int],
    loss: Callable[[Tensor], Tensor] = Tensor.sum,
    dtype: torch.dtype = torch.float32,
) -> int:
    """Peak of live tensors of a forward and a backward pass: parameters, gradients, features and what autograd keeps.

    The network runs on tensors without memory, so this takes a second at any size. The optimizer's state, and
    workspaces inside of an operation, come on top.

    Args:
        network: that takes one tensor. It is left as it is.
        shape: of a batch, ``(B, C, *spatial)``.
        loss: of each output, a scalar; what it keeps counts.
        dtype: of weights and features.

    Returns:
        bytes.

    Example:
        >>> import torch
        >>> from equivariant_nets.training.memory import estimate_training_bytes
        >>> layers = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.Conv2d(1, 1, 1))
        >>> estimate_training_bytes(layers, (1, 1, 100, 100)) >= 3 * 4 * 100**2
        True
    """
    bones = copy.deepcopy(network).to("meta", dtype).train()
    x = torch.empty(tuple(shape), dtype=dtype, device="meta")
    with torch.enable_grad(), LiveBytes([*bones.parameters(), *bones.buffers(), x]) as counter:
        outputs = [leaf for leaf in tree_leaves(bones(x)) if isinstance(leaf, Tensor)]
        torch.stack([loss(output) for output in outputs]).sum().backward()
    return counter.peak
