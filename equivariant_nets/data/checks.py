"""Dictionary transforms that turn bad input into one clear error that names the file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import DtypeLike, KeysCollection, PathLike
from monai.data import ImageReader, MetaTensor
from monai.transforms import LoadImage, LoadImaged, MapTransform
from monai.utils import ImageMetaKey, MetaKeys, ensure_tuple
from tqdm import tqdm

__all__ = ["CheckVolumed", "LoadVolumed"]

SHAPES = {
    2: ("(C, W, H), a channel axis and two spatial axes", "Give a 2-D image"),
    3: ("(C, D, H, W), a channel axis and three spatial axes", "Give a 3-D volume rather than a slice"),
}
CHANNEL_FILES = "channel_files"  # in the metadata of an image of several files: the file of each channel
_AFFINE_TOLERANCE_MM = 1e-3
_MAX_LISTED = 5


class LoadVolumed(LoadImaged):
    """:class:`monai.transforms.LoadImaged` for volumes, channel first, with errors that name the file and the cause.

    A volume without a channel axis gets one: (D, H, W) becomes (1, D, H, W). A list of files becomes one image, with
    their channels in the order of the list and the metadata of the first; its ``channel_files`` names the file of each
    channel.

    Args:
        keys: keys of the files to load.
        reader: reader name or class as in ``LoadImaged``; None chooses by the file's extension.
        dtype: data type of the loaded tensors.
        image_only: whether to leave out the separate metadata dictionary.
        ensure_channel_first: whether to move or add the channel axis first.
        allow_missing_keys: whether a key may be absent, such as the label at inference.

    Raises:
        FileNotFoundError: on call, a file does not exist.
        ValueError: on call, a file cannot be read: truncated, damaged, or of an unknown format; or the files of a list
            differ in spatial shape or affine.
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
    def __call__(self, filename: Sequence[PathLike] | PathLike, reader: ImageReader | None = None) -> Any:
        files = [str(Path(file).expanduser()) for file in ensure_tuple(filename)]
        for file in files:
            if not Path(file).exists():
                raise FileNotFoundError(f"{file} does not exist. Check the path and the data list it comes from.")
        # MONAI stacks a list by itself, but names no file then, and takes rounding errors for another affine.
        groups = [[file] for file in files] if self.ensure_channel_first else [files]
        loaded = [self._load(group, reader) for group in groups]
        if len(loaded) == 1:
            return loaded[0]
        image = _concatenated(loaded if self.image_only else [image for image, _ in loaded], files)
        return image if self.image_only else (image, getattr(image, "meta", loaded[0][1]))

    def _load(self, files: list[str], reader: ImageReader | None) -> Any:
        try:
            return super().__call__(files, reader)
        except Exception as error:  # readers fail with errors of any type: zlib.error, EOFError, OSError, KeyError...
            cause = (str(error).strip() or "no details").splitlines()[0]
            raise ValueError(
                f"{', '.join(files)} cannot be read ({type(error).__name__}: {cause}). The file is truncated, damaged, "
                "or not an image of a supported format. Copy or export it again, for example as .nii.gz."
            ) from None


def _concatenated(images: list[torch.Tensor], files: list[str]) -> torch.Tensor:
    for image, file in zip(images, files, strict=True):
        check_same_grid(images[0], image, files[0], file)
    channels = torch.cat([torch.as_tensor(np.asarray(image)) for image in images])
    if not isinstance(images[0], MetaTensor):
        return channels
    channel_files = [file for image, file in zip(images, files, strict=True) for _ in image]
    return MetaTensor(channels, meta={**images[0].meta, MetaKeys.ORIGINAL_CHANNEL_DIM: 0, CHANNEL_FILES: channel_files})


