"""How well the agreement with turned copies predicts the Dice of a case, on sound and on spoiled volumes.

    python benchmarks/agreement.py BUNDLE --dataset_dir DIR [--num_cases 20] [--num_spoiled 8] [--num_turns 3]

Test cases of the hippocampus, and copies of some in each way that spoils them, are segmented by the bundle's
``inference.json`` with ``--agreement``.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable
from pathlib import Path

import monai.bundle
import nibabel as nib
import numpy as np
from common import print_table
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

from equivariant_nets.cli import command_line
from equivariant_nets.data import hippocampus_datalist

RANDOM = np.random.RandomState(0)


def with_bias(array: np.ndarray) -> np.ndarray:
    """A field that grows from exp(-1.2) to exp(1.2) along the second axis."""
    return array * np.exp(1.2 * np.linspace(-1, 1, array.shape[1]))[:, None]


SPOILED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "noise": lambda array: array + RANDOM.normal(0, array.std(), array.shape),
    "blur of 2 voxels": lambda array: gaussian_filter(array, 2.0),
    "bias field": with_bias,
    "gamma of 3": lambda array: ((array - array.min()) / np.ptp(array)) ** 3,
    "every fourth slice": lambda array: array[:, :, np.arange(array.shape[2]) // 4 * 4],
}


def agreement(
    bundle: str, *, dataset_dir: str, num_cases: int = 20, num_spoiled: int = 8, num_turns: int = 3
) -> list[dict[str, str | float]]:
    """Print mean Dice, mean agreement and their rank correlation, by what was done to the volumes.

    Args:
        bundle: folder of a bundle of the hippocampus.
        dataset_dir: folder of Task04 of the Medical Segmentation Decathlon.
        num_cases: so many of its test cases as they are.
        num_spoiled: so many of them in each way that spoils them.
        num_turns: turned copies of each.
    """
    cases = hippocampus_datalist(dataset_dir, "test")[:num_cases]
    labels: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate(cases):
            image = nib.load(case["image"])
            array = image.get_fdata(dtype=np.float32)
            ways = {"as it is": lambda array: array, **(SPOILED if number < num_spoiled else {})}
            for way, spoil in ways.items():
                name = f"{number}__{way.replace(' ', '_')}"
                nib.save(nib.Nifti1Image(spoil(array).astype(np.float32), image.affine), f"{folder}/{name}.nii.gz")
                labels[name] = case["label"]
        monai.bundle.run(
            config_file=str(Path(bundle) / "configs" / "inference.json"), bundle_root=bundle, logging_file=False,
            dataset_dir=folder, output_dir=f"{folder}/out", agreement=num_turns,
        )  # fmt: skip
        with open(f"{folder}/out/cases.csv", newline="") as file:
            scores = {Path(row["image"]).name.split(".")[0]: float(row["agreement"]) for row in csv.DictReader(file)}
        dice = {name: _dice(f"{folder}/out/{name}_seg.nii.gz", labels[name]) for name in scores}
    rows = []
    for way in ("all", "as it is", *SPOILED):
        names = [name for name in scores if way in ("all", name.split("__")[1].replace("_", " "))]
        of_way = np.array([(dice[name], scores[name]) for name in names])
        correlation = float(spearmanr(*of_way.T).statistic) if len(names) > 2 else float("nan")
        rows.append(
            {
                "volumes": way,
                "number": len(names),
                "Dice": round(float(of_way[:, 0].mean()), 3),
                "agreement": round(float(of_way[:, 1].mean()), 3),
                "rank correlation": round(correlation, 2),
            }
        )
    print_table(rows)
    return rows


def _dice(segmentation: str, label: str) -> float:
    found, truth = (np.asarray(nib.load(path).dataobj) for path in (segmentation, label))
    masks = [(found == value, truth == value) for value in (1, 2)]
    return float(np.mean([2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in masks]))


if __name__ == "__main__":
    command_line(agreement)()
