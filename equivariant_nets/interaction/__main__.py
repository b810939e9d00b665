"""Command line: ``python -m equivariant_nets.interaction output/clicks/click_dice.csv`` sums up the table."""

from __future__ import annotations

import json

from equivariant_nets.cli import command_line
from equivariant_nets.interaction.evaluation import summarize_click_table


def summary(path: str) -> str:
    """Sum up a click_dice.csv: the mean Dice of each kind of pose after each number of clicks."""
    return "\n".join(f"{pose}: {json.dumps(means)}" for pose, means in summarize_click_table(path).items())


cli = command_line(summary)

if __name__ == "__main__":
    cli()
