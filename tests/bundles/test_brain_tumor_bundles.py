"""Laws of the brain tumour bundles: what they segment, in which layout of the data, and what they say of bad data."""

import csv
import json
import re
import shutil
from pathlib import Path

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_files import BUNDLES, TUMOR, config, weights
from monai.losses import DiceLoss
from monai.utils import set_determinism

from equivariant_nets.data import label_to_regions, tumor_image_datalist
from equivariant_nets.data.brain_tumor import target_channels, target_regions

SO3 = "brain_tumor_mri_so3_segmentation"  # here with data in the layout of MSD
CONVENTIONAL = "brain_tumor_mri_conventional_segmentation"  # of BraTS 2021
SCALE = "brain_tumor_mri_scale_segmentation"  # of BraTS 2023
FEW_POSES = {"sweep_angles": [0], "sweep_random_poses": 0, "sweep_scales": [1.0]}


def rows(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.fixture
def segment(tmp_path, get_bundle, get_network, run_here):
    """Segment the cases of a folder by a bundle with fixed random weights; get the files by the name of the case."""

    def run(name, folder, output="out", **overrides):
        bundle, checkpoint = get_bundle(name), tmp_path / "random.pt"
        options = {"features": bundle.tiny["features"], **overrides}
        torch.save(get_network(bundle.root, **options).state_dict(), checkpoint)
        paths = {"dataset_dir": folder, "ckpt_path": checkpoint, "output_dir": tmp_path / output}
        run_here(bundle.root, "inference.json", **options, **{key: str(path) for key, path in paths.items()})
        shutil.rmtree(bundle.root)
        return {path.name.removesuffix("_seg.nii.gz"): path for path in (tmp_path / output).rglob("*_seg.nii.gz")}

    return run


def halved(path, to):
    """Write every second voxel of a file, where it was, and return the new path."""
    nib.save(nib.load(path).slicer[::2, ::2, ::2], to)
    return to


def assert_export(name, bundle, images, folder):
    """MONAI's ckpt_export of the weights in a bundle gives the outputs of its network."""
    path, features = bundle.root / "eval" / "model.pt", bundle.tiny["features"]
    monai.bundle.ckpt_export(
        "network_def", filepath=str(folder / "model.ts"), ckpt_file=str(path), features=features,
        config_file=str(bundle.root / "configs" / "inference.json"),
        meta_file=str(bundle.root / "configs" / "metadata.json"),
    )  # fmt: skip
    network = config(name, features=features).get_parsed_content("network_def").eval()
    network.load_state_dict(weights(path), strict=True)
    exported = torch.jit.load(folder / "model.ts")
    for image in images:
        with torch.no_grad():
            expected = network(image)
            assert (exported(image) - expected).norm() < 1e-4 * expected.norm()


@pytest.mark.parametrize("targets", ["classes", "regions", "whole"])
def test_targets_train_and_give_their_tables(targets, get_bundle, run_here):
    bundle = get_bundle(CONVENTIONAL)
    options = {**bundle.tiny, "targets": targets, "train_cases": 1}
    run_here(bundle.root, "train.json", **options)
    trained = weights(bundle.root / "eval" / "model.pt")
    assert all(torch.isfinite(value).all() for value in trained.values())
    network = config(CONVENTIONAL, features=bundle.tiny["features"], targets=targets).get_parsed_content("network_def")
    network.load_state_dict(trained, strict=True)
    assert network(torch.zeros(1, 4, 16, 16, 16)).shape[1] == target_channels(targets)
    run_here(bundle.root, "train.json", "evaluate.json", **options, **FEW_POSES)
    regions = target_regions(targets)
    for metric in ("mean_dice", "hausdorff95"):
        assert rows(bundle.root / "eval" / f"{metric}_raw.csv")[0] == ["filename", *regions, "mean", "weights"]
    for table in ("rotation_dice", "scale_dice"):
        header, *table_rows = rows(bundle.root / "eval" / f"{table}.csv")
        assert list(dict.fromkeys(row[header.index("class")] for row in table_rows)) == regions


@pytest.mark.parametrize("targets", ["classes", "regions", "whole"])
def test_copies_are_compared_as_the_outputs_are_decided(targets):
    """Regions overlap, and classes do not."""
    agreement = config(CONVENTIONAL, "inference.json", targets=targets, agreement=2)
    agreement = agreement.get_parsed_content("evaluator#agreement")
    assert (agreement.num_turns, agreement.exclusive) == (2, targets == "classes")


@pytest.mark.parametrize("targets", ["classes", "regions", "whole"])
def test_the_loss_is_that_of_the_card(targets):
    parser = config(CONVENTIONAL, targets=targets)
    channels = target_channels(targets)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, channels, 6, 5, 4, generator=generator)
    label = torch.randint(0, 4, (2, 1, 6, 5, 4), generator=generator).float()
    if targets == "classes":
        expected = torch.nn.functional.cross_entropy(logits, label[:, 0].long())
    else:
        regions = label_to_regions(label, target_regions(targets), channel_axis=1)
        expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, regions)
        expected = expected + DiceLoss(sigmoid=True)(logits, regions)
    assert torch.allclose(parser.get_parsed_content("loss")(logits, label), expected, rtol=1e-5)


