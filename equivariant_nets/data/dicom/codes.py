"""What the classes of the bundles are, in the codes that segments of DICOM are described with."""

from __future__ import annotations

from typing import Any

__all__ = ["CONCEPTS", "codes_of", "is_known", "side_of"]

_ANATOMY, _LESION = "AnatomicalStructure", "MorphologicallyAbnormalStructure"
# By the name of a class: category and type of SNOMED CT, as pydicom spells their meanings (DICOM PS3.16, CID 7150 and
# 7151). Of parts without a code the whole is named; the label of the segment says which part it is.
CONCEPTS = {
    "anterior hippocampus": (_ANATOMY, "Hippocampus"),
    "brain stem": (_ANATOMY, "BrainStem"),
    "caudate": (_ANATOMY, "CaudateNucleus"),
    "cerebellum": (_ANATOMY, "Cerebellum"),
    "edema": (_LESION, "Edema"),
    "enhancing tumour": (_LESION, "Neoplasm"),
    "hippocampus": (_ANATOMY, "Hippocampus"),
    "lateral ventricle": (_ANATOMY, "LateralVentricle"),
    "lateral ventricles": (_ANATOMY, "LateralVentricle"),
    "non-enhancing tumour": (_LESION, "Neoplasm"),
    "pallidum": (_ANATOMY, "GlobusPallidus"),
    "posterior hippocampus": (_ANATOMY, "Hippocampus"),
    "putamen": (_ANATOMY, "Putamen"),
    "whole tumour": (_LESION, "Neoplasm"),
}
_UNKNOWN = (_ANATOMY, _ANATOMY)
_SIDES = {"left": "Left", "right": "Right"}


def codes_of(name: str) -> tuple[Any, Any]:
    """Category and type of a class, as pydicom has codes: of an unknown one, some anatomical structure.

    Args:
        name: a key of ``CONCEPTS``, also behind ``left`` or ``right``; or any other.
    """
    from pydicom.sr.codedict import codes

    category, kind = CONCEPTS.get(_without_side(name), _UNKNOWN)
    return getattr(codes.SCT, category), getattr(codes.SCT, kind)


def side_of(name: str) -> Any:
    """The code of the side that a name begins with, ``left hippocampus``; None if it names none."""
    from pydicom.sr.codedict import codes

    side = _SIDES.get(name.lower().split(" ")[0])
    return getattr(codes.SCT, side) if side else None


def is_known(name: str) -> bool:
    """Whether a class has a code of its own."""
    return _without_side(name) in CONCEPTS


def _without_side(name: str) -> str:
    side, _, rest = name.lower().partition(" ")
    return rest if side in _SIDES else name.lower()
