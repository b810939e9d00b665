"""Whether a result of inference is whole."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
from PIL import Image

__all__ = ["is_readable"]

_CHUNK = 2**20


def is_readable(path: Path) -> bool:
    """Whether a volume, a picture or a segmentation of DICOM can be read to its end."""
    try:
        if path.suffix == ".gz":  # nibabel reads what its header tells, and not the checksum behind it
            with gzip.open(path) as file:
                while file.read(_CHUNK):
                    pass
        if path.suffix == ".png":
            with Image.open(path) as picture:
                picture.load()
        elif path.suffix == ".dcm":
            import pydicom

            _ = pydicom.dcmread(path).pixel_array
        else:
            volume: Any = nib.load(path)
            volume.dataobj[:]
    except Exception:  # of any reader: gzip, zlib, PIL, nibabel, pydicom
        return False
    return True
