"""What the bundles understand by a file: its place, units, intensities and background, and which bundle it suits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

from equivariant_nets.data.brain_structures.skull import CheckSkullStrippedd, foreground_litres
from equivariant_nets.data.checks import CheckVolumed
from equivariant_nets.data.dicom.packages import is_dicom
from equivariant_nets.data.dicom.series import DicomSeries
from equivariant_nets.data.filling import filling_mask
from equivariant_nets.data.formats import ending, is_kind
from equivariant_nets.data.geometry import CODE_NAMES, place_of, spacing_mm
from equivariant_nets.data.images import image_datalist
from equivariant_nets.data.loading import LoadVolumed
from equivariant_nets.data.photographs import PhotographReader
from equivariant_nets.data.spacing import check_spacing

__all__ = ["inspect_file"]

_CROP_MM = 100.0  # crops about a hippocampus are 40 to 60 mm long, a brain 130 and more
_TUMOUR_CHANNELS = 4
_MOST_CLASSES = 16  # of a label map; an image of 8 bits has a hundred values and more


def inspect_file(path: str | Path) -> str:
    """Say in lines how a file is read, with warnings, and with the error where it is refused.

    Args:
        path: a volume or a photograph, a file of a DICOM series, or a folder of such, of which each series is told.

    Returns:
        the path, and below it a line for each property.
    """
    try:
        is_listed = Path(path).is_dir() or is_dicom(path)
        images = [item["image"] for item in image_datalist(path)] if is_listed else [str(path)]
    except (OSError, ValueError) as error:
        return f"{path}\n  error: {error}"
    return "\n".join(map(_inspected, images))


def _inspected(image: str | DicomSeries) -> str:
    lines: list[str] = []
    try:
        for line in _photograph(image) if _is_photograph(image) else _volume(image):
            lines.append(line)
    except (OSError, ValueError) as error:
        lines.append(f"error: {error}")
    return "\n  ".join([str(image), *lines])


def _is_photograph(image: str | DicomSeries) -> bool:
    return not isinstance(image, DicomSeries) and is_kind(image, "photographs")


def _photograph(path: Any) -> Iterator[str]:
    loaded = LoadVolumed("image", reader=PhotographReader)({"image": str(path)})
    with Image.open(path) as picture:
        yield f"format: {picture.format}, mode {picture.mode}, {picture.width} x {picture.height} pixels as stored"
    image: Any = loaded["image"]
    yield f"as read: {image.shape[1]} x {image.shape[2]} pixels, {image.shape[0]} channels"
    yield _intensities(np.asarray(image))
    CheckVolumed("image", num_channels=3, spatial_dims=2)(loaded)
    yield "suits: retina_vessels_fundus_*, if it is a fundus photograph"


def _volume(path: str | DicomSeries) -> Iterator[str]:
    loaded = LoadVolumed("image")({"image": path})
    image: Any = loaded["image"]
    channels, *shape = image.shape
    sizes = spacing_mm(image.affine)
    yield f"size: {_times(shape)} voxels, {channels} channel(s)"
    yield f"spacing: {_times(sizes)} mm, so {_times(sizes * shape) if len(shape) == 3 else 'no volume of'} mm in all"
    axes = "".join(axis or "?" for axis in nib.aff2axcodes(np.asarray(image.affine)))
    yield f"axes run to: {axes}"
    warnings = list(_series(path) if isinstance(path, DicomSeries) else _place(path))
    yield from (text for text in warnings if not text.startswith("warning"))
    values = np.asarray(image, dtype=float)
    yield _intensities(values)
    if values.size and np.isfinite(values).all() and len(shape) == 3:
        share = float(np.mean([filling_mask(channel).mean() for channel in values]))
        yield (
            f"background: {100 * share:.0f} % of the voxels" if share else "background: none, content up to the border"
        )
    yield from (text for text in warnings if text.startswith("warning"))
    CheckVolumed("image", num_channels=channels)(loaded)
    if warning := check_spacing(sizes, shape):
        yield f"warning: {warning}"
    if found := _classes(values):
        yield f"warning: its values are the whole numbers {found} alone: a label map, and no image."
    yield f"suits: {_bundles(image, sizes * shape)}"


def _series(series: DicomSeries) -> Iterator[str]:
    import pydicom

    header = pydicom.dcmread(series.files[0], stop_before_pixels=True)
    syntax = header.file_meta.TransferSyntaxUID.name
    yield f"format: DICOM, {len(series.files)} files of modality {header.get('Modality')}, {syntax}"
    yield f"found in: {Path(series.files[0]).parent}"


def _place(path: str | Path) -> Iterator[str]:
    try:
        opened: Any = nib.load(path)
    except nib.filebasedimages.ImageFileError:  # of a format that others read
        yield f"format: .{ending(path)}"
        return
    place = place_of(opened)
    yield f"format: {type(opened).__name__}, {opened.get_data_dtype()}, unit of lengths: {place.unit}"
    if place.sform_code is not None and place.qform_code is not None:
        codes = {"sform": place.sform_code, "qform": place.qform_code}
        listed = ", ".join(f"{name} code {code} ({CODE_NAMES.get(code, '?')})" for name, code in codes.items())
        yield f"placed by: {place.used}; {listed}, {place.forms_apart_mm:.3g} mm apart"
    yield from (f"warning: {text}" for text in place.warnings)


def _intensities(values: np.ndarray) -> str:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return "intensities: none that is finite"
    low, median, high = np.percentile(finite, (1, 50, 99))
    bad = values.size - finite.size
    rest = f", {bad} NaN or infinite" if bad else ""
    return (
        f"intensities: {finite.min():.6g} to {finite.max():.6g}; 1st percentile {low:.6g}, median {median:.6g}, 99th "
        f"{high:.6g}{rest}"
    )


def _classes(values: np.ndarray) -> str:
    """The values of a volume that has few, all of them whole numbers, as label maps have."""
    found = np.unique(values)
    if len(found) > _MOST_CLASSES or (found != np.round(found)).any():
        return ""
    return ", ".join(f"{value:g}" for value in found)


def _bundles(image: Any, extent_mm: np.ndarray) -> str:
    if image.shape[0] == _TUMOUR_CHANNELS:
        return "brain_tumor_mri_*, if its channels are FLAIR, T1, T1 with gadolinium, T2"
    if image.shape[0] > 1:
        return "no bundle: of several channels only those of brain tumours are known, which are 4"
    if extent_mm.max() <= _CROP_MM:
        return "hippocampus_mri_*, if it is a T1 crop about one hippocampus"
    litres, _ = foreground_litres(image)
    try:
        CheckSkullStrippedd()({"image": image})
    except ValueError:
        return f"no bundle as it is: {litres:.1f} L are no background, a whole head; strip the skull first"
    return f"brain_structures_mri_*, if it is a T1 brain without skull ({litres:.1f} L of content)"


def _times(values: Any) -> str:
    return " x ".join(f"{float(value):.4g}" for value in values)
