"""Laws of what a run writes and which weights it uses: those of its training, never those of another one unsaid."""

import csv
import hashlib
import os
import shutil

import nibabel as nib
import pytest
import torch
from bundle_files import BUNDLES, NAMES, RETINA, VOLUMES
from monai.bundle import ConfigParser

from equivariant_nets.ownership import FolderLock

PHANTOM = "phantom_so3_segmentation"
WORKFLOWS = {"evaluation": ["train.json", "evaluate.json"], "inference": ["inference.json"]}


def parsed(name, files, **overrides):
    parser = ConfigParser()
    parser.read_config([str(BUNDLES / name / "configs" / file) for file in files])
    parser.update(overrides)
    return parser


@pytest.mark.parametrize("name", NAMES)
def test_a_training_writes_into_its_output_folder_or_where_it_is_told(name):
    for told, folder in ({"output_dir": "run"}, "run"), ({"output_dir": "run", "ckpt_dir": "own/models"}, "own/models"):
        parser = parsed(name, ["train.json"], **told)
        ids = [
            f"{section}#handlers#{index}#save_dir"
            for section in ("train", "validate")
            for index, handler in enumerate(parser[f"{section}#handlers"])
            if isinstance(handler, dict) and "save_dir" in handler
        ]
        # The initial weights, which must not lie there, the state and the checkpoint.
        assert [parser.get_parsed_content(id) for id in ids] == [folder] * 3
    parser = parsed(name, ["train.json"], bundle_root="bundle")
    assert parser.get_parsed_content("output_dir") == os.path.join("bundle", "eval")


@pytest.mark.parametrize("workflow", WORKFLOWS)
@pytest.mark.parametrize("name", NAMES)
def test_each_workflow_finds_the_weights_that_are_meant(name, workflow, tmp_path, monkeypatch):
    def found(**overrides):
        parser = parsed(name, WORKFLOWS[workflow], bundle_root="bundle", **overrides)
        return os.fspath(parser.get_parsed_content("ckpt_path"))

    monkeypatch.chdir(tmp_path)
    for folder in ("bundle/models", "run", "begun"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / ("training_state.pt" if folder == "begun" else "model.pt")).touch()  # torn, if read
    shipped, trained = os.path.join("bundle", "models", "model.pt"), os.path.join("run", "model.pt")
    assert found() == found(output_dir="new") == shipped
    assert found(output_dir="run") == found(output_dir="new", ckpt_dir="run") == trained
    assert found(output_dir="run", ckpt_dir="new", ckpt_path="given.pt") == "given.pt"
    for overrides in ({"output_dir": "begun"}, {"ckpt_dir": "begun"}, {"output_dir": "run", "ckpt_dir": "new"}):
        with pytest.raises(FileNotFoundError, match=r"or (give )?--ckpt_path FILE"):
            found(**overrides)
    (tmp_path / shipped).unlink()
    with pytest.raises(FileNotFoundError, match=r"has no bundle/models/model\.pt"):
        found(output_dir="new")


@pytest.mark.parametrize("name", NAMES)
def test_whatever_writes_a_table_of_scores_is_told_the_weights(name):
    overlays = [path.name for path in (BUNDLES / name / "configs").glob("evaluate_*.json")]
    parser = parsed(name, ["train.json", "evaluate.json", *overlays])
    writers = [
        key for key, value in parser.get().items()
        if isinstance(value, dict) and str(value.get("_target_")).endswith(("Sweep", "Evaluation"))
    ]  # fmt: skip
    assert len(writers) == (1 if name in RETINA else 2) + len(overlays)
    assert {parser[f"{key}#weights"] for key in writers} == {"@weights" if name in RETINA else "@ckpt_path"}


@pytest.mark.parametrize("name", NAMES)
def test_an_evaluation_owns_its_output_folder_from_its_first_step_to_its_last(name, tmp_path):
    overlays = [path.name for path in (BUNDLES / name / "configs").glob("evaluate_*.json")]
    parser = parsed(name, ["train.json", "evaluate.json", *overlays], output_dir=str(tmp_path / "out"))
    assert parser.get_parsed_content("initialize#0").folder == tmp_path / "out"
    assert (tmp_path / "out" / ".owner.json").exists()
    parser.get_parsed_content("finalize#0")
    assert not (tmp_path / "out" / ".owner.json").exists()
    assert parser["finalize"] == ["$@owner.release()"]


