"""The table of a collection of bundles, one row a bundle, from what their files say."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from equivariant_nets.zoo.bundle import CARD, WEIGHTS, Bundle, find_bundles
from equivariant_nets.zoo.card import weights_licence
from equivariant_nets.zoo.files import large_files

__all__ = ["bundle_table"]

_COLUMNS = ("Bundle", "Task", "Network", "Parameters", "Data", "Version", "Result", "Weights", "Licence of the weights")


def bundle_table(folder: str | Path) -> str:
    """A page in Markdown with a table of all bundles in a folder.

    A row links to the card, and has the class and the group of the network, its number of parameters, and the first
    figure of ``eval_metrics``.

    Raises:
        ValueError: the folder holds no bundle, or the metadata of one cannot be read.
    """
    rows = [_COLUMNS, ("---",) * len(_COLUMNS), *(_row(bundle) for bundle in find_bundles(folder))]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    command = f"python -m equivariant_nets.zoo table {Path(folder).resolve().name}"
    return "\n".join(["# Bundles", "", f"Written by `{command}`. Figures are those of the cards.", "", *lines, ""])


def _row(bundle: Bundle) -> tuple[str, ...]:
    meta = bundle.metadata
    parser = bundle.parser("inference.json", device="$torch.device('cpu')")
    inside = "network_def#network" if "network_def#network" in parser else "network_def"  # of a wrapper
    network = parser.get_parsed_content(inside)
    kind = type(network)
    default = inspect.signature(kind).parameters.get("group")
    given = f"{inside}#group" in parser
    group = parser.get_parsed_content(f"{inside}#group") if given else getattr(default, "default", None)
    figure, value = next(iter(meta.get("eval_metrics", {}).items()), (None, None))
    has_weights = (bundle.root / WEIGHTS).is_file() or any(
        entry.get("path") == WEIGHTS for entry in large_files(bundle)
    )
    return (
        f"[{bundle.name}]({bundle.name}/{CARD})",
        str(meta.get("task")),
        f"`{kind.__name__}`" + (f", {group}" if group else ""),
        f"{sum(parameter.numel() for parameter in network.parameters()):,}",
        re.sub(r",? https?://[^\s;]+", "", str(meta.get("data_source"))),
        str(meta.get("version")),
        f"{figure.replace('_', ' ')} {value:.3f}" if figure else "-",
        "yes" if has_weights else "no",
        (weights_licence(bundle.card) or "-") if has_weights else "-",
    )
