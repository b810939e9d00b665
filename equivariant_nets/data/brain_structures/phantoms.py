"""Synthetic brains with the seven structures, to try a pipeline on: no person's data, and no substitute for it.

The brain is an ellipsoid of cortex around white matter. Cerebellum, hippocampus, lateral ventricles, caudate, putamen
and pallidum lie on either side, the vermis of the cerebellum and the brain stem in the middle, with the contrasts of
T1: ventricles are dark, grey matter is darker than white. A whole head has a dark skull and a bright scalp around the
brain, and noise in the air.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from equivariant_nets.data.brain_structures.labels import LABEL_TABLES
from equivariant_nets.data.synthetic import checked_size, ellipsoid_level, save_volume, smooth_field, write_once

__all__ = ["write_brain_phantoms"]

_VERSION = 1  # of the anatomy
_SMALLEST_SIDE = 24
_LAYOUTS = {"miccai": "LAS", "mindboggle": "PSR"}  # where the voxel axes run to
_FIRST_SUBJECT = 101  # of OASIS-TRT-20-N, so that no phantom has the name of a person's scan


class _Part(NamedTuple):
    """An ellipsoid on either side, or one in the middle, in units of the brain's half axes: right, front, up."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]


# In the order of drawing: where two overlap, the later one is seen.
_PARTS = {
    "cerebellum": _Part((0.27, -0.48, -0.58), (0.32, 0.32, 0.26)),
    "cerebellum white matter": _Part((0.27, -0.48, -0.58), (0.17, 0.17, 0.13)),
    "brain stem": _Part((0.0, -0.14, -0.58), (0.17, 0.17, 0.36)),
    "lateral ventricles": _Part((0.16, -0.02, 0.24), (0.12, 0.38, 0.17)),
    "hippocampus": _Part((0.45, -0.12, -0.36), (0.14, 0.30, 0.14)),
    "putamen": _Part((0.62, 0.12, 0.0), (0.13, 0.27, 0.20)),
    "caudate": _Part((0.36, 0.24, 0.26), (0.12, 0.26, 0.16)),
    "pallidum": _Part((0.41, 0.05, -0.04), (0.13, 0.19, 0.15)),
}
_CORTEX_DEPTH = 0.85
_VERMIS_WIDTH = 0.07
_SKULL_LEVELS = (1.08, 1.22)  # of the outer surfaces of skull and scalp, in units of the brain's

_INTENSITIES = {
    "cortex": 0.66,
    "white matter": 1.10,
    "vermis": 0.60,
    "cerebellum": 0.72,
    "cerebellum white matter": 1.00,
    "brain stem": 1.05,
    "lateral ventricles": 0.25,
    "hippocampus": 0.70,
    "putamen": 0.82,
    "caudate": 0.78,
    "pallidum": 0.94,
    "skull": 0.15,
    "scalp": 1.00,
}
_TISSUES = tuple(_INTENSITIES)
_SPREAD = 0.03  # of a tissue's intensity from one phantom to another
_JITTER = 0.02  # of the centre of a part
_BIAS = 0.08
_NOISE = 0.04


class _Numbering(NamedTuple):
    """What label maps of one source call the parts. All values are right, left."""

    convention: str
    cerebellum: slice  # of the exterior or cortex in the convention's values
    cortex: tuple[int, int]  # the superior frontal gyrus stands for all of it
    white_matter: tuple[int, int]
    vermis: tuple[int, int]

    def values(self) -> dict[str, tuple[int, ...]]:
        table = LABEL_TABLES[self.convention]
        return {
            **table,
            "cerebellum": table["cerebellum"][self.cerebellum],
            "cerebellum white matter": table["cerebellum"][-2:],
            "cortex": self.cortex,
            "white matter": self.white_matter,
            "vermis": self.vermis,
        }


_MICCAI = _Numbering("neuromorphometrics", slice(0, 2), (190, 191), (44, 45), (71, 71))
_MANUAL = _Numbering("freesurfer", slice(0, 2), (2028, 1028), (0, 0), (631, 631))  # white matter is not drawn
_ASEG = _Numbering("freesurfer", slice(2, 4), (2028, 1028), (41, 2), (47, 8))  # the vermis counts to the cortex


