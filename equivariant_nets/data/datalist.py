"""What every data set here shares: a Decathlon ``dataset.json`` read into checked lists of image and label files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

__all__ = [
    "SECTIONS",
    "case_name",
    "indented",
    "manifest_cases",
    "missing_files",
    "nested_subset",
    "paired_cases",
    "read_manifest",
    "select_section",
]

SECTIONS = ("training", "validation", "test")

Case = TypeVar("Case")

# Endings of images. What stands behind another dot belongs to the name: scan_v1.2 is a file, or a folder, of its own.
_ENDING = re.compile(
    r"\.(nii|img|hdr|mnc|head|brik|par|rec|mha|mhd|nrrd|nhdr|mgh|mgz|dcm|ima|npy|npz|png|jpe?g|bmp|gif|tiff?|ppm|pgm|webp|"
    r"jp2)(\.(gz|bz2))?$",
    re.IGNORECASE,
)
_SUBSET_SEED = 0
_MAX_LISTED = 10


def read_manifest(dataset_dir: str | Path, advice: str) -> dict[str, Any]:
    """The content of ``dataset_dir/dataset.json``.

    nnU-Net, from its second version on, lists no cases there: they are those of ``labelsTr``, and become ``training``
    here.

    Args:
        dataset_dir: folder in the layout of the Medical Segmentation Decathlon, or of nnU-Net.
        advice: what the user should do when the data is not there; it ends the error message.

    Raises:
        FileNotFoundError: the folder or its ``dataset.json`` does not exist.
        ValueError: ``dataset.json`` is not a JSON object.
    """
    folder = Path(dataset_dir).expanduser().absolute()
    path = folder / "dataset.json"
    if not folder.is_dir():
        raise FileNotFoundError(f"The data set folder {folder} does not exist. {advice}")
    if not path.is_file():
        raise FileNotFoundError(f"{folder} holds no dataset.json, so it is no complete data set. {advice}")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8-sig"))  # some editors write a byte-order mark
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}). {advice}") from None
    if not isinstance(manifest, dict):
        raise ValueError(f"{path} holds a JSON {type(manifest).__name__}, not the object of a Decathlon task. {advice}")
    if "training" not in manifest and "file_ending" in manifest:
        manifest["training"] = _nnunet_entries(folder, manifest)
    return manifest


def _nnunet_entries(folder: Path, manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """The cases of a folder of nnU-Net, as the Decathlon lists them; of several channels, the image is a list."""
    ending = str(manifest["file_ending"])
    channels = range(max(1, len(manifest.get("channel_names", ()))))
    names = [path.name.removesuffix(ending) for path in sorted((folder / "labelsTr").glob(f"[!.]*{ending}"))]
    entries = []
    for name in names:
        images = [f"imagesTr/{name}_{channel:04d}{ending}" for channel in channels]
        entries.append({"image": images[0] if len(images) == 1 else images, "label": f"labelsTr/{name}{ending}"})
    return entries


def paired_cases(dataset_dir: str | Path, entries: object, advice: str) -> list[dict[str, str]]:
    """The cases of a manifest as absolute paths, sorted by the name of the image, after a check that all files exist.

    The manifest decides which cases there are, not the files present: a lost file is an error, and cannot move the
    other cases from one section to another.

    Args:
        dataset_dir: the folder that the entries are relative to.
        entries: dicts of ``image`` and ``label``, as ``dataset.json`` holds them.
        advice: what the user should do about a missing file; it ends the error message.

    Raises:
        FileNotFoundError: an image or a label does not exist; the message lists the missing files.
        ValueError: the entries are not pairs of an image and a label.
    """
    folder = Path(dataset_dir).expanduser().absolute()
    cases = manifest_cases(folder, entries, advice)
    if missing := missing_files((file for case in cases for file in case.values()), folder):
        raise FileNotFoundError(f"{folder} is incomplete, for its dataset.json names more: {missing}\n{advice}")
    return cases


def manifest_cases(dataset_dir: str | Path, entries: object, advice: str) -> list[dict[str, str]]:
    """The cases of :func:`paired_cases`, whether or not their files exist."""
    folder = Path(dataset_dir).expanduser().absolute()
    path = folder / "dataset.json"
    if not isinstance(entries, Sequence) or not entries:
        raise ValueError(f"{path} names no labelled cases. {advice}")
    cases = {}
    for entry in entries:
        if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("image", "label")):
            raise ValueError(f'{path} holds the entry {entry!r}; a labelled case is {{"image": ..., "label": ...}}.')
        case = {key: str(folder / entry[key].replace("\\", "/")) for key in ("image", "label")}  # written on Windows
        case["image"] = _first_channel(case["image"])
        cases[Path(case["image"]).name] = case
    return [cases[name] for name in sorted(cases)]


def _first_channel(image: str) -> str:
    """The file ``case_0000`` of nnU-Net's first version, whose ``dataset.json`` says ``case``."""
    name = case_name(image)
    numbered = Path(image).with_name(f"{name}_0000{Path(image).name.removeprefix(name)}")
    return str(numbered) if numbered.is_file() and not Path(image).is_file() else image


def select_section(cases: dict[str, list[Case]], section: str, train_cases: int | None = None) -> list[Case]:
    """One section of a data set; of the training section on request only the first cases of a fixed shuffle.

    Args:
        cases: the cases of every section.
        section: one of the sections.
        train_cases: number of training cases to keep, or None for all.

    Raises:
        ValueError: there is no such section, it is empty, or ``train_cases`` does not fit it.
    """
    if section not in cases:
        raise ValueError(f"section={section!r} is not one of {', '.join(cases)}.")
    if not cases[section]:
        total = sum(len(part) for part in cases.values())
        raise ValueError(f"The section {section!r} is empty: the data set has only {total} cases. Add cases.")
    if train_cases is None:
        return cases[section]
    if section != "training":
        raise ValueError(f"train_cases={train_cases} applies to section='training', not to {section!r}. Leave it out.")
    return nested_subset(cases[section], train_cases)


def nested_subset(cases: Sequence[Case], count: int) -> list[Case]:
    """The first ``count`` cases of a fixed shuffle, so that a smaller subset is part of every larger one.

    Raises:
        ValueError: ``count`` is not a whole number from 1 to the number of cases.
    """
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or not 1 <= count <= len(cases):
        raise ValueError(f"train_cases={count!r} is not a whole number from 1 to {len(cases)}, the training cases.")
    order = np.random.RandomState(_SUBSET_SEED).permutation(len(cases))
    return [cases[index] for index in order[:count]]


def case_name(path: str | Path) -> str:
    """What lists, tables and pictures call a case: the name of its file, or folder, without the ending of an image.

    Example:
        >>> case_name("images/scan_v1.2.nii.gz"), case_name("dicom/scan_v1.2")
        ('scan_v1.2', 'scan_v1.2')
    """
    return _ENDING.sub("", Path(path).name)


def missing_files(files: Iterable[str], folder: Path) -> str:
    """Which of these files below a folder do not exist, in words; empty if all do."""
    missing = sorted(str(Path(file).relative_to(folder)) for file in files if not Path(file).is_file())
    if not missing:
        return ""
    return f"{len(missing)} files are missing:{indented(missing)}"


def indented(lines: Sequence[str]) -> str:
    """The first ten lines for the end of a message, each on a line of its own, and how many more there are."""
    rest = [f"... and {len(lines) - _MAX_LISTED} more"] if len(lines) > _MAX_LISTED else []
    return "".join(f"\n  {line}" for line in [*lines[:_MAX_LISTED], *rest])
