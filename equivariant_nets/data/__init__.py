"""Data for the bundles: lists of cases, synthetic phantoms, and checks of what is loaded."""

from equivariant_nets.data.checks import CheckVolumed, LoadVolumed
from equivariant_nets.data.hippocampus import download_hippocampus, hippocampus_datalist
from equivariant_nets.data.images import image_datalist
from equivariant_nets.data.phantoms import phantom, phantom_datalist, write_phantoms

__all__ = [
    "CheckVolumed",
    "LoadVolumed",
    "download_hippocampus",
    "hippocampus_datalist",
    "image_datalist",
    "phantom",
    "phantom_datalist",
    "write_phantoms",
]
