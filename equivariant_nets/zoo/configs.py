"""Rules of the configs: they parse, lead somewhere, and name no folder of one machine."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from typing import Any

from monai.bundle import ConfigParser, ReferenceResolver
from monai.bundle.config_item import ConfigComponent
from monai.utils import optional_import

from equivariant_nets.zoo.bundle import CARD, DATA_LICENSE, METADATA, Bundle, workflow_files

__all__ = ["config_findings"]

_ABSOLUTE = re.compile(r"(?:^|[\s'\"(`=])((?:/|~/?|[A-Za-z]:[\\/]+)\w[^\s'\"]*)", re.MULTILINE)


def config_findings(bundle: Bundle, quick: bool = False) -> Iterator[str]:
    """What is wrong with the configs of a bundle, and with paths in its documents.

    Args:
        bundle: whose configs are read, and not run.
        quick: import nothing for a ``_target_`` but modules of packages that this process has imported, such as this
            package, MONAI and torch. Of another package it is enough then that there is one.
    """
    for file in (*(f"configs/{name}" for name in (*bundle.config_files, "logging.conf")), METADATA, CARD, DATA_LICENSE):
        path = bundle.root / file
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        for absolute in _ABSOLUTE.findall(text):
            yield f"{path}: {absolute} is the path of one machine; legal are paths below bundle_root. Make it relative."
    found: dict[str, str] = {}
    for file in sorted(bundle.config_files, key=lambda name: len(workflow_files(name))):  # a config before its overlays
        for finding in _workflow_findings(bundle, workflow_files(file), quick):
            found.setdefault(finding, file)
    yield from (f"{bundle.root / 'configs' / file}: {finding}" for finding, file in found.items())


def _workflow_findings(bundle: Bundle, files: Sequence[str], quick: bool) -> Iterator[str]:
    parser = bundle.parser(*files)
    for where, value in _leaves({key: value for key, value in parser.get().items() if key != "_meta_"}):
        if not isinstance(value, str):
            continue
        references = sorted(ReferenceResolver.match_refs_pattern(value), reverse=True)  # the longer of two first
        for reference in references:
            if reference not in parser:
                yield f"{where} refers to @{reference}, which is not there. Define it, or correct the reference."
        if where.endswith("_target_"):
            if not _is_there(_resolved_target(parser, where, value), quick):
                yield f"{where} is {value!r}, which cannot be imported. Give a full dotted path, or MONAI's short name."
        elif value.startswith("$"):
            for number, reference in enumerate(references):
                value = value.replace(f"@{reference}", f"reference_{number}")
            try:
                ast.parse(value[1:])
            except SyntaxError as error:
                yield f"{where} is no expression of Python ({error.msg}). Correct what follows the $."


def _is_there(target: str, quick: bool) -> bool:
    """Whether a ``_target_`` can be imported; with ``quick``, of a foreign package whether that is there."""
    package = target.partition(".")[0]
    if quick and package not in sys.modules:
        return package.isidentifier() and PathFinder.find_spec(package) is not None
    module, _, attribute = target.rpartition(".")
    return optional_import(module, name=attribute)[1]


def _resolved_target(parser: ConfigParser, where: str, value: str) -> str:
    try:
        return str(ConfigComponent({"_target_": value}, id=where, locator=parser.locator).resolve_module_name())
    except ModuleNotFoundError:
        return value


def _leaves(node: Any, where: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """All values of a config that hold no others, with their ids."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else None
    if children is None:
        yield "::".join(where), node
        return
    for key, child in children:
        yield from _leaves(child, (*where, str(key)))
