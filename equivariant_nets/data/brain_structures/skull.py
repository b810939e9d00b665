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
from equivariant_nets.data.filling import filling_mask
from equivariant_nets.settings import is_on

__all__ = ["CheckSkullStrippedd", "foreground", "foreground_litres"]

# The insides of the largest adult skulls measure about 2 L, and a stripped brain is smaller: 1.2 to 1.6 L in the 20
# volumes of MICCAI 2012. An adult's head with the face is 3 L and more.
_MAX_LITRES = 2.3
_MM3_PER_LITRE = 1e6


class CheckSkullStrippedd(MapTransform):
    """Refuse images of a whole head, and return all others unchanged.

    It stands behind :class:`~equivariant_nets.data.LoadVolumed` and ``CheckVolumed``, where images (C, D, H, W) have
    the values and the affine of the file. The background is what :func:`~equivariant_nets.data.filling_mask` finds: the
    constant around a stripped brain, whichever it is, also where a tight crop lets the brain touch the faces. All else
    is measured in litres. Noise in the air around a head is no constant, so that nearly all of the volume counts then.
    Voxels of an image without metadata are taken as 1 mm wide.

    The size is all that is looked at. So a head passes where less than ``max_litres`` of it is in the volume and the
    air is set to a constant: that of a small child, or one that was defaced and cropped tightly. So does every crop
    that is smaller itself. A small volume is no error.

    Args:
        keys: keys of the images.
        max_litres: how much of an image may be no background.
        enabled: False turns the check off.

    Raises:
        ValueError: ``max_litres`` is not positive; on call, more of an image is no background.
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
                filled = "no background" if np.isnan(background) else f"not its background of {background:g}"
                raise ValueError(
                    f"{describe_volume(d[key], key)}: {litres:.1f} L of the image are {filled}; legal are up to "
                    f"{self.max_litres:g} L, since no brain is larger: this is a whole head, or its background is not "
                    "constant. Strip the skull first, with SynthStrip or HD-BET for example. If the image is stripped, "
                    "turn this check off (enabled=False): --check_skull False."
                )
        return d


def foreground_litres(image: Any) -> tuple[float, float]:
    """How much of an image (C, D, H, W) is no background, in litres, and the background's value; NaN without one.

    Of several channels, those of the one where it is most.
    """
    channels = image.detach().cpu().numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
    affine = np.asarray(image.affine)[:3, :3] if isinstance(image, MetaTensor) else np.eye(3)
    voxel_litres = abs(float(np.linalg.det(affine))) / _MM3_PER_LITRE
    parts = ((voxel_litres * np.count_nonzero(mask), background) for mask, background in map(foreground, channels))
    return max(parts, key=lambda part: part[0])


def foreground(volume: np.ndarray) -> tuple[np.ndarray, float]:
    """Where a volume (D, H, W) is no background, booleans, and the background's value, which is NaN without one."""
    filling = filling_mask(volume)
    return ~filling, float(np.median(volume[filling])) if filling.any() else float("nan")
