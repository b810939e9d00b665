"""A check of every file of a brain tumour data set, which lists all problems instead of the first."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from equivariant_nets.data.brain_structures.skull import CheckSkullStrippedd, foreground
from equivariant_nets.data.brain_tumor.channels import MODALITIES
from equivariant_nets.data.brain_tumor.labels import UnifyTumorLabelsd
from equivariant_nets.data.brain_tumor.layouts import Case, find_cases
from equivariant_nets.data.checks import CheckVolumed, describe_volume
from equivariant_nets.data.problems import case_problems

__all__ = ["check_brain_tumor"]

_logger = logging.getLogger(__name__)

# Dice. The brains of one patient are masked alike, which is 1, or each by itself, some 0.97; four millimetres, or as
# many degrees, cost 0.05.
_LEAST_OVERLAP = 0.95


def check_brain_tumor(dataset_dir: str | Path, convention: str | None = None, check_skull: bool = True) -> list[str]:
    """Read every file of a data set, and say all that is wrong.

    A problem is a missing or unreadable file, a modality or label given twice, a wrong number of channels, a voxel that
    is not finite, a constant channel, a whole head, modalities whose brains do not lie on each other, an illegal label
    value, a convention of the labels that cannot be told, or files of one case on different grids. A label without
    tumour is none, but is logged as a warning. Modalities that were masked alike and moved before are not noticed.

    Args:
        dataset_dir: a folder of MSD Task01 or of BraTS.
        convention: of the labels, a key of ``CONVENTIONS``; None finds it.
        check_skull: whether a whole head is a problem.

    Returns:
        one text a problem, at most one a file and grid; empty if the data is sound.
    """
    try:
        cases, problems = find_cases(dataset_dir, convention)
    except (FileNotFoundError, ValueError) as error:
        return [str(error)]
    return [*problems, *case_problems([(case.name, *_files_and_check(case, check_skull)) for case in cases])]


def _files_and_check(case: Case, check_skull: bool) -> tuple[dict[str, str], Callable[[str, Any], None]]:
    files = {"image": case.image} if isinstance(case.image, str) else dict(zip(MODALITIES, case.image, strict=True))
    num_channels = len(MODALITIES) if isinstance(case.image, str) else 1
    brains: dict[str, np.ndarray] = {}  # by modality

    def check(key: str, volume: Any) -> None:
        if key != "label":
            CheckVolumed(key, num_channels=num_channels)({key: volume})
            CheckSkullStrippedd(key, enabled=check_skull)({key: volume})
            for modality, channel in zip(MODALITIES if key == "image" else [key], volume, strict=True):
                brains[modality] = foreground(np.asarray(channel))[0]
                _check_overlap(brains, describe_volume(volume, key))
            return
        if case.convention is None:
            return
        label = UnifyTumorLabelsd()({"label": volume, "convention": case.convention})["label"]
        if not label.any():
            _logger.warning("%s: the label %s holds no tumour", case.name, case.label)

    return {**files, "label": str(case.label)}, check


def _check_overlap(brains: dict[str, np.ndarray], name: str) -> None:
    """Check that the last brain lies on the first, where both have one shape."""
    (modality, first), *_, (other, last) = [*brains.items()] * 2
    if first.shape != last.shape:  # which is a problem of its own
        return
    overlap = float(2 * (first & last).sum() / (first.sum() + last.sum()))  # neither is empty: no channel is constant
    if overlap < _LEAST_OVERLAP:
        raise ValueError(
            f"{name}: the brains of {other} and {modality} overlap by a Dice of {overlap:.2f}; legal is "
            f"{_LEAST_OVERLAP}. Register the modalities to each other, and strip the skull of all of them alike."
        )
