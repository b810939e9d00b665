"""The series among the files of a folder, each a volume, or with the reason why it is none."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from equivariant_nets.data.dicom.packages import check_packages, is_dicom
from equivariant_nets.data.dicom.slices import SAME_ORIENTATION, TAGS, Slice, slices_of, why_several_volumes
from equivariant_nets.data.notices import FileFault

__all__ = ["SERIES_FILES", "DicomSeries", "find_series", "reasons", "series_at", "source_of"]

SERIES_FILES = "series_files"  # in the metadata of an image that is a series: its files
_HEADER = (
    "Modality", "NumberOfFrames", "PatientID", "Rows", "Columns", "SamplesPerPixel", "SeriesDescription",
    "SeriesInstanceUID", "SeriesNumber", "SOPClassUID", "SOPInstanceUID", "SpecificCharacterSet", "StudyDate", *TAGS,
)  # fmt: skip
_VOLUMES = (
    "CT Image Storage", "MR Image Storage", "Positron Emission Tomography Image Storage", "Enhanced CT Image Storage",
    "Enhanced MR Image Storage", "Enhanced PET Image Storage", "Legacy Converted Enhanced CT Image Storage",
    "Legacy Converted Enhanced MR Image Storage", "Legacy Converted Enhanced PET Image Storage",
)  # fmt: skip
_MIN_SLICES = 3  # scouts have one or two of an orientation
_MAX_PATIENT, _MAX_DESCRIPTION = 24, 32  # letters, which may be of several bytes in a file name
_MAX_LISTED = 5


@dataclass(frozen=True)
class DicomSeries:
    """The files of one series, which are an image together.

    Its ``path`` names it in lists, logs and results: the folder of its files, and a name made of patient, date, number
    and description. There is no such file.
    """

    path: str
    files: tuple[str, ...]
    left_out: str = ""  # why it is no volume; empty where it is one

    def __str__(self) -> str:
        return self.path


def find_series(files: Iterable[str | Path]) -> list[DicomSeries]:
    """The series of DICOM files, sorted by path; those that are no volume say why.

    Args:
        files: of any order; all are DICOM.

    Raises:
        FileFault: a package that DICOM needs is missing.
    """
    check_packages()
    groups: dict[str, dict[str, Any]] = defaultdict(dict)
    found = []
    for file in sorted(map(str, files)):
        header = _header(file)
        if header is None:  # whose series is not known: reading it says that it is damaged
            found.append(DicomSeries(file, (file,)))
        else:
            groups[str(header.get("SeriesInstanceUID", ""))][file] = header
    names = {uid: _name(next(iter(headers.values()))) for uid, headers in groups.items()}
    counts = Counter(name.casefold() for name in names.values())
    for uid, headers in groups.items():
        name = names[uid]
        if counts[name.casefold()] > 1:
            name = f"{name}_{hashlib.sha256(uid.encode()).hexdigest()[:8]}"
        folder = os.path.commonpath([os.path.dirname(file) for file in headers])
        # Not by their names, which are no part of the image.
        ordered = sorted(headers, key=lambda file: str(headers[file].get("SOPInstanceUID", "")))
        found.append(DicomSeries(os.path.join(folder, name), tuple(ordered), _why_left_out(headers)))
    return sorted(found, key=lambda series: series.path)


def series_at(path: str | Path) -> DicomSeries:
    """The one series of a folder, or that of a file with those beside it.

    Raises:
        FileFault: there is no series, or more than one volume in the folder; or it is no volume.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    files = [file for file in folder.iterdir() if file.is_file() and is_dicom(file)]
    if not files:
        raise FileFault("it is a folder without a file of DICOM; give a file, or the folder of a series.")
    found = find_series(files)
    if path.is_file():
        found = [series for series in found if str(path) in series.files]
    volumes = [series for series in found if not series.left_out]
    if len(volumes) == 1:
        return volumes[0]
    if volumes:
        listed = ", ".join(Path(series.path).name for series in volumes[:_MAX_LISTED])
        raise FileFault(f"the folder holds {len(volumes)} series: {listed}. Name a file of the one that you mean.")
    raise FileFault(f"it holds no DICOM series that is a volume{reasons(found)}.")


def reasons(series: Sequence[DicomSeries]) -> str:
    """Why the first few series are left out, for the end of a message; empty where there are none."""
    texts = [f"{Path(one.path).name}: {one.left_out}" for one in series if one.left_out]
    rest = f"; and {len(texts) - _MAX_LISTED} more" if len(texts) > _MAX_LISTED else ""
    return f"; {'; '.join(texts[:_MAX_LISTED])}{rest}" if texts else ""


def source_of(meta: Mapping[str, Any]) -> str | DicomSeries:
    """What an image with such metadata was loaded from."""
    path = str(meta["filename_or_obj"])
    return DicomSeries(path, tuple(meta[SERIES_FILES])) if SERIES_FILES in meta else path


def _header(file: str) -> Any:
    import pydicom

    try:
        return pydicom.dcmread(file, stop_before_pixels=True, specific_tags=list(_HEADER))
    except Exception:  # of any type, as the bytes happen to be
        return None


def _name(header: Any) -> str:
    texts = [
        _legal(header.get("PatientID"))[:_MAX_PATIENT],
        _legal(header.get("StudyDate")),
        _legal(header.get("SeriesNumber")),
        _legal(header.get("SeriesDescription"))[:_MAX_DESCRIPTION],
    ]
    return "_".join(text for text in texts if text) or "series"


def _legal(value: Any) -> str:
    """A text of letters, digits and lines, as every file system takes it."""
    return re.sub(r"\W+", "-", str("" if value is None else value)).strip("-_")


def _why_left_out(headers: Mapping[str, Any]) -> str:
    first = next(iter(headers.values()))
    kind = _kind(first)
    if kind not in _VOLUMES:
        return f"it is no volume of images, but {kind} of modality {first.get('Modality') or 'unknown'}"
    if any(header.get("SamplesPerPixel", 1) != 1 for header in headers.values()):
        return "its pixels are colours"
    if any("LOCALIZER" in (header.get("ImageType") or ()) for header in headers.values()):
        return "it is a localizer"
    if any("PerFrameFunctionalGroupsSequence" in header for header in headers.values()) and len(headers) > 1:
        return f"it is {len(headers)} files of many frames each: name one of them"
    slices: list[Slice] = []
    for file, header in headers.items():
        part = slices_of(Path(file).name, header)
        if part is None:
            return "its slices do not say where they lie (ImagePositionPatient, ImageOrientationPatient)"
        slices += part
    if len(slices) < _MIN_SLICES:
        return f"it has {len(slices)} slices; a volume has {_MIN_SLICES} or more"
    if np.ptp([part.orientation for part in slices], axis=0).max() > SAME_ORIENTATION:
        return "its slices have several orientations"
    if len({(header.get("Rows"), header.get("Columns")) for header in headers.values()}) > 1:
        return "its slices have several sizes"
    return why_several_volumes(slices)


def _kind(header: Any) -> str:
    """The name of a SOP class."""
    from pydicom.uid import UID

    return UID(str(header.get("SOPClassUID", ""))).name or "an object without a class"
