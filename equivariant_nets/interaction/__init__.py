"""Clicks that guide a segmentation: as channels of the network's input, from users, and simulated."""

from equivariant_nets import bundles_extra  # noqa: F401
from equivariant_nets.interaction.evaluation import ClickSweep, plot_click_curves, summarize_click_table
from equivariant_nets.interaction.files import read_clicks, with_clicks
from equivariant_nets.interaction.guidance import AddClickGuidanced, click_signal
from equivariant_nets.interaction.simulation import AddSimulatedClicksd, click_in, next_click

__all__ = [
    "AddClickGuidanced",
    "AddSimulatedClicksd",
    "ClickSweep",
    "click_in",
    "click_signal",
    "next_click",
    "plot_click_curves",
    "read_clicks",
    "summarize_click_table",
    "with_clicks",
]
