"""The command that measures a model at poses of the patient, on files, and reports."""

from __future__ import annotations

import inspect
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from equivariant_nets.evaluation.on_files.cases import Case, Classes, find_cases
from equivariant_nets.evaluation.on_files.measure import TABLE, Measurement, Settings, measure
from equivariant_nets.evaluation.on_files.models import BundleModel, CommandModel, FileModel, Model
from equivariant_nets.evaluation.on_files.poses import Pose, named_poses
from equivariant_nets.evaluation.on_files.summary import draw_angles, draw_kinds, draw_worst, kind_table, pose_table
from equivariant_nets.evaluation.on_files.turning import Turning

__all__ = ["poses"]

REPORT = "report.html"
_PACKAGES = ("equivariant_nets", "torch", "monai", "numpy", "scipy", "nibabel")
_FILE_OPTIONS = ("normalization", "orientation", "spacing_mm", "divisible_by")
_HOW = (
    "Each pose is a folder of NIfTI files that the model segments as any other. Dice is that of the mask with the "
    "label map in the same pose. The floor is what interpolation alone leaves: Dice of the label map turned there and "
    "back. RMSE is between the mask of the turned image and the turned mask of the upright image, as indicators over "
    "all voxels of the file. Means are over the classes of a case, then over cases and poses."
)


def poses(
    images: str,
    labels: str,
    output_dir: str,
    *,
    bundle: str | None = None,
    bundle_options: str = "",
    model: str | None = None,
    command: str | None = None,
    classes: str | None = None,
    poses: str = "standard",
    interpolation: str = "linear",
    fill: str = "background",
    canvas: str = "whole",
    num_cases: int | None = None,
    jobs: int = 1,
    seed: int = 0,
    normalization: str = "zscore",
    orientation: str = "RAS",
    spacing_mm: float = 0.0,
    divisible_by: int = 1,
) -> None:
    """Measure Dice against the pose of the patient, on files, for a bundle, the file of a network, or any command.

    Give one of bundle, model and command. What was measured with the same settings is not measured again, and a command
    that was killed goes on with the pose that it was at.

    Args:
        images: folder of images, one NIfTI file a case.
        labels: folder of their label maps, called as the images or with more behind the name.
        output_dir: receives poses_dice.csv, plots, report.html, and a folder of masks for each pose.
        bundle: folder of a MONAI bundle, whose own inference.json is run.
        bundle_options: more options of its inference, as in --bundle_options="--ckpt_path model.pt".
        model: file of a network, TorchScript or ONNX, from (1, C, D, H, W) to (1, K, D, H, W). It sees the whole
            volume, prepared by normalization, orientation, spacing_mm and divisible_by.
        command: any tool, such as "tool -i {input} -o {output}", which are folders. No shell reads it.
        classes: what is scored, such as 1,2 or, where the labels have other values than the masks, 1=35,2=47+48; with
            names left:1=35,right:2. By default every value in the labels.
        poses: names with commas between them: quick, standard, all; upright, lattice, planes:45+90, axial:45,
            coronal:45, sagittal:45, cone, random:8, orders, header:30; mirrored, for structures without sides;
            size:0.7+1.25 of the anatomy, and a turn at a size, axial:45@0.7.
        interpolation: of turned images, linear or cubic.
        fill: what lies beyond the border of turned images: background, the value that an image is filled with already,
            or its lowest where it is not; lowest; border, which goes on; or a number.
        canvas: whole, which grows to hold all of a turned image and shrinks with the anatomy, or same, which cuts off.
        num_cases: the first so many cases by name.
        jobs: poses at a time.
        seed: of the random rotations, from 0.
        normalization: for model: zscore, zscore_nonzero, range or none.
        orientation: for model: axis codes such as RAS, or as_is.
        spacing_mm: for model: edge of the voxels that it takes; 0 for those of the file.
        divisible_by: for model: sizes are padded to multiples of this.
    """
    given = dict(locals())
    try:
        settings, cases, chosen, measured = _measured(**given)
        report = _report(settings, cases, chosen, measured, given)
    except (OSError, ValueError, RuntimeError, ModuleNotFoundError) as error:
        sys.exit(str(error))
    print(_aligned(kind_table(measured.rows)))
    if measured.repeated:
        print(f"{measured.repeated} of {len(cases) * len(chosen)} cases in poses were measured before.")
    print(f"The scores are in {Path(output_dir) / TABLE}, and the report is {report}.")
    if measured.problems:
        texts = [f"{name}: {problem}" for name, problem in measured.problems.items()]
        sys.exit("\n\n".join([f"{len(texts)} of {len(chosen)} poses failed:", *texts]))


