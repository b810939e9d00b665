"""Segmentations of test cases that no hand chose: the median and the worst one of each network by its upright Dice."""

from __future__ import annotations

from equivariant_nets import bundles_extra  # noqa: F401

# isort: split

import re
import tempfile
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from monai.bundle import ConfigParser
from monai.metrics import compute_dice
from monai.networks.utils import eval_mode
from monai.utils import convert_to_tensor
from torch import Tensor
from tqdm import tqdm

from equivariant_nets.evaluation.on_files.sweep import turn_files
from equivariant_nets.evaluation.on_files.turning import Turning
from equivariant_nets.evaluation.poses import turn_arrays
from equivariant_nets.experiments.execution import training_dir
from equivariant_nets.experiments.findings import SMOKE_RUN
from equivariant_nets.experiments.identity import config_of
from equivariant_nets.experiments.plan import Run
from equivariant_nets.experiments.results import Setting, unique_case_names
from equivariant_nets.experiments.statistics import case_means
from equivariant_nets.experiments.tables import UPRIGHT_POSE
from equivariant_nets.pictures import LABEL_COLOURS, label_centre, save_figure, show_plane
from equivariant_nets.rotations import plane_rotation
from equivariant_nets.training.checkpoints import read_weights

__all__ = ["draw_cases", "ranked_cases"]

MAX_NETWORKS = 6
_PLANE, _ANGLE_DEGREES = "axial", 45
_PLANES = ("sagittal", "coronal", "axial")  # across the axes of RAS


def ranked_cases(means: dict[str, float]) -> dict[str, tuple[str, int]]:
    """The median and the worst case, with their ranks, of which 1 is the best.

    Args:
        means: Dice of each case. Equal ones are ranked by name. Of an even number the median is the lower of the two.
    """
    ascending = sorted(means, key=lambda case: (means[case], case))
    chosen = {"median": ascending[(len(ascending) - 1) // 2], "worst": ascending[0]}
    return {kind: (case, len(ascending) - ascending.index(case)) for kind, case in chosen.items()}


def draw_cases(
    settings: Sequence[Setting], output_dir: str | Path, folder: Path, smoke_run: bool = False
) -> list[tuple[Path, str]]:
    """Draw both cases of each network, at its largest value and its first seed, upright and turned.

    The turn, by 45 degrees in the axial plane, is that of
    :class:`equivariant_nets.evaluation.on_files.sweep.FileRotationSweep`, and of pictures that of
    :class:`equivariant_nets.evaluation.poses.RotationSweep`.

    Args:
        settings: what was measured; the first six networks are drawn.
        output_dir: where the experiment ran: it holds the weights.
        folder: receives the PNGs.
        smoke_run: whether their titles say that it is one.

    Returns:
        their paths and titles.

    Raises:
        FileNotFoundError: the weights of a run, or the data set, are not there any more.
        ValueError: the test section does not hold a case that was measured.
    """
    drawn: list[tuple[Path, str]] = []
    chosen = list(_largest(settings).values())[:MAX_NETWORKS]
    for index, setting in enumerate(tqdm(chosen, desc="pictures", unit="network")):
        seed = setting.seeds[0]
        means = case_means(s for s in setting.within(UPRIGHT_POSE) if s.seed == seed)
        if not means:
            continue
        runs = [(run, config_of(run)) for run in (finished.run for finished in setting.finished) if run.seed == seed]
        found = {case: (run, parser, item) for run, parser in runs for case, item in _items(parser).items()}
        for kind, (case, rank) in ranked_cases(means).items():
            title = (
                f"{setting.label}, seed {seed}: {kind} test case {case}, rank {rank} of {len(means)}, "
                f"mean Dice {means[case]:.3f}"
            )
            if smoke_run:
                title = f"{SMOKE_RUN} {title}"
            if case not in found:
                raise ValueError(
                    f"The test section of {runs[0][0].dataset_dir} has no case {case}, which was measured. Give the "
                    "data set that the experiment ran on."
                )
            slug = re.sub(r"\W+", "_", setting.label, flags=re.ASCII).strip("_")
            path = folder / f"case_{index + 1}_{slug}_{kind}.png"
            run, parser, item = found[case]
            drawn.append((_draw(item, parser, _network(run, parser, output_dir), title, path), title))
    return drawn


def _largest(settings: Sequence[Setting]) -> dict[str, Setting]:
    """Of each network the setting of the largest number, or of the last value in the file."""
    largest: dict[str, Setting] = {}
    for setting in settings:
        held = largest.get(setting.network)
        numbers = held is not None and all(isinstance(s.value, int | float) for s in (held, setting))
        if held is None or not numbers or setting.value > held.value:
            largest[setting.network] = setting
    return largest


def _network(run: Run, parser: ConfigParser, output_dir: str | Path) -> torch.nn.Module:
    path = training_dir(run, output_dir) / "model.pt"
    if not path.is_file():
        raise FileNotFoundError(f"The weights {path} are not there. Delete {path.parent} and run the experiment again.")
    network = parser.get_parsed_content("network")
    network.load_state_dict(read_weights(path))
    return network


def _items(parser: ConfigParser) -> dict[str, dict[str, Any]]:
    """The items of the test section by the names of their cases."""
    items = parser.get_parsed_content("evaluation_data")
    images = [item["image"][0] if isinstance(item["image"], list) else item["image"] for item in items]
    return dict(zip(unique_case_names(images), items, strict=True))


def _draw(item: dict[str, Any], parser: ConfigParser, network: torch.nn.Module, title: str, path: Path) -> Path:
    """Labels above the prediction: upright, a volume in three planes, and turned in the plane of the turn."""
    names, background = (parser.get_parsed_content(key) for key in ("class_names", "include_background"))
    upright, turned = _upright_and_turned(item, parser.get_parsed_content("validate#preprocessing"))
    is_picture = upright["label"].ndim == 3
    spacing = [1.0, 1.0, 1.0] if is_picture else upright["image"].pixdim.tolist()
    seen, turned = (_segment(view, parser, network) for view in (upright, turned))
    what = "turned" if is_picture else "files turned"
    columns = [(seen, 2, "upright")] if is_picture else [(seen, axis, plane) for axis, plane in enumerate(_PLANES)]
    columns.append((turned, 2, f"{what} by {_ANGLE_DEGREES} degrees,\nmean Dice {turned['dice']:.3f}"))

    figure = Figure(figsize=(3 * len(columns), 6.6), layout="constrained")
    axes = figure.subplots(2, len(columns), squeeze=False)
    for column, (view, axis, heading) in enumerate(columns):
        image = _as_volume(view["image"].mean(0) if is_picture else view["image"][0])
        maps = [_as_volume(_paint(view[key], background)) for key in ("label", "pred")]
        centre = label_centre(maps[0])
        for row, label in enumerate(maps):
            show_plane(axes[row, column], image, label, axis, centre[axis], spacing)
        axes[0, column].set_title(heading, fontsize=10)
    for row, name in enumerate(("manual", "predicted")):
        axes[row, 0].text(-0.06, 0.5, name, rotation=90, ha="right", va="center", transform=axes[row, 0].transAxes)
    with matplotlib.rc_context({"text.parse_math": False}):
        figure.suptitle(textwrap.fill(title, 30 * len(columns)), fontsize=11)
        handles = [Patch(color=LABEL_COLOURS(index % LABEL_COLOURS.N), alpha=0.6) for index in range(len(names))]
        figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 7), frameon=False)
        return save_figure(figure, path)


