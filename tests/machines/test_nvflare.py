"""NVIDIA FLARE's simulator trains bundles at several sites: what it averages, and what it says when a site fails."""

import json
import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import pytest
import torch
from bundle_files import BUNDLES, copy_bundle, weights
from fresh import python, run_module

from equivariant_nets.data import write_tumor_phantoms

pytestmark = pytest.mark.skipif(
    find_spec("nvflare") is None, reason="nvflare not installed: pip install -e '.[nvflare]'"
)
JOB = Path(__file__).resolve().parents[2] / "examples" / "nvflare" / "job.py"
TUMOR = "brain_tumor_mri_conventional_segmentation"  # with batch norm
OPTIONS = {"patch_size": [16] * 3, "roi_size": [16] * 3, "spacing_mm": [1] * 3, "epoch_length": None, "features": 2}


def train(sites, bundle, options, folder, rounds=2):
    """Give the documented command; what it wrote to its streams, and its exit status."""
    overrides = folder / "overrides.json"
    overrides.write_text(json.dumps(options))
    given = [f"{name}={data}" for name, data in sites.items()]
    given += ["--bundle", str(BUNDLES / bundle), "--output_dir", str(folder / "out"), "--rounds", str(rounds)]
    command = [python(), str(JOB), *given, "--overrides", str(overrides)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def sent(folder, site, number):
    return weights(folder / "out" / site / "sent" / f"round_{number}.pt")


def test_weights_and_statistics_are_averaged_by_steps_and_the_best_are_loaded_by_inference(tmp_path):
    sites = {
        name: write_tumor_phantoms(tmp_path / name, num_cases=cases, size=(20, 18, 16), seed=cases)
        for name, cases in (("a", 4), ("b", 8))
    }
    result = train(sites, TUMOR, OPTIONS, tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    for number, file in enumerate(
        ("model.pt", "final.pt")
    ):  # the best was validated in the last round: it is of the first
        averaged, first, second = weights(tmp_path / "out" / file), *(sent(tmp_path, site, number) for site in "ab")
        assert first["steps"] < second["steps"]
        for key, value in averaged.items():
            ours, theirs = (part["model"][key] for part in (first, second))
            assert ours.dtype == value.dtype
            if value.is_floating_point():
                assert not torch.equal(ours, theirs)
                mean = ours.double() * first["steps"] + theirs.double() * second["steps"]
                mean /= first["steps"] + second["steps"]
                torch.testing.assert_close(value.double(), mean, rtol=1e-5, atol=1e-6)
        assert any(key.endswith("running_var") for key in averaged)
    root = copy_bundle(TUMOR, tmp_path)
    own = {"dataset_dir": sites["a"] / "imagesTr", "features": 2, "roi_size": [16] * 3, "spacing_mm": [1] * 3}
    options = {**own, "ckpt_dir": tmp_path / "out", "output_dir": tmp_path / "segmented"}
    arguments = [text for key, value in options.items() for text in (f"--{key}", value)]
    config = ["--bundle_root", root, "--config_file", root / "configs" / "inference.json"]
    inference = run_module("monai.bundle", "run", *config, *arguments, cwd=tmp_path)
    assert inference.returncode == 0, inference.stderr[-3000:]
    assert nib.load(next((tmp_path / "segmented").rglob("*_seg.nii.gz"))).shape == (20, 18, 16)


@pytest.mark.faults
def test_a_site_without_its_data_is_named_with_the_cause(kills_of, tmp_path):
    if not kills_of(0.01, least=0):
        pytest.skip("another ten seconds: make test-faults")
    sites = {name: write_tumor_phantoms(tmp_path / name, num_cases=4, size=(20, 18, 16)) for name in "ab"}
    shutil.rmtree(sites["b"] / "labelsTr")
    result = train(sites, TUMOR, OPTIONS, tmp_path)
    assert result.returncode == 1
    last_words = result.stderr.rpartition("The site ")[2]
    assert re.match(r"b failed: .* has 4 problems:", last_words), result.stderr[-3000:]
    assert "labelsTr/BRATS_001.nii.gz" in last_words
    assert "The site a failed" not in result.stderr


def test_folders_that_are_not_there_and_a_single_site_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    result = train({"a": tmp_path / "a", "b": tmp_path / "nowhere"}, TUMOR, {}, tmp_path)
    assert f"The data of the site b is {tmp_path / 'nowhere'}, which is no folder." in result.stderr
    assert "1 sites and 2 rounds were given." in train({"a": tmp_path / "a"}, TUMOR, {}, tmp_path).stderr


def test_weights_of_all_sites_with_their_statistics_segment_at_each(real_hippocampus, tmp_path):
    """Batch norm: the network that is validated uses the mean of the running statistics of both sites."""
    entries = json.loads((real_hippocampus / "dataset.json").read_text())["training"]
    sites = {}
    for name, own in (("a", entries[:10]), ("b", entries[10:20])):
        sites[name] = tmp_path / name
        for file in (file for entry in own for file in entry.values()):
            (sites[name] / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(real_hippocampus / file, sites[name] / file)
        (sites[name] / "dataset.json").write_text(json.dumps({"training": own}))
    options = {"features": "4x0e+2x1e+1x2e", "network_def#normalization": "batch", "augmentation": "none"}
    options |= {"epoch_length": 8, "val_interval": 4, "learning_rate": 0.02}
    result = train(sites, "hippocampus_mri_so3_segmentation", options, tmp_path, rounds=4)
    assert result.returncode == 0, result.stderr[-3000:]
    for site in sites:
        before, after = (sent(tmp_path, site, number)["metrics"]["val_mean_dice"] for number in (0, 3))
        assert after > before + 0.1
