"""Synthetic brain tumours in four modalities, to try a pipeline on: no patient's data, and no substitute for it.

A brain without skull lies in a zero background. Its tumour is nested, edema around non-enhancing core around an
enhancing part, of random place, size and shape. The contrasts are those of MRI: edema is bright in FLAIR and T2, the
core in T2, enhancing tumour in T1 with gadolinium, and all of it is dark in T1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from equivariant_nets.data.brain_tumor.conventions import CONVENTIONS
from equivariant_nets.data.brain_tumor.labels import CLASS_NAMES
from equivariant_nets.data.synthetic import checked_size, ellipsoid_level, save_volume, smooth_field, write_once
from equivariant_nets.files import write_json
from equivariant_nets.rotations import random_rotation

__all__ = ["tumor_phantom", "write_tumor_phantoms"]

_VERSION = 1  # of the anatomy
_SMALLEST_SIDE = 16
_SMALLEST_RADIUS = 1.6  # voxels, of the enhancing part: its shape stretches and wobbles, and must hold a voxel still

# Mean intensity of each tissue in FLAIR, T1, T1 with gadolinium, T2.
_TISSUES = {
    "grey matter": (0.95, 0.80, 0.85, 1.00),
    "white matter": (0.80, 1.05, 1.10, 0.80),
    "ventricle": (0.25, 0.30, 0.30, 1.60),
    "edema": (1.60, 0.65, 0.70, 1.60),
    "non-enhancing tumour": (1.15, 0.45, 0.50, 1.45),
    "enhancing tumour": (1.25, 0.60, 1.90, 1.20),
}
_TISSUE_OF_CLASS = {1: "edema", 2: "non-enhancing tumour", 3: "enhancing tumour"}
_SPREAD = 0.06  # of a tissue's intensity from one phantom to another
_BIAS = 0.15
_NOISE = 0.05
_WOBBLE = 0.25  # of the radius of a surface


class _Layout(NamedTuple):
    image_files: Callable[[int], list[str]]  # of case k: one file of four channels, or one a modality, in our order
    label_file: Callable[[int], str]
    convention: str
    axcodes: str  # where the voxel axes run to


def _brats(stem: str, first: int, modalities: Sequence[str], label: str, suffix: str, convention: str) -> _Layout:
    def file(index: int, part: str) -> str:
        name = stem.format(index + first)
        return f"{name}/{name}{part}{suffix}"

    return _Layout(
        lambda index: [file(index, part) for part in modalities],
        lambda index: file(index, label),
        convention,
        "LPS",
    )


_UNDERSCORED = ("_flair", "_t1", "_t1ce", "_t2")
_LAYOUTS = {
    "msd": _Layout(
        lambda index: [f"imagesTr/BRATS_{index + 1:03d}.nii.gz"],
        lambda index: f"labelsTr/BRATS_{index + 1:03d}.nii.gz",
        "msd",
        "RAS",
    ),
    "brats2020": _brats("BraTS20_Training_{:03d}", 1, _UNDERSCORED, "_seg", ".nii", "brats2021"),
    "brats2021": _brats("BraTS2021_{:05d}", 0, _UNDERSCORED, "_seg", ".nii.gz", "brats2021"),
    "brats2023": _brats("BraTS-GLI-{:05d}-000", 0, ("-t2f", "-t1n", "-t1c", "-t2w"), "-seg", ".nii.gz", "brats2023"),
}


def tumor_phantom(
    random_state: np.random.RandomState, size: Sequence[int] = (32, 32, 32)
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one synthetic brain with a tumour, on voxels of 1 mm.

    Args:
        random_state: source of every random choice.
        size: voxels (D, H, W), each at least 16. The brain fills the volume; the tumour goes by the shortest side.

    Returns:
        The image, float32 (4, D, H, W), FLAIR, T1, T1 with gadolinium, T2: 0 outside the brain and positive inside,
        with a scale of its own for each modality; and the label, uint8 (D, H, W): 0 background, 1 edema, 2
        non-enhancing tumour, 3 enhancing tumour, each there.

    Raises:
        ValueError: a side is shorter than 16, or there are not three.

    Example:
        >>> image, label = tumor_phantom(np.random.RandomState(0))
        >>> image.shape, np.unique(label).tolist()
        ((4, 32, 32, 32), [0, 1, 2, 3])
    """
    sides = checked_size(size, _SMALLEST_SIDE)
    half = np.array(sides) / 2
    grid = np.stack(np.meshgrid(*(np.arange(side) - (side - 1) / 2 for side in sides), indexing="ij"))
    smoothness = min(sides) / 6
    depth = ellipsoid_level(grid / half.reshape(3, 1, 1, 1), random_state.uniform(0.82, 0.94, 3))
    depth *= 1 + 0.06 * smooth_field(random_state, sides, smoothness)
    brain = depth < 1
    label = _tumour(random_state, grid, half, brain, smoothness)
    tissues = _tissues(random_state, grid, half, depth, label, smoothness)
    bias = np.exp(_BIAS * smooth_field(random_state, sides, 2 * smoothness))
    image = np.zeros((4, *sides), np.float32)
    for channel in range(len(image)):
        intensities = np.array([means[channel] for means in _TISSUES.values()])
        intensities *= 1 + _SPREAD * random_state.uniform(-1, 1, len(intensities))
        clean = intensities[tissues] * bias + random_state.normal(scale=_NOISE, size=sides)
        image[channel] = np.where(brain, random_state.uniform(300, 1500) * clean.clip(min=0.01), 0)
    return image, label


