"""Writing of segmentations that lie on their images in every program."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from monai.config import PathLike
from monai.data import NibabelWriter
from monai.data.utils import to_affine_nd
from monai.utils import convert_to_numpy

from equivariant_nets.data.geometry import affine_distance_voxels, copy_place, is_sheared, place_of

__all__ = ["SegmentationWriter", "keep_place"]


class SegmentationWriter(NibabelWriter):
    """MONAI's writer of NIfTI files, whose headers place a segmentation as the file of its image does.

    Where this is a NIfTI file, and the segmentation is on its grid, sform, qform, their codes and the units are those
    of that file. Otherwise both forms are the affine, of code 1 (scanner), in millimetres; the sform alone is, where
    its axes are not perpendicular.
    """

    def set_metadata(self, meta_dict: Mapping | None, resample: bool = True, **options: Any) -> None:
        """As of MONAI's writer; the image is ``filename_or_obj`` of the metadata."""
        super().set_metadata(meta_dict, resample, **options)
        self.source = (meta_dict or {}).get("filename_or_obj")

    def write(self, filename: PathLike, verbose: bool = False, **obj_kwargs: Any) -> None:
        """Write the file."""
        array = convert_to_numpy(self.data_obj)  # also of a GPU
        affine = to_affine_nd(3, np.asarray(np.eye(4) if self.affine is None else self.affine, dtype=float))
        image: Any = self.create_backend_obj(array, affine=affine, dtype=self.output_dtype, **obj_kwargs)
        image.header.set_xyzt_units("mm")
        image.set_sform(affine, code=1)
        image.set_qform(affine, code=0 if is_sheared(affine) else 1)  # which would lie elsewhere
        nib.save(_placed(image, self.source), filename)


def keep_place(path: str | Path, source: str | Path) -> None:
    """Rewrite the header of a segmentation so that it places it as that of its image does.

    A file that is no NIfTI, of an image that is none, or on another grid than its image, is left as it is.

    Args:
        path: the segmentation.
        source: the image.
    """
    image: Any = nib.load(path)
    if isinstance(image, nib.Nifti1Image) and (placed := _placed(image, source)) is not image:
        placed = type(image)(np.asanyarray(image.dataobj), None, placed.header)  # before its file is written over
        nib.save(placed, path)


def _placed(image: Any, source: Any) -> Any:
    """An image with the place of its source in the header, or itself where it is on another grid."""
    try:
        origin: Any = nib.load(source)
        affine = place_of(origin).affine_mm
    except (OSError, TypeError, ValueError, nib.filebasedimages.ImageFileError):  # gone, none, or of another format
        return image
    if not isinstance(origin.header, nib.Nifti1Header) or origin.shape[:3] != image.shape[:3]:
        return image
    if affine_distance_voxels(affine, image.affine, image.shape):
        return image
    header = image.header.copy()
    copy_place(origin.header, header)
    return type(image)(image.dataobj, None, header)
