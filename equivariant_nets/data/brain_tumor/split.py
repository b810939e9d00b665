"""A fixed split of the cases by patient, and a file that keeps it when cases are added or removed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from equivariant_nets.data.brain_tumor.layouts import Case
from equivariant_nets.data.datalist import SECTIONS
from equivariant_nets.files import write_text

__all__ = ["fold_cases", "split_cases", "split_patients"]

_SEED = 0
_SHARES = {"training": 340, "validation": 95, "test": 49}
_MAX_LISTED = 10
_ADVICE = "Delete the file to split anew, or give another split_file."


def split_patients(patients: Iterable[str]) -> dict[str, list[str]]:
    """Share patients out to the sections, 340 : 95 : 49 (those of 484), in a fixed shuffle of their sorted names.

    From three patients on, every section has at least one.
    """
    names = sorted(set(patients))
    order = np.random.RandomState(_SEED).permutation(len(names))
    least = 1 if len(names) >= len(SECTIONS) else 0
    total = sum(_SHARES.values())
    counts = {
        section: max(least, round(len(names) * _SHARES[section] / total))
        for section in SECTIONS
        if section != "training"
    }
    counts = {"training": len(names) - sum(counts.values()), **counts}
    ends = np.cumsum(list(counts.values()))
    return {
        section: sorted(names[index] for index in order[end - count : end])
        for (section, count), end in zip(counts.items(), ends, strict=True)
    }


def fold_cases(cases: Sequence[Case], fold: int, num_folds: int) -> dict[str, list[Case]]:
    """The cases of each section in one fold of a cross-validation by patient, sorted by name.

    The patients, sorted, are cut into ``num_folds`` parts of neighbours, as equal as can be. Part ``fold`` is the test
    section; the first patient of the next part, which chooses the checkpoint, the validation section.

    Args:
        cases: all of them.
        fold: from 0 to ``num_folds`` - 1.
        num_folds: 2 or more, and at most as many as patients; each fold leaves two patients besides its test section.

    Raises:
        ValueError: a number is not among these.
    """
    patients = sorted({case.patient for case in cases})
    if not 2 <= num_folds <= len(patients) or len(patients) - -(-len(patients) // num_folds) < 2:
        raise ValueError(
            f"num_folds is {num_folds} for {len(patients)} patients; legal are 2 to the number of patients, so that "
            "each fold leaves two patients or more besides its test section. Give more folds or patients, or fold null."
        )
    if not 0 <= fold < num_folds:
        raise ValueError(f"fold is {fold}; legal are 0 to {num_folds - 1}.")
    parts = np.array_split(patients, num_folds)
    section_of = dict.fromkeys(patients, "training")
    section_of |= dict.fromkeys(parts[fold].tolist(), "test")
    section_of[parts[(fold + 1) % num_folds][0].item()] = "validation"
    return {
        section: sorted((case for case in cases if section_of[case.patient] == section), key=lambda case: case.name)
        for section in SECTIONS
    }


def split_cases(cases: Sequence[Case], split_file: str | Path | None = None) -> dict[str, list[Case]]:
    """The cases of each section, sorted by name; all those of one patient are in one section.

    Args:
        cases: all of them.
        split_file: JSON of the names of the cases of each section. Where it exists it decides; where it does not, the
            split is written to it.

    Raises:
        FileNotFoundError: the file names cases that there are not.
        ValueError: the file is damaged, leaves out cases that there are, or puts a patient into two sections.
    """
    path = None if split_file is None else Path(split_file).expanduser().absolute()
    by_name = {case.name: case for case in cases}
    if path is not None and path.is_file():
        names = _read(path)
        _check_names(path, names, by_name)
        return {section: [by_name[name] for name in sorted(names[section])] for section in SECTIONS}
    section_of = {
        patient: section
        for section, patients in split_patients(case.patient for case in cases).items()
        for patient in patients
    }
    sections: dict[str, list[Case]] = {section: [] for section in SECTIONS}
    for name in sorted(by_name):
        sections[section_of[by_name[name].patient]].append(by_name[name])
    if path is not None:
        _write(path, {section: [case.name for case in part] for section, part in sections.items()})
    return sections


def _write(path: Path, names: dict[str, list[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"seed": _SEED, **names}, indent=1) + "\n", shared=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON ({error}). {_ADVICE}") from None
    names = {section: content.get(section) for section in SECTIONS} if isinstance(content, dict) else {}
    if not names or not all(_are_names(part) for part in names.values()):
        raise ValueError(
            f"{path} is no split: legal is an object with a list of names for each of {', '.join(SECTIONS)}. {_ADVICE}"
        )
    return names


def _are_names(part: object) -> bool:
    return isinstance(part, list) and all(isinstance(name, str) for name in part)


def _check_names(path: Path, names: dict[str, list[str]], cases: dict[str, Case]) -> None:
    named = [name for section in SECTIONS for name in names[section]]
    if missing := sorted(set(named) - set(cases)):
        raise FileNotFoundError(
            f"{path} names {len(missing)} cases that the folder lacks: {_listed(missing)}. Complete the folder, or: "
            f"{_ADVICE}"
        )
    if unnamed := sorted(set(cases) - set(named)):
        raise ValueError(f"{path} does not name {len(unnamed)} cases of the folder: {_listed(unnamed)}. {_ADVICE}")
    sections: dict[str, list[str]] = {}
    for section in SECTIONS:
        for name in names[section]:
            sections.setdefault(cases[name].patient, []).append(section)
    if split := sorted(patient for patient, own in sections.items() if len(set(own)) > 1):
        raise ValueError(f"{path} puts {len(split)} patients into two sections: {_listed(split)}. {_ADVICE}")
    if len(set(named)) < len(named):
        twice = sorted({name for name in named if named.count(name) > 1})
        raise ValueError(f"{path} names cases twice: {_listed(twice)}. {_ADVICE}")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_MAX_LISTED]) + (", ..." if len(names) > _MAX_LISTED else "")
