"""The table of a collection of bundles, one row a bundle, from what their files say."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from monai.bundle import ConfigParser
from torch import nn

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
    network = parser.get_parsed_content("network_def")
    figure, value = next(iter(meta.get("eval_metrics", {}).items()), (None, None))
    has_weights = (bundle.root / WEIGHTS).is_file() or any(
        entry.get("path") == WEIGHTS for entry in large_files(bundle)
    )
    return (
        f"[{bundle.name}]({bundle.name}/{CARD})",
        str(meta.get("task")),
        " and ".join(_kind(parser, id) for id in _networks(parser)),
        f"{sum(parameter.numel() for parameter in network.parameters()):,}",
        re.sub(r",? https?://[^\s;]+", "", str(meta.get("data_source"))),
        str(meta.get("version")),
        f"{figure.replace('_', ' ')} {value:.3f}" if figure else "-",
        "yes" if has_weights else "no",
        (weights_licence(bundle.card) or "-") if has_weights else "-",
    )


def _networks(parser: ConfigParser) -> list[str]:
    """The ids of the networks that a config's network wraps, or its own."""
    arguments = parser["network_def"] if isinstance(parser["network_def"], dict) else ()
    wrapped = [f"network_def#{key}" for key in arguments]
    return [id for id in wrapped if isinstance(parser.get_parsed_content(id), nn.Module)] or ["network_def"]


def _kind(parser: ConfigParser, id: str) -> str:
    """The class and the group of a network in a config."""
    kind = type(parser.get_parsed_content(id))
    default = inspect.signature(kind).parameters.get("group")
    given = f"{id}#group" in parser
    group = parser.get_parsed_content(f"{id}#group") if given else getattr(default, "default", None)
    return f"`{kind.__name__}`" + (f", {group}" if group else "")
