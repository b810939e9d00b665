"""A network of this package against nnU-Net's own, both by nnU-Net's commands alone: Dice on turned files.

    python benchmarks/nnunet.py WORK --dataset_dir data/hippocampus

Run it in an environment with nnU-Net (extra ``nnunet``). The hippocampi are written in nnU-Net's raw format, planned
and preprocessed by its own commands; each network learns from the same training cases, in as many steps of equal
batches of one patch size, by nnU-Net's augmentation. Test cases are turned as files and segmented by
``nnUNetv2_predict`` without mirror images. What is in WORK already is not made again.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from common import print_table, write_json
from tqdm import tqdm

from equivariant_nets.cli import command_line
from equivariant_nets.data import hippocampus_datalist
from equivariant_nets.evaluation.tables import group_means
from equivariant_nets.nnunet.__main__ import trainer

NUMBER, CONFIGURATION = 4, "3d_fullres"
DATASET = f"Dataset{NUMBER:03d}_Hippocampus"
LABELS = {"background": 0, "anterior": 1, "posterior": 2}
# nnU-Net has no option for the length of a training, nor one that leaves the segmentation of the validation cases out.
TRAINERS = """
import os
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.training.nnUNetTrainer.variants.optimizer.nnUNetTrainerAdam import nnUNetTrainerVanillaAdam

class Short:
    def __init__(self, plans, configuration, fold, dataset_json, device):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 50, 2
        self.num_epochs = int(os.environ["STEPS"]) // 50
        self.initial_lr = float(os.environ["RATE"])

    def perform_actual_validation(self, *arguments, **options):
        pass

class nnUNetTrainerShort(Short, nnUNetTrainer):
    pass

class nnUNetTrainerShortAdam(Short, nnUNetTrainerVanillaAdam):
    pass
