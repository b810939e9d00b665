"""A bundle as it lies in a folder: its files, its metadata, and its configs as workflows merge them."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

__all__ = [
    "CARD",
    "DATA_LICENSE",
    "METADATA",
    "PACKAGE",
    "WEIGHTS",
    "Bundle",
    "find_bundles",
    "quiet",
    "workflow_files",
]

PACKAGE = "equivariant_nets"
METADATA, WEIGHTS, CARD = "configs/metadata.json", "models/model.pt", "docs/README.md"
DATA_LICENSE = "docs/data_license.txt"


@dataclass(frozen=True)
class Bundle:
    """A folder with ``configs/``, as MONAI's ``bundle`` commands take it.

    Args:
        root: the folder.

    Raises:
        ValueError: the folder does not exist, or holds no ``configs``.
    """

    root: Path

    def __post_init__(self) -> None:
        if not (self.root / "configs").is_dir():
            got = "is a folder without configs" if self.root.is_dir() else "is no folder"
            raise ValueError(
                f"{self.root} {got}; legal is a bundle, a folder that holds {METADATA}. Give its path, such as "
                "bundles/phantom_so3_segmentation."
            )

    @property
    def name(self) -> str:
        """Name of the folder, which is that of the bundle."""
        return self.root.resolve().name

    @property
    def card(self) -> str:
        """Text of ``docs/README.md``."""
        return (self.root / CARD).read_text(encoding="utf-8")

    @property
    def vendored(self) -> Path | None:
        """The copy of the package that an archive of ``pack`` holds, or None in a bundle that needs it installed."""
        folder = self.root / PACKAGE
        return folder if folder.is_dir() else None

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """Content of ``configs/metadata.json``."""
        return self.read_json(METADATA)

    @property
    def dimensions(self) -> int:
        """Number of spatial axes of the network's input; 0 where the metadata does not say."""
        node: Any = self.metadata
        for key in ("network_data_format", "inputs", "image", "spatial_shape"):
            node = node.get(key) if isinstance(node, dict) else None
        return len(node) if isinstance(node, list) else 0

    @property
    def config_files(self) -> list[str]:
        """Names of the JSON files in ``configs`` other than the metadata, sorted."""
        return sorted(path.name for path in (self.root / "configs").glob("*.json") if path.name != Path(METADATA).name)

    def read_json(self, file: str) -> dict[str, Any]:
        """Content of a JSON file of the bundle.

        Raises:
            ValueError: the file holds no JSON object; the message has the line of the error.
        """
        try:
            content = json.loads((self.root / file).read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"{self.root / file}: no JSON ({error}). Correct the file at this place.") from None
        if not isinstance(content, dict):
            raise ValueError(f"{self.root / file}: the top is {type(content).__name__}; legal is an object, {{...}}.")
        return content

    def parser(self, *files: str, **overrides: Any) -> ConfigParser:
        """The merged configs of a workflow, with the metadata.

        Args:
            files: names in ``configs``, such as ``train.json``; later ones override.
            overrides: values by their ids.
        """
        parser = ConfigParser()
        with quiet():
            parser.read_config([str(self.root / "configs" / file) for file in files])
            parser.read_meta(str(self.root / METADATA))
            parser.update(overrides)
            parser.parse()
        return parser


def workflow_files(file: str) -> list[str]:
    """The configs that are merged where a config is used, in their order: an overlay stands behind what it overlays.

    >>> workflow_files("multi_gpu_evaluate.json")
    ['train.json', 'evaluate.json', 'multi_gpu_evaluate.json']
    """
    for prefix, base in (("multi_gpu_", file.removeprefix("multi_gpu_")), ("evaluate_", "evaluate.json")):
        if file.startswith(prefix):
            return [*workflow_files(base), file]
    return ["train.json", file] if file == "evaluate.json" else [file]


def find_bundles(folder: str | Path) -> list[Bundle]:
    """All bundles that lie in a folder, by name.

    Raises:
        ValueError: it holds none.
    """
    found = [Bundle(path.parent) for path in sorted(Path(folder).glob("*/configs"))]
    if not found:
        raise ValueError(f"{folder} holds no bundle. Give the folder whose folders are bundles, such as bundles.")
    return found


@contextmanager
def quiet() -> Iterator[None]:
    """Without MONAI's log and its warning at each config that configs are code."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
