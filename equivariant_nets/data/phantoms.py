"""Random synthetic anatomy with two look-alike nuclei, which only their relation to a third structure tells apart.

A head in dark noise carries a tapered stem at its caudal side (class 1). On the axis of the head lie two nuclei of the
same shape and intensity: class 2 is the caudal one, nearer to the stem, class 3 the rostral one. The head, the nuclei,
the deformation, the bias field and the place in the volume are distributed alike at both ends of the axis, so that
nothing but the stem tells the ends apart. A network that learned from upright cases that up is rostral calls the nuclei
by each other's name when the phantom is turned over; one that is equivariant to rotations cannot.

An upright phantom has its rostral end towards +W: superior, in the RAS orientation of the files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from equivariant_nets.data.datalist import paired_cases, read_manifest, select_section
from equivariant_nets.data.synthetic import checked_size, save_volume, write_locked
from equivariant_nets.files import write_json
from equivariant_nets.rotations import plane_rotation, random_rotation

__all__ = ["phantom", "phantom_datalist", "write_phantoms"]

# The anatomy is drawn in millimetres for a volume of this side, and scaled to the shortest side of the one asked for.
# All of it stays within 18.5 mm of the centre: at most 16 of the head and stem, 1.4 of shift, 1.05 of deformation.
_REFERENCE_MM = 40.0
_SMALLEST_SIDE = 20
_SHIFT_MM = 0.8
_DEFORMATION_MM = 0.6
_BIAS = 0.15
_WAVELENGTH_MM = (25.0, 50.0)

_UPRIGHT_DEGREES = 10.0
_VERSION = 2  # of the anatomy: with a new one, data sets that an older version wrote are written again
_FOLDERS = {"training": "Tr", "validation": "Tr", "test": "Ts", "upright_test": "Ts"}
_LABELS = ("background", "stem", "caudal nucleus", "rostral nucleus")


def phantom(
    random_state: np.random.RandomState,
    size: Sequence[int] = (40, 40, 40),
    max_tilt_degrees: float | None = 10.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one phantom, rendered at its pose on voxels of 1 mm.

    Args:
        random_state: source of every random choice.
        size: voxels (D, H, W), each at least 20. The anatomy fills a ball in the shortest side.
        max_tilt_degrees: the phantom stands upright but for a rotation by an angle uniform in [0, max] about a
            uniformly random axis; None poses it freely, uniformly over all rotations.

    Returns:
        image: float32 (D, H, W), not negative, of an arbitrary scale as in MRI.
        label: uint8 (D, H, W): 0 background, 1 stem, 2 caudal nucleus, 3 rostral nucleus.

    Raises:
        ValueError: a side is shorter than 20, there are not three, or the tilt is not in [0, 180].

    Example:
        >>> image, label = phantom(np.random.RandomState(0))
        >>> image.shape, label.max()
        ((40, 40, 40), np.uint8(3))
    """
    size = checked_size(size, _SMALLEST_SIDE)
    rotation = _pose(random_state, max_tilt_degrees)
    anatomy = _Anatomy.draw(random_state)
    grid = _grid_mm(size)
    shift = random_state.uniform(-_SHIFT_MM, _SHIFT_MM, size=(3, 1, 1, 1))
    body = np.tensordot(rotation.T, grid - shift, axes=1)  # f'(x) = f(R^-1 x)
    deformation = np.stack([_smooth_field(random_state, body) for _ in range(3)])
    head, label = anatomy.render(body + _DEFORMATION_MM * deformation)
    clean = np.where(label > 0, np.asarray(anatomy.intensities)[label], head)
    clean = clean * np.exp(_BIAS * _smooth_field(random_state, grid))
    return _magnitude_image(random_state, clean), label


