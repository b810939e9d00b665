"""Previews of segmentations, as a handler of ignite."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Engine
from monai.data.folder_layout import FolderLayout, default_name_formatter
from monai.engines import IterationEvents
from monai.transforms import Orientation

from equivariant_nets.data.datalist import case_name
from equivariant_nets.data.dicom.series import source_of
from equivariant_nets.data.images import images_folder
from equivariant_nets.data.loading import LoadVolumed
from equivariant_nets.data.photographs import PhotographReader
from equivariant_nets.files import replace_file
from equivariant_nets.pictures import photograph_with_labels, volume_with_labels

__all__ = ["PreviewSaver"]


class PreviewSaver:
    """Save, beside each segmentation of MONAI's inference engines, a PNG of it over its input.

    A volume is shown in its axial, coronal and sagittal planes, whatever the orientation of the file, alone and with
    the segmentation, and its classes are listed with what they measure; a photograph is shown beside itself. Of an
    image of several channels or files, the first is shown.

    Args:
        output_dir: receives ``<case>_preview.png``, which has a hidden name until it is complete.
        pred_key: key of the predicted label map ``(1, D, H, W)`` or ``(1, W, H)``, already in the space of its input
            file, which its metadata names.
        output_name_formatter: names the case, as for ``monai.transforms.SaveImaged``; None does so by the input file.
        dataset_dir: what the inputs were found in; folders below it are repeated in ``output_dir``. None repeats none.
        class_names: of the classes from 1 of volumes; None numbers them.
    """

    def __init__(
        self,
        output_dir: str | Path,
        pred_key: str = "pred",
        output_name_formatter: Callable[[Mapping[str, Any], Any], Mapping[str, Any]] | None = None,
        dataset_dir: str | Path | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        root = "" if dataset_dir is None else str(images_folder(dataset_dir))
        self.layout = FolderLayout(str(output_dir), "preview", ".png", parent=False, data_root_dir=root)
        self.pred_key = pred_key
        self.class_names = class_names
        self.output_name_formatter: Callable[..., Mapping[str, Any]] = output_name_formatter or default_name_formatter

    def attach(self, engine: Engine) -> None:
        """Register with an engine, as ignite's handlers do: behind its postprocessing."""
        engine.add_event_handler(IterationEvents.MODEL_COMPLETED, self)

    def path_of(self, meta: Mapping[str, Any]) -> Path:
        """The file that the preview of a segmentation with such metadata is written to."""
        return Path(self.layout.filename(**self.output_name_formatter(meta, self)))

    def __call__(self, engine: Engine) -> None:
        to_ras = Orientation("RAS", labels=None)
        output: Any = engine.state.output
        for item in output:
            prediction = item[self.pred_key]
            source = source_of(prediction.meta)
            case = case_name(self.output_name_formatter(prediction.meta, self)["subject"])
            image: Any
            with replace_file(self.path_of(prediction.meta)) as path:
                if prediction.ndim == 3:
                    image = LoadVolumed("image", reader=PhotographReader)({"image": source})["image"]
                    photograph_with_labels(image, prediction[0], path)
                else:
                    image = to_ras(LoadVolumed("image")({"image": source})["image"])
                    spacing = image.pixdim.tolist()
                    volume_with_labels(image[0], to_ras(prediction)[0], path, spacing, self.class_names, title=case)