@pytest.mark.parametrize("targets", ["classes", "regions", "whole"])
def test_regions_of_perfect_logits_are_those_of_the_label(targets):
    parser = config(CONVENTIONAL, targets=targets)
    label = torch.randint(0, 4, (1, 6, 5, 4), generator=torch.Generator().manual_seed(0)).float()
    regions = label_to_regions(label, target_regions(targets))
    one_hot = torch.cat([label == value for value in range(4)]).float()
    logits = 20 * (one_hot if targets == "classes" else regions) - 10
    for section in ("train", "validate"):
        result = parser.get_parsed_content(f"{section}#postprocessing")({"pred": logits, "label": label})
        assert torch.equal(torch.as_tensor(result["pred"]), regions)
        assert torch.equal(torch.as_tensor(result["label"]), regions)


@pytest.mark.parametrize("name", TUMOR)
def test_metadata_states_the_default_targets(name):
    meta = json.loads((BUNDLES / name / "configs" / "metadata.json").read_text())
    targets = config(name).get("targets")
    assert config(name, "inference.json").get("targets") == targets
    output = meta["network_data_format"]["outputs"]["pred"]
    assert output["num_channels"] == target_channels(targets)
    labels = dict(re.findall(r"(\d): ([\w -]+)", meta["label_classes"]))
    assert labels["0"] == "background"
    classes = {key: value for key, value in output["channel_def"].items() if value != "background"}
    assert list(classes.values()) == (list(labels.values())[1:] if targets == "classes" else target_regions(targets))
    assert list(meta["network_data_format"]["inputs"]["image"]["channel_def"].values()) == [
        "FLAIR", "T1", "T1 with gadolinium", "T2",
    ]  # fmt: skip


def test_the_recipes_differ_in_the_network_its_rate_and_the_clipping_of_the_source():
    reference, scale = (config(name).get() for name in (CONVENTIONAL, SCALE))
    keys = reference.keys() | scale.keys()
    different = {key for key in keys if reference.get(key) != scale.get(key)}
    network = {"features", "network_def", "num_scales", "scale_ratio", "scale_size"}
    assert different == network | {"learning_rate", "max_gradient_norm"}


@pytest.mark.parametrize("name", TUMOR)
def test_folds_reach_every_section_and_leave_no_split_behind(name, shared_tumors, tmp_path):
    options = {"dataset_dir": str(shared_tumors["brats2021"]), "num_folds": 4, "output_dir": str(tmp_path)}
    tests = []
    for fold in range(4):
        parser = config(name, fold=fold, **options)
        found = [
            {item["case"] for item in parser.get_parsed_content(id)}
            for id in ("train#dataset#data", "validate#dataset#data", "evaluation_data")
        ]
        assert [len(part) for part in found] == [5, 1, 2]
        assert len(set.union(*found)) == 8
        tests += found[2]
    assert len(set(tests)) == len(tests) == 8
    assert not list(tmp_path.iterdir())


