"""Experiments from the command line: killed and started again, in several processes, and quickly on real data."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from fresh import python

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
SMALL = {
    "epochs": 3, "epoch_length": 2, "val_interval": 1, "phantom_size": [20, 20, 20], "num_training": 2,
    "num_validation": 2, "num_test": 3,
}  # fmt: skip


def start(*arguments, interpreter=None, **options):
    command = [interpreter or python(), "-m", "equivariant_nets.experiments", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options
    )


def finish(*arguments, **options):
    process = start(*arguments, **options)
    output = process.communicate()[0]
    return process.returncode, output


@pytest.fixture
def phantoms(tmp_path):
    """Arguments of a small experiment on phantoms, with overrides."""

    def write(networks, **overrides):
        content = json.loads((EXPERIMENTS / "phantom_rotation.json").read_text())
        content["networks"] = {name: content["networks"][name] for name in networks}
        for name, network in content["networks"].items():
            network.setdefault("overrides", {})["features"] = {"steerable": "2x0e+1x1e", "conventional": 2}[name]
        content |= {"seeds": [0], "overrides": SMALL | overrides}
        content["evaluation"] = {"sweep_angles": [0, 90], "sweep_random_poses": 1, "sweep_scales": [1.0]}
        path = tmp_path / "turned.json"
        path.write_text(json.dumps(content))
        (tmp_path / "phantoms").mkdir()
        folders = ["--dataset_dir", tmp_path / "phantoms", "--output_dir", tmp_path / "out"]
        return [path, *folders, "--bundles_dir", EXPERIMENTS.parent / "bundles"]

    return write


def test_a_killed_experiment_goes_on_where_it_was(phantoms, tmp_path):
    arguments = phantoms(["steerable"], epochs=5, patience=5)
    process = start(*arguments, interpreter=sys.executable)  # whose processes can be suspended
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("out/runs/*/training_state.pt")) or not any(
        "SupervisedTrainer - INFO - Epoch[1] Complete" in log.read_text() for log in tmp_path.glob("out/runs/*/log.txt")
    ):  # the state is kept, and the validation logged, before the epoch's end is
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    (working,) = tmp_path.glob("out/runs/*/.process")
    orphan = psutil.Process(json.loads(working.read_text())[0])
    orphan.suspend()  # so that it neither ends by itself nor when asked to
    process.kill()
    process.wait()
    assert orphan.is_running()

    code, output = finish(*arguments)
    assert code == 0, output
    assert not orphan.is_running()
    (training,) = tmp_path.glob("out/runs/phantom*")
    log = (training / "log.txt").read_text()
    (done,) = re.findall(r"Resumed after (\d+) of 5 epochs", log)
    assert 1 <= int(done) < 5
    epochs = [int(number) for number in re.findall(r"SupervisedTrainer - INFO - Epoch\[(\d+)\] Complete", log)]
    assert epochs[-1] == 5
    assert int(done) + 1 in epochs
    assert epochs.count(1) == 1
    assert not (training / "training_state.pt").exists()

    before = {path: path.stat().st_mtime_ns for path in training.rglob("*")}
    code, output = finish(*arguments)
    assert code == 0, output
    assert {path: path.stat().st_mtime_ns for path in training.rglob("*")} == before


def test_a_training_of_several_processes_ends_in_the_same_report(phantoms, tmp_path):
    code, output = finish(*phantoms(["steerable"]), "--processes_per_run", 2)
    assert code == 0, output
    for record in tmp_path.glob("out/runs/*/record.json"):
        assert "--nproc_per_node=2" in json.loads(record.read_text())["command"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert all(text in page for text in ("steerable", "data:image/png;base64,", "--output_dir"))


def test_wrong_arguments_are_one_line(tmp_path):
    code, output = finish(tmp_path / "none.json", "--dataset_dir", tmp_path, "--output_dir", tmp_path)
    assert code == 1
    assert "There is no experiment" in output
    assert "Traceback" not in output


def test_the_quick_size_runs_on_real_data(real_hippocampus, tmp_path):
    """Of two of the networks, the steerable one and the conventional one."""
    content = json.loads((EXPERIMENTS / "hippocampus_rotation.json").read_text())
    content["networks"] = {name: content["networks"][name] for name in ("steerable", "conventional")}
    (tmp_path / "hippocampus_rotation.json").write_text(json.dumps(content))
    folders = ["--dataset_dir", real_hippocampus, "--output_dir", tmp_path / "out"]
    arguments = [*folders, "--bundles_dir", EXPERIMENTS.parent / "bundles", "--quick", "--jobs", 2]
    code, output = finish(tmp_path / "hippocampus_rotation.json", *arguments)
    assert code == 0, output
    assert f"The report is {tmp_path / 'out' / 'report.html'}\nSmoke run: its numbers mean nothing." in output
    folder = tmp_path / "out" / "hippocampus_rotation_quick"
    written = {path.name for path in folder.iterdir()}
    assert written >= {"scores.csv", "summary.csv", "rotation.png", "rotation_mean.png"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "hippocampus_rotation.json" in page
    assert "--quick" in page
    assert "Smoke run: its numbers mean nothing." in page
    assert "falls by" not in page
    assert all(name in page for name in content["networks"])
