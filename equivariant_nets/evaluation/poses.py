"""Segmentation quality against the pose of the patient, and against the size of the anatomy."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from numbers import Real
from typing import Any

import numpy as np
import torch
from monai.transforms import Resize
from monai.utils import convert_to_tensor
from torch import Tensor

from equivariant_nets.evaluation.plots import plot_rotation_curves, plot_scale_curves
from equivariant_nets.evaluation.sweep import Sweep
from equivariant_nets.rotations import plane_rotation, random_rotation
from equivariant_nets.transforms import RotateMatrixd

__all__ = ["RotationSweep", "ScaleSweep", "turn_arrays"]

RANDOM = "random"  # stands in the plane column for uniformly random rotations
LARGEST_FACTOR = 2
LINEAR = {2: "bilinear", 3: "trilinear"}  # by the number of axes


class RotationSweep(Sweep):
    """Dice against rotation angle, for turns in each plane and for uniformly random rotations. Pictures ``(C, W, H)``
    turn in the axial plane alone: give ``planes=["axial"]`` and ``random_poses=0``.

    A pose turns the preprocessed image (cubic splines, the border continued outwards) and its label map (one-hot
    linear). The field of view is a box in the proportions of the turned volume, about its centre, of as many voxels as
    before: a box that held all of the turned volume would be up to four times as large, and most of it filling. A
    rotation of the lattice turns the box itself and loses nothing. The prediction is scored against the turned labels
    in view. Beside each Dice stands the cost of interpolation: the Dice of the label map turned there and back. The
    files are ``rotation_dice.csv`` and ``rotation_dice.png``. What a turned file meets before, in loading, cropping and
    normalization, :class:`equivariant_nets.evaluation.on_files.sweep.FileRotationSweep` shows.

    Args:
        angles_degrees: angles in each plane; 0 is measured once and counts for all.
        planes: ``axial``, ``coronal``, ``sagittal``, or pairs of axes.
        random_poses: uniformly random rotations of each case.
        seed: of the random rotations. The same seed gives every network the same poses.
        others: as for :class:`equivariant_nets.evaluation.sweep.Sweep`.

    Raises:
        ValueError: there is no pose or no such plane, an angle is no number, and as
            :class:`equivariant_nets.evaluation.sweep.Sweep`.
    """

    kind = "rotation"
    plot = staticmethod(plot_rotation_curves)

    def __init__(
        self,
        *,
        angles_degrees: Sequence[float] = (0, 30, 45, 60, 90, 120, 135, 150, 180),
        planes: Sequence[str | tuple[int, int]] = ("axial", "coronal", "sagittal"),
        random_poses: int = 8,
        seed: int = 0,
        **others: Any,
    ) -> None:
        super().__init__(**others)
        if not random_poses and not (len(angles_degrees) and len(planes)):
            raise ValueError(
                "There is no pose to measure: give angles_degrees and planes, or random_poses of 1 or more."
            )
        if wrong := [angle for angle in angles_degrees if not isinstance(angle, Real) or not math.isfinite(angle)]:
            raise ValueError(f"angles_degrees={list(angles_degrees)} holds {wrong}: give angles as numbers of degrees.")
        for plane in planes:
            plane_rotation(plane, 0)  # raises if there is no such plane
        self.angles_degrees = angles_degrees
        self.planes = planes
        self.random_poses = random_poses
        self.seed = seed

    def poses(self, index: int) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        """Each plane at each angle, and random rotations after them: the columns that name a pose, and its matrix."""
        for plane in self.planes:
            for angle in self.angles_degrees:
                yield {"plane": plane, "angle_degrees": angle}, plane_rotation(plane, angle % 360)
        random_state = np.random.RandomState([self.seed, index])
        for _ in range(self.random_poses):
            matrix = random_rotation(random_state)
            angle = np.rad2deg(np.arccos(np.clip((np.trace(matrix) - 1) / 2, -1, 1)))
            yield {"plane": RANDOM, "angle_degrees": round(float(angle), 1)}, matrix

    def measure(self, index: int, item: dict[str, Any]) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        """Each pose; upright once, though it belongs to every plane."""
        image, label = self.volumes(item)
        upright = self._turned(image, label, np.eye(3))
        for pose, matrix in self.poses(index):
            yield pose, upright if np.array_equal(matrix, np.eye(3)) else self._turned(image, label, matrix)

    def _turned(self, image: Tensor, label: Tensor, matrix: np.ndarray) -> np.ndarray:
        turned_image, turned_label, back = turn_arrays(image, label, matrix)
        return self.scores(turned_image, turned_label, back, label)


class ScaleSweep(Sweep):
    """Dice against the size of the anatomy in voxels: every volume is shrunk, or enlarged, with its canvas.

    A factor f resamples a volume to round(n f) voxels along each axis, about its centre: the image linearly, blurred by
    a Gaussian before where it shrinks, as MONAI's ``Resize(anti_aliasing=True)``; the label map one-hot linear. The
    prediction is scored against the resampled labels. Beside each Dice stands the cost of interpolation: the Dice of
    the label map resampled there and back. The factor 1 changes nothing. The files are ``scale_dice.csv`` and
    ``scale_dice.png``.

    Args:
        factors: sizes of the anatomy over its own, above 0 and up to 2.
        others: as for :class:`equivariant_nets.evaluation.sweep.Sweep`.

    Raises:
        ValueError: there is no factor, or one out of range, and as :class:`equivariant_nets.evaluation.sweep.Sweep`.
            When run, what the network raises for a volume that is too small for it.
    """

    kind = "scale"
    plot = staticmethod(plot_scale_curves)

    def __init__(self, *, factors: Sequence[float] = (1.0, 0.9, 0.8, 0.7), **others: Any) -> None:
        super().__init__(**others)
        if not len(factors):
            raise ValueError("factors is empty: there is no size to measure; give some, such as [1.0, 0.8].")
        if wrong := [factor for factor in factors if not 0 < factor <= LARGEST_FACTOR]:
            raise ValueError(
                f"factors={list(factors)} holds {wrong}: a factor is above 0 and at most {LARGEST_FACTOR}, where 0.5 "
                "halves the anatomy along each axis."
            )
        self.factors = factors

    def measure(self, index: int, item: dict[str, Any]) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        """Each factor, in the order given."""
        image, label = self.volumes(item)
        for factor in self.factors:
            size = [max(1, round(n * factor)) for n in label.shape[1:]]
            scaled = _without_metadata(Resize(size, mode=LINEAR[len(size)], anti_aliasing=True)(image))
            scaled_label = _resize_label(label, size)
            there_and_back = _resize_label(scaled_label, label.shape[1:])
            yield {"factor": factor}, self.scores(scaled, scaled_label, there_and_back, label)


def turn_arrays(image: Tensor, label: Tensor, matrix: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Turn a preprocessed image and its label map, as :class:`RotationSweep` does.

    Args:
        image: ``(C, D, H, W)``, or a picture ``(C, W, H)``.
        label: ``(1, D, H, W)``, or ``(1, W, H)``.
        matrix: (3, 3); a picture is turned in the axial plane alone.

    Returns:
        the image and the label map in the field of view, and the label map turned there and back, all of it.

    Raises:
        ValueError: a picture would leave its plane.
    """
    turn_label = RotateMatrixd("label", matrix, mode="one_hot")
    turn_image = RotateMatrixd("image", matrix, mode=3, padding_mode="border")
    is_picture = label.ndim == 3
    if is_picture and not np.allclose(matrix[2], (0, 0, 1)):
        raise ValueError("Pictures turn in their plane alone: give planes=['axial'] and random_poses=0.")
    stack = _stacked if is_picture else _without_metadata
    volumes: dict[Hashable, Any] = {"image": stack(image), "label": stack(label)}
    turned: dict[Hashable, Any] = turn_label(turn_image(volumes))
    there_and_back = turn_label.inverse(turned)["label"]
    results = [_without_metadata(volume) for volume in (turned["image"], turned["label"], there_and_back)]
    turned_image, turned_label, back = (volume[..., 1] for volume in results) if is_picture else results
    view = field_of_view(turned_label.shape[1:], label.shape[1:])
    return turned_image[view], turned_label[view], back


