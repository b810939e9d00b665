"""Where nnU-Net keeps what it preprocessed, and its plans there."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

__all__ = ["dataset_number", "find_dataset", "read_dataset", "read_plans"]

VARIABLE = "nnUNet_preprocessed"


def find_dataset(dataset: str) -> Path:
    """The folder of a data set below ``nnUNet_preprocessed``.

    Args:
        dataset: its number, ``4``, or its name, ``Dataset004_Hippocampus``.

    Raises:
        ValueError: the environment variable is not set or names no folder, or there is no such data set, or several.
    """
    if not os.environ.get(VARIABLE):
        raise ValueError(
            f"The environment variable {VARIABLE} is not set. Give it the folder of nnU-Net's preprocessed data, as "
            f"nnU-Net itself needs it: export {VARIABLE}=FOLDER"
        )
    root = Path(os.environ[VARIABLE])
    if not root.is_dir():
        raise ValueError(f"{VARIABLE}={root} is not a folder. Give the folder of nnU-Net's preprocessed data.")
    there = sorted(path.name for path in root.glob("Dataset*") if path.is_dir())
    wanted = dataset.lstrip("0")
    found = [name for name in there if wanted in (name, str(dataset_number(root / name)))]
    if not found:
        raise ValueError(
            f"Data set {dataset} is not in {root}, which holds {', '.join(there) or 'no data set'}. Give the number or "
            f"the name of one of these, or run nnUNetv2_plan_and_preprocess -d {wanted} first."
        )
    if len(found) > 1:
        raise ValueError(f"Data set {dataset} is one of {', '.join(found)} in {root}. Give its name.")
    return root / found[0]


def read_dataset(folder: Path) -> dict[str, Any]:
    """The description of a data set: ``dataset.json``, which nnU-Net copies to its preprocessed data.

    Raises:
        ValueError: it is not there, or cannot be read.
    """
    path = folder / "dataset.json"
    dataset = _read(path, dataset_number(folder))
    if not isinstance(dataset.get("labels"), dict) or not {"channel_names", "modality"} & dataset.keys():
        raise ValueError(f"{path} has no labels, or no channel_names. Copy that of the raw data set there.")
    return dataset


def read_plans(folder: Path, name: str) -> dict[str, Any]:
    """Plans of nnU-Net for a data set.

    Args:
        folder: of the data set.
        name: of the plans, without ``.json``.

    Raises:
        ValueError: they are not there, or cannot be read.
    """
    path = folder / f"{name}.json"
    plans = _read(path, dataset_number(folder))
    if not isinstance(plans.get("configurations"), dict):
        there = [other.stem for other in sorted(folder.glob("*.json")) if is_plans(other)]
        raise ValueError(f"{path} is no plans file of nnU-Net. Plans there are: {', '.join(there) or 'none'}.")
    return plans


def is_plans(path: Path) -> bool:
    """Whether a file holds plans of nnU-Net."""
    try:
        return "configurations" in json.loads(path.read_text(encoding="utf-8"))
    except (OSError, TypeError, ValueError):
        return False


def dataset_number(folder: Path) -> int | str:
    """The number of a data set, as nnU-Net's commands take it with ``-d``; the word ID where its name holds none."""
    found = re.match(r"Dataset(\d+)", folder.name)
    return int(found[1]) if found else "ID"


def _read(path: Path, number: int | str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        there = [other.stem for other in sorted(path.parent.glob("*.json")) if is_plans(other)]
        raise ValueError(
            f"{path} does not exist; plans there are: {', '.join(there) or 'none'}. Give --plans one of them, or run "
            f"nnUNetv2_plan_and_preprocess -d {number} first."
        ) from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read: {error}. Write it anew with nnU-Net.") from error
    return content if isinstance(content, dict) else {}
