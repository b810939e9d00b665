"""The demo: a real brain in several poses, segmented as shipped; then two networks that learn upright phantoms.

Every step is a command of a bundle, printed before it runs. In the second part the conventional network has the same
wiring, width, data and number of steps: ``conventional.json`` replaces the network and its learning rate alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from brain_picture import draw_brain
from brain_poses import CLASS_NAMES, segment_poses, write_poses
from bundle_commands import BUNDLES, bundle_run
from cyclopts.types import ExistingFile
from template_brain import NOTICE, fetch_template

from equivariant_nets.cli import command_line
from equivariant_nets.errors import find_cause
from equivariant_nets.evaluation.plots import plot_rotation_curves
from equivariant_nets.evaluation.tables import summarize_rotation_table
from equivariant_nets.pictures import three_planes
from equivariant_nets.webpage import write_report

PHANTOMS = BUNDLES / "phantom_so3_segmentation"
NETWORKS = {"steerable": [], "conventional": [Path(__file__).resolve().parent / "conventional.json"]}
CASE = "phantom_test_0000"
ARRAYS = {"rotation_sweep#_target_": "equivariant_nets.evaluation.poses.RotationSweep"}  # no network here saw filling
ROWS = {"equivariant": "equivariant:\nsteerable U-Net", "conventional": "conventional:\nU-Net"}
HOW = (
    "Agreement: Dice, mean of the structures, between what a network finds in this pose, turned back, and what it "
    "finds upright. It says how much an answer changes, not how good it is: this brain has no labels.",
    "Networks: as the collection ships them, each by a recipe of its own. Equivariant: voxels of 1.25 mm, patches "
    "turned anywhere, on a GPU and a CPU; here in windows of 128^3, to save time. Conventional: 2 mm, upright brains, "
    "less augmentation, on a CPU.",
    "Both by one recipe, from upright brains alone, and where the conventional one wins: docs/experiments.md. All "
    "answers are turned back here, to show the same slices.",
)


class Part(NamedTuple):
    """What a part of the demo has for the report."""

    paragraphs: list[str]
    tables: list[list[list[str]]]
    pictures: list[Path]


def show_brain(brain: Path, notice: str, folder: Path) -> Part:
    """Segment a brain in several poses by the shipped networks, and draw what they find."""
    try:
        posed = write_poses(brain, folder / "poses")
    except RuntimeError as error:  # of a transform
        raise SystemExit(find_cause(error).text) from error
    answers = segment_poses(posed, folder / "poses", folder)
    notes = [*HOW, *([notice] if notice else [])]
    picture = draw_brain(posed, answers, ROWS, notes, folder / "brain.png")
    rows = [["agreement with upright (Dice)", "pose", *CLASS_NAMES, "mean"]]
    for network, by_pose in answers.items():
        for pose, answer in list(by_pose.items())[1:]:
            told = [f"{dice:.3f}" for dice in (*answer.dice, np.nanmean(answer.dice))]
            rows.append([network, posed[pose].title, *told])
    print(f"\nThe brain, upright and turned: {picture}\n{aligned([[*row[:2], row[-1]] for row in rows])}", flush=True)
    return Part(["One brain. " + " ".join(notes)], [rows], [picture])


def compare_on_phantoms(folder: Path, data: dict[str, object]) -> Part:
    """Train two networks on upright phantoms, score them under rotation, and let each segment one in a free pose."""
    for name, overlay in NETWORKS.items():
        results: dict[str, Any] = {"output_dir": folder / name, "dataset_dir": folder / "phantoms"}
        bundle_run(PHANTOMS, ["train.json", *overlay], **results, **data)
        bundle_run(PHANTOMS, ["train.json", *overlay, "evaluate.json"], **results, **data, **ARRAYS)
        results["dataset_dir"] = folder / "phantoms" / "imagesTs"
        bundle_run(PHANTOMS, ["inference.json", *overlay], **results, pattern=f"{CASE}.nii.gz")

    tables = {name: folder / name / "rotation_dice.csv" for name in NETWORKS}
    curves = plot_rotation_curves(tables, folder / "rotation.png")
    phantoms = folder / "phantoms"
    files = {"truth": phantoms / "labelsTs" / f"{CASE}.nii.gz"}
    files |= {name: folder / name / f"{CASE}_seg.nii.gz" for name in NETWORKS}
    maps = [(name, nib.load(path).get_fdata()) for name, path in files.items()]
    image = nib.load(phantoms / "imagesTs" / f"{CASE}.nii.gz").get_fdata()
    case = three_planes(image, maps, folder / "turned_phantom.png")

    summaries = {name: summarize_rotation_table(table) for name, table in tables.items()}
    poses = list(summaries["steerable"])
    rows = [["mean Dice", *poses]]
    rows += [[name, *(f"{summary[pose]:.3f}" for pose in poses)] for name, summary in summaries.items()]
    paragraphs = [
        "Phantoms. Two U-Nets of the same wiring and width, trained with the same number of steps on the same upright "
        "phantoms, without rotation augmentation. The phantoms are synthetic: two nuclei that look alike are told "
        "apart only by which of them lies nearer to the stem.",
        "Each network then segments phantoms that were turned, as arrays whose border is continued: filled corners, as "
        "files have them, are harder (docs/how_to/tilt.md). The grey line is the Dice of the label map turned there "
        "and back, the loss of interpolation alone. The last picture shows a phantom rendered in a free pose: its "
        "labels, and those of each network.",
    ]
    print("\n" + aligned(rows))
    return Part(paragraphs, [rows], [curves, case])


def aligned(table: list[list[str]]) -> str:
    """The rows of a table as lines."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in table)


def main(
    *,
    output_dir: str = "output/demo",
    brain: ExistingFile | None = None,
    epochs: int = 4,
    num_training: int = 48,
    size: int = 40,
    sweep_cases: int = 2,
    sweep_random_poses: int = 4,
) -> None:
    """Run the demo.

    Args:
        output_dir: receives the brain, phantoms, weights, tables, pictures and the report.
        brain: T1-weighted MRI of a brain without skull, in place of the template that the demo fetches.
        epochs: passes over the training phantoms.
        num_training: training phantoms.
        size: voxels along each axis of a phantom.
        sweep_cases: phantoms that are turned.
        sweep_random_poses: uniformly random rotations of each.
    """
    folder = Path(output_dir).absolute()
    file = brain or fetch_template(folder / "template")
    shown = Part([], [], [])
    if file is not None:
        shown = show_brain(file, "" if brain is not None else NOTICE, folder / "brain")
    data = {
        "epochs": epochs,
        "num_training": num_training,
        "num_test": 8,
        "phantom_size": [size] * 3,
        "sweep_angles": [0, 45, 90, 135, 180],
        "sweep_cases": sweep_cases,
        "sweep_random_poses": sweep_random_poses,
    }
    compared = compare_on_phantoms(folder, data)
    report = write_report(
        folder / "report.html", "The patient, turned", [*shown.paragraphs, *compared.paragraphs],
        [*shown.tables, *compared.tables], compared.pictures, lead=shown.pictures,
    )  # fmt: skip
    print("\nResults:\n" + "\n".join(f"  {path}" for path in [report, *shown.pictures, *compared.pictures]))


cli = command_line(main)

if __name__ == "__main__":
    cli()
