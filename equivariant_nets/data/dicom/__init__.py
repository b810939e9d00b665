"""DICOM: series of images found, read as volumes, and segmented in their own format. Needs pydicom and highdicom."""

from equivariant_nets.data.dicom.reader import DicomReader
from equivariant_nets.data.dicom.series import DicomSeries, find_series, series_at

__all__ = ["DicomReader", "DicomSeries", "find_series", "series_at"]