class CheckVolumed(MapTransform):
    """Check loaded volumes, and their label where there is one, and return them unchanged.

    It stands behind :class:`LoadVolumed`, where arrays are channel first, (C, D, H, W), and still have the values of
    the file. Tensors with metadata, plain tensors and arrays are legal; without metadata no affine is compared.

    Args:
        image_keys: keys of the images. Each is numeric, finite, of ``spatial_dims`` spatial axes, and no channel is
            constant. All of them have one spatial shape and affine.
        label_key: key of the label map: one channel of whole numbers on the images' grid. Data without this key, as
            at inference, passes.
        num_channels: channels that each image must have.
        num_classes: number of classes with the background, so that labels are 0 to ``num_classes - 1``. None accepts
            every label from 0.
        spatial_dims: 3, or 2 for images (C, W, H).

    Raises:
        ValueError: on call, an image or label is not as above.
        KeyError: on call, an image is not in the data.
    """

    def __init__(
        self,
        image_keys: KeysCollection,
        label_key: Hashable | None = None,
        num_channels: int = 1,
        num_classes: int | None = None,
        spatial_dims: int = 3,
    ) -> None:
        super().__init__(image_keys)
        self.label_key = label_key
        self.num_channels = num_channels
        self.num_classes = num_classes
        self.spatial_dims = spatial_dims

    def __repr__(self) -> str:  # MONAI names the transform that failed
        return f"CheckVolumed(image_keys={self.keys}, label_key={self.label_key!r})"

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        reference = d.get(self.keys[0])
        reference_name = describe_volume(reference, self.keys[0])
        for key in self.key_iterator(d):
            array = _checked_array(d[key], key, self.num_channels, self.spatial_dims)
            _check_not_constant(array, d[key], key)
            check_same_grid(reference, d[key], reference_name, describe_volume(d[key], key))
        if self.label_key is not None and self.label_key in d:
            label = d[self.label_key]
            check_label(label, self.label_key, self.num_classes, self.spatial_dims)
            check_same_grid(reference, label, reference_name, describe_volume(label, self.label_key))
        return d


def check_label(label: Any, key: Hashable, num_classes: int | None = None, spatial_dims: int = 3) -> None:
    """Check a loaded label map alone; see :class:`CheckVolumed`.

    Raises:
        ValueError: it is not one channel of the whole numbers from 0 to ``num_classes - 1``.
    """
    array = _checked_array(label, key, 1, spatial_dims)
    _check_label_values(array, describe_volume(label, key), num_classes)


def describe_volume(value: Any, key: Hashable, channel: int | None = None) -> str:
    """How errors call a volume: by its key, and the file, that of the channel, where the metadata names one."""
    meta = value.meta if isinstance(value, MetaTensor) else {}
    file = meta.get(ImageMetaKey.FILENAME_OR_OBJ)
    if channel is not None:
        file = meta.get(CHANNEL_FILES, [file] * (channel + 1))[channel]
    return f"{key} {file}" if file else f"{key} (no file name known)"


def _checked_array(value: Any, key: Hashable, num_channels: int, spatial_dims: int) -> np.ndarray:
    name = describe_volume(value, key)
    array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name}: the data type is {array.dtype}; legal are real numbers. Load the file before this check, or "
            "export it with a scalar integer or float type."
        )
    spatial_shape = array.shape[1:]
    if len(spatial_shape) != spatial_dims or min(spatial_shape) < 2:
        legal, advice = SHAPES[spatial_dims]
        raise ValueError(
            f"{name}: the shape is {array.shape}; legal is {legal} of at least 2 voxels. {advice}, loaded with the "
            "channel first."
        )
    if array.shape[0] != num_channels:
        raise ValueError(
            f"{name}: the number of channels is {array.shape[0]}; legal is {num_channels}. Give a file with "
            f"{num_channels} channel(s), such as one time point or one modality of a 4-D file, or set num_channels."
        )
    for channel, volume in enumerate(array):
        if num_bad := volume.size - np.count_nonzero(np.isfinite(volume)):
            raise ValueError(
                f"{describe_volume(value, key, channel)}: {num_bad} of {volume.size} voxels are NaN or infinite"
                f"{f' in channel {channel}' if num_channels > 1 else ''}; legal are finite values. Replace these "
                "voxels, by 0 for example, and save the file again."
            )
    return array


