"""Data for the bundles: lists of cases, synthetic phantoms, and checks of what is loaded."""

from equivariant_nets.data.checks import CheckVolumed, LoadVolumed
from equivariant_nets.data.fundus import FieldOfViewd, NormalizeFundusd, PatchDataset, direction_shares
from equivariant_nets.data.hippocampus import download_hippocampus, hippocampus_datalist
from equivariant_nets.data.images import image_datalist
from equivariant_nets.data.phantoms import phantom, phantom_datalist, write_phantoms
from equivariant_nets.data.retina import retina_datalist

__all__ = [
    "CheckVolumed",
    "FieldOfViewd",
    "LoadVolumed",
    "NormalizeFundusd",
    "PatchDataset",
    "direction_shares",
    "download_hippocampus",
    "hippocampus_datalist",
    "image_datalist",
    "phantom",
    "phantom_datalist",
    "retina_datalist",
    "write_phantoms",
]
