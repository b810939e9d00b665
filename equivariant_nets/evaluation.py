"""Segmentation quality against the pose of the patient: every test volume is turned, segmented and scored."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.metrics import compute_dice
from monai.networks.utils import eval_mode, one_hot
from tqdm import tqdm

from .report import case_name, plot_rotation_curves
from .rotations import plane_rotation, random_rotation
from .transforms import RotateMatrixd

__all__ = ["RotationSweep"]

RANDOM = "random"  # stands in the plane column for uniformly random rotations
KEYS = ("image", "label")


class RotationSweep:
    """Dice against rotation angle, for turns in each plane and for uniformly random rotations.

    A pose turns the preprocessed image (cubic splines, the border continued outwards) and its label map (one-hot
    linear). The field of view is a box in the proportions of the turned volume, about its centre, of as many voxels as
    before: a box that held all of the turned volume would be up to four times as large, and most of it filling. A
    rotation of the lattice turns the box itself and loses nothing. The prediction is scored against the turned labels
    in view. Beside each Dice stands the cost of interpolation: the Dice of the label map turned there and back.

    Args:
        network: the network, with its weights loaded, on its device.
        data: items with an ``image`` and a ``label`` file.
        preprocessing: transform from an item to channel-first volumes.
        inferer: MONAI inferer.
        device: where windows are computed.
        class_names: names of the labels 1, 2, ...
        output_dir: receives ``rotation_dice.csv`` and ``rotation_dice.png``.
        angles_degrees: angles in each plane; 0 is measured once and counts for all.
        planes: ``axial``, ``coronal``, ``sagittal``, or pairs of axes.
        random_poses: uniformly random rotations of each case.
        num_cases: the first so many cases; all if None.
        seed: of the random rotations. The same seed gives every network the same poses.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        data: Sequence[dict[str, Any]],
        preprocessing: Callable[[dict[str, Any]], dict[str, Any]],
        inferer: Callable[..., torch.Tensor],
        device: torch.device | str,
        class_names: Sequence[str],
        output_dir: str | Path,
        angles_degrees: Sequence[float] = (0, 30, 45, 60, 90, 120, 135, 150, 180),
        planes: Sequence[str | tuple[int, int]] = ("axial", "coronal", "sagittal"),
        random_poses: int = 8,
        num_cases: int | None = None,
        seed: int = 0,
    ) -> None:
        if not data:
            raise ValueError("data is empty: there is no case to turn; give a list of items with image and label.")
        if num_cases is not None and num_cases < 1:
            raise ValueError(f"num_cases={num_cases} leaves no case to turn; give 1 or more, or None for all.")
        if not random_poses and not (len(angles_degrees) and len(planes)):
            raise ValueError(
                "There is no pose to measure: give angles_degrees and planes, or random_poses of 1 or more."
            )
        for plane in planes:
            plane_rotation(plane, 0)  # raises if there is no such plane
        self.network = network
        self.data = data[:num_cases]
        self.preprocessing = preprocessing
        self.inferer = inferer
        self.device = torch.device(device)
        self.class_names = list(class_names)
        self.output_dir = Path(output_dir)
        self.angles_degrees = angles_degrees
        self.planes = planes
        self.random_poses = random_poses
        self.seed = seed

    def run(self) -> Path:
        """Measure all poses of all cases; write the table and the picture, and return the table's path."""
        rows: list[dict[str, Any]] = []
        with eval_mode(self.network):
            for index, item in enumerate(tqdm(self.data, desc="rotation sweep", unit="case")):
                rows += self._case(index, item)
        self.output_dir.mkdir(parents=True, exist_ok=True)
        table = self.output_dir / "rotation_dice.csv"
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        plot_rotation_curves({type(self.network).__name__: table}, self.output_dir / "rotation_dice.png")
        return table

    def _case(self, index: int, item: dict[str, Any]) -> Iterator[dict[str, Any]]:
        volumes: dict[Hashable, torch.Tensor] = {
            key: value for key, value in self.preprocessing(item).items() if key in KEYS
        }
        upright = self._scores(volumes, np.eye(3))
        for plane in self.planes:
            for angle in self.angles_degrees:
                scores = self._scores(volumes, plane_rotation(plane, angle)) if angle % 360 else upright
                yield from self._rows(item, plane, angle, scores)
        random_state = np.random.RandomState([self.seed, index])
        for _ in range(self.random_poses):
            matrix = random_rotation(random_state)
            angle = np.rad2deg(np.arccos(np.clip((np.trace(matrix) - 1) / 2, -1, 1)))
            yield from self._rows(item, RANDOM, round(float(angle), 1), self._scores(volumes, matrix))

    def _scores(self, volumes: dict[Hashable, torch.Tensor], matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Dice of each class, of the prediction and of the label map turned there and back."""
        turn_label = RotateMatrixd("label", matrix, mode="one_hot")
        image = RotateMatrixd("image", matrix, mode=3, padding_mode="border")(volumes)["image"]
        label = turn_label(volumes)["label"]
        there_and_back = turn_label.inverse({"label": label})["label"]
        view = _field_of_view(label.shape[1:], volumes["label"].shape[1:])
        prediction = self.inferer(image[view][None].to(self.device), self.network).argmax(1)
        return self._dice(prediction.cpu(), label[view]), self._dice(there_and_back, volumes["label"])

    def _dice(self, prediction: torch.Tensor, label: torch.Tensor) -> np.ndarray:
        num_classes = len(self.class_names) + 1
        predicted, true = (one_hot(torch.as_tensor(x)[None].long(), num_classes) for x in (prediction, label))
        return compute_dice(predicted, true, include_background=False)[0].numpy()

    def _rows(
        self, item: dict[str, Any], plane: str | tuple[int, int], angle: float, scores: tuple[np.ndarray, np.ndarray]
    ) -> Iterator[dict[str, Any]]:
        case = case_name(item["label"])
        for name, dice, floor in zip(self.class_names, *scores, strict=True):
            yield {
                "case": case,
                "plane": plane,
                "angle_degrees": angle,
                "class": name,
                "dice": round(float(dice), 5),
                "interpolation_dice": round(float(floor), 5),
            }


def _field_of_view(canvas: Sequence[int], size: Sequence[int]) -> tuple[slice, ...]:
    """The central box of a canvas ``(D, H, W)``, in its proportions, of about as many voxels as a volume of a size."""
    shrink = (math.prod(size) / math.prod(canvas)) ** (1 / 3)
    cuts = [math.ceil(side * (1 - shrink) / 2 - 0.5) for side in canvas]  # of each end
    return (slice(None), *(slice(cut, side - cut) for cut, side in zip(cuts, canvas, strict=True)))
