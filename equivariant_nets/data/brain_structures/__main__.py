"""Command line: ``python -m equivariant_nets.data.brain_structures --dataset_dir DIR [--check_skull False]``."""

from __future__ import annotations

from typing import Literal

from equivariant_nets.cli import command_line
from equivariant_nets.data.brain_structures import brain_structures_datalist, check_brain_structures
from equivariant_nets.data.brain_structures.layouts import ADVICE
from equivariant_nets.data.datalist import SECTIONS
from equivariant_nets.data.problems import exit_with_problems


def main(dataset_dir: str, *, check_skull: Literal[True, False] = True) -> str:
    """Check every file of the brain structures and count the cases of each section.

    Args:
        dataset_dir: the folder that holds images and labels (MICCAI 2012), or OASIS-TRT-20_volumes (Mindboggle101).
        check_skull: whether a whole head is a problem.
    """
    exit_with_problems(check_brain_structures(dataset_dir, check_skull), dataset_dir, ADVICE)
    counts = {section: len(brain_structures_datalist(dataset_dir, section)) for section in SECTIONS}
    return "\n".join(f"{section}: {count} cases" for section, count in counts.items())


cli = command_line(main)

if __name__ == "__main__":
    cli()
