"""Clicks as channels of an image: one channel for each label, with a Gaussian at each click."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import MetaKeys
from torch import Tensor

from equivariant_nets.data.checks import describe_volume
from equivariant_nets.data.filling import is_content

__all__ = ["AddClickGuidanced", "add_click", "check_label_names", "check_sigma", "checked_clicks", "click_signal"]


class AddClickGuidanced(MapTransform):
    """Puts clicks behind the image as channels, one for each label, zero where there is no click.

    MONAI Label and :func:`equivariant_nets.interaction.with_clicks` put the clicks of each label under its name into
    the item, as voxel indices of the file. They are taken out of it, and follow the image through whatever changed
    its orientation, spacing or size by its affines. MONAI's ``AddGuidanceFromPointsDeepEditd`` only scales them by the
    sizes of the volume, which mirrors the clicks of a reoriented one, and its ``AddGuidanceSignalDeepEditd`` rounds
    them to voxels and makes the first click weaker when a second is close to it.

    Where the image has channels for the clicks already, they are replaced.

    Args:
        keys: keys of the images, ``(C, D, H, W)``, loaded by ``LoadVolumed``.
        label_names: the value in a label map of each name, in the order of the channels.
        sigma: standard deviation of the Gaussian at a click, in voxels of the image as it is now; these are isotropic
            behind ``Spacingd``.
        image_channels: number of channels of the image itself.
        within_content: no signal where all channels of the image are 0, as ``NormalizeContentd`` leaves the filling of
            a turned file, so that a network that normalizes over content sees the same content with clicks.
        allow_missing_keys: do not raise if a key is missing.

    Returns:
        the item, each image of shape ``(image_channels + len(label_names), D, H, W)``, without the clicks.

    Raises:
        ValueError: names or values of labels are not legal, or sigma is not positive. On call: a click does not have
            three finite coordinates inside the file's volume, all clicks stand under unknown names, or the image has
            lost the affine of its file.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_names: Mapping[str, int],
        sigma: float = 2.0,
        image_channels: int = 1,
        within_content: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.within_content = within_content
        self.label_names = check_label_names(label_names)
        self.sigma = check_sigma(sigma)
        self.image_channels = image_channels

    def __repr__(self) -> str:  # MONAI names the transform that failed
        return f"AddClickGuidanced(keys={self.keys}, label_names={self.label_names})"

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        clicks = {name: d.pop(name, None) for name in self.label_names}
        if not any(len(points) for points in clicks.values() if points is not None):
            self._check_other_names(d)
        for key in self.key_iterator(d):
            image = torch.as_tensor(d[key])
            signals = [self._signal(image, key, name, points) for name, points in clicks.items()]
            image = image[: self.image_channels]
            signal = torch.stack(signals).to(image)
            d[key] = torch.cat([image, signal * content_of_image(image) if self.within_content else signal])
        return d

    def _check_other_names(self, data: Mapping[Hashable, Any]) -> None:
        """A client that knows other labels must not get an automatic segmentation in silence."""
        if unknown := [key for key, value in data.items() if key not in self.keys and _looks_like_clicks(value)]:
            raise ValueError(
                f"There are clicks under {', '.join(map(repr, unknown))}; the labels that can be clicked are "
                f"{', '.join(map(repr, self.label_names))}. Send the clicks under these names."
            )

    def _signal(self, image: Tensor, key: Hashable, name: str, points: Any) -> Tensor:
        size = tuple(image.shape[1:])
        if points is None or not len(points):
            return click_signal(size, [], self.sigma)
        where = describe_volume(image, key)
        if not isinstance(image, MetaTensor) or not {MetaKeys.ORIGINAL_AFFINE, MetaKeys.SPATIAL_SHAPE} <= set(
            image.meta
        ):
            raise ValueError(
                f"{where}: the metadata of its file is lost, so there is no telling where the clicks lie. Load the "
                "image by LoadVolumed, with metadata tracked."
            )
        file_size = tuple(int(n) for n in image.meta[MetaKeys.SPATIAL_SHAPE])
        file_points = checked_clicks(points, name, file_size, where)
        to_image = np.linalg.solve(_matrix(image.affine), _matrix(image.meta[MetaKeys.ORIGINAL_AFFINE]))
        return click_signal(size, file_points @ to_image[:3, :3].T + to_image[:3, 3], self.sigma)


