"""Find the labelled cases of a folder, whatever of the usual layouts it has."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equivariant_nets.data.datalist import case_name, read_manifest
from equivariant_nets.data.formats import is_kind

__all__ = ["Case", "Found", "find_cases"]

# Names of folders and parts of names of files, in small letters.
_IMAGES = ("imagestr", "images", "image", "imgs", "img", "scans")
_LABELS = ("labelstr", "labels", "label", "masks", "mask", "segmentations", "segmentation", "seg", "groundtruth", "gt")
_LABEL_PART = re.compile(r"(^|[-_. ])(seg|label|labels|mask|segmentation|ground_?truth|gt|manual\d*)$", re.IGNORECASE)
_CHANNEL = re.compile(r"(?P<case>.+)(?P<end>_\d{4})")  # of nnU-Net
_SEPARATORS = "-_. "
_LAYOUTS = (
    "a folder with dataset.json (Medical Segmentation Decathlon, nnU-Net), one with imagesTr and labelsTr or images "
    "and labels, or one with a folder for each case that holds an image for each contrast and a label (..._seg.nii.gz)"
)


@dataclass(frozen=True)
class Case:
    """One examination: its name, its images, one file or one a channel, and its label. Paths are absolute."""

    name: str
    images: tuple[Path, ...]
    label: Path


@dataclass(frozen=True)
class Found:
    """What a folder was found to hold.

    Args:
        layout: what it is, in words.
        cases: sorted by name.
        contrasts: what the names of the files of a case end with, one a channel; ``("",)`` of one file a case.
        channels: names of the channels, as far as the folder says.
        classes: names of label values, as far as the folder says.
        problems: what is wrong, one line each.
    """

    layout: str
    cases: list[Case]
    contrasts: tuple[str, ...] = ("",)
    channels: tuple[str, ...] = ()
    classes: dict[int, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def find_cases(dataset_dir: str | Path, images: str | None = None, labels: str | None = None) -> Found:
    """The labelled cases of a folder.

    Args:
        dataset_dir: the folder. Hidden files and folders in it are ignored.
        images, labels: names of the two folders in it that hold them; None finds them by the usual names.

    Raises:
        FileNotFoundError: the folder does not exist, or holds nothing in a layout that is known.
        ValueError: one of ``images`` and ``labels`` is missing, or ``dataset.json`` is damaged.
    """
    folder = Path(dataset_dir).expanduser().absolute()
    if not folder.is_dir():
        what = "is a file" if folder.is_file() else "does not exist"
        raise FileNotFoundError(f"The data set folder {folder} {what}. Legal is {_LAYOUTS}.")
    if (images is None) != (labels is None):
        raise ValueError("--images and --labels name two folders of the data set: give both, or neither.")
    if images is not None and labels is not None:
        for option, name in {"--images": images, "--labels": labels}.items():
            if not (folder / name).is_dir():
                raise FileNotFoundError(f"{option} {name}: {folder} has no such folder. {_subfolders(folder)}")
        return _pairs(folder / images, folder / labels)
    if (folder / "dataset.json").is_file():
        return _listed(folder)
    subfolders = {path.name.lower(): path for path in folder.iterdir() if path.is_dir()}
    own_images = next((subfolders[name] for name in _IMAGES if name in subfolders), None)
    own_labels = next((subfolders[name] for name in _LABELS if name in subfolders), None)
    if own_images and own_labels:
        return _pairs(own_images, own_labels)
    found = _contrasts(folder)
    if not found.cases and not found.problems:
        raise FileNotFoundError(
            f"{folder} holds no labelled cases that can be told. Legal is {_LAYOUTS}. {_subfolders(folder)} Where they "
            "have other names, give --images and --labels."
        )
    return found


def _listed(folder: Path) -> Found:
    """The cases that ``dataset.json`` lists."""
    manifest = read_manifest(folder, f"Legal is {_LAYOUTS}.")
    entries = manifest.get("training")
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{folder / 'dataset.json'} names no labelled cases under training. List them there.")
    cases, problems = [], []
    numbered: set[str] = set()
    for entry in entries:
        files = entry.get("image") if isinstance(entry, dict) else None
        label = entry.get("label") if isinstance(entry, dict) else None
        listed = [files] if isinstance(files, str) else files
        if not isinstance(listed, list) or not listed or not isinstance(label, str):
            problems.append(f'dataset.json: the entry {entry!r} is no case; legal is {{"image": ..., "label": ...}}')
            continue
        images = [folder / str(file).replace("\\", "/") for file in listed]  # written on Windows
        if len(images) == 1 and not images[0].is_file():
            images = _channel_files(images[0]) or images
        case = Case(case_name(label), tuple(images), folder / label.replace("\\", "/"))
        missing = [str(path.relative_to(folder)) for path in (*case.images, case.label) if not path.is_file()]
        if missing:
            problems.append(f"{case.name}: {', '.join(missing)} is not there. Add it, or take the case off the list")
            continue
        numbered |= {match["end"] for path in images if (match := _CHANNEL.fullmatch(case_name(path)))}
        cases.append(case)
    is_split = any(len(case.images) > 1 for case in cases) or "file_ending" in manifest
    return Found(
        layout="nnU-Net's raw data" if "file_ending" in manifest else "a task of the Medical Segmentation Decathlon",
        cases=sorted(cases, key=lambda case: case.name),
        contrasts=tuple(sorted(numbered)) if is_split and numbered else ("",),
        channels=_names(manifest.get("channel_names") or manifest.get("modality")),
        classes=_classes(manifest.get("labels")),
        problems=problems,
    )


def _channel_files(image: Path) -> list[Path]:
    """The files ``case_0000``, ``case_0001``, ... of nnU-Net's first version, whose list says ``case``."""
    name = case_name(image)
    ending = image.name.removeprefix(name)
    return sorted(path for path in image.parent.glob(f"{name}_*{ending}") if _CHANNEL.fullmatch(case_name(path)))


