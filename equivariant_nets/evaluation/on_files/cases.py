"""The cases of a folder: images with their label maps, and what the values of these mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from monai.data import MetaTensor

from equivariant_nets.data.checks import CheckVolumed
from equivariant_nets.data.datalist import case_name, indented
from equivariant_nets.data.loading import LoadVolumed
from equivariant_nets.fingerprints import content_of

__all__ = ["Case", "Classes", "Volumes", "find_cases", "match_names"]

MAX_CLASSES = 62  # bits of a code
_NIFTI = (".nii", ".nii.gz")


class Volumes(NamedTuple):
    """What the files of a case hold."""

    image: np.ndarray  # (C, X, Y, Z), float32
    label: np.ndarray  # (X, Y, Z)
    affine: np.ndarray  # (4, 4) of the image in mm, of the form that is used wherever the package reads it
    header: nib.Nifti1Header  # of the image


class Case(NamedTuple):
    """An image and its label map, as files."""

    name: str
    image: Path
    label: Path

    def load(self) -> Volumes:
        """The volumes of the case.

        Raises:
            ValueError: a file cannot be read, the image holds values that are not finite, or one value alone, the label
                map holds other than whole numbers from 0, or the two differ in shape or affine.
        """
        item = LoadVolumed(("image", "label"))({"image": str(self.image), "label": str(self.label)})
        item = CheckVolumed("image", "label", num_channels=len(item["image"]), of_head=False)(item)
        image, label = item["image"], item["label"]
        header: Any = nib.load(self.image).header  # type: ignore[attr-defined]
        return Volumes(_array(image), _array(label)[0].astype(np.int64), np.asarray(image.affine, dtype=float), header)

    def content(self) -> list[str]:
        """What the files hold, as checksums."""
        return [content_of(self.image), content_of(self.label)]


def find_cases(images: str | Path, labels: str | Path, num_cases: int | None = None) -> list[Case]:
    """The cases of a folder of images and one of label maps, sorted by name.

    An image is called ``case.nii.gz`` or, as for nnU-Net, ``case_0000.nii.gz``; its label map ``case.nii.gz`` or with
    more behind the name, such as ``case_seg.nii.gz``. Label maps without an image are left out.

    Args:
        images: folder of NIfTI files.
        labels: folder of NIfTI files.
        num_cases: the first so many; all if None.

    Raises:
        FileNotFoundError: there is no such folder, or no image in it.
        ValueError: an image has no label map, or several; two have one name; or ``num_cases`` is below 1.
    """
    if num_cases is not None and num_cases < 1:
        raise ValueError(f"--num_cases {num_cases} leaves no case to measure: give 1 or more, or leave it out.")
    files: dict[str, Path] = {}
    for path in nifti_files(images, "--images"):
        name = re.sub(r"_0000$", "", case_name(path))
        if name in files:
            raise ValueError(f"{files[name]} and {path} are images of one name. Remove one of them.")
        files[name] = path
    found, problems = match_names(list(files), nifti_files(labels, "--labels"))
    if problems:
        raise ValueError(
            f"{len(problems)} of {len(files)} images in {images} have no label map of their own in {labels}; it is "
            f"called as the image, or with more behind the name.{indented(list(problems.values()))}"
        )
    return [Case(name, files[name], found[name]) for name in sorted(files)][:num_cases]


def nifti_files(folder: str | Path, option: str) -> list[Path]:
    """The NIfTI files of a folder, without hidden ones.

    Raises:
        FileNotFoundError: there is no such folder, or none in it; the message names the option.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"{option} {folder} is no folder: give one of NIfTI files.")
    files = sorted(path for path in folder.iterdir() if path.name.endswith(_NIFTI) and not path.name.startswith("."))
    if not files:
        raise FileNotFoundError(f"{option} {folder} holds no .nii or .nii.gz file: give a folder of NIfTI files.")
    return files


def match_names(names: Sequence[str], files: Iterable[Path]) -> tuple[dict[str, Path], dict[str, str]]:
    """The file of each name: of its stem, or of the stem with more behind it, such as ``_seg``.

    A file belongs to the longest name that it begins with, so that ``case_1_seg`` is not one of ``case``.

    Returns:
        the files by name; and for those that have none, or several, the problem in words.
    """
    candidates: dict[str, list[Path]] = {name: [] for name in names}
    for file in files:
        stem = case_name(file)
        begins = [name for name in names if re.match(re.escape(name) + r"(?![^\W_])", stem)]
        if begins:
            candidates[max(begins, key=len)].append(file)
    found, problems = {}, {}
    for name, own in candidates.items():
        exact = [file for file in own if case_name(file) == name]
        own = exact or own
        if len(own) == 1:
            found[name] = own[0]
        else:
            several = ", ".join(sorted(file.name for file in own))
            problems[name] = f"{name}: there are {several}" if own else f"{name}: there is none"
    return found, problems


