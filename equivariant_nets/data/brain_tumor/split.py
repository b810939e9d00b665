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

__all__ = ["split_cases", "split_patients"]

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
