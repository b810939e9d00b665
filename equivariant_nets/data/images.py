"""Lists of images without labels, for inference."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from equivariant_nets.data.dicom.packages import is_dicom, missing_packages
from equivariant_nets.data.dicom.series import DicomSeries, find_series, reasons
from equivariant_nets.data.formats import KINDS, is_kind, partner_of

__all__ = ["image_datalist", "images_folder"]

_logger = logging.getLogger(__name__)

_MAX_LISTED = 5


def image_datalist(
    dataset_dir: str | Path, pattern: str = "*", kind: str = "volumes"
) -> list[dict[str, str | DicomSeries]]:
    """The images to segment, sorted by name: a file, or those in a folder that match a pattern.

    Which files are images, their endings say, and of DICOM their content: each series is an image, whatever the names
    of its files. Others that match are left out, and logged.

    Args:
        dataset_dir: an image file, or a folder of image files.
        pattern: file names in the folder, such as ``*.nii.gz``; with folders, ``*/t1.nii.gz`` names files one folder
            below, and ``**/*.nii.gz`` all below. Of DICOM, ``*`` names all files below the folder too. Hidden files
            and folders are left out.
        kind: ``volumes`` or ``photographs``.

    Returns:
        one ``{"image": absolute path}`` an image, or ``{"image": DicomSeries}``. A series that is no volume, such as a
        localizer or a segmentation, is listed too, and its ``left_out`` says why.

    Raises:
        FileNotFoundError: no such file or folder, or no image in the folder matches.
        ValueError: there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} is not legal; give one of {', '.join(KINDS)}.")
    source = Path(dataset_dir).expanduser().absolute()
    if source.is_file():
        return [{"image": _image_of(source) if kind == "volumes" else str(source)}]
    if not source.is_dir():
        raise FileNotFoundError(f"{source} does not exist; give an image file or a folder of images as --dataset_dir.")
    files = _files(source, pattern)
    dicom, series = _dicom(_files(source, "**/*") if pattern == "*" else files) if kind == "volumes" else (set(), [])
    images = [path for path in files if is_kind(path, kind) and path not in dicom]
    others = [path for path in files if path not in {*images, *dicom} and partner_of(path) not in images]
    needs = f". {missing_packages()}" if dicom and not series else ""
    if not images and all(one.left_out for one in series):
        raise FileNotFoundError(
            f"No file in {source} matches {pattern!r} and is one of {kind} by its ending ("
            f"{', '.join(KINDS[kind])}){_left_out(others)}{reasons(series)}{needs}. Give the folder that holds the "
            "images as --dataset_dir, or another --pattern."
        )
    if needs:
        _logger.warning(f"{len(dicom)} files of DICOM in {source} are left out{needs}.")
    if others:
        _logger.info(f"{len(images)} images in {source}{_left_out(others)}.")
    items: list[str | DicomSeries] = [*map(str, images), *series]
    return [{"image": item} for item in items]


def _image_of(file: Path) -> str | DicomSeries:
    """A file as an image: of DICOM, its series, with the files of it that lie beside."""
    if not is_dicom(file) or missing_packages():
        return str(file)  # what is missing, the reader says
    _, series = _dicom(_files(file.parent, "*"))
    return next(one for one in series if str(file) in one.files)


def _files(folder: Path, pattern: str) -> list[Path]:
    return sorted(
        path
        for path in folder.glob(pattern)
        if not any(part.startswith(".") for part in path.relative_to(folder).parts) and path.is_file()
    )


def _dicom(files: Sequence[Path]) -> tuple[set[Path], list[DicomSeries]]:
    """Those of the files that are DICOM, and their series; none where a package is missing."""
    found = {path for path in files if is_dicom(path)}
    return found, find_series(found) if found and not missing_packages() else []


def _left_out(files: Sequence[Path]) -> str:
    if not files:
        return ""
    listed = ", ".join(path.name for path in files[:_MAX_LISTED]) + (", ..." if len(files) > _MAX_LISTED else "")
    return f"; {len(files)} files are left out, for they are no such images: {listed}"


def images_folder(dataset_dir: str | Path) -> Path:
    """The folder that the images of :func:`image_datalist` lie in or below: that of the file, where one is given."""
    source = Path(dataset_dir).expanduser().absolute()
    return source.parent if source.is_file() else source