"""


class Run(NamedTuple):
    """A network with the optimizer that trains it: its plans, trainer and learning rate."""

    plans: str
    trainer: str
    rate: float


RUNS = {
    "PlainConvUNet, SGD": Run("nnUNetPlans", "nnUNetTrainerShort", 0.01),
    "PlainConvUNet, Adam": Run("nnUNetPlans", "nnUNetTrainerShortAdam", 0.001),
    "SteerableUNet, Adam": Run("SteerableUNetPlans", "nnUNetTrainerShortAdam", 0.01),
}


def compare(
    work: str,
    *,
    dataset_dir: str,
    steps: int = 500,
    batch_size: int = 2,
    poses: str = "upright,axial:45,random:1",
    fill: str = "lowest",
    num_cases: int = 20,
    networks: list[str] | None = None,
    output: str | None = None,
) -> list[dict[str, str]]:
    """Print mean Dice of each network in each pose, and what a step of its training takes on one core.

    Args:
        work: folder of nnU-Net's data, plans and results.
        dataset_dir: folder of the hippocampus.
        steps: of each training, a multiple of 50.
        batch_size: of both networks; nnU-Net plans 9.
        poses: as of ``python -m equivariant_nets.evaluation poses``.
        fill: what lies beyond the border of turned images, as there.
        num_cases: the first so many test cases.
        networks: some of those of the table.
        output: JSON file of the scores.
    """
    if unknown := [name for name in networks or [] if name not in RUNS]:
        raise ValueError(f"networks {unknown} are not legal; choose from {list(RUNS)}.")
    if steps < 50 or steps % 50:
        raise ValueError(f"steps is {steps}; legal is a multiple of 50.")
    settings = Path(work) / "settings.json"
    given = {"steps": steps, "batch_size": batch_size}
    if settings.exists() and (before := json.loads(settings.read_text(encoding="utf-8"))) != given:
        raise ValueError(f"{work} was made with {before}. Give the same, or another folder.")
    write_json(str(settings), given)
    nnunet = NNUNet(Path(work), steps)
    nnunet.prepare(dataset_dir, batch_size)
    _write_test_cases(nnunet.folder / "test", dataset_dir)
    rows = []
    for name in tqdm(networks or list(RUNS), desc="networks"):
        nnunet.train(RUNS[name])
        dice = _means(nnunet.measure(RUNS[name], poses, fill, num_cases))
        rows.append({"network": name, **dice, "CPU s a step": nnunet.step_seconds(RUNS[name].plans)})
    print_table(rows)
    write_json(output, {**given, "fill": fill, "num_cases": num_cases, "rows": rows})
    return rows


class NNUNet:
    """nnU-Net's commands, with their data in a folder."""

    def __init__(self, folder: Path, steps: int) -> None:
        self.folder = folder.resolve()
        names = {f"nnUNet_{name}": str(self.folder / name) for name in ("raw", "preprocessed", "results")}
        few = {"nnUNet_def_n_proc": "1", "nnUNet_n_proc_DA": "1", "STEPS": str(steps)}
        self.environment = {**os.environ, **names, **few, "nnUNet_extTrainer": str(self.folder / "trainers")}
        # nnU-Net finds the trainers of this package by this path, and their commands beside this interpreter.
        paths = [str(Path(__file__).parents[1]), trainer(), os.environ.get("PYTHONPATH", "")]
        self.environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))

    def command(self, name: str, *arguments: object, **variables: str) -> None:
        """Run one, which says how it goes itself."""
        program = Path(sys.executable).parent / name
        subprocess.run([program, *map(str, arguments)], env={**self.environment, **variables}, check=True)

    def prepare(self, dataset_dir: str, batch_size: int) -> None:
        """Raw data, nnU-Net's plans and preprocessed data, the project's own split, and plans for SteerableUNet."""
        (self.folder / "trainers").mkdir(parents=True, exist_ok=True)
        (self.folder / "trainers" / "short.py").write_text(TRAINERS)
        own = self.folder / "preprocessed" / DATASET
        if (own / "SteerableUNetPlans.json").is_file():
            return
        raw = self.folder / "raw" / DATASET
        split = {name: hippocampus_datalist(dataset_dir, name) for name in ("training", "validation")}
        for name in ("imagesTr", "labelsTr"):
            (raw / name).mkdir(parents=True, exist_ok=True)
        for item in (item for section in split.values() for item in section):
            case = Path(item["image"]).name.removesuffix(".nii.gz")
            shutil.copy(item["image"], raw / "imagesTr" / f"{case}_0000.nii.gz")
            shutil.copy(item["label"], raw / "labelsTr" / f"{case}.nii.gz")
        number = sum(map(len, split.values()))
        dataset = {"channel_names": {"0": "MRI"}, "labels": LABELS, "numTraining": number, "file_ending": ".nii.gz"}
        write_json(str(raw / "dataset.json"), dataset)
        self.command("nnUNetv2_extract_fingerprint", "-d", NUMBER, "-np", 1)
        self.command("nnUNetv2_plan_experiment", "-d", NUMBER)
        plans = json.loads((own / "nnUNetPlans.json").read_text(encoding="utf-8"))
        plans["configurations"][CONFIGURATION]["batch_size"] = batch_size
        write_json(str(own / "nnUNetPlans.json"), plans)
        self.command("nnUNetv2_preprocess", "-d", NUMBER, "-c", CONFIGURATION, "-np", 1)
        names = {key: [Path(item["image"]).name.removesuffix(".nii.gz") for item in split[key]] for key in split}
        (own / "splits_final.json").write_text(json.dumps([{"train": names["training"], "val": names["validation"]}]))
        self.command("python", "-m", "equivariant_nets.nnunet", "plan", NUMBER, "--symmetry", "so3")

    def train(self, run: Run) -> None:
        """Train a network, or go on with its training; nothing where it is trained."""
        name = f"{run.trainer}__{run.plans}__{CONFIGURATION}"
        if not (self.folder / "results" / DATASET / name / "fold_0" / "checkpoint_final.pth").is_file():
            where = [NUMBER, CONFIGURATION, 0, "-p", run.plans, "-tr", run.trainer, "-device", "cpu", "--c"]
            self.command("nnUNetv2_train", *where, RATE=str(run.rate))

    def step_seconds(self, plans_name: str) -> float:
        """CPU seconds of a step with the network, patch and batch of plans, without data: the median of three."""
        from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

        plans = json.loads((self.folder / "preprocessed" / DATASET / f"{plans_name}.json").read_text(encoding="utf-8"))
        configuration = plans["configurations"][CONFIGURATION]
        built = [
            configuration["architecture"][key] for key in ("network_class_name", "arch_kwargs", "_kw_requires_import")
        ]
        network = get_network_from_plans(*built, 1, len(LABELS), deep_supervision=True).train()
        batch = torch.zeros(configuration["batch_size"], 1, *configuration["patch_size"])
        optimizer = torch.optim.Adam(network.parameters())
        torch.set_num_threads(1)
        seconds = []
        for _ in range(4):
            start = time.process_time()
            optimizer.zero_grad()
            sum(output.square().mean() for output in network(batch)).backward()
            optimizer.step()
            seconds.append(time.process_time() - start)
        return median(seconds[1:])

    def measure(self, run: Run, poses: str, fill: str, num_cases: int) -> Path:
        """The table of Dice by pose."""
        program = Path(sys.executable).parent / "nnUNetv2_predict"
        options = f"-d {NUMBER} -c {CONFIGURATION} -f 0 -p {run.plans} -tr {run.trainer} -device cpu --disable_tta"
        output = self.folder / "poses" / f"{run.trainer}__{run.plans}__{fill}"
        command = f"'{program}' -i {{input}} -o {{output}} {options} -npp 1 -nps 1"
        test = self.folder / "test"
        self.command(
            "python", "-m", "equivariant_nets.evaluation", "poses", "--images", test / "images", "--labels",
            test / "labels", "--output_dir", output, "--command", command, "--poses", poses, "--fill", fill,
            "--num_cases", num_cases,
            RATE=str(run.rate),
        )  # fmt: skip
        return output / "poses_dice.csv"


def _write_test_cases(folder: Path, dataset_dir: str) -> None:
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for item in hippocampus_datalist(dataset_dir, "test"):
        case = Path(item["image"]).name.removesuffix(".nii.gz")
        shutil.copy(item["image"], folder / "images" / f"{case}_0000.nii.gz")
        shutil.copy(item["label"], folder / "labels" / f"{case}.nii.gz")


def _means(table: Path) -> dict[str, str]:
    """Mean Dice over the classes and cases of each pose of a table, and its deviation over the cases."""
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    of_cases = group_means(((row["pose"], row["case"]), float(row["dice"])) for row in rows)
    poses: dict[str, list[float]] = {}
    for (pose, _), dice in of_cases.items():
        poses.setdefault(pose, []).append(dice)
    return {pose: f"{np.mean(values):.3f} ({np.std(values):.3f})" for pose, values in poses.items()}


cli = command_line(compare)

if __name__ == "__main__":
    cli()
