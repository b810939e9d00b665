"""Make a bundle for a data set of one's own, on the sources of the collection."""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import equivariant_nets
from equivariant_nets.authoring.cases import Case, Found, find_cases
from equivariant_nets.authoring.choices import Choices, choose, default_memory_gb
from equivariant_nets.authoring.classes import TaskClass, choose_classes, class_problems, left_right_pairs
from equivariant_nets.authoring.documents import card_text, data_license_text, metadata_of, readable_json
from equivariant_nets.authoring.networks import choose_network
from equivariant_nets.authoring.split import are_subjects, split_by_patient
from equivariant_nets.authoring.survey import CaseFacts, read_cases
from equivariant_nets.data.datalist import SECTIONS
from equivariant_nets.data.formats import ending, reader_of
from equivariant_nets.data.notices import FileFault
from equivariant_nets.files import write_text
from equivariant_nets.zoo.build import build_bundle
from equivariant_nets.zoo.bundle import CARD, DATA_LICENSE, METADATA
from equivariant_nets.zoo.sources import AUTHORED, SOURCES

__all__ = ["new_bundle", "twin_bundle"]

SPLIT, FOUND = "data/split.json", "data/found.json"
_SIDES = "Left and right"  # among the reasons, where classes differ in their side alone
_REFLECTIONS = ("o3", "e2")
_CHECKOUT = Path(equivariant_nets.__file__).parents[1]
_OWN_SOURCES = _CHECKOUT / "bundles" / SOURCES


def new_bundle(
    name: str,
    dataset_dir: str | Path,
    bundles_dir: str | Path = "bundles",
    symmetry: str | None = None,
    memory_gb: float | None = None,
    spacing_mm: Sequence[float] | None = None,
    classes: str | None = None,
    images: str | None = None,
    labels: str | None = None,
    patient: str | None = None,
) -> str:
    """Read a data set, choose what to do with it, and write a bundle.

    Args:
        name: of the bundle.
        dataset_dir: the folder of the data, see :func:`equivariant_nets.authoring.cases.find_cases`.
        bundles_dir: receives the bundle, and the sources of the collection where it has none.
        symmetry: of the network; None takes ``so3`` for volumes and ``e2`` for pictures.
        memory_gb: that a training step and a window may take; None takes 4, or half of the GPU's.
        spacing_mm: of the voxels that the network sees; None chooses it.
        classes: ``NAME=VALUE,...``; None takes every label value.
        images, labels: folders in ``dataset_dir`` that hold them, where their names do not say so.
        patient: a regular expression that finds the patient in the name of a case.

    Returns:
        what was written and chosen, in lines.

    Raises:
        FileNotFoundError: the folder does not exist, or holds no cases that can be told.
        ValueError: the data has problems, each of which the message lists, an option is not legal, or there is such a
            bundle.
    """
    root = _new_root(name, bundles_dir)
    found = find_cases(dataset_dir, images, labels)
    counts = Counter(case.name for case in found.cases)
    listed = [*found.problems, *(f"{name}: {n} cases have this name" for name, n in counts.items() if n > 1)]
    if found.regions and classes is None:
        listed.append(
            f"dataset.json gives several values to {', '.join(found.regions)}, and regions may overlap, which is not "
            "supported. Name classes that do not: --classes NAME=VALUE,NAME=VALUE+VALUE"
        )
    channels = len(found.channels) if len(found.contrasts) == 1 and found.channels else None
    unreadable = _unreadable(found.cases)
    facts, problems = ([], unreadable) if unreadable else read_cases(found.cases, channels)
    listed += [*problems, *_uneven_channels(facts)]
    task_classes: list[TaskClass] = []
    try:
        if facts:
            task_classes = choose_classes(found, facts, classes)
            listed += class_problems(task_classes, facts)
    except ValueError as error:
        listed.append(str(error))
    if listed:
        raise ValueError("\n".join([*listed, f"error: {len(listed)} problem(s) in {dataset_dir}"]))
    sections = split_by_patient(facts, task_classes, patient)
    names = [one.name for one in task_classes]
    dims = len(facts[0].size)
    pairs = left_right_pairs(names)
    symmetry = symmetry or ("so3" if dims == 3 else "e2")
    if pairs and symmetry in _REFLECTIONS:
        raise ValueError(
            f"--symmetry {symmetry} holds reflections, so {pairs[0][0]!r} and {pairs[0][1]!r} are the same to the "
            f"network. Choose {'so3' if dims == 3 else 'scale or none'}, or make one class of both: --classes."
        )
    memory = memory_gb or default_memory_gb()
    choices = choose(facts, names, len(sections["training"]), symmetry, memory, spacing_mm)
    if pairs:
        listed_pairs = ", ".join(f"{left} and {right}" for left, right in pairs)
        choices.reasons[_SIDES] = f"{listed_pairs} differ in the side alone; nothing mirrors in training"
    choices.reasons.update(_about_split(facts, task_classes, sections, patient))
    folder = Path(dataset_dir).expanduser().absolute()
    cases = {case.name: case for case in found.cases}
    split = {"dataset_dir": str(folder)} | {
        section: [_split_entry(cases[case], folder) for case in sections[section]] for section in SECTIONS
    }
    authored = _authored(found, facts, task_classes, choices, others_are_background=classes is not None)
    _write_files(root, authored, _as_found(found, facts, task_classes, choices), readable_json(split) + "\n")
    return _summary(root, found, sections, choices)


