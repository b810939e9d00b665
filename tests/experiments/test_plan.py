"""Experiments are read from files: what runs they ask for, which of them are the same, and what is no experiment."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from equivariant_nets.experiments import identity, read_experiment

EXPERIMENTS = sorted((Path(__file__).resolve().parents[2] / "experiments").glob("*.json"))


def test_runs_are_all_networks_values_and_seeds_with_the_seeds_outermost(experiment_file, tmp_path):
    experiment = read_experiment(experiment_file(), tmp_path)

    asked = [(run.seed, run.network, run.overrides["width"], run.value) for run in experiment.runs]
    assert asked == [(s, n, w, w) for s in (0, 1) for n in ("fast", "other") for w in (2, 4)]
    assert (experiment.name, experiment.varies) == ("widths", "width")
    assert (experiment.networks, experiment.values) == (["fast", "other"], [2, 4])
    assert [run.overrides.get("epochs") for run in experiment.runs[:4]] == [None, None, 2, 2]


def test_a_network_may_vary_values_of_its_own(experiment_file, tmp_path):
    networks = {"fast": {"bundle": "fast", "vary": {"width": [7]}}, "other": {"bundle": "other"}}
    experiment = read_experiment(experiment_file(networks=networks, seeds=[0]), tmp_path)

    assert [(run.network, run.value) for run in experiment.runs] == [("fast", 7), ("other", 2), ("other", 4)]


def test_a_cross_validation_trains_each_network_once_a_fold_and_is_no_value_of_its_own(experiment_file, tmp_path):
    changes = {
        "networks": {"a": {"bundle": "fast"}, "b": {"bundle": "fast", "overrides": {"width": 3}}},
        "plot": "rotation",
    }
    path = experiment_file(without=["vary", "quick"], folds=[0, 1], **changes)
    experiment = read_experiment(path, tmp_path)

    assert [(run.seed, run.fold, run.network) for run in experiment.runs] == [
        (seed, fold, network) for seed in (0, 1) for fold in (0, 1) for network in ("a", "b")
    ]
    assert len({run.training_id for run in experiment.runs}) == len(experiment.runs)
    assert experiment.values == [None]
    assert {run.fold for run in read_experiment(experiment_file(), tmp_path).runs} == {None}


def test_the_quick_version_has_a_name_and_runs_of_its_own(experiment_file, tmp_path):
    path = experiment_file()
    quick, full = read_experiment(path, tmp_path, quick=True), read_experiment(path, tmp_path)

    assert quick.name == "widths_quick"
    assert (quick.title, quick.quick) == ("Widths (smoke run)", True)
    assert (full.title, full.quick) == ("Widths", False)
    assert [(run.network, run.value, run.seed) for run in quick.runs] == [("fast", 3, 0), ("other", 3, 0)]
    assert not {run.training_id for run in quick.runs} & {run.training_id for run in full.runs}


def test_two_experiments_share_a_training_and_an_evaluation_does_not_change_it(experiment_file, tmp_path):
    first = read_experiment(experiment_file(), tmp_path).runs[0]
    same = read_experiment(
        experiment_file(
            "other", without=["vary"], plot="rotation", overrides={"width": 2}, evaluation={"sweep_angles": [45]}
        ),
        tmp_path,
    ).runs[0]

    assert first.training_id == same.training_id
    assert first.evaluation_id != same.evaluation_id


@pytest.mark.parametrize(
    "changes", [{"overrides": {"epochs": 3}}, {"seeds": [5]}, {"networks": {"a": {"bundle": "other"}}}]
)
def test_a_change_of_what_is_trained_is_another_training(experiment_file, tmp_path, changes):
    first = read_experiment(experiment_file(), tmp_path).runs[0]
    assert first.training_id != read_experiment(experiment_file(**changes), tmp_path).runs[0].training_id


def test_other_data_is_another_training_and_the_same_elsewhere_is_not(experiment_file, tmp_path):
    path, other = experiment_file(), tmp_path / "other"
    other.mkdir()
    (other / "case.nii").write_text("a case")

    def training_id():
        return read_experiment(path, other).runs[0].training_id

    assert read_experiment(path, tmp_path).runs[0].training_id == training_id()
    (other / "case.nii").write_text("another")
    changed = training_id()
    (other / "more.nii").write_text("a case")
    assert len({read_experiment(path, tmp_path).runs[0].training_id, changed, training_id()}) == 3
    (other / "case.nii").unlink()
    (other / "more.nii").unlink()
    with pytest.raises(ValueError, match=r"The data of fast cannot be listed\. No file in .*other"):
        training_id()


@pytest.mark.parametrize(
    ("key", "value", "trained"),
    [
        ("width", 5, False),  # which the experiment overrides
        ("epochs", 7, True),
        ("network_def", {"_target_": "torch.nn.Linear", "in_features": "@width", "out_features": 2}, True),
        ("sweep_angles", [7], False),  # which the experiment's evaluation overrides
        ("imports", ["$import os", "$import torch", "$import math"], False),
        ("dataset_dir", "elsewhere", False),
        ("unread", 3, False),
    ],
)
def test_a_bundle_that_was_edited_is_another_training_where_what_it_runs_is(
    experiment_file, tmp_path, key, value, trained
):
    path = experiment_file()
    before = read_experiment(path, tmp_path).runs[0]
    ids = before.training_id, before.evaluation_id
    config = tmp_path / "bundles" / "fast" / "configs" / "train.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), key: value}))
    now = read_experiment(path, tmp_path).runs[0]
    assert (now.training_id != ids[0]) == trained


def test_another_version_of_the_package_is_another_training(experiment_file, tmp_path, monkeypatch):
    path = experiment_file()
    before = read_experiment(path, tmp_path).runs[0].training_id
    monkeypatch.setattr(identity, "__version__", "0.0.0")
    assert read_experiment(path, tmp_path).runs[0].training_id != before


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_the_bundles_of_the_experiments_here_name_their_data_and_what_they_run(path, tmp_path):
    for run in {run.bundle: run for run in read_experiment(path, tmp_path).runs}.values():
        values = identity.what_runs(identity.config_of(replace(run, evaluation={}), ["train.json"]))
        assert {value for id, value in values.items() if identity._is_datalist(id, value)}
        assert {"seed", "network_def::_target_", "train::dataset::_target_"} <= set(values)
        assert not {"output_dir", "device", "num_workers", "bundle_root", "ckpt_path"} & set(values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extra": 1}, "an experiment has the keys extra; legal are"),
        ({"without": ["plot"]}, "lacks plot"),
        ({"plot": "pie"}, "plot is 'pie'; legal are rotation, curve"),
        ({"seeds": []}, "seeds is []"),
        ({"seeds": [0.5]}, "seeds is [0.5]"),
        ({"folds": []}, "folds is []"),
        ({"folds": 4}, "folds is 4"),
        ({"folds": [0]}, "overrides 'fold', which other has not"),
        ({"networks": {"a": {}}}, "the network 'a' lacks bundle"),
        ({"networks": {"a": {"bundle": "fast", "epoch": 1}}}, "the network 'a' has the keys epoch"),
        ({"networks": {}}, "networks is {}"),
        ({"networks": []}, "networks is []"),
        ({"vary": {"width": [1], "epochs": [1]}}, "legal is one override with the list of its values"),
        ({"vary": {"width": 3}}, "legal is one override with the list of its values"),
        ({"vary": {"width": []}}, "legal is one override with the list of its values"),
        ({"without": ["vary"]}, "the plot 'curve' needs what is varied"),
        ({"networks": {"a": {"bundle": "fast", "vary": {"epochs": [1]}}, "b": {"bundle": "fast"}}}, "one override for"),
        ({"overrides": {"epoch": 1}}, "overrides 'epoch', which fast has not"),
        ({"overrides": {"epochs#more": 1}}, "overrides 'epochs#more', which fast has not"),
        ({"evaluation": {"angles": 1}}, "overrides 'angles', which fast has not"),
        ({"overrides": {"rotation_sweep": 1}}, "overrides 'rotation_sweep', which fast has not"),
        ({"overrides": {"ckpt_dir": "x"}}, "'ckpt_dir', which is set for each run"),
        ({"overrides": [1]}, "overrides is [1]"),
        ({"networks": {"a": {"bundle": "fast", "overrides": [1]}}}, "overrides is [1]"),
    ],
)  # fmt: skip
def test_what_is_no_experiment_is_refused_by_name(experiment_file, tmp_path, changes, message):
    path = experiment_file(**changes)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        read_experiment(path, tmp_path)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_a_missing_file_bundle_or_folder_of_data_is_named(experiment_file, tmp_path):
    path = experiment_file()
    with pytest.raises(FileNotFoundError, match=r"no experiment .*nothing\.json"):
        read_experiment(tmp_path / "nothing.json", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no folder of data .*nowhere"):
        read_experiment(path, tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="absent, which has no configs"):
        read_experiment(experiment_file(networks={"a": {"bundle": "absent"}}), tmp_path)
    path.write_text("{")
    with pytest.raises(ValueError, match="is not valid JSON"):
        read_experiment(path, tmp_path)


def test_a_quick_version_must_be_there(experiment_file, tmp_path):
    with pytest.raises(ValueError, match="has no quick version"):
        read_experiment(experiment_file(without=["quick"]), tmp_path, quick=True)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_the_experiments_here_are_legal_and_their_quick_versions_small(path, tmp_path):
    full, quick = (read_experiment(path, tmp_path, quick=small) for small in (False, True))
    assert len(quick.runs) < len(full.runs) or len(full.runs) <= 5
    assert {run.seed for run in quick.runs} == {0}
    assert all(run.overrides["epochs"] * run.overrides["epoch_length"] <= 10 for run in quick.runs)
    assert all(run.overrides["train_cases"] == run.value for run in full.runs if full.varies == "train_cases")
