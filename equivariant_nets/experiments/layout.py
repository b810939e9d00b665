"""The tables of an experiment as its report shows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from equivariant_nets.experiments.findings import SMOKE_RUN, interval_text, number
from equivariant_nets.experiments.statistics import MIN_CASES
from equivariant_nets.experiments.tables import START, UPRIGHT_POSE, Row

__all__ = ["Table", "tables"]

_OPEN_ROWS = 16  # longer tables are folded


class Table(NamedTuple):
    """A table with what its figures are."""

    title: str
    note: str
    rows: Sequence[Sequence[str]]  # the first is the header
    is_folded: bool


def tables(rows: Sequence[Row], varies: str | None, smoke_run: bool = False) -> Iterable[Table]:
    """Dice by pose, its loss, the tests, each structure, and the spread of seeds, each with what its figures are.

    Args:
        rows: of :func:`equivariant_nets.experiments.tables.summarize`.
        varies: what the experiment varies, or None.
        smoke_run: whether each table says that its numbers mean nothing.
    """

    def block(title: str, note: str, cells: Sequence[Sequence[str]], fold: bool = False) -> Table:
        note = f"{SMOKE_RUN} {note}" if smoke_run else note
        return Table(title, note, cells, fold or len(cells) - 1 > _OPEN_ROWS)

    dice, drops, tests, structures, seeds = (
        [row for row in rows if row.table == name] for name in ("dice", "drop", "difference", "structure", "seeds")
    )
    interval = "In brackets the 95 % confidence interval over the cases (bootstrap, BCa)"
    note = f"Mean over structures, planes and seeds. {interval}. {_cases(dice)}"
    yield block("Dice", note, _pivot(dice, varies))
    if drops:
        note = f"Dice at {START.name} minus Dice in the pose, paired by case: above 0, the pose costs Dice. {interval}."
        yield block("Loss of Dice when turned", f"{note} {_cases(drops)}", _pivot(drops, varies))
    if tests:
        yield block("Comparison with the reference", _about_tests(tests), _tests(tests, varies))
    yield block("Dice of each structure", f"{interval}.", _pivot(structures, varies, structures=True), fold=True)
    if any(row.seeds > 1 for row in seeds):
        note = "Mean Dice over seeds, and in brackets that of the worst to that of the best seed."
        yield block("Spread of the seeds", note, _pivot(seeds, varies), fold=True)


def _cases(rows: Sequence[Row]) -> str:
    """How many cases the figures are over."""
    upright = {row.cases for row in rows if row.pose == UPRIGHT_POSE.name}
    turned = {row.cases for row in rows if row.pose != UPRIGHT_POSE.name}
    texts = [
        f"{name} {' or '.join(map(str, sorted(counts)))}"
        for name, counts in (("upright", upright), ("turned", turned))
        if counts
    ]
    text = f"Cases: {', '.join(texts)}."
    if upright and turned - upright:
        text += " Not all were turned, so see the loss for a comparison of poses."
    return text


def _about_tests(rows: Sequence[Row]) -> str:
    text = (
        "Dice minus that of the reference, paired by case after the mean over structures and seeds, with its 95 % "
        "confidence interval (bootstrap, BCa). p: Wilcoxon's signed-rank test over the cases, two-sided; then with "
        "Holm's correction for all tests of this table."
    )
    if min(row.cases for row in rows) < MIN_CASES:
        text += f" A dash: with fewer than {MIN_CASES} cases no test is possible."
    return text


def _tests(rows: Sequence[Row], varies: str | None) -> list[list[str]]:
    header = [*_header(varies), "reference", "pose", "difference", "p", "p (Holm)", "cases"]
    figures = ([interval_text(row), _p_text(row.p), _p_text(row.p_holm), str(row.cases)] for row in rows)
    names = ([*_names(row, varies), row.reference, row.pose] for row in rows)
    return [header, *([*own, *cells] for own, cells in zip(names, figures, strict=True))]


def _p_text(p: float) -> str:
    return "< 0.001" if p < 0.001 else number(p)


def _pivot(rows: Sequence[Row], varies: str | None, structures: bool = False) -> list[list[str]]:
    """A row for each setting, or structure of a setting, and a column for each pose."""
    poses = list(dict.fromkeys(row.pose for row in rows))
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        key = (*_names(row, varies), *([row.structure] if structures else []))
        lines.setdefault(key, {})[row.pose] = interval_text(row)
    header = [*_header(varies), *(["structure"] if structures else []), *poses]
    return [header, *([*key, *(cells.get(pose, "-") for pose in poses)] for key, cells in lines.items())]


def _names(row: Row, varies: str | None) -> list[str]:
    return [row.network, row.value] if varies else [row.network]


def _header(varies: str | None) -> list[str]:
    return ["network", varies] if varies else ["network"]
