"""Fundus photographs and their vessels, from the users' own downloads: DRIVE, CHASE_DB1, STARE, PRIME-FP20."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from equivariant_nets.data.datalist import SECTIONS, missing_files

__all__ = ["retina_datalist"]

Item = dict[str, str]


class _Source(NamedTuple):
    where: str
    layout: str  # and what each file is for
    items: Callable[[Path], dict[str, list[Item]]]  # by section; paths that need not exist


def _files(folder: Path) -> dict[str, str]:
    """Every file below a folder, by its name: releases and copies of these sets differ in their folders only."""
    return {path.name: str(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def _drive(folder: Path) -> dict[str, list[Item]]:
    def item(number: int, half: str) -> Item:
        stem = f"{number:02d}"
        files = {
            "image": f"{half}/images/{stem}_{half}.tif",
            "label": f"{half}/1st_manual/{stem}_manual1.gif",
        }
        optional = {
            "mask": f"{half}/mask/{stem}_{half}_mask.gif",
            "second_label": f"{half}/2nd_manual/{stem}_manual2.gif",
        }
        files |= {key: name for key, name in optional.items() if (folder / name).is_file()}
        return {**{key: str(folder / name) for key, name in files.items()}, "case": f"drive_{stem}"}

    own = [[item(number, "training")] for number in range(21, 41)]
    return {**_hold_out(own), "test": [item(number, "test") for number in range(1, 21)]}


def _chase(folder: Path) -> dict[str, list[Item]]:
    files = _files(folder)

    def find(name: str) -> str:
        return files.get(name, str(folder / name))

    def eye(child: int, side: str) -> Item:
        name = f"{child:02d}{side}"
        own = {"image": find(f"Image_{name}.jpg"), "label": find(f"Image_{name}_1stHO.png")}
        optional = {"mask": f"mask_{name}.png", "second_label": f"Image_{name}_2ndHO.png"}
        own |= {key: files[file] for key, file in optional.items() if file in files}
        return {**own, "case": f"chase_{name}"}

    children = [[eye(child, side) for side in "LR"] for child in range(1, 15)]
    return {**_hold_out(children[:10]), "test": [*chain(*children[10:])]}


def _stare(folder: Path) -> dict[str, list[Item]]:
    files = _files(folder)
    items = []
    for label in sorted(name for name in files if name.endswith(".ah.ppm")):
        stem = label.removesuffix(".ah.ppm")
        item = {"image": files.get(f"{stem}.ppm", str(folder / f"{stem}.ppm")), "label": files[label]}
        optional = {"mask": f"mask_{stem.removeprefix('im')}.png", "second_label": f"{stem}.vk.ppm"}
        item |= {key: files[name] for key, name in optional.items() if name in files}
        items.append({**item, "case": f"stare_{stem.removeprefix('im')}"})
    return {"training": [], "validation": [], "test": items}


def _prime(folder: Path) -> dict[str, list[Item]]:
    items = []
    labels = {path.stem: str(path) for path in sorted((folder / "labels").glob("*"))}
    masks = {path.stem: str(path) for path in sorted((folder / "masks").glob("*"))}
    for image in sorted((folder / "images").glob("*")):
        item = {"image": str(image), "label": labels.get(image.stem, str(folder / "labels" / image.name))}
        optional = {"mask": masks[image.stem]} if image.stem in masks else {}
        items.append({**item, **optional, "case": f"prime_{image.stem}"})
    test = items[4::5]
    return {**_hold_out([[item] for item in items if item not in test]), "test": test}


def _hold_out(patients: Sequence[list[Item]]) -> dict[str, list[Item]]:
    """Every fifth patient for validation, with all images."""
    validation = [*chain(*patients[4::5])]
    training = [*chain(*(images for index, images in enumerate(patients) if index % 5 != 4))]
    return {"training": training, "validation": validation}


SOURCES = {
    "drive": _Source(
        "https://drive.grand-challenge.org (after registration)",
        "images/ and 1st_manual/ (labels) in training/, for training and validation; the same in test/, for evaluation "
        "alone: the site gives these labels no more, and copies of before 2020 have them. mask/ (fields of view) and "
        "test/2nd_manual/ (a second observer, to compare with) are optional",
        _drive,
    ),
    "chase_db1": _Source(
        "https://researchdata.kingston.ac.uk/96 (CHASE_DB1)",
        "Image_01L.jpg and Image_01L_1stHO.png (labels) to 14R, in any folders; optional are Image_01L_2ndHO.png, ... "
        "(a second observer, to compare with) and mask_01L.png, ... (fields of view)",
        _chase,
    ),
    "stare": _Source(
        "https://cecas.clemson.edu/~ahoover/stare (stare-images.tar and labels-ah.tar; unpack the .gz files in them)",
        "im0001.ppm, im0001.ah.ppm, ... in any folders; im0001.vk.ppm and mask_0001.png where there are any",
        _stare,
    ),
    "prime_fp20": _Source(
        "https://ieee-dataport.org, PRIME-FP20 (after registration)",
        "images/, labels/ and masks/, with the files of one photograph under one name",
        _prime,
    ),
}


def retina_datalist(
    dataset_dir: str | Path,
    section: str = "training",
    datasets: Sequence[str] | str = ("drive", "chase_db1"),
    optional: Sequence[str] = (),
) -> list[Item]:
    """The photographs of one section of some data sets, split by patient.

    DRIVE keeps its own halves, CHASE_DB1 trains on children 01-10 and tests on 11-14, STARE is for tests alone, and of
    PRIME-FP20 every fifth photograph is for tests. Of the patients that remain, every fifth is ``validation``, which
    chooses the checkpoint and the threshold.

    Args:
        dataset_dir: the folder that holds ``drive/``, ``chase_db1/``, ``stare/`` and ``prime_fp20/``, as far as asked.
        section: ``training``, ``validation`` or ``test``.
        datasets: one name or several.
        optional: keys among ``mask`` and ``second_label`` to give where there is such a file.

    Returns:
        dicts of ``image``, ``label`` (the first observer's), the optional keys, ``dataset`` and ``case``.

    Raises:
        FileNotFoundError: a folder, or a file of the section, is missing; the message lists the files, and says where
            to get them.
        ValueError: the section or a data set is not known, or the section is empty.
    """
    names = [datasets] if isinstance(datasets, str) else list(datasets)
    unknown = [name for name in names if name not in SOURCES]
    if unknown or not names:
        raise ValueError(f"datasets={datasets!r} is not legal; choose one or more of {list(SOURCES)}.")
    if section not in SECTIONS:
        raise ValueError(f"section={section!r} is not one of {', '.join(SECTIONS)}.")
    found = []
    for name in names:
        items = _checked_items(name, Path(dataset_dir).expanduser().absolute() / name, section)
        keys = ("image", "label", *optional, "case")
        found += [{**{key: item[key] for key in keys if key in item}, "dataset": name} for item in items]
    if not found:
        raise ValueError(f"{', '.join(names)} has no {section} section; choose another section, or more data sets.")
    return found


def _checked_items(name: str, folder: Path, section: str) -> list[Item]:
    """The items of a section, whose files are there; those of other sections may be missing."""
    source = SOURCES[name]
    advice = f"Get {name} from {source.where}. Expected in {folder}: {source.layout}."
    if not folder.is_dir():
        raise FileNotFoundError(f"The folder {folder} does not exist. {advice}")
    sections = source.items(folder)
    if not any(sections.values()):
        raise FileNotFoundError(f"{folder} holds no labelled photograph. {advice}")
    paths = (path for item in sections[section] for key, path in item.items() if key != "case")
    if missing := missing_files(paths, folder):
        raise FileNotFoundError(f"{folder} is incomplete for the {section} section: {missing}\n{advice}")
    return sections[section]
