"""Command line: ``python -m equivariant_nets.data inspect FILES...``."""

from __future__ import annotations

import logging

from equivariant_nets.cli import command_line
from equivariant_nets.data.inspection import inspect_file


def inspect(*files: str) -> str:
    """Print what the bundles understand by files: place, codes, units, spacing, background, intensities, warnings, and
    which bundle each suits.

    Args:
        files: volumes or photographs, or folders of volumes, each DICOM series being one.
    """
    if not files:
        raise SystemExit("error: no file is named; give one or more volumes or photographs, or folders of volumes.")
    logging.disable(logging.WARNING)  # the texts hold what is logged
    return "\n".join(map(inspect_file, files))


cli = command_line(help="What users' files are.")
cli.command(inspect)

if __name__ == "__main__":
    cli()
