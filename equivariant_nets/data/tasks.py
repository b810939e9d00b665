"""The data of a task of one's own, as ``python -m equivariant_nets.zoo new`` found it: lists, labels and names."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_tensor

from equivariant_nets.data.checks import CHANNEL_FILES, describe_volume, round_label
from equivariant_nets.data.datalist import SECTIONS, case_name, indented, missing_files, select_section
from equivariant_nets.data.formats import is_kind
from equivariant_nets.data.images import image_datalist

__all__ = ["LABEL_PART", "CaseNames", "ClassesFromLabelsd", "contrast_datalist", "task_datalist"]

Item = dict[str, Any]

_logger = logging.getLogger(__name__)

# What the name of a label map ends with.
LABEL_PART = re.compile(r"(^|[-_. ])(seg|label|labels|mask|segmentation|ground_?truth|gt|manual\d*)$", re.IGNORECASE)

_MAX_LISTED = 8


def task_datalist(
    split_file: str | Path,
    section: str = "training",
    dataset_dir: str | Path | None = None,
    train_cases: int | None = None,
) -> list[Item]:
    """The cases of one section of a split that is written in a file.

    The file is JSON: ``dataset_dir``, and for each section a list of cases, of which each has a name, ``case``, and
    files below that folder, ``image``, one or one a channel, and ``label``. Edit it to move cases between sections.

    Args:
        split_file: the file.
        section: ``training``, ``validation`` or ``test``.
        dataset_dir: the folder of the data; None takes the one in the file.
        train_cases: keep so many training cases, the first of a fixed shuffle; subsets are nested. None keeps all.

    Returns:
        dicts of ``image``, an absolute path or a list of them, ``label``, an absolute path, and ``case``.

    Raises:
        FileNotFoundError: the file or the folder does not exist, or files of the section are missing.
        ValueError: the file is not as above, or the section or ``train_cases`` is not legal.
    """
    path = Path(split_file)
    remedy = "One for a folder of data is written by: python -m equivariant_nets.zoo new"
    if not path.is_file():
        raise FileNotFoundError(f"The split {path} does not exist. Give another one as --split_file. {remedy}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        sections = {name: [_case(entry) for entry in content[name]] for name in SECTIONS}
        folder = Path(dataset_dir or content["dataset_dir"]).expanduser().absolute()
    except (ValueError, KeyError, TypeError) as error:
        cause = f"{type(error).__name__}: {error}"
        raise ValueError(f"{path} is no split ({cause}). Correct it, or make it anew. {remedy}") from None
    if not folder.is_dir():
        raise FileNotFoundError(f"The folder of data {folder} does not exist. Say where it lies: --dataset_dir DIR")
    cases = [_absolute(case, folder) for case in select_section(sections, section, train_cases)]
    if missing := missing_files((file for case in cases for file in _files(case)), folder):
        raise FileNotFoundError(f"{folder} is incomplete, for {path} names more: {missing}")
    return cases


def contrast_datalist(dataset_dir: str | Path, contrasts: Sequence[str], pattern: str = "*") -> list[Item]:
    """The images to segment, where a case may be several files, one a contrast.

    Args:
        dataset_dir: an image file, or a folder of images.
        contrasts: what the names of the files end with, one a channel, in order, such as ``["_t1", "_t2"]``. What
            stands before is the name of the case, or, where nothing does, that of the folder. Of several, a file with
            as many channels is a case too. Of one, where no file ends so, or with another pattern, every image is a
            case: :func:`equivariant_nets.data.image_datalist`.
        pattern: of one contrast, see there. Of several, all files below the folder count.

    Returns:
        dicts of ``image``, a path or a list of them.

    Raises:
        FileNotFoundError: no such file or folder, or no image.
        ValueError: contrasts of cases are missing, or two cases have one name.
    """
    if len(contrasts) == 1:
        return _without_labels(_of_one_contrast(dataset_dir, contrasts[0], pattern))
    folder = Path(dataset_dir).expanduser().absolute()
    if folder.is_file():
        return [{"image": str(folder)}]
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist; give a folder of images as --dataset_dir.")
    cases, stacks = _grouped(folder, contrasts)
    wanted = ", ".join(f"CASE{contrast}.nii.gz" for contrast in contrasts)
    if not cases and not stacks:
        raise FileNotFoundError(
            f"{folder} holds no case. A case is the files {wanted}, or one file of {len(contrasts)} channels in this "
            "order."
        )
    names = Counter(case.name for case in cases)
    faults = [
        f"{case.name}: no file for {', '.join(end for end in contrasts if end not in files)}"
        for case, files in cases.items()
        if len(files) < len(contrasts)
    ]
    faults += [f"{name}: {count} cases have this name" for name, count in names.items() if count > 1]
    if faults:
        raise ValueError(f"{folder} has {len(faults)} problems, for a case is the files {wanted}:{indented(faults)}")
    return [
        *({"image": [str(files[contrast]) for contrast in contrasts]} for files in cases.values()),
        *({"image": str(path)} for path in stacks),
    ]


def _of_one_contrast(dataset_dir: str | Path, contrast: str, pattern: str) -> list[Item]:
    folder = Path(dataset_dir).expanduser().absolute()
    if contrast and pattern == "*" and folder.is_dir():
        own = [next(iter(files.values())) for files in _grouped(folder, [contrast])[0].values()]
        if own:
            return [{"image": str(path)} for path in own]
    return [dict(item) for item in image_datalist(dataset_dir, pattern)]


def _without_labels(items: list[Item]) -> list[Item]:
    """The images, without label maps that lie beside them: ``case_seg`` beside ``case`` is none."""
    stems = {str(item["image"]).removesuffix(Path(str(item["image"])).name) + _stem(item) for item in items}

    def is_label(item: Item) -> bool:
        folder = str(item["image"]).removesuffix(Path(str(item["image"])).name)
        start = LABEL_PART.sub("", _stem(item))
        return start != _stem(item) and folder + start in stems

    kept = [item for item in items if not is_label(item)]
    if len(kept) < len(items):
        _logger.info(f"{len(items) - len(kept)} label maps beside their images are left out.")
    return kept


def _stem(item: Item) -> str:
    return case_name(str(item["image"]))


def _grouped(folder: Path, contrasts: Sequence[str]) -> tuple[dict[Path, dict[str, Path]], list[Path]]:
    """The files of each case below a folder, by contrast, and the files that hold all contrasts."""
    cases: dict[Path, dict[str, Path]] = defaultdict(dict)
    stacks = []
    for path in sorted(folder.rglob("*")):
        is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if is_hidden or not path.is_file() or not is_kind(path, "volumes"):
            continue
        ends = [end for end in contrasts if case_name(path).endswith(end)]
        if len(contrasts) > 1 and _channels(path) == len(contrasts):
            stacks.append(path)
        elif ends:
            contrast = max(ends, key=len)
            cases[path.parent / (case_name(path).removesuffix(contrast) or ".")][contrast] = path
    return cases, stacks


class CaseNames:
    """Names outputs by the case, for the ``output_name_formatter`` of ``SaveImaged`` and of previews.

    A case of several files has the name that :func:`contrast_datalist` gives it, and no folder, for the files may lie
    in several; any other that of its file.

    Args:
        contrasts: what the names of the files end with, as for :func:`contrast_datalist`.
    """

    def __init__(self, contrasts: Sequence[str]) -> None:
        self.contrasts = contrasts

    def __call__(self, meta: Mapping[str, Any], saver: object = None) -> dict[str, Any]:
        """What ``monai.data.FolderLayout`` names a file by, from the metadata of a prediction."""
        file = Path(meta["filename_or_obj"])
        if CHANNEL_FILES not in meta:
            return {"subject": str(file), "idx": None}
        name = case_name(file).removesuffix(self.contrasts[0]) or file.parent.name
        return {"subject": f"{name}.nii.gz", "idx": None}  # with an ending, which MONAI cuts off, dot or not


class ClassesFromLabelsd(MapTransform):
    """Label maps with values of any number as classes 1, 2, ...; 0 is the background.

    Args:
        keys: of label maps, as they are loaded.
        values: for each class from 1 on, the values that it takes in the files.
        strict: whether other values are refused; else they become background.
        allow_missing_keys: whether a key may be absent.

    Raises:
        ValueError: on call, a label map holds values that are of no class, and strict is on.
    """

    def __init__(
        self,
        keys: KeysCollection,
        values: Sequence[Sequence[int]],
        strict: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.values = values
        self.strict = strict

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            label = round_label(convert_to_tensor(d[key], track_meta=True))
            classes = label.new_zeros(label.shape)
            known = label == 0
            for number, values in enumerate(self.values, start=1):
                here = torch.isin(label, torch.tensor(list(values)).to(label))
                classes[here] = number
                known |= here
            if self.strict and not bool(known.all()):
                legal = sorted({0, *(value for values in self.values for value in values)})
                raise ValueError(
                    f"{describe_volume(d[key], key)}: the values {_listed(label[~known].unique().tolist())} are of no "
                    f"class; legal are {_listed(legal)}. Correct the label map, or the classes in bundle.json."
                )
            d[key] = classes
        return d


def _case(entry: Mapping[str, Any]) -> Item:
    return {"image": entry["image"], "label": entry["label"], "case": entry["case"]}


def _absolute(case: Item, folder: Path) -> Item:
    image = case["image"]
    files = str(folder / image) if isinstance(image, str) else [str(folder / file) for file in image]
    return {"image": files, "label": str(folder / case["label"]), "case": case["case"]}


def _files(case: Item) -> list[str]:
    images = [case["image"]] if isinstance(case["image"], str) else case["image"]
    return [*images, case["label"]]


def _channels(path: Path) -> int:
    """The length of the fourth axis of a volume, by its header; 1 where it has none, or cannot be read here."""
    try:
        shape = nib.load(path).shape  # type: ignore[attr-defined]
    except Exception:  # the loader says so, and why
        return 1
    return shape[3] if len(shape) == 4 else 1


def _listed(values: Sequence[float]) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:_MAX_LISTED])
    return shown + (", ..." if len(values) > _MAX_LISTED else "")
