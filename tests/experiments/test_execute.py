"""Runs are carried out once, whoever asks for them, and a failure costs the others nothing."""

import json
import os
import subprocess
import sys
import time
from multiprocessing.pool import ThreadPool

import pytest
import torch
from fresh import python

from equivariant_nets.experiments import execute, read_experiment
from equivariant_nets.experiments.execution import (
    _contents,
    _count_parameters,
    _environment,
    _is_finished,
    _visible_gpus,
    evaluation_dir,
    training_dir,
)

SMALL = {"without": ["vary"], "plot": "rotation", "seeds": [0]}


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(autouse=True)
def _fresh_processes(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(sys, "executable", python())


def test_a_finished_run_is_not_repeated_and_a_new_evaluation_repeats_no_training(experiment_file, tmp_path):
    path = experiment_file(**SMALL)
    experiment, out = read_experiment(path, tmp_path), tmp_path / "out"

    assert execute(experiment.runs, out, jobs=2) == []
    for run in experiment.runs:
        record = json.loads((training_dir(run, out) / "record.json").read_text())
        assert record["parameters"] == 3
        assert record["bundle_version"] == "0.1.0"
        assert record["versions"]["torch"] == torch.__version__
        assert (training_dir(run, out) / "model.pt").is_file()
        assert (evaluation_dir(run, out) / "angles.txt").read_text() == "[0, 90]"
    before = contents(out)
    assert execute(experiment.runs, out, jobs=2) == []
    assert contents(out) == before

    other = read_experiment(experiment_file(**SMALL, evaluation={"sweep_angles": [45]}), tmp_path)
    assert execute(other.runs[:1], out) == []
    assert (evaluation_dir(other.runs[0], out) / "angles.txt").read_text() == "[45]"
    assert {path: data for path, data in contents(out).items() if path in before} == before


@pytest.mark.faults
def test_what_was_changed_since_it_was_finished_is_not_finished(tmp_path):
    training, evaluation = tmp_path / "runs", tmp_path / "runs" / "poses"
    evaluation.mkdir(parents=True)
    paths = [training / "model.pt", evaluation / "rotation_dice.csv"]
    for path in paths:
        path.write_text("case,dice\na,0.8\nb,0.7\n")
    for folder in (training, evaluation):
        assert not _is_finished(folder)
        (folder / "record.json").write_text(json.dumps({"files": _contents(folder)}))
        assert _is_finished(folder)
    for path, is_training_kept in zip(paths, (False, True), strict=True):
        whole = path.read_text()
        path.write_text(whole[: whole.index("b,")])  # at the end of a row
        assert not _is_finished(evaluation)
        assert _is_finished(training) == is_training_kept
        path.unlink()
        assert not _is_finished(evaluation)
        path.write_text(whole)
        assert _is_finished(training)
        assert _is_finished(evaluation)


def test_what_failed_is_told_with_the_end_of_its_log_and_the_rest_is_done(experiment_file, tmp_path):
    networks = {"bad": {"bundle": "fast", "overrides": {"epochs": 0}}, "good": {"bundle": "fast"}}
    experiment, out = read_experiment(experiment_file(**SMALL, networks=networks), tmp_path), tmp_path / "out"

    problems = execute(experiment.runs, out)
    assert len(problems) == 1
    assert problems[0].startswith("bad, ")
    assert "Failed to evaluate" in problems[0]
    bad, good = experiment.runs
    assert not (training_dir(bad, out) / "record.json").exists()
    assert (evaluation_dir(good, out) / "record.json").exists()


def test_the_command_of_a_record_makes_the_same_weights_again(experiment_file, tmp_path):
    experiment, out = read_experiment(experiment_file(**SMALL), tmp_path), tmp_path / "out"
    run = experiment.runs[0]
    assert execute([run], out) == []
    folder = training_dir(run, out)
    weights = (folder / "model.pt").read_bytes()
    (folder / "model.pt").unlink()

    command = json.loads((folder / "record.json").read_text())["command"]
    subprocess.run([sys.executable, *command[1:]], cwd=tmp_path, check=True, capture_output=True)
    assert (folder / "model.pt").read_bytes() == weights


@pytest.mark.parametrize("wrong", [{"jobs": 0}, {"processes_per_run": 0}])
def test_wrong_numbers_of_processes_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match="must be 1 or more"):
        execute([], tmp_path, **wrong)


@pytest.mark.parametrize(
    ("inherited", "count", "dealt"),
    [
        (None, 4, ["0,1", "2,3"]),
        ("7,5,4,6", 4, ["7,5", "4,6"]),
        (" 4, 5 ,6,7,-1,0", 4, ["4,5", "6,7"]),
        ("GPU-8932f937,GPU-d72c,GPU-0a1b,GPU-33", 4, ["GPU-8932f937,GPU-d72c", "GPU-0a1b,GPU-33"]),
        ("MIG-aa,MIG-GPU-bb/1/0", 1, ["MIG-aa", "MIG-GPU-bb/1/0"]),
    ],
)
def test_the_gpus_that_this_process_sees_are_dealt_out(monkeypatch, inherited, count, dealt):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    if inherited is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", inherited)
    gpus, processes = _visible_gpus(), len(dealt[0].split(","))
    assert [_environment(job, 2, processes, gpus)["CUDA_VISIBLE_DEVICES"] for job in (0, 1)] == dealt


@pytest.mark.parametrize("inherited", [None, "", "-1", "MIG-aa"])
def test_without_a_gpu_the_cores_are_dealt_out(monkeypatch, inherited):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS")
    if inherited is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", inherited)
    assert _environment(0, 2, 1, _visible_gpus())["OMP_NUM_THREADS"] == "3"


def test_too_few_gpus_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(ValueError, match="need 6 GPUs, and there are 4"):
        execute([], tmp_path, jobs=3, processes_per_run=2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    with pytest.raises(ValueError, match="need 3 GPUs, and there are 2"):
        execute([], tmp_path, jobs=3)


def test_networks_are_built_one_at_a_time(monkeypatch):
    """Building imports and compiles, and two at once would change the dictionaries that the other walks through."""
    at_work, most = [], []

    class Config:
        def get_parsed_content(self, id):
            at_work.append(id)
            most.append(len(at_work))
            time.sleep(0.01)
            at_work.pop()
            return torch.nn.Linear(2, 1)

    monkeypatch.setattr("equivariant_nets.experiments.execution.config_of", lambda run: Config())
    with ThreadPool(4) as pool:
        assert pool.map(_count_parameters, range(8)) == [3] * 8
    assert max(most) == 1