def write_tumor_phantoms(
    dataset_dir: str | Path,
    layout: str = "msd",
    num_cases: int = 6,
    size: Sequence[int] = (32, 32, 32),
    seed: int = 0,
) -> Path:
    """Write synthetic cases as NIfTI files (1 mm) in the layout of a data set, with its numbers of the classes.

    The anatomy in the world is the same in all layouts, though the voxels of BraTS run to the left and to the front
    (affine diag(-1, -1, 1)), and those of MSD to the right and to the back. Each case is seeded on its own: case k is
    the same however many are written. The file ``synthetic.json`` beside the cases says what they are. Cases of the
    same parameters that are there are left as they are; processes that write the same folder wait for each other.

    Args:
        dataset_dir: folder to write to; made when absent.
        layout: ``msd``, ``brats2020``, ``brats2021`` or ``brats2023``.
        num_cases: number of cases, of one patient each.
        size: voxels (D, H, W) of each, at least 16.
        seed: not negative; another seed gives other cases.

    Returns:
        the absolute path of the folder.

    Raises:
        ValueError: the layout is unknown, a number is not legal, or the folder has other content.
    """
    if layout not in _LAYOUTS:
        raise ValueError(f"layout={layout!r} is not one of {', '.join(_LAYOUTS)}.")
    if num_cases < 1 or seed < 0:
        raise ValueError(
            f"num_cases={num_cases} and seed={seed} are not legal; give at least 1 case and a seed from 0."
        )
    sides = checked_size(size, _SMALLEST_SIDE)
    folder = Path(dataset_dir).expanduser().absolute()
    parameters = {"version": _VERSION, "layout": layout, "num_cases": num_cases, "size": list(sides), "seed": seed}

    def write() -> None:
        for index in tqdm(range(num_cases), desc="writing tumour phantoms"):
            _write_case(folder, _LAYOUTS[layout], index, sides, seed)
        if layout == "msd":
            write_json(folder / "dataset.json", _manifest(num_cases))

    description = "synthetic brains with tumours, not images of patients"
    write_once(folder, "write_tumor_phantoms", description, parameters, write)
    return folder


def _tumour(
    random_state: np.random.RandomState, grid: np.ndarray, half: np.ndarray, brain: np.ndarray, smoothness: float
) -> np.ndarray:
    """Classes (D, H, W) of three surfaces, each within the one before and off its centre."""
    enhancing = max(_SMALLEST_RADIUS, min(half) * random_state.uniform(0.1, 0.2))
    radii = enhancing * np.cumprod([1, random_state.uniform(1.35, 1.7), random_state.uniform(1.35, 1.8)])
    direction = random_rotation(random_state)[0]
    centre = direction * half * random_state.uniform(0.15, 0.5)
    label = np.zeros(grid.shape[1:], np.uint8)
    inside = brain
    for value, radius in zip((1, 2, 3), radii[::-1], strict=True):
        frame = random_rotation(random_state)
        points = np.tensordot(frame, grid - centre.reshape(3, 1, 1, 1), axes=1)
        level = ellipsoid_level(points, radius * random_state.uniform(0.85, 1.2, 3))
        level *= 1 + _WOBBLE * smooth_field(random_state, grid.shape[1:], smoothness / 2)
        inside = inside & (level < 1)
        label[inside] = value
        centre = centre + 0.15 * radius * random_rotation(random_state)[0]
    return label


def _tissues(
    random_state: np.random.RandomState,
    grid: np.ndarray,
    half: np.ndarray,
    depth: np.ndarray,
    label: np.ndarray,
    smoothness: float,
) -> np.ndarray:
    """The index of each voxel's tissue in _TISSUES, (D, H, W)."""
    names = list(_TISSUES)
    folds = 0.2 * smooth_field(random_state, grid.shape[1:], smoothness / 3)
    tissues = np.where(depth + folds < 0.78, names.index("white matter"), names.index("grey matter"))
    for side in (-1, 1):
        centre = half * np.array([side * 0.16, random_state.uniform(-0.1, 0.1), random_state.uniform(0, 0.15)])
        ventricle = ellipsoid_level(
            grid - centre.reshape(3, 1, 1, 1), half * random_state.uniform((0.06, 0.2, 0.1), (0.1, 0.3, 0.16))
        )
        tissues[ventricle < 1] = names.index("ventricle")
    for value, name in _TISSUE_OF_CLASS.items():
        tissues[label == value] = names.index(name)
    return tissues


def _write_case(folder: Path, layout: _Layout, index: int, sides: tuple[int, int, int], seed: int) -> None:
    image, label = tumor_phantom(np.random.RandomState([seed, index]), sides)
    values = {number: value for value, number in CONVENTIONS[layout.convention].classes.items()}
    label = np.array([values[number] for number in range(len(values))], np.uint8)[label]
    image = np.rint(image)  # whole numbers in every layout
    files = layout.image_files(index)
    if len(files) == 1:
        save_volume(np.moveaxis(image, 0, -1).astype(np.float32), folder / files[0], layout.axcodes)
    else:
        for volume, file in zip(image, files, strict=True):
            save_volume(volume.astype(np.int16), folder / file, layout.axcodes)
    save_volume(label, folder / layout.label_file(index), layout.axcodes)


def _manifest(num_cases: int) -> dict[str, Any]:
    layout = _LAYOUTS["msd"]
    cases = [
        {"image": f"./{layout.image_files(index)[0]}", "label": f"./{layout.label_file(index)}"}
        for index in range(num_cases)
    ]
    return {
        "name": "Synthetic brain tumours",
        "description": "synthetic brains with tumours, not images of patients",
        "tensorImageSize": "4D",
        "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
        "labels": {str(value): name for value, name in enumerate(CLASS_NAMES)},
        "numTraining": num_cases,
        "numTest": 0,
        "training": cases,
        "test": [],
    }