def write_brain_phantoms(
    dataset_dir: str | Path,
    layout: str = "miccai",
    num_cases: int = 6,
    size: Sequence[int] = (32, 36, 28),
    seed: int = 0,
    spacing_mm: float = 1.0,
    whole_head: bool = False,
) -> Path:
    """Write synthetic brains as NIfTI files in the layout of a data set, with its numbers of all parts of the brain.

    Case k is the same brain in both layouts, and however many are written, for it is seeded on its own. Voxel axes run
    to the left, to the front and up in ``miccai``, and to the back, up and to the right in ``mindboggle``. The latter
    has, as Mindboggle101, whole heads beside the brains, and manual labels beside those of FreeSurfer, whose cerebellum
    holds the vermis. Names are none of the published cases, so that :func:`brain_structures_datalist` shares them out
    by their order. The file ``synthetic.json`` says what they are. Cases of the same parameters that are there are left
    as they are; processes that write the same folder wait for each other.

    Args:
        dataset_dir: folder to write to; made when absent.
        layout: ``miccai`` or ``mindboggle``.
        num_cases: number of cases; three have every section.
        size: voxels to the right, to the front and up, each at least 24. The head fills the volume.
        seed: not negative; another seed gives other cases.
        spacing_mm: of the voxels. The brain of 32 x 36 x 28 voxels is as large as a person's from 5 mm on.
        whole_head: whether to write whole heads where stripped brains belong, as a mistake to be found.

    Returns:
        the absolute path of the folder.

    Raises:
        ValueError: the layout is unknown, a number is not legal, or the folder has other content.
    """
    if layout not in _LAYOUTS:
        raise ValueError(f"layout={layout!r} is not one of {', '.join(_LAYOUTS)}.")
    if num_cases < 1 or seed < 0 or not spacing_mm > 0:
        raise ValueError(
            f"num_cases={num_cases}, seed={seed} and spacing_mm={spacing_mm} are not legal; give at least 1 case, a "
            "seed from 0 and a positive spacing."
        )
    sides = checked_size(size, _SMALLEST_SIDE)
    folder = Path(dataset_dir).expanduser().absolute()
    parameters = {
        "version": _VERSION,
        "layout": layout,
        "num_cases": num_cases,
        "size": list(sides),
        "seed": seed,
        "spacing_mm": float(spacing_mm),
        "whole_head": bool(whole_head),
    }

    def write() -> None:
        for index in tqdm(range(num_cases), desc="writing brain phantoms"):
            brain, head, tissues, right = _draw(np.random.RandomState([seed, index]), sides)
            volumes = _files(layout, index, head if whole_head else brain, head, tissues, right)
            for file, volume in volumes.items():
                save_volume(volume, folder / file, _LAYOUTS[layout], spacing_mm)

    write_once(folder, "write_brain_phantoms", "synthetic brains, not images of people", parameters, write)
    return folder


def _files(
    layout: str, index: int, image: np.ndarray, head: np.ndarray, tissues: np.ndarray, right: np.ndarray
) -> dict[str, np.ndarray]:
    """The volume of each file of a case."""
    if layout == "miccai":
        name = f"phantom_{index:03d}.nii.gz"
        return {f"images/{name}": image, f"labels/{name}": _label(_MICCAI, tissues, right)}
    name = f"OASIS-TRT-20-{_FIRST_SUBJECT + index}"
    return {
        f"OASIS-TRT-20_volumes/{name}/t1weighted.nii.gz": head,
        f"OASIS-TRT-20_volumes/{name}/t1weighted_brain.nii.gz": image,
        f"OASIS-TRT-20_volumes/{name}/labels.DKT31.manual+aseg.nii.gz": _label(_ASEG, tissues, right),
        f"OASIS-TRT-20_DKT31_CMA_labels_v2/{name}_DKT31_CMA_labels.nii.gz": _label(_MANUAL, tissues, right),
    }


def _draw(
    random_state: np.random.RandomState, sides: tuple[int, int, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A stripped brain and its whole head, int16; the index of each voxel's tissue in _TISSUES; and the right half."""
    axes = [(2 * np.arange(side) + 1) / side - 1 for side in sides]  # from -1 to 1 between the faces of the volume
    points = np.stack(np.meshgrid(*axes, indexing="ij")) / random_state.uniform(0.79, 0.84, (3, 1, 1, 1))
    smoothness = min(sides) / 6
    depth = ellipsoid_level(points, np.ones(3)) * (1 + 0.04 * smooth_field(random_state, sides, smoothness))
    folds = 0.06 * smooth_field(random_state, sides, smoothness / 3)
    names = np.where(depth + folds > _CORTEX_DEPTH, _TISSUES.index("cortex"), _TISSUES.index("white matter"))
    for name, part in _PARTS.items():
        names[_inside(random_state, points, part)] = _TISSUES.index(name)
    in_cerebellum = np.isin(names, [_TISSUES.index(name) for name in _PARTS if name.startswith("cerebellum")])
    names[in_cerebellum & (np.abs(points[0]) < _VERMIS_WIDTH)] = _TISSUES.index("vermis")
    brain = depth < 1
    names[~brain] = _TISSUES.index("skull")
    names[depth > _SKULL_LEVELS[0]] = _TISSUES.index("scalp")
    intensities = np.array(list(_INTENSITIES.values()))
    intensities *= 1 + _SPREAD * random_state.uniform(-1, 1, len(intensities))
    clean = intensities[names] * np.exp(_BIAS * smooth_field(random_state, sides, 2 * smoothness))
    clean[depth > _SKULL_LEVELS[1]] = 0
    real, imaginary = random_state.normal(scale=_NOISE, size=(2, *sides))
    head = np.rint(random_state.uniform(300, 1500) * np.hypot(clean + real, imaginary).clip(min=0.01)).astype(np.int16)
    return np.where(brain, head, 0).astype(np.int16), head, np.where(brain, names, -1), points[0] > 0


def _inside(random_state: np.random.RandomState, points: np.ndarray, part: _Part) -> np.ndarray:
    inside = np.zeros(points.shape[1:], bool)
    for side in (-1, 1) if part.centre[0] else (0,):
        jitter = random_state.uniform(-_JITTER, _JITTER, 3)
        centre = np.array(part.centre) * (side, 1, 1) + jitter
        radii = np.array(part.radii) * random_state.uniform(0.92, 1.1, 3)
        inside |= ellipsoid_level(points - centre.reshape(3, 1, 1, 1), radii) < 1
    return inside


def _label(numbering: _Numbering, tissues: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The whole-brain label map, float32 as Mindboggle's are."""
    label = np.zeros(tissues.shape, np.float32)
    for name, values in numbering.values().items():
        label[tissues == _TISSUES.index(name)] = values[-1]
        label[(tissues == _TISSUES.index(name)) & right] = values[0]
    return label
