"""Intensities that depend on the content of a volume, and on nothing that a canvas adds to it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.data import get_track_meta
from monai.transforms import MapTransform
from monai.utils import convert_to_tensor
from scipy import ndimage

__all__ = ["NormalizeContentd", "ZeroBackgroundd", "filling_mask", "is_content"]

_BORDER_SHARE = 0.1  # of the voxels at the border that filling takes at least; tissue takes 0.025 of them by one value
_TOLERANCE = 0.01  # of the distance of content from it: splines ring, and lossy files are not constant
_RIM = 2  # voxels where content and filling are mixed by interpolation
_OUTLIER = 5.0
_LEAST = 1e-3  # so that no content is 0, as filling is
_DEVIATIONS = 3.29  # from the 5th to the 95th percentile of a normal distribution
_RING = 0.12  # of the distance of content from filling, the most by which cubic splines ring, and other kernels less
_GAP = 0.5  # of the range of the content; 0.35 in BraTS 2021, 0.17 in MICCAI 2012
_RINGS = 4  # voxels that they reach


def filling_mask(volume: np.ndarray) -> np.ndarray:
    """Where a volume holds no content: what a turned, padded or skull-stripped one is filled with.

    Filling is one value, whichever, that a tenth or more of the voxels at the border have, and what is connected with
    it there. A value counts as this one within a hundredth of the distance of the content from it. Dark voxels inside
    are content, and so is everything in a volume that was cut out of a larger one.

    Args:
        volume: ``(D, H, W)``, of finite values.

    Returns:
        booleans ``(D, H, W)``.
    """
    values = np.asarray(volume, dtype=np.float64)
    shell = np.ones(values.shape, dtype=bool)
    shell[(slice(1, -1),) * values.ndim] = False
    border = np.sort(values[shell])
    least = max(2, int(np.ceil(_BORDER_SHARE * border.size)))
    if least > border.size:
        return np.zeros(values.shape, dtype=bool)
    widths = border[least - 1 :] - border[: border.size - least + 1]
    densest = int(widths.argmin())  # the shortest interval with a tenth of the border
    distance = np.abs(values - border[densest : densest + least].mean())
    tolerance = _TOLERANCE * _content_distance(distance)
    if widths[densest] > tolerance:
        return np.zeros(values.shape, dtype=bool)
    parts, count = ndimage.label(distance <= tolerance)
    at_border = np.zeros(count + 1, dtype=bool)
    at_border[parts[shell]] = True
    at_border[0] = False
    return at_border[parts]


def _content_distance(distance: np.ndarray) -> float:
    """The mean distance of the content from filling, weighted by itself: filling counts nothing, however much of it,
    even where it is not constant. Outliers are cut."""
    others = distance[distance > 0]
    if not others.size:
        return 0.0
    others = np.minimum(others, np.percentile(others, 99))
    return float(np.square(others).sum() / others.sum())


class NormalizeContentd(MapTransform):
    """The content of a volume about its median, in units of its range; filling, and nothing else, becomes 0.

    y = 3.29 (x - median) / (95th - 5th percentile), cut at -5 and 5: a standard deviation is about 1. The percentiles
    are those of the content (see :func:`filling_mask`), without the two voxels beside filling and the border of the
    canvas, where interpolation mixes them. So margins that are added, or cut off again, another value of the filling,
    and another unit of intensity leave the values of the content as they were.

    Args:
        keys: of images ``(C, D, H, W)``, of which each channel is normalized by itself.
        allow_missing_keys: whether a key may be absent.

    Returns:
        the item, with images of the same shape in float32.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return _each_channel(_normalized, self, data)


def _each_channel(
    function: Callable[[np.ndarray], np.ndarray], transform: MapTransform, data: Mapping[Hashable, Any]
) -> dict[Hashable, Any]:
    """A function of volumes applied to each channel of the images of an item, which keep their metadata."""
    d = dict(data)
    for key in transform.key_iterator(d):
        image = convert_to_tensor(d[key], track_meta=get_track_meta())
        channels = np.asarray(convert_to_tensor(image, track_meta=False).cpu(), dtype=np.float64)
        result = image.float().clone()
        result[:] = torch.from_numpy(np.stack([function(channel) for channel in channels])).to(result)
        d[key] = result
    return d


def _normalized(values: np.ndarray) -> np.ndarray:
    filling = filling_mask(values)
    content = ~filling
    if not content.any():  # constant
        return np.zeros(values.shape)
    inner = ndimage.binary_erosion(content, iterations=_RIM)
    low, median, high = np.percentile(values[inner if inner.any() else content], (5, 50, 95))
    spread = (high - low) / _DEVIATIONS or 1.0
    normalized = np.clip((values - median) / spread, -_OUTLIER, _OUTLIER)
    normalized[np.abs(normalized) < _LEAST] = _LEAST
    return np.where(filling, 0.0, normalized)


class ZeroBackgroundd(MapTransform):
    """The background of a skull-stripped volume becomes 0, and its content more than 0, whatever wrote the file.

    Transforms that take what is not 0 for the content (``CropForegroundd``, ``NormalizeIntensityd`` with ``nonzero``)
    then find the same content in a volume whose background is another value than 0, whose content has values on both
    sides of it (standardised within its mask), and that splines have resampled, which ring about the background: voxels
    within four of the filling that differ little from it are background where splines rang, and so is all that is not
    connected with the largest part of the content.

    Args:
        keys: of images ``(C, D, H, W)``, of which each channel is treated by itself.
        allow_missing_keys: whether a key may be absent.

    Returns:
        the item, with images of the same shape in float32. Where the background was 0 and the least value, and not
        further below the content than half of its range, the content keeps its values; otherwise they are shifted.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return _each_channel(_zeroed, self, data)


def _zeroed(values: np.ndarray) -> np.ndarray:
    filling = filling_mask(values)
    if not filling.any() or filling.all():
        return values - values.min()
    background = float(np.median(values[filling]))
    content = _content_with_rings(values - background, filling)
    low, first, high = np.percentile(values[content], (0.1, 1, 99.9))
    # Interpolation would smear a gap between background and content. Brains as they are stripped have less than this.
    base = background if background <= first and low - background <= _GAP * (high - low) else low
    return np.where(content, np.maximum(values - base, _LEAST * (high - base)), 0.0)


def _content_with_rings(difference: np.ndarray, filling: np.ndarray) -> np.ndarray:
    """What is not filling, by the difference from it; where splines rang, its largest part, without the rings.

    They did where values lie a little on the other side of the filling than the content does.
    """
    side = np.sign(np.median(difference[~filling]))
    across = difference * side < 0
    scale = _RING * _content_distance(np.abs(difference))
    if not (across & ~filling).any() or np.median(np.abs(difference[across & ~filling])) > scale:
        return ~filling
    near = ndimage.binary_dilation(filling, iterations=_RINGS) & (difference * side < scale)
    parts, count = ndimage.label(~ndimage.binary_propagation(filling, mask=filling | near))
    return parts == 1 + np.bincount(parts.ravel())[1:].argmax() if count else ~filling


def is_content(normalized: torch.Tensor) -> torch.Tensor:
    """Where an image that :class:`NormalizeContentd` returned is not filling, for ``CropForegroundd``: booleans of the
    same shape."""
    return normalized != 0
