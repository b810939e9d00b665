"""What a bundle is written in: its ``bundle.json``, and the sources in ``bundles/sources`` that this extends."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["AUTHORED", "PIECES", "SHARED", "SOURCES", "Layer", "is_sources", "read_layers", "sources_of"]

AUTHORED = "bundle.json"
SOURCES = "sources"
EXTENDS, PIECES, SHARED = "extends", "pieces", "train_and_inference"
_CONFIG = re.compile(r"train|inference|evaluate(_\w+)?|multi_gpu_\w+")
_LEGAL = f"{EXTENDS}, {PIECES}, {SHARED}, and configs: train, inference, evaluate, evaluate_*, multi_gpu_*"


@dataclass(frozen=True)
class Layer:
    """One file of JSON, of which each part is an overlay in MONAI's sense.

    Args:
        path: the file.
        parts: by name: the overlay of a config, such as ``train`` of ``configs/train.json``; what ``train`` and
            ``inference`` have in common, ``train_and_inference``; and ``pieces``, of which they put lists together.
    """

    path: Path
    parts: dict[str, dict[str, Any]]


def sources_of(root: Path) -> Path:
    """The folder of sources beside a bundle."""
    return root.resolve().parent / SOURCES


def is_sources(path: str | Path) -> bool:
    """Whether a folder is that of sources, which ``bundles/*/`` names among the bundles."""
    return Path(path).resolve().name == SOURCES and not (Path(path) / "configs").is_dir()


def read_layers(root: Path) -> list[Layer]:
    """The files that a bundle is built of: what is extended before what extends it, each once.

    Args:
        root: folder of the bundle.

    Raises:
        ValueError: one of them is missing, is no JSON, has parts that are not legal, or extends itself.
    """
    layers: dict[Path, Layer] = {}

    def read(path: Path, open_files: tuple[Path, ...]) -> None:
        if path in open_files:
            circle = " -> ".join(file.name for file in (*open_files[open_files.index(path) :], path))
            raise ValueError(f"{path}: extends itself ({circle}); legal are sources that do not. Remove one of them.")
        if path in layers:
            return
        content = _read(path)
        for name in content.pop(EXTENDS, []):
            source = sources_of(root) / f"{name}.json"
            if not source.is_file():
                legal = ", ".join(sorted(file.stem for file in source.parent.glob("*.json"))) or "none, there are none"
                raise ValueError(f"{path}: extends {name!r}; legal are {legal}. Correct it, or write {source}.")
            read(source, (*open_files, path))
        layers[path] = Layer(path, content)

    read(root / AUTHORED, ())
    return list(layers.values())


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path}: missing; a bundle is built of it. Write it as that of another bundle.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: no JSON ({error}). Correct the file at this place.") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: the top is {type(content).__name__}; legal is an object of {_LEGAL}.")
    extends = content.get(EXTENDS, [])
    if not isinstance(extends, list) or not all(isinstance(name, str) for name in extends):
        raise ValueError(f"{path}: {EXTENDS} is {extends!r}; legal is a list of names of sources, such as ['volumes'].")
    for name, part in content.items():
        if name not in (EXTENDS, PIECES, SHARED) and not _CONFIG.fullmatch(name):
            raise ValueError(f"{path}: there is no part {name!r}; legal are {_LEGAL}. Correct its name.")
        if name != EXTENDS and not isinstance(part, dict):
            raise ValueError(f"{path}: {name} is {type(part).__name__}; legal is an object of values by their ids.")
    return content
