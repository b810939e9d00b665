"""Where a NIfTI file says that its voxels lie: by which of its two forms, in which unit, and what is amiss with that.

A header has two forms of the affine, sform and qform, each with a code, and programs choose between them in their own
way: nibabel, FSL and SPM take the sform first, ITK often the qform. Where the two disagree, one of these programs
shows an image and a mask apart, unless the mask has both forms of its image.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from monai.data.utils import to_affine_nd
from nibabel.spatialimages import HeaderDataError

from equivariant_nets.data.notices import FileFault

__all__ = ["Place", "affine_distance_voxels", "copy_place", "is_sheared", "place_of", "spacing_mm"]

MM_PER_UNIT = {"meter": 1000.0, "mm": 1.0, "micron": 1e-3, "unknown": 1.0}
CODE_NAMES = {0: "unknown", 1: "scanner", 2: "aligned", 3: "Talairach", 4: "MNI", 5: "template"}
_PLACE_FIELDS = (
    "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z",
    "srow_x", "srow_y", "srow_z", "xyzt_units",
)  # fmt: skip
_SAME_SIZE = 0.01  # of the size of a voxel
_SAME_PLACE_VOXELS = 0.1
_LEAST_VOLUME = 1e-3  # of the parallelepiped of the axes' directions; 1 where they are perpendicular
_PERPENDICULAR_DEGREES = 0.5  # that axes may differ from it, as by rounding
_FORMS = ("sform", "qform")


class Place(NamedTuple):
    """Where the voxels of a file lie."""

    affine_mm: np.ndarray  # (4, 4), of voxel indices to millimetres, right, front and up
    used: str  # sform, qform, or none where the file holds no orientation
    unit: str  # of the file: mm, micron, meter or unknown
    sform_code: int | None  # None where the format has no codes
    qform_code: int | None
    forms_apart_mm: float  # how far apart sform and qform place a corner of the volume; 0 where there is one of them
    warnings: tuple[str, ...]


def place_of(image: Any) -> Place:
    """The place of an image that nibabel opened.

    The sform decides where it is there. Where it is not invertible, or its voxels have another size than ``pixdim``
    says, and those of the qform have this size, the qform decides: such an sform leads into a template's space.

    Args:
        image: of any format of nibabel.

    Raises:
        FileFault: neither form that the file holds is invertible, and finite.
    """
    header = image.header
    if not isinstance(header, nib.Nifti1Header):
        known = not isinstance(header, nib.AnalyzeHeader) or _has_orientation_file(image)
        affine = np.array(image.affine, float)
        used, warnings = "affine", _shear_notes(affine, "affine")
        if not known:
            used, warnings = "none", [_no_orientation("the format Analyze holds none", affine)]
        return Place(affine, used, "mm", None, None, 0.0, tuple(warnings))
    unit = header.get_xyzt_units()[0]
    mm = MM_PER_UNIT[unit]
    codes = {name: int(header[f"{name}_code"]) for name in _FORMS}
    forms = {name: form for name in _FORMS if codes[name] and (form := _legal_form(header, name)) is not None}
    notes = []
    apart = 0.0
    if not forms and any(codes.values()):
        given = " and ".join(f"a {name} of code {code}" for name, code in codes.items() if code)
        raise FileFault(
            f"the header has {given} that is not invertible; legal is an affine of three independent axes. Its place "
            "and orientation are lost: export the file again from its source."
        )
    if not forms:
        used, affine = "none", header.get_base_affine()
        notes.append(_no_orientation("sform and qform codes are 0", affine))
    else:
        sizes = np.array(header.get_zooms()[:3])
        fitting = [
            name for name, form in forms.items() if np.allclose(_sizes(form)[: len(sizes)], sizes, rtol=_SAME_SIZE)
        ]
        used = [*fitting, *forms][0]
        affine = forms[used]
    if len(forms) == 2 and affine_distance_voxels(forms["sform"], forms["qform"], image.shape):
        apart = mm * _corner_distance(forms["sform"], forms["qform"], image.shape)
        notes.append(
            f"sform (code {codes['sform']}) and qform (code {codes['qform']}) place it up to {apart:.3g} mm apart: the "
            f"{used} is used. The segmentation keeps both, so that it lies on its image in every program."
        )
    elif codes["sform"] and "sform" not in forms:
        notes.append(f"the sform of code {codes['sform']} is not invertible: the qform is used.")
    notes += _shear_notes(affine, used)
    scale = np.diag([mm, mm, mm, 1.0])
    return Place(scale @ affine, used, unit, codes["sform"], codes["qform"], apart, tuple(notes))


def copy_place(source: nib.Nifti1Header, target: nib.Nifti1Header) -> None:
    """Give a header sform, qform, their codes, voxel sizes and units of another, as they stand there.

    A form that is not invertible is left out by a code of 0.
    """
    for field in _PLACE_FIELDS:
        target[field] = source[field]
    target["pixdim"][:4] = source["pixdim"][:4]
    for name in _FORMS:
        if int(source[f"{name}_code"]) and _legal_form(source, name) is None:
            target[f"{name}_code"] = 0


def spacing_mm(affine_mm: Any) -> np.ndarray:
    """The sizes of voxels along their axes, in millimetres."""
    return _sizes(np.asarray(affine_mm, dtype=float))


def affine_distance_voxels(first: Any, second: Any, spatial_shape: Any) -> float:
    """How far apart two affines place a corner of a volume, in voxels of the first; 0 below a tenth of a voxel.

    Rounding of headers stays far below, and a tenth of a voxel moves no label.
    """
    first, second = (to_affine_nd(3, np.asarray(affine, dtype=float)) for affine in (first, second))
    moved = (np.linalg.pinv(first) @ (second - first)) @ _corners(spatial_shape)
    distance = float(np.linalg.norm(moved[:3], axis=0).max())
    return 0.0 if distance <= _SAME_PLACE_VOXELS else distance


def _corners(spatial_shape: Any) -> np.ndarray:
    """Homogeneous voxel indices (4, 8) of the corners of a volume."""
    sides = [(0, size - 1) for size in (*spatial_shape, 1)[:3]]
    points = np.stack(np.meshgrid(*sides, indexing="ij")).reshape(3, -1)
    return np.vstack([points, np.ones(points.shape[1])])


def _corner_distance(first: np.ndarray, second: np.ndarray, spatial_shape: Any) -> float:
    return float(np.linalg.norm(((first - second) @ _corners(spatial_shape))[:3], axis=0).max())


def _legal_form(header: nib.Nifti1Header, name: str) -> np.ndarray | None:
    """An affine of the header, where it is finite and invertible."""
    try:
        form = np.asarray(header.get_sform() if name == "sform" else header.get_qform(), dtype=float)
    except (HeaderDataError, ValueError):  # a quaternion of another length than 1
        return None
    if not np.isfinite(form).all() or not (_sizes(form) > 0).all():
        return None
    return form if abs(np.linalg.det(form[:3, :3] / _sizes(form))) > _LEAST_VOLUME else None


def is_sheared(affine: Any) -> bool:
    """Whether the axes of voxels are not perpendicular, which no qform can say."""
    return _shear_degrees(np.asarray(affine, dtype=float)) > _PERPENDICULAR_DEGREES


def _shear_degrees(affine: np.ndarray) -> float:
    """How far the axes are from perpendicular."""
    directions = affine[:3, :3] / _sizes(affine)
    cosines = np.abs(directions.T @ directions - np.eye(3)).max()
    return float(np.degrees(np.arcsin(min(1.0, cosines))))


def _shear_notes(affine: np.ndarray, used: str) -> list[str]:
    if not is_sheared(affine):
        return []
    return [
        f"its axes are up to {_shear_degrees(affine):.3g} degrees from perpendicular (a sheared {used}): it is "
        "resampled to perpendicular ones, and the segmentation has its own. Where neither a tilt of the scanner nor a "
        "registration is the reason, correct the header."
    ]


def _sizes(affine: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(affine[:3, :3]).sum(0))


def _has_orientation_file(image: Any) -> bool:
    """Whether SPM's .mat lies beside an Analyze image, whose affine nibabel takes then."""
    return not np.allclose(image.affine, image.header.get_base_affine())


def _no_orientation(why: str, affine: Any) -> str:
    axes = "".join(nib.aff2axcodes(affine))
    return (
        f"the file does not say how its patient lies ({why}). Its axes are taken to run to {axes}; where they do not, "
        "the segmentation is worse, and left and right may be exchanged. Convert it anew from its source, or write its "
        "orientation into the header (nibabel: as_reoriented, set_sform)."
    )
