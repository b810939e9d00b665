"""Tensors that follow from the arguments of a layer: bases of kernels, and which channel belongs to what."""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

__all__ = ["Constant"]


class Constant:
    """The tensor ``make(*arguments)``, made once a process, and handed out where it is used and in the type used there.

    Neither a parameter nor a buffer, so nothing can load it, leave it empty, or miss it when weights move: however they
    came to their device and type, the constant is asked for by them. It comes from its original, which no cast rounds
    twice. Layers and their copies share it, and a pickle holds the arguments alone.

    Args:
        make: computes the tensor; floating-point ones in float64. Called with CPU as the default device.
        arguments: of make, which equal ones are the same to.

    Example:
        >>> import torch
        >>> from equivariant_nets.networks.constants import Constant
        >>> thirds = Constant(lambda n: torch.full((n,), 1 / 3, dtype=torch.float64), 2)
        >>> thirds.like(torch.zeros(1, dtype=torch.float16))
        tensor([0.3333, 0.3333], dtype=torch.float16)
    """

    def __init__(self, make: Callable[..., Tensor], *arguments: Hashable) -> None:
        self._recipe = (make, *arguments)
        self._original = _original(make, arguments)
        self._is_floating_point = self._original.is_floating_point()
        dtype = torch.get_default_dtype() if self._is_floating_point else self._original.dtype
        self._held = _placed(make, *arguments, device=torch.device("cpu"), dtype=dtype)

    @property
    def shape(self) -> torch.Size:
        return self._original.shape

    def like(self, x: Tensor) -> Tensor:
        """The constant on the device of x, and in its type if it is a floating-point one."""
        device, dtype = x.device, x.dtype if self._is_floating_point else self._original.dtype
        if torch.compiler.is_dynamo_compiling():
            self._hold(device, dtype)
        held = self._held
        if held.device == device and held.dtype == dtype:
            return held
        if torch.compiler.is_exporting() or torch.jit.is_tracing():  # what is made now is not to be kept
            return self._original.to(device, dtype)
        self._held = held = _placed(*self._recipe, device=device, dtype=dtype)
        return held

    @torch.compiler.assume_constant_result  # a compiler runs this, and compiles what follows
    def _hold(self, device: torch.device, dtype: torch.dtype) -> bool:
        self._held = _placed(*self._recipe, device=device, dtype=dtype)
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        return Constant, self._recipe


@functools.cache
def _original(make: Callable[..., Tensor], arguments: tuple[Hashable, ...]) -> Tensor:
    with torch.inference_mode(False), torch.device("cpu"):  # in whatever mode the first network is built
        return make(*arguments)


@functools.cache
def _placed(make: Callable[..., Tensor], *arguments: Hashable, device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # an inference tensor could never be trained with
        return _original(make, arguments).to(device, dtype)
