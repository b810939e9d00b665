"""Experiments and cohorts on a Dask cluster: a worker is killed, one joins late, and the results are as without."""

import json
import os
import re
import signal
import subprocess
import time
from importlib.util import find_spec
from types import SimpleNamespace

import pytest
import torch
from bundle_files import config, copy_bundle
from fresh import python, run_module

from equivariant_nets.cluster import Cluster
from equivariant_nets.data import write_phantoms
from equivariant_nets.ownership import FolderLock

pytestmark = pytest.mark.skipif(find_spec("distributed") is None, reason="dask not installed: pip install -e '.[dask]'")
# What each task passes: it tells that it is there, and waits until the gate is open.
GATE = """
import os, time
from pathlib import Path

def wait(value=None):
    with open(Path(__file__).with_name("passed.txt"), "a") as file:
        file.write(f"{os.getpid()}\\n")
    while not Path(__file__).with_name("open").exists():
        time.sleep(0.02)
    return value
"""
TRAIN = {
    "imports": ["$import os", "$import torch", "$import gate"],
    "dataset_dir": "",
    "output_dir": "",
    "ckpt_dir": "",
    "resume": False,
    "seed": 0,
    "network_def": {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 1},
    "cases": {"_target_": "equivariant_nets.data.image_datalist", "dataset_dir": "@dataset_dir", "pattern": "*.nii.gz"},
    "run": [
        "$gate.wait(len(@cases))",
        "$torch.manual_seed(@seed)",
        "$torch.save(@network_def.state_dict(), os.path.join(@ckpt_dir, 'model.pt'))",
    ],
}
EVALUATE = {"run": ["$open(os.path.join(@output_dir, 'table.txt'), 'a').write(str(@seed))"]}
TINY = {"features": "2x0e+1x1e", "pattern": "*.nii.gz"}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A scheduler, and workers as they are asked for: processes of Dask's own commands."""
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "gate.py").write_text(GATE)
    paths = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    os.environ["PYTHONPATH"] = paths
    started = []

    def start(*arguments, **variables):
        command = [python(), "-m", "dask", *map(str, arguments), "--no-dashboard"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
        log = (folder / f"{len(started)}.log").open("w")
        started.append(subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT))
        return started[-1]

    file = folder / "scheduler.json"
    start("scheduler", "--host", "127.0.0.1", "--port", 0, "--scheduler-file", file)
    wait_for(file.exists)
    address = json.loads(file.read_text())["address"]

    def worker(**variables):
        return start("worker", address, "--nthreads", 1, "--no-nanny", "--local-directory", folder, **variables)

    yield SimpleNamespace(address=address, worker=worker, folder=folder, workers=[worker(), worker()])
    for process in started:
        process.kill()
        process.wait()
    os.environ["PYTHONPATH"] = paths.partition(os.pathsep)[2]


def wait_for(condition):
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.02)
    raise TimeoutError


def passed(cluster):
    file = cluster.folder / "passed.txt"
    return file.read_text().split() if file.exists() else []


def give(cluster, *command):
    """Start a command with the option."""
    arguments = [python(), "-m", *map(str, command), "--dask", cluster.address]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(arguments, cwd=cluster.folder, env=environment, **pipes)


def shut(cluster):
    """Close the gate, which nothing has passed."""
    (cluster.folder / "open").unlink(missing_ok=True)
    (cluster.folder / "passed.txt").unlink(missing_ok=True)


def disturb(cluster, *command):
    """Give a command; while two workers are at it, kill one, and let another join; its exit status, and its streams."""
    shut(cluster)
    with give(cluster, *command) as process:
        wait_for(lambda: len(passed(cluster)) == 2 or process.poll() is not None)
        cluster.workers.pop(0).send_signal(signal.SIGKILL)
        cluster.workers.append(cluster.worker())
        wait_for(lambda: len(set(passed(cluster))) == 3 or process.poll() is not None)  # the new one has its task
        yield process
        (cluster.folder / "open").touch()
        text = process.communicate()[0]
    yield process.returncode, text


def contents(folder):
    kinds = (".gz", ".png", ".pt", ".txt")
    paths = (path for path in folder.rglob("[!.]*") if path.suffix in kinds and path.name != "log.txt")
    return {path.relative_to(folder): path.read_bytes() for path in paths}


def cohort(tmp_path):
    """A command that segments five phantoms, each behind the gate."""
    data = write_phantoms(tmp_path / "data", num_training=4, num_validation=1, num_test=1, size=(20, 20, 20))
    root = copy_bundle("hippocampus_mri_so3_segmentation", tmp_path)
    network = config("hippocampus_mri_so3_segmentation", "inference.json", features=TINY["features"])
    torch.save(network.get_parsed_content("network_def").state_dict(), tmp_path / "model.pt")
    gate = {"_target_": "Lambdad", "keys": "image", "func": "$__import__('gate').wait"}
    (tmp_path / "gate.json").write_text(json.dumps({"+preprocessing#transforms": [gate]}))
    files = str([str(root / "configs" / "inference.json"), str(tmp_path / "gate.json")])
    options = {**TINY, "bundle_root": root, "config_file": files, "ckpt_path": tmp_path / "model.pt"}
    options |= {"dataset_dir": data / "imagesTr"}
    return ["monai.bundle", "run", *(text for key, value in options.items() for text in (f"--{key}", value))]


