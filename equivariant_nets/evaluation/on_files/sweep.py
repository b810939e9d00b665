"""Dice against the pose of the patient, where files are turned before a bundle's preprocessing reads them."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.data import MetaTensor

from equivariant_nets.data import LoadVolumed
from equivariant_nets.data.checks import round_label
from equivariant_nets.data.datalist import case_name
from equivariant_nets.errors import find_cause
from equivariant_nets.evaluation.on_files.poses import Pose
from equivariant_nets.evaluation.on_files.turning import Placement, Turning
from equivariant_nets.evaluation.poses import RotationSweep

__all__ = ["FileRotationSweep", "turn_files"]


class FileRotationSweep(RotationSweep):
    """Dice against rotation angle, of files that are turned as any tool turns them.

    Image and label map of a case are turned in their voxels about the centre of the canvas, and written with the same
    affine; all that follows is that of every other file: loading, orientation, spacing, cropping, normalization and
    windows. By default the canvas grows to hold all of the turned volume, and is filled with its background. Beside
    each Dice stands the cost of interpolation: the Dice of the label map turned there and back. The files are those of
    :class:`equivariant_nets.evaluation.poses.RotationSweep`.

    Args:
        interpolation, fill, canvas: as of :class:`equivariant_nets.evaluation.on_files.turning.Turning`.
        others: as for :class:`equivariant_nets.evaluation.poses.RotationSweep`. The items of ``data`` name files: an
            ``image``, or a list of one for each channel, and a ``label``.

    Raises:
        ValueError: as :class:`equivariant_nets.evaluation.on_files.turning.Turning` and
            :class:`equivariant_nets.evaluation.poses.RotationSweep`; when run, a file cannot be read, or is
            refused once it is turned.
    """

    def __init__(
        self, *, interpolation: str = "linear", fill: str | float = "background", canvas: str = "whole", **others: Any
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
            with _named(item, pose), tempfile.TemporaryDirectory() as folder:
                turned, back = turn_files(item, matrix, self.turning, Path(folder))
                with _silenced():
                    image, label = self.volumes(turned)
                    _, there_and_back = self.volumes(back)
            scores = self.scores(image, label, there_and_back, original)
            upright = scores if is_upright else upright
            yield pose, scores


@contextmanager
def _named(item: dict[str, Any], pose: dict[str, Any]) -> Iterator[None]:
    """Errors name the case and the pose: the files that they speak of are gone when they are read."""
    try:
        yield
    except (RuntimeError, ValueError) as error:  # of a transform, or of what turns
        case = item.get("case") or case_name(item["label"])
        raise ValueError(
            f"Case {case}, turned ({', '.join(map(str, pose.values()))}): {find_cause(error).text} If this is "
            "due to the turned corners, say what lies in them, as by --rotation_sweep#fill 0."
        ) from error


@contextmanager
def _silenced() -> Iterator[None]:
    """No warnings: what they would say of a turned file, the file itself has had."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)


def turn_files(
    item: dict[str, Any], matrix: np.ndarray, turning: Turning, folder: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write the files of a case, turned by a rotation.

    Args:
        item: names an ``image``, or a list of files, and a ``label``, all of one shape and place.
        matrix: (3, 3), in the right-anterior-superior axes of the body.
        turning: how voxels are turned.
        folder: receives NIfTI files.

    Returns:
        the turned case; and the case with its label map turned there and back. All else in the item stays.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: a file cannot be read.
    """

    def load(file: Any) -> MetaTensor:
        return LoadVolumed("volume")({"volume": file})["volume"]

    def write(voxels: np.ndarray, placement: Placement, name: str) -> str:
        nib.save(nib.Nifti1Image(voxels.astype(np.float32), placement.affine), folder / name)
        return str(folder / name)

    files = item["image"] if isinstance(item["image"], list | tuple) else [item["image"]]
    first = load(files[0])
    affine = np.asarray(first.affine, dtype=float)
    there = Placement.of(Pose("turned", "plane", matrix), "", first.shape[1:], affine, turning.canvas)
    images = []
    for number, file in enumerate(files):
        turned = there.image((load(file) if number else first).numpy(), turning)
        images.append(write(np.moveaxis(turned, 0, -1), there, f"image_{number}.nii"))
    label = there.label(round_label(load(item["label"]).numpy()[0]))
    names = {
        "image": images if isinstance(item["image"], list | tuple) else images[0],
        "label": write(label, there, "label.nii"),
    }
    return {**item, **names}, {**item, "label": write(there.back().label(label), there.back(), "back.nii")}
