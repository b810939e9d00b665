"""Share the cases of a data set out, by patient, and so that the training section has every class."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from equivariant_nets.authoring.classes import TaskClass
from equivariant_nets.authoring.survey import CaseFacts
from equivariant_nets.data.datalist import SECTIONS

__all__ = ["are_subjects", "split_by_patient"]

_EVERY_TEST, _EVERY_VALIDATION = 5, 8
_LEAST = 3
_BIDS = r"^sub-[a-zA-Z0-9]+"


def split_by_patient(
    facts: Sequence[CaseFacts], classes: Sequence[TaskClass], patient: str | None = None
) -> dict[str, list[str]]:
    """Names of the cases of each section.

    Of the patients, in the order of their names, every fifth is test, and of the rest every eighth validation; at least
    one of each. If training then lacks a class, the counting starts elsewhere.

    Args:
        facts: of the cases.
        classes: to be found in training.
        patient: a regular expression whose first group, or all of it, is the patient in the name of a case; None takes
            what BIDS says, ``sub-01``, where all names begin so, and else each case for a patient of its own.

    Raises:
        ValueError: the expression is none, a case does not match it, there are less than three patients, or no such
            split gives training every class.
    """
    if patient is None and are_subjects(facts):
        patient = _BIDS
    patients: dict[str, list[CaseFacts]] = defaultdict(list)
    for case in sorted(facts, key=lambda case: case.name):
        patients[_patient(case.name, patient)].append(case)
    names = list(patients)
    if len(names) < _LEAST:
        raise ValueError(
            f"There are {len(names)} patients with sound cases; legal are {_LEAST} or more, for training, validation "
            "and test each need one. Add cases."
        )
    for start in range(_EVERY_TEST):
        sections = _sections(names, start)
        training = [case for name in sections["training"] for case in patients[name]]
        if not _lacking(training, classes):
            return {name: [case.name for one in part for case in patients[one]] for name, part in sections.items()}
    lacking = ", ".join(_lacking(training, classes))
    raise ValueError(
        f"Whatever cases are for training, they lack {lacking}: too few cases have it. Add cases, or leave it out: "
        "--classes names those to learn."
    )


def are_subjects(facts: Sequence[CaseFacts]) -> bool:
    """Whether the names of all cases begin with a subject of BIDS."""
    return all(re.match(_BIDS, case.name) for case in facts)


def _patient(name: str, expression: str | None) -> str:
    if expression is None:
        return name
    try:
        match = re.search(expression, name)
    except re.error as error:
        raise ValueError(f"--patient {expression!r} is no regular expression ({error}). Correct it.") from None
    if match is None:
        raise ValueError(f"--patient {expression!r} is not in the name of the case {name!r}. Correct it.")
    return match[1] if match.groups() else match[0]


def _sections(names: Sequence[str], start: int) -> dict[str, list[str]]:
    place = (_EVERY_TEST - 1 + start) % _EVERY_TEST
    test = [*names[place::_EVERY_TEST]] or [names[-1 - start % len(names)]]
    rest = [name for name in names if name not in test]
    validation = rest[_EVERY_VALIDATION - 1 :: _EVERY_VALIDATION] or [rest[-1 - start % len(rest)]]
    training = [name for name in rest if name not in validation]
    return dict(zip(SECTIONS, (training, validation, test), strict=True))


def _lacking(cases: Sequence[CaseFacts], classes: Sequence[TaskClass]) -> list[str]:
    present: set[int] = {value for case in cases for value in case.labels}
    return [one.name for one in classes if not present & {*one.values}]
