"""Dice against the pose of the patient, where files are turned before a bundle's preprocessing reads them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from equivariant_nets.data import LoadVolumed
from equivariant_nets.evaluation.on_files.poses import Pose
from equivariant_nets.evaluation.on_files.turning import Placement, Turning
from equivariant_nets.evaluation.poses import RotationSweep

__all__ = ["FileRotationSweep", "turn_files"]


class FileRotationSweep(RotationSweep):
    """Dice against rotation angle, of files that are turned as any tool turns them.

    Image and label map of a case are turned in their voxels about the centre of the canvas, and written under the same
    header; all that follows is that of every other file: loading, orientation, spacing, cropping, normalization and
    windows. By default the canvas grows to hold all of the turned volume, and is filled by its lowest value. Beside
    each Dice stands the cost of interpolation: the Dice of the label map turned there and back. The files are those of
    :class:`equivariant_nets.evaluation.poses.RotationSweep`.

    Args:
        interpolation, fill, canvas: as of :class:`equivariant_nets.evaluation.on_files.turning.Turning`.
        others: as for :class:`equivariant_nets.evaluation.poses.RotationSweep`. The items of ``data`` name files: an
            ``image``, or a list of one for each channel, and a ``label``.

    Raises:
        ValueError: as :class:`equivariant_nets.evaluation.on_files.turning.Turning` and
            :class:`equivariant_nets.evaluation.poses.RotationSweep`; when run, a file cannot be read.
    """

    def __init__(
        self, *, interpolation: str = "linear", fill: str | float = "lowest", canvas: str = "whole", **others: Any
    ) -> None:
        super().__init__(**others)
        self.turning = Turning(interpolation, fill, canvas)

    def measure(self, index: int, item: dict[str, Any]) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        """Each pose; upright once, though it belongs to every plane."""
        _, original = self.volumes(item)
        upright = None
        for pose, matrix in self.poses(index):
            is_upright = np.array_equal(matrix, np.eye(3))
            if is_upright and upright is not None:
                yield pose, upright
                continue
            with tempfile.TemporaryDirectory() as folder:
                turned, back = turn_files(item, matrix, self.turning, Path(folder))
                image, label = self.volumes(turned)
                _, there_and_back = self.volumes(back)
            scores = self.scores(image, label, there_and_back, original)
            upright = scores if is_upright else upright
            yield pose, scores


def turn_files(
    item: dict[str, Any], matrix: np.ndarray, turning: Turning, folder: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write the files of a case, turned by a rotation.

    Args:
        item: names an ``image``, or a list of files, and a ``label``.
        matrix: (3, 3), in the right-anterior-superior axes of the body.
        turning: how voxels are turned.
        folder: receives NIfTI files.

    Returns:
        the turned case; and the case with its label map turned there and back. All else in the item stays.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file cannot be read.
    """
    pose = Pose("turned", "plane", matrix)

    def load(file: str) -> tuple[np.ndarray, Placement]:
        volume = LoadVolumed("volume")({"volume": file})["volume"]
        affine = np.asarray(volume.affine, dtype=float)
        return volume.numpy(), Placement.of(pose, "", volume.shape[1:], affine, turning.canvas)

    def write(voxels: np.ndarray, placement: Placement, name: str) -> str:
        nib.save(nib.Nifti1Image(voxels.astype(np.float32), placement.affine), folder / name)
        return str(folder / name)

    files = [item["image"]] if isinstance(item["image"], str) else item["image"]
    images = []
    for number, file in enumerate(files):
        volume, placement = load(file)
        turned = np.moveaxis(placement.image(volume, turning), 0, -1)
        images.append(write(turned, placement, f"image_{number}.nii"))
    label, placement = load(item["label"])
    there, way_back = placement.label(label[0]), placement.back()
    names = {"image": images[0] if isinstance(item["image"], str) else images}
    names["label"] = write(there, placement, "label.nii")
    return {**item, **names}, {**item, "label": write(way_back.label(there), way_back, "back.nii")}