def _stacked(picture: Tensor) -> Tensor:
    """A picture ``(C, W, H)`` as a volume ``(C, W, H, 3)`` of equal slices, which an axial turn leaves equal."""
    return picture[..., None].repeat_interleave(3, dim=-1)


def field_of_view(canvas: Sequence[int], size: Sequence[int]) -> tuple[slice, ...]:
    """The central box of a canvas ``(D, H, W)``, in its proportions, of about as many voxels as a volume of a size."""
    shrink = (math.prod(size) / math.prod(canvas)) ** (1 / len(canvas))
    cuts = [math.ceil(side * (1 - shrink) / 2 - 0.5) for side in canvas]  # of each end
    return (slice(None), *(slice(cut, side - cut) for cut, side in zip(cuts, canvas, strict=True)))


def _resize_label(label: Tensor, size: Sequence[int]) -> Tensor:
    """A label map ``(1, D, H, W)`` at another size: at each voxel the label whose indicator, resampled, is highest."""
    values = label.unique()  # of equals the lowest wins, the background first
    indicators = torch.cat([label == value for value in values]).float()
    return values[_without_metadata(Resize(tuple(size), mode=LINEAR[len(size)])(indicators)).argmax(0, keepdim=True)]


def _without_metadata(volume: Any) -> Tensor:
    """Without the metadata that MONAI's transforms add."""
    return convert_to_tensor(volume, track_meta=False)
