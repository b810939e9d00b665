"""Rules of a bundle's card, ``docs/README.md``: its sections, and figures that are those of the metadata."""

from __future__ import annotations

import re
from collections.abc import Iterator

from equivariant_nets.zoo.bundle import CARD, METADATA, WEIGHTS, Bundle
from equivariant_nets.zoo.files import missing_weights

__all__ = ["card_findings", "sections", "weights_licence"]

SECTIONS = ("Description", "Data", "Training", "Performance", "Use", "References", "License")
WITHOUT_WEIGHTS = "No weights are shipped"
_COMMAND = re.compile(r"^ {4,}.*\bpython (-m |\w+/\w+\.py )|^ {4,}torchrun ", re.MULTILINE)
_NUMBER = re.compile(r"-?\d+\.\d+")


def card_findings(bundle: Bundle) -> Iterator[str]:
    """What is wrong with the card of a bundle."""
    for finding in _findings(bundle):
        yield f"{bundle.root / CARD}: {finding}"


def sections(card: str) -> dict[str, str]:
    """The texts of a card, by their headings of the second level.

    >>> sections("# Title\\n## Data\\nPhantoms.\\n## Use\\nRun it.")
    {'Data': 'Phantoms.\\n', 'Use': 'Run it.'}
    """
    _, *parts = re.split(r"^## (.+)\n", card, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def weights_licence(card: str) -> str | None:
    """What the card's section on licences says of the weights, or None.

    >>> weights_licence("## License\\nSoftware and weights: Apache-2.0 (`LICENSE`).")
    'Apache-2.0'
    """
    text = " ".join(sections(card).get("License", "").split())
    found = re.search(r"\b[Ww]eights: (.+?)(?= \(|, |: |\.(?: |$)|$)", text)
    return found[1] if found else None


def _findings(bundle: Bundle) -> Iterator[str]:
    card, metrics = bundle.card, bundle.metadata.get("eval_metrics")
    parts = sections(card)
    if card.splitlines()[0] != f"# {bundle.name}":
        yield f"the first line is {card.splitlines()[0]!r}; legal is '# {bundle.name}', the name of the bundle."
    for heading in SECTIONS:
        if not parts.get(heading, "").strip():
            yield f"there is no section {heading!r}, or nothing in it. Legal are {', '.join(SECTIONS)}. Write it."
    if missing_weights(bundle):
        if WITHOUT_WEIGHTS not in " ".join(card.split()):
            yield (
                f"the bundle has no {WEIGHTS}, and its card does not say so. Put them there, or write "
                f"'{WITHOUT_WEIGHTS}: ...'."
            )
        if metrics is not None:
            yield f"the bundle has no weights, but {METADATA} has eval_metrics {metrics!r}. Remove them."
        return
    if not weights_licence(card):
        yield "the section License does not say under which licence the weights are. Write 'Weights: ...'."
    performance = parts.get("Performance", "")
    if not _COMMAND.search(performance) or not any(_NUMBER.search(cell) for _, _, cell in _cells(performance)):
        yield (
            "the section Performance has no command, or no figure in a table. Measure what the weights do, and give "
            "the figures beside the command that gave them."
        )
    if not isinstance(metrics, dict) or not metrics:
        yield f"{METADATA} has eval_metrics {metrics!r}; legal are figures of this card, by name. Add them."
        return
    for metric, value in metrics.items():
        yield from _figure(metric, value, card)


def _figure(metric: str, value: object, card: str) -> Iterator[str]:
    if not isinstance(value, int | float):
        yield f"eval_metrics.{metric} of {METADATA} is {value!r}; legal is a number."
        return
    labels = _labels(metric)
    given = [
        number[0]
        for row, column, cell in _cells(card)
        if {row.lower(), column.lower()} & labels and (number := _NUMBER.search(cell))
    ]
    given, where = (given, " or ".join(sorted(labels))) if given else (_NUMBER.findall(card), "any label")
    if value not in map(float, given):
        yield (
            f"no figure under {where} is {value}, which eval_metrics.{metric} of {METADATA} says. Give the figure that "
            "was measured in both."
        )


def _labels(metric: str) -> set[str]:
    """Under which labels of rows or columns, in small letters, the card gives a metric where it has such labels."""
    if turned := re.fullmatch(r"(?:mean_)?dice_turned_(\d+)_degrees", metric):
        return {f"{turned[1]}°", f"{turned[1]} degrees"}
    poses = {"random_rotations": {"random rotations"}, "upright": {"0°", "upright"}}
    if pose := re.fullmatch(r"(?:mean_)?dice_(random_rotations|upright)", metric):
        return poses[pose[1]]
    return {"mean"} if re.fullmatch(r"mean_(dice|hausdorff95_mm)", metric) else {metric}


def _cells(text: str) -> Iterator[tuple[str, str, str]]:
    """Row label, column label and content of each cell of the tables in a text."""
    header: list[str] = []
    for line in text.splitlines():
        if not line.startswith("|"):
            header = []
            continue
        row = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not header:
            header = row
        yield from ((row[0], column, cell) for column, cell in zip(header[1:], row[1:], strict=False))