def twin_bundle(name: str, like: str | Path, symmetry: str, bundles_dir: str | Path = "bundles") -> str:
    """Write a bundle that differs from another one in its network alone, and an experiment that compares the two.

    Args:
        name: of the bundle.
        like: folder of a bundle that :func:`new_bundle` wrote, in the same folder of bundles.
        symmetry: of the other network.
        bundles_dir: see :func:`new_bundle`.

    Returns:
        what was written, in lines.

    Raises:
        ValueError: there is such a bundle, ``like`` is none of :func:`new_bundle`, or the symmetry is not legal, that
            of the other, or holds reflections where classes differ in their side alone.
    """
    other = Path(like)
    if not (other / FOUND).is_file() or not (other / AUTHORED).is_file():
        raise ValueError(
            f"--like {like} is no bundle that zoo new wrote here: {other / FOUND} or {AUTHORED} is missing. Give its "
            "folder."
        )
    if other.resolve().parent != Path(bundles_dir).resolve():
        raise ValueError(f"--like {like} does not lie in {bundles_dir}: a twin lies beside it. Give --bundles_dir.")
    root = _new_root(name, bundles_dir)
    found = json.loads((other / FOUND).read_text(encoding="utf-8"))
    authored = json.loads((other / AUTHORED).read_text(encoding="utf-8"))
    shared, train = authored["train_and_inference"], authored["train"]
    definition, dims = shared["network_def"], len(shared["roi_size"])
    if symmetry == found["symmetry"]:
        raise ValueError(f"--symmetry {symmetry} is that of {like}: nothing would differ. Choose another one.")
    if _SIDES in found["reasons"] and symmetry in _REFLECTIONS:
        raise ValueError(f"--symmetry {symmetry} holds reflections, and in {like} {found['reasons'][_SIDES]}.")
    network = choose_network(
        symmetry=symmetry,
        channels=len(found["channels"]),
        classes=len(shared["class_names"]) + 1,
        depth=definition["depth"],
        whole="turned_files" in authored["extends"],
        spacing_mm=shared.get("spacing_mm") if "spacing" in definition else None,
        dims=dims,
    )
    shared |= {"features": network.features, "network_def": network.definition}
    train.pop("max_gradient_norm", None)
    train |= {"learning_rate": network.learning_rate, **network.train}
    reasons = {**found["reasons"], "Network": network.description, "Twin": f"of {other.name}"}
    own = {**found, "symmetry": symmetry, "reasons": reasons}
    split = (other / SPLIT).read_text(encoding="utf-8")
    _write_files(root, authored, own, split)
    experiment = _experiment({found["symmetry"]: other.name, symmetry: name}, dims)
    file = root.parent.parent / "experiments" / f"{other.name}_and_{name}.json"
    file.parent.mkdir(exist_ok=True)
    write_text(file, readable_json(experiment) + "\n")
    return (
        f"{root}: {network.description}; all else is as in {other}\n{file}: compares the two; run it by\n"
        f"  python -m equivariant_nets.experiments {file} --bundles_dir {bundles_dir} --dataset_dir DIR "
        "--output_dir DIR"
    )


