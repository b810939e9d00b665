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
from equivariant_nets.data.tasks import LABEL_PART

__all__ = ["Case", "Found", "find_cases"]

# Names of folders and parts of names of files, in small letters.
_IMAGES = ("imagestr", "images", "image", "imgs", "img", "scans")
_LABELS = ("labelstr", "labels", "label")
_CHANNEL = re.compile(r"(?P<case>.+)(?P<end>_\d{4})")  # of nnU-Net
_ZEROS = re.compile(r"(?<!\d)0+(?=\d)")
_ENTITY = re.compile(r"_[a-zA-Z]+-[^_]+$")  # of BIDS, such as _desc-lesion
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
        regions: names that ``dataset.json`` gives to several values at once.
        problems: what is wrong, one line each.
    """

    layout: str
    cases: list[Case]
    contrasts: tuple[str, ...] = ("",)
    channels: tuple[str, ...] = ()
    classes: dict[int, str] = field(default_factory=dict)
    regions: tuple[str, ...] = ()
    problems: list[str] = field(default_factory=list)


def find_cases(dataset_dir: str | Path, images: str | None = None, labels: str | None = None) -> Found:
    """The labelled cases of a folder.

    Args:
        dataset_dir: the folder. Hidden files and folders in it are ignored.
        images, labels: names of the two folders in it that hold them; None finds them: images by the usual names, and
            labels by ``labels`` and the like, or as the one other folder whose files match the images.

    Raises:
        FileNotFoundError: the folder does not exist, or holds nothing in a layout that is known.
        ValueError: several folders may be that of the labels, or ``dataset.json`` is damaged.
    """
    folder = Path(dataset_dir).expanduser().absolute()
    if not folder.is_dir():
        what = "is a file" if folder.is_file() else "does not exist"
        raise FileNotFoundError(f"The data set folder {folder} {what}. Legal is {_LAYOUTS}.")
    for option, name in {"--images": images, "--labels": labels}.items():
        if name is not None and not (folder / name).is_dir():
            raise FileNotFoundError(f"{option} {name}: {folder} has no such folder. {_subfolders(folder)}")
    if images is None and labels is None and (folder / "dataset.json").is_file():
        return _listed(folder)
    subfolders = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_dir()}
    usual = next((subfolders[name] for name in _IMAGES if name in subfolders), None)
    own_images = usual if images is None else folder / images
    if own_images is not None:
        own_labels = _labels_of(own_images, subfolders) if labels is None else folder / labels
        if own_labels is not None:
            return _pairs(own_images, own_labels)
    found = _contrasts(folder)
    if not found.cases and not found.problems:
        raise FileNotFoundError(
            f"{folder} holds no labelled cases that can be told. Legal is {_LAYOUTS}. {_subfolders(folder)} Where they "
            "have other names, give --images and --labels."
        )
    return found


def _labels_of(images: Path, subfolders: dict[str, Path]) -> Path | None:
    """The folder of labels beside one of images; None where no folder matches."""
    for name in _LABELS:
        if name in subfolders:
            return subfolders[name]
    keys = _keyed(_images_in(images)).keys()
    numbered = {match["case"] for key in keys if (match := _CHANNEL.fullmatch(key))}
    others = [path for path in subfolders.values() if path != images]
    matching = [path for path in others if _keyed(_images_in(path)).keys() & (keys | numbered)]
    if len(matching) > 1:
        raise ValueError(
            f"The folders {', '.join(path.name for path in matching)} hold files that match those of {images.name}: "
            f"which of them are the labels? Say it: --images {images.name} --labels {matching[0].name}"
        )
    return matching[0] if matching else None


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
        regions=_regions(manifest.get("labels")),
        problems=problems + _doubles(path for case in cases for path in (*case.images, case.label)),
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


def _regions(labels: Any) -> tuple[str, ...]:
    """Names of several values, which may overlap."""
    return tuple(name for name, value in labels.items() if isinstance(value, list)) if isinstance(labels, dict) else ()


def _doubles(files: Iterable[Path]) -> list[str]:
    """Files of one name with several endings."""
    found: dict[Path, set[str]] = defaultdict(set)
    for path in files:
        found[path.with_name(case_name(path))].add(path.name)
    return [
        f"{', '.join(sorted(names))} in {stem.parent.name} are images of one name. Keep one of them"
        for stem, names in found.items()
        if len(names) > 1
    ]


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
    image_of, label_of = _keyed(image_files), _keyed(label_files)
    if not image_of.keys() & label_of.keys():
        image_of, label_of = ({case_name(path): path for path in files} for files in (image_files, label_files))
    doubles = _doubles(image_files) + _doubles(label_files)
    problems = [f"{image_of[key].name}: has no label in {labels}" for key in image_of.keys() - label_of.keys()]
    problems += [f"{label_of[key].name}: has no image in {images}" for key in label_of.keys() - image_of.keys()]
    advice = ". Files are matched by what differs in their names; add the file, or move this one away"
    cases = [Case(case_name(path), (path,), label_of[key]) for key, path in sorted(image_of.items()) if key in label_of]
    return Found(
        layout=f"images in {images.name}, labels in {labels.name}",
        cases=cases,
        problems=doubles + sorted(problem + advice for problem in problems),
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
        problems += _doubles(files)
        marked = {stem: LABEL_PART.sub("", stem) for stem in stems if LABEL_PART.search(stem)}
        others = [stem for stem in stems if stem not in marked]
        marked = {stem: _case_of(prefix, others, parent, folder) for stem, prefix in marked.items()}
        prefixes = {*marked.values()}
        for stem in others:
            prefix = max((name for name in prefixes if _belongs(stem, name)), key=len, default=None)
            if prefix is None and parent != folder and _belongs(stem, parent.name):
                prefix = parent.name
            end = stem if not prefix else stem.removeprefix(prefix)
            if prefix is None and parent == folder:
                problems.append(f"{stems[stem].name}: has no label beside it, such as {stem}_seg.nii.gz")
            else:
                images[prefix or parent.name][end] = stems[stem]
        for prefix in prefixes:
            own = sorted(stems[stem].name for stem, name in marked.items() if name == prefix)
            labels[prefix or parent.name] = parent / own[0]
            if len(own) > 1:
                problems.append(
                    f"{prefix or parent.name}: has {len(own)} label files, {', '.join(own)}. Make one of them, with a "
                    "number for each class"
                )
    ends = sorted({end for files in images.values() for end in files})
    found = _complete(images, labels, ends, "a file for each contrast of a case")
    return Found(
        layout=found.layout,
        cases=found.cases,
        contrasts=found.contrasts,
        channels=found.channels,
        problems=problems + found.problems,
    )


def _case_of(prefix: str, others: Sequence[str], parent: Path, folder: Path) -> str:
    """The case of a label by what its name begins with: without BIDS's entities where no image begins so, and nothing,
    which stands for the folder, where images do not begin with their case at all."""
    while prefix and not any(_belongs(stem, prefix) for stem in others):
        if not (entity := _ENTITY.search(prefix)):
            return prefix if parent == folder or any(_belongs(stem, parent.name) for stem in others) else ""
        prefix = prefix[: entity.start()]
    return prefix


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
    """Files by what is left of their names when what all of them begin or end with is left out, in small letters and
    without zeros before numbers, unless names then coincide."""
    stems = [case_name(path) for path in files]
    if len(stems) > 1:
        start = _common(stems)
        end = _common([stem[::-1] for stem in stems])[::-1]
        stems = [stem[len(start) : len(stem) - len(end)] for stem in stems]
    alike = [_ZEROS.sub("", stem.casefold()) for stem in stems]
    return dict(zip(alike if len({*alike}) == len({*stems}) else stems, files, strict=True))


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
