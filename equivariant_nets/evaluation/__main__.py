"""Figures and plots of an evaluation.

python -m equivariant_nets.evaluation summary output/so3/rotation_dice.csv
python -m equivariant_nets.evaluation curves curves.png --steerable so3/rotation_dice.csv --plain unet/rotation_dice.csv
python -m equivariant_nets.evaluation scale_summary output/so3/scale_dice.csv
python -m equivariant_nets.evaluation scales scales.png --steerable so3/scale_dice.csv --plain unet/scale_dice.csv
python -m equivariant_nets.evaluation poses --images imagesTs --labels labelsTs --output_dir out --bundle bundles/NAME
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

from equivariant_nets.cli import command_line
from equivariant_nets.evaluation.on_files.command import poses
from equivariant_nets.evaluation.plots import plot_rotation_curves, plot_scale_curves
from equivariant_nets.evaluation.tables import summarize_rotation_table, summarize_scale_table


def summary(path: str) -> str:
    """Sum up a rotation_dice.csv: the mean Dice of each kind of pose."""
    return _lines(summarize_rotation_table(path))


def curves(path: str, **tables: str) -> str:
    """Plot rotation_dice.csv files, each given as --NAME FILE, into one PNG."""
    return str(plot_rotation_curves(_given(tables), path))


def scale_summary(path: str) -> str:
    """Sum up a scale_dice.csv, or a poses_dice.csv of sizes: the mean Dice at each size of the anatomy."""
    return _lines(summarize_scale_table(path))


def scales(path: str, **tables: str) -> str:
    """Plot scale_dice.csv files, or poses_dice.csv of sizes, each given as --NAME FILE, into one PNG."""
    return str(plot_scale_curves(_given(tables), path))


def _given(tables: dict[str, str]) -> dict[str, str]:
    return tables or sys.exit("No table was given. Give one or more, each as --NAME FILE.")


def _lines(means: Mapping[str, float]) -> str:
    return "\n".join(f"{name}: {mean}" for name, mean in means.items())


cli = command_line(summary, curves, scale_summary, scales, poses, help=__doc__)

if __name__ == "__main__":
    cli()
