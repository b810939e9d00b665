"""Laws of bundles for one's own data: made by the command, they do all that those of the collection do."""

import json
import re
import shlex
import shutil
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import own_data
import pytest
import torch
from bundle_files import SCHEMA
from fresh import run_module
from PIL import Image

from equivariant_nets.authoring.cases import find_cases
from equivariant_nets.data import contrast_datalist
from equivariant_nets.experiments import read_experiment
from equivariant_nets.zoo import check_bundle
from equivariant_nets.zoo.__main__ import cli

SMALL = {"memory_gb": 1}
ONE_EPOCH = ("--epochs", "1", "--epoch_length", "2", "--val_interval", "1")


def new(folder, name, **options):
    given = [part for key, value in (SMALL | options).items() for part in (f"--{key}", str(value))]
    cli(["new", name, "--bundles_dir", str(folder / "bundles"), *given])
    return folder / "bundles" / name


def run(bundle, config, folder, *options):
    files = f"['{bundle}/configs/train.json','{bundle}/configs/evaluate.json']" if config == "evaluate" else None
    config_file = files or f"{bundle}/configs/{config}.json"
    result = run_module(
        "monai.bundle", "run", "--bundle_root", bundle, "--config_file", config_file, *options, cwd=folder
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result


@pytest.fixture(scope="module")
def contrasts(tmp_path_factory):
    """A bundle for cases of two files with the label values 3 and 7, one of them thick and in another order, and its
    data."""
    folder = tmp_path_factory.mktemp("contrasts")
    data = own_data.case_folders(folder / "data", values=(3, 7))
    return folder, new(folder, "own_task_so3", dataset_dir=data), data


def test_it_is_sound_and_written_in_a_few_dozen_lines(contrasts):
    _, bundle, data = contrasts
    assert check_bundle(bundle, schema=SCHEMA) == []
    assert len((bundle / "bundle.json").read_text().splitlines()) < 50
    found = json.loads((bundle / "data" / "found.json").read_text())
    assert found["channels"] == ["t1", "t2"]
    assert len(found["cases"]) == 5
    split = json.loads((bundle / "data" / "split.json").read_text())
    assert split["dataset_dir"] == str(data)
    card = (bundle / "docs" / "README.md").read_text()
    assert "| label 7 | 2 | 7 | 5 of 5 |" in card
    assert all(reason in card for reason in found["reasons"].values())


def test_it_learns_goes_on_evaluates_and_segments(contrasts):
    """The masks lie on the images, cases are named by their folders, and classes are numbered from 1."""
    folder, bundle, data = contrasts
    run(bundle, "train", folder, "--ckpt_dir", "out", *ONE_EPOCH)
    state = (folder / "out" / "training_state.pt").read_bytes()
    run(bundle, "train", folder, "--ckpt_dir", "out", "--resume", "True", *ONE_EPOCH)
    assert (folder / "out" / "training_state.pt").read_bytes() == state  # it was finished
    short = ("--sweep_angles", "[0,90]", "--sweep_random_poses", "1", "--sweep_scales", "[1.0]")
    run(bundle, "evaluate", folder, "--ckpt_dir", "out", "--output_dir", "evaluated", *short)
    summary = (folder / "evaluated" / "mean_dice_summary.csv").read_text()
    assert "label 3" in summary
    run(bundle, "inference", folder, "--ckpt_dir", "out", "--dataset_dir", data, "--output_dir", "masks")
    masks = sorted((folder / "masks").rglob("*_seg.nii.gz"))
    assert [path.name for path in masks] == [f"case_{k:03d}_seg.nii.gz" for k in range(5)]
    for path in masks:
        mask, image = nib.load(path), nib.load(data / path.name[:8] / f"{path.name[:8]}_t1.nii.gz")
        assert mask.shape == image.shape
        np.testing.assert_allclose(mask.affine, image.affine)
        assert {*np.unique(mask.get_fdata())} <= {0, 1, 2}


def test_a_twin_differs_in_its_network_alone(contrasts):
    folder, bundle, data = contrasts
    twin = new_twin(folder, bundle, "own_task_plain", "none")
    assert check_bundle(twin) == []
    first, second = (json.loads((path / "bundle.json").read_text()) for path in (bundle, twin))
    assert second["train_and_inference"]["network_def"]["_target_"] == "equivariant_nets.ConventionalUNet"
    for content in (first, second):
        for part, key in (("train_and_inference", "network_def"), ("train_and_inference", "features")):
            del content[part][key]
        del content["train"]["learning_rate"]
    assert first == second
    assert (bundle / "data" / "split.json").read_bytes() == (twin / "data" / "split.json").read_bytes()
    experiment = folder / "experiments" / "own_task_so3_and_own_task_plain.json"
    plan = read_experiment(experiment, data, folder / "bundles", quick=True)
    assert {run.bundle.name for run in plan.runs} == {"own_task_so3", "own_task_plain"}
    with pytest.raises(SystemExit, match=r"--symmetry none is that of .*own_task_plain: nothing would differ"):
        new_twin(folder, twin, "own_task_again", "none")
    new_twin(folder, twin, "own_task_twin", "octahedral")  # a twin of a twin
    experiment = json.loads((folder / "experiments" / "own_task_plain_and_own_task_twin.json").read_text())
    assert experiment["networks"] == {
        "none": {"bundle": "own_task_plain"},
        "octahedral": {"bundle": "own_task_twin"},
    }
    found = bundle / "data" / "found.json"
    sided = json.loads(found.read_text())
    sided["reasons"]["Left and right"] = "left and right x differ in the side alone; nothing mirrors in training"
    message = r"--symmetry o3 holds reflections, and in .* left and right x differ"
    with written_for_now(found, json.dumps(sided)), pytest.raises(SystemExit, match=message):
        new_twin(folder, bundle, "own_task_o3", "o3")


@contextmanager
def written_for_now(file, text):
    before = file.read_text()
    file.write_text(text)
    try:
        yield
    finally:
        file.write_text(before)


def new_twin(folder, bundle, name, symmetry):
    cli(["new", name, "--like", str(bundle), "--symmetry", symmetry, "--bundles_dir", str(bundle.parent)])
    return bundle.parent / name


def test_pictures_are_learned_and_masks_are_as_those_of_the_data(tmp_path):
    data = own_data.pictures(tmp_path / "data")
    bundle = new(tmp_path, "own_pictures_e2", dataset_dir=data, images="photos", labels="masks")
    assert check_bundle(bundle) == []
    run(bundle, "train", tmp_path, "--ckpt_dir", "out", *ONE_EPOCH)
    run(bundle, "evaluate", tmp_path, "--ckpt_dir", "out", "--output_dir", "evaluated", "--sweep_angles", "[0,45,90]")
    rows = (tmp_path / "evaluated" / "rotation_dice.csv").read_text().splitlines()
    assert len(rows) == 1 + 3 * 1  # of one test case
    new_twin(tmp_path, bundle, "own_pictures_plain", "none")
    experiment = (tmp_path / "experiments" / "own_pictures_e2_and_own_pictures_plain.json").read_text()
    assert "random" not in experiment  # a picture turns in its plane alone
    options = ("--ckpt_dir", "out", "--dataset_dir", data / "photos", "--output_dir", "masks")
    run(bundle, "inference", tmp_path, *options)
    masks = sorted((tmp_path / "masks").glob("*_seg.png"))
    assert len(masks) == 5
    for path in masks:
        mask = np.asarray(Image.open(path))
        assert mask.shape == (40, 48)
        assert {*np.unique(mask)} <= {0, 255}


def test_thick_slices_and_classes_that_are_chosen(tmp_path):
    data = own_data.decathlon(tmp_path / "data", size=(40, 40, 12), spacing=(1.0, 1.0, 5.0))
    bundle = new(tmp_path, "own_slices_so3", dataset_dir=data, classes="both=1+2")
    assert check_bundle(bundle) == []
    run(bundle, "train", tmp_path, "--ckpt_dir", "out", *ONE_EPOCH)
    run(bundle, "inference", tmp_path, "--ckpt_dir", "out", "--dataset_dir", data / "imagesTr", "--output_dir", "masks")
    assert len([*(tmp_path / "masks").rglob("*_seg.nii.gz")]) == 5


def test_five_faults_are_told_at_once_and_nothing_is_written(tmp_path):
    data = own_data.decathlon(tmp_path / "data", number=8)

    def change(file, function):
        image = nib.load(data / file)
        nib.Nifti1Image(function(np.asanyarray(image.dataobj)), image.affine).to_filename(data / file)

    change("imagesTr/case_000.nii.gz", lambda a: np.stack([a, a], -1))  # a series
    change("labelsTr/case_001.nii.gz", lambda a: a[1:])  # another grid
    change("imagesTr/case_002.nii.gz", lambda a: np.full_like(a, np.inf))
    (data / "labelsTr/case_003.nii.gz").unlink()
    (data / "imagesTr/case_004.nii.gz").write_bytes(b"not an image")
    manifest = json.loads((data / "dataset.json").read_text())
    manifest["labels"]["3"] = "ghost"  # a class in no case
    (data / "dataset.json").write_text(json.dumps(manifest))
    with pytest.raises(SystemExit) as ended:
        new(tmp_path, "own_faults_so3", dataset_dir=data)
    lines = str(ended.value).splitlines()
    for number, text in enumerate(["time points", "shape", "NaN or infinite", "is not there", "cannot be read"]):
        assert any(f"case_{number:03d}" in line and text in line for line in lines), lines
    assert any("'ghost' (label 3) is in no case" in line for line in lines)
    assert lines[-1].startswith("error: 6 problem")
    assert not (tmp_path / "bundles" / "own_faults_so3").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"name": "Liver", "dataset_dir": "data"}, "The name 'Liver' is not legal"),
        ({"dataset_dir": "nowhere"}, "does not exist. Legal is"),
        ({}, "give --dataset_dir, the folder of the data, or --like"),
        ({"dataset_dir": "data", "spacing_mm": "1,1"}, "--spacing_mm '1,1' is not legal"),
        ({"dataset_dir": "data", "symmetry": "cubic"}, "--symmetry cubic is not legal for volumes"),
        ({"dataset_dir": "data", "classes": "ghost=9"}, "'ghost' (label 9) is in no case"),
        ({"like": "data", "symmetry": "none"}, "is no bundle that zoo new wrote here"),
        ({"like": "data", "classes": "a=1"}, "--classes does not go with --like"),
        ({"like": "data"}, "--like needs the symmetry"),
    ],
)
def test_bad_input_is_refused_with_what_is_legal(tmp_path, monkeypatch, options, said):
    own_data.decathlon(tmp_path / "data", number=3)
    monkeypatch.chdir(tmp_path)
    arguments = [part for key, value in options.items() if key != "name" for part in (f"--{key}", value)]
    with pytest.raises(SystemExit) as ended:
        cli(["new", options.get("name", "own_task"), "--bundles_dir", "bundles", *arguments])
    assert said in str(ended.value)
    assert not (tmp_path / "bundles" / "own_task").exists()


