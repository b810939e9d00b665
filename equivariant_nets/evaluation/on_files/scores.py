"""Scores of a prediction in a pose, beside the floor of interpolation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
import torch
from monai.metrics import compute_dice

from equivariant_nets.evaluation.on_files.cases import Classes

__all__ = ["Row", "class_scores", "read_prediction"]

_AFFINE_TOLERANCE_MM = 1e-2
DECIMALS = 5


class Row(NamedTuple):
    """The scores of one class of a case in a pose: a row of ``poses_dice.csv``."""

    case: str
    pose: str
    kind: str
    angle_degrees: float
    class_name: str
    dice: float  # NaN where the label map has nothing of the class
    floor: float  # Dice of the label map that was turned there and back
    rmse: float  # between the prediction of the turned image and the turned prediction; NaN without the latter


def read_prediction(path: Path, size: Sequence[int], affine: np.ndarray) -> np.ndarray:
    """The mask (X, Y, Z) that a tool wrote for an image.

    A mask whose voxels are stored in another order than those of the image is brought into theirs.

    Args:
        path: NIfTI file.
        size: of the image.
        affine: of the image.

    Raises:
        ValueError: it cannot be read, has another shape or affine, or holds other than whole numbers.
    """
    try:
        file: nib.Nifti1Image = nib.load(path)  # type: ignore[assignment]
        mask = np.asarray(file.dataobj)
    except Exception as error:  # readers fail with errors of any type
        raise ValueError(f"{path.name} cannot be read ({type(error).__name__}: {error}).") from None
    while mask.ndim > 3 and mask.shape[-1] == 1:
        mask = mask[..., 0]
    own = np.asarray(file.affine)
    if mask.ndim == 3 and not np.array_equal(nib.io_orientation(own), nib.io_orientation(affine)):
        order = nib.orientations.ornt_transform(nib.io_orientation(own), nib.io_orientation(affine))
        own = own @ nib.orientations.inv_ornt_aff(order, mask.shape)
        mask = nib.apply_orientation(mask, order)
    if mask.shape != tuple(size):
        raise ValueError(
            f"{path.name} has the shape {mask.shape}, and its image {tuple(size)}: let the tool write masks on the "
            "grid of the image."
        )
    if (difference := float(np.abs(own - affine).max())) > _AFFINE_TOLERANCE_MM:
        raise ValueError(
            f"The affine of {path.name} differs from that of its image by up to {difference:.3g} mm: let the tool "
            "write masks on the grid of the image, under its header."
        )
    if (mask != np.round(mask)).any():
        raise ValueError(f"{path.name} holds other than whole numbers: let the tool write label maps.")
    return mask.astype(np.int64)


def class_scores(
    classes: Classes,
    predicted: np.ndarray,
    true: np.ndarray,
    floor: tuple[np.ndarray, np.ndarray],
    carried: np.ndarray | None,
) -> list[tuple[str, float, float, float]]:
    """Name, Dice, floor and root mean square error of each class.

    Args:
        classes: what is scored.
        predicted: codes (X, Y, Z) of the prediction of the image in the pose.
        true: codes of the label map in the pose.
        floor: codes of the label map there and back, and of the label map, upright.
        carried: codes of the upright prediction, in the pose; None where there is none.
    """
    dice, best = (_dice(classes.channels(a), classes.channels(b)) for a, b in ((predicted, true), floor))
    rmse = np.full(len(classes.names), np.nan)
    if carried is not None:
        differs = classes.channels(predicted) != classes.channels(carried)
        rmse = np.sqrt(differs.reshape(len(rmse), -1).mean(1))  # of indicators: the square is the difference
    columns = (column.round(DECIMALS).tolist() for column in (dice, best, rmse))
    return list(zip(classes.names, *columns, strict=True))


def _dice(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Dice (K,) of channels (K, X, Y, Z)."""
    a, b = (torch.from_numpy(channels)[None].float() for channels in (predicted, true))
    return compute_dice(a, b)[0].numpy().astype(float)
