"""Segmentation quality against the number of clicks, upright and turned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from equivariant_nets.evaluation.on_files.sweep import FileRotationSweep
from equivariant_nets.evaluation.poses import RANDOM
from equivariant_nets.evaluation.tables import case_means, read_table, standard_error
from equivariant_nets.interaction.guidance import add_click, check_label_names, check_sigma, content_of_image
from equivariant_nets.interaction.simulation import next_click
from equivariant_nets.pictures import save_figure

__all__ = ["ClickSweep", "plot_click_curves", "summarize_click_table"]


def plot_click_curves(tables: Mapping[str, str | Path], path: str | Path) -> Path:
    """Plot mean Dice, with its standard error over the cases, against the number of clicks, a curve for each pose.

    Args:
        tables: the ``click_dice.csv`` of each network, by the name that the legend shows.
        path: the PNG to write.
    """
    figure = Figure(figsize=(5, 3.4))
    axis = figure.subplots()
    for name, table in tables.items():
        for pose, curve in _case_means(table).items():
            counts = sorted(curve)
            means = np.array([curve[count].mean() for count in counts])
            errors = np.array([standard_error(curve[count]) for count in counts])
            (line,) = axis.plot(counts, means, marker="o", markersize=3, label=f"{name}, {pose}")
            axis.fill_between(counts, means - errors, means + errors, color=line.get_color(), alpha=0.15, linewidth=0)
    axis.set_xlabel("clicks")
    axis.set_ylabel("mean Dice")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return save_figure(figure, path)


def summarize_click_table(table: str | Path) -> dict[str, dict[int, float]]:
    """Mean Dice over classes and cases by pose and number of clicks, ``{"0 degrees": {0: 0.85, 5: 0.9}}``."""
    return {
        pose: {count: round(float(curve[count].mean()), 4) for count in sorted(curve)}
        for pose, curve in _case_means(table).items()
    }


def _case_means(table: str | Path) -> dict[str, dict[int, np.ndarray]]:
    """By pose and number of clicks, the mean Dice of each case over its classes and poses of that kind."""
    rows: dict[str, dict[int, list[dict[str, str]]]] = {}
    for row in read_table(table):
        pose = "random rotations" if row["plane"] == RANDOM else f"{float(row['angle_degrees']):g} degrees"
        rows.setdefault(pose, {}).setdefault(int(row["clicks"]), []).append(row)
    return {pose: {count: case_means(own) for count, own in curve.items()} for pose, curve in rows.items()}


class ClickSweep(FileRotationSweep):
    """Dice against the number of clicks, upright and in other poses.

    The files of a case are turned as by :class:`equivariant_nets.evaluation.on_files.sweep.FileRotationSweep` and
    segmented without clicks. Then a simulated user corrects what is found by one click at a time
    (:func:`equivariant_nets.interaction.next_click`), each followed by a segmentation with all clicks so far. Where
    nothing is left to correct, clicking ends, and the Dice counts for every higher number. The files are
    ``click_dice.csv`` and ``click_dice.png``.

    Args:
        label_names: the value in a label map of each name, in the order of the channels for the clicks.
        click_counts: after how many clicks to measure, 0 or more each.
        sigma: standard deviation of the Gaussian at a click, in voxels.
        image_channels: number of channels of the image itself.
        within_content: as of :class:`equivariant_nets.interaction.AddClickGuidanced`; there the user clicks alone.
        others: as for :class:`equivariant_nets.evaluation.on_files.sweep.FileRotationSweep`.

    Raises:
        ValueError: names of labels or numbers of clicks are not legal, and as
            :class:`equivariant_nets.evaluation.on_files.sweep.FileRotationSweep`.
    """

    kind = "click"
    plot = staticmethod(plot_click_curves)

    def __init__(
        self,
        *,
        label_names: Mapping[str, int],
        click_counts: Sequence[int] = (0, 1, 3, 5, 10),
        sigma: float = 2.0,
        image_channels: int = 1,
        within_content: bool = False,
        **others: Any,
    ) -> None:
        super().__init__(**others)
        if not click_counts or any(not isinstance(n, int) or n < 0 for n in click_counts):
            raise ValueError(
                f"click_counts={click_counts!r} is not legal: give one or more whole numbers from 0, such as [0, 1, 5]."
            )
        self.label_names = check_label_names(label_names)
        self.click_counts = sorted(set(click_counts))
        self.sigma = check_sigma(sigma)
        self.image_channels = image_channels
        self.within_content = within_content

    def measure(self, index: int, item: dict[str, Any]) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        """Each pose with each number of clicks."""
        for pose, of_counts in super().measure(index, item):
            for count, scores in zip(self.click_counts, of_counts, strict=True):
                yield {**pose, "clicks": count}, scores

    def scores(self, image: Tensor, label: Tensor, there_and_back: Tensor, original: Tensor) -> np.ndarray:
        """Dice of each class after each number of clicks, ``(numbers, 2, classes)``, as those of a sweep."""
        channels = {name: channel for channel, name in enumerate(self.label_names, self.image_channels)}
        floor = super().scores(image, label, there_and_back, original)[1]
        measured: list[np.ndarray] = []
        click = None
        within = content_of_image(image[: self.image_channels]) if self.within_content else None
        for count in range(self.click_counts[-1] + 1):
            if count == 0 or click is not None:
                output = self.inferer(image[None].to(self.device), self.network)[0].float().cpu()
                click = next_click(output.argmax(0), label[0], self.label_names, None if within is None else within[0])
            if count in self.click_counts:
                measured.append(np.stack([self._dice(*self._channels(output, label)), floor]))
            if click is not None:
                name, voxel = click
                image = add_click(image, channels[name], voxel, self.sigma, within)
        return np.stack(measured)
