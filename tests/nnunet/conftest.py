"""Data for nnU-Net's own commands, and how they are run."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from equivariant_nets.data import write_phantoms
from equivariant_nets.nnunet.__main__ import trainer

ROOT = Path(__file__).resolve().parents[2]
# nnU-Net has no option for the length of a training.
FEW_STEPS = """
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnUNetTrainerEquivariant import nnUNetTrainerEquivariant

class FewSteps:
    def __init__(self, plans, configuration, fold, dataset_json, device):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch, self.num_epochs = 2, 1, 1

class nnUNetTrainerFewSteps(FewSteps, nnUNetTrainer):
    pass

class nnUNetTrainerEquivariantFewSteps(FewSteps, nnUNetTrainerEquivariant):
    pass
"""


@pytest.fixture(scope="session")
def nnunet_python(interpreter):
    """The interpreter of an environment with nnU-Net: skipped without ``--nnunet``."""
    return interpreter("--nnunet", "nnU-Net")


@pytest.fixture(scope="session")
def nnunet(nnunet_python, request, tmp_path_factory):
    """Run a command of nnU-Net, or ``python``, beside a data set of 12 cases that is planned and preprocessed.

    The cases are hippocampi where ``--real-data`` is given, else phantoms.
    """
    folder = tmp_path_factory.mktemp("nnunet")
    raw = folder / "raw" / "Dataset004_Cases"
    if request.config.getoption("--real-data"):
        source = request.getfixturevalue("real_hippocampus")
        cases = sorted(path.name for path in (source / "labelsTr").glob("[!.]*.nii.gz"))[:14]
        labels = {"background": 0, "anterior": 1, "posterior": 2}
    else:
        source = folder / "phantoms"
        write_phantoms(source, num_training=12, num_validation=2, num_test=1, size=(24, 26, 22))
        cases = sorted(path.name for path in (source / "imagesTr").glob("*.nii.gz"))
        labels = {"background": 0, "first": 1, "second": 2, "third": 3}
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (raw / name).mkdir(parents=True)
    for number, case in enumerate(cases):
        images = raw / ("imagesTr" if number < 12 else "imagesTs")
        shutil.copy(source / "imagesTr" / case, images / case.replace(".nii.gz", "_0000.nii.gz"))
        if number < 12:
            shutil.copy(source / "labelsTr" / case, raw / "labelsTr")
    dataset = {"channel_names": {"0": "MRI"}, "labels": labels, "numTraining": 12, "file_ending": ".nii.gz"}
    (raw / "dataset.json").write_text(json.dumps(dataset))
    (folder / "trainers").mkdir()
    (folder / "trainers" / "few_steps.py").write_text(FEW_STEPS)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "nnUNet_def_n_proc": "1", "nnUNet_n_proc_DA": "1"}
    environment |= {f"nnUNet_{name}": str(folder / name) for name in ("raw", "preprocessed", "results")}
    environment["nnUNet_extTrainer"] = str(folder / "trainers")
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), trainer()])

    def run(name, *arguments, **variables):
        command = [nnunet_python.parent / name, *map(str, arguments)]
        result = subprocess.run(
            command, env={**environment, **variables}, cwd=folder, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, f"{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
        return result.stdout

    run("nnUNetv2_plan_and_preprocess", "-d", 4, "-c", "2d", "3d_fullres", "-np", 1, 1, "-npfp", 1)
    run.folder = folder
    return run
