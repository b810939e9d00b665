"""A check that a T1 volume is skull-stripped, as far as its size tells."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from equivariant_nets.data.checks import describe_volume
from equivariant_nets.settings import is_on

__all__ = ["CheckSkullStrippedd", "foreground", "foreground_litres"]

# The insides of the largest adult skulls measure about 2 L, and a stripped brain is smaller: 1.2 to 1.6 L in the 20
# volumes of MICCAI 2012. An adult's head with the face is 3 L and more.
_MAX_LITRES = 2.3
_TOLERANCE = 0.01  # of the mean difference from the background: above rounding and ringing, below the noise in air
_MM3_PER_LITRE = 1e6


class CheckSkullStrippedd(MapTransform):
    """Refuse images of a whole head, and return all others unchanged.

    It stands behind :class:`~equivariant_nets.data.LoadVolumed` and ``CheckVolumed``, where images (C, D, H, W) have
    the values and the affine of the file. The background is the most frequent value on the faces of the volume: the
    constant around a stripped brain, whichever it is, also where a tight crop lets the brain touch the faces. What
    differs from it is measured in litres. Noise in the air around a head differs, too, so that nearly all of the volume
    counts then. Voxels of an image without metadata are taken as 1 mm wide.

    The size is all that is looked at. So a head passes where less than ``max_litres`` of it is in the volume and the
    air is set to a constant: that of a small child, or one that was defaced and cropped tightly. So does every crop
    that is smaller itself. A small volume is no error.

    Args:
        keys: keys of the images.
        max_litres: how much of an image may differ from its background.
        enabled: False turns the check off.

    Raises:
        ValueError: ``max_litres`` is not positive; on call, more of an image differs from its background.
    """

    def __init__(
        self, keys: KeysCollection = "image", max_litres: float = _MAX_LITRES, enabled: bool | str = True
    ) -> None:
        super().__init__(keys)
        if not max_litres > 0:
            raise ValueError(f"max_litres={max_litres} is not legal; give a positive volume, such as {_MAX_LITRES}.")
        self.max_litres = max_litres
        self.enabled = is_on("check_skull", enabled)

    def __repr__(self) -> str:  # MONAI names the transform that failed
        return f"CheckSkullStrippedd(keys={self.keys}, max_litres={self.max_litres}, enabled={self.enabled})"

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d) if self.enabled else ():
            litres, background = foreground_litres(d[key])
            if litres > self.max_litres:
                raise ValueError(
                    f"{describe_volume(d[key], key)}: {litres:.1f} L of the image differ from its background "
                    f"({background:g}, the most frequent value on its faces); legal are up to {self.max_litres:g} L, "
                    "since no brain is larger: this is a whole head, or its background is not constant. Strip the "
                    "skull first, with SynthStrip or HD-BET for example. If the image is stripped, turn this check "
                    "off (enabled=False): --check_skull False."
                )
        return d


def foreground_litres(image: Any) -> tuple[float, float]:
    """How much of an image (C, D, H, W) differs from its background, in litres, and the background's value.

    Of several channels, those of the one where it is most.
    """
    channels = image.detach().cpu().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
    affine = np.asarray(image.affine)[:3, :3] if isinstance(image, MetaTensor) else np.eye(3)
    voxel_litres = abs(float(np.linalg.det(affine))) / _MM3_PER_LITRE
    return max((voxel_litres * np.count_nonzero(mask), background) for mask, background in map(foreground, channels))


def foreground(volume: np.ndarray) -> tuple[np.ndarray, float]:
    """Where a volume (D, H, W) differs from its background, booleans, and the background's value."""
    faces = [volume.take((0, -1), axis=axis).ravel() for axis in range(volume.ndim)]
    values, counts = np.unique(np.concatenate(faces), return_counts=True)
    background = values[counts.argmax()]
    difference = np.abs(np.subtract(volume, background, dtype=np.float32))
    return difference > _TOLERANCE * difference.mean(), float(background)
