"""The main finding of an experiment as one or two sentences, made from its tables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from equivariant_nets.experiments.plan import Experiment
from equivariant_nets.experiments.results import Setting
from equivariant_nets.experiments.tables import RANDOM_POSE, UPRIGHT_POSE, Row

__all__ = ["SMOKE_RUN", "interval_text", "main_finding", "number"]

SMOKE_RUN = "Smoke run: its numbers mean nothing."


def number(value: float) -> str:
    """Three decimals, without a minus before a zero; a dash for NaN."""
    return "-" if np.isnan(value) else f"{round(value, 3) + 0.0:.3f}"


def interval_text(row: Row) -> str:
    """``0.841 (0.822 to 0.857)``, or the mean alone where there is no interval."""
    mean = number(row.mean)
    return mean if np.isnan(row.low) else f"{mean} ({number(row.low)} to {number(row.high)})"


def main_finding(experiment: Experiment, settings: Sequence[Setting], rows: Sequence[Row]) -> str:
    """What the main picture shows: of rotations the loss, else the upright Dice, each with its interval.

    A smoke run finds nothing.
    """
    if experiment.quick:
        return f"{SMOKE_RUN} The networks were trained for a few steps, to see that all works; nothing was found."
    upright, over = _upright(rows), "(In brackets the 95 % confidence interval over"
    if experiment.plot == "rotation" and (drops := [row for row in rows if row.table == "drop"]):
        pose = min((row.pose for row in drops), key=lambda pose: (pose != "45 degrees", pose != RANDOM_POSE.name))
        shown = [row for row in drops if row.pose == pose]
        how = "At random rotations" if pose == RANDOM_POSE.name else f"Turned by {pose}"
        return (
            f"{how}, Dice falls by: {_listed(shown)}. Upright it is: {_listed(upright, interval=False)}. {over} "
            f"{shown[0].cases} test cases.)"
        )
    ends = f"{over} {upright[0].cases} test cases.)"
    if experiment.plot == "curve":
        values = [setting.value_text for setting in settings]
        parts = [
            f"{experiment.varies} {value}: {_listed([row for row in upright if row.value == value])}."
            for value in dict.fromkeys((values[0], values[-1]))
        ]
        return f"Upright Dice, {' '.join(parts)} {ends}"
    if experiment.plot == "parameters":
        figures = {(row.network, row.value): number(row.mean) for row in upright}
        parts = []
        for network in experiment.networks:
            if own := sorted((s for s in settings if s.network == network), key=lambda s: s.parameters):
                texts = [f"{figures[network, s.value_text]} ({s.parameters:,})" for s in (own[0], own[-1])]
                parts.append(f"{network} {' to '.join(dict.fromkeys(texts))}")
        return f"Upright Dice, with the fewest to the most parameters (in brackets): {'; '.join(parts)}."
    return f"Upright Dice: {_listed(upright)}. {ends}"


def _upright(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.table == "dice" and row.pose == UPRIGHT_POSE.name]


def _listed(rows: Sequence[Row], interval: bool = True) -> str:
    """Of each network its figure; of several values of a network the last."""
    figures = {row.network: interval_text(row) if interval else number(row.mean) for row in rows}
    return "; ".join(f"{network} {figure}" for network, figure in figures.items())