def test_a_cohort_loses_nothing_and_repeats_nothing(cluster, tmp_path):
    command = cohort(tmp_path)
    story = disturb(cluster, *command, "--output_dir", tmp_path / "out")
    next(story)
    with pytest.raises(RuntimeError, match=r"in use by process \d+"):
        FolderLock(tmp_path / "out").acquire()
    status, text = next(story)
    assert status == 0, text[-3000:]
    assert "5/5" in text
    assert len(passed(cluster)) == 5 + 1  # that of the worker that was killed
    again = run_module(*command, "--output_dir", tmp_path / "out", "--dask", cluster.address, cwd=tmp_path)
    assert "5 finished before" in again.stdout + again.stderr
    assert len(passed(cluster)) == 5 + 1
    assert run_module(*command, "--output_dir", tmp_path / "alone", cwd=tmp_path).returncode == 0
    assert len(contents(tmp_path / "alone")) == 10
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


@pytest.mark.faults
def test_a_command_that_is_given_again_repeats_nothing_of_the_one_that_was_killed(cluster, kills_of, tmp_path):
    if not kills_of(0.01, least=0):
        pytest.skip("another ten seconds: make test-faults")
    command = [*cohort(tmp_path), "--output_dir", tmp_path / "out"]
    shut(cluster)
    with give(cluster, *command) as first:
        wait_for(lambda: len(passed(cluster)) == 2 or first.poll() is not None)
        first.kill()
    with give(cluster, *command) as second:
        wait_for(lambda: len(list((tmp_path / "out").glob(".shared-*"))) == 2 or second.poll() is not None)
        assert len(passed(cluster)) == 2
        (cluster.folder / "open").touch()
        text = second.communicate()[0]
    assert second.returncode == 0, text[-3000:]
    assert "3 segmented, 2 finished before" in text
    assert len(passed(cluster)) == 5


def test_an_experiment_loses_nothing_and_repeats_nothing(cluster, tmp_path):
    configs = tmp_path / "bundles" / "fast" / "configs"
    configs.mkdir(parents=True)
    for name, content in (("train", TRAIN), ("evaluate", EVALUATE), ("metadata", {"version": "0.1.0"})):
        (configs / f"{name}.json").write_text(json.dumps(content))
    data = write_phantoms(tmp_path / "data", num_training=1, num_validation=1, num_test=1, size=(20, 20, 20))
    content = {"title": "T", "question": "Q?", "plot": "rotation", "networks": {"fast": {"bundle": "fast"}}}
    (tmp_path / "experiments").mkdir()
    file = tmp_path / "experiments" / "seeds.json"
    file.write_text(json.dumps({**content, "seeds": [0, 1, 2]}))
    module, options = "equivariant_nets.experiments", ["--dataset_dir", data / "imagesTr", "--output_dir"]

    story = disturb(cluster, module, file, *options, tmp_path / "out")
    next(story)
    _, text = next(story)
    assert "3/3" in text
    assert re.search(r"2 problems:\s*\S*mean_dice_raw.csv cannot be read", text), text[
        -3000:
    ]  # the bundle writes no tables
    assert len(passed(cluster)) == 3 + 1
    run_module(module, file, *options, tmp_path / "alone", cwd=tmp_path)
    assert len(contents(tmp_path / "alone")) == 6
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


def test_what_cannot_work_is_told(cluster, tmp_path):
    with pytest.raises(ValueError, match=r"No Dask scheduler answers at 'nowhere'\. Start one by `dask scheduler`"):
        Cluster("nowhere", tmp_path)
    cluster_of = Cluster(cluster.address, tmp_path)
    wait_for(lambda: len(cluster_of.client.scheduler_info()["workers"]) == 2)
    with (
        pytest.raises(RuntimeError, match=f"The worker .* cannot take part: there is no folder {tmp_path}/data"),
        Cluster(cluster.address, tmp_path, [tmp_path / "data"]),
    ):
        pass
    (tmp_path / "equivariant_nets").mkdir()
    (tmp_path / "equivariant_nets" / "__init__.py").touch()  # in place of the package
    stranger = cluster.worker(PYTHONPATH=str(tmp_path))
    wait_for(lambda: len(cluster_of.client.scheduler_info()["workers"]) == 3)
    with pytest.raises(RuntimeError, match=r"cannot take part: (ImportError|ModuleNotFoundError).*'equivariant_nets"):
        cluster_of.__enter__()
    stranger.kill()
    assert not list(tmp_path.glob(".shared-*"))
