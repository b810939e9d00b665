"""Command line: ``python -m equivariant_nets.data.hippocampus --dataset_dir DIR [--download]``."""

from __future__ import annotations

from equivariant_nets.cli import command_line
from equivariant_nets.data.datalist import SECTIONS
from equivariant_nets.data.hippocampus import check_hippocampus, download_hippocampus, hippocampus_datalist
from equivariant_nets.data.problems import exit_with_problems


def main(dataset_dir: str, *, download: bool = False) -> str:
    """Check every file of the hippocampus data and count the cases of each section, after a download where asked for.

    Args:
        dataset_dir: the folder that holds, or shall hold, imagesTr, labelsTr and dataset.json.
        download: whether to download the data when the folder holds no complete copy.
    """
    try:
        if download:
            download_hippocampus(dataset_dir)
        exit_with_problems(check_hippocampus(dataset_dir), dataset_dir)
        counts = {section: len(hippocampus_datalist(dataset_dir, section)) for section in SECTIONS}
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
    return "\n".join(f"{section}: {count} cases" for section, count in counts.items())


cli = command_line(main)

if __name__ == "__main__":
    cli()
