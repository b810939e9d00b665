"""Experiments: declarative files, runs that are never repeated, and one report of what they show."""

from equivariant_nets import bundles_extra  # noqa: F401
from equivariant_nets.experiments.execute import execute
from equivariant_nets.experiments.plan import Experiment, Run, read_experiment

__all__ = ["Experiment", "Run", "execute", "read_experiment"]