def write_phantoms(
    dataset_dir: str | Path,
    num_training: int = 64,
    num_validation: int = 16,
    num_test: int = 32,
    size: Sequence[int] = (40, 40, 40),
    seed: int = 0,
) -> Path:
    """Write a data set of phantoms as NIfTI files (RAS, 1 mm) in the layout of the Medical Segmentation Decathlon.

    Training and validation cases, in ``imagesTr`` and ``labelsTr``, are upright within 10 degrees. Of the test cases,
    in ``imagesTs`` and ``labelsTs``, those of the section ``test`` are posed freely and as many of ``upright_test`` are
    upright. Each case is seeded on its own: case k of a section is the same however many are written. A complete data
    set of the same parameters is left as it is; another one is replaced. Processes that write the same folder wait for
    each other.

    Args:
        dataset_dir: folder to write to; made when absent.
        num_training: number of training cases.
        num_validation: number of validation cases.
        num_test: number of test cases in a free pose, and of upright ones.
        size: voxels (D, H, W) of each.
        seed: not negative; another seed gives another data set.

    Returns:
        the absolute path of the folder.

    Raises:
        ValueError: a count is less than 1, the seed is negative, the size is not legal, or the folder holds a data
            set of another kind, which is never overwritten.
    """
    folder = Path(dataset_dir).expanduser().absolute()
    counts = dict(zip(_FOLDERS, (num_training, num_validation, num_test, num_test), strict=True))
    for section, count in counts.items():
        if count < 1:
            raise ValueError(f"num_{section}={count} is less than 1. Each section needs at least one case.")
    if seed < 0:
        raise ValueError(f"seed={seed} is negative. Give 0 or more.")
    parameters = {"version": _VERSION, **counts, "size": list(checked_size(size, _SMALLEST_SIDE)), "seed": seed}

    def write() -> None:
        _remove_phantoms(folder)
        cases = [(section, index) for section, count in counts.items() for index in range(count)]
        for section, index in tqdm(cases, desc="writing phantoms"):
            _write_case(folder, section, index, size, seed)
        write_json(folder / "dataset.json", _manifest(counts, parameters))  # last: it is there only when every case is

    write_locked(folder, lambda: _is_complete(folder, parameters), write)
    return folder


def phantom_datalist(
    dataset_dir: str | Path, section: str = "training", train_cases: int | None = None
) -> list[dict[str, str]]:
    """The cases of one section of a data set that :func:`write_phantoms` wrote.

    Args:
        dataset_dir: the folder that holds ``dataset.json``.
        section: ``training``, ``validation``, ``test`` (posed freely) or ``upright_test``.
        train_cases: keep so many training cases, the first of a fixed shuffle; subsets are nested. None keeps all.

    Returns:
        dicts of ``image`` and ``label``, absolute paths.

    Raises:
        FileNotFoundError: the folder, or a file that its ``dataset.json`` names, is missing.
        ValueError: the section or ``train_cases`` is not legal, or ``dataset.json`` is damaged.
    """
    advice = f"Write the data set with equivariant_nets.data.write_phantoms({str(dataset_dir)!r})."
    manifest = read_manifest(dataset_dir, advice)
    cases = {part: paired_cases(dataset_dir, manifest.get(part), advice) for part in _FOLDERS}
    return select_section(cases, section, train_cases)


