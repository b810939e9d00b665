"""Loading of images, by a transform whose errors name the file and the cause."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import DtypeLike, KeysCollection, PathLike
from monai.data import ImageReader, MetaTensor
from monai.data.nvimgcodec_pydicom_plugin import is_nvimgcodec_available
from monai.transforms import LoadImage, LoadImaged
from monai.transforms.io.array import SUPPORTED_READERS
from monai.utils import ImageMetaKey, MetaKeys, ensure_tuple

from equivariant_nets.data.checks import CHANNEL_FILES, check_same_grid
from equivariant_nets.data.dicom.packages import is_dicom
from equivariant_nets.data.dicom.reader import DicomReader
from equivariant_nets.data.dicom.series import DicomSeries
from equivariant_nets.data.formats import check_compression, is_kind, reader_of
from equivariant_nets.data.notices import FileFault

__all__ = ["LoadVolumed"]

_OF_MINC_2 = "h5py"  # which nibabel imports to read it

# Where pydicom is installed, but not what this reader of MONAI needs, it reads nothing, and warns at each LoadImage.
if not is_nvimgcodec_available():
    SUPPORTED_READERS.pop("nvimgcodecpydicomreader", None)


class LoadVolumed(LoadImaged):
    """:class:`monai.transforms.LoadImaged` for volumes, channel first, with errors that name the file and the cause.

    A volume without a channel axis gets one: (D, H, W) becomes (1, D, H, W). A list of files becomes one image, with
    their channels in the order of the list and the metadata of the first; its ``channel_files`` names the file of each
    channel. A series of DICOM is one image: a :class:`equivariant_nets.data.DicomSeries`, the folder of one series, or
    one of its files; its ``series_files`` names the files.

    Args:
        keys: keys of the files to load.
        reader: reader name or class as in ``LoadImaged``; None chooses by the file's extension.
        dtype: data type of the loaded tensors.
        image_only: whether to leave out the separate metadata dictionary.
        ensure_channel_first: whether to move or add the channel axis first.
        allow_missing_keys: whether a key may be absent, such as the label at inference.

    Raises:
        FileNotFoundError: on call, a file does not exist.
        ValueError: on call, a file cannot be read: truncated, damaged, or of an unknown format; it must not be used, as
            the reader says; a folder is no series of DICOM; or the files of a list differ in spatial shape or affine.
    """

    def __init__(
        self,
        keys: KeysCollection,
        reader: type[ImageReader] | str | None = None,
        dtype: DtypeLike = np.float32,
        image_only: bool = True,
        ensure_channel_first: bool = True,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, image_only=image_only, allow_missing_keys=allow_missing_keys)
        self._loader = _LoadVolume(reader, image_only, dtype, ensure_channel_first)

    def __repr__(self) -> str:  # MONAI names the transform that failed
        return f"LoadVolumed(keys={self.keys})"


class _LoadVolume(LoadImage):
    def __getstate__(self) -> dict[str, Any]:
        """Without the readers that MONAI found installed, which decide nothing about a file: see :meth:`_reader_of`."""
        return {key: value for key, value in self.__dict__.items() if key != "readers" or not self.auto_select}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(LoadImage().__dict__ | state)

    def __call__(self, filename: Sequence[PathLike] | PathLike | DicomSeries, reader: ImageReader | None = None) -> Any:
        if isinstance(filename, DicomSeries):
            return self._load_series(filename)
        files = [str(Path(file).expanduser()) for file in ensure_tuple(filename)]
        for file in files:
            if not Path(file).exists():
                raise FileNotFoundError(f"{file} does not exist. Check the path and the data list it comes from.")
        if len(files) == 1 and self.auto_select and reader is None and (Path(files[0]).is_dir() or is_dicom(files[0])):
            return self._load(files[0], files, DicomReader())
        # MONAI stacks a list by itself, but names no file then, and takes rounding errors for another affine.
        groups = [[file] for file in files] if self.ensure_channel_first else [files]
        loaded = [self._load(", ".join(group), group, reader) for group in groups]
        if len(loaded) == 1:
            return loaded[0]
        image = _concatenated(loaded if self.image_only else [image for image, _ in loaded], files)
        return image if self.image_only else (image, getattr(image, "meta", loaded[0][1]))

    def _load(self, name: str, files: list[str], reader: ImageReader | None) -> Any:
        try:
            loaded: Any = super().__call__(files, reader or self._reader_of(files[0]))
        except FileFault as error:
            raise ValueError(f"{name}: {error}") from None
        except Exception as error:  # readers fail with errors of any type: zlib.error, EOFError, OSError, KeyError...
            if isinstance(error, ModuleNotFoundError) and error.name == _OF_MINC_2:
                raise ValueError(
                    f"{name}: MINC 2 needs a package that is not installed: pip install {_OF_MINC_2}."
                ) from None
            cause = (str(error).strip() or "no details").splitlines()[0]
            good = ".png or .tif" if is_kind(files[0], "photographs") else ".nii.gz"
            raise ValueError(
                f"{name} cannot be read ({type(error).__name__}: {cause}). The file is truncated, damaged, "
                f"or not an image of a supported format. Copy or export it again, for example as {good}."
            ) from None
        return loaded

    def _load_series(self, series: DicomSeries) -> Any:
        if series.left_out:
            raise ValueError(f"{series}: {series.left_out}.")
        loaded = self._load(str(series), list(series.files), DicomReader())
        for meta in [loaded.meta] if self.image_only else [loaded[0].meta, loaded[1]]:
            meta[ImageMetaKey.FILENAME_OR_OBJ] = str(series)
        return loaded

    def _reader_of(self, file: str) -> ImageReader | None:
        """One reader alone, whose error says why; MONAI would try others behind it."""
        if not self.auto_select:
            return self.readers[-1]
        reader = LoadImage(reader_of(file)).readers[-1]
        check_compression(file)
        return reader


def _concatenated(images: list[torch.Tensor], files: list[str]) -> torch.Tensor:
    for image, file in zip(images, files, strict=True):
        check_same_grid(images[0], image, files[0], file)
    channels = torch.cat([torch.as_tensor(np.asarray(image)) for image in images])
    if not isinstance(images[0], MetaTensor):
        return channels
    channel_files = [file for image, file in zip(images, files, strict=True) for _ in image]
    return MetaTensor(channels, meta={**images[0].meta, MetaKeys.ORIGINAL_CHANNEL_DIM: 0, CHANNEL_FILES: channel_files})