@dataclass(frozen=True)
class Classes:
    """What is scored: of each class its name, its values in predictions and its values in label maps.

    Inside, a label map is one of codes, which have bit k where a voxel belongs to class k: classes may overlap.
    """

    names: tuple[str, ...]
    predicted: tuple[tuple[int, ...], ...]
    true: tuple[tuple[int, ...], ...]

    @classmethod
    def parse(cls, text: str) -> Classes:
        """The classes of a text such as ``1=35,2=47+48`` or ``core:1+3,whole:1+2+3``.

        A class is ``NAME:PREDICTED=LABEL``: the values in predictions, with plus signs between them, and those in label
        maps. Without a name it is called as its values in predictions; without the second values, they are the first.

        Raises:
            ValueError: the text says something else, two classes have one name, or there are too many.

        Example:
            >>> from equivariant_nets.evaluation.on_files.cases import Classes
            >>> Classes.parse("left:1=35,2").true
            ((35,), (2,))
        """
        parts = [part.strip() for part in text.split(",")]
        values = r"(\d+(?:\+\d+)*)"
        matches = [re.fullmatch(rf"(?:([^:=,]+):)?{values}(?:={values})?", part) for part in parts]
        for part, match in zip(parts, matches, strict=True):
            if match is None:
                raise ValueError(
                    f"--classes {text!r} holds {part!r}, which is no class. Give values such as 1,2, of predictions "
                    "and labels such as 1=35,2=47+48, or names with them such as left:1=35."
                )
        groups = [match.groups() for match in matches if match]
        names = tuple(name or own for name, own, _ in groups)
        if len(set(names)) < len(names) or len(names) > MAX_CLASSES:
            raise ValueError(f"--classes {text!r}: each class is named once, and there are {MAX_CLASSES} at most.")
        predicted = tuple(_values(own) for _, own, _ in groups)
        return cls(names, predicted, tuple(_values(true or own) for _, own, true in groups))

    @classmethod
    def in_labels(cls, cases: Sequence[Case]) -> Classes:
        """Every value above 0 in the label maps of some cases, each a class.

        Raises:
            ValueError: there is none, or there are too many.
        """
        values = label_values(cases) - {0}
        if not values:
            raise ValueError(f"The label maps hold no value above 0, such as {cases[0].label}. Give others.")
        if len(values) > MAX_CLASSES:
            raise ValueError(
                f"The label maps hold {len(values)} values. Say which to score by --classes, {MAX_CLASSES} at most."
            )
        return cls.parse(",".join(map(str, sorted(values))))

    def check(self, cases: Sequence[Case]) -> list[str]:
        """The names of the classes of which no label map of some cases holds a value.

        Raises:
            ValueError: these are all classes.
        """
        values = label_values(cases)
        absent = [name for name, true in zip(self.names, self.true, strict=True) if not values & set(true)]
        if len(absent) == len(self.names):
            asked = sorted({value for true in self.true for value in true})
            raise ValueError(
                f"No label map holds any of the values {', '.join(map(str, asked))} that --classes asks for; they hold "
                f"{', '.join(map(str, sorted(values)))}. Values of labels stand behind =, as in 1=35."
            )
        return absent

    def true_codes(self, label: np.ndarray) -> np.ndarray:
        """The codes (X, Y, Z) of a label map."""
        return _codes(label, self.true)

    def predicted_codes(self, prediction: np.ndarray) -> np.ndarray:
        """The codes (X, Y, Z) of a prediction."""
        return _codes(prediction, self.predicted)

    def channels(self, codes: np.ndarray) -> np.ndarray:
        """From codes (X, Y, Z) to what is of each class, (K, X, Y, Z)."""
        return np.stack([(codes >> bit) & 1 for bit in range(len(self.names))]).astype(bool)

    @cached_property
    def text(self) -> str:
        """The classes as :meth:`parse` reads them."""
        parts = zip(self.names, self.predicted, self.true, strict=True)
        return ",".join(f"{name}:{_sum(own)}={_sum(true)}" for name, own, true in parts)


def label_values(cases: Sequence[Case]) -> set[int]:
    """Every value in the label maps of some cases."""
    return {int(value) for case in cases for value in np.unique(case.load().label)}


def _codes(label: np.ndarray, classes: Sequence[Sequence[int]]) -> np.ndarray:
    codes = np.zeros(label.shape, np.int64)
    for bit, values in enumerate(classes):
        codes |= np.isin(label, values).astype(np.int64) << bit
    return codes


def _values(text: str) -> tuple[int, ...]:
    return tuple(int(value) for value in text.split("+"))


def _sum(values: Sequence[int]) -> str:
    return "+".join(map(str, values))


def _array(volume: MetaTensor) -> np.ndarray:
    return np.asarray(volume.numpy())
