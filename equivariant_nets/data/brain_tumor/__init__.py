"""Brain tumours in MRI of four modalities: MSD Task01_BrainTumour, or BraTS folders, with one form of the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib

from equivariant_nets.data.brain_tumor.channels import MODALITIES, numbered_case, order_beside
from equivariant_nets.data.brain_tumor.check import check_brain_tumor
from equivariant_nets.data.brain_tumor.conventions import CONVENTIONS, check_labels
from equivariant_nets.data.brain_tumor.labels import (
    CLASS_NAMES,
    REGIONS,
    LabelToRegionsd,
    RegionsToLabeld,
    UnifyTumorLabelsd,
    label_to_regions,
)
from equivariant_nets.data.brain_tumor.layouts import (
    Case,
    brats_part,
    find_brats_cases,
    find_cases,
    find_numbered_cases,
    volume_files,
)
from equivariant_nets.data.brain_tumor.losses import RegionLoss
from equivariant_nets.data.brain_tumor.phantoms import tumor_phantom, write_tumor_phantoms
from equivariant_nets.data.brain_tumor.split import fold_cases, split_cases
from equivariant_nets.data.brain_tumor.targets import target_channels, target_regions
from equivariant_nets.data.checks import CHANNEL_FILES
from equivariant_nets.data.datalist import case_name, indented, select_section
from equivariant_nets.data.decathlon import download_task
from equivariant_nets.data.dicom.packages import is_dicom

__all__ = [
    "CLASS_NAMES",
    "CONVENTIONS",
    "REGIONS",
    "LabelToRegionsd",
    "RegionLoss",
    "RegionsToLabeld",
    "UnifyTumorLabelsd",
    "brain_tumor_datalist",
    "brain_tumor_sections",
    "check_brain_tumor",
    "download_brain_tumor",
    "label_to_regions",
    "name_by_case",
    "target_channels",
    "target_regions",
    "tumor_image_datalist",
    "tumor_phantom",
    "write_tumor_phantoms",
]

Item = dict[str, Any]


def brain_tumor_datalist(
    dataset_dir: str | Path,
    section: str = "training",
    train_cases: int | None = None,
    split_file: str | Path | None = None,
    convention: str | None = None,
    fold: int | None = None,
    num_folds: int = 4,
) -> list[Item]:
    """The cases of one section of the Decathlon's or of BraTS's brain tumours.

    The patients, sorted, are shuffled with a fixed seed and shared out 340 : 95 : 49, which are the counts for the 484
    labelled cases of the Decathlon. A folder with a ``dataset.json`` is the Decathlon's, and this file says which cases
    there are, or nnU-Net's, which names the channels of its files. Of any other, all cases of BraTS below it are used,
    each four files and a label.

    All labels of a folder are of one convention: what their values mean. It is told by ``labels`` in ``dataset.json``,
    or else by the names of the cases, and where these leave several, by the values in all of the labels. Whichever it
    is, all labels are read, once in a process (about 0.1 s each), and none may hold values that it has not.

    Args:
        dataset_dir: the folder that holds ``imagesTr``, ``labelsTr`` and ``dataset.json``, or cases of BraTS.
        section: ``training``, ``validation`` or ``test``.
        train_cases: keep so many training cases, the first of a fixed shuffle; subsets are nested. None keeps all.
        split_file: JSON that keeps the split: written where it does not exist, followed where it does.
        convention: of the labels, a key of ``CONVENTIONS``; None finds it.
        fold: None, or the fold of a cross-validation by patient, which ``split_file`` has no part in.
        num_folds: of the cross-validation. The patients, sorted, are cut into so many parts of neighbours: part
            ``fold`` is the test section, the first patient of the next part the validation section.

    Returns:
        dicts of ``image``, an absolute path, or four in the order FLAIR, T1, T1 with gadolinium, T2; ``label``, an
        absolute path; ``convention``, a key of ``CONVENTIONS``, which ``UnifyTumorLabelsd`` reads; and ``case``.

    Raises:
        FileNotFoundError: the folder does not exist or holds no case, or cases that ``split_file`` names are missing.
        ValueError: cases are incomplete, the convention is unknown, cannot be told, or does not fit the labels,
            ``dataset.json`` is damaged, the section, ``train_cases`` or the fold is not legal, or ``split_file`` does
            not fit the folder.
    """
    sections = brain_tumor_sections(dataset_dir, split_file, convention, fold, num_folds)
    return select_section(sections, section, train_cases)


def brain_tumor_sections(
    dataset_dir: str | Path,
    split_file: str | Path | None = None,
    convention: str | None = None,
    fold: int | None = None,
    num_folds: int = 4,
) -> dict[str, list[Item]]:
    """All sections, as :func:`brain_tumor_datalist` gives one; with less than three patients some are empty."""
    cases, problems = find_cases(dataset_dir, convention)
    _raise_problems(problems, dataset_dir, f"python -m {__name__} --dataset_dir {dataset_dir}")
    check_labels(Path(dataset_dir), {case.name: str(case.label) for case in cases}, str(cases[0].convention))
    sections = split_cases(cases, split_file) if fold is None else fold_cases(cases, fold, num_folds)
    return {section: [_item(case) for case in part] for section, part in sections.items()}


def tumor_image_datalist(dataset_dir: str | Path) -> list[Item]:
    """The images to segment, sorted by name, whether or not there are labels.

    Args:
        dataset_dir: a file of four channels; a folder with such files, in it or below; or a folder with cases of BraTS,
            or of nnU-Net (``CASE_0000`` to ``CASE_0003``). Which channel is which, a ``dataset.json`` in the folder of
            an image or in the one above says; without one, a file of four has ours. Labels, which are files named
            ``..._seg`` or in a folder ``labels...``, are ignored.

    Returns:
        dicts of ``image``, an absolute path, or four in the order FLAIR, T1, T1 with gadolinium, T2; and ``case``.

    Raises:
        FileNotFoundError: the file or folder does not exist, or holds no image.
        ValueError: a modality of a case is missing or given twice, a file has three axes only, or ``dataset.json``
            names other channels, or those of one file in another order.
    """
    source = Path(dataset_dir).expanduser().absolute()
    if source.is_file():
        return _image_items([source])
    if not source.is_dir():
        raise FileNotFoundError(
            f"{source} does not exist; give a 4-D image, a folder of such, or one of BraTS cases, as --dataset_dir."
        )
    cases, problems = find_brats_cases(source, labelled=False)
    _raise_problems(problems, dataset_dir)
    if cases:
        return [{"image": case.image, "case": case.name} for case in cases]
    images = [path for path in volume_files(source) if not _is_label(path.relative_to(source))]
    if not images:
        has_dicom = any(is_dicom(path) for path in source.rglob("*") if path.is_file())
        dicom = " DICOM is read for bundles of one channel alone: convert the four series first (dcm2niix)."
        raise FileNotFoundError(
            f"{source} holds no NIfTI image (.nii or .nii.gz); give a folder of 4-D images or of BraTS cases as "
            f"--dataset_dir.{dicom if has_dicom else ''}"
        )
    return _image_items(images)


def name_by_case(meta: Mapping[str, Any], saver: object = None) -> dict[str, Any]:
    """Name files by their case, the ``case`` of the lists above: ``SaveImaged(output_name_formatter=name_by_case)``.

    MONAI's own names are those of the image's first file, ``CASE-t2f`` for a case of BraTS. A case of several files has
    no folder, for they may lie in several; its name is unique.

    Args:
        meta: of an image that ``LoadVolumed`` read, or of a prediction from it.
        saver: not used.

    Returns:
        what ``monai.data.FolderLayout`` names a file by.
    """
    file = Path(meta["filename_or_obj"])
    numbered = numbered_case(file)
    name = numbered[0] if numbered else brats_part(file)[0]
    subject = Path(name) if CHANNEL_FILES in meta else file.with_name(case_name(file))
    return {"subject": f"{subject}.nii.gz", "idx": None}  # with an ending, which MONAI cuts off, dot or not


def download_brain_tumor(dataset_dir: str | Path) -> Path:
    """Download MSD Task01 (7 GB) through MONAI, unless the folder holds a complete copy or cases of BraTS.

    While it is unpacked, it takes twice the place.

    Args:
        dataset_dir: the folder that shall hold ``imagesTr``, ``labelsTr`` and ``dataset.json``.

    Returns:
        the absolute path of the folder.

    Raises:
        monai.apps.utils.HashCheckError: the archive's checksum is not the expected one.
        urllib.error.URLError: the server cannot be reached.
    """
    return download_task("Task01_BrainTumour", dataset_dir, brain_tumor_sections)


def _item(case: Case) -> Item:
    return {"image": case.image, "label": case.label, "convention": case.convention, "case": case.name}


def _raise_problems(problems: Sequence[str], dataset_dir: str | Path, command: str | None = None) -> None:
    if not problems:
        return
    advice = f"\nList all of them, and those inside the files, with: {command}" if command else ""
    raise ValueError(f"{dataset_dir} has {len(problems)} problems:{indented(problems)}{advice}")


def _is_label(path: Path) -> bool:
    return brats_part(path)[1] == "label" or any(part.lower().startswith("labels") for part in path.parts[:-1])


def _image_items(images: Sequence[Path]) -> list[Item]:
    items, numbered, problems = [], [], []
    shapes = {path: _shape(path) for path in images}
    of_nnunet = {path.parent for path, shape in shapes.items() if numbered_case(path) and len(shape or ()) == 3}
    for path, shape in shapes.items():
        if numbered_case(path) and path.parent in of_nnunet and len(shape or ()) in (0, 3):
            numbered.append(path)
        elif shape is None or len(shape) == 4:
            items.append({"image": str(path), "case": case_name(path)})
            try:
                order_beside(path, in_one_file=True)
            except ValueError as error:
                problems.append(str(error))
        else:
            part = brats_part(path)[1]
            what = f", and by its name the {part} of a BraTS case: give the folder of the case" if part else ""
            legal = f"legal are images of {len(MODALITIES)} channels ({', '.join(MODALITIES)}), the channel last"
            problems.append(f"{path} is of shape {shape}{what}; {legal}.")
    cases, others = find_numbered_cases(numbered)
    _raise_problems([*dict.fromkeys(problems), *others], images[0].parent)
    return [*items, *({"image": case.image, "case": case.name} for case in cases)]


def _shape(path: Path) -> tuple[int, ...] | None:
    """Of the header alone; None where it cannot be read: LoadVolumed says so, and why."""
    try:
        return nib.Nifti1Image.from_filename(path).shape
    except Exception:
        return None