def _names(named: Any) -> tuple[str, ...]:
    """Names of channels by their number, as both layouts give them."""
    if not isinstance(named, dict) or not all(str(key).isdecimal() for key in named):
        return ()
    return tuple(str(named[key]) for key in sorted(named, key=int))


def _classes(labels: Any) -> dict[int, str]:
    """Names by value: the Decathlon gives names by value, nnU-Net values by name."""
    if not isinstance(labels, dict):
        return {}
    pairs = [(int(key), str(name)) for key, name in labels.items() if str(key).isdecimal()]
    pairs += [(value, str(name)) for name, value in labels.items() if type(value) is int and not name.isdecimal()]
    return {value: name for value, name in pairs if value != 0}


def _pairs(images: Path, labels: Path) -> Found:
    """Images and labels in two folders, matched by their names."""
    image_files, label_files = _images_in(images), _images_in(labels)
    for folder, files in ((images, image_files), (labels, label_files)):
        if not files:
            raise FileNotFoundError(f"{folder} holds no image file. Put the files there, or name another folder.")
    stems = {case_name(path): path for path in image_files}
    ends = sorted({match["end"] for stem in stems if (match := _CHANNEL.fullmatch(stem))})
    names = {case_name(path) for path in label_files}
    if ends and any((match := _CHANNEL.fullmatch(stem)) and match["case"] in names for stem in stems):
        return _numbered_pairs(image_files, label_files, ends)
    image_of = _keyed(image_files)
    label_of = _keyed(label_files)
    if not image_of.keys() & label_of.keys():
        image_of, label_of = ({case_name(path): path for path in files} for files in (image_files, label_files))
    problems = [f"{image_of[key].name}: has no label in {labels}" for key in image_of.keys() - label_of.keys()]
    problems += [f"{label_of[key].name}: has no image in {images}" for key in label_of.keys() - image_of.keys()]
    advice = ". Files are matched by what differs in their names; add the file, or move this one away"
    cases = [Case(case_name(path), (path,), label_of[key]) for key, path in sorted(image_of.items()) if key in label_of]
    return Found(
        layout=f"images in {images.name}, labels in {labels.name}",
        cases=cases,
        problems=sorted(problem + advice for problem in problems),
    )


def _numbered_pairs(image_files: Iterable[Path], label_files: Iterable[Path], ends: Sequence[str]) -> Found:
    images: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in image_files:
        if match := _CHANNEL.fullmatch(case_name(path)):
            images[match["case"]][match["end"]] = path
    labels = {case_name(path): path for path in label_files}
    return _complete(images, labels, ends, "nnU-Net's folders of images and labels")


