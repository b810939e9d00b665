"""Laws of training, evaluating and running the bundles, with the commands that users type."""

import csv
import json
import os
import re
import shutil
from pathlib import Path

import matplotlib.image
import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch

from equivariant_nets.fingerprints import content_of

PHANTOM = "phantom_so3_segmentation"
SO3 = "hippocampus_mri_so3_segmentation"
CONVENTIONAL = "hippocampus_mri_conventional_segmentation"


def weights(path):
    return torch.load(path, weights_only=True)


def rows(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def names(folder, pattern="*"):
    return sorted(path.name for path in folder.glob(pattern))


def test_training_writes_weights_that_load(pipeline, get_network):
    assert pipeline.train.returncode == 0, pipeline.train.stderr
    assert names(pipeline.root / "eval", "*.pt") == ["model.pt", "training_state.pt"]
    network = get_network(pipeline.root, pipeline.tiny["features"])
    network.load_state_dict(weights(pipeline.root / "eval" / "model.pt"), strict=True)
    assert names(pipeline.root / "eval", "events.*")


def test_evaluation_writes_tables_of_every_case_and_class(pipeline):
    assert pipeline.evaluate.returncode == 0, pipeline.evaluate.stderr
    results = pipeline.folder / "elsewhere" / "results"
    classes = pipeline.classes
    trained = content_of(pipeline.root / "eval" / "model.pt")[:15]
    values, used = {}, {f"{os.path.join('..', pipeline.name, 'eval', 'model.pt')} {trained}"}
    for metric in ("mean_dice", "hausdorff95"):
        header, *cases = rows(results / f"{metric}_raw.csv")
        assert header == ["filename", *classes, "mean", "weights"]
        assert len(cases) == pipeline.num_test
        assert all(Path(case[0]).is_file() for case in cases)
        assert {case[-1] for case in cases} == used
        values[metric] = np.array([case[1:-2] for case in cases], dtype=float)
        assert [row[0] for row in rows(results / f"{metric}_summary.csv")] == ["class", *classes, "mean"]
    dice, distance = values.values()
    assert ((dice >= 0) & (dice <= 1)).all()
    found = np.isfinite(distance)  # there is no distance to a class that the network did not find
    assert found.any()
    assert (dice[~found] == 0).all()
    assert ((distance[found] > 0) & (distance[found] < 40)).all()
    assert [row[0] for row in rows(results / "metrics.csv")] == [*values, "weights"]
    assert used == {rows(results / "metrics.csv")[-1][1]}
    for table in ("rotation_dice.csv", "scale_dice.csv"):
        assert used == {row[-1] for row in rows(results / table)[1:]}


def test_a_test_is_no_search_for_a_best_metric(pipeline):
    assert "Epoch[1] Metrics -- hausdorff95: " in pipeline.evaluate.stdout
    for text in ("val_", "best", "Key metric"):
        assert text not in pipeline.evaluate.stdout


def test_evaluation_turns_the_test_cases(pipeline):
    results = pipeline.folder / "elsewhere" / "results"
    header, *table = rows(results / "rotation_dice.csv")
    classes = pipeline.classes
    assert header == ["case", "plane", "angle_degrees", "class", "dice", "interpolation_dice", "weights"]
    assert len(table) == len(classes) * (3 * 2 + 1)
    assert {row[3] for row in table} == set(classes)
    assert {row[5] for row in table if row[2] in ("0", "90")} == {"1.0"}
    assert matplotlib.image.imread(results / "rotation_dice.png").ndim == 3


def test_evaluation_resizes_the_test_cases(pipeline):
    results = pipeline.folder / "elsewhere" / "results"
    header, *table = rows(results / "scale_dice.csv")
    classes = pipeline.classes
    assert header == ["case", "factor", "class", "dice", "interpolation_dice", "weights"]
    assert [row[1:3] for row in table] == [[factor, name] for factor in ("1.0", "0.8") for name in classes]
    upright = [row for row in rows(results / "rotation_dice.csv") if row[1:3] == ["axial", "0"]]
    assert [row[3:] for row in table[: len(classes)]] == [row[4:] for row in upright]
    assert matplotlib.image.imread(results / "scale_dice.png").ndim == 3


def test_inference_writes_a_segmentation_and_a_preview_of_each_image(pipeline):
    assert pipeline.inference.returncode == 0, pipeline.inference.stderr
    assert pipeline.sources
    expected = sorted(f"{stem}{end}" for stem in pipeline.sources for end in ("_seg.nii.gz", "_preview.png"))
    tables = ["cases.csv", "segmented_with.json"]
    of_training = ("events", "split.json", "model.pt", "training_state.pt", ".")  # and what is hidden
    found = [name for name in names(pipeline.root / "eval") if not name.startswith(of_training)]
    assert found == sorted([*expected, *tables])
    for stem, source in pipeline.sources.items():
        image, label = nib.load(source), nib.load(pipeline.root / "eval" / f"{stem}_seg.nii.gz")
        assert label.shape == image.shape[:3]
        assert label.get_data_dtype() == np.uint8
        assert np.array_equal(label.affine, image.affine)


def test_a_run_writes_where_it_was_told_alone(pipeline):
    assert names(pipeline.folder / "elsewhere") == ["results"]
    assert names(pipeline.root) == ["configs", "eval"]


def test_real_cases_run_through_the_whole_pipeline(real_hippocampus, tmp_path, get_bundle, run_here):
    data = tmp_path / "real"
    entries = json.loads((real_hippocampus / "dataset.json").read_text())["training"][:10]
    for file in (file for entry in entries for file in entry.values()):
        (data / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(real_hippocampus / file, data / file)
    (data / "dataset.json").write_text(json.dumps({"training": entries}))
    bundle = get_bundle(SO3)
    options = {**bundle.tiny, "dataset_dir": str(data), "train_cases": 2, "augmentation": "full"}
    run_here(bundle.root, "train.json", **options)
    sweep = {"sweep_angles": [0], "sweep_random_poses": 1, "sweep_cases": 1, "sweep_scales": [1.0, 0.8]}
    run_here(bundle.root, "train.json", "evaluate.json", **options, **sweep)
    assert len(rows(bundle.root / "eval" / "hausdorff95_raw.csv")) == 1 + 2
    upright = [row for row in rows(bundle.root / "eval" / "rotation_dice.csv") if row[2] == "0"]
    assert {row[5] for row in upright} == {"1.0"}
    run_here(
        bundle.root, "inference.json", features=options["features"], dataset_dir=str(data / "imagesTr"),
        pattern=Path(entries[0]["image"]).name,
    )  # fmt: skip
    label = nib.load(bundle.root / "eval" / Path(entries[0]["image"]).name.replace(".nii", "_seg.nii"))
    assert np.allclose(label.affine, nib.load(data / entries[0]["image"]).affine)


@pytest.fixture
def trained(get_bundle, run_here, tmp_path):
    """Train a bundle with overrides and return its weights."""
    bundles = {}

    def train(name, run="run", **overrides):
        if name not in bundles:
            bundles[name] = get_bundle(name)
        bundle = bundles[name]
        folders = {key: str(tmp_path / run) for key in ("output_dir", "ckpt_dir")}
        run_here(bundle.root, "train.json", **{**bundle.tiny, **folders, **overrides})
        return weights(tmp_path / run / "model.pt")

    return train


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("name", [SO3, CONVENTIONAL])
def test_a_seed_decides_the_weights_to_the_last_bit(name, trained):
    options = {"augmentation": "moderate", "train_cases": 3}
    first, again, other = (trained(name, run, seed=seed, **options) for run, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert same(first, again)
    assert not any(torch.equal(first[key], other[key]) for key in first if first[key].dim() > 1)


@pytest.mark.parametrize("name", [SO3, CONVENTIONAL])
def test_each_augmentation_trains_otherwise(name, trained):
    results = [trained(name, scheme, augmentation=scheme, train_cases=2) for scheme in ("none", "moderate", "full")]
    assert all(torch.isfinite(value).all() for result in results for value in result.values())
    assert not same(results[0], results[1])
    assert not same(results[0], results[2])
    assert not same(results[1], results[2])


def test_batches_of_patches_are_trained_under_full_rotation(trained):
    options = {"augmentation": "full", "batch_size": 2, "patch_size": [12, 12, 12]}
    result = trained(CONVENTIONAL, **options)
    assert all(torch.isfinite(value).all() for value in result.values())


def test_more_epochs_train_on(trained):
    short, long = (
        trained(CONVENTIONAL, f"{epochs}", train_cases=2, epochs=epochs, val_interval=epochs) for epochs in (1, 2)
    )
    assert not same(short, long)


def test_weights_are_written_when_training_ends_before_the_validation_interval(trained):
    assert trained(CONVENTIONAL, train_cases=1, epochs=1, val_interval=5)


def test_overrides_reach_what_they_name(get_bundle):
    bundle = get_bundle(SO3)
    workflow = monai.bundle.create_workflow(
        config_file=str(bundle.root / "configs" / "train.json"), workflow_type="train", logging_file=False,
        bundle_root=str(bundle.root), **{**bundle.tiny, "train_cases": 3, "epochs": 7, "features": "3x0e+2x2e"},
    )  # fmt: skip
    assert len(workflow.train_dataset_data) == 3
    assert workflow.max_epochs == 7
    assert "3x0e+2x2e" in str(workflow.network_def.encoders[0])
    paths = [Path(case["image"]) for case in [*workflow.train_dataset_data, *workflow.val_dataset_data]]
    assert {path.parent for path in paths} == {Path(bundle.tiny["dataset_dir"]) / "imagesTr"}
    test = workflow.parser.get_parsed_content("evaluation_data")
    assert not {Path(case["image"]) for case in test} & set(paths)


def test_two_processes_train_one_network(tmp_path, get_bundle, get_network, run_command):
    bundle = get_bundle(PHANTOM)
    options = {**bundle.tiny, "num_training": 3, "num_validation": 2}
    result = run_command(
        bundle.root, ["train.json", "multi_gpu_train.json"], cwd=tmp_path,
        launcher=["torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"], **options,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert len(re.findall(r"writing phantoms: +0%", result.stderr)) == 1  # by one process, with the other waiting
    assert names(bundle.root / "eval", "*.pt") == ["model.pt", "training_state.pt"]
    get_network(bundle.root, options["features"]).load_state_dict(weights(bundle.root / "eval" / "model.pt"))
