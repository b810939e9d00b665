"""A check of every file of a set of brain structures, which lists all problems instead of the first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from equivariant_nets.data.brain_structures.labels import STRUCTURES, StructuresFromLabelsd
from equivariant_nets.data.brain_structures.layouts import find_dataset
from equivariant_nets.data.brain_structures.skull import CheckSkullStrippedd
from equivariant_nets.data.checks import CheckVolumed, describe_volume
from equivariant_nets.data.problems import case_problems

__all__ = ["check_brain_structures"]


def check_brain_structures(dataset_dir: str | Path, check_skull: bool = True) -> list[str]:
    """Read every file of a data set, and say all that is wrong.

    A problem is a missing or unreadable file, an image that is not one channel of finite values, is constant, or shows
    a whole head, a label with illegal values or without one of the seven structures, or an image and a label on
    different grids.

    Args:
        dataset_dir: a folder of MICCAI 2012 or of Mindboggle101.
        check_skull: whether a whole head is a problem.

    Returns:
        one text a problem, at most one a file and grid; empty if the data is sound.
    """
    try:
        dataset = find_dataset(dataset_dir)
    except FileNotFoundError as error:
        return [str(error)]

    def check(key: str, volume: Any) -> None:
        if key == "image":
            CheckVolumed("image")({"image": volume})
            CheckSkullStrippedd("image", enabled=check_skull)({"image": volume})
        else:
            _check_structures(volume, dataset.convention)

    cases = [case for own in dataset.sections.values() for case in own]
    return case_problems([(case.name, {"image": str(case.image), "label": str(case.label)}, check) for case in cases])


def _check_structures(label: Any, convention: str) -> None:
    classes = StructuresFromLabelsd()({"label": label, "convention": convention})["label"]
    counts = torch.bincount(classes.as_tensor().flatten().long(), minlength=len(STRUCTURES) + 1)[1:]
    if missing := [name for name, count in zip(STRUCTURES, counts.tolist(), strict=True) if not count]:
        raise ValueError(
            f"{describe_volume(label, 'label')}: the label holds no {' and no '.join(missing)}; legal is the label map "
            f"of a whole brain, in the convention {convention!r}. Check that it is complete, and numbered so."
        )
