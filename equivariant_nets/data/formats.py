"""The files that are images, by their endings, and what reads them."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from monai.data import ImageReader

from equivariant_nets.data.notices import FileFault
from equivariant_nets.data.volumes import VolumeReader

__all__ = ["KINDS", "ending", "is_kind", "reader_of"]

_PHOTOGRAPHS = ("png", "jpg", "jpeg", "bmp", "gif", "tif", "tiff", "ppm", "pgm", "webp", "jp2")
# Of the pairs .hdr and .img, one file stands for both.
KINDS = {
    "volumes": ("nii", "nii.gz", "img", "img.gz", "mgz", "mgh", "nrrd", "nhdr", "mha", "mhd"),
    "photographs": _PHOTOGRAPHS,
}


class _Reader(NamedTuple):
    reader: str | type[ImageReader]  # as LoadImage takes it
    module: str  # that it needs
    package: str  # which has that module


_NIBABEL = _Reader(VolumeReader, "nibabel", "nibabel")
_NRRD = _Reader("NrrdReader", "nrrd", "pynrrd")
_ITK = _Reader("ITKReader", "itk", "itk")
_READERS = {
    **dict.fromkeys(("nii", "nii.gz", "img", "img.gz", "hdr", "hdr.gz", "mgz", "mgh"), _NIBABEL),
    **dict.fromkeys(("nrrd", "nhdr"), _NRRD),
    **dict.fromkeys(("mha", "mhd"), _ITK),
    **dict.fromkeys(_PHOTOGRAPHS, _Reader("PILReader", "PIL", "pillow")),
}
_ENDING = re.compile(r"\.([a-z0-9]+(\.gz)?)$")


def ending(path: str | Path) -> str:
    """What a file name ends with behind the last dot, in small letters; ``nii.gz`` is one ending."""
    match = _ENDING.search(Path(path).name.lower())
    return match[1] if match else ""


def is_kind(path: str | Path, kind: str) -> bool:
    """Whether a file is, by its ending, an image of a kind, a key of ``KINDS``."""
    return ending(path) in KINDS[kind]


def reader_of(path: str | Path) -> str | type[ImageReader] | None:
    """The reader of a file, by its ending; None leaves the choice to MONAI.

    Raises:
        FileFault: the package that reads it is not installed.
    """
    reader = _READERS.get(ending(path))
    if reader is None:
        return None
    if find_spec(reader.module) is None:
        raise FileFault(
            f"files .{ending(path)} are read by a package that is not installed: pip install {reader.package}. Or "
            "convert it to .nii.gz."
        )
    return reader.reader
