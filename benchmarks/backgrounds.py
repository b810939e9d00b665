"""Dice of a bundle of brains on files whose background is not 0: as splines, programs and other scales leave it.

    python benchmarks/backgrounds.py BUNDLE --dataset_dir DIR [--num_cases 3]

Validation cases of MICCAI 2012 are written anew with each background and segmented by the bundle's ``inference.json``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import monai.bundle
import nibabel as nib
import numpy as np
from common import print_table
from scipy.ndimage import affine_transform
from scipy.spatial.transform import Rotation

from equivariant_nets.cli import command_line
from equivariant_nets.data import STRUCTURES, StructuresFromLabelsd, brain_structures_datalist

DEGREES = 4.0  # about the body axis, of what splines turn


def turned(array: np.ndarray, order: int) -> np.ndarray:
    """A volume turned on its own canvas, filled with its lowest value."""
    matrix = Rotation.from_euler("z", DEGREES, degrees=True).as_matrix()
    centre = (np.array(array.shape) - 1) / 2
    return affine_transform(array, matrix, centre - matrix @ centre, order=order, cval=array.min())


def standardised(array: np.ndarray) -> np.ndarray:
    """Mean 0 and standard deviation 1 within the brain, 0 outside."""
    brain = array > 0
    return np.where(brain, (array - array[brain].mean()) / array[brain].std(), 0)


def noisy(array: np.ndarray) -> np.ndarray:
    """A background between 0 and a thousandth of the highest value."""
    noise = np.random.RandomState(0).uniform(0, 0.001 * array.max(), array.shape)
    return np.where(array > 0, array, noise)


FILES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as it is": lambda array: array,
    "turned, linear": lambda array: turned(array, 1),
    "turned, B-splines": lambda array: turned(array, 3),
    "turned, B-splines, from 0, int16": lambda array: turned(array, 3).clip(0).round().astype(np.int16),
    "standardised": standardised,
    "background of 0 to 0.001": noisy,
}


def backgrounds(bundle: str, *, dataset_dir: str, num_cases: int = 3) -> None:
    """Print the mean Dice over structures and cases, by the background of the files.

    Args:
        bundle: folder of a bundle of brain structures.
        dataset_dir: folder of MICCAI 2012 with images/ and labels/.
        num_cases: so many of its validation cases.
    """
    cases = brain_structures_datalist(dataset_dir, "validation")[:num_cases]
    merge = StructuresFromLabelsd("label", convention_key="convention")
    rows = []
    for name, write in FILES.items():
        scores = []
        with tempfile.TemporaryDirectory() as folder:
            for number, case in enumerate(cases):
                image = nib.load(case["image"])
                array = write(np.asarray(image.dataobj, dtype=np.float32))
                nib.save(nib.Nifti1Image(array, image.affine), f"{folder}/{number}.nii.gz")
            monai.bundle.run(
                config_file=str(Path(bundle) / "configs" / "inference.json"), bundle_root=bundle, logging_file=False,
                dataset_dir=folder, output_dir=f"{folder}/out",
            )  # fmt: skip
            for number, case in enumerate(cases):
                labels = np.asarray(nib.load(case["label"]).dataobj).astype(np.int32)
                label = np.asarray(merge({**case, "label": labels[None]})["label"])[0]
                label = turned(label, 0) if name.startswith("turned") else label
                found = np.asarray(nib.load(f"{folder}/out/{number}_seg.nii.gz").dataobj)
                values = range(1, len(STRUCTURES) + 1)
                scores.append(
                    [
                        2 * ((found == v) & (label == v)).sum() / ((found == v).sum() + (label == v).sum())
                        for v in values
                    ]
                )
        rows.append({"file": name, "Dice": round(float(np.mean(scores)), 3)})
    print_table(rows)


if __name__ == "__main__":
    command_line(backgrounds)()
