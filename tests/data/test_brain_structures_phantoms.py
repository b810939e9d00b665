"""Synthetic brains: the same for the same seed and in every layout, whole, two-sided, and of the contrasts of T1."""

import nibabel as nib
import numpy as np
import pytest
import torch
from kills import assert_killed_writer_goes_on
from monai.transforms import Compose, Orientationd
from scipy.ndimage import center_of_mass

from equivariant_nets.data import (
    LABEL_TABLES,
    STRUCTURES,
    CheckVolumed,
    LoadVolumed,
    StructuresFromLabelsd,
    brain_structures_datalist,
    check_brain_structures,
    write_brain_phantoms,
)

LAYOUTS = ("miccai", "mindboggle")
KEYS = ("image", "label")
SIZE = (24, 28, 24)
LOAD = Compose(
    [
        LoadVolumed(KEYS),
        StructuresFromLabelsd(),
        CheckVolumed("image", "label", num_classes=8),
        Orientationd(KEYS, axcodes="RAS", labels=None),
    ]
)


def items(folder):
    return [item for part in ("training", "validation", "test") for item in brain_structures_datalist(folder, part)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("brains")
    return {layout: write_brain_phantoms(root / layout, layout, 3, SIZE) for layout in LAYOUTS}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_found_whole_and_sound(folders, layout):
    assert len(items(folders[layout])) == 3
    assert check_brain_structures(folders[layout]) == []


@pytest.mark.parametrize(("layout", "axcodes"), [("miccai", "LAS"), ("mindboggle", "PSR")])
def test_voxel_axes_run_as_documented(folders, layout, axcodes):
    for item in items(folders[layout]):
        for key in KEYS:
            assert "".join(nib.aff2axcodes(nib.load(item[key]).affine)) == axcodes


def test_the_layouts_have_the_same_brains(folders):
    for one, other in zip(*(items(folders[layout]) for layout in LAYOUTS), strict=True):
        one, other = LOAD(one), LOAD(other)
        for key in KEYS:
            assert one[key].shape == (1, *SIZE)
            assert torch.equal(one[key].as_tensor(), other[key].as_tensor())
            assert torch.equal(one[key].affine, other[key].affine)


@pytest.mark.parametrize("size", [(24, 28, 24), (27, 24, 40), (32, 36, 28)], ids=str)
def test_every_structure_is_in_every_brain_on_its_side(tmp_path, size):
    folder = write_brain_phantoms(tmp_path, "miccai", 12, size)
    for item in items(folder):
        label = Orientationd("label", axcodes="RAS", labels=None)(LoadVolumed("label")(item))["label"][0].numpy()
        image = Orientationd("image", axcodes="RAS", labels=None)(LoadVolumed("image")(item))["image"][0].numpy()
        assert (image[label > 0] > 0).all()
        assert (label[image == 0] == 0).all()
        for structure in STRUCTURES:
            for side, code in enumerate(LABEL_TABLES["neuromorphometrics"][structure]):
                assert np.count_nonzero(label == code) >= 4
                right = center_of_mass(label == code)[0] > (size[0] - 1) / 2
                if structure != "brain stem":
                    assert right == (side % 2 == 0)


def test_structures_lie_as_in_the_anatomy_and_have_the_contrasts_of_t1(tmp_path):
    for item in items(write_brain_phantoms(tmp_path, "miccai", 5, (32, 36, 28))):
        data = LOAD(item)
        image, label = (data[key][0].numpy() for key in KEYS)
        centre = {name: center_of_mass(label == k) for k, name in enumerate(STRUCTURES, start=1)}
        mean = {name: image[label == k].mean() for k, name in enumerate(STRUCTURES, start=1)}
        assert min(mean, key=mean.get) == "lateral ventricles"
        assert mean["hippocampus"] < mean["putamen"] < mean["pallidum"] < mean["brain stem"]
        assert centre["cerebellum"][1] < centre["brain stem"][1] < centre["caudate"][1]
        assert centre["brain stem"][2] < centre["hippocampus"][2] < centre["lateral ventricles"][2]
        assert all(abs(point[0] - 15.5) < 1 for point in centre.values())


def test_a_case_is_the_same_however_many_are_written_and_seeds_differ(folders, tmp_path):
    first = LOAD(items(folders["miccai"])[0])
    more = LOAD(items(write_brain_phantoms(tmp_path / "more", "miccai", 4, SIZE))[0])
    other = LOAD(items(write_brain_phantoms(tmp_path / "other", "miccai", 3, SIZE, seed=1))[0])
    for key in KEYS:
        assert torch.equal(first[key].as_tensor(), more[key].as_tensor())
        assert not torch.equal(first[key].as_tensor(), other[key].as_tensor())


def test_the_whole_head_holds_the_brain(folders, tmp_path):
    heads = write_brain_phantoms(tmp_path, "mindboggle", 3, SIZE, whole_head=True)
    for stripped, whole in zip(items(folders["mindboggle"]), items(heads), strict=True):
        brain, head = (np.asarray(nib.load(item["image"]).dataobj) for item in (stripped, whole))
        beside = np.asarray(nib.load(stripped["image"].replace("_brain", "")).dataobj)
        assert np.array_equal(head, beside)
        assert np.array_equal(head[brain > 0], brain[brain > 0])
        assert np.unique(head[brain == 0]).size > 100


def test_phantoms_say_that_they_are_synthetic_and_are_not_written_twice(folders):
    for layout, folder in folders.items():
        assert "synthetic" in (folder / "synthetic.json").read_text()
        before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.nii*")}
        write_brain_phantoms(folder, layout, 3, SIZE)
        assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*.nii*")}


def test_a_writer_that_was_killed_goes_on_and_others_leave_what_it_left(folders, tmp_path, monkeypatch):
    def write(folder, **options):
        write_brain_phantoms(folder, "miccai", 3, SIZE, **options)

    assert_killed_writer_goes_on(write, tmp_path, folders["miccai"], monkeypatch)


def test_other_content_is_never_written_over(folders, tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match=rf"{tmp_path} has content that write_brain_phantoms did not write"):
        write_brain_phantoms(tmp_path)
    with pytest.raises(ValueError, match=r"did not write with .*'spacing_mm': 2.0"):
        write_brain_phantoms(folders["miccai"], "miccai", 3, SIZE, spacing_mm=2)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "oasis"}, "layout='oasis' is not one of miccai, mindboggle"),
        ({"num_cases": 0}, "num_cases=0, seed=0 and spacing_mm=1.0 are not legal"),
        ({"seed": -1}, "seed=-1"),
        ({"spacing_mm": 0.0}, r"spacing_mm=0\.0 are not legal"),
        ({"size": (23, 24, 24)}, "whole numbers of voxels from 24"),
        ({"size": (24, 24)}, "give three whole numbers"),
    ],
)
def test_illegal_phantoms_are_refused_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        write_brain_phantoms(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()
