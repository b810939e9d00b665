"""Folders of finished runs that nobody trained: their tables hold what a function of case and pose says."""

import csv
import json

import nibabel as nib
import numpy as np
import torch
from PIL import Image

from equivariant_nets.experiments import Experiment, Run
from equivariant_nets.experiments.execution import evaluation_dir, training_dir

RECORD = {
    "finished": "2026-01-02T03:04:05+00:00",
    "seconds": 60.0,
    "parameters": 1000,
    "bundle_version": "0.1.0",
    "versions": {"python": "3.11", "torch": "2.13"},
    "device": "CPU",
}
CASES = tuple(f"case_{index:02d}" for index in range(8))


def make_experiment(folder, networks=("steerable", "conventional"), values=(None,), seeds=(0, 1), **changes):
    """An experiment on a bundle that runs nothing but its overrides; a value is the override ``width``."""
    configs = folder / "bundles" / "fast" / "configs"
    configs.mkdir(parents=True, exist_ok=True)
    if not (configs / "train.json").exists():  # a test may have written a bundle that runs
        (configs / "train.json").write_text(json.dumps({"run": ["@seed", "@net", "@width"], "width": 1}))
        (configs / "evaluate.json").write_text("{}")
    runs = [
        Run(name, folder / "bundles" / "fast", {"seed": s, "net": name} | ({"width": v} if v else {}), {}, v, folder)
        for s in seeds
        for name in networks
        for v in values
    ]
    own = {"name": "turns", "title": "Turns", "question": "What does a turn cost?", "plot": "rotation"}
    return Experiment(**(own | {"varies": "width" if values != (None,) else None, "runs": tuple(runs)} | changes))


def write_table(path, header, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def finish(
    run,
    output_dir,
    dice,
    cases=CASES,
    structures=("anterior", "posterior"),
    poses=(("axial", 0), ("axial", 45), ("axial", 90), ("coronal", 0), ("coronal", 45), ("random", 120.5)),
    order=list,
    **record,
):
    """Write what a finished run leaves, but no weights.

    ``dice(run, case, structure, plane, angle)`` says what the tables hold; ``order`` sorts their rows.
    """
    training, evaluation = training_dir(run, output_dir), evaluation_dir(run, output_dir)
    evaluation.mkdir(parents=True)
    for folder in (training, evaluation):
        (folder / "record.json").write_text(json.dumps(RECORD | record))
    upright = [
        [f"/data/images/{case}.nii.gz", *(dice(run, case, name, "upright", 0) for name in structures), 0.5, "model.pt"]
        for case in cases
    ]
    write_table(evaluation / "mean_dice_raw.csv", ["filename", *structures, "mean", "weights"], order(upright))
    rows = [
        [case, plane, angle, name, dice(run, case, name, plane, angle), 0.97, "model.pt"]
        for case in cases
        for plane, angle in poses
        for name in structures
    ]
    columns = ["case", "plane", "angle_degrees", "class", "dice", "interpolation_dice", "weights"]
    write_table(evaluation / "rotation_dice.csv", columns, order(rows))
    return evaluation


def write_pictured_bundle(folder, cases=CASES, axes=3):
    """A bundle that segments volumes, or pictures, by their intensity, beside those of its test section."""
    configs = folder / "bundles" / "fast" / "configs"
    configs.mkdir(parents=True, exist_ok=True)
    random = np.random.RandomState(0)
    for kind in ("images", "labels"):
        (folder / kind).mkdir(exist_ok=True)
    items = []
    for case in cases:
        label = np.zeros((12, 10, 8))
        label[3:9, 3:7, 2:4], label[3:9, 3:7, 4:6] = 1, 2
        image = label + 0.1 * random.rand(*label.shape)
        ending = "nii.gz" if axes == 3 else "tiff"
        items.append({key: str(folder / f"{key}s" / f"{case}.{ending}") for key in ("image", "label")})
        for path, volume in zip(items[-1].values(), (image, label), strict=True):
            if axes == 3:
                nib.save(nib.Nifti1Image(volume.astype("float32"), np.eye(4)), path)
            else:
                Image.fromarray(volume[6].astype("float32")).save(path)
    train = {
        "imports": ["$import torch"],
        "dataset_dir": "",
        "device": "cpu",
        "seed": 0,
        "net": "",
        "width": 1,
        "run": ["@seed", "@net", "@width"],
        "class_names": ["anterior", "posterior"],
        "include_background": False,
        "evaluation_data": items,
        "network_def": {"_target_": f"torch.nn.Conv{axes}d", "in_channels": 1, "out_channels": 3, "kernel_size": 1},
        "network": "$@network_def.to(@device)",
        "validate": {
            "preprocessing": {
                "_target_": "LoadImaged",
                "keys": ["image", "label"],
                "reader": "NibabelReader" if axes == 3 else "PILReader",
                "image_only": True,
                "ensure_channel_first": True,
            },
            "inferer": {"_target_": "SimpleInferer"},
            "postprocessing": {
                "_target_": "AsDiscreted",
                "keys": ["pred", "label"],
                "argmax": [True, False],
                "to_onehot": 3,
            },
        },
    }
    (configs / "train.json").write_text(json.dumps(train))
    (configs / "evaluate.json").write_text("{}")


def save_weights(run, output_dir, axes=3):
    """Weights for that network, with which it predicts the classes 0, 1 and 2 where the image is nearest to them."""
    weight = torch.tensor([0.0, 2.0, 4.0]).reshape(3, 1, *[1] * axes)
    bias = torch.tensor([0.0, -1.0, -4.0])
    torch.save({"weight": weight, "bias": bias}, training_dir(run, output_dir) / "model.pt")
