"""Compare ratios that `speed.py` measured with those of `reference.csv`, and flag what got worse.

    python benchmarks/speed.py --output now.json
    python benchmarks/compare.py now.json [--tolerance 0.1] [--write]

A ratio is a network's time or memory by that of its reference, both measured in one run: it carries over to similar
machines, and a larger one is worse. ``--write`` makes what was measured the reference, and keeps the rows that
were not measured.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from common import print_table

from equivariant_nets.cli import command_line

REFERENCE = Path(__file__).with_name("reference.csv")
KEY = ("network", "reference", "features", "gates", "mixed precision", "size", "quantity")


def read_ratios(path: Path) -> dict[tuple[str, ...], float]:
    """The ratios of a record of ``speed.py``, by what was measured."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        of_run = [str(record[name]) for name in ("network", "reference", "features", "gates", "amp")]
        rows = [(row["size"], row["quantity"], row["ratio"]) for row in record["rows"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SystemExit(
            f"{path} is no record of speed.py ({error!r}): `python benchmarks/speed.py --output {path}` writes one."
        ) from error
    # Networks are constructed in milliseconds, whose ratio varies by more than what is to be found.
    found = [row for row in rows if row[2] is not None and row[1] != "construction"]
    return {(*of_run, size, quantity): ratio for size, quantity, ratio in found}


def read_reference(path: Path) -> dict[tuple[str, ...], float]:
    """The ratios of a table; none if it is missing."""
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {tuple(row[name] for name in KEY): float(row["ratio"]) for row in csv.DictReader(file)}


def write_reference(path: Path, ratios: dict[tuple[str, ...], float]) -> None:
    """Write the table, a row for each ratio."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*KEY, "ratio"])
        writer.writerows([*key, f"{ratio:.4g}"] for key, ratio in sorted(ratios.items()))


def main(
    *files: Path, reference: Path = REFERENCE, tolerance: float = 0.1, write: bool = False
) -> list[dict[str, Any]]:
    """Compare, print a table, and return the rows that got worse.

    Args:
        files: records of ``speed.py``.
        reference: the table to compare with.
        tolerance: a ratio that is larger by more than this share of its reference is worse.
        write: make what was measured the reference.

    Raises:
        SystemExit: a file is no record, there is nothing to compare with, or a ratio got worse.
    """
    if not files:
        raise SystemExit("Give the records to compare: `python benchmarks/speed.py --output now.json` writes one.")
    now = {key: ratio for file in files for key, ratio in read_ratios(file).items()}
    before = read_reference(reference)
    if write:
        write_reference(reference, before | now)
        print(f"{len(now)} ratios are written to {reference}.")
        return []
    rows = [
        {**dict(zip(KEY, key, strict=True)), "before": before[key], "now": ratio, "change": ratio / before[key] - 1}
        for key, ratio in now.items()
        if key in before
    ]
    if not rows:
        raise SystemExit(f"{reference} holds no ratio of what was measured. --write puts it there.")
    worse = [row for row in rows if row["change"] > tolerance]
    print_table([{**row, "worse": "worse" if row in worse else ""} for row in rows])
    if missing := len(now) - len(rows):
        print(f"\n{missing} ratios are not in {reference}, and were not compared.")
    if worse:
        told = [f"{row['quantity']} at {row['size']}: {row['before']:.3g} to {row['now']:.3g}" for row in worse]
        found = f"{len(worse)} of {len(rows)} ratios are worse by more than {tolerance:.0%}"
        raise SystemExit(f"{found}: {'; '.join(told)}")
    return worse


cli = command_line(main)

if __name__ == "__main__":
    cli()
