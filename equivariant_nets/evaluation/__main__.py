"""Figures and plots of an evaluation.

python -m equivariant_nets.evaluation summary output/so3/rotation_dice.csv
python -m equivariant_nets.evaluation curves curves.png --steerable so3/rotation_dice.csv --plain unet/rotation_dice.csv
python -m equivariant_nets.evaluation scale_summary output/so3/scale_dice.csv
python -m equivariant_nets.evaluation scales scales.png --steerable so3/scale_dice.csv --plain unet/scale_dice.csv
python -m equivariant_nets.evaluation poses --images imagesTs --labels labelsTs --output_dir out --bundle bundles/NAME
"""

from __future__ import annotations

from pathlib import Path

import fire
from fire.decorators import SetParseFn

from equivariant_nets.evaluation.on_files.command import poses
from equivariant_nets.evaluation.plots import plot_rotation_curves, plot_scale_curves
from equivariant_nets.evaluation.tables import summarize_rotation_table, summarize_scale_table


def _curves(path: str, **tables: str) -> Path:
    """Plot rotation_dice.csv files, each given as --NAME FILE, into one PNG."""
    return plot_rotation_curves(tables, path)


def _scales(path: str, **tables: str) -> Path:
    """Plot scale_dice.csv files, each given as --NAME FILE, into one PNG."""
    return plot_scale_curves(tables, path)


if __name__ == "__main__":
    as_typed = SetParseFn(str, "images", "labels", "output_dir", "classes", "poses", "fill")  # 1,2 is no tuple
    commands = {"poses": as_typed(poses), "summary": summarize_rotation_table, "scale_summary": summarize_scale_table}
    fire.Fire({"curves": _curves, "scales": _scales, **commands})