@dataclass(frozen=True)
class _Anatomy:
    """Lengths in mm in the body's frame: the head at the origin, rostral towards +W. One intensity a class."""

    head_radii: np.ndarray
    stem_ends: tuple[float, float]  # W of the tip and of the root
    stem_radii: tuple[float, float]  # at the tip and at the root
    nuclei_centre: np.ndarray
    nuclei_distance: float  # of each nucleus from the centre of the two
    nuclei_radii: np.ndarray
    intensities: tuple[float, float, float, float]  # head, stem, nucleus, nucleus

    @classmethod
    def draw(cls, random_state: np.random.RandomState) -> _Anatomy:
        uniform = random_state.uniform
        scale = uniform(0.88, 1.0)
        nucleus = uniform(1.4, 1.8)
        return cls(
            head_radii=scale * uniform((10.0, 10.0, 10.0), (12.5, 12.5, 12.0)),
            stem_ends=(scale * uniform(-15.8, -14.8), scale * uniform(-9.0, -8.2)),
            stem_radii=(scale * uniform(1.6, 2.2), scale * uniform(3.0, 4.0)),
            nuclei_centre=scale * uniform((-1.0, -1.0, -0.5), (1.0, 1.0, 0.5)),
            nuclei_distance=scale * uniform(3.4, 4.2),
            nuclei_radii=scale * uniform((2.8, 2.8, 2.0), (3.6, 3.6, 2.6)),
            intensities=(1.0, uniform(0.4, 0.65), nucleus, nucleus),
        )

    def render(self, body: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The head's intensity, and the label of each point (3, D, H, W)."""
        head = np.where(_in_ellipsoid(body, np.zeros(3), self.head_radii), self.intensities[0], 0.0)
        label = np.zeros(body.shape[1:], dtype=np.uint8)
        label[self._in_stem(body)] = 1
        for value, side in ((2, -1.0), (3, 1.0)):
            centre = self.nuclei_centre + np.array([0.0, 0.0, side * self.nuclei_distance])
            label[_in_ellipsoid(body, centre, self.nuclei_radii)] = value
        return head, label

    def _in_stem(self, body: np.ndarray) -> np.ndarray:
        tip, root = self.stem_ends
        radius = np.interp(body[2], self.stem_ends, self.stem_radii)
        return (tip <= body[2]) & (body[2] <= root) & (np.hypot(body[0], body[1]) <= radius)


def _in_ellipsoid(body: np.ndarray, centre: np.ndarray, radii: np.ndarray) -> np.ndarray:
    normalised = (body - centre.reshape(3, 1, 1, 1)) / radii.reshape(3, 1, 1, 1)
    return (normalised**2).sum(axis=0) <= 1.0


def _grid_mm(size: tuple[int, int, int]) -> np.ndarray:
    """Voxel centres (3, D, H, W) about the centre of the volume, in mm of the reference size."""
    axes = [(np.arange(side) - (side - 1) / 2) * (_REFERENCE_MM / min(size)) for side in size]
    return np.stack(np.meshgrid(*axes, indexing="ij"))


def _pose(random_state: np.random.RandomState, max_tilt_degrees: float | None) -> np.ndarray:
    frame = random_rotation(random_state)
    if max_tilt_degrees is None:
        return frame
    if not 0 <= max_tilt_degrees <= 180:
        raise ValueError(f"max_tilt_degrees={max_tilt_degrees} is not in [0, 180]. Give None for a free pose.")
    # The third axis of a uniformly random frame is a uniformly random axis to turn about.
    return frame @ plane_rotation((0, 1), random_state.uniform(0, max_tilt_degrees)) @ frame.T


def _smooth_field(random_state: np.random.RandomState, points: np.ndarray) -> np.ndarray:
    """A random field (D, H, W) within [-1, 1]: the mean of three plane waves of long wavelength."""
    field = np.zeros(points.shape[1:])
    for _ in range(3):
        direction = random_rotation(random_state)[0]
        frequency = 2 * np.pi / random_state.uniform(*_WAVELENGTH_MM)
        phase = random_state.uniform(0, 2 * np.pi)
        field += np.sin(np.tensordot(frequency * direction, points, axes=1) + phase) / 3
    return field


def _magnitude_image(random_state: np.random.RandomState, clean: np.ndarray) -> np.ndarray:
    """Add Rician noise, that of a magnitude image in MRI, and an arbitrary gain."""
    sigma, gain = random_state.uniform(0.04, 0.08), random_state.uniform(100.0, 1000.0)
    real, imaginary = random_state.normal(scale=sigma, size=(2, *clean.shape))
    return (gain * np.hypot(clean + real, imaginary)).astype(np.float32)


def _case_files(section: str, index: int) -> dict[str, str]:
    name, folder = f"phantom_{section}_{index:04d}.nii.gz", _FOLDERS[section]
    return {"image": f"./images{folder}/{name}", "label": f"./labels{folder}/{name}"}


def _write_case(folder: Path, section: str, index: int, size: Sequence[int], seed: int) -> None:
    random_state = np.random.RandomState([seed, list(_FOLDERS).index(section), index])
    image, label = phantom(random_state, size, None if section == "test" else _UPRIGHT_DEGREES)
    for array, file in zip((image, label), _case_files(section, index).values(), strict=True):
        save_volume(array, folder / file)


def _manifest(counts: dict[str, int], parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "Phantoms",
        "description": "synthetic anatomy with two nuclei that only their relation to the stem tells apart",
        "tensorImageSize": "3D",
        "modality": {"0": "synthetic"},
        "labels": {str(value): name for value, name in enumerate(_LABELS)},
        "numTraining": counts["training"],
        "numTest": counts["test"] + counts["upright_test"],
        "phantom": parameters,
        **{section: [_case_files(section, index) for index in range(counts[section])] for section in _FOLDERS},
    }


def _is_complete(folder: Path, parameters: dict[str, Any]) -> bool:
    """Whether the folder holds exactly these phantoms; a data set of another kind is an error."""
    try:
        manifest = read_manifest(folder, advice="")
    except FileNotFoundError:
        return False
    if "phantom" not in manifest:
        raise ValueError(f"{folder} holds a data set that write_phantoms did not write. Choose another folder.")
    files = [file for section in _FOLDERS for case in manifest.get(section, []) for file in case.values()]
    return manifest["phantom"] == parameters and all((folder / file).is_file() for file in files)


def _remove_phantoms(folder: Path) -> None:
    (folder / "dataset.json").unlink(missing_ok=True)
    for path in folder.glob("*T[rs]/phantom_*.nii.gz"):
        path.unlink()
