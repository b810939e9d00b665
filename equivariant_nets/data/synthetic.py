"""What synthetic data sets share: smooth random shapes, and files that are written once, and never over others."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from filelock import FileLock
from nibabel.orientations import axcodes2ornt, ornt_transform
from scipy.ndimage import gaussian_filter

from equivariant_nets.files import replace_file, write_json

__all__ = ["checked_size", "ellipsoid_level", "save_volume", "smooth_field", "write_locked", "write_once"]

_MARKER = "synthetic.json"
_BEGUN = ".begun.json"  # the parameters of what is being written, or was when its writer was killed


def checked_size(size: Sequence[int], smallest_side: int) -> tuple[int, int, int]:
    """The sides (D, H, W).

    Raises:
        ValueError: there are not three, or one is no whole number or shorter than ``smallest_side``.
    """
    if len(size) != 3 or any(int(side) != side or side < smallest_side for side in size):
        raise ValueError(f"size={size!r} is not legal; give three whole numbers of voxels from {smallest_side}.")
    return int(size[0]), int(size[1]), int(size[2])


def ellipsoid_level(points: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """The distance of points (3, D, H, W) from the origin in units of the ellipsoid's surface, (D, H, W)."""
    return np.sqrt(((points / radii.reshape(3, 1, 1, 1)) ** 2).sum(axis=0))


def smooth_field(random_state: np.random.RandomState, sides: Sequence[int], smoothness: float) -> np.ndarray:
    """A random field (D, H, W) within [-1, 1], smooth over so many voxels."""
    field = gaussian_filter(random_state.normal(size=sides), smoothness, mode="wrap")
    return field / np.abs(field).max()


def write_once(
    folder: Path, writer: str, description: str, parameters: dict[str, Any], write: Callable[[], None]
) -> None:
    """Write a synthetic data set, unless one of the same parameters is there; processes wait for each other.

    The file ``synthetic.json`` in the folder, written last, holds the description and the parameters. What a writer of
    the same parameters left when it was killed is written again.

    Args:
        folder: made when absent.
        writer: the function that writes, as errors call it.
        description: what the data is, for who finds it.
        parameters: all that the data depends on, as JSON has it.
        write: writes the files.

    Raises:
        ValueError: the folder has other content.
    """

    def write_all() -> None:
        write_json(folder / _BEGUN, parameters)
        write()
        write_json(folder / _MARKER, {"description": description, **parameters})
        (folder / _BEGUN).unlink()

    write_locked(folder, lambda: _is_written(folder, writer, parameters), write_all)


def write_locked(folder: Path, is_written: Callable[[], bool], write: Callable[[], None]) -> None:
    """Write into a folder, made when absent, what is not written yet; processes wait for each other."""
    if is_written():
        return
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        if not is_written():
            write()


def save_volume(array: np.ndarray, path: Path, axcodes: str = "RAS", spacing_mm: float = 1.0) -> None:
    """Write a NIfTI file, at once or not at all, whose place in the world is the same whatever the axes of its voxels.

    Args:
        array: (D, H, W), or (D, H, W, C), with the axes to the right, to the front and up.
        path: its folder is made when absent.
        axcodes: where the voxel axes of the file run to; the array is turned to them.
        spacing_mm: of the voxels along each axis.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    volume = nib.Nifti1Image(array, np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0]))
    volume = volume.as_reoriented(ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(axcodes)))
    volume.header.set_xyzt_units("mm")
    with replace_file(path) as unfinished:
        nib.save(volume, unfinished)


def _is_written(folder: Path, writer: str, parameters: dict[str, Any]) -> bool:
    """Whether the folder holds exactly this data; other content is an error."""
    content = [path for path in folder.glob("*") if not path.name.startswith(".")]
    if not content:
        return False
    marker, begun = folder / _MARKER, folder / _BEGUN
    if not marker.is_file() and begun.is_file() and json.loads(begun.read_text(encoding="utf-8")) == parameters:
        return False
    written = json.loads(marker.read_text(encoding="utf-8")) if marker.is_file() else {}
    if any(written.get(name) != value for name, value in parameters.items()):
        raise ValueError(
            f"{folder} has content that {writer} did not write with {parameters}. It is left as it is: delete it, or "
            "choose another folder."
        )
    return True
