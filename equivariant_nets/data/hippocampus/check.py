"""A check of every file of the hippocampus data, which lists all problems instead of the first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from equivariant_nets.data.checks import CheckVolumed, check_label
from equivariant_nets.data.datalist import case_name, manifest_cases, read_manifest
from equivariant_nets.data.problems import case_problems

__all__ = ["advice", "check_hippocampus"]

_NUM_CLASSES = 3  # background, anterior, posterior


def advice(dataset_dir: str | Path) -> str:
    """What the user should do when the data is not there, or not all of it."""
    command = f"python -m equivariant_nets.data.hippocampus --dataset_dir {dataset_dir}"
    return (
        f"Download the data with: {command} --download\n"
        "or point dataset_dir at the folder that holds imagesTr/, labelsTr/ and dataset.json.\n"
        f"List all problems with: {command}"
    )


def check_hippocampus(dataset_dir: str | Path) -> list[str]:
    """Read every file that ``dataset.json`` names, and say all that is wrong.

    A problem is an entry that is no pair of files, a missing or unreadable file, an image that is not one channel of
    finite values or is constant, a label with other values than 0, 1 and 2, or an image and a label on different grids.

    Args:
        dataset_dir: the folder that holds ``imagesTr``, ``labelsTr`` and ``dataset.json``.

    Returns:
        one text a problem, at most one a file and grid; empty if the data is sound.
    """
    try:
        entries = read_manifest(dataset_dir, advice(dataset_dir)).get("training")
    except (FileNotFoundError, ValueError) as error:
        return [str(error)]
    problems, cases = [], []
    for part in [[entry] for entry in entries] if isinstance(entries, list) and entries else [entries]:
        try:
            cases += manifest_cases(dataset_dir, part, advice(dataset_dir))
        except ValueError as error:
            problems.append(str(error))
    cases.sort(key=lambda case: case["image"])
    return [*problems, *case_problems([(case_name(case["image"]), case, _check) for case in cases])]


def _check(key: str, volume: Any) -> None:
    if key == "image":
        CheckVolumed("image")({"image": volume})
    else:
        check_label(volume, key, _NUM_CLASSES)