def _upright_and_turned(item: dict[str, Any], preprocessing: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A case as the network sees it: volumes are turned as files, pictures after preprocessing, as the sweeps do."""
    upright, matrix = preprocessing(item), plane_rotation(_PLANE, _ANGLE_DEGREES)
    if upright["label"].ndim == 3:
        image, label, _ = turn_arrays(upright["image"], upright["label"], matrix)
        return upright, {"image": image, "label": label}
    with tempfile.TemporaryDirectory() as folder:
        turned, _ = turn_files(item, matrix, Turning(), Path(folder))
        return upright, preprocessing(turned)


def _as_volume(values: Tensor | np.ndarray) -> np.ndarray:
    """A volume; a picture ``(W, H)`` as the slice of one, with its rows from below, as slices are drawn."""
    array = np.asarray(values)
    return array[:, ::-1, None] if array.ndim == 2 else array


def _segment(volumes: dict[str, Any], parser: ConfigParser, network: torch.nn.Module) -> dict[str, Any]:
    """The volumes with ``pred``, and ``label``, as binary channels, and the mean ``dice`` over classes."""
    image, label = (convert_to_tensor(volumes[key], track_meta=False) for key in ("image", "label"))
    inferer, device = (parser.get_parsed_content(key) for key in ("validate#inferer", "device"))
    with eval_mode(network):
        output = inferer(image[None].to(device), network)[0].float().cpu()
    item = parser.get_parsed_content("validate#postprocessing")({"pred": output, "label": label})
    pred, label = (convert_to_tensor(item[key], track_meta=False) for key in ("pred", "label"))
    background = parser.get_parsed_content("include_background")
    dice = compute_dice(pred[None], label[None], include_background=background).nanmean()
    return {"image": image, "pred": pred, "label": label, "dice": float(dice)}


def _paint(channels: Tensor, include_background: bool) -> np.ndarray:
    """One label map of binary channels, class i as i; regions that overlap, the larger ones below."""
    classes = channels if include_background else channels[1:]
    painted = np.zeros(channels.shape[1:], dtype=int)
    for index in classes.flatten(1).sum(1).argsort(descending=True).tolist():
        painted[classes[index].numpy() > 0] = index + 1
    return painted
