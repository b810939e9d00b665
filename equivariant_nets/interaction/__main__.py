"""Command line: ``python -m equivariant_nets.interaction output/clicks/click_dice.csv`` sums up the table."""

from __future__ import annotations

import fire

from equivariant_nets.interaction.evaluation import summarize_click_table

if __name__ == "__main__":
    fire.Fire(summarize_click_table)
