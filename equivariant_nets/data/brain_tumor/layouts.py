"""Find the cases of a folder: the Decathlon's Task01_BrainTumour, nnU-Net's form of it, or BraTS as its releases."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from equivariant_nets.data.brain_tumor.channels import MODALITIES, channel_order, numbered_case, order_beside
from equivariant_nets.data.brain_tumor.conventions import check_convention, folder_convention
from equivariant_nets.data.datalist import case_name, paired_cases, read_manifest

__all__ = ["Case", "brats_part", "find_brats_cases", "find_cases", "find_numbered_cases", "volume_files"]

_LABEL = {"label": ("seg",)}
_SUFFIX = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)
_PARTS = {spelling: part for part, spellings in (MODALITIES | _LABEL).items() for spelling in spellings}
_BRATS_NAME = re.compile(rf"(?P<case>.+)[-_](?P<part>{'|'.join(_PARTS)})", re.IGNORECASE)
# BraTS from 2023 on names the time point behind the patient: BraTS-GLI-00000-000, BraTS-GLI-00000-001.
_TIME_POINT = re.compile(r"(?P<patient>BraTS-[A-Z]+-\d+)-\d+", re.IGNORECASE)
_MAX_LISTED = 5


class Case(NamedTuple):
    """One examination. Paths are absolute."""

    name: str
    patient: str
    image: str | list[str]  # one file of four channels (MSD), or four (BraTS, nnU-Net), in the order of MODALITIES
    label: str | None
    convention: str | None = None  # of the label's values, a key of CONVENTIONS; None where it cannot be told


def find_cases(dataset_dir: str | Path, convention: str | None = None) -> tuple[list[Case], list[str]]:
    """The labelled cases of a folder, sorted by name, and what is wrong with the others.

    A folder with a ``dataset.json`` is MSD's or nnU-Net's: this file says which cases there are, and which channel is
    which modality; the channels of MSD, whose names it need not give, are in our order. Any other is BraTS's: the
    files of a case, named by the case and the modality (``_t1``, ``-t1n``, ...), lie anywhere below it.

    Args:
        dataset_dir: the folder. Hidden files in it are ignored.
        convention: of all the labels; None finds it, by ``conventions.folder_convention``.

    Returns:
        the complete cases, and one line for each problem, one of which is a convention that cannot be told.

    Raises:
        FileNotFoundError: the folder does not exist, or holds no case in either layout.
        ValueError: ``dataset.json`` is damaged, or the convention is unknown.
    """
    if convention is not None:
        check_convention(convention)
    folder = Path(dataset_dir).expanduser().absolute()
    advice = (
        f"Download the data of the Decathlon (7 GB) with: python -m {__package__} --dataset_dir {dataset_dir} "
        "--download\nor point dataset_dir at the folder that holds imagesTr/, labelsTr/ and dataset.json, or at a "
        "folder of BraTS cases."
    )
    if folder.is_file():
        raise FileNotFoundError(f"{folder} is a file, not the folder of a data set. {advice}")
    described = None
    if not folder.is_dir() or (folder / "dataset.json").is_file():
        manifest = read_manifest(folder, advice)
        described = manifest.get("labels")
        cases, problems = _find_msd_cases(folder, manifest, advice)
    else:
        cases, problems = find_brats_cases(folder, labelled=True)
    if not cases and not problems:
        raise FileNotFoundError(
            f"{folder} holds no dataset.json and no file named as in BraTS, such as CASE_flair.nii.gz or "
            f"CASE-t2f.nii.gz. {advice}"
        )
    if not cases:
        return cases, problems
    labels = {case.name: str(case.label) for case in cases}
    try:
        found = folder_convention(folder, labels, described, convention)
    except ValueError as error:
        return cases, [*problems, str(error)]
    return [case._replace(convention=found) for case in cases], problems


def find_brats_cases(folder: Path, labelled: bool) -> tuple[list[Case], list[str]]:
    """The cases of BraTS below a folder, sorted by name, and one line for each problem.

    Args:
        folder: absolute path.
        labelled: whether each case must have a label; else labels are left out. Predictions that were saved under the
            name of the first file, as ``CASE_flair_seg.nii.gz``, are no labels.
    """
    found: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    unknown: dict[Path, list[str]] = defaultdict(list)
    for path in volume_files(folder):
        name, part = brats_part(path)
        if part == "label" and _BRATS_NAME.fullmatch(name):
            continue  # CASE_flair_seg.nii.gz: a prediction, saved under the name of the image's first file
        if part is None:
            unknown[path.parent].append(path.name)
        else:
            found[name][part].append(path)
    cases, problems = [], []
    for name, files in sorted(found.items()):
        wanted = [*MODALITIES, *(_LABEL if labelled else ())]
        if not any(part in files for part in MODALITIES):
            if labelled:
                problems.append(f"{name}: the label {files['label'][0].relative_to(folder)} has no image beside it.")
            continue
        faults = list(_faults(name, files, wanted, folder, unknown))
        problems += faults
        if not faults:
            image = [str(files[part][0]) for part in MODALITIES]
            cases.append(Case(name, _patient(name), image, str(files["label"][0]) if labelled else None))
    return cases, problems


def volume_files(folder: Path) -> list[Path]:
    """The NIfTI files below a folder, sorted, without what is hidden or in a hidden folder."""
    return sorted(
        path
        for path in folder.rglob("*")
        if _SUFFIX.search(path.name)
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def brats_part(path: Path) -> tuple[str, str | None]:
    """The case that a file of BraTS belongs to, and what it is: a key of MODALITIES, or ``label``, or None."""
    match = _BRATS_NAME.fullmatch(case_name(path))
    if match is None:
        return case_name(path), None
    return match["case"], _PARTS[match["part"].lower()]


def _faults(
    name: str, files: dict[str, list[Path]], wanted: Iterable[str], folder: Path, unknown: dict[Path, list[str]]
) -> Iterator[str]:
    folders = {path.parent for paths in files.values() for path in paths}
    others = sorted(file for own in folders for file in unknown[own])[:_MAX_LISTED]
    hint = f" Files of another name there: {', '.join(others)}; rename one if it is this." if others else ""
    for part in wanted:
        spellings = (MODALITIES | _LABEL)[part]
        if part not in files:
            looked_for = ", ".join(f"{name}_{spelling}.nii.gz" for spelling in spellings)
            yield f"{name}: no {part} found; looked for {looked_for} (or .nii, or - for _).{hint}"
        elif len(files[part]) > 1:
            listed = ", ".join(str(path.relative_to(folder)) for path in files[part])
            yield f"{name}: {len(files[part])} files for {part}: {listed}. Keep one of them."


def _patient(name: str) -> str:
    match = _TIME_POINT.fullmatch(name)
    return match["patient"] if match else name


def _find_msd_cases(folder: Path, manifest: dict[str, Any], advice: str) -> tuple[list[Case], list[str]]:
    entries = manifest.get("training")
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{folder / 'dataset.json'} names no labelled cases. {advice}")
    cases, problems = {}, []
    for entry in entries:  # one by one, to find every problem
        try:
            images, label = _files_of(folder, entry)
            in_one_file = len(images) == 1 and "file_ending" not in manifest  # which nnU-Net's has
            order = channel_order(folder, manifest, in_one_file)
            name = case_name(images[0] if in_one_file else label)
            image = images[0] if in_one_file else in_order(images, order)
        except (FileNotFoundError, ValueError) as error:
            problems.append(" ".join(str(error).split()))
        else:
            cases[name] = Case(name, _patient(name), image, label)
    return [cases[name] for name in sorted(cases)], [*dict.fromkeys(problems)]


def _files_of(folder: Path, entry: Any) -> tuple[list[str], str]:
    """The images of an entry of ``dataset.json``, one, or of nnU-Net one a channel, and its label."""
    images = entry.get("image") if isinstance(entry, dict) else None
    if isinstance(images, str) and not (folder / images).is_file():  # nnU-Net's first version names no channel
        images = images.replace("\\", "/")  # written on Windows
        name = case_name(images)
        files = [Path(images).with_name(f"{name}_{k:04d}{Path(images).name.removeprefix(name)}") for k in range(10)]
        images = [str(file) for file in files if (folder / file).is_file()] or images
    listed = images if isinstance(images, list) else [images]
    pairs = paired_cases(folder, [{**entry, "image": image} for image in listed] if images else [entry], advice="")
    return [pair["image"] for pair in pairs], pairs[0]["label"]


def find_numbered_cases(files: Sequence[Path]) -> tuple[list[Case], list[str]]:
    """The cases of nnU-Net's files, ``CASE_0000`` to ``CASE_0003``, and one line for each problem.

    Which of them is which modality, ``dataset.json`` in their folder or the one above says.
    """
    found: dict[Path, list[str]] = defaultdict(list)
    for file in files:
        if numbered := numbered_case(file):
            found[file.with_name(numbered[0])].append(str(file))
    cases, problems = [], []
    for path, images in found.items():
        try:
            image = in_order(images, order_beside(path, in_one_file=False))
        except (FileNotFoundError, ValueError) as error:
            problems.append(f"{path.name}: {error}")
        else:
            cases.append(Case(path.name, _patient(path.name), image, None))
    return cases, problems


def in_order(images: Sequence[str], order: Sequence[int] | None) -> list[str]:
    """Numbered files of the modalities in our order.

    Raises:
        ValueError: the order is not known, or there are not four files.
    """
    names = [Path(image).name for image in images]
    if order is None:
        raise ValueError(
            f"{names[0]} is numbered, and no dataset.json beside it names the channels. Put one into its folder or the "
            f'one above, with {{"channel_names": {{"0": "FLAIR", ...}}}}, or name the files as BraTS does: CASE_flair, '
            "CASE_t1, CASE_t1ce, CASE_t2."
        )
    numbers = {numbered[1]: image for image in images if (numbered := numbered_case(Path(image)))}
    if sorted(numbers) != sorted(order) or len(images) != len(order):
        raise ValueError(
            f"the files {', '.join(names)} are not the channels 0000 to {len(order) - 1:04d}, each once, of which "
            "dataset.json speaks. Complete the case."
        )
    return [numbers[channel] for channel in order]