def _check_not_constant(array: np.ndarray, value: Any, key: Hashable) -> None:
    for channel, volume in enumerate(array):
        if volume.min() == volume.max():
            raise ValueError(
                f"{describe_volume(value, key, channel)}: all voxels of channel {channel} are {volume.flat[0]:g}; an "
                "image must not be constant. Check that the file was exported with its content."
            )


def _check_label_values(array: np.ndarray, name: str, num_classes: int | None) -> None:
    limit = np.inf if num_classes is None else num_classes - 1
    bad = np.unique(array[(array != np.round(array)) | (array < 0) | (array > limit)])
    if bad.size:
        listed = ", ".join(f"{value:g}" for value in bad[:_MAX_LISTED]) + (", ..." if bad.size > _MAX_LISTED else "")
        legal = "whole numbers from 0" + ("" if num_classes is None else f" to {num_classes - 1}")
        raise ValueError(
            f"{name}: the label values {listed} are not legal; legal are {legal}. Map the labels to these classes, "
            "and resample label maps with nearest-neighbour interpolation only."
        )


def file_problems(files: Mapping[str, PathLike], check: Callable[[str, Any], None]) -> Iterator[str]:
    """Load the files of one case, each on its own, and say all that is wrong, at most one text a file and grid.

    Args:
        files: by key.
        check: is called with the key and the loaded volume, and raises ValueError where something is wrong with it.
    """
    volumes: dict[str, Any] = {}
    for key, file in files.items():
        try:
            volumes |= LoadVolumed(key)({key: file})
            check(key, volumes[key])
        except (FileNotFoundError, ValueError) as error:
            yield str(error)
    named = [(describe_volume(volume, key), volume) for key, volume in volumes.items()]
    for name, volume in named[1:]:
        try:
            check_same_grid(named[0][1], volume, named[0][0], name)
        except ValueError as error:
            yield str(error)


def case_problems(cases: Collection[tuple[str, Mapping[str, PathLike], Callable[[str, Any], None]]]) -> list[str]:
    """All that is wrong with the files of a data set, with a progress bar: of each case its name, and the
    :func:`file_problems` of its files by its check."""
    return [
        f"{name}: {problem}"
        for name, files, check in tqdm(cases, desc="checking cases")
        for problem in file_problems(files, check)
    ]


def exit_with_problems(problems: Sequence[str], dataset_dir: PathLike, *advice: str) -> None:
    """End the command that checked a data set with all that is wrong, and status 1, if anything is."""
    if problems:
        raise SystemExit("\n".join([*problems, *advice, f"error: {len(problems)} problems in {dataset_dir}"]))


def check_same_grid(reference: Any, other: Any, reference_name: str, name: str) -> None:
    """Check that two channel-first volumes have one spatial shape and, where both have metadata, one affine.

    Raises:
        ValueError: they have not; the message calls them by the names given.
    """
    if tuple(reference.shape[1:]) != tuple(other.shape[1:]):
        raise ValueError(
            f"{name}: the spatial shape is {tuple(other.shape[1:])}; legal is {tuple(reference.shape[1:])}, that of "
            f"{reference_name}. Check that the files belong to one case, or resample one to the grid of the other."
        )
    if not (isinstance(reference, MetaTensor) and isinstance(other, MetaTensor)):
        return
    difference = float(np.abs(np.asarray(reference.affine) - np.asarray(other.affine)).max())
    if not difference <= _AFFINE_TOLERANCE_MM:
        raise ValueError(
            f"{name}: the affine differs from that of {reference_name} by up to {difference:g} mm; legal is "
            f"{_AFFINE_TOLERANCE_MM:g} mm. Check that the files belong to one case, or resample one to the grid of the "
            "other."
        )
