"""Command line: ``python -m equivariant_nets.data.brain_tumor --dataset_dir DIR``."""

from __future__ import annotations

from typing import Literal

from equivariant_nets.cli import command_line
from equivariant_nets.data.brain_tumor import brain_tumor_sections, check_brain_tumor, download_brain_tumor
from equivariant_nets.data.problems import exit_with_problems


def main(
    dataset_dir: str,
    *,
    download: bool = False,
    split_file: str | None = None,
    convention: str | None = None,
    check_skull: Literal[True, False] = True,
) -> str:
    """Check every file of the brain tumour data and count the cases of each section, after a download where asked for.

    Args:
        dataset_dir: the folder that holds, or shall hold, imagesTr, labelsTr and dataset.json; or cases of BraTS.
        download: whether to download the Decathlon's data (7 GB) when the folder holds no complete copy.
        split_file: JSON that keeps the split: written where it does not exist, followed where it does.
        convention: of all labels, where it is not found: msd, brats2016, brats2021, brats2023, brats2024 or
            brats2024-ped.
        check_skull: whether a whole head is a problem.
    """
    try:
        if download:
            download_brain_tumor(dataset_dir)
        exit_with_problems(check_brain_tumor(dataset_dir, convention, check_skull), dataset_dir)
        sections = brain_tumor_sections(dataset_dir, split_file, convention)
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None
    return "\n".join(f"{section}: {len(cases)} cases" for section, cases in sections.items())


cli = command_line(main)

if __name__ == "__main__":
    cli()
