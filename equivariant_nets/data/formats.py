"""The files that are images, by their endings, and what reads them."""

from __future__ import annotations

import re
from glob import escape
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from monai.data import ImageReader

from equivariant_nets.data.notices import FileFault
from equivariant_nets.data.nrrd_volumes import NrrdVolumeReader
from equivariant_nets.data.volumes import VolumeReader

__all__ = ["KINDS", "check_compression", "ending", "is_kind", "partner_of", "reader_of"]

_PHOTOGRAPHS = ("png", "jpg", "jpeg", "bmp", "gif", "tif", "tiff", "ppm", "pgm", "webp", "jp2")
_BY_NIBABEL = ("nii", "nii.gz", "nii.bz2", "img", "img.gz", "mgz", "mgh", "mnc", "mnc.gz", "brik", "brik.gz", "rec")
# Of two files that are one image, that of the voxels stands for both; by the ending of the other, which other programs
# use too: FSL writes motion as .par.
_PARTNERS = {"hdr": ("img", "img.gz"), "head": ("brik", "brik.gz"), "par": ("rec",)}
KINDS = {
    "volumes": (*_BY_NIBABEL, "nrrd", "nhdr", "mha", "mhd"),
    "photographs": _PHOTOGRAPHS,
}


class _Reader(NamedTuple):
    reader: str | type[ImageReader]  # as LoadImage takes it
    module: str  # that it needs
    package: str  # which has that module


_NIBABEL = _Reader(VolumeReader, "nibabel", "nibabel")
_NRRD = _Reader(NrrdVolumeReader, "nrrd", "pynrrd")
_ITK = _Reader("ITKReader", "itk", "itk")
_READERS = {
    **dict.fromkeys((*_BY_NIBABEL, *_PARTNERS, "hdr.gz"), _NIBABEL),
    **dict.fromkeys(("nrrd", "nhdr"), _NRRD),
    **dict.fromkeys(("mha", "mhd"), _ITK),
    **dict.fromkeys(_PHOTOGRAPHS, _Reader("PILReader", "PIL", "pillow")),
}
_ENDING = re.compile(r"\.([a-z0-9]+(\.(gz|bz2))?)$")
_GZIP = b"\x1f\x8b"
_HEADERS = [size.to_bytes(4, order) for size in (348, 540) for order in ("little", "big")]  # how NIfTI begins


def ending(path: str | Path) -> str:
    """What a file name ends with behind the last dot, in small letters; ``nii.gz`` is one ending."""
    match = _ENDING.search(Path(path).name.lower())
    return match[1] if match else ""


def is_kind(path: str | Path, kind: str) -> bool:
    """Whether a file is, by its ending, an image of a kind, a key of ``KINDS``."""
    return ending(path) in KINDS[kind]


def partner_of(path: Path) -> Path | None:
    """The file of the voxels of an image of two files, where this is the other of them, and None elsewhere."""
    others = _PARTNERS.get(ending(path), ())
    stem = path.name.removesuffix(path.suffix)
    beside = path.parent.glob(f"{escape(stem)}.*") if others else ()
    return next((file for file in beside if file.name[len(stem) + 1 :].lower() in others), None)


def reader_of(path: str | Path) -> str | type[ImageReader]:
    """The reader of a file, by its ending.

    Raises:
        FileFault: the ending is of no image, or the package that reads it is not installed.
    """
    reader = _READERS.get(ending(path))
    if reader is None:
        has = f"the ending .{ending(path)}" if ending(path) else "no ending"
        legal = ", ".join(f".{one}" for kind in KINDS.values() for one in kind)
        raise FileFault(
            f"its name has {has}, by which no image is known; legal are {legal}, and DICOM of any name. Rename it, if "
            "it is one of these, or convert it to .nii.gz."
        )
    if find_spec(reader.module) is None:
        raise FileFault(
            f"files .{ending(path)} are read by a package that is not installed: pip install {reader.package}. Or "
            "convert it to .nii.gz."
        )
    return reader.reader


def check_compression(path: str | Path) -> None:
    """Check that an image is compressed by gzip if its name says so, and not otherwise.

    Raises:
        FileFault: it is not.
    """
    with Path(path).open("rb") as file:
        start = file.read(4)
    own = ending(path)
    if start.startswith(_GZIP) and own in ("nii", "img", "hdr"):
        raise FileFault(f"it is compressed by gzip, which its name does not say. Rename it to end with .{own}.gz.")
    if start in _HEADERS and own in ("nii.gz", "img.gz", "hdr.gz"):
        raise FileFault(
            f"it is not compressed by gzip, as its name says. Rename it to end with .{own.removesuffix('.gz')}."
        )
