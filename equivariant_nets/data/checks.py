"""Dictionary transforms that turn bad input into one clear error that names the file."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ImageMetaKey

from equivariant_nets.data.geometry import affine_distance_voxels, spacing_mm
from equivariant_nets.data.notices import warn_once
from equivariant_nets.data.spacing import check_spacing

__all__ = ["CheckVolumed"]

_logger = logging.getLogger(__name__)

SHAPES = {
    2: ("(C, W, H), a channel axis and two spatial axes", "Give a 2-D image"),
    3: ("(C, D, H, W), a channel axis and three spatial axes", "Give a 3-D volume rather than a slice"),
}
CHANNEL_FILES = "channel_files"  # in the metadata of an image of several files: the file of each channel
_ROUNDING = 1e-3  # of a label that a slope (scl_slope) or another program's arithmetic makes no whole number
_MAX_LISTED = 5


class CheckVolumed(MapTransform):
    """Check loaded volumes, and their label where there is one, and return them, but for rounding, unchanged.

    It stands behind :class:`LoadVolumed`, where arrays are channel first, (C, D, H, W), and still have the values of
    the file. Tensors with metadata, plain tensors and arrays are legal; without metadata no affine is compared, and no
    spacing checked. A spacing that costs accuracy is logged as a warning.

    Labels within a thousandth of a whole number become it. All files of an item get the affine of the first image,
    from which theirs may differ by a tenth of a voxel.

    Args:
        image_keys: keys of the images. Each is numeric, finite, of ``spatial_dims`` spatial axes, and no channel is
            constant. All of them have one spatial shape and affine.
        label_key: key of the label map: one channel of whole numbers on the images' grid. Data without this key, as
            at inference, passes.
        num_channels: channels that each image must have.
        num_classes: number of classes with the background, so that labels are 0 to ``num_classes - 1``. None accepts
            every label from 0.
        spatial_dims: 3, or 2 for images (C, W, H).
        of_head: whether volumes must have a spacing that MRI of a head can have.

    Raises:
        ValueError: on call, an image or label is not as above.
        KeyError: on call, an image is not in the data.
    """

    def __init__(
        self,
        image_keys: KeysCollection,
        label_key: Hashable | None = None,
        num_channels: int = 1,
        num_classes: int | None = None,
        spatial_dims: int = 3,
        of_head: bool = True,
    ) -> None:
        super().__init__(image_keys)
        self.label_key = label_key
        self.num_channels = num_channels
        self.num_classes = num_classes
        self.spatial_dims = spatial_dims
        self.of_head = of_head

    def __repr__(self) -> str:  # MONAI names the transform that failed
        return f"CheckVolumed(image_keys={self.keys}, label_key={self.label_key!r})"

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        reference = d.get(self.keys[0])
        reference_name = describe_volume(reference, self.keys[0])
        for key in self.key_iterator(d):
            array = _checked_array(d[key], key, self.num_channels, self.spatial_dims)
            _check_not_constant(array, d[key], key)
            if self.spatial_dims == 3 and self.of_head:
                _check_spacing(d[key], key)
            check_same_grid(reference, d[key], reference_name, describe_volume(d[key], key))
            d[key] = _with_affine_of(reference, d[key])
        if self.label_key is not None and self.label_key in d:
            label = d[self.label_key]
            check_label(label, self.label_key, self.num_classes, self.spatial_dims)
            check_same_grid(reference, label, reference_name, describe_volume(label, self.label_key))
            d[self.label_key] = _with_affine_of(reference, round_label(label))
        return d


def _with_affine_of(reference: Any, other: Any) -> Any:
    """A volume with the affine of another, where both have one: what resamples both must not see two grids."""
    if other is reference or not (isinstance(reference, MetaTensor) and isinstance(other, MetaTensor)):
        return other
    if torch.equal(reference.affine, other.affine):
        return other
    moved = other.clone()
    moved.affine = reference.affine.clone()
    return moved


def _check_spacing(volume: Any, key: Hashable) -> None:
    if not isinstance(volume, MetaTensor):
        return
    name = describe_volume(volume, key)
    try:
        warning = check_spacing(spacing_mm(volume.affine), volume.shape[1:])
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if warning:
        warn_once(_logger, f"{name}: {warning}")


def round_label(label: Any) -> Any:
    """A label map whose values within a thousandth of a whole number are that number; others are as they were."""
    if isinstance(label, torch.Tensor):
        if not label.is_floating_point():
            return label
        whole = label.round()
        return torch.where((label - whole).abs() <= _ROUNDING, whole, label)
    whole = np.round(label)
    return np.where(np.abs(label - whole) <= _ROUNDING, whole, label).astype(np.asarray(label).dtype)


def check_label(label: Any, key: Hashable, num_classes: int | None = None, spatial_dims: int = 3) -> None:
    """Check a loaded label map alone; see :class:`CheckVolumed`.

    Raises:
        ValueError: it is not one channel of the whole numbers from 0 to ``num_classes - 1``.
    """
    array = _checked_array(label, key, 1, spatial_dims)
    _check_label_values(round_label(array), describe_volume(label, key), num_classes)


def describe_volume(value: Any, key: Hashable, channel: int | None = None) -> str:
    """How errors call a volume: by its key, and the file, that of the channel, where the metadata names one."""
    meta = value.meta if isinstance(value, MetaTensor) else {}
    file = meta.get(ImageMetaKey.FILENAME_OR_OBJ)
    if channel is not None:
        file = meta.get(CHANNEL_FILES, [file] * (channel + 1))[channel]
    return f"{key} {file}" if file else f"{key} (no file name known)"


def _checked_array(value: Any, key: Hashable, num_channels: int, spatial_dims: int) -> np.ndarray:
    name = describe_volume(value, key)
    array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name}: the data type is {array.dtype}; legal are real numbers. Load the file before this check, or "
            "export it with a scalar integer or float type."
        )
    spatial_shape = array.shape[1:]
    if len(spatial_shape) != spatial_dims or min(spatial_shape) < 2:
        legal, advice = SHAPES[spatial_dims]
        raise ValueError(
            f"{name}: the shape is {array.shape}; legal is {legal} of at least 2 voxels. {advice}, loaded with the "
            "channel first."
        )
    if array.shape[0] != num_channels:
        raise ValueError(
            f"{name}: the number of channels is {array.shape[0]}; legal is {num_channels}. Give a file with "
            f"{num_channels} channel(s), such as one time point or one modality of a 4-D file, or set num_channels."
        )
    for channel, volume in enumerate(array):
        if num_bad := volume.size - np.count_nonzero(np.isfinite(volume)):
            raise ValueError(
                f"{describe_volume(value, key, channel)}: {num_bad} of {volume.size} voxels are NaN or infinite"
                f"{f' in channel {channel}' if num_channels > 1 else ''}; legal are finite values. Replace these "
                "voxels, by 0 for example, and save the file again."
            )
    return array


def _check_not_constant(array: np.ndarray, value: Any, key: Hashable) -> None:
    for channel, volume in enumerate(array):
        if volume.min() == volume.max():
            raise ValueError(
                f"{describe_volume(value, key, channel)}: all voxels of channel {channel} are {volume.flat[0]:g}; an "
                "image must not be constant. Check that the file was exported with its content."
            )


def _check_label_values(array: np.ndarray, name: str, num_classes: int | None) -> None:
    limit = np.inf if num_classes is None else num_classes - 1
    bad = np.unique(array[(array != np.round(array)) | (array < 0) | (array > limit)])
    if bad.size:
        legal = "whole numbers from 0" + ("" if num_classes is None else f" to {num_classes - 1}")
        raise ValueError(
            f"{name}: the label values {listed_values(bad)} are not legal; legal are {legal}. Map the labels to these "
            "classes, and resample label maps with nearest-neighbour interpolation only."
        )


def listed_values(values: np.ndarray) -> str:
    """The first values, each in as many digits as tell it from every other of its type."""
    listed = [str(value).removesuffix(".0") for value in values[:_MAX_LISTED]]
    return ", ".join(listed) + (", ..." if len(values) > _MAX_LISTED else "")


def check_same_grid(reference: Any, other: Any, reference_name: str, name: str) -> None:
    """Check that two channel-first volumes have one spatial shape and, where both have metadata, one affine, but for
    a tenth of a voxel at their corners.

    Raises:
        ValueError: they have not; the message calls them by the names given.
    """
    if tuple(reference.shape[1:]) != tuple(other.shape[1:]):
        raise ValueError(
            f"{name}: the spatial shape is {tuple(other.shape[1:])}; legal is {tuple(reference.shape[1:])}, that of "
            f"{reference_name}. Check that the files belong to one case, or resample one to the grid of the other."
        )
    if not (isinstance(reference, MetaTensor) and isinstance(other, MetaTensor)):
        return
    if distance := affine_distance_voxels(reference.affine, other.affine, reference.shape[1:]):
        difference = float(np.abs(np.asarray(reference.affine) - np.asarray(other.affine)).max())
        raise ValueError(
            f"{name}: the affine differs from that of {reference_name} by up to {difference:g} mm, which moves a "
            f"corner of the volume by {distance:.3g} voxels; legal is a tenth of a voxel. Check that the files belong "
            "to one case, or resample one to the grid of the other."
        )
