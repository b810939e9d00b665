"""Lesions that are fainter than those at hand."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import GaussianSmooth, MapTransform, RandomizableTransform
from monai.utils import convert_to_tensor

__all__ = ["RandLesionContrastd"]


class RandLesionContrastd(RandomizableTransform, MapTransform):
    """Draw the intensities of a lesion towards the mean of the brain, by a random factor in each channel.

    With m the lesion, 1 inside and smoothed at its border, and f the factor, x becomes x (1 - m (1 - f)): of a
    standardised image, whose brain has a mean of 0, a share f of the lesion's contrast is left. What is 0 stays 0.

    Args:
        keys: of standardised images ``(C, D, H, W)``.
        label_key: of their label map ``(1, D, H, W)``; all values but 0 are lesion.
        prob: how often.
        factors: the least and the greatest factor, from 0 (a lesion that cannot be seen) to 1 (as it is).
        sigma: standard deviation of the smoothing in voxels.
        allow_missing_keys: whether a key may be absent.

    Raises:
        ValueError: ``factors`` are not two numbers from 0 to 1, the lesser first.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_key: str = "label",
        prob: float = 0.5,
        factors: Sequence[float] = (0.2, 1.0),
        sigma: float = 1.0,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        if len(factors) != 2 or not 0 <= factors[0] <= factors[1] <= 1:
            raise ValueError(
                f"factors={factors!r} is not legal: give the least and the greatest factor, from 0 to 1, as (0.2, 1)."
            )
        self.label_key = label_key
        self.factors = factors
        self.smooth = GaussianSmooth(sigma)

    def randomize(self, channels: Sequence[int]) -> None:
        """Draw whether, and the factors of the channels of each image."""
        super().randomize(None)
        least, greatest = self.factors
        self.left = [torch.from_numpy(self.R.uniform(least, greatest, number)) for number in channels]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        keys = list(self.key_iterator(d))
        self.randomize([len(d[key]) for key in keys])
        if not self._do_transform:
            return d
        lesion = (convert_to_tensor(d[self.label_key], track_meta=False) > 0).float()
        lesion = convert_to_tensor(self.smooth(lesion), track_meta=False).clamp(min=0)
        for key, left in zip(keys, self.left, strict=True):
            faded = 1 - left.to(d[key]).reshape(-1, *[1] * (lesion.ndim - 1))
            d[key] = d[key] * (1 - lesion.to(d[key]) * faded)
        return d
