"""Contrasts that a training set does not have, drawn anew for the regions of a whole-brain label map."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.networks.layers import GaussianFilter
from monai.transforms import MapTransform, RandomizableTransform
from monai.utils import convert_to_dst_type, convert_to_tensor

__all__ = ["RandRegionContrastd"]

_LEAST = 1e-3  # of the range of the content: so that no content is 0, as the background is


class RandRegionContrastd(RandomizableTransform, MapTransform):
    """Give the regions of a skull-stripped brain other mean intensities, and leave the texture within them.

    y = (1 - w) x + w (smoothed (f(m) + s) + t (x - m)), where x is the intensity in units of the content's range, m
    its mean over the region, f a piecewise linear curve through random values at equal distances, which rises and
    falls; s a step of each region, normally distributed; t a random gain. One w is drawn for a brain. The curve
    exchanges bright and dark tissue, as T2 does against T1; the steps part or hide neighbours of one tissue. The means
    are smoothed, since voxels at a border hold both regions.

    Its input is an image whose background is 0 and whose content is more, as of ``ZeroBackgroundd``, and so is its
    output, which spans the range that the image had; the background is not touched. Voxels of no label in the brain
    are a region like others.

    Args:
        keys: of images ``(1, D, H, W)``.
        region_key: of the map of regions, ``(1, D, H, W)``, on the grid of the image.
        prob: probability that a brain is changed.
        knots: values of the curve, at least two.
        step: standard deviation of the steps, in units of the content's range.
        smoothing: standard deviation of the filter of the means, in voxels.

    Raises:
        ValueError: an option is not legal; on call, an image has not one channel, or its regions another shape.

    Source: Billot B. et al. SynthSeg: segmentation of brain MRI scans of any contrast and resolution without
    retraining. Medical Image Analysis 86, 102789 (2023), which draws all voxels of a region anew.
    """

    def __init__(
        self,
        keys: KeysCollection = "image",
        region_key: Hashable = "regions",
        prob: float = 0.3,
        knots: int = 5,
        step: float = 0.1,
        smoothing: float = 0.6,
    ) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        if knots < 2 or step < 0 or smoothing < 0:
            raise ValueError(
                f"knots={knots}, step={step}, smoothing={smoothing} are not legal; legal are two knots or more, and "
                "a step and a smoothing from 0."
            )
        self.region_key = region_key
        self.knots = knots
        self.step = step
        self.smoothing = smoothing

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return d
        regions = convert_to_tensor(d[self.region_key], track_meta=False)
        for key in self.key_iterator(d):
            image = convert_to_tensor(d[key], track_meta=False)
            if image.shape[0] != 1 or image.shape != regions.shape:
                raise ValueError(
                    f"{key!r} has the shape {tuple(image.shape)} and {self.region_key!r} {tuple(regions.shape)}; legal "
                    "is one shape (1, D, H, W) of both. Resample the regions to the grid of the image "
                    "(ResampleToMatchd, nearest)."
                )
            if (image > 0).any():
                d[key] = convert_to_dst_type(
                    self._changed(image[0].float(), regions[0].to(image.device))[None], d[key]
                )[0]
        return d

    def _changed(self, image: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
        content = image > 0
        values = image[content]
        low, high = torch.quantile(values, torch.tensor([0.01, 0.99]).to(values))
        values = (values - low) / (high - low).clamp(min=_LEAST)
        codes, region = torch.unique(regions[content].long(), return_inverse=True)
        means = torch.bincount(region, weights=values) / torch.bincount(region)
        curve = torch.as_tensor(self.R.uniform(size=self.knots)).to(means)
        drawn = _interpolated(curve, means) + torch.as_tensor(self.R.normal(0, self.step, len(codes))).to(means)
        texture = self.R.uniform(-1, 1) * (values - means[region])
        weight = self.R.uniform(0.3, 1)
        changed = (1 - weight) * values + weight * (self._smoothed(drawn[region], content) + texture)
        least, most = changed.min(), changed.max()
        changed = ((changed - least) / (most - least).clamp(min=_LEAST)).clamp(min=_LEAST)
        return _placed(changed * image.max(), content)

    def _smoothed(self, values: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
        """The mean of the values of the content over the content nearby."""
        if not self.smoothing:
            return values
        fields = torch.stack([_placed(values, content), content.to(values)])[None]
        summed, weights = GaussianFilter(3, self.smoothing).to(values)(fields)[0]
        return (summed / weights)[content]


def _placed(values: torch.Tensor, content: torch.Tensor) -> torch.Tensor:
    """The values where the content is, 0 elsewhere."""
    field = values.new_zeros(content.shape)
    field[content] = values
    return field


def _interpolated(curve: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """A curve through values at equal distances from 0 to 1, linear between them."""
    place = at.clamp(0, 1) * (len(curve) - 1)
    below = place.floor().long().clamp(max=len(curve) - 2)
    return torch.lerp(curve[below], curve[below + 1], place - below)
