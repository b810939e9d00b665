"""The classes of a brain tumour, and the nested regions that they make up.

The classes here are those of the Medical Segmentation Decathlon. Other data sets number them otherwise: see
``conventions.py``.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type, convert_to_tensor

from equivariant_nets.data.brain_tumor.conventions import CONVENTIONS, check_convention
from equivariant_nets.data.checks import describe_volume, listed_values, round_label

__all__ = [
    "CLASS_NAMES",
    "REGIONS",
    "LabelToRegionsd",
    "RegionsToLabeld",
    "UnifyTumorLabelsd",
    "checked_regions",
    "label_to_regions",
]

CLASS_NAMES = ("background", "edema", "non-enhancing tumour", "enhancing tumour")
REGIONS = {"ET": (3,), "TC": (2, 3), "WT": (1, 2, 3)}  # enhancing tumour, tumour core, whole tumour

_LAYERS = {"WT": 1, "TC": 2, "ET": 3}  # from the outside in: what a region writes over the one around it


class UnifyTumorLabelsd(MapTransform):
    """Renumber label maps to the classes 0 background, 1 edema, 2 non-enhancing tumour, 3 enhancing tumour.

    It stands behind ``LoadVolumed``: label maps (1, D, H, W) keep their data type and metadata. Data without the
    label, as at inference, passes.

    Args:
        keys: keys of the label maps.
        convention_key: key of the convention of their values, a key of ``conventions.CONVENTIONS``: ``msd``, which has
            these classes already, ``brats2016``, ``brats2021``, ``brats2023``, ``brats2024`` or ``brats2024-ped``. A
            resection cavity becomes background, and a cyst non-enhancing tumour.

    Raises:
        ValueError: on call, a label map has not one channel, or holds values that its convention has not, or the
            convention is missing or unknown.
    """

    def __init__(self, keys: KeysCollection = "label", convention_key: Hashable = "convention") -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.convention_key = convention_key

    def __repr__(self) -> str:  # MONAI names the transform that failed
        return f"UnifyTumorLabelsd(keys={self.keys})"

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            name = describe_volume(d[key], key)
            try:
                convention = check_convention(d.get(self.convention_key))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            d[key] = convert_to_dst_type(_unified(_without_metadata(d[key]), convention, name), d[key])[0]
        return d


class LabelToRegionsd(MapTransform):
    """Turn maps of classes (1, D, H, W) into one binary channel a region, (R, D, H, W), float32.

    Args:
        keys: keys of the maps of classes, as :class:`UnifyTumorLabelsd` leaves them; float tensors are legal.
        regions: names out of ``REGIONS``, in the order of the channels.

    Raises:
        ValueError: a region is unknown or given twice; on call, a map has not one channel.
    """

    def __init__(self, keys: KeysCollection, regions: Sequence[str] = ("ET", "TC", "WT")) -> None:
        super().__init__(keys)
        self.regions = checked_regions(regions)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            channels = label_to_regions(_without_metadata(d[key]), self.regions)
            d[key] = convert_to_dst_type(channels, d[key], dtype=torch.float32)[0]
        return d


class RegionsToLabeld(MapTransform):
    """Turn channels of regions (R, D, H, W) into one map of classes (1, D, H, W), the inverse of the above.

    The regions are written from the outside in: the whole tumour (WT) as 1, the core (TC) as 2, enhancing tumour (ET)
    as 3. So the result is nested where a network's channels are not.

    Args:
        keys: keys of the channels: 0 and 1, or probabilities, of which more than 0.5 is in the region.
        regions: the regions in the order of the channels.

    Raises:
        ValueError: a region is unknown or given twice; on call, there are more or fewer channels than regions.
    """

    def __init__(self, keys: KeysCollection, regions: Sequence[str] = ("ET", "TC", "WT")) -> None:
        super().__init__(keys)
        self.regions = checked_regions(regions)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            channels = _without_metadata(d[key])
            if channels.shape[0] != len(self.regions):
                raise ValueError(
                    f"{describe_volume(d[key], key)}: the number of channels is {channels.shape[0]}; legal is "
                    f"{len(self.regions)}, one for each of {', '.join(self.regions)}. Give the regions of the channels."
                )
            label = torch.zeros_like(channels[:1])
            for region in sorted(self.regions, key=lambda name: _LAYERS[name]):
                label[channels[self.regions.index(region)][None] > 0.5] = _LAYERS[region]
            d[key] = convert_to_dst_type(label, d[key])[0]
        return d


def label_to_regions(
    label: torch.Tensor, regions: Sequence[str] = ("ET", "TC", "WT"), channel_axis: int = 0
) -> torch.Tensor:
    """One binary channel a region.

    Args:
        label: classes 0 to 3, (1, D, H, W), or with ``channel_axis=1`` (B, 1, D, H, W); whole numbers of any type.
        regions: names out of ``REGIONS``, in the order of the channels.
        channel_axis: the axis of the one channel.

    Returns:
        float32 (R, D, H, W), or (B, R, D, H, W).

    Raises:
        ValueError: a region is unknown or given twice, or the channel axis is not of length 1.
    """
    names = checked_regions(regions)
    if label.shape[channel_axis] != 1:
        raise ValueError(
            f"label is of shape {tuple(label.shape)}; legal is one channel on axis {channel_axis}. Give a map of "
            "classes, not one channel a class."
        )
    tumour = _without_metadata(label)
    channels = [torch.isin(tumour, torch.tensor(REGIONS[name]).to(tumour)) for name in names]
    return torch.cat(channels, dim=channel_axis).float()


def checked_regions(regions: Sequence[str]) -> tuple[str, ...]:
    """The names as a tuple.

    Raises:
        ValueError: a region is unknown or given twice, or there is none.
    """
    names = (regions,) if isinstance(regions, str) else tuple(regions)
    if not names or len(set(names)) < len(names) or any(name not in REGIONS for name in names):
        raise ValueError(f"regions={regions!r} is not legal; give one or more of {', '.join(REGIONS)}, each once.")
    return names


def _without_metadata(value: Any) -> torch.Tensor:
    tensor = convert_to_tensor(value)
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor


def _unified(label: torch.Tensor, convention: str, name: str) -> torch.Tensor:
    classes = CONVENTIONS[convention].classes
    if label.shape[0] != 1:
        raise ValueError(
            f"{name}: the shape is {tuple(label.shape)}; legal is (1, D, H, W), one channel of classes. Merge the "
            "channels to one label map."
        )
    label = round_label(label)
    legal = torch.isin(label, torch.tensor(list(classes)).to(label))
    if not legal.all():
        bad = listed_values(torch.unique(label[~legal]).cpu().numpy())
        raise ValueError(
            f"{name}: the label values {bad} are not legal; legal for a label of {convention!r} are "
            f"{', '.join(map(str, classes))}. Check that it is a label map of this data set, whose convention "
            "--convention says, and resample label maps with nearest-neighbour interpolation only."
        )
    table = torch.tensor([classes.get(value, 0) for value in range(max(classes) + 1)], device=label.device)
    return table[label.long()].to(label.dtype)
