"""Reading photographs: as a viewer shows them, in three channels."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from monai.data import PILReader
from PIL import ExifTags, Image, ImageOps

from equivariant_nets.data.notices import FileFault, note_once

__all__ = ["MaskReader", "PhotographReader"]

_logger = logging.getLogger(__name__)

_DEEP_MODES = ("I", "F")  # also I;16, I;16B, ...: more than 8 bits, one channel
_REDUCED_IMAGE = 1  # in TIFF's tag NewSubfileType: a smaller copy of another page
_NEW_SUBFILE_TYPE = 254


class PhotographReader(PILReader):
    """MONAI's reader of pictures, for colour photographs ``(3, W, H)`` with values from 0 to 255.

    A photograph is turned as its EXIF orientation says, as every viewer shows it; so a mask of it lies on what is seen.
    Grey becomes three equal channels; palettes, CMYK and other colours become red, green and blue; what is transparent
    becomes black, as what lies outside the field of view. Grey of 16 bits or floating point keeps its values, and with
    them its steps.

    Raises:
        FileFault: on call, a file has several pages that are no smaller copies of the first.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(converter=_converted, **kwargs)

    def get_data(self, img: Any) -> tuple[np.ndarray, dict]:
        """The array ``(W, H, 3)`` and the metadata of an opened photograph."""
        array, meta = super().get_data(img)
        if array.ndim == 2:  # of a deep mode
            array, meta["original_channel_dim"] = np.stack([array] * 3, axis=-1), -1
        return array, meta


class MaskReader(PILReader):
    """MONAI's reader of pictures, for label maps ``(W, H)`` whose values are numbers of classes.

    Grey that is stored in colours becomes one channel; a palette's indices are the values, and a transparent channel is
    left out.

    Raises:
        FileFault: on call, the file has colours, which are no numbers, or several pages.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(converter=_one_channel, **kwargs)


def _one_channel(image: Image.Image) -> Image.Image:
    if (pages := _pages(image)) > 1:
        raise FileFault(f"it has {pages} pages; legal is one label map. Save the page that is meant as a file.")
    if len(image.getbands()) == 1:
        return image
    colours = np.asarray(image.convert("RGB")).reshape(-1, 3)
    if (colours != colours[:, :1]).any():
        number = len(np.unique(colours, axis=0))
        raise FileFault(
            f"it is a label map in colours, {number} of them; legal is one channel whose values are numbers of "
            "classes. Give each colour a number, and save these (Pillow: mode L)."
        )
    return image.convert("RGB").getchannel(0)


def _converted(image: Image.Image) -> Image.Image:
    pages = _pages(image)
    if pages > 1:
        raise FileFault(f"it has {pages} pages; legal is one photograph. Save the page that is meant as a file.")
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    if orientation in range(2, 9):
        note_once(
            _logger,
            f"{getattr(image, 'filename', 'A photograph')} is turned or mirrored as its EXIF orientation "
            f"({orientation}) says, as viewers show it; its mask lies on it as shown.",
        )
        image = ImageOps.exif_transpose(image)
    if image.mode in _DEEP_MODES or image.mode.startswith("I;16"):
        return image
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "black"), image).convert("RGB")
    return image.convert("RGB")


def _pages(image: Image.Image) -> int:
    """The pages of a file that are pictures of their own. JPEGs of phones hold smaller copies, too (MPO)."""
    if image.format == "MPO" or getattr(image, "n_frames", 1) == 1:
        return 1
    pages = 0
    for number in range(image.n_frames):  # type: ignore[attr-defined]
        image.seek(number)
        tags: Any = getattr(image, "tag_v2", {})
        pages += not int(tags.get(_NEW_SUBFILE_TYPE, 0)) & _REDUCED_IMAGE
    image.seek(0)
    return max(pages, 1)
