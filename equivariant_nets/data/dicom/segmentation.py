"""Writing of a label map as a DICOM segmentation of the series that it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from equivariant_nets.data.dicom.codes import codes_of, side_of
from equivariant_nets.data.dicom.slices import SAME_ORIENTATION, SAME_STEP

__all__ = ["Algorithm", "write_segmentation"]

# What the standard wants in each object, be it empty, and series that were made anonymous may lack.
_MAY_LACK = (
    "AccessionNumber", "PatientBirthDate", "PatientID", "PatientName", "PatientSex", "PositionReferenceIndicator",
    "ReferringPhysicianName", "StudyDate", "StudyID", "StudyTime",
)  # fmt: skip
_SERIES_NUMBERS = 1000  # from here on, beyond those that scanners give
_MAX_LABEL = 64  # letters of a DICOM text of one line (LO)


class Algorithm(NamedTuple):
    """What made a segmentation."""

    name: str
    version: str


def write_segmentation(
    path: str | Path, labels: np.ndarray, series_files: Sequence[str], names: Sequence[str], algorithm: Algorithm
) -> None:
    """Write a BINARY segmentation, with all frames of its series: each voxel at the place of its image, exactly.

    Args:
        path: the file.
        labels: whole numbers from 0 (background), (columns, rows, slices) as :class:`DicomReader` gives the image.
        series_files: of the series; each file, or the one, is read again for patient, study and places.
        names: labels of the segments, from class 1. Each class is described, also where no voxel is of it.
        algorithm: of the segments, and the device of the object.

    Raises:
        ValueError: the label map is not on the grid of the series.
        OSError: a file of the series cannot be read, or the segmentation not be written.
    """
    import highdicom as hd
    import pydicom

    sources = [pydicom.dcmread(file, stop_before_pixels=True) for file in series_files]
    for source in sources:
        for keyword in _MAY_LACK:
            if keyword not in source:
                setattr(source, keyword, None)
    frames = np.ascontiguousarray(labels.transpose(2, 1, 0)[::-1]).astype(np.uint8)  # in the order of highdicom
    pixels: Any = frames
    if "PerFrameFunctionalGroupsSequence" in sources[0]:
        geometry: Any = hd.Image.from_dataset(pydicom.dcmread(series_files[0])).get_volume_geometry()
        grid = tuple(geometry.spatial_shape)
        pixels = geometry.with_array(frames) if grid == frames.shape else None
    else:
        order: Any
        _, order = hd.spatial.get_series_volume_positions(sources, rtol=SAME_STEP, orientation_tol=SAME_ORIENTATION)
        sources = [sources[order.index(place)] for place in range(len(sources))]
        grid = (len(sources), sources[0].Rows, sources[0].Columns)
    if grid != frames.shape:
        raise ValueError(
            f"a label map of {frames.shape} (slices, rows, columns) is not on the grid of its series, {grid}. Give it "
            "in the space of the series, as inference does."
        )
    result = hd.seg.Segmentation(
        sources,
        pixels,
        "BINARY",
        _descriptions(names, algorithm),
        series_instance_uid=hd.UID(),
        series_number=_SERIES_NUMBERS + int(sources[0].get("SeriesNumber") or 0),
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer="equivariant_nets",
        manufacturer_model_name=algorithm.name[:_MAX_LABEL],
        software_versions=algorithm.version,
        device_serial_number="none",
        series_description=algorithm.name[:_MAX_LABEL],
        omit_empty_frames=False,  # MONAI's reader, for one, does not know where those that are left would lie
    )
    result.save_as(path)


def _descriptions(names: Sequence[str], algorithm: Algorithm) -> list[Any]:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    identification = hd.AlgorithmIdentificationSequence(
        algorithm.name, codes.DCM.ArtificialIntelligence, algorithm.version, source="equivariant_nets"
    )
    described = []
    for number, name in enumerate(names, start=1):
        segment = hd.seg.SegmentDescription(number, name[:_MAX_LABEL], *codes_of(name), "AUTOMATIC", identification)
        if side := side_of(name):
            kind = segment.SegmentedPropertyTypeCodeSequence[0]
            kind.SegmentedPropertyTypeModifierCodeSequence = [hd.sr.CodedConcept.from_code(side)]
        described.append(segment)
    return described
