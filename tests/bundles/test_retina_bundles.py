"""Laws of the retina bundles, run with the commands that users type, and of their shipped weights."""

import csv
import json
import re
import shutil

import numpy as np
import pytest
import torch
from bundle_files import BUNDLES, RETINA, load_shipped
from monai.bundle import ConfigParser
from photographs import photograph
from PIL import Image

from equivariant_nets import equivariance_error
from equivariant_nets.networks.regular import find_group
from equivariant_nets.training.weights import weights_name

E2, CONVENTIONAL = "retina_vessels_fundus_e2_segmentation", "retina_vessels_fundus_conventional_segmentation"


def weights(path):
    return torch.load(path, weights_only=True)


def table(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def names(folder):
    shown = (path for path in folder.glob("*") if not path.name.startswith(("events", ".")))
    return sorted(path.name for path in shown if path.suffix != ".pt")


@pytest.mark.parametrize("name", RETINA)
def test_the_whole_pipeline_runs(name, tmp_path, get_bundle, get_network, run_command, shared_photographs):
    bundle = get_bundle(name)
    tiny = bundle.tiny
    train = run_command(bundle.root, ["train.json"], cwd=tmp_path, **tiny)
    assert train.returncode == 0, train.stderr
    architecture = {key: tiny[key] for key in ("features", "group") if key in tiny}
    network = get_network(bundle.root, **architecture)
    network.load_state_dict(weights(bundle.root / "eval" / "model.pt"), strict=True)

    sweep = {"sweep_angles": [0, 90], "output_dir": "results", "ckpt_dir": bundle.root / "eval"}
    sweep["test_datasets"] = ["drive", "chase_db1"]
    evaluate = run_command(bundle.root, ["train.json", "evaluate.json"], cwd=tmp_path, **{**tiny, **sweep})
    assert evaluate.returncode == 0, evaluate.stderr
    rows = table(tmp_path / "results" / "vessel_scores.csv")
    kinds = [(row["dataset"], row["reader"], row["angle_degrees"]) for row in rows]
    own = [("network", "0"), ("network", "90"), ("second observer", "0")]
    assert kinds == [(dataset, *rest) for dataset in ("drive", "chase_db1") for rest in own]
    used = {row["weights"] for row in rows if row["reader"] == "network"}
    assert used == {row["weights"] for row in table(tmp_path / "results" / "vessel_cases.csv")}
    assert used == {weights_name(bundle.root / "eval" / "model.pt")}
    assert f"Weights: {bundle.root}/eval/model.pt (trained in {bundle.root}/eval)" in evaluate.stdout
    assert names(tmp_path / "results") == ["vessel_cases.csv", "vessel_dice.png", "vessel_scores.csv"]

    images = shared_photographs / "drive" / "test" / "images"
    options = {**architecture, "field_of_view_pixels": 40, "dataset_dir": images, "pattern": "0[12]_test.tif"}
    inference = run_command(bundle.root, ["inference.json"], cwd=tmp_path, **options)
    assert inference.returncode == 0, inference.stderr
    stems = ["01_test", "02_test"]
    results = [f"{stem}_{end}.png" for stem in stems for end in ("preview", "vessels")]
    assert names(bundle.root / "eval") == sorted([*results, "cases.csv", "segmented_with.json"])
    for stem in stems:
        found = np.asarray(Image.open(bundle.root / "eval" / f"{stem}_vessels.png"))
        assert found.shape == np.asarray(Image.open(images / f"{stem}.tif")).shape[:2]
        assert found.dtype == np.uint8
        assert set(np.unique(found)) <= {0, 255}


@pytest.fixture
def trained(get_bundle, run_here, tmp_path):
    """Train the E(2) bundle with overrides and return its weights."""
    bundle = get_bundle(E2)

    def train(run, **overrides):
        folders = {key: str(tmp_path / run) for key in ("output_dir", "ckpt_dir")}
        run_here(bundle.root, "train.json", **{**bundle.tiny, **folders, **overrides})
        return weights(tmp_path / run / "model.pt")

    return train


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def test_a_seed_decides_the_weights_to_the_last_bit(trained):
    first, again, other = (trained(run, seed=seed) for run, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert same(first, again)
    assert not same(first, other)


def test_each_override_trains_otherwise(trained):
    overrides = [
        {"augmentation": "none"},
        {"augmentation": "moderate"},
        {"loss_name": "dice"},
        {"loss_name": "iou"},
        {"train_patches": 3},
        {"directions": [0, 1]},
        {"bfloat16": True},
        {"datasets": ["chase_db1"]},
    ]
    default = trained("default")
    results = [trained(f"other_{index}", **override) for index, override in enumerate(overrides)]
    assert all(torch.isfinite(value).all() for result in results for value in result.values())
    assert [override for override, result in zip(overrides, results, strict=True) if same(result, default)] == []


@pytest.mark.parametrize("group", ["C4", "C8", "D4", "D8"])
def test_groups_are_chosen_by_name_and_matched_in_parameters(group):
    counts = []
    for name, overrides in ((E2, {"group": group}), (CONVENTIONAL, {})):
        parser = ConfigParser()
        parser.read_config(str(BUNDLES / name / "configs" / "train.json"))
        parser.update(overrides)
        counts.append(sum(p.numel() for p in parser.get_parsed_content("network_def").parameters()))
    assert counts[0] == pytest.approx(60_000, rel=0.06)
    assert counts[1] == pytest.approx(60_000, rel=0.06)


# What is written in place of a photograph, and what the error says about it.
def _save(array):
    return lambda path: Image.fromarray(array).save(path)


def _save_pages(path):
    first, second = (Image.fromarray(photograph(np.random.RandomState(seed))[0]) for seed in (0, 1))
    first.save(path, format="TIFF", save_all=True, append_images=[second])


BAD_PHOTOGRAPHS = {
    "two pages": (_save_pages, "it has 2 pages; legal is one photograph"),
    "constant": (_save(np.full((40, 40, 3), 90, np.uint8)), "must not be constant"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:200]), "truncated, damaged"),
    "text": (lambda path: path.write_text("not a photograph"), "truncated, damaged"),
}