def test_what_a_split_lacks_is_said(tmp_path, capsys):
    """A class that one case has is measured nowhere; steps are those that there are; a missing package stands once."""
    data = own_data.decathlon(tmp_path / "data", number=6)
    for k in range(1, 6):
        path = data / f"labelsTr/case_{k:03d}.nii.gz"
        label = nib.load(path)
        nib.Nifti1Image((np.asanyarray(label.dataobj) == 1).astype(np.uint8), label.affine).to_filename(path)
    new(tmp_path, "own_rare_so3", dataset_dir=data)
    said = capsys.readouterr().out
    assert "'outer' is in 1 of 6 cases, and in none for validation and test" in said
    assert "each case counts as a patient; if patients have several, name them: --patient" in said
    assert "850 epochs of all 4 training cases, 3,400 steps" in said


def test_label_maps_beside_images_are_not_segmented(tmp_path):
    for writer, options in ((own_data.one_folder, {}), (own_data.case_folders, {"contrasts": ("ct",)})):
        for in_names in (True, False) if "contrasts" in options else (None,):
            extra = {} if in_names is None else {"in_names": in_names}
            folder = writer(tmp_path / f"{writer.__name__}{in_names}", number=3, **options, **extra)
            (contrast,) = find_cases(folder).contrasts
            items = contrast_datalist(folder, [contrast])
            assert len(items) == 3
            assert not any(part in Path(item["image"]).name for item in items for part in ("seg", "label"))
    flat = own_data.one_folder(tmp_path / "plain", number=3)
    for path in flat.glob("*_t1.nii.gz"):
        path.rename(path.with_name(path.name.replace("_t1", "")))
    assert len(contrast_datalist(flat, [""])) == 3


