"""Rules of the configs: they parse, lead somewhere, name no folder of one machine, and do not contradict each other."""

from __future__ import annotations

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ReferenceResolver
from monai.bundle.config_item import ConfigComponent
from monai.utils import optional_import

from equivariant_nets.zoo.bundle import CARD, DATA_LICENSE, METADATA, Bundle, workflow_files

__all__ = ["config_findings", "shared_findings"]

_ABSOLUTE = re.compile(r"(?:^|[\s'\"(`=])((?:/|~/?|[A-Za-z]:[\\/]+)\w[^\s'\"]*)", re.MULTILINE)
_REFERENCES = re.compile(r"\$?(@[\w#:]+(?: \+ @[\w#:]+)*)")
_AGREEING = {
    "network_def": "network_def",
    "network": "network",
    "ckpt_path": "ckpt_path",
    "validate#inferer": "inferer",
    "validate#preprocessing#transforms": "preprocessing#transforms",
}
_OF_THE_LABEL = ("label_key", "num_classes", "keys", "allow_missing_keys")  # no matter of inference


def config_findings(bundle: Bundle) -> Iterator[str]:
    """What is wrong with the configs of a bundle, and with paths in its documents."""
    for file in (*(f"configs/{name}" for name in (*bundle.config_files, "logging.conf")), METADATA, CARD, DATA_LICENSE):
        path = bundle.root / file
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        for absolute in _ABSOLUTE.findall(text):
            yield f"{path}: {absolute} is the path of one machine; legal are paths below bundle_root. Make it relative."
    found: dict[str, str] = {}
    for file in sorted(bundle.config_files, key=lambda name: len(workflow_files(name))):  # a config before its overlays
        for finding in _workflow_findings(bundle, workflow_files(file)):
            found.setdefault(finding, file)
    yield from (f"{bundle.root / 'configs' / file}: {finding}" for finding, file in found.items())
    if not found:
        yield from _agreement(bundle)


def shared_findings(bundles: Sequence[Bundle]) -> Iterator[str]:
    """Where the overlays and the logging of bundles of one kind differ: they are one text, so that all behave alike.

    A kind is what a name ends in, such as ``segmentation``, in two or three dimensions. A bundle without
    a file is left out.
    """
    shared: dict[tuple[int, str, str], list[Path]] = defaultdict(list)
    for bundle in bundles:
        kind = bundle.name.rpartition("_")[2]
        for path in sorted((bundle.root / "configs").iterdir()):
            if path.name not in ("train.json", "inference.json", Path(METADATA).name):
                shared[bundle.dimensions, kind, path.name].append(path)
    for (dimensions, kind, _), paths in shared.items():
        texts = [path.read_bytes() for path in paths]
        usual = Counter(texts).most_common(1)[0][0]
        model = paths[texts.index(usual)]
        for path, text in zip(paths, texts, strict=True):
            if text != usual:
                yield f"{path}: differs from {model}; legal is one text in all of {dimensions}-D {kind}. Copy it."


def _workflow_findings(bundle: Bundle, files: Sequence[str]) -> Iterator[str]:
    parser = bundle.parser(*files)
    for where, value in _leaves({key: value for key, value in parser.get().items() if key != "_meta_"}):
        if not isinstance(value, str):
            continue
        references = sorted(ReferenceResolver.match_refs_pattern(value), reverse=True)  # the longer of two first
        for reference in references:
            if reference not in parser:
                yield f"{where} refers to @{reference}, which is not there. Define it, or correct the reference."
        if where.endswith("_target_"):
            module, _, attribute = _resolved_target(parser, where, value).rpartition(".")
            if not optional_import(module, name=attribute)[1]:
                yield f"{where} is {value!r}, which cannot be imported. Give a full dotted path, or MONAI's short name."
        elif value.startswith("$"):
            for number, reference in enumerate(references):
                value = value.replace(f"@{reference}", f"reference_{number}")
            try:
                ast.parse(value[1:])
            except SyntaxError as error:
                yield f"{where} is no expression of Python ({error.msg}). Correct what follows the $."


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


def _agreement(bundle: Bundle) -> Iterator[str]:
    """Where inference does not what training learned."""
    train, inference = bundle.parser("train.json"), bundle.parser("inference.json")
    for learned, applied in _AGREEING.items():
        if learned not in train or applied not in inference:
            continue  # a finding of the properties, where it is required
        first, second = _expanded(train, train[learned]), _expanded(inference, inference[applied])
        if applied.startswith("preprocessing"):
            first, second = _of_the_image(first), _of_the_image(second)
        if first != second:
            yield (
                f"{bundle.root / 'configs' / 'inference.json'}: {applied} differs from {learned} of train.json"
                f"{_first_difference(first, second)}. Make them the same: a network does what it learned."
            )


def _expanded(parser: ConfigParser, node: Any, inside: tuple[str, ...] = ()) -> Any:
    """A node of a config in which the references are replaced by what they refer to; those in a circle are kept."""
    if isinstance(node, dict):
        return {key: _expanded(parser, value, inside) for key, value in node.items()}
    if isinstance(node, list):
        return [_expanded(parser, value, inside) for value in node]
    references = re.findall(r"@([\w#:]+)", node) if isinstance(node, str) else []
    if not references or not set(inside).isdisjoint(references):
        return node
    values = [_expanded(parser, parser[reference], (*inside, reference)) for reference in references]
    if not _REFERENCES.fullmatch(node):
        return [node, *values]
    return [item for value in values for item in value] if len(values) > 1 else values[0]


def _of_the_image(transforms: Any) -> Any:
    """What transforms of an image and its label do to the image."""
    if not isinstance(transforms, list) or not all(isinstance(transform, dict) for transform in transforms):
        return transforms
    return [_for_the_image(transform) for transform in transforms if transform.get("keys") not in ("label", ["label"])]


def _for_the_image(transform: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in transform.items() if key not in _OF_THE_LABEL}
    several = isinstance(transform.get("keys"), list) and isinstance(transform.get("mode"), list)
    return {key: value[0] if several and key == "mode" else value for key, value in kept.items()}


def _first_difference(first: Any, second: Any) -> str:
    """Where two nodes differ first, to stand behind the name of the second."""
    if isinstance(first, dict) and isinstance(second, dict):
        key = next(key for key in {**first, **second} if first.get(key) != second.get(key))
        return f" at {key}" + _first_difference(first.get(key), second.get(key))
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        index = next(index for index, pair in enumerate(zip(first, second, strict=True)) if pair[0] != pair[1])
        return f" at {index}" + _first_difference(first[index], second[index])
    if isinstance(first, list) and isinstance(second, list):
        return f", in length: {len(second)}, not {len(first)}"
    return f": {second!r}, not {first!r}"
