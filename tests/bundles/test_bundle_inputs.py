"""Laws of bad input: a bundle stops with an error that names the file or folder, and says what is wrong with it."""

import re

import nibabel as nib
import numpy as np
import pytest
import torch

SO3 = "hippocampus_mri_so3_segmentation"
CONVENTIONAL = "hippocampus_mri_conventional_segmentation"
PHANTOM = "phantom_so3_segmentation"


def noise(*size):
    return np.random.RandomState(0).rand(*size).astype(np.float32)


def with_nan(array):
    array[3, 4, 5] = np.nan
    return array


def truncate(path):
    path.write_bytes(path.read_bytes()[:-200])


def shift(path):
    image = nib.load(path)
    affine = image.affine.copy()
    affine[0, 3] += 5.0
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), path)


def resize(path):
    nib.save(nib.Nifti1Image(np.zeros((5, 6, 7), np.uint8), nib.load(path).affine), path)


def relabel(path):
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + np.uint8(7), image.affine), path)


def save(array):
    return lambda path: nib.save(nib.Nifti1Image(array, np.eye(4)), path)


# What is written in place of an image, and what the error says about it.
BAD_IMAGES = {
    "slice": (save(noise(16, 18)), r"shape is .*3-D volume"),
    "time series": (save(noise(12, 13, 14, 3)), "number of channels is 3"),
    "NaN": (save(with_nan(noise(12, 13, 14))), "1 of 2184 voxels are NaN"),
    "constant": (save(np.full((12, 13, 14), 3.0)), "must not be constant"),
    "truncated": (truncate, "truncated, damaged"),
    "text": (lambda path: path.write_text("not an image"), "truncated, damaged"),
    "empty": (lambda path: path.write_bytes(b""), "truncated, damaged"),
}  # fmt: skip
BAD_LABELS = {
    "missing": (lambda path: path.unlink(), "1 files are missing"),
    "other size": (resize, r"spatial shape is \(5, 6, 7\); legal is \(16, 18, 14\)"),
    "other place": (shift, "affine differs"),
    "other classes": (relabel, "label values 7"),
    "truncated": (truncate, "truncated, damaged"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_inference_names_the_bad_image(kind, error_of, tmp_path):
    damage, message = BAD_IMAGES[kind]
    path = tmp_path / "images" / "bad case.nii.gz"
    path.parent.mkdir()
    save(noise(12, 13, 14))(path)
    damage(path)
    error = error_of(CONVENTIONAL, "inference.json", dataset_dir=str(path.parent))
    assert str(path) in error
    assert re.search(message, error, re.DOTALL)


@pytest.mark.parametrize("kind", BAD_LABELS)
def test_training_names_the_bad_label(kind, error_of, cases):
    damage, message = BAD_LABELS[kind]
    path = cases / "labelsTr" / "case_3.nii.gz"
    damage(path)
    error = error_of(CONVENTIONAL, "train.json", dataset_dir=str(cases))
    assert "labelsTr/case_3.nii.gz" in error
    assert str(cases) in error
    assert re.search(message, error, re.DOTALL)


@pytest.mark.parametrize("kind", ["NaN", "truncated"])
def test_training_names_the_bad_image(kind, error_of, cases):
    path = cases / "imagesTr" / "case_0.nii.gz"
    BAD_IMAGES[kind][0](path)
    error = error_of(SO3, "train.json", dataset_dir=str(cases))
    assert str(path) in error
    assert re.search(BAD_IMAGES[kind][1], error)


def test_a_missing_folder_is_named_with_what_to_do(error_of, tmp_path):
    missing = str(tmp_path / "nowhere")
    error = error_of(CONVENTIONAL, "inference.json", dataset_dir=missing)
    assert missing in error
    assert "--dataset_dir" in error
    error = error_of(SO3, "train.json", dataset_dir=missing)
    assert missing in error
    assert "--download" in error


def test_a_folder_without_images_is_named(error_of, tmp_path):
    (tmp_path / "empty").mkdir()
    error = error_of(CONVENTIONAL, "inference.json", dataset_dir=str(tmp_path / "empty"))
    assert str(tmp_path / "empty") in error
    assert "nii.gz" in error


def test_phantoms_never_replace_other_data(error_of, cases):
    before = {path: path.read_bytes() for path in cases.rglob("[!.]*") if path.is_file()}
    error = error_of(PHANTOM, "train.json", dataset_dir=str(cases))
    assert str(cases) in error
    assert "Choose another folder" in error
    assert {path: path.read_bytes() for path in cases.rglob("[!.]*") if path.is_file()} == before


@pytest.mark.parametrize("configs", [["inference.json"], ["train.json", "evaluate.json"]])
def test_missing_weights_are_named(configs, error_of, cases, tmp_path):
    data = cases / "imagesTr" if configs == ["inference.json"] else cases
    missing = str(tmp_path / "nowhere.pt")
    error = error_of(CONVENTIONAL, *configs, dataset_dir=str(data), ckpt_path=missing)
    assert missing in error
    assert "FileNotFoundError" in error


def test_weights_of_another_network_are_an_error(error_of, cases):
    error = error_of(CONVENTIONAL, "inference.json", dataset_dir=str(cases / "imagesTr"), features=4)
    assert "size mismatch" in error


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"augmentation": "some"}, "'some' is unknown.*moderate"),
        ({"train_cases": 8}, "train_cases=8 is not a whole number from 1 to 7"),
        ({"features": "2x0q"}, "2x0q"),
        ({"sweep_cases": 0}, "num_cases=0"),
    ],
)
def test_an_override_that_is_not_legal_says_what_is(overrides, message, error_of, cases):
    configs = ["train.json", "evaluate.json"] if "sweep_cases" in overrides else ["train.json"]
    error = error_of(SO3, *configs, dataset_dir=str(cases), **overrides)
    assert re.search(message, error, re.DOTALL)


def test_the_command_fails_with_the_error_of_its_bad_image(tmp_path, get_bundle, get_network, run_command):
    bundle = get_bundle(CONVENTIONAL)
    features, path = bundle.tiny["features"], tmp_path / "images" / "flat.nii.gz"
    path.parent.mkdir()
    save(noise(16, 18))(path)
    (bundle.root / "models").mkdir()
    torch.save(get_network(bundle.root, features).state_dict(), bundle.root / "models" / "model.pt")
    result = run_command(bundle.root, ["inference.json"], cwd=tmp_path, features=features, dataset_dir=path)
    assert result.returncode != 0
    assert str(path) in result.stderr
    assert "3-D volume" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [CONVENTIONAL, "images"]
