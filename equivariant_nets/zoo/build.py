"""Build the configs of a bundle from its ``bundle.json`` and the sources that this extends."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ReferenceResolver
from monai.bundle.utils import merge_kv

from equivariant_nets.files import write_text
from equivariant_nets.zoo.bundle import METADATA, Bundle
from equivariant_nets.zoo.inference import TAKEN, listed, taken_from_training
from equivariant_nets.zoo.sources import AUTHORED, PIECES, SHARED, Layer, read_layers, sources_of

__all__ = ["build_bundle", "build_findings", "built_configs"]

LOGGING = "logging.conf"
_STEPS = ("initialize", "run", "finalize")  # of a workflow, in their order
_Config = dict[str, Any]


def build_bundle(path: str | Path) -> list[str]:
    """Write the configs of a bundle, and leave alone those that are as they should be.

    Args:
        path: folder of the bundle, which holds ``bundle.json``.

    Returns:
        names of the files in ``configs`` that were written.

    Raises:
        ValueError: ``bundle.json`` or a source is missing or not legal; the message names the file.
    """
    folder = Path(path) / "configs"
    written = []
    for name, text in built_configs(Path(path)).items():
        file = folder / name
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            folder.mkdir(exist_ok=True)
            write_text(file, text)
            written.append(name)
    return written


def built_configs(root: Path) -> dict[str, str]:
    """Texts of the files in ``configs``, by name, as the sources say.

    The parts of the layers are merged as MONAI merges configs: a later value takes the place of an earlier one of its
    id, and ``+id`` adds to a list or an object. ``pieces`` are in no config: where one refers to them, as in
    ``$@pieces#load + @pieces#check``, a list of them takes the place; a piece is an item of it, or a list of items.
    Inference starts with what it takes of training. What ``evaluate`` and ``multi_gpu_*`` hold are overlays
    themselves: their ids are kept.

    Raises:
        ValueError: see :func:`build_bundle`.
    """
    layers = read_layers(root)
    shared = {_top(key) for layer in layers for key in layer.parts.get(SHARED, {})}
    for layer in layers:
        _refuse(layer, "train", shared)
        _refuse(layer, "inference", shared | TAKEN)
    pieces = _merged(layers, PIECES)
    train = _merged(layers, SHARED, "train")
    try:
        train = _with_pieces(train, pieces)
        inference = _merged(layers, SHARED, "inference", start=taken_from_training(ConfigParser(deepcopy(train))))
        inference = _with_pieces(inference, pieces)
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{root / AUTHORED}: {' '.join(str(error).split())}. Correct it, or what it extends."
        ) from None
    configs = {"train": _ordered(train), "inference": _ordered(inference)}
    for name in dict.fromkeys(name for layer in layers for name in layer.parts):
        if name not in (PIECES, SHARED, *configs):
            configs[name] = {key: value for layer in layers for key, value in layer.parts.get(name, {}).items()}
    texts = {
        f"{name}.json": json.dumps(config, indent=4, ensure_ascii=False) + "\n" for name, config in configs.items()
    }
    logging = sources_of(root) / LOGGING
    return {**texts, LOGGING: logging.read_text(encoding="utf-8")} if logging.is_file() else texts


def build_findings(bundle: Bundle) -> Iterator[str]:
    """Where the configs of a bundle are not those that its sources say; nothing of a bundle without sources."""
    if not (bundle.root / AUTHORED).is_file() or not sources_of(bundle.root).is_dir():
        return
    try:
        built = built_configs(bundle.root)
    except ValueError as error:
        yield str(error)
        return
    remedy = f"Correct {AUTHORED} or what it extends, and run python -m equivariant_nets.zoo build {bundle.root}"
    for name, text in built.items():
        path = bundle.root / "configs" / name
        committed = path.read_text(encoding="utf-8") if path.is_file() else None
        if committed is None:
            yield f"{path}: missing, and {AUTHORED} says it. {remedy}"
        elif committed != text:
            yield f"{path}: is not what {AUTHORED} says{_difference(committed, text, name)}. {remedy}"
    for name in sorted({*bundle.config_files} - built.keys() - {Path(METADATA).name}):
        yield f"{bundle.root / 'configs' / name}: no part of {AUTHORED} says it. Remove it, or write that part."


def _refuse(layer: Layer, kind: str, common: set[str]) -> None:
    """Let neither training nor inference set alone what they have in common: a network does what it learned."""
    for key in layer.parts.get(kind, {}):
        if key in common or _top(key) in common - TAKEN:
            raise ValueError(
                f"{layer.path}: {kind} sets {key}, which training and inference have in common. Put it into {SHARED}, "
                f"or, where it is of {' or '.join(sorted(TAKEN))}, into validate of train."
            )


def _top(key: str) -> str:
    return key.removeprefix("+").split("#")[0]


def _merged(layers: Iterable[Layer], *names: str, start: _Config | None = None) -> _Config:
    parser = ConfigParser(start or {})
    for layer in layers:
        for name in names:
            for key, value in deepcopy(layer.parts.get(name, {})).items():
                try:
                    if key.startswith("+") and key[1:] not in parser:
                        raise KeyError(key)
                    merge_kv(parser, key, value)
                except (KeyError, IndexError, ValueError):
                    raise ValueError(
                        f"{layer.path}: {name} sets {key}, but nothing that it extends has what this is a part of. "
                        "Correct the id."
                    ) from None
    return dict(parser.get())


def _with_pieces(config: _Config, pieces: _Config) -> _Config:
    """A config in which lists of pieces stand where it refers to them."""
    parser = ConfigParser({PIECES: pieces})

    def replaced(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: replaced(value) for key, value in node.items()}
        if isinstance(node, list):
            return [replaced(value) for value in node]
        return deepcopy(listed(parser, node)) if isinstance(node, str) and f"@{PIECES}#" in node else node

    return {key: replaced(value) for key, value in config.items()}


def _ordered(config: _Config) -> _Config:
    """Imports first, then what a user may override, then components, and the steps of the workflow last.

    A component begins with its ``_target_``, which may stand in another source than its arguments.
    """

    def place(key: str) -> int:
        if key in _STEPS:
            return 3 + _STEPS.index(key)
        return 0 if key == "imports" else 1 if _is_option(config, config[key]) else 2

    return {key: _target_first(config[key]) for key in sorted(config, key=place)}


def _target_first(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _target_first(node[key]) for key in sorted(node, key=lambda key: key != "_target_")}
    return [_target_first(value) for value in node] if isinstance(node, list) else node


def _is_option(config: _Config, node: Any, inside: frozenset[str] = frozenset()) -> bool:
    """Whether a value holds no component, and refers to none."""
    if isinstance(node, dict):
        return "_target_" not in node and all(_is_option(config, value, inside) for value in node.values())
    if isinstance(node, list):
        return all(_is_option(config, value, inside) for value in node)
    tops = {ReferenceResolver.split_id(id)[0] for id in ReferenceResolver.match_refs_pattern(str(node))}
    return all(top in config and top not in inside and _is_option(config, config[top], inside | {top}) for top in tops)


def _difference(committed: str, built: str, name: str) -> str:
    """What differs between two texts of a config, to stand behind the name of the first."""
    if not name.endswith(".json"):
        return ""
    first, second = json.loads(built), json.loads(committed)
    return _first_difference(first, second) if first != second else ", in its order or its spaces"


def _first_difference(first: Any, second: Any) -> str:
    """Where two nodes differ first, to stand behind the name of the second."""
    if isinstance(first, dict) and isinstance(second, dict):
        if alone := [*(first.keys() - second.keys()), *(second.keys() - first.keys())]:
            return f": {alone[0]} is {'missing' if alone[0] in first else 'too many'}"
        key = next(key for key in first if first[key] != second[key])
        return f" at {key}" + _first_difference(first[key], second[key])
    if isinstance(first, list) and isinstance(second, list) and len(first) == len(second):
        index = next(index for index, pair in enumerate(zip(first, second, strict=True)) if pair[0] != pair[1])
        return f" at {index}" + _first_difference(first[index], second[index])
    if isinstance(first, list) and isinstance(second, list):
        return f", in length: {len(second)}, not {len(first)}"
    return f": {second!r}, not {first!r}"
