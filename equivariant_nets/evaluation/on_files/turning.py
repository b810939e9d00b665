"""A volume in a pose: where each voxel comes from, what fills the rest, and what the header says."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import nibabel as nib
import numpy as np
from scipy.ndimage import affine_transform, find_objects, gaussian_filter

from equivariant_nets.data.filling import filling_mask
from equivariant_nets.evaluation.on_files.poses import Pose

__all__ = ["Placement", "Turning"]

ORDERS = {"linear": 1, "cubic": 3}
CANVASES = ("whole", "same")
FILLS = ("background", "lowest", "border")


@dataclass(frozen=True)
class Turning:
    """How voxels are turned.

    Args:
        interpolation: of images, ``linear`` or ``cubic`` (a spline of order three).
        fill: what lies beyond the border of an image: ``background``, what it is filled with already
            (:func:`equivariant_nets.data.filling.filling_mask`), or its lowest value where it is not; ``lowest``, its
            lowest value; ``border``, its border continued outwards; or a number. Beyond a label map lies 0.
        canvas: ``whole`` grows to hold all of the turned volume, and shrinks and grows with the anatomy; ``same`` keeps
            its size, and loses corners.

    Raises:
        ValueError: one of them is something else.
    """

    interpolation: str = "linear"
    fill: str | float = "background"
    canvas: str = "whole"

    def __post_init__(self) -> None:
        for name, legal in (("interpolation", tuple(ORDERS)), ("canvas", CANVASES)):
            if getattr(self, name) not in legal:
                raise ValueError(f"{name} {getattr(self, name)!r} is not legal: choose one of {', '.join(legal)}.")
        if self.fill not in FILLS:
            try:
                number = float(self.fill)
            except (TypeError, ValueError):
                number = np.nan
            if not np.isfinite(number):
                raise ValueError(f"fill {self.fill!r} is not legal: give {', '.join(FILLS)} or a number.")
            object.__setattr__(self, "fill", number)

    def of(self, pose: Pose) -> Turning:
        """How a pose is turned: the published protocol of the cone says so itself, cubic and nothing cut."""
        return replace(self, interpolation="cubic", canvas="whole") if pose.kind == "cone" else self


@dataclass(frozen=True, eq=False)
class Placement:
    """Where the voxels of a volume in a pose come from.

    Voxels at x, counted from the centre of the canvas, come from ``to_source`` x, counted from that of the source.

    Args:
        to_source: (3, 3), from voxels of the canvas to those of the source.
        size: of the canvas, (X, Y, Z).
        source_size: of the source.
        affine: (4, 4), what the header says of the canvas.
        source_affine: of the source.
    """

    to_source: np.ndarray
    size: tuple[int, ...]
    source_size: tuple[int, ...]
    affine: np.ndarray
    source_affine: np.ndarray

    @classmethod
    def of(cls, pose: Pose, case: str, size: Sequence[int], affine: np.ndarray, canvas: str = "whole") -> Placement:
        """The placement of a case.

        The body turns in mm about the centre of the canvas, so that it keeps its shape where voxels are longer along
        one axis. Its axes are those of the volume that lie closest to right, anterior and superior, so that a turn of
        the lattice is one of the voxels under an oblique header too.

        Args:
            pose: the pose.
            case: its name, by which random rotations are drawn.
            size: (X, Y, Z) of the volume.
            affine: (4, 4) of its header.
            canvas: as of :class:`Turning`.
        """
        size, rotation = tuple(size), pose.rotation(case)
        if pose.kind == "header":
            return cls(np.eye(3), size, size, _turned_header(affine, rotation, size), affine)
        axes = _body_axes(affine, in_mm=pose.kind != "order")
        to_canvas = _whole_if_close(pose.size * np.linalg.inv(axes) @ rotation @ axes)
        own = np.ceil(np.abs(to_canvas) @ np.array(size) - 1e-6)
        new_size = tuple(int(n) for n in own) if canvas == "whole" or pose.kind == "order" else size
        placed = cls(_whole_if_close(np.linalg.inv(to_canvas)), new_size, size, affine, affine)
        if pose.kind == "order":
            step = np.eye(4)
            step[:3, :3], step[:3, 3] = placed.to_source, placed._offset()
            return replace(placed, affine=affine @ step)
        return placed

    def image(self, volume: np.ndarray, turning: Turning) -> np.ndarray:
        """An image (C, X, Y, Z) in the pose, as float32; filtered before, where the anatomy shrinks."""
        fill = [_fill_value(channel, turning.fill) for channel in volume]
        if sigma := self._filter:
            volume = np.stack([gaussian_filter(channel.astype(np.float64), sigma) for channel in volume])
        order = ORDERS[turning.interpolation]
        channels = [self._resample(channel, order, value) for channel, value in zip(volume, fill, strict=True)]
        return np.stack(channels).astype(np.float32)

    def label(self, label: np.ndarray) -> np.ndarray:
        """A label map (X, Y, Z) in the pose: at each voxel the label whose indicator, turned linearly, is highest."""
        if self._is_exact:
            return self._permuted(label)
        turned = np.zeros(self.size, label.dtype)
        highest, total = np.zeros(self.size), np.zeros(self.size)
        values, codes = np.unique(label, return_inverse=True)
        boxes = find_objects(codes.reshape(label.shape) + 1)
        for value, box in zip(values, boxes, strict=True):  # one at a time and where it is, since there can be many
            if value == 0:
                continue
            there, score = self._resample_box(label == value, box)
            turned[there][score > highest[there]] = value
            highest[there] = np.maximum(highest[there], score)
            total[there] += score
        turned[1 - total >= highest] = 0  # what is missing from the sum is background
        return turned

    def back(self) -> Placement:
        """The way back onto the source."""
        to_canvas = _whole_if_close(np.linalg.inv(self.to_source))
        return Placement(to_canvas, self.source_size, self.size, self.source_affine, self.affine)

    @property
    def _is_exact(self) -> bool:
        lattice = self.to_source
        is_permutation = ((lattice == np.round(lattice)).all()) and (np.abs(lattice).sum(0) == 1).all()
        return bool(is_permutation and tuple((np.abs(lattice.T) @ self.source_size).astype(int)) == self.size)

    @property
    def _filter(self) -> float:
        """Standard deviation in voxels of the Gaussian against aliasing, that of MONAI's ``Resize``; 0 for none."""
        shrunk = abs(np.linalg.det(self.to_source)) ** (1 / 3)
        return max(0.0, (float(shrunk.round(9)) - 1) / 2)

    def _permuted(self, volume: np.ndarray) -> np.ndarray:
        axes = np.abs(self.to_source).argmax(0)
        flipped = tuple(axis for axis in range(3) if self.to_source[axes[axis], axis] < 0)
        return np.flip(volume.transpose(axes), flipped)

    def _offset(self) -> np.ndarray:
        return (np.array(self.source_size) - 1) / 2 - self.to_source @ ((np.array(self.size) - 1) / 2)

    def _resample(self, volume: np.ndarray, order: int, fill: str | float) -> np.ndarray:
        if self._is_exact:
            return self._permuted(volume)
        mode = "nearest" if fill == "border" else "constant"
        value = 0.0 if fill == "border" else float(fill)
        source = volume.astype(np.float64)
        return affine_transform(source, self.to_source, self._offset(), self.size, order=order, mode=mode, cval=value)

    def _resample_box(self, mask: np.ndarray, box: tuple[slice, ...]) -> tuple[tuple[slice, ...], np.ndarray]:
        """Where on the canvas a mask may lie that is False outside a box, and the mask there, interpolated linearly."""
        low = np.array([max(axis.start - 1, 0) for axis in box])  # a plane of zeros on each side, if there is one
        high = np.array([min(axis.stop + 1, size) for axis, size in zip(box, mask.shape, strict=True)])
        source = mask[tuple(map(slice, low, high))].astype(np.float64)
        offset = self._offset()
        corners = np.array(list(itertools.product(*zip(low, high - 1, strict=True)))) - offset
        corners = corners @ np.linalg.inv(self.to_source).T
        first = np.clip(np.floor(corners.min(0)).astype(int), 0, self.size)
        last = np.clip(np.ceil(corners.max(0)).astype(int) + 1, first, self.size)
        offset = offset + self.to_source @ first - low
        score = affine_transform(source, self.to_source, offset, tuple(last - first), order=1, mode="constant")
        return tuple(map(slice, first, last)), score