@pytest.mark.parametrize("name", VOLUMES)
def test_metrics_of_a_test_are_not_called_those_of_the_validation(name):
    parser = parsed(name, WORKFLOWS["evaluation"])
    loader, metrics, *_ = parser["validate#handlers"]
    assert "CheckpointLoader" in loader["_target_"]  # what MONAI's federated client looks for
    assert list(metrics["metrics"]) == ["mean_dice", "hausdorff95"]
    assert parser["validate#evaluator#key_val_metric"] is None
    train = parsed(name, ["train.json"])
    assert list(train["validate#key_metric"]) == ["val_mean_dice"]


def checksum(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def used(path):
    """The column of the weights of a table."""
    with path.open(newline="") as file:
        return {row["weights"] for row in csv.DictReader(file)}


def test_what_was_trained_is_evaluated_and_segments_and_what_is_shipped_stays(tmp_path, run_command):
    root = shutil.copytree(BUNDLES / PHANTOM, tmp_path / PHANTOM, ignore=shutil.ignore_patterns("eval", "data"))
    shipped = root / "models" / "model.pt"
    before = checksum(shipped)

    def run(*configs, **options):
        result = run_command(PHANTOM, configs, cwd=tmp_path, **options)
        assert result.returncode == 0, result.stderr
        return result.stdout

    small = {"phantom_size": [20, 20, 20], "num_training": 2, "num_validation": 1, "num_test": 1, "epochs": 1}
    small |= {"dataset_dir": "phantoms", "sweep_angles": [0], "sweep_random_poses": 0, "sweep_scales": [1.0]}
    run("train.json", **small, output_dir="run")
    assert sorted(path.name for path in (tmp_path / "run").glob("*.pt")) == ["model.pt", "training_state.pt"]
    assert checksum(tmp_path / "run" / "model.pt") != before

    tables = ["mean_dice_raw.csv", "hausdorff95_summary.csv", "rotation_dice.csv", "scale_dice.csv"]
    for output_dir, path, origin in (
        ("run", "run/model.pt", "trained in run"),
        ("new", f"{PHANTOM}/models/model.pt", "the bundle's own"),
    ):
        log = run("train.json", "evaluate.json", **small, output_dir=output_dir)
        assert log.count(f"Weights: {path} ({origin})") == log.count(path) == 1
        told = f"{path} sha256:{checksum(tmp_path / path)[:8]}"
        assert [used(tmp_path / output_dir / table) for table in tables] == [{told}] * len(tables)
    written = [(tmp_path / "run" / table).read_text() for table in tables]
    dice = [(tmp_path / folder / "mean_dice_raw.csv").read_text().split(",")[-2] for folder in ("run", "new")]
    assert float(dice[0]) < float(dice[1])  # one epoch of two phantoms, and the shipped weights

    with FolderLock(tmp_path / "run"):
        refused = run_command(PHANTOM, ["train.json", "evaluate.json"], cwd=tmp_path, **small, output_dir="run")
    assert refused.returncode != 0
    assert f"run is in use by process {os.getpid()} on" in refused.stderr.splitlines()[-1]
    assert [(tmp_path / "run" / table).read_text() for table in tables] == written

    segmentations = []
    for number, (options, path) in enumerate(
        [({}, f"{PHANTOM}/models/model.pt"), ({"ckpt_dir": "run"}, "run/model.pt")]
    ):
        log = run("inference.json", dataset_dir="phantoms/imagesTs", output_dir=f"seg_{number}", **options)
        assert log.count(f"Weights: {path} (") == 1
        (segmentation,) = (tmp_path / f"seg_{number}").glob("phantom_test_0000_seg.nii.gz")
        segmentations.append(torch.tensor(nib.load(segmentation).get_fdata()))
    assert not torch.equal(*segmentations)
    assert checksum(shipped) == before
    assert sorted(path.name for path in (root / "models").iterdir()) == ["model.pt"]

    refused = run_command(PHANTOM, ["inference.json"], cwd=tmp_path, dataset_dir="phantoms/imagesTs", ckpt_dir="new")
    assert refused.returncode != 0
    assert "ckpt_dir new holds no model.pt" in refused.stderr