def test_sides_need_a_network_that_can_tell_them(tmp_path):
    data = own_data.decathlon(tmp_path / "data", number=3)
    manifest = json.loads((data / "dataset.json").read_text())
    manifest["labels"] = {"0": "background", "1": "left lobe", "2": "right lobe"}
    (data / "dataset.json").write_text(json.dumps(manifest))
    with pytest.raises(SystemExit, match=r"holds reflections.*'left lobe' and 'right lobe' are the same"):
        new(tmp_path, "own_sides_o3", dataset_dir=data, symmetry="o3")
    bundle = new(tmp_path, "own_sides_so3", dataset_dir=data)
    assert "left lobe and right lobe differ in the side alone" in (bundle / "docs" / "README.md").read_text()
    with pytest.raises(SystemExit, match="exists, and is left as it is"):
        new(tmp_path, "own_sides_so3", dataset_dir=data)


def test_of_the_hippocampus_it_is_the_bundle_made_by_hand(tmp_path, real_hippocampus):
    """The same split, voxels, patches and network, so that the same steps give the same weights, to the bit."""
    manifest = json.loads((real_hippocampus / "dataset.json").read_text())
    manifest["training"] = manifest["training"][:12]
    for entry in manifest["training"]:
        for file in entry.values():
            (tmp_path / "data" / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(real_hippocampus / file, tmp_path / "data" / file)
    (tmp_path / "data" / "dataset.json").write_text(json.dumps(manifest))
    bundle = new(tmp_path, "own_hippocampus_so3", dataset_dir=tmp_path / "data", memory_gb=4)
    by_hand = shutil.copytree("bundles/hippocampus_mri_so3_segmentation", tmp_path / "bundles" / "by_hand")
    for folder, name in ((bundle, "own"), (by_hand, "hand")):
        options = ("--dataset_dir", tmp_path / "data", "--train_cases", "3", *ONE_EPOCH, "--ckpt_dir", name)
        run(folder, "train", tmp_path, *options)
    own, hand = (torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("own", "hand"))
    assert own.keys() == hand.keys()
    assert all(torch.equal(own[key], hand[key]) for key in own)


def test_the_commands_of_the_guide_run(tmp_path):
    """Those of docs/own_data.md, as they stand, but for a shorter training."""
    own_data.decathlon(tmp_path / "data" / "liver")
    text = Path("docs/own_data.md").read_text(encoding="utf-8")
    script = "".join(re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE)).replace("\\\n", "")
    values = {}
    for line in script.splitlines():
        if line.startswith("B="):
            values["$B"] = line.removeprefix("B=")
            continue
        _, _, module, *arguments = shlex.split(line.replace("$B", values.get("$B", "")))
        short = ONE_EPOCH if line.rstrip().endswith("train.json --ckpt_dir $B/models") else ()
        short = (*short, "--sweep_angles", "[0]", "--sweep_random_poses", "1") if "evaluate.json" in line else short
        result = run_module(module, *arguments, *short, cwd=tmp_path)
        assert result.returncode == 0, (line, result.stderr[-2000:])
    assert (tmp_path / "liver.ts").is_file()
    assert (tmp_path / "output" / "poses" / "report.html").is_file()
    assert (tmp_path / "experiments" / "liver_ct_so3_and_liver_ct_plain.json").is_file()
