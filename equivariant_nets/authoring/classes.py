"""The classes of a task: which label values they are, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from equivariant_nets.authoring.cases import Found
from equivariant_nets.authoring.survey import CaseFacts

__all__ = ["TaskClass", "choose_classes", "class_problems", "left_right_pairs"]

_MOST_CLASSES = 40
_SIDES = re.compile(r"(?<![a-z])(left|right|lh|rh|l|r)(?![a-z])", re.IGNORECASE)
_LEFT = ("left", "lh", "l")


@dataclass(frozen=True)
class TaskClass:
    """A class: its name, and the label values that it takes in the files."""

    name: str
    values: tuple[int, ...]


def choose_classes(found: Found, facts: Sequence[CaseFacts], given: str | None) -> list[TaskClass]:
    """The classes from 1 on: as given, or every value that the labels hold, by its name in ``dataset.json``.

    Args:
        found: what names classes.
        facts: of all cases.
        given: ``NAME=VALUE,NAME=VALUE+VALUE,...``; values of no class are background then. None takes all values.

    Raises:
        ValueError: ``given`` says something else, there are too many values, or none.
    """
    if given is not None:
        return _parsed(given)
    values = sorted({value for case in facts for value in case.labels} | found.classes.keys())
    if not values:
        raise ValueError("The label maps hold no value above 0: there is nothing to learn. Give others.")
    if len(values) > _MOST_CLASSES:
        raise ValueError(
            f"The label maps hold {len(values)} values; legal are at most {_MOST_CLASSES} classes. Name those to "
            f"learn: --classes NAME={values[0]},OTHER={values[1]}+{values[2]}. All others become background."
        )
    names = {value: found.classes.get(value, "structure" if len(values) == 1 else f"label {value}") for value in values}
    return [TaskClass(names[value], (value,)) for value in values]


def class_problems(classes: Sequence[TaskClass], facts: Sequence[CaseFacts]) -> Iterator[str]:
    """Classes that no case has."""
    present = {value for case in facts for value in case.labels}
    for one in classes:
        if not present & {*one.values}:
            listed = " or ".join(map(str, one.values))
            yield (
                f"the class {one.name!r} (label {listed}) is in no case. Correct dataset.json or --classes, or add "
                "cases that have it"
            )


def left_right_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Names that differ in the side alone, as pairs."""
    by_rest: dict[str, list[str]] = {}
    for name in names:
        if len(_SIDES.findall(name.replace("_", " "))) == 1:
            by_rest.setdefault(_SIDES.sub("", name.replace("_", " ")).strip().lower(), []).append(name)
    pairs = [sorted(pair, key=lambda name: not _is_left(name)) for pair in by_rest.values() if len(pair) == 2]
    return [(first, second) for first, second in pairs if _is_left(first) and not _is_left(second)]


def _is_left(name: str) -> bool:
    return _SIDES.findall(name.replace("_", " "))[0].lower() in _LEFT


def _parsed(text: str) -> list[TaskClass]:
    classes = []
    for part in text.split(","):
        name, separator, listed = part.partition("=")
        values = listed.split("+")
        if not name.strip() or not separator or not all(value.strip().isdecimal() and int(value) for value in values):
            raise ValueError(
                f"--classes {text!r}: {part!r} is no class; legal is NAME=VALUE, or NAME=VALUE+VALUE where several "
                "values are one class, with values from 1, and commas between classes."
            )
        classes.append(TaskClass(name.strip(), tuple(sorted({int(value) for value in values}))))
    names = [one.name for one in classes]
    values_of_all = [value for one in classes for value in one.values]
    if len({*names}) < len(names) or len({*values_of_all}) < len(values_of_all):
        raise ValueError(f"--classes {text!r}: each name and each value stands once. Remove what is double.")
    return classes
