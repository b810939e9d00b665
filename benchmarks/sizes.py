"""Dice of a whole trained network against the size of the anatomy, on files, also turned at the same time.

    python benchmarks/sizes.py BUNDLE --dataset_dir DIR [--pyramid] [--angle_degrees 45] [--output sizes.csv]

Test cases of the hippocampus are resampled about their centre, and their headers keep their spacing, so that the
anatomy shrinks in voxels and in mm; where it shrinks, a Gaussian filters the image before. All of them are segmented at
once by the bundle's ``inference.json``, with ``--pyramid`` by a :class:`equivariant_nets.ScalePyramid` around its
network, with the same weights.
"""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from common import print_table
from scipy.ndimage import gaussian_filter

from equivariant_nets.cli import command_line
from equivariant_nets.data import hippocampus_datalist
from equivariant_nets.evaluation.on_files.cases import Case
from equivariant_nets.evaluation.on_files.models import BundleModel
from equivariant_nets.evaluation.on_files.turning import Placement, Turning
from equivariant_nets.rotations import plane_rotation

CLASSES = (1, 2)
PYRAMID = """--network '{"_target_": "equivariant_nets.ScalePyramid", "network": "$@network_def.to(@device)"}'"""
PLANE = "axial"
Z_95 = 1.96  # standard errors to either side of a mean


def placement(factor: float, angle_degrees: float, size: Sequence[int], canvas: str) -> Placement:
    """From a case to one of another size, turned; on a canvas that shrinks and turns with it, or is kept."""
    to_canvas = factor * plane_rotation(PLANE, angle_degrees)
    own = np.ceil(np.abs(to_canvas) @ np.array(size) - 1e-6).astype(int)
    new = tuple(map(int, own)) if canvas == "shrunk" else tuple(size)
    return Placement(np.linalg.inv(to_canvas), new, tuple(size), np.eye(4))


def write_case(
    case: Case, folder: Path, name: str, factor: float, angle_degrees: float, canvas: str
) -> tuple[Path, np.ndarray]:
    """Write the image of a case at another size, and return its file and its label map."""
    image, label, header = case.load()
    placed = placement(factor, angle_degrees, label.shape, canvas)
    sigma = max(0.0, (1 / factor - 1) / 2)  # of MONAI's Resize(anti_aliasing=True)
    smooth = np.stack([gaussian_filter(channel, sigma) for channel in image]) if sigma else image
    path = folder / f"{name}.nii.gz"
    nib.save(nib.Nifti1Image(placed.image(smooth, Turning())[0], header.affine), path)
    return path, placed.label(label)


def sizes(
    bundle: str,
    *,
    dataset_dir: str,
    pyramid: bool = False,
    options: str = "",
    section: str = "test",
    num_cases: int | None = None,
    factors: Sequence[float] = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.4),
    angle_degrees: float = 0.0,
    canvas: str = "shrunk",
    output: str | None = None,
) -> list[dict[str, str]]:
    """Print mean Dice over classes and cases at each size, with 95 % intervals, and the loss from the size 1.

    Args:
        bundle: folder of a bundle of the hippocampus.
        dataset_dir: folder of Task04 of the Medical Segmentation Decathlon.
        pyramid: put the network into a pyramid of sizes.
        options: more options of its inference, such as those of the weights.
        section: training, validation or test.
        num_cases: the first so many cases; all if None.
        factors: sizes of the anatomy over its own.
        angle_degrees: by which all of it is turned about the superior axis.
        canvas: shrunk, with the anatomy; or kept, filled with the lowest value or cut.
        output: CSV file of the Dice of every case.

    Raises:
        ValueError: the canvas is something else.
    """
    if canvas not in ("shrunk", "kept"):
        raise ValueError(f"canvas={canvas!r} is not legal: choose shrunk or kept.")
    model = BundleModel(bundle, f"{options} {PYRAMID if pyramid else ''}")
    items = hippocampus_datalist(dataset_dir, section)[:num_cases]
    dice = np.empty((len(items), len(factors)))
    with tempfile.TemporaryDirectory() as folder:
        images, masks = Path(folder, "images"), Path(folder, "masks")
        images.mkdir()
        masks.mkdir()
        labels = {}
        for row, item in enumerate(items):
            case = Case(str(row), Path(item["image"]), Path(item["label"]))
            for column, factor in enumerate(factors):
                name = f"case{row}_{column}"
                labels[name] = write_case(case, images, name, factor, angle_degrees, canvas)[1]
        model.segment(images, masks, os.environ)
        for name, label in labels.items():
            row, column = map(int, name.removeprefix("case").split("_"))
            mask = nib.load(masks / f"{name}_seg.nii.gz").get_fdata()
            dice[row, column] = np.mean([_dice(mask == value, label == value) for value in CLASSES])
    if output is not None:
        with open(output, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerows([["case", "factor", "dice"], *_long(items, factors, dice)])
    whole = dice[:, list(factors).index(1.0)].mean() if 1.0 in factors else float("nan")
    rows = []
    for factor, own in zip(factors, dice.T, strict=True):
        interval = Z_95 * own.std(ddof=1) / len(own) ** 0.5 if len(own) > 1 else float("nan")
        rows.append(
            {"size": f"{factor:g}", "Dice": f"{own.mean():.3f} ± {interval:.3f}", "loss": f"{whole - own.mean():.3f}"}
        )
    print_table(rows)
    return rows


def _dice(mask: np.ndarray, label: np.ndarray) -> float:
    return float(2 * (mask & label).sum() / max(1, mask.sum() + label.sum()))


def _long(items: Sequence[dict[str, str]], factors: Sequence[float], dice: np.ndarray) -> list[list[str]]:
    rows = []
    for item, own in zip(items, dice, strict=True):
        rows += [[Path(item["image"]).name, f"{f:g}", f"{d:.4f}"] for f, d in zip(factors, own, strict=True)]
    return rows


cli = command_line(sizes, help=__doc__)

if __name__ == "__main__":
    cli()