def _measured(
    images: str, labels: str, output_dir: str, classes: str | None, poses: str, interpolation: str, fill: str,
    canvas: str, num_cases: int | None, jobs: int, seed: int, **model: Any,
) -> tuple[Settings, list[Case], list[Pose], Measurement]:  # fmt: skip
    if seed < 0:
        raise ValueError(f"--seed {seed} is not legal: give a whole number from 0.")
    chosen = named_poses(poses, seed)
    turning = Turning(interpolation, fill, canvas)
    segmenter = _model(**model)
    parsed = None if classes is None else Classes.parse(classes)
    cases = find_cases(images, labels, num_cases)
    if parsed and (absent := parsed.check(cases)):
        print(f"No label map holds anything of {', '.join(absent)}: these classes get no Dice.", file=sys.stderr)
    settings = Settings(segmenter, parsed or Classes.in_labels(cases), turning)
    measured = measure(settings, cases, chosen, output_dir, jobs)
    if not measured.rows:
        problem = next(iter(measured.problems.values()))
        raise RuntimeError(f"No pose was measured. What failed first: {problem}")
    return settings, cases, chosen, measured


def _model(bundle: str | None, bundle_options: str, model: str | None, command: str | None, **options: Any) -> Model:
    given = {"bundle": bundle, "model": model, "command": command}
    names = [name for name, value in given.items() if value is not None]
    if len(names) != 1:
        listed = ", ".join(f"--{name}" for name in names) or "none"
        raise ValueError(f"Give one of --bundle, --model and --command; given were: {listed}.")
    defaults = inspect.signature(FileModel).parameters
    foreign = [name for name in _FILE_OPTIONS if options[name] != defaults[name].default and model is None]
    foreign += ["bundle_options"] if bundle_options and bundle is None else []
    if foreign:
        raise ValueError(f"--{foreign[0]} does not go with --{names[0]}: leave it out.")
    if bundle is not None:
        return BundleModel(bundle, bundle_options)
    return CommandModel(command) if command is not None else FileModel(str(model), **options)


def _report(
    settings: Settings, cases: Sequence[Case], poses: Sequence[Pose], measured: Measurement, given: Mapping[str, Any]
) -> Path:
    from equivariant_nets.webpage import write_report  # whose template is not where a bundle brings this package

    folder, rows = Path(given["output_dir"]), measured.rows
    worst, caption = draw_worst(rows, settings, cases, poses, folder, folder / "worst.png")
    pictures = [draw_angles(rows, folder / "angles.png"), draw_kinds(rows, folder / "kinds.png"), worst]
    parameters = inspect.signature(globals()["poses"]).parameters
    told = {name: str(value) for name, value in given.items() if value != parameters[name].default}
    words = ["python", "-m", "equivariant_nets.evaluation", "poses"]
    command = shlex.join([*words, *(f"--{name}={value}" for name, value in told.items())])
    failed = [f"{name} failed. {problem}" for name, problem in measured.problems.items()]
    versions = {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    read = [name for name in given if given["model"] is not None or name not in _FILE_OPTIONS]
    used = [["setting", "value"], *([name, str(given[name])] for name in read if given[name] not in (None, ""))]
    used += [["classes scored", settings.classes.text], ["cases", ", ".join(case.name for case in cases)]]
    used += [["device", device], *([name, number] for name, number in versions.items())]
    tables = [kind_table(rows), pose_table(rows), used]
    return write_report(
        folder / REPORT, "Dice against the pose", [command, _HOW, *failed, caption], tables, pictures
    ).absolute()  # fmt: skip


def _aligned(table: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in table)
