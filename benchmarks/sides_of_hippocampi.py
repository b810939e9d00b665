"""The left and the right hippocampus of real brains, cut out as files: Dice of a hippocampus bundle on each side.

    python benchmarks/sides_of_hippocampi.py BUNDLE --dataset_dir DIR

Crops of the test cases of the brain structures, with a margin around the label of each side, are written as files and
segmented by the bundle's ``inference.json``. Their labels are those of another protocol than the bundle's, and of the
whole hippocampus, with which the union of the classes that it finds is compared.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
from common import print_table, write_json
from monai.transforms.utils import generate_spatial_bounding_box
from tqdm import tqdm

from equivariant_nets.cli import command_line
from equivariant_nets.data import StructuresFromLabelsd, brain_structures_datalist, target_structures
from equivariant_nets.evaluation.on_files.cases import Case
from equivariant_nets.evaluation.on_files.models import BundleModel

SIDES = ("left", "right")


def sides(
    bundle: str, *, dataset_dir: str, margin_mm: float = 8.0, num_cases: int | None = None, output: str | None = None
) -> list[dict[str, str]]:
    """Print Dice of each side, the mean and the standard deviation over the cases.

    Args:
        bundle: folder of a hippocampus bundle.
        dataset_dir: folder of the brain structures.
        margin_mm: around the label.
        num_cases: the first so many test cases; all if None.
        output: JSON file of the scores of every case.
    """
    scores: dict[str, list[float]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        images, masks = Path(folder, "images"), Path(folder, "masks")
        images.mkdir()
        masks.mkdir()
        labels = {}
        for item in tqdm(brain_structures_datalist(dataset_dir, "test")[:num_cases], desc="crops"):
            labels |= _write_crops(item, images, margin_mm)
        BundleModel(bundle, "").segment(images, masks, os.environ)
        for (case, side), label in labels.items():
            found = nib.load(masks / f"{case}_{side}_seg.nii.gz").get_fdata() > 0
            scores[side].append(2 * float((found & label).sum()) / (found.sum() + label.sum()))
    rows = [{"side": side, "Dice": f"{np.mean(own):.3f} ({np.std(own):.3f})"} for side, own in scores.items()]
    print_table(rows)
    write_json(output, {"scores": scores})
    return rows


def _write_crops(item: dict[str, str], images: Path, margin_mm: float) -> dict[tuple[str, str], np.ndarray]:
    """Write the crop of each side of a case, and return the labels there by case and side."""
    image, label, affine, _ = Case(item["case"], Path(item["image"]), Path(item["label"])).load()
    to_classes = StructuresFromLabelsd(targets="sides")
    classes = np.asarray(to_classes({"label": label[None], "convention": item["convention"]})["label"])
    margin = np.ceil(margin_mm / nib.affines.voxel_sizes(affine)).astype(int).tolist()
    crops = {}
    for side in SIDES:
        own = classes == 1 + target_structures("sides").index(f"{side} hippocampus")
        start, end = generate_spatial_bounding_box(own, margin=margin, allow_smaller=True)
        box = (0, *(slice(a, b) for a, b in zip(start, end, strict=True)))
        moved = affine @ nib.affines.from_matvec(np.eye(3), start)
        nib.save(nib.Nifti1Image(image[box].astype(np.float32), moved), images / f"{item['case']}_{side}.nii.gz")
        crops[item["case"], side] = own[box]
    return crops


cli = command_line(sides, help=__doc__)

if __name__ == "__main__":
    cli()
