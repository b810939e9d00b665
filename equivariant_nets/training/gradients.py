"""Clipping of gradients, as a handler of ignite."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine

__all__ = ["GradientClipper"]


class GradientClipper:
    """Scale the gradient of all parameters to a largest norm before each step of a trainer's optimizer.

    It acts inside the step, so in mixed precision after the gradient lost its scale, and once for accumulated batches.

    Args:
        optimizer: the trainer's.
        max_norm: the largest Euclidean norm; None leaves the gradient as it is.

    Raises:
        ValueError: the norm is not positive.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, max_norm: float | None) -> None:
        if max_norm is not None and not max_norm > 0:
            raise ValueError(f"max_norm={max_norm!r} is not legal: give a norm above 0, or None for no clipping.")
        self.optimizer = optimizer
        self.max_norm = max_norm

    def attach(self, engine: Engine) -> None:
        """Register with the optimizer."""
        self.optimizer.register_step_pre_hook(self)

    def __call__(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if self.max_norm is not None:
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, self.max_norm)