def test_every_layout_gives_the_same_training_items(shared_tumors, tmp_path):
    items = {}
    for layout, folder in shared_tumors.items():
        options = {"dataset_dir": str(folder), "split_file": str(tmp_path / f"{layout}.json")}
        parser = config(SO3, spacing_mm=[1.0, 1.0, 1.0], **options)
        preprocessing = parser.get_parsed_content("validate#preprocessing")
        items[layout] = [preprocessing(item) for item in parser.get_parsed_content("train#dataset#data")]
    first, *others = items.values()
    assert len(first) == 5
    for other in others:
        for item, same in zip(first, other, strict=True):
            for key in ("image", "label"):
                assert torch.equal(item[key].as_tensor(), same[key].as_tensor())
                assert torch.allclose(item[key].affine, same[key].affine)
    assert {tuple(item["image"].shape) for item in first} == {(4, 20, 18, 16)}
    assert all(item["label"].unique().tolist() == [0, 1, 2, 3] for item in first)


def test_a_convention_reaches_every_section(shared_tumors, tmp_path):
    options = {"dataset_dir": str(shared_tumors["brats2023"]), "split_file": str(tmp_path / "split.json")}
    for overrides, expected in (({}, "brats2023"), ({"convention": "brats2024"}, "brats2024")):
        parser = config(SO3, **options, **overrides)
        for section in ("train#dataset#data", "validate#dataset#data", "evaluation_data"):
            assert {item["convention"] for item in parser.get_parsed_content(section)} == {expected}


def without_gadolinium(source, folder):
    """A copy of BraTS 2021 cases of which one lacks a modality."""
    shutil.copytree(source, folder)
    case = sorted(path for path in folder.iterdir() if path.is_dir())[2]
    (case / f"{case.name}_t1ce.nii.gz").unlink()
    return case.name


@pytest.mark.parametrize("file", ["train.json", "inference.json"])
def test_a_missing_modality_is_named_with_its_case(file, error_of, shared_tumors, tmp_path):
    case = without_gadolinium(shared_tumors["brats2021"], tmp_path / "data")
    error = error_of(CONVENTIONAL, file, dataset_dir=str(tmp_path / "data"))
    assert f"{case}: no T1 with gadolinium found; looked for {case}_t1ce.nii.gz" in error


@pytest.mark.parametrize("file", ["train.json", "inference.json"])
def test_a_damaged_modality_is_named(file, error_of, shared_tumors, tmp_path):
    shutil.copytree(shared_tumors["brats2023"], tmp_path / "data")
    files = sorted((tmp_path / "data").rglob("*-t1c.nii.gz"))
    for path in files:  # one of them in each section
        path.write_bytes(path.read_bytes()[:-200])
    error = error_of(SCALE, file, dataset_dir=str(tmp_path / "data"))
    assert "truncated, damaged" in error
    assert any(str(path) in error for path in files)


@pytest.mark.parametrize("name", TUMOR)
@pytest.mark.parametrize("file", ["train.json", "inference.json"])
def test_targets_that_are_not_legal_say_what_is(file, name, error_of, shared_tumors):
    error = error_of(name, file, dataset_dir=str(shared_tumors["msd"]), targets="tumour")
    assert "targets='tumour' is not one of classes, regions, whole." in error


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"augmentation": "some"}, "'some' is unknown"),
        ({"train_cases": 6}, "train_cases=6 is not a whole number from 1 to 5"),
        ({"max_gradient_norm": -1.0}, "max_norm=-1.0 is not legal"),
    ],
    ids=str,
)
def test_an_override_that_is_not_legal_says_what_is(overrides, message, error_of, shared_tumors):
    assert message in error_of(SCALE, "train.json", dataset_dir=str(shared_tumors["msd"]), **overrides)


