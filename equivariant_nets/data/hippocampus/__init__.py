"""The hippocampus task of the Medical Segmentation Decathlon (Task04), with a fixed split."""

from __future__ import annotations

from pathlib import Path

from equivariant_nets.data.datalist import SECTIONS, paired_cases, read_manifest, select_section
from equivariant_nets.data.decathlon import download_task
from equivariant_nets.data.hippocampus.check import advice, check_hippocampus

__all__ = ["check_hippocampus", "download_hippocampus", "hippocampus_datalist"]

_TASK = "Task04_Hippocampus"
_TEST_EVERY = 5
_VALIDATION_EVERY = 8


def hippocampus_datalist(
    dataset_dir: str | Path, section: str = "training", train_cases: int | None = None
) -> list[dict[str, str]]:
    """The cases of one section of the hippocampus data.

    Of the labelled cases that ``dataset.json`` names, sorted, every fifth (index 4, 9, ...) is held out as ``test``;
    of the rest, every eighth (index 7, 15, ...) is ``validation``, which chooses the checkpoint; what remains is
    ``training``. The task's own unlabelled test images are not used. A copy with fewer cases is legal when its
    ``dataset.json`` names those.

    Args:
        dataset_dir: the folder that holds ``imagesTr``, ``labelsTr`` and ``dataset.json``.
        section: ``training``, ``validation`` or ``test``.
        train_cases: keep so many training cases, the first of a fixed shuffle; subsets are nested. None keeps all.

    Returns:
        dicts of ``image`` and ``label``, absolute paths.

    Raises:
        FileNotFoundError: the folder, or a file that its ``dataset.json`` names, is missing.
        ValueError: the section or ``train_cases`` is not legal, or ``dataset.json`` is damaged.
    """
    manifest = read_manifest(dataset_dir, advice(dataset_dir))
    cases = paired_cases(dataset_dir, manifest.get("training"), advice(dataset_dir))
    return select_section(_split(cases), section, train_cases)


def download_hippocampus(dataset_dir: str | Path) -> Path:
    """Download the task (27 MB) through MONAI, unless the folder holds a complete copy.

    Args:
        dataset_dir: the folder that shall hold ``imagesTr``, ``labelsTr`` and ``dataset.json``.

    Returns:
        the absolute path of the folder.

    Raises:
        monai.apps.utils.HashCheckError: the archive's checksum is not the expected one.
        urllib.error.URLError: the server cannot be reached.
    """
    return download_task(_TASK, dataset_dir, hippocampus_datalist)


def _split(cases: list[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    sections: dict[str, list[dict[str, str]]] = {section: [] for section in SECTIONS}
    sections["test"] = cases[_TEST_EVERY - 1 :: _TEST_EVERY]
    rest = [case for index, case in enumerate(cases) if index % _TEST_EVERY != _TEST_EVERY - 1]
    for index, case in enumerate(rest):
        is_validation = index % _VALIDATION_EVERY == _VALIDATION_EVERY - 1
        sections["validation" if is_validation else "training"].append(case)
    return sections
