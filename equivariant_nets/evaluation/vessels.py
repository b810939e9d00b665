"""Quality of vessel segmentation against the pose of the photograph."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.networks.utils import eval_mode
from monai.transforms import Compose, Invertd, Rotate90d, Rotated
from torch import Tensor
from tqdm import tqdm

from equivariant_nets.evaluation.metrics import PooledScores
from equivariant_nets.evaluation.plots import plot_vessel_curves
from equivariant_nets.files import replace_file
from equivariant_nets.training.weights import weights_name
from equivariant_nets.types import ProbabilityMap

__all__ = ["VesselEvaluation", "predict_vessels"]


def predict_vessels(
    network: torch.nn.Module,
    inferer: Callable[..., Tensor],
    standardizing: Sequence[Any],
    photograph: dict[str, Any],
    degrees: float = 0.0,
    device: torch.device | str = "cpu",
) -> ProbabilityMap:
    """The probability of a vessel at each pixel of a photograph, which is turned before and back after.

    Args:
        network: gives logits, on its device.
        inferer: MONAI inferer.
        standardizing: MONAI transforms from a loaded photograph to the input of the network.
        photograph: ``image`` ``(3, W, H)`` and ``mask`` ``(1, W, H)``, MetaTensors, as loaded.
        degrees: of the turn, by cubic splines, on a canvas that holds all of the photograph.
        device: where the network computes.

    Returns:
        ``(1, W, H)`` on the grid of the photograph, 0 outside the field of view.
    """
    steps = Compose([*_turn(degrees), *standardizing])
    item = steps({key: photograph[key] for key in ("image", "mask")})
    image: Any = item["image"]
    with torch.no_grad(), eval_mode(network):
        logits = inferer(image.as_tensor()[None].to(device), network)[0]
    item["pred"] = MetaTensor(torch.sigmoid(logits.float().cpu()))
    invert = Invertd("pred", steps, orig_keys="image", nearest_interp=False, to_tensor=True)
    probability: Any = invert(item)["pred"]
    return probability.as_tensor().clamp(0, 1) * (photograph["mask"].as_tensor() > 0.5)


def _turn(degrees: float) -> list[Any]:
    if degrees % 90 == 0:  # exact
        return [Rotate90d(["image", "mask"], k=int(degrees // 90))]
    radians = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64)).item()
    modes: Any = [3, "bilinear"]
    return [Rotated(["image", "mask"], radians, keep_size=False, mode=modes, padding_mode=["constant", "zeros"])]


class VesselEvaluation:
    """Dice, sensitivity, specificity and area under the ROC curve in the field of view, at several angles.

    Every photograph is turned as it comes from the file; what the network finds is turned back and compared with the
    labels on the photograph's own grid. The network computes in the type of its weights, without mixed precision, on
    GPUs too. All pixels of a data set count together. The threshold is that of the best Dice on the upright photographs
    of ``threshold_data``. Where there is a second observer, his labels are scored against the first one's as a human
    reference.

    Args:
        network: gives logits, with its weights loaded, on its device.
        inferer: MONAI inferer.
        loading: transform from an item to a photograph: ``image``, ``label`` and ``mask``, MetaTensors ``(C, W, H)``.
        standardizing: MONAI transforms from a photograph to the input of the network.
        threshold_data: items with an ``image`` and a ``label`` file.
        data: items to score, with a ``dataset`` and a ``case`` name, and ``second_label`` where there is one.
        output_dir: receives ``vessel_scores.csv``, ``vessel_cases.csv`` and ``vessel_dice.png``.
        angles_degrees: of the turns.
        device: where the network computes.
        num_cases: of each data set, the first so many; all if None.
        weights: the file that the network's weights are from, which the tables name; None if they are from no file.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        inferer: Callable[..., Tensor],
        loading: Callable[[dict[str, Any]], dict[str, Any]],
        standardizing: Sequence[Any],
        threshold_data: Sequence[dict[str, str]],
        data: Sequence[dict[str, str]],
        output_dir: str | Path,
        angles_degrees: Sequence[float] = (0, 15, 30, 45, 60, 75, 90, 135, 180),
        device: torch.device | str = "cpu",
        num_cases: int | None = None,
        weights: str | os.PathLike[str] | None = None,
    ) -> None:
        if not threshold_data or not data:
            raise ValueError("threshold_data and data need photographs; one of them is empty.")
        if not len(angles_degrees):
            raise ValueError("angles_degrees is empty: there is nothing to measure; give [0] for upright alone.")
        if num_cases is not None and num_cases < 1:
            raise ValueError(f"num_cases={num_cases} leaves no photograph; give 1 or more, or None for all.")
        self.network = network
        self.inferer = inferer
        self.loading = loading
        self.standardizing = standardizing
        self.threshold_data = threshold_data
        names = list(dict.fromkeys(item["dataset"] for item in data))
        self.data = {name: [item for item in data if item["dataset"] == name][:num_cases] for name in names}
        self.output_dir = Path(output_dir)
        self.angles_degrees = angles_degrees
        self.device = device
        self.weights = weights

    def predict(self, photograph: dict[str, Any], degrees: float = 0.0) -> ProbabilityMap:
        """See :func:`predict_vessels`."""
        return predict_vessels(self.network, self.inferer, self.standardizing, photograph, degrees, self.device)

    def best_threshold(self) -> float:
        """The threshold of the best Dice on the upright photographs of ``threshold_data``."""
        scores = PooledScores()
        for item in tqdm(self.threshold_data, desc="threshold"):
            photograph = self.loading(item)
            scores.update(self.predict(photograph), photograph["label"], photograph["mask"])
        return scores.best_threshold()

    def run(self) -> dict[tuple[str, float], dict[str, float]]:
        """Score every photograph at every angle, write the tables and the picture, and return the scores by data set
        and angle."""
        weights = weights_name(self.weights)
        threshold = self.best_threshold()
        rows: list[dict[str, Any]] = []
        case_rows: list[dict[str, Any]] = []
        result = {}
        for name, items in self.data.items():
            pooled = {angle: PooledScores() for angle in self.angles_degrees}
            human = PooledScores()
            for item in tqdm(items, desc=name):
                photograph = self.loading(item)
                label, mask = photograph["label"], photograph["mask"]
                for angle in self.angles_degrees:
                    own = PooledScores()
                    own.update(self.predict(photograph, angle), label, mask)
                    pooled[angle].histograms += own.histograms
                    row = {"case": item["case"], "angle_degrees": angle}
                    case_rows.append({**row, **_rounded(own.at(threshold)), "weights": weights})
                if "second_label" in photograph:
                    human.update(photograph["second_label"], label, mask)
            for angle, scores in pooled.items():
                result[name, angle] = scores.at(threshold)
                row = {"dataset": name, "reader": "network", "angle_degrees": angle, "threshold": threshold}
                rows.append({**row, **_rounded(scores.at(threshold)), "weights": weights})
            if human.histograms.any():
                row = {"dataset": name, "reader": "second observer", "angle_degrees": 0, "threshold": 0.5}
                rows.append({**row, **_rounded(human.at(0.5)), "weights": ""})
        self.output_dir.mkdir(parents=True, exist_ok=True)
        table = _write(self.output_dir / "vessel_scores.csv", rows)
        _write(self.output_dir / "vessel_cases.csv", case_rows)
        plot_vessel_curves({"network": table}, self.output_dir / "vessel_dice.png")
        for row in rows:
            print("  ".join(f"{key}={value}" for key, value in row.items() if key != "weights"))
        return result


def _rounded(scores: dict[str, float]) -> dict[str, float]:
    return {key: round(value, 5) for key, value in scores.items()}


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    with replace_file(path) as unfinished, unfinished.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path