def _new_root(name: str, bundles_dir: str | Path) -> Path:
    """The folder of a bundle to be, beside which the sources of the collection lie."""
    if not re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)+", name):
        raise ValueError(
            f"The name {name!r} is not legal for a bundle; legal are two or more words of a-z and 0-9, joined by _, "
            "such as liver_ct_so3_segmentation."
        )
    root = Path(bundles_dir) / name
    if root.exists():
        raise ValueError(f"{root} exists, and is left as it is. Choose another name, or remove the folder.")
    if not (root.parent / SOURCES).is_dir() and not _OWN_SOURCES.is_dir():
        raise ValueError(
            f"{root.parent} holds no folder {SOURCES}, which bundles are built of, and the installed package has none. "
            "Copy bundles/sources of the repository into it."
        )
    return root


def _unreadable(cases: Sequence[Case]) -> list[str]:
    """The packages that are missing, once for all files of an ending."""
    files = {ending(path): path for case in cases for path in (*case.images, case.label)}
    faults = []
    for path in files.values():
        try:
            reader_of(path)
        except FileFault as fault:
            faults.append(str(fault))
    return faults


def _about_split(
    facts: Sequence[CaseFacts], classes: Sequence[TaskClass], sections: dict[str, list[str]], patient: str | None
) -> dict[str, str]:
    """How cases were shared out, and which classes are too rare to be measured everywhere."""
    of = {case.name: case for case in facts}
    how = (
        f"the patient is what {patient!r} finds in the name of a case"
        if patient
        else "the patient is the subject of BIDS"
        if are_subjects(facts)
        else "each case counts as a patient; if patients have several, name them: --patient"
    )
    reasons = {"Split": f"by patient; {how}"}
    rare = []
    for one in classes:
        has = {name for name, case in of.items() if case.labels.keys() & {*one.values}}
        if lacking := [section for section, names in sections.items() if not has & {*names}]:
            rare.append(f"{one.name!r} is in {len(has)} of {len(of)} cases, and in none for {' and '.join(lacking)}")
    if rare:
        reasons["Rare classes"] = f"{'; '.join(rare)}: what is not there is not measured. More cases would help"
    return reasons


def _uneven_channels(facts: Sequence[CaseFacts]) -> list[str]:
    channels = sorted({case.channels for case in facts})
    dims = sorted({len(case.size) for case in facts})
    problems = []
    if len(channels) > 1:
        few = {number: next(case.name for case in facts if case.channels == number) for number in channels}
        listed = ", ".join(f"{number} ({name})" for number, name in few.items())
        problems.append(f"the images have different numbers of channels: {listed}. All must have the same ones")
    if len(dims) > 1:
        problems.append("some images are volumes and some are pictures. Make a bundle for each kind")
    return problems


def _as_found(
    found: Found, facts: Sequence[CaseFacts], classes: Sequence[TaskClass], choices: Choices
) -> dict[str, Any]:
    """The content of ``data/found.json``."""
    channels = list(found.channels) if len(found.channels) == facts[0].channels else []
    channels = channels or [f"channel {number}" for number in range(facts[0].channels)]
    return {
        "layout": found.layout,
        "symmetry": choices.symmetry,
        "channels": channels if choices.dims == 3 else ["red", "green", "blue"],
        "classes": {one.name: list(one.values) for one in classes},
        "reasons": choices.reasons,
        "cases": [case.as_json() for case in facts],
    }


def _split_entry(case: Case, folder: Path) -> dict[str, Any]:
    images = [path.relative_to(folder).as_posix() for path in case.images]
    return {
        "case": case.name,
        "image": images[0] if len(images) == 1 else images,
        "label": case.label.relative_to(folder).as_posix(),
    }