def _fill_value(volume: np.ndarray, fill: str | float) -> str | float:
    """The value that is meant by ``fill`` in this volume; ``border`` is none."""
    if fill == "background":
        filling = filling_mask(volume)
        return float(np.median(volume[filling]) if filling.any() else volume.min())
    return float(volume.min()) if fill == "lowest" else fill


def _body_axes(affine: np.ndarray, in_mm: bool) -> np.ndarray:
    """From voxels to right, anterior and superior, as far as the axes of the volume lie closest to these."""
    spacing = nib.affines.voxel_sizes(affine) if in_mm else np.ones(3)
    axes = np.zeros((3, 3))
    for axis, (body_axis, sign) in enumerate(nib.io_orientation(affine)):
        axes[int(body_axis), axis] = sign * spacing[axis]
    return axes


def _turned_header(affine: np.ndarray, rotation: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """The affine of a volume that is turned in the world, about its own centre."""
    centre = nib.affines.apply_affine(affine, (np.array(size) - 1) / 2)
    return nib.affines.from_matvec(rotation, centre - rotation @ centre) @ affine


def _whole_if_close(matrix: np.ndarray) -> np.ndarray:
    """Rounding errors must not cost a turn of the lattice its exactness, nor grow its canvas."""
    lattice = np.round(matrix) + 0.0
    return lattice if np.allclose(matrix, lattice, atol=1e-6) else matrix
