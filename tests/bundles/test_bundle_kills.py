"""Laws of commands that are killed at random moments, and given again: nothing is lost, torn or mixed."""

import os
import random
import shutil
from pathlib import Path

import pytest
import torch
from bundle_files import weights
from fresh import run_module
from kills import survive, visible
from write_data import SMALL

pytestmark = pytest.mark.faults
STEERABLE = "hippocampus_mri_so3_segmentation"
CONVENTIONAL = "hippocampus_mri_conventional_segmentation"


def remove(*folders):
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def test_a_training_loses_nothing(get_bundle, run_command, kills_of, tmp_path):
    bundle, out = get_bundle(STEERABLE), tmp_path / "out"
    options = {**bundle.tiny, "train_cases": 2, "epochs": 3, "epoch_length": 2, "augmentation": "full", "resume": True}

    def run(anew, kill_after_s):
        if anew:
            remove(out)
        result = run_command(
            bundle.root, ["train.json"], cwd=tmp_path, kill_after_s=kill_after_s, **options, output_dir=out
        )
        assert result.returncode in (0, -9), result.stderr
        return result.returncode

    survive(run, kills_of(0.25), random.Random(0), folder=out)


def test_an_inference_loses_nothing_and_mixes_no_two_networks(
    get_bundle, get_network, run_command, cases, kills_of, tmp_path
):
    """Each time that it is given, of one of two networks; in the end, of the first."""
    bundle, out, draw = get_bundle(CONVENTIONAL), tmp_path / "out", random.Random(1)
    first = get_network(bundle.root, bundle.tiny["features"]).state_dict()
    for name, sign in (("first", 1), ("second", -1)):
        torch.save({key: sign * value for key, value in first.items()}, tmp_path / f"{name}.pt")
    options = {"features": bundle.tiny["features"], "dataset_dir": cases / "imagesTr", "pattern": "*[0-4].nii.gz"}
    masks = {}

    def run(anew, kill_after_s, name=None):
        if anew:
            remove(out)
        chosen = name or ("first" if kill_after_s is None else draw.choice(["first", "second"]))
        result = run_command(
            bundle.root, ["inference.json"], cwd=tmp_path, kill_after_s=kill_after_s, **options, output_dir=out,
            ckpt_path=tmp_path / f"{chosen}.pt",
        )  # fmt: skip
        assert result.returncode in (0, -9), result.stderr
        if result.returncode == 0 and chosen == "second" and name is None:
            return run(False, None, "first")  # it came to its end before it was killed
        return result.returncode

    def read():
        return {path.name: path.read_bytes() for path in visible(out) if path.name.endswith("_seg.nii.gz")}

    for name in ("first", "second"):
        assert run(True, None, name) == 0
        masks[name] = read()

    def is_mixed():
        """A mask is of neither network."""
        return any(mask not in (masks["first"][name], masks["second"][name]) for name, mask in read().items())

    assert weights(tmp_path / "first.pt").keys() == weights(tmp_path / "second.pt").keys()
    survive(run, kills_of(0.4), random.Random(2), is_mixed, out)


@pytest.mark.parametrize("writer", SMALL)
def test_synthetic_data_is_written_to_its_end(writer, kills_of, tmp_path):
    out, helpers = tmp_path / "out", str(Path(__file__).parents[1] / "helpers")
    path = os.pathsep.join([helpers, *filter(None, [os.environ.get("PYTHONPATH")])])

    def run(anew, kill_after_s):
        if anew:
            remove(out)
        return run_module(
            "write_data", writer, out, cwd=tmp_path, kill_after_s=kill_after_s, PYTHONPATH=path
        ).returncode

    survive(run, kills_of(0.1), random.Random(3), folder=out)
