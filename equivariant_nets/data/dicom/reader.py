"""Reading a DICOM series as a volume, complete and at its place, or not at all."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple

from equivariant_nets.data.dicom.packages import check_packages, is_dicom
from equivariant_nets.data.dicom.series import SERIES_FILES, series_at
from equivariant_nets.data.dicom.slices import SAME_ORIENTATION, SAME_STEP, slices_of, why_not_regular
from equivariant_nets.data.notices import FileFault, warn_once

__all__ = ["LPS_TO_RAS", "DicomReader"]

_logger = logging.getLogger(__name__)

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SAME_PLACE_VOXELS = 0.1


class _Opened(NamedTuple):
    volume: Any  # of highdicom: slices, rows, columns
    files: tuple[str, ...]


class DicomReader(ImageReader):
    """MONAI reader of a DICOM series: stored values rescaled, axes along columns, rows and slices, affine in RAS.

    It needs pydicom and highdicom, and takes a folder of one series, one of its files, or a list of all of its files.
    Single slices and objects of many frames are read, in any order, under any names, in the transfer syntaxes that
    pydicom decodes.

    Raises:
        FileFault: on call, a slice is missing or there twice, slices lie in no even stack, the files are several series
            or no volume, or they are compressed in a way that needs another package.
    """

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Whether it is DICOM, by the content, or a folder."""
        return all(Path(name).is_dir() or is_dicom(Path(name)) for name in ensure_tuple(filename))

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Any:
        """The volume of a series."""
        check_packages()
        import highdicom as hd
        import pydicom

        files = tuple(map(str, ensure_tuple(data)))
        if len(files) == 1:
            files = series_at(files[0]).files
        datasets = [pydicom.dcmread(file) for file in files]
        for file, dataset in zip(files, datasets, strict=True):
            _decode(file, dataset)
        modality = datasets[0].get("Modality")
        if modality != "MR":
            warn_once(_logger, f"{Path(files[0]).parent}: a series of modality {modality}; the networks know MRI (MR).")
        options: Any = {"dtype": np.float32, "apply_real_world_transform": False, "rtol": SAME_STEP}
        try:
            if "PerFrameFunctionalGroupsSequence" in datasets[0]:
                volume = hd.Image.from_dataset(datasets[0]).get_volume(**options)
            else:
                volume = hd.get_volume_from_series(datasets, orientation_tol=SAME_ORIENTATION, **options)
        except (AttributeError, RuntimeError, ValueError) as error:
            raise FileFault(f"{_why(files, datasets) or error}.") from None
        _check_place(volume, files, datasets)
        return _Opened(volume, files)

    def get_data(self, img: Any) -> tuple[np.ndarray, dict]:
        """The voxels (columns, rows, slices) and their metadata."""
        volume = img.volume.flip_spatial(0)  # slices along rows x columns, as other readers have them
        array = np.ascontiguousarray(volume.array.transpose(2, 1, 0))
        affine = LPS_TO_RAS @ volume.affine[:, [2, 1, 0, 3]]
        return array, {
            MetaKeys.AFFINE: affine,
            MetaKeys.ORIGINAL_AFFINE: affine.copy(),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.SPATIAL_SHAPE: np.array(array.shape),
            MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan"),
            SERIES_FILES: list(img.files),
        }


def _decode(file: str, dataset: Any) -> None:
    """Decode the pixels, which the dataset keeps."""
    try:
        _ = dataset.pixel_array
    except Exception as error:  # of a decoder, of any type
        cause = (str(error).strip() or "no details").splitlines()[0]
        name = dataset.file_meta.TransferSyntaxUID.name
        if "plugins" in cause:
            raise FileFault(
                f"{Path(file).name} is compressed as {name}, which needs packages that are not installed: pip install "
                "'pylibjpeg[all]'."
            ) from None
        raise FileFault(
            f"the pixels of {Path(file).name} cannot be read as {name} ({type(error).__name__}: {cause}). Copy or "
            "export the series again."
        ) from None


def _why(files: Sequence[str], datasets: Sequence[Any]) -> str:
    parts = [slices_of(Path(file).name, dataset) for file, dataset in zip(files, datasets, strict=True)]
    return why_not_regular([part for group in parts for part in group or ()]) if all(parts) else ""


def _check_place(volume: Any, files: Sequence[str], datasets: Sequence[Any]) -> None:
    """Check that each slice lies where the volume has it, up to a tenth of a voxel."""
    parts = [slices_of(Path(file).name, dataset) for file, dataset in zip(files, datasets, strict=True)]
    positions = np.array([part.position_mm for group in parts for part in group or ()])
    indices = (np.c_[positions, np.ones(len(positions))] @ np.linalg.inv(volume.affine).T)[:, :3]
    off = np.abs(indices - np.c_[np.rint(indices[:, 0]), np.zeros((len(indices), 2))]).max()
    if off > _SAME_PLACE_VOXELS:
        raise FileFault(
            f"{why_not_regular([part for group in parts for part in group or ()]) or 'its slices form no even stack'}: "
            f"they lie up to {off:.3g} voxels beside their places in a straight one; legal is a tenth."
        )
