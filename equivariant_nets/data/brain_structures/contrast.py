"""Contrasts that a training set does not have, drawn anew for the regions of a whole-brain label map."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform, SpatialResample
from monai.utils import convert_to_dst_type, convert_to_tensor

from equivariant_nets.data.brain_structures.labels import LABEL_TABLES, regions_without_sides
from equivariant_nets.data.checks import check_label, describe_volume

__all__ = ["BrainRegionsd", "RandRegionContrastd"]

_LEAST = 1e-3  # of the unit of intensity: no content is 0, as the background is
_DARKEST = 0.05  # of the unit, that a region may have


class BrainRegionsd(MapTransform):
    """Keep the regions of a whole-brain label map, on the grid of the file, and their mean intensities.

    Left and right of a structure are one region. Content without a label, much of it cerebrospinal fluid, is one too,
    so a label map without white matter and cortex has few regions to draw contrasts of.

    It stands behind ``ZeroBackgroundd``, on whose images content is more than 0, and before ``StructuresFromLabelsd``.
    Data without the label, as at inference, passes.

    Args:
        keys: key of the label map, ``(1, D, H, W)``, on the grid of the image.
        image_key: key of the image, ``(1, D, H, W)``.
        convention_key: key of the convention of the values, a key of ``LABEL_TABLES``.

    Returns:
        the item with ``regions``, int16 ``(1, D, H, W)``: 0 is the background, 1, 2, ... the regions; and
        ``region_means``, float32, one for each of these values, that of the background 0.

    Raises:
        ValueError: on call, the label map is not one channel of whole numbers from 0, the image has another shape, or
            the convention is missing or unknown.
    """

    def __init__(
        self, keys: KeysCollection = "label", image_key: Hashable = "image", convention_key: Hashable = "convention"
    ) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.image_key = image_key
        self.convention_key = convention_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            check_label(d[key], key)
            label, image = (convert_to_tensor(d[name], track_meta=False) for name in (key, self.image_key))
            name, convention = describe_volume(d[key], key), d.get(self.convention_key)
            if label.shape != image.shape:
                raise ValueError(
                    f"{name}: the shape is {tuple(label.shape)}, that of {self.image_key!r} {tuple(image.shape)}; "
                    "legal is one shape (1, D, H, W). Put BrainRegionsd before what resamples or crops one of them."
                )
            if convention not in LABEL_TABLES:
                raise ValueError(
                    f"{name}: the item's {self.convention_key!r} is {convention!r}; legal are "
                    f"{' and '.join(LABEL_TABLES)}. Set it to the numbering of the label map."
                )
            content = image > 0
            codes = regions_without_sides(label[content].round().long(), convention)
            values, region = torch.unique(codes, return_inverse=True)
            regions = torch.zeros(label.shape, dtype=torch.int16, device=label.device)
            regions[content] = (region + 1).to(torch.int16)
            sums = torch.bincount(region, weights=image[content].double(), minlength=len(values))
            means = (sums / torch.bincount(region, minlength=len(values))).float()
            d["regions"] = convert_to_dst_type(regions, d[key], dtype=torch.int16)[0]
            d["region_means"] = torch.cat([means.new_zeros(1), means])
        return d


class RandRegionContrastd(RandomizableTransform, MapTransform):
    """Give the regions of a skull-stripped brain other mean intensities, and their texture another gain.

    y = (1 - w) x + w (r + t (x - m)), where x is the intensity, m the mean of its region, r the drawn one, and t a
    random gain from -1 to 1. r follows a piecewise linear curve of m through random values at equal distances, which
    rises and falls, and so exchanges bright and dark tissue, as T2 does against T1; to it comes a step of each region,
    normally distributed, which parts or hides neighbours of one tissue. Both sides of a structure have one step. m and
    r are brought from the file's grid to that of the image linearly, so that voxels at a border hold both of its sides.

    It needs ``regions`` and ``region_means`` of :class:`BrainRegionsd`, and an image whose background is 0 and whose
    content is more, in the unit that it had there; the output is such an image.

    Args:
        keys: of images ``(1, D, H, W)``, on any grid within that of the regions.
        prob: probability that an item is changed. All of its images have one curve, and so on.
        knots: values of the curve, at least two.
        step: standard deviation of the steps, in units of the brightest region.

    Raises:
        ValueError: an option is not legal, or, on call, the item has no regions.

    Source: Billot B. et al. SynthSeg: segmentation of brain MRI scans of any contrast and resolution without
    retraining. Medical Image Analysis 86, 102789 (2023), which draws all voxels of a region anew.
    """

    def __init__(self, keys: KeysCollection = "image", prob: float = 0.3, knots: int = 5, step: float = 0.1) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        if knots < 2 or step < 0:
            raise ValueError(
                f"knots={knots} and step={step} are not legal; legal are two knots or more, and a step from 0."
            )
        self.knots = knots
        self.step = step

    def randomize(self, regions: int) -> None:
        """Draw what a brain of so many regions is given."""
        super().randomize(None)
        if self._do_transform:
            self._curve = torch.as_tensor(self.R.uniform(size=self.knots), dtype=torch.float32)
            self._steps = torch.as_tensor(self.R.normal(0, self.step, regions), dtype=torch.float32)
            self._gain = self.R.uniform(-1, 1)
            self._weight = self.R.uniform(0.3, 1)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        if "regions" not in d or "region_means" not in d:
            raise ValueError(
                f"the item holds {', '.join(map(str, d))}; legal is one with 'regions' and 'region_means'. Put "
                "BrainRegionsd before StructuresFromLabelsd."
            )
        means = d["region_means"][1:]
        self.randomize(len(means))
        if not self._do_transform or not len(means):
            return d
        unit = means.max()
        scaled = (means - means.min()) / (unit - means.min()).clamp(min=torch.finfo(means.dtype).tiny)
        drawn = unit * (_interpolated(self._curve.to(means), scaled) + self._steps.to(means)).clamp(_DARKEST, 1)
        values = torch.nn.functional.pad(torch.stack([drawn, means]), (1, 0))
        fields = convert_to_dst_type(values[:, d["regions"][0].long()], d["regions"], dtype=torch.float32)[0]
        for key in self.key_iterator(d):
            image = convert_to_tensor(d[key], track_meta=False).float()
            on_grid = SpatialResample(mode="bilinear", padding_mode="zeros")(
                fields, dst_affine=d[key].affine, spatial_size=image.shape[1:]
            )
            field, mean = convert_to_tensor(on_grid, track_meta=False).to(image).unsqueeze(1)
            changed = torch.lerp(image, field + self._gain * (image - mean), self._weight)
            changed = torch.maximum(changed, image.clamp(max=_LEAST * float(unit)))
            d[key] = convert_to_dst_type(changed * (image > 0), d[key], dtype=torch.float32)[0]
        return d


def _interpolated(curve: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """A curve through values at equal distances from 0 to 1, linear between them."""
    place = at * (len(curve) - 1)
    below = place.floor().long().clamp(max=len(curve) - 2)
    return torch.lerp(curve[below], curve[below + 1], place - below)
