"""Ignite handlers that MONAI lacks."""

from __future__ import annotations

from pathlib import Path

from ignite.engine import Engine, Events
from monai.transforms import LoadImage

from .report import three_planes

__all__ = ["PreviewSaver"]


class PreviewSaver:
    """Save, beside each segmentation of an inference engine, a PNG of it over its input in three planes.

    Args:
        output_dir: receives ``<case>_preview.png``.
        pred_key: key of the predicted label map ``(1, D, H, W)``, already in the space of its input file, which its
            metadata names.
    """

    def __init__(self, output_dir: str | Path, pred_key: str = "pred") -> None:
        self.output_dir = Path(output_dir)
        self.pred_key = pred_key

    def attach(self, engine: Engine) -> None:
        """Register with an engine, as ignite's handlers do."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        for item in engine.state.output:
            prediction = item[self.pred_key]
            source = prediction.meta["filename_or_obj"]
            case = Path(source).name.removesuffix(".gz").removesuffix(".nii")
            image = LoadImage(image_only=True, ensure_channel_first=True)(source)
            three_planes(image[0], [(case, prediction[0])], self.output_dir / f"{case}_preview.png")
