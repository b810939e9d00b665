"""Experiments: declarative files, runs that are never repeated, and one report of what they show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from equivariant_nets.experiments.plan import Experiment, Run, read_experiment

if TYPE_CHECKING:
    from equivariant_nets.experiments.execution import execute

__all__ = ["Experiment", "Run", "execute", "read_experiment"]


def __getattr__(name: str) -> Any:
    """What carries runs out needs the extra ``bundles``, and is imported when first asked for."""
    if name != "execute":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from equivariant_nets.experiments.execution import execute

    return execute