def _contrasts(folder: Path) -> Found:
    """A folder for each case, or all cases in one, with a file for each contrast and a label."""
    images: dict[str, dict[str, Path]] = defaultdict(dict)
    labels: dict[str, Path] = {}
    problems = []
    for parent in [folder, *sorted(path for path in folder.rglob("*") if path.is_dir())]:
        if any(part.startswith(".") for part in parent.relative_to(folder).parts):
            continue
        files = [path for path in _images_in(parent) if is_kind(path, "volumes")]
        stems = {case_name(path): path for path in files}
        marked = [stem for stem in stems if _LABEL_PART.search(stem)]
        prefixes = {_LABEL_PART.sub("", stem): stem for stem in marked}
        for stem, path in stems.items():
            if stem in marked:
                continue
            prefix = max((name for name in prefixes if _belongs(stem, name)), key=len, default=None)
            if prefix is None and parent != folder and _belongs(stem, parent.name):
                prefix = parent.name
            end = stem if prefix is None else stem.removeprefix(prefix)
            name = prefix or parent.name
            if prefix is None and parent == folder:
                problems.append(f"{path.name}: has no label beside it, such as {stem}_seg.nii.gz")
            elif end in images[name]:
                problems.append(f"{name}: {path.relative_to(folder)} and {images[name][end].name} are of one name")
            else:
                images[name][end] = path
        for prefix, stem in prefixes.items():
            labels[prefix or parent.name] = stems[stem]
    ends = sorted({end for files in images.values() for end in files})
    found = _complete(images, labels, ends, "a file for each contrast of a case")
    return Found(
        layout=found.layout,
        cases=found.cases,
        contrasts=found.contrasts,
        channels=found.channels,
        problems=problems + found.problems,
    )


def _belongs(stem: str, case: str) -> bool:
    """Whether a file is of a case by its name: ``p1_t1`` is of ``p1``, and ``p10_t1`` is not."""
    return stem.startswith(case) and (not case or stem[len(case) : len(case) + 1] in (*_SEPARATORS, ""))


def _complete(images: dict[str, dict[str, Path]], labels: dict[str, Path], ends: Sequence[str], layout: str) -> Found:
    """The cases that have every contrast and a label, and what is missing of the others."""
    cases, problems = [], []
    for name in sorted(images.keys() | labels.keys()):
        missing = [end for end in ends if end not in images.get(name, {})]
        if len(missing) == len(ends):
            problems.append(f"{name}: has a label and no image. Add its images, or move the label away")
        elif missing:
            listed = ", ".join(f"{name}{end}" if end[:1] in (*_SEPARATORS, "") else end for end in missing)
            problems.append(f"{name}: {listed} is not there, which other cases have. Add it, or move the case away")
        elif name not in labels:
            problems.append(f"{name}: has no label. Add it, as {name}_seg.nii.gz for example, or move the case away")
        else:
            cases.append(Case(name, tuple(images[name][end] for end in ends), labels[name]))
    channels = tuple(end.strip(_SEPARATORS) or "image" for end in ends)
    return Found(layout, cases, tuple(ends) or ("",), channels, problems=problems)


def _images_in(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file()
        and not path.name.startswith(".")
        and (is_kind(path, "volumes") or is_kind(path, "photographs"))
    )


def _keyed(files: Sequence[Path]) -> dict[str, Path]:
    """Files by what is left of their names when what all of them begin or end with is left out."""
    stems = [case_name(path) for path in files]
    if len(stems) < 2:
        return dict(zip(stems, files, strict=True))
    start = _common(stems)
    end = _common([stem[::-1] for stem in stems])[::-1]
    return {stem[len(start) : len(stem) - len(end)]: path for stem, path in zip(stems, files, strict=True)}


def _common(texts: Sequence[str]) -> str:
    """What all texts begin with, up to and with its last separator: numbers are not cut."""
    first, last = min(texts), max(texts)  # all others lie between
    length = next((i for i, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    prefix = first[:length]
    cut = max((prefix.rfind(separator) for separator in _SEPARATORS), default=-1) + 1
    return prefix[:cut]


def _subfolders(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"It has the folders {shown}." if names else "It has no folders."
