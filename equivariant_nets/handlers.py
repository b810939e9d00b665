"""Ignite handlers that MONAI lacks."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import monai.handlers
from ignite import distributed as idist
from ignite.engine import Engine, Events
from monai.transforms import LoadImage, Orientation

from .report import case_name, photograph_with_labels, three_planes

__all__ = ["ClassMetricsSaver", "PreviewSaver"]


class ClassMetricsSaver(monai.handlers.MetricsSaver):
    """MONAI's tables of metrics by the names of the classes: its ``class0`` is the first one behind the background.

    Args:
        save_dir: receives ``metrics.csv``, and of each metric with details ``<metric>_raw.csv`` and
            ``<metric>_summary.csv``.
        class_names: names of the labels 1, 2, ...
        others: as for ``monai.handlers.MetricsSaver``.
    """

    def __init__(self, save_dir: str, class_names: Sequence[str], **kwargs: Any) -> None:
        super().__init__(save_dir, **kwargs)
        self.names = {f"class{index}": name for index, name in enumerate(class_names)}

    def __call__(self, engine: Engine) -> None:
        super().__call__(engine)
        if idist.get_rank() != self.save_rank:
            return
        for metric in getattr(engine.state, "metric_details", {}):
            for table in Path(self.save_dir).glob(f"{metric}_*.csv"):
                with table.open(newline="") as file:
                    rows = list(csv.reader(file, delimiter=self.deli))
                with table.open("w", newline="") as file:
                    writer = csv.writer(file, delimiter=self.deli, lineterminator="\n")
                    writer.writerows([self.names.get(cell, cell) for cell in row] for row in rows)


class PreviewSaver:
    """Save, beside each segmentation of an inference engine, a PNG of it over its input.

    A volume is shown in its axial, coronal and sagittal planes, whatever the orientation of the file; a photograph
    beside itself.

    Args:
        output_dir: receives ``<case>_preview.png``.
        pred_key: key of the predicted label map ``(1, D, H, W)`` or ``(1, W, H)``, already in the space of its input
            file, which its metadata names.
    """

    def __init__(self, output_dir: str | Path, pred_key: str = "pred") -> None:
        self.output_dir = Path(output_dir)
        self.pred_key = pred_key

    def attach(self, engine: Engine) -> None:
        """Register with an engine, as ignite's handlers do."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        to_ras = Orientation("RAS", labels=None)
        output: Any = engine.state.output
        for item in output:
            prediction = item[self.pred_key]
            source = prediction.meta["filename_or_obj"]
            case = case_name(source)
            path = self.output_dir / f"{case}_preview.png"
            image: Any
            if prediction.ndim == 3:
                image = LoadImage(reader="PILReader", image_only=True, ensure_channel_first=True)(source)
                photograph_with_labels(image, prediction[0], path)
                continue
            image = to_ras(LoadImage(image_only=True, ensure_channel_first=True)(source))
            three_planes(image[0], [(case, to_ras(prediction)[0])], path, spacing_mm=image.pixdim.tolist())