def _authored(
    found: Found,
    facts: Sequence[CaseFacts],
    classes: Sequence[TaskClass],
    choices: Choices,
    others_are_background: bool,
) -> dict[str, Any]:
    """The content of ``bundle.json``."""
    channels, num_classes = facts[0].channels, len(classes) + 1
    pieces: dict[str, Any] = {"check#num_channels": channels, "check#num_classes": num_classes}
    if any(one.values != (number,) for number, one in enumerate(classes, start=1)):
        pieces["unify_labels"] = {
            "_target_": "equivariant_nets.data.ClassesFromLabelsd",
            "keys": "label",
            "values": [list(one.values) for one in classes],
            "strict": not others_are_background,
        }
    shared = {**choices.shared, "class_names": [one.name for one in classes]}
    if choices.dims == 2:
        if all(len(one.values) == 1 and one.values[0] < 256 for one in classes):  # masks as those of the data
            numbers, values = list(range(1, num_classes)), [one.values[0] for one in classes]
            back = {"_target_": "MapLabelValued", "keys": "pred", "orig_labels": numbers, "target_labels": values}
            pieces["decide"] = [{"_target_": "AsDiscreted", "keys": "pred", "argmax": True}, back]
        return {"extends": ["own_pictures"], "pieces": pieces, "train_and_inference": shared, "train": choices.train}
    extends = ["own_volumes", *(["dicom"] if channels == 1 else [])]
    extends.append("turned_files" if choices.whole else "turned_patches")
    if channels > 1 and not choices.whole:
        pieces |= {f"{piece}#channel_wise": True for piece in ("standardize", "scale_intensity", "shift_intensity")}
    shared["contrasts"] = list(found.contrasts)
    return {"extends": extends, "pieces": pieces, "train_and_inference": shared, "train": choices.train}


def _write_files(root: Path, authored: dict[str, Any], found: dict[str, Any], split: str) -> None:
    """All files of a bundle; nothing is left where one cannot be written."""
    if not (root.parent / SOURCES).is_dir():
        shutil.copytree(_OWN_SOURCES, root.parent / SOURCES)
    try:
        for folder in ("configs", "docs", "data"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        write_text(root / SPLIT, split)
        write_text(root / FOUND, readable_json(found) + "\n")
        write_text(root / AUTHORED, readable_json(authored) + "\n")
        metadata = metadata_of(root.name, authored, found)
        write_text(root / METADATA, json.dumps(metadata, indent=4, ensure_ascii=False) + "\n")
        write_text(root / CARD, card_text(root, authored, found, json.loads(split)))
        write_text(root / DATA_LICENSE, data_license_text(root.name))
        write_text(root / "LICENSE", _license_text())
        build_bundle(root)
    except BaseException:
        shutil.rmtree(root, ignore_errors=True)
        raise


def _license_text() -> str:
    own = _CHECKOUT / "LICENSE"
    if own.is_file():
        return own.read_text(encoding="utf-8")
    return importlib.metadata.distribution("equivariant-nets").read_text("licenses/LICENSE") or "Apache-2.0\n"


def _summary(root: Path, found: Found, sections: dict[str, list[str]], choices: Choices) -> str:
    counts = ", ".join(f"{len(cases)} {section}" for section, cases in sections.items())
    lines = [f"{root}: {found.layout}; {counts}"]
    lines += [f"  {topic}: {reason}" for topic, reason in choices.reasons.items()]
    command = f"python -m monai.bundle run --bundle_root {root} --config_file {root}/configs/train.json"
    lines += [
        f"All of it is in {root / AUTHORED}: change it there, and run python -m equivariant_nets.zoo build {root}",
        f"Train it: {command} --ckpt_dir {root}/models",
    ]
    return "\n".join(lines)


def _experiment(bundles: Mapping[str, str], dims: int) -> dict[str, Any]:
    """Of two bundles by their symmetries."""
    symmetries = " compare with ".join(bundles)
    random = {"sweep_random_poses": 4} if dims == 3 else {}  # pictures turn in their plane alone
    return {
        "title": " against ".join(bundles.values()),
        "question": f"Same data, steps and augmentation: how does {symmetries}, upright and turned?",
        "plot": "rotation",
        "networks": {symmetry: {"bundle": name} for symmetry, name in bundles.items()},
        "seeds": [0, 1],
        "overrides": {},
        "evaluation": {"sweep_angles": [0, 45, 90, 180], **random, "sweep_cases": 20, "sweep_scales": [1.0]},
        "quick": {
            "seeds": [0],
            "overrides": {"epochs": 2, "epoch_length": 4, "val_interval": 2},
            "evaluation": {"sweep_angles": [0, 90], **{name: 1 for name in random}, "sweep_cases": 2},
        },
    }
