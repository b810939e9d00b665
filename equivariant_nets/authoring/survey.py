"""Read every file of a data set once: sizes, spacings, orientations, intensities, classes, and all that is wrong."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import nibabel as nib
import numpy as np
from tqdm.contrib.concurrent import thread_map

from equivariant_nets.authoring.cases import Case
from equivariant_nets.data.checks import CheckVolumed
from equivariant_nets.data.filling import filling_mask
from equivariant_nets.data.formats import ending, is_kind
from equivariant_nets.data.geometry import spacing_mm
from equivariant_nets.data.loading import LoadVolumed
from equivariant_nets.data.photographs import MaskReader, PhotographReader

__all__ = ["CaseFacts", "read_cases"]

_PERCENTILES = (1, 50, 99)
_MOST_VALUES = 256  # of a label map; more are no classes
_LARGE = 64  # voxels along each axis beyond which every second one is enough to know intensities and filling


@dataclass(frozen=True)
class CaseFacts:
    """What the files of a case hold. Axes are those of RAS, and of pictures as a viewer shows them, (width, height).

    Args:
        name: of the case.
        size: voxels along each axis.
        content: voxels along each axis of the box that holds all that is not filling, in any channel.
        spacing_mm: of the voxels; empty for pictures.
        axes: where the axes of the file run to, such as ``LPS``; empty for pictures.
        channels: of the image.
        intensities: of each channel the 1st, 50th and 99th percentile of what is not filling.
        filling: the share of voxels that are filling, in the first channel.
        labels: voxels of each value above 0.
    """

    name: str
    size: tuple[int, ...]
    content: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    axes: str
    channels: int
    intensities: tuple[tuple[float, ...], ...]
    filling: float
    labels: dict[int, int]

    def as_json(self) -> dict[str, Any]:
        """For a file."""
        return asdict(self)


def read_cases(cases: Sequence[Case], channels: int | None = None) -> tuple[list[CaseFacts], list[str]]:
    """Read all files, one a core at a time, with a progress bar.

    Args:
        cases: with existing files.
        channels: that a single image may have; None lets it have one, or the three of a picture.

    Returns:
        the facts of the cases that are sound, and one line for each problem of the others.
    """

    def read(case: Case) -> CaseFacts | list[str]:
        return _read(case, channels)

    results = thread_map(read, cases, max_workers=min(32, os.cpu_count() or 1), desc="reading cases", unit="case")
    facts = [result for result in results if isinstance(result, CaseFacts)]
    return facts, [problem for result in results if isinstance(result, list) for problem in result]


def _read(case: Case, channels: int | None) -> CaseFacts | list[str]:
    is_picture = is_kind(case.images[0], "photographs")
    problems = []
    loaded: dict[Hashable, Any] = {}
    images = [str(path) for path in case.images]
    readers = {"image": PhotographReader if is_picture else None, "label": MaskReader if is_picture else None}
    for key, files in {"image": images, "label": str(case.label)}.items():
        try:
            loaded |= LoadVolumed(key, reader=readers[key])({key: files})
            if key == "image":
                _check_channels(loaded[key], images, channels)
            else:
                _check_values(loaded[key], str(case.label))
        except (OSError, ValueError) as error:
            problems.append(f"{case.name}: {error}")
    if problems:
        return problems
    image, label = loaded["image"], loaded["label"]
    if is_picture and image.shape[1:] != label.shape[1:] == image.shape[:0:-1]:
        return [
            f"{case.name}: {images[0]} is turned by its EXIF orientation, as viewers show it, and its mask "
            f"{case.label} is not. Save both as they are shown"
        ]
    try:
        dims = 2 if is_picture else 3
        check = CheckVolumed("image", "label", len(loaded["image"]), spatial_dims=dims, of_head=False)
        return _facts(case.name, check(loaded), is_picture)
    except ValueError as error:
        return [f"{case.name}: {error}"]


def _check_channels(image: Any, files: Sequence[str], channels: int | None) -> None:
    """A volume of one file is one channel, unless the data set says of how many."""
    is_picture = is_kind(files[0], "photographs")
    if not is_picture and min(image.shape[1:]) < 2:
        raise ValueError(
            f"{files[0]} is a single slice, {' x '.join(map(str, image.shape[1:]))} voxels; legal are volumes. Stack "
            "the slices of a patient, or export them as pictures (.png, .tif) with masks."
        )
    legal = 3 if is_picture else channels or 1
    if len(files) == 1 and len(image) != legal:
        raise ValueError(
            f"{files[0]} has {len(image)} channels or time points behind its three axes; legal is {legal}. If they are "
            "contrasts, name them in dataset.json (channel_names, or modality); if it is a series, save the frames "
            "that are labelled as images of their own."
        )


def _check_values(label: Any, file: str) -> None:
    """A label map, which has few values."""
    number = len(np.unique(np.asarray(label)))
    if number > 2 and ending(file) in ("jpg", "jpeg"):
        raise ValueError(
            f"{file} holds {number} values: JPEG changes the numbers of classes. Save label maps without loss, as .png."
        )
    if number > _MOST_VALUES:
        raise ValueError(
            f"{file} holds {number} values; legal are at most {_MOST_VALUES} classes. It is an image, or a label map "
            "that was interpolated or compressed as JPEG: export it again, resampled by nearest neighbour, as .nii.gz "
            "or .png."
        )


def _facts(name: str, loaded: dict[Any, Any], is_picture: bool) -> CaseFacts:
    image, label = loaded["image"], loaded["label"]
    channels = np.asarray(image, dtype=np.float64)
    step = 2 if min(channels.shape[1:]) > _LARGE else 1
    coarse = channels[(slice(None), *[slice(None, None, step)] * (channels.ndim - 1))]
    filled = np.stack([filling_mask(channel) for channel in coarse])
    intensities = []
    for channel, mask in zip(coarse, filled, strict=True):
        low, median, high = np.percentile(channel[~mask] if not mask.all() else channel, _PERCENTILES)
        intensities.append((float(f"{low:.5g}"), float(f"{median:.5g}"), float(f"{high:.5g}")))
    size = np.array(channels.shape[1:])
    content = np.minimum(step * _box(np.logical_not(filled.all(axis=0))), size)
    spacing, axes, order = np.array([]), "", np.arange(len(size))
    if not is_picture:
        affine = np.asarray(image.affine)
        order = nib.orientations.io_orientation(affine)[:, 0].astype(int).argsort()
        spacing = spacing_mm(image.affine)[order]
        axes = "".join(str(axis or "?") for axis in nib.orientations.aff2axcodes(affine))
    values, counts = np.unique(np.asarray(label).round().astype(int), return_counts=True)
    return CaseFacts(
        name=name,
        size=tuple(size[order].tolist()),
        content=tuple(content[order].tolist()),
        spacing_mm=tuple(float(f"{value:.5g}") for value in spacing),
        axes=axes,
        channels=len(channels),
        intensities=tuple(intensities),
        filling=round(float(filled[0].mean()), 4),
        labels={int(value): int(count) for value, count in zip(values, counts, strict=True) if value != 0},
    )


def _box(mask: Any) -> np.ndarray:
    """Voxels along each axis of the box that holds a mask."""
    sides = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        hits = np.flatnonzero(mask.any(axis=others))
        sides.append(hits[-1] - hits[0] + 1 if len(hits) else mask.shape[axis])
    return np.array(sides)