def click_signal(size: Sequence[int], points: Any, sigma: float) -> Tensor:
    """The channel of some clicks: at each voxel x the highest of exp(-|x - p|^2 / (2 sigma^2)) over the clicks p.

    It is 1 at a click that lies on a voxel, however many there are, and turns with the clicks.

    Args:
        size: ``(D, H, W)``.
        points: clicks ``(n, 3)`` in voxels, not necessarily whole; there may be none.
        sigma: in voxels.

    Returns:
        ``(D, H, W)``, float32, zero without clicks.
    """
    signal = torch.zeros(tuple(size))
    for point in np.asarray(points, dtype=float).reshape(-1, 3):
        # A Gaussian is the product of its profiles along the axes.
        along = [torch.exp(-((torch.arange(n) - x) ** 2) / (2 * sigma**2)) for n, x in zip(size, point, strict=True)]
        signal = torch.maximum(signal, along[0][:, None, None] * along[1][:, None] * along[2])
    return signal


def add_click(
    image: Tensor, channel: int, point: Sequence[float], sigma: float, within: Tensor | None = None
) -> Tensor:
    """A copy of an image ``(C, D, H, W)`` with one more click, in voxels, in one of its channels.

    The signal is cut off outside ``within``, booleans ``(1, D, H, W)``.
    """
    clicked = image.clone()
    signal = click_signal(tuple(image.shape[1:]), [point], sigma).to(image)
    clicked[channel] = torch.maximum(image[channel], signal if within is None else signal * within[0])
    return clicked


def content_of_image(image: Tensor) -> Tensor:
    """Where not all channels of an image ``(C, D, H, W)`` are 0, ``(1, D, H, W)``."""
    return is_content(image).any(0, keepdim=True)


def check_sigma(sigma: float) -> float:
    """The width of a click in voxels, once it is clear that it is one.

    Raises:
        ValueError: it is not positive and finite.
    """
    if not np.isfinite(sigma) or sigma <= 0:
        raise ValueError(f"sigma={sigma!r} is not legal: give the width of a click in voxels, above 0.")
    return sigma


def check_label_names(label_names: Mapping[str, int]) -> dict[str, int]:
    """A checked copy of label names with their values.

    Raises:
        ValueError: there is no name, one is not in lower case, or two have the same value.
    """
    names = dict(label_names)
    if not names or len(set(names.values())) < len(names) or any(name != name.lower() for name in names):
        raise ValueError(
            f"label_names={names!r} is not legal: give each label a value of its own and a name in lower case, as "
            'MONAI Label does, such as {"spleen": 1, "background": 0}.'
        )
    return names


def checked_clicks(points: Any, name: str, size: tuple[int, ...], where: str) -> np.ndarray:
    """Clicks as an array ``(n, 3)`` of voxel indices in a volume.

    Args:
        points: what should be a sequence of three coordinates each.
        name: the label.
        size: ``(D, H, W)`` of the volume.
        where: names the volume in the error.

    Raises:
        ValueError: a click does not have three finite coordinates, or lies outside the volume.
    """
    for point in points:
        try:
            position = np.array(point, dtype=float)
        except (TypeError, ValueError):
            position = np.empty(0)
        if position.shape != (3,) or not np.isfinite(position).all():
            raise ValueError(
                f"{where}: a click on {name!r} is {point!r}; legal are three finite voxel indices, such as [10, 20, 5]."
            )
        if not ((position >= -0.5) & (position <= np.array(size) - 0.5)).all():
            legal = " x ".join(f"0 to {n - 1}" for n in size)
            raise ValueError(
                f"{where}: the click {point!r} on {name!r} lies outside the volume; legal voxel indices are {legal}. "
                "Clicks are voxel indices of the file, not millimetres."
            )
    return np.array(points, dtype=float).reshape(-1, 3)


def _looks_like_clicks(value: Any) -> bool:
    def is_point(point: Any) -> bool:
        return isinstance(point, list | tuple) and len(point) == 3 and all(isinstance(x, int | float) for x in point)

    return isinstance(value, list | tuple) and len(value) > 0 and all(map(is_point, value))


def _matrix(affine: Any) -> np.ndarray:
    return np.asarray(affine, dtype=float)
