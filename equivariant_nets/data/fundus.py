"""Fundus photographs: the field of view, one appearance for all cameras, and patches by the direction of vessels."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import scipy.ndimage
import torch
from monai.transforms import GaussianSmooth, MapTransform, Randomizable, SpatialCrop
from monai.utils import convert_to_numpy, convert_to_tensor
from torch import Tensor
from torch.utils.data import Dataset

__all__ = ["FieldOfViewd", "NormalizeFundusd", "PatchDataset", "direction_shares"]

GREEN = 1  # the channel in which vessels stand out best
# A photograph is dark outside the field of view: this share of its bright pixels divides the two.
DARK = 0.2
NUM_DIRECTIONS = 4
DOMINANT_SHARE = 0.45
LIT_SHARE = 0.6


class FieldOfViewd(MapTransform):
    """Add the field of view of a fundus photograph, unless it is given: the largest lit region, without holes.

    Args:
        image_key: of photographs ``(3, W, H)``.
        mask_key: of the field of view ``(1, W, H)``, 1 inside and 0 outside; a mask that is there is made 0 and 1.

    Raises:
        ValueError: on call, the photograph shows no lit region.
    """

    def __init__(self, image_key: Hashable = "image", mask_key: Hashable = "mask") -> None:
        super().__init__([image_key])
        self.image_key = image_key
        self.mask_key = mask_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        if self.mask_key in d:
            d[self.mask_key] = (d[self.mask_key] > 0).to(torch.float32)
            return d
        image = d[self.image_key]
        brightness = convert_to_tensor(image, track_meta=False).float().amax(0)
        level = DARK * float(torch.quantile(brightness[::4, ::4], 0.95))
        regions, count = scipy.ndimage.label((brightness > level).cpu().numpy())
        if not count or level <= 0:
            name = getattr(image, "meta", {}).get("filename_or_obj", "A photograph")
            raise ValueError(f"{name} shows no lit region: all of it is dark. Give a colour fundus photograph.")
        largest = regions == np.bincount(regions.flat)[1:].argmax() + 1
        filled = scipy.ndimage.binary_fill_holes(largest)
        mask = image[:1].clone()
        mask[:] = torch.as_tensor(filled).to(mask)
        d[self.mask_key] = mask
        return d


class NormalizeFundusd(MapTransform):
    """The green channel about its local mean, in units of its local deviation, within the field of view; 0 outside.

    Illumination, pigment and camera change slowly over a photograph and between photographs; vessels do not. Windows
    are Gaussian, so that the result turns with the photograph.

    Args:
        image_key: of photographs ``(3, W, H)``, which become ``(1, W, H)``.
        mask_key: of the field of view ``(1, W, H)``.
        sigma: of the window, in pixels.
        rim: pixels at the edge of the field of view, where photographs fade, that count as outside.

    Source: Foracchia et al. 2005, Luminosity and contrast normalization in retinal images.
    """

    def __init__(
        self, image_key: Hashable = "image", mask_key: Hashable = "mask", sigma: float = 100.0, rim: float = 4.0
    ) -> None:
        super().__init__([image_key])
        self.image_key = image_key
        self.mask_key = mask_key
        self.smooth = GaussianSmooth(sigma)
        self.rim = rim

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        image = d[self.image_key]
        green = convert_to_tensor(image, track_meta=False)[GREEN : GREEN + 1].float()
        inside = np.pad(convert_to_numpy(d[self.mask_key][0]) > 0.5, 1)
        depth = scipy.ndimage.distance_transform_edt(inside)[None, 1:-1, 1:-1]
        mask = torch.from_numpy(depth > self.rim).to(green)
        weight = self._smooth(mask).clamp(min=1e-6)
        mean = self._smooth(green * mask) / weight
        centred = (green - mean) * mask
        deviation = (self._smooth(centred.square()) / weight).sqrt()
        floor = 0.1 * float(deviation[mask > 0].median()) + 1e-6 if bool(mask.any()) else 1.0
        result = image[GREEN : GREEN + 1].clone()
        result[:] = centred / deviation.clamp(min=floor)
        d[self.image_key] = result
        return d

    def _smooth(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.smooth(x))


def direction_shares(label: Tensor, sigma: float = 2.0) -> np.ndarray:
    """How the vessels of a patch share the four directions 0-45, 45-90, 90-135 and 135-180 degrees.

    The direction at a vessel pixel is that of its structure tensor, counted from the first spatial axis towards the
    second.

    Args:
        label: vessels ``(1, W, H)``.
        sigma: of the window of the structure tensor, in pixels.

    Returns:
        ``(4,)``, with sum 1; zeros where there are no vessels.
    """
    vessels = convert_to_numpy(label[0], dtype=np.float64)
    smooth = scipy.ndimage.gaussian_filter(vessels, 1.0)
    first, second = np.gradient(smooth)
    products = first * first, first * second, second * second
    xx, xy, yy = (scipy.ndimage.gaussian_filter(product, sigma) for product in products)
    across = 0.5 * np.arctan2(2 * xy, xx - yy)  # of the gradient
    along = np.rad2deg(across + np.pi / 2) % 180
    weight = np.hypot(xx - yy, 2 * xy) * (vessels > 0.5)
    sectors = np.minimum(along // (180 / NUM_DIRECTIONS), NUM_DIRECTIONS - 1).astype(int)
    shares = np.bincount(sectors.ravel(), weight.ravel(), minlength=NUM_DIRECTIONS)
    return shares / shares.sum() if shares.sum() > 0 else shares


class PatchDataset(Dataset, Randomizable):
    """Patches of preprocessed photographs, drawn anew at each access, or from a fixed pool.

    A patch is centred in the field of view, of which it holds at least 60 % of its pixels. Photographs take turns.

    Args:
        data: photographs with an image, a label and a mask, ``(1, W, H)`` each, such as a ``monai.data.CacheDataset``.
        patch_size: of the square patches, in pixels.
        length: of the data set: patches an epoch.
        count: size of the pool that patches are taken from, in turn; drawn anew without end if None.
        directions: those of the four directions of :func:`direction_shares` that may dominate a patch, with a share
            above 0.45; any patch if None.
        transform: of each patch.
        seed: of the pool.
        keys: what is cropped.

    Raises:
        ValueError: a number is not positive, a photograph is smaller than a patch, or no patch fits the directions.
    """

    def __init__(
        self,
        data: Sequence[Mapping[Hashable, Any]],
        patch_size: int,
        length: int,
        count: int | None = None,
        directions: Sequence[int] | None = None,
        transform: Callable[[dict[Hashable, Any]], Any] | None = None,
        seed: int = 0,
        keys: Sequence[Hashable] = ("image", "label", "mask"),
    ) -> None:
        for name, value in {"patch_size": patch_size, "length": length, "count": 1 if count is None else count}.items():
            if value < 1:
                raise ValueError(f"{name}={value} must be 1 or more.")
        if (directions is not None and not set(directions) <= set(range(NUM_DIRECTIONS))) or directions == []:
            raise ValueError(f"directions={directions!r} is not legal; give some of 0, 1, 2 and 3, or None for all.")
        self.data = data
        self.patch_size = patch_size
        self.length = length
        self.count = count
        self.directions = directions
        self.transform = transform
        self.seed = seed
        self.keys = tuple(keys)
        self._pool: list[dict[Hashable, Any]] | None = None
        self._centres: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return self.length

    def randomize(self, data: Any = None) -> None:
        """Nothing is drawn ahead: each access draws."""

    def __getitem__(self, index: int) -> Any:
        if self.count is None:
            patch = self._draw(index, self.R)
        else:
            if self._pool is None:
                random_state = np.random.RandomState(self.seed)
                self._pool = [self._draw(number, random_state) for number in range(self.count)]
            patch = dict(self._pool[index % self.count])
        return patch if self.transform is None else self.transform(patch)

    def _draw(self, number: int, random_state: np.random.RandomState) -> dict[Hashable, Any]:
        """A patch of photograph ``number``; of the next one that has any, where it has none."""
        for offset in range(len(self.data)):
            index = (number + offset) % len(self.data)
            item = self.data[index]
            centres = self._centres_of(index, item)
            for _ in range(200 if len(centres) else 0):
                patch = self._crop(item, centres[random_state.randint(len(centres))])
                if self.directions is None or self._has_direction(patch):
                    return patch
        raise ValueError(
            f"No patch of {self.patch_size} pixels was found in {len(self.data)} photographs with "
            f"directions={self.directions}. Choose smaller patches, or more directions."
        )

    def _has_direction(self, patch: Mapping[Hashable, Any]) -> bool:
        shares = direction_shares(patch["label"])
        return int(shares.argmax()) in (self.directions or ()) and shares.max() > DOMINANT_SHARE

    def _centres_of(self, index: int, item: Mapping[Hashable, Any]) -> np.ndarray:
        """Centres of legal patches, ``(n, 2)``."""
        if index not in self._centres:
            mask = torch.as_tensor(item["mask"]).float()
            if min(mask.shape[1:]) < self.patch_size:
                raise ValueError(
                    f"patch_size={self.patch_size} exceeds a photograph of {tuple(mask.shape[1:])} pixels; choose "
                    "smaller patches."
                )
            corners = np.pad(convert_to_numpy(mask[0], dtype=np.float64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
            size = self.patch_size
            pixels = corners[size:, size:] - corners[:-size, size:] - corners[size:, :-size] + corners[:-size, :-size]
            self._centres[index] = np.argwhere(pixels >= LIT_SHARE * size**2) + size // 2
        return self._centres[index]

    def _crop(self, item: Mapping[Hashable, Any], centre: np.ndarray) -> dict[Hashable, Any]:
        crop = SpatialCrop(roi_center=centre, roi_size=[self.patch_size] * 2)
        return {key: crop(item[key]) for key in self.keys}
