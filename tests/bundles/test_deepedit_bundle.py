"""Laws of the bundle that takes clicks: it learns from them, obeys them, and without them segments automatically."""

import csv
import json
from functools import partial
from itertools import pairwise

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_files import BUNDLES, config, copy_bundle, load_shipped, weights
from monai.bundle import ConfigParser

from equivariant_nets.fingerprints import fingerprint
from equivariant_nets.interaction import AddClickGuidanced, ClickSweep

NAME = "hippocampus_mri_so3_deepedit"
ANTERIOR, POSTERIOR = "anterior hippocampus", "posterior hippocampus"
SHIPPED = str(BUNDLES / NAME / "models" / "model.pt")
TINY = {"features": "2x0e+1x1e", "epochs": 1, "epoch_length": 2, "train_cases": 2}


def messages(error):
    """What an error says, and those that caused it."""
    return f"{error}\n{messages(error.__cause__ or error.__context__)}" if error else ""


def read(file):
    return json.loads((BUNDLES / NAME / "configs" / file).read_text(encoding="utf-8"))


def test_names_of_labels_are_those_that_monai_label_sends():
    train, inference, meta = read("train.json"), read("inference.json"), read("metadata.json")
    assert train["label_names"] == inference["label_names"]
    assert train["click_sigma"] == inference["click_sigma"]
    channels = meta["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert {name: str(value) for name, value in train["label_names"].items()} == {v: k for k, v in channels.items()}
    _, *clicks = meta["network_data_format"]["inputs"]["image"]["channel_def"].values()
    assert clicks == [f"clicks on {name}" for name in train["label_names"]]


def test_other_clicks_segment_anew(shared_cases):
    def made_of(clicks):
        """What decides whether the first image is finished; see CohortEvaluator."""
        options = {
            "dataset_dir": str(shared_cases / "imagesTr"),
            "clicks": {"case_0.nii.gz": clicks} if clicks else None,
        }
        return fingerprint(item=config(NAME, "inference.json", **options).get_parsed_content("datalist")[0])

    first, moved = {"anterior hippocampus": [[8, 12, 7]]}, {"anterior hippocampus": [[8, 12, 8]]}
    assert made_of(first) == made_of(first)
    assert len({str(made_of(clicks)) for clicks in (None, first, moved, {"background": [[8, 12, 7]]})}) == 4


def test_no_change_of_intensity_touches_the_channels_of_clicks(shared_cases):
    parser = config(NAME, dataset_dir=str(shared_cases))
    item = parser.get_parsed_content("train#preprocessing")(parser.get_parsed_content("train#dataset#data")[0])
    assert item["image"].shape[0] == 4
    assert not item["image"][1:].any()


@pytest.fixture
def train(run_here, shared_cases, tmp_path):
    """Train a copy of the bundle with overrides and return its weights."""
    root = copy_bundle(NAME, tmp_path)

    def run(folder, **overrides):
        folders = {key: str(tmp_path / folder) for key in ("output_dir", "ckpt_dir")}
        run_here(root, "train.json", **{**TINY, "dataset_dir": str(shared_cases), **folders, **overrides})
        return weights(tmp_path / folder / "model.pt")

    return run


def test_training_learns_from_clicks_that_the_seed_decides(train):
    options = {"click_probability": 1.0, "max_interactions": 2, "batch_size": 2, "train_cases": 4}
    patches = {"patch_size": [12, 12, 12], "augmentation": "full"}
    first, again = (train(folder, **options, **patches) for folder in ("a", "b"))
    assert all(torch.equal(first[key], again[key]) for key in first)
    automatic, clicked = (train(str(p), **{**options, "click_probability": p}) for p in (0.0, 1.0))
    lifting = next(key for key, value in clicked.items() if value.dim() > 1)
    assert not torch.equal(automatic[lifting], clicked[lifting])
    assert all(torch.isfinite(value).all() for value in clicked.values())


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_evaluation_of_clicks_comes_on_top_of_the_shared_one(run_here, shared_cases, tmp_path):
    run_here(
        copy_bundle(NAME, tmp_path), "train.json", "evaluate.json", "evaluate_clicks.json", ckpt_path=SHIPPED,
        dataset_dir=str(shared_cases), sweep_angles=[0], sweep_random_poses=1, sweep_cases=1, sweep_scales=[1.0],
        click_counts=[0, 2], output_dir=str(tmp_path / "out"),
    )  # fmt: skip
    assert {"mean_dice_summary.csv", "rotation_dice.png", "scale_dice.csv", "click_dice.png"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }
    table = rows(tmp_path / "out" / "click_dice.csv")
    assert [(row["plane"], row["clicks"], row["class"]) for row in table] == [
        (plane, clicks, name) for plane in ("axial", "random") for clicks in "02" for name in ("anterior", "posterior")
    ]
    automatic = [row["dice"] for row in table if row["clicks"] == "0"]
    poses = rows(tmp_path / "out" / "rotation_dice.csv")
    assert automatic == [row["dice"] for row in poses if row["plane"] in ("axial", "random")]


@pytest.fixture
def segment(run_here, shared_cases, tmp_path):
    """Segment one image by the shipped weights, with clicks or without, and return the label map."""
    root = copy_bundle(NAME, tmp_path)

    def run(ckpt_path=SHIPPED, **overrides):
        run_here(
            root, "inference.json", ckpt_path=ckpt_path, dataset_dir=str(shared_cases / "imagesTr"),
            pattern="case_0.nii.gz", output_dir=str(tmp_path / "out"), **overrides,
        )  # fmt: skip
        return nib.load(tmp_path / "out" / "case_0_seg.nii.gz").get_fdata()

    return run


def test_inference_obeys_clicks_of_a_file_and_is_automatic_without(segment, tmp_path):
    # By random weights: the shipped ones find nothing in blobs and noise, whatever is clicked.
    torch.manual_seed(0)
    random = config(NAME).get_parsed_content("network_def").state_dict()
    torch.save(random, tmp_path / "random.pt")
    segment = partial(segment, ckpt_path=str(tmp_path / "random.pt"))
    automatic = segment()
    clicks = {"case_0.nii.gz": {POSTERIOR: [[3, 4, 10]], "background": [[8, 12, 7]]}}
    (tmp_path / "clicks.json").write_text(json.dumps(clicks))
    clicked = segment(clicks=str(tmp_path / "clicks.json"))
    assert (clicked != automatic).any()
    assert np.array_equal(clicked, segment(clicks=clicks))
    assert np.array_equal(automatic, segment(clicks={"case_0.nii.gz": {ANTERIOR: []}}))


@pytest.mark.parametrize(
    ("clicks", "message"),
    [
        ({"case_1.nii.gz": {}}, "'case_1.nii.gz', which is not among the 1 images"),
        ({"case_0.nii.gz": {"anterior": [[1, 2, 3]]}}, "'anterior'; the labels that can be clicked are 'anterior hip"),
        ({"case_0.nii.gz": {ANTERIOR: [[1, 2, 30]]}}, "lies outside the volume"),
        ("nowhere.json", "does not exist"),
    ],
)
def test_inference_says_what_is_wrong_with_clicks(clicks, message, segment):
    with pytest.raises(Exception) as caught:  # noqa: PT011
        segment(clicks=clicks)
    assert message in messages(caught.value)


def test_a_request_of_monai_label_is_segmented_as_the_same_clicks_of_a_file(shared_cases):
    parser = ConfigParser()
    parser.read_config(str(BUNDLES / NAME / "configs" / "inference.json"))
    preprocessing = parser.get_parsed_content("preprocessing")
    image = str(shared_cases / "imagesTr" / "case_0.nii.gz")
    request = {
        "model": NAME, "device": "cpu", "model_filename": ["model.pt"], "label": ANTERIOR, "image": image,
        ANTERIOR: [[3, 4, 10]], "background": [], "result_extension": ".nii.gz",
    }  # fmt: skip
    sent = preprocessing(request)
    of_file = preprocessing({"image": image, ANTERIOR: [[3, 4, 10]]})
    assert torch.equal(sent["image"], of_file["image"])
    assert sent["image"][1].argmax() == np.ravel_multi_index((3, 4, 10), sent["image"].shape[1:])
    with pytest.raises(Exception) as caught:  # noqa: PT011
        preprocessing({**request, ANTERIOR: [], "foreground": [[3, 4, 10]]})
    assert "clicks under 'foreground'" in messages(caught.value)


def test_clicks_improve_what_the_shipped_weights_segment(real_hippocampus, tmp_path):
    parser, network = load_shipped(NAME, dataset_dir=str(real_hippocampus))
    guidance = parser.get_parsed_content("validate#preprocessing").transforms[-1]
    assert isinstance(guidance, AddClickGuidanced)
    sweep = ClickSweep(
        network=network, data=parser.get_parsed_content("evaluation_data")[:2],
        preprocessing=parser.get_parsed_content("validate#preprocessing"),
        postprocessing=parser.get_parsed_content("validate#postprocessing"),
        inferer=parser.get_parsed_content("validate#inferer"), device="cpu", output_dir=tmp_path,
        class_names=["anterior", "posterior"], include_background=False, label_names=guidance.label_names,
        sigma=guidance.sigma, click_counts=[0, 1, 4], angles_degrees=[0], planes=["axial"], random_poses=0,
    )  # fmt: skip
    table = rows(sweep.run())
    means = [np.mean([float(row["dice"]) for row in table if row["clicks"] == count]) for count in "014"]
    assert means[0] > 0.8
    assert all(after > before for before, after in pairwise(means))
