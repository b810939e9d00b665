"""Left and right of real brains, upright, turned and mirrored, as files: Dice of both sides, and how much is mixed.

    python benchmarks/sides_of_brains.py BUNDLE --dataset_dir DIR --options="--targets sides --ckpt_path model.pt"

Test cases of the brain structures are written in each pose and segmented by the bundle's ``inference.json``. Mirrored:
the voxels are mirrored under the header that they had, so that what was the patient's left lies on the right, and is to
be called so. *Mixed* is the share of the voxels of paired structures, found as the right structure, that have the other
side.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import nibabel as nib
import numpy as np
from common import print_table, write_json
from tqdm import tqdm

from equivariant_nets.cli import command_line
from equivariant_nets.data import StructuresFromLabelsd, brain_structures_datalist, target_structures
from equivariant_nets.evaluation.on_files.cases import Case
from equivariant_nets.evaluation.on_files.models import BundleModel
from equivariant_nets.evaluation.on_files.poses import named_poses
from equivariant_nets.evaluation.on_files.turning import Placement, Turning

NAMES = target_structures("sides")
PAIRS = [(k, k + 1) for k, name in enumerate(NAMES, start=1) if name.startswith("left")]
# Of each class the structure, and the class of the other side.
STRUCTURE, OTHER_SIDE = np.arange(len(NAMES) + 1), np.arange(len(NAMES) + 1)
for left, right in PAIRS:
    STRUCTURE[right] = left
    OTHER_SIDE[[left, right]] = right, left


def sides(
    bundle: str,
    *,
    dataset_dir: str,
    options: str = "",
    poses: str = "axial:45,coronal:90,random:1",
    num_cases: int | None = None,
    output: str | None = None,
) -> list[dict[str, str]]:
    """Print for each pose, as means over the cases, Dice of all classes and of the structures without sides, and mixed;
    and Dice of each class upright, with its deviation over the cases.

    Args:
        bundle: folder of a bundle of brain structures.
        dataset_dir: folder of the brain structures.
        options: more options of its inference, such as those of targets and weights.
        poses: as of ``python -m equivariant_nets.evaluation poses``; upright and mirrored are always among them.
        num_cases: the first so many test cases; all if None.
        output: JSON file of the scores of every case.
    """
    model, to_classes = BundleModel(bundle, options), StructuresFromLabelsd(targets="sides")
    scores: dict[str, list[Scores]] = {}
    for item in tqdm(brain_structures_datalist(dataset_dir, "test")[:num_cases], desc="brains"):
        image, label, affine, _ = Case(item["case"], Path(item["image"]), Path(item["label"])).load()
        label = np.asarray(to_classes({"label": label[None], "convention": item["convention"]})["label"])[0]
        with tempfile.TemporaryDirectory() as folder:
            images, masks = Path(folder, "images"), Path(folder, "masks")
            images.mkdir()
            masks.mkdir()
            labels = {"mirrored": _write_mirrored(image, label, affine, images / "mirrored.nii.gz")}
            for pose in named_poses(poses):
                placed = Placement.of(pose, item["case"], label.shape, affine)
                turned = placed.image(image, Turning())[0]
                nib.save(nib.Nifti1Image(turned, placed.affine), images / f"{pose.folder}.nii.gz")
                labels[pose.folder] = placed.label(label)
            model.segment(images, masks, os.environ)
            for name, expected in labels.items():
                mask = nib.load(masks / f"{name}_seg.nii.gz").get_fdata().astype(int)
                scores.setdefault(name, []).append(_scores(mask, expected))
    rows = []
    for name in sorted(scores, key=lambda name: (name == "mirrored", name != "upright")):
        sided, united = ([np.nanmean(dice) for dice in own] for own in list(zip(*scores[name], strict=True))[:2])
        row = {"pose": name.replace("_", " "), "Dice of both sides": _told(sided), "without sides": _told(united)}
        rows.append({**row, "mixed": f"{100 * np.mean([one.mixed for one in scores[name]]):.2f} %"})
    print_table(rows)
    by_class = zip(NAMES, np.transpose([one.sided for one in scores["upright"]]), strict=True)
    print_table([{"structure": name, "Dice": _told(dice)} for name, dice in by_class])
    write_json(
        output, {"classes": NAMES, "scores": {name: [one._asdict() for one in own] for name, own in scores.items()}}
    )
    return rows


class Scores(NamedTuple):
    """Of a brain in a pose."""

    sided: list[float]  # Dice of each class; NaN of one that is not there
    united: list[float]  # Dice of each structure, its sides united
    mixed: float


def _told(values: Iterable[float]) -> str:
    values = [value for value in values if not np.isnan(value)]
    return f"{np.mean(values):.3f} ({np.std(values):.3f})"


def _write_mirrored(image: np.ndarray, label: np.ndarray, affine: np.ndarray, path: Path) -> np.ndarray:
    """Write an image whose voxels are mirrored left to right, and return its label map, in which the sides changed."""
    _, mirrored = named_poses("mirrored")
    placed = Placement.of(mirrored, path.stem, label.shape, affine)
    nib.save(nib.Nifti1Image(placed.image(image, Turning())[0], placed.affine), path)
    return OTHER_SIDE[placed.label(label)]


def _scores(mask: np.ndarray, label: np.ndarray) -> Scores:
    pairs = np.isin(label, PAIRS)
    found = pairs & (STRUCTURE[mask] == STRUCTURE[label])
    mixed = (found & (mask != label)).sum() / max(1, found.sum())
    united = _dice(STRUCTURE[mask], STRUCTURE[label])
    return Scores(_dice(mask, label), [united[k - 1] for k in sorted({*STRUCTURE[1:]})], float(mixed))


def _dice(mask: np.ndarray, label: np.ndarray) -> list[float]:
    """Dice of the classes from 1."""
    found, true = (np.bincount(volume.ravel(), minlength=len(NAMES) + 1) for volume in (mask, label))
    common = np.bincount(label[mask == label].ravel(), minlength=len(NAMES) + 1)
    with np.errstate(invalid="ignore"):
        return np.where(true > 0, 2 * common / (found + true), np.nan)[1:].tolist()


cli = command_line(sides, help=__doc__)

if __name__ == "__main__":
    cli()
