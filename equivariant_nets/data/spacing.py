"""Whether the voxels of a volume have a size that MRI of a head can have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["check_spacing"]

LEAST_MM, MOST_MM = 0.1, 10.0  # of a side: microscopy lies below, and no slice of MRI is thicker
MOST_OF_THE_SMALLEST_MM = 6.0  # beyond, no structure that a bundle knows is visible
MOST_EXTENT_MM = 600.0  # a scanner's field of view ends at 500
THICK_MM = 2.5  # two and a half times the voxels that the networks see
_UNITS = {"metres": 1000.0, "centimetres": 10.0, "micrometres": 1e-3}
_USUAL_MM = (0.3, 3.0)


class _Fault(NamedTuple):
    what: str
    legal: str


def check_spacing(spacing_mm: Sequence[float] | np.ndarray, shape: Sequence[int]) -> str | None:
    """Check the voxel sizes of a volume of a head or of a part of it.

    Args:
        spacing_mm: three sizes.
        shape: voxels along the same three axes.

    Returns:
        a warning where slices are thick, or None.

    Raises:
        ValueError: no MRI of a head has such voxels; the text names the unit that they are likely in.
    """
    sizes = np.asarray(spacing_mm, dtype=float)
    extent = sizes * np.asarray(shape, dtype=float)
    if fault := _fault(sizes, extent):
        raise ValueError(
            f"the voxel spacing is {_listed(sizes)} mm, {fault.what}; legal is {fault.legal}. {_likely_unit(sizes)}"
            "Correct the header (nibabel: header.set_zooms, set_sform, set_xyzt_units), or convert the file again."
        )
    if sizes.max() > THICK_MM:
        return (
            f"the voxel spacing is {_listed(sizes)} mm: slices {sizes.max():.3g} mm thick are interpolated, and "
            "boundaries between them are guesses. Expect less accuracy than the card of the bundle states, which is "
            "that on voxels of about 1 mm."
        )
    return None


def _fault(sizes: np.ndarray, extent: np.ndarray) -> _Fault | None:
    if sizes.min() < LEAST_MM or sizes.max() > MOST_MM:
        return _Fault("which no MRI of a head has", f"{LEAST_MM:g} to {MOST_MM:g} mm along each axis")
    if sizes.min() > MOST_OF_THE_SMALLEST_MM:
        return _Fault("too coarse along all axes", f"at most {MOST_OF_THE_SMALLEST_MM:g} mm along one of them")
    if extent.max() > MOST_EXTENT_MM:
        return _Fault(f"so that the volume is {extent.max():.4g} mm long", f"a volume of up to {MOST_EXTENT_MM:g} mm")
    return None


def _likely_unit(sizes: np.ndarray) -> str:
    for unit, mm in _UNITS.items():
        if _USUAL_MM[0] <= sizes.min() * mm and sizes.max() * mm <= MOST_MM and sizes.min() * mm <= _USUAL_MM[1]:
            return f"The true sizes are likely {_listed(sizes * mm)} mm, as if the header were in {unit}. "
    return ""


def _listed(sizes: np.ndarray) -> str:
    return " x ".join(f"{size:.4g}" for size in sizes)