@pytest.mark.parametrize("name", TUMOR)
def test_missing_weights_are_named_with_what_to_do(name, error_of, shared_tumors, tmp_path):
    missing = str(tmp_path / "nowhere.pt")
    error = error_of(name, "inference.json", dataset_dir=str(shared_tumors["msd"]), ckpt_path=missing)
    assert f"The weights {missing} do not exist. Give --ckpt_path" in error


@pytest.mark.parametrize("name", TUMOR)
def test_a_bundle_without_weights_says_to_train_it(name, error_of, shared_tumors):
    unset = config(name, "inference.json").get("ckpt_path")  # as where no file is given: the copy here has no weights
    error = error_of(name, "inference.json", dataset_dir=str(shared_tumors["msd"]), ckpt_path=unset)
    assert "models/model.pt. Train it as its docs/README.md says" in error


def create(bundle, **overrides):
    return monai.bundle.create_workflow(
        config_file=str(bundle.root / "configs" / "train.json"), workflow_type="train", logging_file=False,
        bundle_root=str(bundle.root), **{**bundle.tiny, **overrides},
    )  # fmt: skip


@pytest.fixture
def workflow_of(get_bundle):
    """A training workflow with overrides; seeds and settings are left as they were."""
    bundle = get_bundle(SCALE)
    settings = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark
    yield lambda **overrides: create(bundle, **overrides)
    set_determinism(None)
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = settings


def test_scale_augmentation_shrinks_and_fewer_cases_are_a_subset(workflow_of):
    sizes, cases = {}, {}
    for probability, count in ((0.0, 5), (1.0, 5), (0.0, 2)):
        options = {"scale_augmentation": probability, "train_cases": count, "patch_size": [20, 18, 16]}
        workflow = workflow_of(**options)
        items = [item for (item,) in workflow.train_dataset]
        assert {tuple(item["image"].shape) for item in items} == {(4, 20, 18, 16)}
        sizes[probability, count] = [int((item["label"] > 0).sum()) for item in items]
        cases[count] = [item["case"] for item in workflow.train_dataset_data]
    assert all(shrunk < whole for shrunk, whole in zip(sizes[1.0, 5], sizes[0.0, 5], strict=True))
    assert sum(sizes[1.0, 5]) > 0.7**3 * 0.8 * sum(sizes[0.0, 5])
    assert cases[2] == cases[5][:2]


def test_gradients_are_clipped_and_the_rate_decays(workflow_of):
    workflow = workflow_of(max_gradient_norm=1e-3, epochs=2, train_cases=1)
    workflow.run()
    gradients = [parameter.grad.flatten() for parameter in workflow.network_def.parameters()]
    assert 0 < torch.cat(gradients).norm() < 1.001e-3
    optimizer = workflow.parser.get_parsed_content("optimizer")
    assert optimizer.param_groups[0]["initial_lr"] == 0.02
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)


def test_a_split_file_decides_the_sections(workflow_of, tmp_path):
    split = tmp_path / "split.json"
    assert len(workflow_of(split_file=str(split)).train_dataset_data) == 5
    content = json.loads(split.read_text())
    content["training"], content["test"] = content["test"], content["training"]
    split.write_text(json.dumps(content))
    workflow = workflow_of(split_file=str(split))
    assert [item["case"] for item in workflow.train_dataset_data] == content["training"]
    test = workflow.parser.get_parsed_content("evaluation_data")
    assert sorted(item["case"] for item in test) == sorted(content["test"])


@pytest.mark.parametrize("name", TUMOR)
def test_a_trained_network_exports_to_torchscript(name, get_bundle, run_here, tmp_path):
    bundle = get_bundle(name)
    run_here(bundle.root, "train.json", **bundle.tiny, train_cases=2)
    assert_export(name, bundle, [torch.randn(1, 4, *size) for size in ((16, 16, 16), (13, 18, 15))], tmp_path)


