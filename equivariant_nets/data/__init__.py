"""Data for the bundles: lists of cases, synthetic phantoms, and checks of what is loaded."""

from equivariant_nets import bundles_extra  # noqa: F401
from equivariant_nets.data.brain_structures import (
    LABEL_TABLES,
    STRUCTURES,
    BrainRegionsd,
    CheckSkullStrippedd,
    RandRegionContrastd,
    StructuresFromLabelsd,
    brain_structures_datalist,
    check_brain_structures,
    target_structures,
    write_brain_phantoms,
)
from equivariant_nets.data.brain_tumor import (
    LabelToRegionsd,
    RegionLoss,
    RegionsToLabeld,
    UnifyTumorLabelsd,
    brain_tumor_datalist,
    check_brain_tumor,
    download_brain_tumor,
    label_to_regions,
    tumor_image_datalist,
    tumor_phantom,
    write_tumor_phantoms,
)
from equivariant_nets.data.checks import CheckVolumed
from equivariant_nets.data.dicom import DicomReader, DicomSeries
from equivariant_nets.data.filling import NormalizeContentd, ZeroBackgroundd, filling_mask, is_content
from equivariant_nets.data.fundus import FieldOfViewd, NormalizeFundusd, PatchDataset, direction_shares
from equivariant_nets.data.hippocampus import check_hippocampus, download_hippocampus, hippocampus_datalist
from equivariant_nets.data.images import image_datalist
from equivariant_nets.data.loading import LoadVolumed
from equivariant_nets.data.phantoms import phantom, phantom_datalist, write_phantoms
from equivariant_nets.data.photographs import MaskReader, PhotographReader
from equivariant_nets.data.retina import retina_datalist
from equivariant_nets.data.soft_labels import rest_is_background
from equivariant_nets.data.tasks import CaseNames, ClassesFromLabelsd, contrast_datalist, task_datalist
from equivariant_nets.data.writing import SegmentationWriter

__all__ = [
    "LABEL_TABLES",
    "STRUCTURES",
    "BrainRegionsd",
    "CaseNames",
    "CheckSkullStrippedd",
    "CheckVolumed",
    "ClassesFromLabelsd",
    "DicomReader",
    "DicomSeries",
    "FieldOfViewd",
    "LabelToRegionsd",
    "LoadVolumed",
    "MaskReader",
    "NormalizeContentd",
    "NormalizeFundusd",
    "PatchDataset",
    "PhotographReader",
    "RandRegionContrastd",
    "RegionLoss",
    "RegionsToLabeld",
    "SegmentationWriter",
    "StructuresFromLabelsd",
    "UnifyTumorLabelsd",
    "ZeroBackgroundd",
    "brain_structures_datalist",
    "brain_tumor_datalist",
    "check_brain_structures",
    "check_brain_tumor",
    "check_hippocampus",
    "contrast_datalist",
    "direction_shares",
    "download_brain_tumor",
    "download_hippocampus",
    "filling_mask",
    "hippocampus_datalist",
    "image_datalist",
    "is_content",
    "label_to_regions",
    "phantom",
    "phantom_datalist",
    "rest_is_background",
    "retina_datalist",
    "target_structures",
    "task_datalist",
    "tumor_image_datalist",
    "tumor_phantom",
    "write_brain_phantoms",
    "write_phantoms",
    "write_tumor_phantoms",
]
