"""The four modalities, and in which order the channels of files are these, as a ``dataset.json`` names them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from equivariant_nets.data.datalist import case_name, read_manifest

__all__ = ["MODALITIES", "channel_order", "numbered_case", "order_beside"]

# In the order of the channels, each with the spellings that end a file name (BraTS) or stand in dataset.json.
MODALITIES = {
    "FLAIR": ("flair", "t2f"),
    "T1": ("t1", "t1n", "t1w"),
    "T1 with gadolinium": ("t1ce", "t1c", "t1gd"),
    "T2": ("t2", "t2w"),
}
_NUMBERED = re.compile(r"(?P<case>.+)_000(?P<channel>\d)")


def channel_order(folder: Path, manifest: Mapping[str, Any], in_one_file: bool) -> list[int] | None:
    """Which channel of the files is each of ``MODALITIES``; None where ``dataset.json`` names no channels.

    Args:
        folder: of the ``dataset.json``, for the error.
        manifest: its content; ``channel_names`` of nnU-Net or ``modality`` of the Decathlon names the channels.
        in_one_file: whether a file holds all of them, which are not moved; of one file each, any order is legal.

    Raises:
        ValueError: the channels are others than ours, or those of one file are in another order.
    """
    given = manifest.get("channel_names") or manifest.get("modality")
    if not isinstance(given, Mapping):
        return None
    names = [str(given.get(str(channel), "nothing")) for channel in range(max(len(given), len(MODALITIES)))]
    found = [[k for k, name in enumerate(names) if name.lower() in spellings] for spellings in MODALITIES.values()]
    order = [channel for channels in found for channel in channels]
    legal = all(len(channels) == 1 for channels in found) and len(names) == len(MODALITIES)
    if not legal or (in_one_file and order != sorted(order)):
        raise ValueError(
            f"{folder / 'dataset.json'} names the channels {', '.join(names)}; legal are {', '.join(MODALITIES)}, "
            f"{'in this order, as in Task01_BrainTumour' if in_one_file else 'in any order'}. Check that it is this "
            "task, and put the channels into this order."
        )
    return order


def order_beside(image: Path, in_one_file: bool) -> list[int] | None:
    """:func:`channel_order` of the ``dataset.json`` in the folder of an image or in the one above; None without it."""
    for folder in image.parents[:2]:
        if (folder / "dataset.json").is_file():
            return channel_order(folder, read_manifest(folder, ""), in_one_file)
    return None


def numbered_case(path: Path) -> tuple[str, int] | None:
    """The case and the channel of a file of nnU-Net, ``CASE_0000`` to ``CASE_0009``; None for other names."""
    match = _NUMBERED.fullmatch(case_name(path))
    return (match["case"], int(match["channel"])) if match else None
