"""What the classes of the bundles are, in the codes that segments of DICOM are described with."""

from __future__ import annotations

from typing import Any

__all__ = ["CONCEPTS", "codes_of"]

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
    "lateral ventricles": (_ANATOMY, "LateralVentricle"),
    "non-enhancing tumour": (_LESION, "Neoplasm"),
    "pallidum": (_ANATOMY, "GlobusPallidus"),
    "posterior hippocampus": (_ANATOMY, "Hippocampus"),
    "putamen": (_ANATOMY, "Putamen"),
    "whole tumour": (_LESION, "Neoplasm"),
}
_UNKNOWN = (_ANATOMY, _ANATOMY)


def codes_of(name: str) -> tuple[Any, Any]:
    """Category and type of a class, as pydicom has codes: of an unknown one, some anatomical structure.

    Args:
        name: a key of ``CONCEPTS``, or any other.
    """
    from pydicom.sr.codedict import codes

    category, kind = CONCEPTS.get(name.lower(), _UNKNOWN)
    return getattr(codes.SCT, category), getattr(codes.SCT, kind)
