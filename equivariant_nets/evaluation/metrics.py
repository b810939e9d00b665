"""Metrics that MONAI lacks: scores of a binary segmentation from all pixels together, at every threshold at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce
from torch import Tensor

from equivariant_nets.types import ThresholdCurve

__all__ = ["MetricsWithoutBest", "PooledDice", "PooledScores"]

NUM_BINS = 1000


class PooledScores:
    """Histograms of the predicted probabilities of foreground and of background pixels.

    Thresholds are multiples of 0.001; a pixel is foreground where its probability reaches the threshold.
    """

    def __init__(self) -> None:
        self.histograms = torch.zeros(2, NUM_BINS + 1, dtype=torch.float64)

    def update(self, probability: Tensor, label: Tensor, mask: Tensor | None = None) -> None:
        """Add pixels.

        Args:
            probability: in [0, 1], of any shape.
            label: of the same shape; above 0.5 is foreground.
            mask: of the same shape; above 0.5 counts, and all pixels if None.

        Raises:
            ValueError: shapes differ, or a probability is not in [0, 1].
        """
        shapes = [tuple(x.shape) for x in (probability, label, mask) if x is not None]
        if len(set(shapes)) > 1:
            raise ValueError(f"Shapes differ: {shapes}; give probability, label and mask on one grid.")
        inside = torch.ones_like(label, dtype=torch.bool) if mask is None else mask > 0.5
        values, foreground = probability[inside].double(), label[inside] > 0.5
        if not bool(((values >= 0) & (values <= 1)).all()):
            raise ValueError("A probability is outside [0, 1] or NaN; apply a sigmoid to logits first.")
        bins = (values * NUM_BINS + 1e-9).floor().long()
        for row, chosen in enumerate((~foreground, foreground)):
            self.histograms[row] += torch.bincount(bins[chosen], minlength=NUM_BINS + 1).cpu()

    def _rates(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """False and true positives at each threshold, and the number of background and foreground pixels."""
        positives = self.histograms.flip(1).cumsum(1).flip(1)
        total = self.histograms.sum(1)
        return positives[0], positives[1], total[0], total[1]

    def dice_curve(self) -> ThresholdCurve:
        """Dice at each threshold 0, 0.001, ..., 1; NaN where there is no foreground and none is predicted."""
        false, true, _, foreground = self._rates()
        return 2 * true / (true + false + foreground)

    def best_threshold(self) -> float:
        """The threshold of the highest Dice."""
        return int(self.dice_curve().nan_to_num(-1).argmax()) / NUM_BINS

    def at(self, threshold: float) -> dict[str, float]:
        """Dice, sensitivity and specificity at a threshold, and the area under the ROC curve.

        Raises:
            ValueError: the threshold is not in [0, 1].
        """
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold={threshold} is not in [0, 1].")
        false, true, background, foreground = self._rates()
        index = round(threshold * NUM_BINS)
        # Pixels of one bin count as ties, which is what the trapezoid rule makes of them.
        zero = torch.zeros(1, dtype=torch.float64)
        false_rates = torch.cat([zero, (false / background).flip(0)])
        true_rates = torch.cat([zero, (true / foreground).flip(0)])
        return {
            "dice": float(self.dice_curve()[index]),
            "sensitivity": float(true[index] / foreground),
            "specificity": float(1 - false[index] / background),
            "auc": float(torch.trapezoid(true_rates, false_rates)),
        }


class PooledDice(Metric):
    """The highest Dice over all thresholds, of all pixels of an epoch together: what chooses a checkpoint.

    Args:
        output_transform: from the engine's output to ``(probabilities, labels)``, each a list of tensors.
        device: of the sums.
    """

    def __init__(self, output_transform: Callable[[Any], Any], device: str | torch.device = "cpu") -> None:
        super().__init__(output_transform, device=device)

    @reinit__is_reduced
    def reset(self) -> None:
        self._scores = PooledScores()
        self._histograms = self._scores.histograms.to(self._device)

    @reinit__is_reduced
    def update(self, output: Sequence[Sequence[Tensor]]) -> None:
        for probability, label in zip(*output, strict=True):
            self._scores.update(torch.as_tensor(probability).detach().cpu(), torch.as_tensor(label).cpu())
        self._histograms = self._scores.histograms.to(self._device)

    @sync_all_reduce("_histograms")
    def compute(self) -> float:
        scores = PooledScores()
        scores.histograms = self._histograms.cpu()
        return float(scores.dice_curve().nan_to_num(-1).max())


class MetricsWithoutBest:
    """Compute metrics of which none chooses a checkpoint, as in a test.

    MONAI's engines take one metric as the key, and report at each of its values whether it is the best so far.

    Args:
        metrics: of MONAI or ignite, by the names that logs and tables show.
    """

    def __init__(self, metrics: Mapping[str, Metric]) -> None:
        self.metrics = metrics

    def attach(self, engine: Engine) -> None:
        """Register with an engine, as ignite's handlers do: before those that write the metrics."""
        for name, metric in self.metrics.items():
            metric.attach(engine, name)
