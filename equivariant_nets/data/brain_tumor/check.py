"""A check of every file of a brain tumour data set, which lists all problems instead of the first."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from equivariant_nets.data.brain_tumor.labels import UnifyTumorLabelsd
from equivariant_nets.data.brain_tumor.layouts import MODALITIES, Case, find_cases
from equivariant_nets.data.checks import CheckVolumed
from equivariant_nets.data.problems import case_problems

__all__ = ["check_brain_tumor"]

_logger = logging.getLogger(__name__)


def check_brain_tumor(dataset_dir: str | Path) -> list[str]:
    """Read every file of a data set, and say all that is wrong.

    A problem is a missing or unreadable file, a modality or label given twice, a wrong number of channels, a voxel that
    is not finite, a constant channel, an illegal label value, or files of one case on different grids. A label without
    tumour is none, but is logged as a warning.

    Args:
        dataset_dir: a folder of MSD Task01 or of BraTS.

    Returns:
        one text a problem, at most one a file and grid; empty if the data is sound.
    """
    try:
        cases, problems = find_cases(dataset_dir)
    except (FileNotFoundError, ValueError) as error:
        return [str(error)]
    return [*problems, *case_problems([(case.name, *_files_and_check(case)) for case in cases])]


def _files_and_check(case: Case) -> tuple[dict[str, str], Callable[[str, Any], None]]:
    files = {"image": case.image} if isinstance(case.image, str) else dict(zip(MODALITIES, case.image, strict=True))
    num_channels = len(MODALITIES) if isinstance(case.image, str) else 1

    def check(key: str, volume: Any) -> None:
        if key != "label":
            CheckVolumed(key, num_channels=num_channels)({key: volume})
            return
        label = UnifyTumorLabelsd()({"label": volume, "convention": case.convention})["label"]
        if not label.any():
            _logger.warning("%s: the label %s holds no tumour", case.name, case.label)

    return {**files, "label": str(case.label)}, check
