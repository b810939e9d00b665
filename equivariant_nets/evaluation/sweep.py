"""What sweeps over poses and sizes share: they change every test volume, segment it and score it."""

from __future__ import annotations

import csv
import logging
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from monai.metrics import compute_dice
from monai.networks.utils import eval_mode
from monai.utils import convert_to_tensor
from torch import Tensor
from tqdm import tqdm

from equivariant_nets.data.datalist import case_name
from equivariant_nets.files import replace_file
from equivariant_nets.training.weights import weights_name
from equivariant_nets.types import LabelMap, OriginalLabelMap, Volume

__all__ = ["Sweep"]

_logger = logging.getLogger(__name__)


class Sweep(ABC):
    """Dice of every class of every test volume under a family of changes, beside that of what interpolation leaves.

    A subclass names its files by ``kind``, draws them by ``plot``, and yields the scores of a case.

    The network computes in the type of its weights, on GPUs too: mixed precision would add differences between poses
    that are those of its rounding. An evaluator without ``amp`` gives the same Dice for what is not changed.

    Args:
        network: the network, with its weights loaded, on its device.
        data: items with an ``image`` and a ``label`` file, and the name of the ``case`` where no file bears it.
        preprocessing: transform from an item to an ``image`` ``(C, D, H, W)`` and a ``label`` map ``(1, D, H, W)``.
        postprocessing: transform from ``pred``, the network's output ``(C, D, H, W)``, and such a ``label`` to binary
            channels of both, one for each class.
        inferer: MONAI inferer.
        device: where windows are computed.
        class_names: names of the channels that are scored.
        include_background: whether the first channel is scored; if not, it is the background.
        output_dir: receives the table and the picture.
        num_cases: the first so many cases; all if None.
        weights: the file that the network's weights are from, which the table names; None if they are from no file.

    Raises:
        ValueError: there is no case; or when run, if postprocessing leaves another number of channels than of names.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        network: torch.nn.Module,
        data: Sequence[dict[str, Any]],
        preprocessing: Callable[[dict[str, Any]], Mapping[Any, Any]],
        postprocessing: Callable[[dict[str, Any]], Mapping[Any, Any]],
        inferer: Callable[..., Tensor],
        device: torch.device | str,
        class_names: Sequence[str],
        include_background: bool,
        output_dir: str | Path,
        num_cases: int | None = None,
        weights: str | os.PathLike[str] | None = None,
    ) -> None:
        if not data:
            raise ValueError("data is empty: there is no case to measure; give a list of items with image and label.")
        if num_cases is not None and num_cases < 1:
            raise ValueError(f"num_cases={num_cases} leaves no case to measure; give 1 or more, or None for all.")
        self.network = network
        self.data = data[:num_cases]
        self.preprocessing = preprocessing
        self.postprocessing = postprocessing
        self.inferer = inferer
        self.device = torch.device(device)
        self.class_names = list(class_names)
        self.include_background = include_background
        self.output_dir = Path(output_dir)
        self.weights = weights

    @staticmethod
    @abstractmethod
    def plot(tables: Mapping[str, str | Path], path: str | Path) -> Path:
        """Draw the table of each network, by its name, into a PNG."""

    @abstractmethod
    def measure(self, index: int, item: dict[str, Any]) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        """For each change of a case: the columns that name it, and its :meth:`scores`."""

    def volumes(self, item: dict[str, Any]) -> tuple[Volume, LabelMap]:
        """The preprocessed image ``(C, D, H, W)`` and label map ``(1, D, H, W)`` of a case."""
        prepared = self.preprocessing(item)
        image, label = (convert_to_tensor(prepared[key], track_meta=False) for key in ("image", "label"))
        return image, label

    def run(self) -> Path:
        """Measure all cases; write the table, after each case, and the picture, and return the table's path."""
        rows: list[dict[str, Any]] = []
        weights = weights_name(self.weights)
        table = self.output_dir / f"{self.kind}_dice.csv"
        with eval_mode(self.network):
            for index, item in enumerate(tqdm(self.data, desc=f"{self.kind} sweep", unit="case")):
                case = item.get("case") or case_name(item["label"])
                for change, scores in self.measure(index, item):
                    for name, dice, floor in zip(self.class_names, *scores.round(5).tolist(), strict=True):
                        row = {"case": case, **change, "class": name}
                        rows.append({**row, "dice": dice, "interpolation_dice": floor, "weights": weights})
                self._write(rows, table)
        picture = self.plot({type(self.network).__name__: table}, table.with_suffix(".png"))
        _logger.info(f"Dice of the {self.kind} sweep is in {table}, and drawn in {picture}.")
        return table

    def _write(self, rows: Sequence[dict[str, Any]], table: Path) -> None:
        """After each case, so that a case that is refused takes none before it along."""
        table.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(table) as unfinished, unfinished.open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)

    def scores(
        self, image: Volume, label: LabelMap, there_and_back: OriginalLabelMap, original: OriginalLabelMap
    ) -> np.ndarray:
        """Dice of each class, ``(2, classes)``: of the segmented image, and of the label map there and back."""
        output = self.inferer(image[None].to(self.device), self.network)[0].float().cpu()
        blank = output.new_zeros((len(output), *original.shape[1:]))  # what comes with a label map alone
        floor = [self._channels(blank, label)[1] for label in (there_and_back, original)]
        return np.stack([self._dice(*self._channels(output, label)), self._dice(*floor)])

    def _channels(self, output: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        item = self.postprocessing({"pred": output, "label": label})
        pred, true = (convert_to_tensor(item[key], track_meta=False) for key in ("pred", "label"))
        scored = {len(channels) - (not self.include_background) for channels in (pred, true)}
        if scored != {len(self.class_names)}:
            raise ValueError(
                f"postprocessing makes {len(pred)} channels of pred and {len(true)} of label, and with "
                f"include_background={self.include_background} there are {len(self.class_names)} class_names, "
                f"{self.class_names}: give one name for each channel that is scored, or make as many channels."
            )
        return pred, true

    def _dice(self, prediction: Tensor, label: Tensor) -> np.ndarray:
        dice = compute_dice(prediction[None], label[None], include_background=self.include_background)
        return dice[0].numpy().astype(float)
