"""Find the cases of a folder, MICCAI 2012 or Mindboggle101's OASIS-TRT-20 as downloaded, and share them out."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from equivariant_nets.data.datalist import SECTIONS, case_name

__all__ = ["ADVICE", "Case", "Dataset", "find_dataset"]

ADVICE = (
    "MICCAI 2012 (CC BY-NC): http://www.neuromorphometrics.com/2012_MICCAI_Challenge_Data.html. Put the skull-stripped "
    "T1 volumes into images/ID.nii.gz and the label maps into labels/ID.nii.gz.\n"
    "Mindboggle101: https://mindboggle.info/data, https://osf.io/nhtur/. Unpack OASIS-TRT-20_volumes (its labels "
    "CC BY-NC-SA 3.0 by the release notes, its scans by the terms of OASIS) and, beside it, the manual labels "
    "OASIS-TRT-20_DKT31_CMA_labels_v2 (CC BY-NC-ND 4.0).\n"
    "Point dataset_dir at the folder that holds images/ and labels/, or OASIS-TRT-20_volumes/."
)

_MICCAI_SPLIT = {
    "training": ("1000", "1001", "1002", "1006", "1007", "1008", "1009"),
    "validation": ("1010", "1011", "1012"),
    "test": ("1013", "1014", "1015", "1036", "1017", "1003", "1004", "1005", "1018", "1019"),
}
_MINDBOGGLE_SPLIT = {
    section: tuple(f"OASIS-TRT-20-{number}" for number in numbers)
    for section, numbers in {"training": range(1, 8), "validation": range(8, 11), "test": range(11, 21)}.items()
}
_SHARES = (0.35, 0.15)  # of training and validation in a set of other cases, those of 7 and 3 out of 20

_logger = logging.getLogger(__name__)

_VOLUMES = "OASIS-TRT-20_volumes"
_BRAIN = "t1weighted_brain.nii.gz"
_SUBJECT = re.compile(r"OASIS-TRT-20-(\d+)")
_MANUAL_LABELS = ("OASIS-TRT-20_DKT31_CMA_labels_v2", "OASIS-TRT-20_DKT31_CMA_labels")


class Case(NamedTuple):
    """One brain. Paths are absolute; the files may be missing."""

    name: str
    image: Path
    label: Path


class Dataset(NamedTuple):
    """The cases of a folder by section, and the convention of all their labels, a key of ``LABEL_TABLES``."""

    folder: Path  # that all files are in
    convention: str
    sections: dict[str, list[Case]]


def find_dataset(dataset_dir: str | Path) -> Dataset:
    """The cases that a folder has or, where one of the published cases is in it, should have.

    Args:
        dataset_dir: the folder with ``images`` and ``labels`` (MICCAI 2012), or with ``OASIS-TRT-20_volumes``
            (Mindboggle101), or the latter itself.

    Raises:
        FileNotFoundError: the folder does not exist, or holds no case in either layout.
    """
    folder = Path(dataset_dir).expanduser().absolute()
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is no folder. {ADVICE}")
    if (folder / "images").is_dir():
        dataset = _miccai(folder)
    else:
        volumes = folder / _VOLUMES if (folder / _VOLUMES).is_dir() else folder
        dataset = _mindboggle(volumes)
    if not any(dataset.sections.values()):
        raise FileNotFoundError(
            f"{folder} holds no image images/ID.nii.gz, and no case {_VOLUMES}/OASIS-TRT-20-N/{_BRAIN}. {ADVICE}"
        )
    return dataset


def _miccai(folder: Path) -> Dataset:
    parts = (folder / "images", folder / "labels")
    names = {case_name(path) for part in parts for path in part.glob("*.nii*") if not path.name.startswith(".")}
    sections = _split(sorted(names), _MICCAI_SPLIT)
    return Dataset(
        folder,
        "neuromorphometrics",
        {
            section: [Case(name, *(_volume(part, name) for part in parts)) for name in own]
            for section, own in sections.items()
        },
    )


def _mindboggle(volumes: Path) -> Dataset:
    numbers = [int(match[1]) for path in volumes.iterdir() if (match := _SUBJECT.fullmatch(path.name))]
    sections = _split([f"OASIS-TRT-20-{number}" for number in sorted(numbers)], _MINDBOGGLE_SPLIT)
    manual = next((path for name in _MANUAL_LABELS if (path := volumes.parent / name).is_dir()), None)

    def case(name: str) -> Case:
        if manual is None:
            label = volumes / name / "labels.DKT31.manual+aseg.nii.gz"
        else:
            label = _nested(manual) / f"{name}_DKT31_CMA_labels.nii.gz"
        return Case(name, volumes / name / _BRAIN, label)

    return Dataset(
        volumes.parent, "freesurfer", {section: [case(name) for name in own] for section, own in sections.items()}
    )


def _split(names: Sequence[str], fixed: dict[str, tuple[str, ...]]) -> dict[str, Sequence[str]]:
    """The published cases where one of them is there; else these names, shared out in their order."""
    published = [name for own in fixed.values() for name in own]
    if any(name in published for name in names):
        if others := [name for name in names if name not in published]:
            _logger.warning("left out, for they are in no section of the published split: %s", ", ".join(others))
        return dict(fixed)
    counts = [max(1, round(share * len(names))) for share in _SHARES]
    first, second = counts[0], sum(counts)
    return dict(zip(SECTIONS, (names[:first], names[first:second], names[second:]), strict=True))


def _volume(folder: Path, name: str) -> Path:
    compressed, plain = folder / f"{name}.nii.gz", folder / f"{name}.nii"
    return plain if plain.is_file() and not compressed.is_file() else compressed


def _nested(folder: Path) -> Path:
    """The folder, or the one of the same name in it, which unpacking an archive into its own folder makes."""
    return folder / folder.name if (folder / folder.name).is_dir() else folder
