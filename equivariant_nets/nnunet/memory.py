"""The memory that nnU-Net's training step takes with one of these networks, found without running it."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from equivariant_nets.inference.memory import SAFETY
from equivariant_nets.nnunet.networks import NNUNetConvention
from equivariant_nets.training.memory import estimate_training_bytes

__all__ = ["training_bytes"]

BYTES_OF_STATE = 3 * 4  # of a weight: itself, its gradient and its momentum, in float32


def training_bytes(network: NNUNetConvention, batch: int, patch: Sequence[int]) -> int:
    """Bytes of a training step of nnU-Net: forward and backward pass at half precision, loss of all outputs, optimizer.

    The step runs on tensors without memory, and its live bytes are counted, in float16 as autocast has it on a GPU.
    For the workspaces of convolutions, the peak counts :data:`equivariant_nets.inference.memory.SAFETY` times.
    ``torch.compile`` may take more or less.

    Args:
        network: it is left as it is, and may lie on the device ``meta``.
        batch: patches of a step.
        patch: their size along each axis.

    Returns:
        bytes.

    Raises:
        ValueError: the patch is too small for the network.

    Example:
        >>> from equivariant_nets.nnunet import ConventionalUNet
        >>> from equivariant_nets.nnunet.memory import training_bytes
        >>> net = ConventionalUNet(1, 2, [[1] * 3, [2] * 3, [2] * 3], features=2)
        >>> training_bytes(net, 2, (16, 16, 16)) < training_bytes(net, 4, (16, 16, 16))
        True
    """
    bones = copy.deepcopy(network)
    bones.deep_supervision = True
    peak = estimate_training_bytes(bones, (batch, bones.in_channels, *patch), _loss, torch.float16)
    return int(SAFETY * peak) + BYTES_OF_STATE * sum(weight.numel() for weight in bones.parameters())


def _loss(logits: Tensor) -> Tensor:
    """What holds as much memory as nnU-Net's loss: cross entropy and soft Dice in float32."""
    target = torch.empty(logits.shape[0], *logits.shape[2:], dtype=torch.int64, device=logits.device)
    wide = logits.float()
    return F.cross_entropy(wide, target) - (wide.softmax(1) * torch.zeros_like(wide, dtype=torch.bool)).mean()
