"""Where half precision is not enough: statistics, squares and the assembly of kernels."""

import contextlib

import torch
from torch import Tensor

__all__ = ["autocast_off", "widened"]


def autocast_off(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """A context without autocast on the device of a tensor. Some, such as ``meta``, have none to switch off."""
    kind = x.device.type
    return torch.autocast(kind, enabled=False) if torch.amp.is_autocast_available(kind) else contextlib.nullcontext()


def widened(x: Tensor) -> Tensor:
    """A tensor in float32, or in float64 if that is its type: a square of float16 overflows from 256 on."""
    return x if x.dtype == torch.float64 else x.float()
