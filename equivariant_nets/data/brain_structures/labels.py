"""The seven structures, their numbers in two conventions of whole-brain label maps, and their classes, with or without
sides.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_dst_type, convert_to_tensor

from equivariant_nets.data.checks import describe_volume, listed_values, round_label

__all__ = ["LABEL_TABLES", "STRUCTURES", "StructuresFromLabelsd", "regions_without_sides", "target_structures"]

STRUCTURES = ("cerebellum", "hippocampus", "lateral ventricles", "caudate", "putamen", "pallidum", "brain stem")

TARGETS = ("structures", "sides")

# The values of each structure in the file: right, left; of the cerebellum pairs of exterior (cortex) and white matter.
# Left out are the vermal lobules of the cerebellum (71 to 73; 630 to 632), which FreeSurfer's own segmentation counts
# to the hemispheres, and the inferior horns of the lateral ventricles (49 and 50; 44 and 5).
LABEL_TABLES: dict[str, dict[str, tuple[int, ...]]] = {
    "neuromorphometrics": {
        "cerebellum": (38, 39, 40, 41),
        "hippocampus": (47, 48),
        "lateral ventricles": (51, 52),
        "caudate": (36, 37),
        "putamen": (57, 58),
        "pallidum": (55, 56),
        "brain stem": (35,),
    },
    "freesurfer": {
        "cerebellum": (45, 6, 47, 8, 46, 7),  # exterior in manual labels, cortex in FreeSurfer's own; white matter
        "hippocampus": (53, 17),
        "lateral ventricles": (43, 4),
        "caudate": (50, 11),
        "putamen": (51, 12),
        "pallidum": (52, 13),
        "brain stem": (16,),
    },
}

# Of every part of the brain that has two sides, the value of the right one and that of the left one.
_SIDES: dict[str, dict[int, int]] = {
    "neuromorphometrics": {
        **{23: 30, 76: 75},
        **{right: right + 1 for right in (31, 33, 36, 38, 40, 42, 44, 47, 49, 51, 53, 55, 57, 59, 61, 63)},
        **{right: right + 1 for right in range(100, 207, 2)},
    },
    "freesurfer": {
        **{left + 39: left for left in (2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13)},
        **{53: 17, 54: 18, 58: 26, 60: 28, 62: 30, 63: 31},
        **{left + 1000: left for left in range(1000, 1036)},
    },
}


def regions_without_sides(codes: torch.Tensor, convention: str) -> torch.Tensor:
    """Values of a whole-brain label map, those of right parts replaced by those of their left ones.

    Args:
        codes: whole numbers from 0, of any shape.
        convention: a key of ``LABEL_TABLES``.
    """
    table = torch.arange(max(map(max, _SIDES.values())) + 1, device=codes.device)
    for right, left in _SIDES[convention].items():
        table[right] = left
    return torch.where(codes < len(table), table[codes.clamp(max=len(table) - 1)], codes)


def target_structures(targets: str = "structures") -> list[str]:
    """The names of the classes 1, 2, ...: the seven structures; or those that come in pairs, left and right, and the
    brain stem.

    Args:
        targets: ``structures`` or ``sides``.

    Raises:
        ValueError: ``targets`` is something else.

    Example:
        >>> from equivariant_nets.data import target_structures
        >>> target_structures("sides")[:3], len(target_structures("sides"))
        (['left cerebellum', 'right cerebellum', 'left hippocampus'], 13)
    """
    return list(_class_values("neuromorphometrics", targets))


def _class_values(convention: str, targets: str) -> dict[str, tuple[int, ...]]:
    """The values in the file of each class, in order."""
    if targets not in TARGETS:
        raise ValueError(f"targets={targets!r} is not legal; choose one of {' and '.join(TARGETS)}.")
    table = LABEL_TABLES[convention]
    if targets == "structures":
        return table
    classes: dict[str, tuple[int, ...]] = {}
    for structure, values in table.items():
        if len(values) == 1:
            classes[structure] = values
        else:
            singular = structure.removesuffix("s") if structure.endswith("ventricles") else structure
            classes[f"left {singular}"], classes[f"right {singular}"] = values[1::2], values[::2]
    return classes


class StructuresFromLabelsd(MapTransform):
    """Turn whole-brain label maps into the classes 0 background and 1, 2, ..., in the order of
    :func:`target_structures`.

    Left and right are united unless they are asked for, and every other label of the convention becomes background. It
    stands behind ``LoadVolumed``: label maps (1, D, H, W) keep their data type and metadata. Data without the label, as
    at inference, passes.

    Args:
        keys: keys of the label maps.
        convention_key: key of the convention of their values, a key of ``LABEL_TABLES``: ``neuromorphometrics``, that
            of the MICCAI 2012 challenge, or ``freesurfer``, that of Mindboggle101.
        targets: ``structures``, 7 classes, or ``sides``, 13.

    Raises:
        ValueError: ``targets`` is not legal; on call, a label map has not one channel, holds values that are negative
            or not whole, or none of the seven structures, or the convention is missing or unknown.
    """

    def __init__(
        self, keys: KeysCollection = "label", convention_key: Hashable = "convention", targets: str = "structures"
    ) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.convention_key = convention_key
        self.tables = {convention: _table(_class_values(convention, targets)) for convention in LABEL_TABLES}

    def __repr__(self) -> str:  # MONAI names the transform that failed
        return f"StructuresFromLabelsd(keys={self.keys})"

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            name = describe_volume(d[key], key)
            convention = d.get(self.convention_key)
            if convention not in LABEL_TABLES:
                raise ValueError(
                    f"{name}: the item's {self.convention_key!r} is {convention!r}; legal are "
                    f"{' and '.join(LABEL_TABLES)}. Set it to the numbering of the label map."
                )
            d[key] = convert_to_dst_type(
                _classes(convert_to_tensor(d[key]), self.tables[convention], convention, name), d[key]
            )[0]
        return d


def _classes(label: torch.Tensor, table: torch.Tensor, convention: str, name: str) -> torch.Tensor:
    if label.shape[0] != 1:
        raise ValueError(
            f"{name}: the shape is {tuple(label.shape)}; legal is (1, D, H, W), one channel of labels. Merge the "
            "channels to one label map."
        )
    label = round_label(label)
    codes = label.long()
    illegal = (codes != label) | (codes < 0)
    if illegal.any():
        bad = listed_values(torch.unique(label[illegal]).cpu().numpy())
        raise ValueError(
            f"{name}: the label values {bad} are not legal; legal are whole "
            "numbers from 0. Check that it is a label map, and resample label maps with nearest-neighbour "
            "interpolation only."
        )
    table = table.to(label.device)
    classes = table[codes.clamp(max=len(table) - 1)]
    if not classes.any():
        legal = ", ".join(f"{part} {'/'.join(map(str, values))}" for part, values in LABEL_TABLES[convention].items())
        raise ValueError(
            f"{name}: the label holds none of the seven structures; in the convention {convention!r} they are {legal}. "
            "Check that it is a label map of the whole brain, with subcortical labels, and that its convention is this."
        )
    return classes


def _table(classes: Mapping[str, tuple[int, ...]]) -> torch.Tensor:
    """The class of each value, with a last entry 0 for all values from there on."""
    table = torch.zeros(max(map(max, classes.values())) + 2, dtype=torch.uint8)
    for index, values in enumerate(classes.values(), start=1):
        table[list(values)] = index
    return table