@pytest.mark.parametrize("kind", BAD_PHOTOGRAPHS)
def test_inference_names_the_bad_photograph(kind, get_bundle, get_network, run_command, tmp_path):
    bundle, (damage, message) = get_bundle(CONVENTIONAL), BAD_PHOTOGRAPHS[kind]
    path = tmp_path / "images" / "bad photograph.png"
    path.parent.mkdir()
    Image.fromarray(photograph(np.random.RandomState(0))[0]).save(path)
    damage(path)
    features = bundle.tiny["features"]
    (bundle.root / "models").mkdir()
    torch.save(get_network(bundle.root, features).state_dict(), bundle.root / "models" / "model.pt")
    result = run_command(bundle.root, ["inference.json"], cwd=tmp_path, features=features, dataset_dir=path.parent)
    assert result.returncode != 0
    assert str(path) in result.stderr
    assert re.search(message, result.stderr)


def test_a_photograph_of_any_storage_has_the_mask_of_what_is_seen(get_bundle, get_network, run_here, tmp_path):
    bundle, folder, tags = get_bundle(CONVENTIONAL), tmp_path / "images", Image.Exif()
    folder.mkdir()
    seen = Image.fromarray(photograph(np.random.RandomState(0))[0])
    tags[0x0112] = 6  # to be turned clockwise
    seen.save(folder / "plain.png")
    seen.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.png", exif=tags)
    seen.convert("RGBA").save(folder / "opaque.png")
    (folder / "Thumbs.db").write_bytes(b"of a file manager")
    features, weights_file = bundle.tiny["features"], tmp_path / "random.pt"
    torch.save(get_network(bundle.root, features).state_dict(), weights_file)
    options = {"dataset_dir": str(folder), "output_dir": str(tmp_path / "out"), "ckpt_path": str(weights_file)}
    run_here(bundle.root, "inference.json", features=features, threshold=0.1, field_of_view_pixels=40, **options)
    masks = {path.name.split("_")[0]: np.asarray(Image.open(path)) for path in tmp_path.glob("out/*_vessels.png")}
    plain = masks.pop("plain")
    assert 0 < (plain > 0).mean() < 1
    assert masks.keys() == {"turned", "opaque"}
    assert all(np.array_equal(mask, plain) for mask in masks.values())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"group": "O"}, "group='O' is not known in 2-D"),
        ({"features": [1, 1]}, "are no widths for depth=3"),
        ({"datasets": ["messidor"]}, "choose one or more of"),
        ({"patch_size": 60}, "patch_size=60 exceeds a photograph"),
        ({"dataset_dir": "nowhere"}, "Get drive from https"),
        ({"augmentation": "some"}, "some"),
        ({"loss_name": "other"}, "other"),
    ],
    ids=str,
)
def test_an_override_that_is_not_legal_says_what_is(overrides, message, get_bundle, run_command, tmp_path):
    bundle = get_bundle(E2)
    result = run_command(bundle.root, ["train.json"], cwd=tmp_path, **{**bundle.tiny, **overrides})
    assert result.returncode != 0
    assert message in result.stderr


def test_a_missing_label_file_is_listed(get_bundle, run_command, tmp_path, shared_photographs):
    shutil.copytree(shared_photographs, tmp_path / "data")
    (tmp_path / "data" / "drive" / "training" / "1st_manual" / "22_manual1.gif").unlink()
    bundle = get_bundle(E2)
    result = run_command(bundle.root, ["train.json"], cwd=tmp_path, **{**bundle.tiny, "dataset_dir": "data"})
    assert result.returncode != 0
    assert "1 files are missing:\n  training/1st_manual/22_manual1.gif" in result.stderr


def test_metadata_states_the_threshold_that_inference_applies():
    for name in RETINA:
        config, meta = (
            json.loads((BUNDLES / name / "configs" / file).read_text()) for file in ("inference.json", "metadata.json")
        )
        assert meta["eval_metrics"]["threshold"] == config["threshold"]


def test_the_shipped_network_is_exact_under_d4_and_the_conventional_one_is_not(real_retina):
    errors = []
    for name in RETINA:
        parser, network = load_shipped(name, dataset_dir=str(real_retina))
        item = parser.get_parsed_content("validate#dataset")[0]
        image = item["image"][None].as_tensor()[..., 100:325, 120:343]
        group = find_group("D8", 2)
        errors.append(max(equivariance_error(network, image, group.matrices[e]) for e in group.lattice_subgroup))
    conventional, e2 = errors
    assert e2 < 1e-5 < 0.05 < conventional


@pytest.mark.parametrize(("name", "dice", "auc"), [(E2, 0.76, 0.97), (CONVENTIONAL, 0.68, 0.94)])
def test_shipped_weights_find_the_vessels_of_unseen_children(name, dice, auc, real_retina, run_here, tmp_path):
    options = {"dataset_dir": str(real_retina), "output_dir": str(tmp_path), "sweep_angles": [0], "sweep_cases": 2}
    run_here(BUNDLES / name, "train.json", "evaluate.json", **options)
    network, human = table(tmp_path / "vessel_scores.csv")
    assert float(network["dice"]) > dice
    assert float(network["auc"]) > auc
    assert human["reader"] == "second observer"
