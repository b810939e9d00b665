"""Ignite handlers that MONAI lacks."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import monai.handlers
import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from monai.data.folder_layout import FolderLayout, default_name_formatter
from monai.engines import IterationEvents
from monai.transforms import LoadImage, Orientation

from .data.datalist import case_name
from .data.images import images_folder
from .files import replace_file
from .report import photograph_with_labels, three_planes
from .weights import load_weights, weights_name

__all__ = [
    "CheckpointLoader",
    "ClassMetricsSaver",
    "GradientClipper",
    "MetricsWithoutBest",
    "PreviewSaver",
    "WeightsLoader",
]


class ClassMetricsSaver(monai.handlers.MetricsSaver):
    """MONAI's tables of metrics by the names of the classes: its ``class0`` is the first one behind the background.

    The last column, ``weights``, is the file that a :class:`WeightsLoader` of the same engine loaded; ``metrics.csv``,
    which has no header, has a row of it.

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
        weights = weights_name(getattr(engine.state, "weights", None))
        for metric in getattr(engine.state, "metric_details", {}):
            for table in Path(self.save_dir).glob(f"{metric}_*.csv"):
                header, *rows = self._read(table)
                named = [[self.names.get(cell, cell) for cell in row] for row in (header, *rows)]
                self._write(table, [[*named[0], "weights"], *([*row, weights] for row in named[1:])])
        overall = Path(self.save_dir) / "metrics.csv"
        if overall.is_file():
            self._write(overall, [*self._read(overall), ["weights", weights]])

    def _read(self, table: Path) -> list[list[str]]:
        with table.open(newline="") as file:
            return list(csv.reader(file, delimiter=self.deli))

    def _write(self, table: Path, rows: Iterable[Sequence[str]]) -> None:
        with table.open("w", newline="") as file:
            csv.writer(file, delimiter=self.deli, lineterminator="\n").writerows(rows)


class GradientClipper:
    """Scale the gradient of all parameters to a largest norm before each step of a trainer's optimizer.

    It acts inside the step, so in mixed precision after the gradient lost its scale, and once for accumulated batches.

    Args:
        optimizer: the trainer's.
        max_norm: the largest Euclidean norm; None leaves the gradient as it is.

    Raises:
        ValueError: the norm is not positive.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, max_norm: float | None) -> None:
        if max_norm is not None and not max_norm > 0:
            raise ValueError(f"max_norm={max_norm!r} is not legal: give a norm above 0, or None for no clipping.")
        self.optimizer = optimizer
        self.max_norm = max_norm

    def attach(self, engine: Engine) -> None:
        """Register with the optimizer."""
        self.optimizer.register_step_pre_hook(self)

    def __call__(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if self.max_norm is not None:
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            torch.nn.utils.clip_grad_norm_(parameters, self.max_norm)


class WeightsLoader:
    """Load weights into a network when an engine starts, say in the log which, and in ``engine.state.weights``.

    Args:
        load_path: the file; a :class:`equivariant_nets.weights.WeightsPath` finds it then.
        network: receives them.
        bundle_root: folder of the bundle, whose own weights the log tells from others.
        device: where the file is read to.

    Raises:
        FileNotFoundError: when the engine starts, there is no such file.
        RuntimeError: when the engine starts, the weights are those of another network.
    """

    def __init__(
        self,
        load_path: str | os.PathLike[str],
        network: torch.nn.Module,
        bundle_root: str | Path,
        device: torch.device | str = "cpu",
    ) -> None:
        self.load_path = load_path
        self.network = network
        self.bundle_root = bundle_root
        self.device = device

    def attach(self, engine: Engine) -> None:
        """Register with an engine, as ignite's handlers do."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        state: Any = engine.state
        state.weights = load_weights(self.network, self.load_path, self.bundle_root, self.device)


class CheckpointLoader(WeightsLoader):
    """:class:`WeightsLoader` by the name at which MONAI's federated client leaves a loader out.

    A site evaluates the weights that the server sends, which a loader would replace.
    """


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


class PreviewSaver:
    """Save, beside each segmentation of MONAI's inference engines, a PNG of it over its input.

    A volume is shown in its axial, coronal and sagittal planes, whatever the orientation of the file; a photograph
    beside itself. Of an image of several channels or files, the first is shown.

    Args:
        output_dir: receives ``<case>_preview.png``, which has a hidden name until it is complete.
        pred_key: key of the predicted label map ``(1, D, H, W)`` or ``(1, W, H)``, already in the space of its input
            file, which its metadata names.
        output_name_formatter: names the case, as for ``monai.transforms.SaveImaged``; None does so by the input file.
        dataset_dir: what the inputs were found in; folders below it are repeated in ``output_dir``. None repeats none.
    """

    def __init__(
        self,
        output_dir: str | Path,
        pred_key: str = "pred",
        output_name_formatter: Callable[[Mapping[str, Any], Any], Mapping[str, Any]] | None = None,
        dataset_dir: str | Path | None = None,
    ) -> None:
        root = "" if dataset_dir is None else str(images_folder(dataset_dir))
        self.layout = FolderLayout(str(output_dir), "preview", ".png", parent=False, data_root_dir=root)
        self.pred_key = pred_key
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
            source = prediction.meta["filename_or_obj"]
            case = case_name(self.output_name_formatter(prediction.meta, self)["subject"])
            image: Any
            with replace_file(self.path_of(prediction.meta)) as path:
                if prediction.ndim == 3:
                    image = LoadImage(reader="PILReader", image_only=True, ensure_channel_first=True)(source)
                    photograph_with_labels(image, prediction[0], path)
                else:
                    image = to_ras(LoadImage(image_only=True, ensure_channel_first=True)(source))
                    three_planes(image[0], [(case, to_ras(prediction)[0])], path, spacing_mm=image.pixdim.tolist())
