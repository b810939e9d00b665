"""The conventions in which data sets number the parts of a tumour, and which of them a folder has.

Sources: the Decathlon's ``dataset.json``; the data pages and papers of the BraTS challenges (arXiv 1811.02629 up to
2018, 2107.02314 for 2021, 2305.17033 for children in 2023, 2404.15009 for them in 2024, 2405.18368 after surgery). From
the papers alone, without files to compare, stand here: that the metastases of 2025 number the resection cavity as
gliomas after surgery do, that the children of 2023 have the values of the other tumours of that year, and by which
numbers and time points examinations after surgery are named.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from tqdm import tqdm

from equivariant_nets.data.checks import listed_values, round_label
from equivariant_nets.data.datalist import indented

__all__ = ["CONVENTIONS", "Convention", "check_convention", "check_labels", "folder_convention"]

_MAX_LISTED = 3


class Convention(NamedTuple):
    """How a data set numbers the parts of a tumour."""

    data: str
    classes: dict[int, int]  # of a value in the file: 0 background, 1 edema, 2 non-enhancing, 3 enhancing tumour
    values: str  # in words

    def __str__(self) -> str:
        return f"{self.data}: {self.values}"


# A resection cavity is no tumour, and the whole tumour of its challenge does not hold it: background. A cyst belongs to
# the core there, and does not enhance: non-enhancing tumour.
CONVENTIONS = {
    "msd": Convention(
        "MSD Task01, and what nnU-Net makes of BraTS",
        {0: 0, 1: 1, 2: 2, 3: 3},
        "1 edema, 2 non-enhancing, 3 enhancing",
    ),
    "brats2016": Convention(
        "BraTS 2012 to 2016",
        {0: 0, 1: 2, 2: 1, 3: 2, 4: 3},
        "1 necrosis, 2 edema, 3 non-enhancing, 4 enhancing",
    ),
    "brats2021": Convention(
        "BraTS 2017 to 2021", {0: 0, 1: 2, 2: 1, 4: 3}, "1 necrotic and non-enhancing, 2 edema, 4 enhancing"
    ),
    "brats2023": Convention(
        "BraTS from 2023 on, before surgery: GLI, MEN, MET, SSA, and PED of 2023",
        {0: 0, 1: 2, 2: 1, 3: 3},
        "1 necrotic and non-enhancing, 2 edema, 3 enhancing",
    ),
    "brats2024": Convention(
        "BraTS from 2024 on, after surgery: GLI, and MET of 2025",
        {0: 0, 1: 2, 2: 1, 3: 3, 4: 0},
        "1 non-enhancing, 2 edema, 3 enhancing, 4 resection cavity",
    ),
    "brats2024-ped": Convention(
        "BraTS-PED from 2024 on",
        {0: 0, 1: 3, 2: 2, 3: 2, 4: 1},
        "1 enhancing, 2 non-enhancing, 3 cyst, 4 edema",
    ),
}

# Which a case may have by its name; the first pattern that fits counts. Gliomas before and after surgery have one
# series of names: those after have numbers from 02000 on and time points from 100 on. With one of these, either is
# possible, and the values decide.
_NAMES = {
    r"BRATS_\d+": ("msd",),
    r"BraTS(17|18|19|20|2021)_.+": ("brats2021",),
    r"BraTS-GLI-0[01]\d{3}-0\d\d": ("brats2023",),
    r"BraTS-GLI-(?!0[01])\d{5}-[1-9]\d\d": ("brats2024",),
    r"BraTS-(GLI|MET)-\d+-\d+": ("brats2023", "brats2024"),
    r"BraTS-(MEN|SSA)-\d+-\d+": ("brats2023",),
    r"BraTS-PED-\d+-\d+": ("brats2023", "brats2024-ped"),
}
# What the names in a dataset.json mean, as classes; the first word that is found counts.
_WORDS = {
    r"background|cavity|\brc\b": {0},
    r"whole|\bwt\b": {1, 2, 3},
    r"o?edema|\bed\b|snfh|hyperintensity": {1},
    r"non.?enhancing|necro|cyst|\b(ncr|net|netc|cc)\b": {2},
    r"core|\btc\b": {2, 3},
    r"enhancing|\bet\b": {3},
}


def check_convention(name: Any) -> str:
    """The name itself.

    Raises:
        ValueError: there is no such convention.
    """
    if name not in CONVENTIONS:
        raise ValueError(f"convention={name!r} is unknown. Legal are {_legal()}.")
    return name


def folder_convention(folder: Path, labels: Mapping[str, str], described: Any = None, given: str | None = None) -> str:
    """The convention of all labels of a folder: as it is given, or as ``dataset.json`` describes it, or by the names.

    Where several go by these names, the values in all of the labels decide, unless all of these conventions give them
    the same classes.

    Args:
        folder: that holds them, for the error.
        labels: the file of the label by the name of the case.
        described: the ``labels`` of ``dataset.json``.
        given: name of the convention.

    Raises:
        ValueError: there is no such convention, or it cannot be told: the text says what was seen.
    """
    if given is not None:
        return check_convention(given)
    if (told := _told(described)) is not None:
        if len(told) == 1:
            return told[0]
        raise _untold(folder, f"dataset.json describes the labels as {described!r}, as no convention, or several, have")
    by_names: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in labels:
        by_names[_named(name)].append(name)
    seen = "; ".join(
        f"{_listed(names)} may be {' or '.join(possible) if possible else 'of any, by the name'}"
        for possible, names in by_names.items()
    )
    if () in by_names:
        possible = list(CONVENTIONS) if len(by_names) == 1 else []
    else:
        possible = [name for name in CONVENTIONS if all(name in own for own in by_names)]
    if len(possible) == 1:
        return possible[0]
    if not possible:
        raise _untold(folder, f"it mixes data sets: {seen}")
    read = [label_values(label) for label in tqdm(labels.values(), desc="reading labels", delay=2)]
    values = sorted({value for one in read for value in one or ()})
    fitting = [name for name in possible if CONVENTIONS[name].classes.keys() >= set(values)]
    # A label that cannot be read may hold anything.
    within = (
        set(map(int, values))
        if None not in read
        else {value for name in fitting for value in CONVENTIONS[name].classes}
    )
    if fitting and len({tuple(CONVENTIONS[name].classes.get(value) for value in within) for name in fitting}) == 1:
        return fitting[0]
    held = listed_values(np.array(values)) or "nothing that can be read"
    raise _untold(folder, f"{seen}, and the labels hold {held}")


def check_labels(folder: Path, labels: Mapping[str, str], convention: str) -> None:
    """Check that no label of a folder holds a value that its convention has not; what cannot be read passes.

    Args:
        folder: that holds them, for the error.
        labels: the file of the label by the name of the case.
        convention: of all of them.

    Raises:
        ValueError: one does.
    """
    legal = CONVENTIONS[convention].classes.keys()
    read = {label: label_values(label) for label in tqdm(labels.values(), desc="reading labels", delay=2)}
    bad = {label: sorted(set(values or ()) - legal) for label, values in read.items()}
    lines = [f"{label} holds {listed_values(np.array(values))}" for label, values in bad.items() if values]
    if lines:
        raise ValueError(
            f"{len(lines)} of {len(labels)} labels in {folder} hold values that {convention} has not:"
            f"{indented(lines)}\nIf they are of another convention, say it with --convention: {_legal()}."
        )


def label_values(label: str) -> tuple[float, ...] | None:
    """The values of a label map, sorted; None where it cannot be read. A file that is as it was is not read again."""
    try:
        status = os.stat(label)
        return _values(label, status.st_mtime_ns, status.st_size)
    except Exception:  # of any reader: what loads the label says why
        return None


@cache
def _values(label: str, *_: int) -> tuple[float, ...]:
    image: Any = nib.load(label)
    array = np.asanyarray(image.dataobj)
    # Of bytes, which most are, in a tenth of the time.
    values = np.flatnonzero(np.bincount(array.ravel())) if array.dtype == np.uint8 else np.unique(round_label(array))
    return tuple(values.tolist())


def _named(name: str) -> tuple[str, ...]:
    """The conventions that a case of this name may have; none where the name does not say."""
    for pattern, possible in _NAMES.items():
        if re.fullmatch(pattern, name, re.IGNORECASE):
            return possible
    return ()


def _told(described: Any) -> list[str] | None:
    """The conventions of which the ``labels`` of a ``dataset.json`` speak; None where it does not say."""
    meanings = list(_meanings(described)) if isinstance(described, Mapping) else []
    if not any(classes - {0} for _, classes in meanings):
        return None
    fitting = [
        name
        for name, convention in CONVENTIONS.items()
        if all({convention.classes.get(value) for value in values} == classes for values, classes in meanings)
    ]
    named = {0}.union(*(values for values, _ in meanings))
    return [name for name in fitting if CONVENTIONS[name].classes.keys() == named] or fitting


def _meanings(described: Mapping[Any, Any]) -> Iterator[tuple[set[int], set[int]]]:
    """The values and the classes of each name that is known: ``{"1": "edema"}`` of the Decathlon, and of nnU-Net
    ``{"edema": 1}`` or ``{"tumor core": [2, 3]}``."""
    for key, value in described.items():
        name, values = (value, [key]) if isinstance(value, str) else (key, value)
        values = values if isinstance(values, Sequence) else [values]
        classes = next((own for word, own in _WORDS.items() if re.search(word, name, re.IGNORECASE)), None)
        if classes is not None and all(str(one).isdigit() for one in values):
            yield {int(one) for one in values}, classes


def _untold(folder: Path, seen: str) -> ValueError:
    return ValueError(
        f"the convention of the labels in {folder} cannot be told: {seen}. Keep data sets in folders of their own, and "
        f"say the convention with --convention: {_legal()}."
    )


def _legal() -> str:
    return "; ".join(f"{name} ({one})" for name, one in CONVENTIONS.items())


def _listed(names: Sequence[str]) -> str:
    rest = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + rest
