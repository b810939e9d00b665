"""Lists of images without labels, for inference."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from equivariant_nets.data.formats import KINDS, ending, is_kind

__all__ = ["image_datalist", "images_folder"]

_logger = logging.getLogger(__name__)

_MAX_LISTED = 5


def image_datalist(dataset_dir: str | Path, pattern: str = "*", kind: str = "volumes") -> list[dict[str, str]]:
    """The images to segment, sorted by name: a file, or those in a folder that match a pattern.

    Which files are images, their endings say. Others that match are left out, and logged.

    Args:
        dataset_dir: an image file, or a folder of image files.
        pattern: file names in the folder, such as ``*.nii.gz``; with folders, ``*/t1.nii.gz`` names files one folder
            below, and ``**/*.nii.gz`` all below. Hidden files and folders are left out.
        kind: ``volumes`` or ``photographs``.

    Returns:
        one ``{"image": absolute path}`` an image.

    Raises:
        FileNotFoundError: no such file or folder, or no image in the folder matches.
        ValueError: there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is not legal; give one of {', '.join(KINDS)}.")
    source = Path(dataset_dir).expanduser().absolute()
    if source.is_file():
        return [{"image": str(source)}]
    if not source.is_dir():
        raise FileNotFoundError(f"{source} does not exist; give an image file or a folder of images as --dataset_dir.")
    files = sorted(
        path
        for path in source.glob(pattern)
        if not any(part.startswith(".") for part in path.relative_to(source).parts) and path.is_file()
    )
    images = [path for path in files if is_kind(path, kind)]
    # The two files of a pair are one image.
    others = [path for path in files if path not in images and path.with_suffix(".img") not in images]
    if not images:
        raise FileNotFoundError(
            f"No file in {source} matches {pattern!r} and is one of {kind} by its ending ("
            f"{', '.join(KINDS[kind])}){_left_out(others)}. Give the folder that holds the images as --dataset_dir, or "
            "another --pattern."
        )
    if others:
        _logger.info(f"{len(images)} images in {source}{_left_out(others)}.")
    return [{"image": str(path)} for path in images]


def _left_out(files: Sequence[Path]) -> str:
    if not files:
        return ""
    listed = ", ".join(path.name for path in files[:_MAX_LISTED]) + (", ..." if len(files) > _MAX_LISTED else "")
    dicom = "; DICOM series must be converted first (dcm2niix)" if any(ending(file) == "dcm" for file in files) else ""
    return f"; {len(files)} files are left out, for they are no such images: {listed}{dicom}"


def images_folder(dataset_dir: str | Path) -> Path:
    """The folder that the images of :func:`image_datalist` lie in or below: that of the file, where one is given."""
    source = Path(dataset_dir).expanduser().absolute()
    return source.parent if source.is_file() else source
