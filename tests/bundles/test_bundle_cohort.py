"""Laws of segmenting many images with the bundles: over processes and nodes, and after a run that was killed."""

import csv
import json
import os
import socket
import subprocess
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_files import BUNDLES, NAMES, kill_when_it_writes
from fresh import python
from photographs import photograph
from PIL import Image

CONVENTIONAL = "hippocampus_mri_conventional_segmentation"
RETINA = "retina_vessels_fundus_conventional_segmentation"


def read(name, file):
    return json.loads((BUNDLES / name / "configs" / file).read_text(encoding="utf-8"))


def rows(output_dir):
    with (output_dir / "cases.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def files(folder):
    """The content of every file of a folder, by its path; of tables, the name alone."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.suffix != ".csv" and path.read_bytes() for path in paths}


@pytest.fixture
def bundle(get_bundle, get_network):
    """Copy a bundle by its name and give it fixed random weights; get it, and the options to segment with it."""

    def get(name):
        bundle = get_bundle(name)
        options = {"features": bundle.tiny["features"]}
        (bundle.root / "models").mkdir()
        torch.save(get_network(bundle.root, **options).state_dict(), bundle.root / "models" / "model.pt")
        return bundle.root, options

    return get


def write_brains(folder, count=5):
    """As in Mindboggle101: one name for all images, each in a folder of its own; larger ones than most cases here."""
    for index in range(count):
        path = folder / f"subject_{index}" / "t1.nii.gz"
        path.parent.mkdir(parents=True)
        array = np.random.RandomState(index).rand(40, 36, 44).astype(np.float32)
        nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    return folder


def free_port():
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def test_a_killed_run_ends_on_two_nodes_as_one_that_was_not(bundle, run_here, tmp_path):
    root, options = bundle(CONVENTIONAL)
    data = write_brains(tmp_path / "data")
    options |= {"dataset_dir": str(data), "pattern": "**/*.nii.gz"}
    run_here(root, "inference.json", **options, output_dir=str(tmp_path / "whole"))

    parts = data / "results"  # below the images, and no image
    options["output_dir"] = str(parts)
    command = ["monai.bundle", "run", "--bundle_root", str(root)]
    command += [text for key, value in options.items() for text in (f"--{key}", str(value))]
    configs = [str(root / "configs" / name) for name in ("inference.json", "multi_gpu_inference.json")]
    one = [python(), "-m", *command, "--config_file", str(configs[:1])]
    kill_when_it_writes(parts / "subject_1" / "t1_seg.nii.gz", one, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in parts.rglob("t1_seg.nii.gz") if path.name[0] != "."}
    assert 2 <= len(before) < 5

    node = [python(), "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1", "--rdzv_backend=c10d"]
    node += [f"--rdzv_endpoint=localhost:{free_port()}", "-m", *command, "--config_file", str(configs)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    nodes = [
        subprocess.Popen(node, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for agent in nodes:
        _, errors = agent.communicate()
        assert agent.returncode == 0, errors
    assert {Path(row["image"]).parent.name for row in rows(parts)} == {f"subject_{index}" for index in range(5)}
    assert Counter(row["status"] for row in rows(parts))["finished before"] >= 1
    assert files(parts) == files(tmp_path / "whole")
    finished = [Path(row["segmentation"]) for row in rows(parts) if row["status"] == "finished before"]
    assert all(before[path] == path.stat().st_mtime_ns for path in finished)


def test_photographs_past_one_that_fails(bundle, run_here, tmp_path):
    root, options = bundle(RETINA)
    data = tmp_path / "photographs"
    for name in ("left/eye.png", "right/eye.png", "right/flash.png"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photograph(np.random.RandomState(0))[0]).save(data / name)
    Image.fromarray(np.full((40, 40, 3), 255, np.uint8)).save(data / "right" / "flash.png")
    options |= {"dataset_dir": str(data), "pattern": "*/*.png", "output_dir": str(data / "vessels")}
    options |= {"field_of_view_pixels": 40}
    for status in ("segmented", "finished before"):
        with pytest.raises(RuntimeError) as caught:
            run_here(root, "inference.json", **options)
        assert f"1 of 3 cases failed, the others are segmented. See {data}/vessels/cases.csv" in str(
            caught.value.__cause__
        )
        assert [row["status"] for row in rows(data / "vessels")] == [status, status, "failed"]
        assert "must not be constant" in rows(data / "vessels")[2]["problem"]
    results = [f"{side}/eye_{end}.png" for side in ("left", "right") for end in ("preview", "vessels")]
    shown = [path for path in files(data / "vessels") if not path.startswith(".")]
    assert sorted(shown) == sorted([*results, "cases.csv", "segmented_with.json"])


@pytest.mark.parametrize("name", NAMES)
def test_every_bundle_segments_many_images_alike(name):
    config = read(name, "inference.json")
    evaluator = config["evaluator"]
    assert evaluator["_target_"] == "equivariant_nets.inference.cohort.CohortEvaluator"
    assert [evaluator[key] for key in ("dataset", "output_dir", "overwrite")] == [
        "@dataset",
        "@output_dir",
        "@overwrite",
    ]
    assert "settings" not in evaluator  # the objects themselves decide
    assert config["run"] == ["$@evaluator.run()"]
    steps, preview = config["postprocessing"]["transforms"], config["handlers"][1]
    dicom = [step for step in steps if "equivariant_nets.inference.dicom_seg.SaveDicomSegd" in str(step)]
    assert dicom == steps[len(steps) - len(dicom) :]
    save = steps[-1 - len(dicom)]
    assert save["_target_"] == "equivariant_nets.inference.cohort.SaveSegmentationd"
    assert preview["_target_"] == "equivariant_nets.inference.previews.PreviewSaver"
    for writer in (save, preview, *dicom):
        assert (writer["output_dir"], writer["dataset_dir"]) == ("@output_dir", "@dataset_dir")
    assert save.get("output_name_formatter") == preview.get("output_name_formatter")
    assert read(name, "multi_gpu_inference.json") == read(CONVENTIONAL, "multi_gpu_inference.json")
