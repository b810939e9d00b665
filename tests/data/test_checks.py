"""Bad volumes give one error that names the file, the fault and the remedy; good ones pass unchanged."""

import gzip

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import decollate_batch, list_data_collate

from equivariant_nets.data import CheckVolumed, LoadVolumed

SIZE = (5, 6, 7)


def image(size=SIZE, seed=0):
    return np.random.RandomState(seed).normal(size=size).astype(np.float32)


def label(size=SIZE):
    return np.random.RandomState(1).randint(0, 3, size=size).astype(np.uint8)


def save(path, array, affine=None):
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return str(path)


def load_and_check(item):
    return CheckVolumed("image", "label", num_classes=3)(LoadVolumed(list(item))(item))


@pytest.fixture
def good(tmp_path):
    return {"image": save(tmp_path / "scan.nii.gz", image()), "label": save(tmp_path / "truth.nii.gz", label())}


def test_good_volumes_are_loaded_channel_first_and_unchanged(good):
    data = load_and_check(good)
    assert torch.equal(data["image"].as_tensor(), torch.from_numpy(image())[None])
    assert torch.equal(data["label"].as_tensor(), torch.from_numpy(label())[None].float())
    assert data["image"].meta["filename_or_obj"] == good["image"]


def test_a_label_may_be_absent(good):
    assert "label" not in load_and_check({"image": good["image"]})


def voxel(value):
    array = image()
    array[1, 2, 3] = value
    return array


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (image((5, 6)), r"shape is \(1, 5, 6\).*three spatial axes.*slice"),
        (image((5, 6, 1)), r"at least 2 voxels"),
        (image((5, 6, 7, 2)), r"number of channels is 2; legal is 1.*one time point"),
        (voxel(np.nan), r"1 of 210 voxels are NaN or infinite.*Replace"),
        (voxel(np.inf), r"1 of 210 voxels are NaN or infinite"),
        (np.full(SIZE, 4, np.float32), r"all voxels of channel 0 are 4; an image must not be constant"),
    ],
    ids=["2-D", "one slice", "4-D", "NaN", "infinite", "constant"],
)
def test_bad_images_are_refused(good, tmp_path, array, message):
    good["image"] = save(tmp_path / "bad.nii.gz", array)
    with pytest.raises(ValueError, match=rf"(?s)bad\.nii\.gz.*{message}"):
        load_and_check(good)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (label().astype(np.float32) + 0.5, r"label values .*legal are whole numbers from 0 to 2.*nearest"),
        (label() + 1, r"label values 3 are not legal"),
        (label().astype(np.int16) - 1, r"label values -1 are not legal"),
        (label((5, 6, 8)), r"spatial shape is \(5, 6, 8\); legal is \(5, 6, 7\), that of image .*scan\.nii\.gz"),
    ],
    ids=["fractions", "too large", "negative", "another size"],
)
def test_bad_labels_are_refused(good, tmp_path, array, message):
    good["label"] = save(tmp_path / "bad.nii.gz", array)
    with pytest.raises(ValueError, match=rf"(?s)bad\.nii\.gz.*{message}"):
        load_and_check(good)


def test_labels_on_a_shifted_grid_are_refused(good, tmp_path):
    affine = np.eye(4)
    affine[0, 3] = 2.0
    good["label"] = save(tmp_path / "bad.nii.gz", label(), affine)
    with pytest.raises(ValueError, match=r"(?s)bad\.nii\.gz.*affine differs .*by up to 2 mm"):
        load_and_check(good)


def test_arrays_without_metadata_are_checked_too():
    check = CheckVolumed("image", num_channels=2)
    assert check({"image": np.stack([image(), image(seed=1)])})["image"].shape == (2, *SIZE)
    with pytest.raises(ValueError, match=r"image \(no file name known\): the data type is <U1"):
        check({"image": np.full((2, *SIZE), "a")})


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not an image"),
        lambda path: path.write_bytes(gzip.compress(b"not an image")),
    ],
    ids=["truncated", "empty", "text", "compressed text"],
)
def test_damaged_files_are_named(tmp_path, damage):
    path = tmp_path / "damaged.nii.gz"
    save(path, image((12, 12, 12)))
    damage(path)
    with pytest.raises(ValueError, match=r"(?s)damaged\.nii\.gz cannot be read .*Copy or export it again"):
        LoadVolumed("image")({"image": str(path)})


def test_missing_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.nii\.gz does not exist"):
        LoadVolumed("image")({"image": str(tmp_path / "nowhere.nii.gz")})


@pytest.fixture
def four(tmp_path):
    return [save(tmp_path / f"part{k}.nii.gz", image(seed=k), np.diag([-1.0, -1, 1, 1])) for k in range(4)]


def test_a_list_of_files_becomes_the_channels_of_one_image(four):
    result = LoadVolumed("image")({"image": four})["image"]
    assert torch.equal(result.as_tensor(), torch.from_numpy(np.stack([image(seed=k) for k in range(4)])))
    assert torch.equal(result.affine, torch.diag(torch.tensor([-1.0, -1, 1, 1])).double())
    assert result.meta["filename_or_obj"] == four[0]
    assert result.meta["channel_files"] == four
    assert CheckVolumed("image", num_channels=4)({"image": result})["image"] is result


def test_images_of_several_files_make_a_batch_and_come_back(four):
    item = LoadVolumed("image")({"image": four})
    for result in decollate_batch(list_data_collate([item, item])):
        assert result["image"].meta["channel_files"] == four


def test_rounding_errors_of_an_affine_do_not_part_the_files_of_a_list(four, tmp_path):
    affine = np.diag([-1.0, -1, 1, 1])
    affine[0, 1] = 1e-6
    save(tmp_path / "part2.nii.gz", image(seed=2), affine)
    assert LoadVolumed("image")({"image": four})["image"].shape == (4, *SIZE)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.unlink(), "does not exist"),
        (truncate, "cannot be read"),
        (lambda path: save(path, image((5, 6, 8))), r"spatial shape is \(5, 6, 8\); legal is \(5, 6, 7\)"),
        (lambda path: save(path, image()), "affine differs .* by up to 2 mm"),
    ],
    ids=["missing", "truncated", "shape", "affine"],
)
def test_the_bad_file_of_a_list_is_named(four, tmp_path, spoil, message):
    spoil(tmp_path / "part2.nii.gz")
    error = FileNotFoundError if message == "does not exist" else ValueError
    with pytest.raises(error, match=rf"^{tmp_path}/part2\.nii\.gz:? .*{message}"):
        LoadVolumed("image")({"image": four})
