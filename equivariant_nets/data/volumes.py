"""Reading volumes in the formats of nibabel, with their place in millimetres."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import nibabel as nib
import numpy as np
from monai.config import PathLike
from monai.data import NibabelReader
from monai.utils import ensure_tuple

from equivariant_nets.data.geometry import place_of
from equivariant_nets.data.notices import FileFault, warn_once

__all__ = ["VolumeReader"]

_logger = logging.getLogger(__name__)


class VolumeReader(NibabelReader):
    """MONAI's reader of nibabel's formats, with affines in millimetres, whatever the unit of the header.

    Which form of the affine counts, :func:`equivariant_nets.data.geometry.place_of` decides and says, where another
    program may decide otherwise. Axes of length 1 behind the third are left out.

    Raises:
        FileFault: on call, the voxels are complex numbers or colours, or the affine is not invertible.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(squeeze_non_spatial_dims=True, **kwargs)

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> Any:
        """The opened images, one or a list of them."""
        # Not by MONAI's method, which edits headers where they contradict themselves, without a word.
        self.filenames = ensure_tuple(data)
        images: list[Any] = [nib.load(name, **{**self.kwargs, **kwargs}) for name in self.filenames]
        for name, image in zip(self.filenames, images, strict=True):
            _check_type(image.get_data_dtype())
            for warning in place_of(image).warnings:
                warn_once(_logger, f"{name}: {warning}")
        return images if len(images) > 1 else images[0]

    def _get_meta_dict(self, img: Any) -> dict:
        # MONAI knows the headers of NIfTI, Analyze and FreeSurfer alone.
        return super()._get_meta_dict(img) if hasattr(img.header, "as_byteswapped") else {}

    def _get_affine(self, img: Any) -> np.ndarray:
        return np.array(place_of(img).affine_mm)

    def _get_spatial_shape(self, img: Any) -> np.ndarray:
        return np.asarray(img.shape[:3])


def _check_type(dtype: np.dtype) -> None:
    if dtype.kind == "c":
        raise FileFault(
            f"the voxels are complex numbers ({dtype}); legal are real ones. Save the magnitude (numpy.abs) as an "
            "image of its own: the real part alone is not what MRI shows."
        )
    if dtype.kind == "V":
        raise FileFault(
            "the voxels are colours (RGB); legal are real numbers. Give the image that the colours were made of."
        )
