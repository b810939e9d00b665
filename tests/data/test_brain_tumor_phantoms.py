"""Synthetic tumours: the same for the same seed and in every layout, nested, and of the contrasts of MRI."""

import nibabel as nib
import numpy as np
import pytest
import torch
from kills import assert_killed_writer_goes_on
from monai.transforms import Compose, Orientationd

from equivariant_nets.data import (
    CheckVolumed,
    LoadVolumed,
    UnifyTumorLabelsd,
    check_brain_tumor,
    tumor_image_datalist,
    tumor_phantom,
    write_tumor_phantoms,
)
from equivariant_nets.data.brain_tumor import brain_tumor_sections

LAYOUTS = ("msd", "brats2020", "brats2021", "brats2023")
KEYS = ("image", "label")
SIZE = (16, 18, 20)
FLAIR, T1, T1GD, T2 = range(4)


def draw(seed, size=SIZE):
    return tumor_phantom(np.random.RandomState(seed), size)


def items(folder):
    return sorted((item for part in brain_tumor_sections(folder).values() for item in part), key=lambda i: i["case"])


def test_the_same_seed_gives_the_same_phantom_and_another_seed_another():
    for first, again, other in zip(draw(0), draw(0), draw(1), strict=True):
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)


@pytest.mark.parametrize("size", [(16, 16, 16), (18, 25, 33)], ids=str)
def test_every_class_lies_inside_the_brain_and_in_the_one_around_it(size):
    volumes = []
    for seed in range(8):
        image, label = draw(seed, size)
        assert image.shape == (4, *size)
        assert image.dtype == np.float32
        assert label.dtype == np.uint8
        assert set(np.unique(label)) == {0, 1, 2, 3}
        brain = image[0] > 0
        assert all(np.array_equal(volume > 0, brain) for volume in image)
        assert 0.2 < brain.mean() < 0.7
        assert brain[label > 0].all()
        centres = [np.argwhere(label >= value).mean(0) for value in (1, 2, 3)]
        assert np.abs(np.diff(centres, axis=0)).max() < 0.2 * min(size)
        volumes.append((label > 0).sum())
    assert max(volumes) > 1.5 * min(volumes)


def test_the_contrasts_are_those_of_mri():
    for seed in range(5):
        image, label = draw(seed, (32, 32, 32))
        mean = [[volume[label == value].mean() for value in range(4)] for volume in image]
        for channel, volume in enumerate(image):  # class 0 is healthy tissue, without the background
            mean[channel][0] = volume[(label == 0) & (volume > 0)].mean()
        assert mean[FLAIR][1] == max(mean[FLAIR])
        assert mean[T1][0] == max(mean[T1])
        assert mean[T1GD][3] == max(mean[T1GD])
        assert min(mean[T2][1:3]) > mean[T2][0]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("tumours")
    return {layout: write_tumor_phantoms(root / layout, layout, 3, SIZE) for layout in LAYOUTS}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_found_whole_and_sound(folders, layout):
    assert len(items(folders[layout])) == 3
    assert check_brain_tumor(folders[layout]) == []


def test_the_layouts_give_the_same_image_and_classes(folders):
    load = Compose([LoadVolumed(KEYS), UnifyTumorLabelsd(), CheckVolumed("image", "label", 4, 4)])
    orient = Orientationd(KEYS, axcodes="RAS", labels=None)
    for cases in zip(*(items(folders[layout]) for layout in LAYOUTS), strict=True):
        loaded = [load(case) for case in cases]
        assert loaded[0]["image"].shape == (4, *SIZE)
        assert torch.equal(loaded[0]["image"].affine, torch.eye(4, dtype=torch.float64))
        for data in loaded[1:]:
            assert torch.equal(data["image"].affine[:3, :3], torch.diag(torch.tensor([-1.0, -1, 1]).double()))
            assert data["image"].shape == (4, *SIZE)
            for key in KEYS:
                expected, result = orient(loaded[0])[key], orient(data)[key]
                assert torch.equal(expected.as_tensor(), result.as_tensor())
                assert torch.equal(expected.affine, result.affine)


@pytest.mark.parametrize(
    ("layout", "values"), [("msd", 3), ("brats2020", 4), ("brats2021", 4), ("brats2023", 3)], ids=str
)
def test_label_files_have_the_values_of_their_data_set(folders, layout, values):
    for item in items(folders[layout]):
        assert set(np.unique(nib.load(item["label"]).dataobj)) == {0, 1, 2, values}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_are_found_without_the_labels(folders, layout):
    expected = [{"image": item["image"], "case": item["case"]} for item in items(folders[layout])]
    assert tumor_image_datalist(folders[layout]) == expected


def test_a_case_is_the_same_however_many_are_written(folders, tmp_path):
    alone = items(write_tumor_phantoms(tmp_path / "alone", "msd", 1, SIZE))[0]
    first = items(folders["msd"])[0]
    for key in KEYS:
        assert np.array_equal(nib.load(alone[key]).get_fdata(), nib.load(first[key]).get_fdata())


def test_phantoms_say_that_they_are_synthetic_and_are_not_written_twice(folders):
    for layout, folder in folders.items():
        assert "synthetic" in (folder / "synthetic.json").read_text()
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.nii*")}
        write_tumor_phantoms(folder, layout, 3, SIZE)
        assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.nii*")}


def test_a_writer_that_was_killed_goes_on_and_others_leave_what_it_left(folders, tmp_path, monkeypatch):
    def write(folder, **options):
        write_tumor_phantoms(folder, "msd", 3, SIZE, **options)

    assert_killed_writer_goes_on(write, tmp_path, folders["msd"], monkeypatch)


def test_other_content_is_never_written_over(folders, tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match=rf"{tmp_path} has content that write_tumor_phantoms did not write"):
        write_tumor_phantoms(tmp_path)
    with pytest.raises(ValueError, match=r"did not write with .*'seed': 1"):
        write_tumor_phantoms(folders["msd"], "msd", 3, SIZE, seed=1)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "brats"}, "layout='brats' is not one of msd, brats2020, brats2021, brats2023"),
        ({"num_cases": 0}, "num_cases=0 and seed=0 are not legal"),
        ({"seed": -1}, "seed=-1 are not legal"),
        ({"size": (15, 16, 16)}, "whole numbers of voxels from 16"),
        ({"size": (16, 16)}, "give three whole numbers"),
    ],
)
def test_illegal_phantoms_are_refused_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        write_tumor_phantoms(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()