@pytest.mark.parametrize("targets", ["classes", "regions", "whole"])
def test_labels_come_back_in_the_space_and_under_the_name_of_the_case(targets, segment, shared_tumors):
    # With statistics of the image, random weights find something of every class.
    options = {"targets": targets, "spacing_mm": [0.8, 1.0, 1.2], "network_def#normalization": "instance"}
    labels = {
        layout: segment(CONVENTIONAL, shared_tumors[layout], layout, **options) for layout in ("msd", "brats2023")
    }
    items = tumor_image_datalist(shared_tumors["brats2023"])
    assert sorted(labels["brats2023"]) == [item["case"] for item in items]
    folder = next(iter(labels["brats2023"].values())).parent
    assert sorted(path.name for path in folder.glob("*.png")) == [f"{item['case']}_preview.png" for item in items]
    legal = {0, 1} if targets == "whole" else {0, 1, 2, 3}
    for item, upright_path in zip(items, sorted(labels["msd"].values()), strict=True):
        source, label = nib.load(item["image"][0]), nib.load(labels["brats2023"][item["case"]])
        assert nib.aff2axcodes(label.affine) == ("L", "P", "S")
        assert label.shape == source.shape
        assert np.allclose(label.affine, source.affine)
        assert label.get_data_dtype() == np.uint8
        values = set(np.unique(label.dataobj).tolist())
        assert len(values) > 1
        assert values <= legal
        upright = nib.as_closest_canonical(label).get_fdata()
        assert (upright == nib.load(upright_path).get_fdata()).mean() > 0.999


def test_two_processes_train_one_network(tmp_path, get_bundle, run_command):
    bundle = get_bundle(SCALE)
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    result = run_command(
        bundle.root, ["train.json", "multi_gpu_train.json"], cwd=tmp_path, launcher=launcher, **bundle.tiny
    )
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in (bundle.root / "eval").glob("*.pt")) == ["model.pt", "training_state.pt"]
    features = bundle.tiny["features"]
    config(SCALE, features=features).get_parsed_content("network_def").load_state_dict(
        weights(bundle.root / "eval" / "model.pt"), strict=True
    )


@pytest.mark.parametrize("name", TUMOR)
def test_a_real_case_runs_through_the_whole_pipeline(name, real_brain_tumor, tmp_path, get_bundle, run_here):
    (source,) = tumor_image_datalist(real_brain_tumor)[:1]
    label = source["image"][0].replace("t2f", "seg")  # of BraTS 2023
    cases = [f"BraTS-GLI-0000{index}-000" for index in range(3)]
    files = [*map(Path, source["image"]), Path(label)]
    if name != SO3:  # one bundle reads them in their full size
        files = [halved(file, tmp_path / file.name) for file in files]
    for case in cases:
        (tmp_path / "real" / case).mkdir(parents=True)
        for file in files:
            (tmp_path / "real" / case / file.name.replace(source["case"], case)).symlink_to(file)
    bundle = get_bundle(name)
    options = {
        **bundle.tiny, "dataset_dir": str(tmp_path / "real"), "patch_size": [32, 32, 32], "roi_size": [32, 32, 32],
        "spacing_mm": [4.0, 4.0, 4.0], "epochs": 2, "val_interval": 2,
    }  # fmt: skip
    run_here(bundle.root, "train.json", **options)
    run_here(bundle.root, "train.json", "evaluate.json", **options, **FEW_POSES)
    _, scores = rows(bundle.root / "eval" / "mean_dice_raw.csv")
    assert all(0 <= float(dice) <= 1 for dice in scores[1:-1])
    run_here(
        bundle.root, "inference.json", features=options["features"], spacing_mm=options["spacing_mm"],
        roi_size=options["roi_size"], dataset_dir=str(tmp_path / "real" / cases[0]),
    )  # fmt: skip
    image, result = nib.load(files[0]), nib.load(bundle.root / "eval" / f"{cases[0]}_seg.nii.gz")
    assert result.shape == image.shape
    assert np.allclose(result.affine, image.affine)
    assert (bundle.root / "eval" / f"{cases[0]}_preview.png").is_file()
    preprocessing = config(name, "inference.json", spacing_mm=options["spacing_mm"]).get_parsed_content("preprocessing")
    assert_export(
        name, bundle, [preprocessing({"image": list(map(str, files[:4]))})["image"][None].as_tensor()], tmp_path
    )
