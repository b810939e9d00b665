"""Series of DICOM, written from volumes by pydicom alone; what reads them is none of the package."""

from pathlib import Path

import numpy as np

MR, SECONDARY, REPORT = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.88.11"
AXIAL = np.array([[1.0, 0, 0, -20], [0, 1, 0, -30], [0, 0, 1.2, 5], [0, 0, 0, 1]])
SAGITTAL = np.array([[0, 0, 1.2, -9], [-0.9, 0, 0, 12], [0, -1, 0, 15], [0, 0, 0, 1.0]])
_TURN = np.array([[0.8, -0.6, 0], [0.48, 0.64, -0.6], [0.36, 0.48, 0.8]])
OBLIQUE = np.block([[_TURN @ np.diag([0.9, 1.1, 1.3]), np.array([[-11.0], [7], [3]])], [np.zeros(3), 1]])


def volume(seed=0, size=(9, 8, 7)):
    """Whole numbers (columns, rows, slices)."""
    return np.random.RandomState(seed).randint(0, 800, size).astype(np.int16)


def write_series(folder, values, affine=AXIAL, name="IM{:04d}", order=None, change=None, syntax=None, **tags):
    """Write slices of ``values`` (columns, rows, slices), which ``affine`` places in RAS, and get their files in order.

    Args:
        name: of the file that is written as the nth; ``order`` tells which slices are written when.
        change: a function of a slice's dataset and its number.
        syntax: UID of a compressed transfer syntax.
        tags: of every slice.
    """
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    lps = np.diag([-1.0, -1, 1, 1]) @ affine
    sizes = np.linalg.norm(lps[:3, :3], axis=0)
    common = {
        "SOPClassUID": MR, "Modality": "MR", "PatientID": "P1", "PatientName": "A^B", "StudyDate": "20260101",
        "StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid(), "FrameOfReferenceUID": generate_uid(),
        "SeriesNumber": 3, "SeriesDescription": "T1", "ImageType": ["ORIGINAL", "PRIMARY"],
        "ImageOrientationPatient": [round(float(value), 9) for value in (lps[:3, :2] / sizes[:2]).T.ravel()],
        "PixelSpacing": [float(sizes[1]), float(sizes[0])], "SliceThickness": float(sizes[2]),
        "Rows": values.shape[1], "Columns": values.shape[0], "SamplesPerPixel": 1, "BitsAllocated": 16,
        "PhotometricInterpretation": "MONOCHROME2", "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 1,
        **tags,
    }  # fmt: skip
    Path(folder).mkdir(parents=True, exist_ok=True)
    files = {}
    for number, k in enumerate(order or range(values.shape[2])):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        for keyword, value in {**common, "SOPInstanceUID": generate_uid(), "InstanceNumber": k + 1}.items():
            setattr(dataset, keyword, value)
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.ImagePositionPatient = [round(float(value), 7) for value in (lps @ [0, 0, k, 1])[:3]]
        dataset.PixelData = np.ascontiguousarray(values[:, :, k].T).tobytes()
        if change:
            change(dataset, k)
        if syntax:
            dataset.compress(syntax)
        files[k] = Path(folder) / name.format(number)
        dataset.save_as(files[k], enforce_file_format=True)
    return [files[k] for k in sorted(files)]
