"""Errors on options that several parts take: what was got, and what is legal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["check_channels", "check_choice", "check_dropout", "check_spatial_dims"]


def check_choice(name: str, value: Any, legal: Iterable[str]) -> None:
    """Raise a ValueError unless the value is one of the legal ones."""
    choices = list(legal)
    if value not in choices:
        raise ValueError(f"{name}={value!r} is not known; choose from {choices}.")


def check_channels(name: str, count: int) -> None:
    """Raise a ValueError unless there is a channel."""
    if count < 1:
        raise ValueError(f"{name}={count} is not a number of channels; give 1 or more.")


def check_spatial_dims(spatial_dims: int) -> None:
    """Raise a ValueError unless it is the plane or space."""
    if spatial_dims not in (2, 3):
        raise ValueError(f"spatial_dims={spatial_dims} is not supported; choose 2 or 3.")


def check_dropout(p: float) -> None:
    """Raise a ValueError unless p is a probability with which not all is dropped."""
    if not 0 <= p < 1:
        raise ValueError(f"dropout={p} is not a probability; give 0 <= dropout < 1.")
