"""Weights and outputs that are numbers: those of a training that diverged are NaN or infinite, and segment nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from ignite.engine import Engine
from monai.utils import CommonKeys

__all__ = ["check_output", "not_finite"]

_MAX_NAMED = 3


def not_finite(state: Mapping[str, Any]) -> str:
    """The names of the tensors of a state dict, of any depth, that hold NaN or infinity; empty if there are none.

    Example:
        >>> import torch
        >>> from equivariant_nets.training.finite import not_finite
        >>> not_finite({"bias": torch.zeros(2), "weight": torch.tensor([1.0, float("nan")])})
        'weight'
    """
    names = list(_bad(state))
    rest = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + rest


def _bad(state: Mapping[str, Any], where: str = "") -> Iterator[str]:
    for key, value in state.items():
        if isinstance(value, Mapping):
            yield from _bad(value, f"{where}{key}.")
        elif isinstance(value, torch.Tensor) and not value.isfinite().all():
            yield f"{where}{key}"


def check_output(engine: Engine) -> None:
    """Refuse an output of a network with NaN or infinity, of which a label map would be made: a handler.

    For ``IterationEvents.FORWARD_COMPLETED`` of an evaluator.

    Raises:
        ValueError: the output has values that are not finite.
    """
    output: Any = engine.state.output
    prediction = output[CommonKeys.PRED]
    if isinstance(prediction, torch.Tensor) and (count := int((~prediction.isfinite()).sum())):
        raise ValueError(
            f"The network's output has {count} of {prediction.numel()} values that are not finite, so that it is no "
            "segmentation. Its weights are those of a training that diverged, or half precision does not suffice: "
            "give other weights by --ckpt_path, or --evaluator#amp false."
        )
