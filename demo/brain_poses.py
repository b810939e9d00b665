"""A brain in several poses, as files that the shipped networks segment; each answer is compared with that upright."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
import torch
from bundle_commands import BUNDLES, BundleRun, bundle_runs
from monai.metrics import compute_dice
from monai.transforms import Compose, CropForegroundd, Orientationd, Spacingd
from tqdm import tqdm

from equivariant_nets.data import CheckVolumed, LoadVolumed, target_structures
from equivariant_nets.data.datalist import case_name
from equivariant_nets.evaluation.on_files.poses import named_poses
from equivariant_nets.evaluation.on_files.turning import Placement, Turning

__all__ = ["CLASS_NAMES", "NETWORKS", "Answer", "PosedBrain", "agreement", "segment_poses", "write_poses"]

NETWORKS = {
    "equivariant": BUNDLES / "brain_structures_mri_so3_segmentation",
    "conventional": BUNDLES / "brain_structures_mri_conventional_segmentation",
}
CLASS_NAMES = target_structures()
SPACING_MM = 1.0  # as the template has it; the picture is of cubes
POSES = "sagittal:30,random:1"  # after upright
# The equivariant network sees a brain in one window, or in few, to save time: its own are smaller and overlap by half.
OPTIONS = {"equivariant": {"roi_size": [128, 128, 128]}, "conventional": {}}


class PosedBrain(NamedTuple):
    """A brain in a pose.

    Args:
        title: of the pose, in words.
        image: (X, Y, Z) as the file holds it.
        placement: from the upright volume to that of the file.
    """

    title: str
    image: np.ndarray
    placement: Placement


class Answer(NamedTuple):
    """What a network finds in a pose.

    Args:
        label: (X, Y, Z), brought back into the upright volume.
        dice: (K,) of each class from 1, with what the network finds upright; NaN for a class that is not there.
    """

    label: np.ndarray
    dice: np.ndarray


def write_poses(brain: Path, folder: Path) -> dict[str, PosedBrain]:
    """Turn a brain by linear interpolation on canvases that hold all of it, and write a NIfTI file of each pose.

    Args:
        brain: T1-weighted, without skull. Brought to the axes right, anterior, superior and to 1 mm, and cropped.
        folder: receives ``POSE.nii.gz``.

    Returns:
        the poses by the name of their file, upright first.
    """
    steps = [LoadVolumed("image"), CheckVolumed("image"), Orientationd("image", axcodes="RAS", labels=None)]
    steps.append(Spacingd("image", pixdim=(SPACING_MM,) * 3))
    load = Compose([*steps, CropForegroundd("image", "image", select_fn=lambda image: image > image.min())])
    volume = load({"image": str(brain)})["image"]
    case, affine = case_name(brain), volume.affine.numpy()
    folder.mkdir(parents=True, exist_ok=True)
    posed = {}
    for pose in tqdm(named_poses(POSES), desc="turning the brain", unit="pose"):
        placement = Placement.of(pose, case, volume.shape[1:], affine)
        image = placement.image(volume.numpy(), Turning())[0]
        nib.save(nib.Nifti1Image(image, placement.affine), folder / f"{pose.folder}.nii.gz")
        angle = f"{pose.angle_degrees(case):.0f}°"
        titles = {"upright": "upright", "plane": f"tilted by {angle}", "random": f"turned freely, by {angle}"}
        posed[pose.folder] = PosedBrain(titles[pose.kind], image, placement)
    return posed


def segment_poses(posed: Mapping[str, PosedBrain], images: Path, folder: Path) -> dict[str, dict[str, Answer]]:
    """What each network finds in each pose, by their names.

    Args:
        posed: of :func:`write_poses`.
        images: the folder that it wrote.
        folder: receives a folder of each network, with its segmentations as files.
    """
    runs = {
        network: BundleRun(
            bundle, ["inference.json"], {"dataset_dir": images, "output_dir": folder / network, **OPTIONS[network]}
        )
        for network, bundle in NETWORKS.items()
    }
    bundle_runs(runs, folder, [folder / network / f"{name}_seg.nii.gz" for network in NETWORKS for name in posed])
    answers = {}
    for network in NETWORKS:
        labels = {}
        for name, brain in tqdm(posed.items(), desc="turning back", unit="pose"):
            label: Any = nib.load(folder / network / f"{name}_seg.nii.gz")
            labels[name] = brain.placement.back().label(np.asarray(label.dataobj))
        upright = next(iter(labels.values()))
        answers[network] = {name: Answer(label, agreement(label, upright)) for name, label in labels.items()}
    return answers


def agreement(label: np.ndarray, upright: np.ndarray) -> np.ndarray:
    """Dice (K,) of each class from 1 between two label maps (X, Y, Z); NaN where the second does not have the class."""
    ours, reference = (torch.from_numpy(volume.astype(np.uint8))[None, None] for volume in (label, upright))
    return compute_dice(ours, reference, include_background=False, num_classes=len(CLASS_NAMES) + 1)[0].numpy()
