"""Laws of the seven classes: both conventions give them, and they turn with the volume."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Flipd, LoadImaged, Orientationd

from equivariant_nets.data import (
    LABEL_TABLES,
    STRUCTURES,
    LoadVolumed,
    StructuresFromLabelsd,
    brain_structures_datalist,
    target_structures,
    write_brain_phantoms,
)

# Of FreeSurferColorLUT.txt.
FREESURFER = {
    4: "Left-Lateral-Ventricle",
    6: "Left-Cerebellum-Exterior",
    7: "Left-Cerebellum-White-Matter",
    8: "Left-Cerebellum-Cortex",
    11: "Left-Caudate",
    12: "Left-Putamen",
    13: "Left-Pallidum",
    16: "Brain-Stem",
    17: "Left-Hippocampus",
    43: "Right-Lateral-Ventricle",
    45: "Right-Cerebellum-Exterior",
    46: "Right-Cerebellum-White-Matter",
    47: "Right-Cerebellum-Cortex",
    50: "Right-Caudate",
    51: "Right-Putamen",
    52: "Right-Pallidum",
    53: "Right-Hippocampus",
}
CONVENTIONS = tuple(LABEL_TABLES)
# The second one of labels.csv, of the challenge: the values of a pair follow each other, right and left.
SIDES_OF = {
    "freesurfer": {value: name.split("-")[0].lower() for value, name in FREESURFER.items() if value != 16},
    "neuromorphometrics": {
        first + left: "left" if left else "right" for first in (36, 38, 40, 47, 51, 55, 57) for left in (0, 1)
    },
}
SIZE = (24, 28, 24)


def volume(values):
    """One voxel a value, (1, N, 1, 1), with a file's name and a shifted affine."""
    affine = torch.eye(4, dtype=torch.float64)
    affine[0, 3] = 5
    values = torch.as_tensor(values).reshape(1, -1, 1, 1)
    return MetaTensor(values, affine=affine, meta={"filename_or_obj": "truth.nii.gz"})


def classes(values, convention):
    return StructuresFromLabelsd()({"label": volume(values), "convention": convention})["label"]


def test_the_codes_of_freesurfer_are_those_of_its_colour_table():
    found = {code: structure for structure, codes in LABEL_TABLES["freesurfer"].items() for code in codes}
    assert set(found) == set(FREESURFER)
    for code, structure in found.items():
        stem = "brainstem" if structure == "brain stem" else structure.removeprefix("lateral ").rstrip("s")
        assert stem.rstrip("s") in FREESURFER[code].lower().replace("-", "")
    for codes in LABEL_TABLES["freesurfer"].values():
        sides = [FREESURFER[code].split("-")[0] for code in codes]
        assert sides in (["Right", "Left"] * (len(codes) // 2), ["Brain"])


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_every_table_names_the_seven_structures_in_order_and_no_code_twice(convention):
    assert tuple(LABEL_TABLES[convention]) == STRUCTURES
    codes = [code for own in LABEL_TABLES[convention].values() for code in own]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("convention", CONVENTIONS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.float32, torch.float64])
def test_every_code_becomes_its_class_and_every_other_background(convention, dtype):
    limit = 256 if dtype == torch.uint8 else 2100
    result = classes(torch.arange(limit).to(dtype), convention)
    expected = torch.zeros(limit, dtype=dtype)
    for index, structure in enumerate(STRUCTURES, start=1):
        expected[list(LABEL_TABLES[convention][structure])] = index
    assert torch.equal(result.flatten().as_tensor(), expected)
    assert result.dtype == dtype
    assert result.shape == (1, limit, 1, 1)
    assert result.meta["filename_or_obj"] == "truth.nii.gz"
    assert result.affine[0, 3] == 5


def test_the_label_given_is_not_changed_and_arrays_are_legal():
    given = np.array([0, 35, 207], np.uint8).reshape(1, 3, 1, 1)
    result = StructuresFromLabelsd()({"label": given, "convention": "neuromorphometrics"})["label"]
    assert given.flatten().tolist() == [0, 35, 207]
    assert isinstance(result, np.ndarray)
    assert result.flatten().tolist() == [0, 7, 0]


def sides_of(label, convention):
    return StructuresFromLabelsd(targets="sides")({"label": label, "convention": convention})["label"]


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_sides_are_the_structures_left_and_right(convention):
    values = volume(torch.arange(256))
    sides, united = sides_of(values, convention).long(), classes(torch.arange(256), convention).long()
    names = ["", *target_structures("sides")]
    assert len(names) == 14
    for value, (side, structure) in enumerate(zip(sides.flatten().tolist(), united.flatten().tolist(), strict=True)):
        assert bool(side) == bool(structure)
        if side:
            name = names[side].removeprefix("left ").removeprefix("right ").removesuffix("s")
            assert STRUCTURES[structure - 1].removesuffix("s") == name
            told = SIDES_OF[convention].get(value)
            assert (told is None) == (name == "brain stem")
            assert told is None or names[side].startswith(told)


def test_targets_are_told_where_they_are_not_legal():
    with pytest.raises(ValueError, match="targets='left' is not legal; choose one of structures and sides"):
        StructuresFromLabelsd(targets="left")


def test_left_is_left_in_the_world(folders):
    load = Compose([LoadVolumed("label"), StructuresFromLabelsd(targets="sides")])
    for folder in folders.values():
        check_left_is_left(load(brain_structures_datalist(folder)[0])["label"])


def test_left_is_left_in_real_brain_structures(real_brain_structures):
    load = Compose([LoadVolumed("label"), StructuresFromLabelsd(targets="sides")])
    for section in ("training", "validation", "test"):
        for item in brain_structures_datalist(real_brain_structures, section):
            check_left_is_left(load(item)["label"])


def check_left_is_left(label):
    x = {}
    for value, name in enumerate(target_structures("sides"), start=1):
        voxels = torch.nonzero(label[0] == value).double().mean(0)
        x[name] = float((label.affine[:3, :3] @ voxels + label.affine[:3, 3])[0])
    for structure in {name.split(" ", 1)[1] for name in x if name != "brain stem"}:
        assert x[f"left {structure}"] < x["brain stem"] < x[f"right {structure}"]


def test_data_without_a_label_passes():
    item = {"image": volume([1])}
    assert StructuresFromLabelsd()(item) == item


@pytest.mark.parametrize(
    ("values", "convention", "message"),
    [
        ([35.0, -1.0], "neuromorphometrics", "label values -1 are not legal; legal are whole numbers from 0"),
        ([16.0, 0.5], "freesurfer", "label values 0.5 are not legal"),
        ([16.0, float("nan"), float("inf")], "freesurfer", "label values .* are not legal"),
        ([0, 35, 2035], "freesurfer", r"holds none of the seven structures.*'freesurfer' they are cerebellum 45/6/"),
        ([0, 0], "neuromorphometrics", "none of the seven structures.*brain stem 35"),
        ([16], "aseg", "'convention' is 'aseg'; legal are neuromorphometrics and freesurfer"),
    ],
)
def test_illegal_labels_are_refused_and_the_file_is_named(values, convention, message):
    with pytest.raises(ValueError, match=rf"truth\.nii\.gz.*{message}"):
        classes(values, convention)


def test_labels_of_several_channels_and_without_convention_are_refused():
    with pytest.raises(ValueError, match=r"shape is \(2, 1, 1, 1\); legal is \(1, D, H, W\)"):
        StructuresFromLabelsd()({"label": torch.zeros(2, 1, 1, 1), "convention": "freesurfer"})
    with pytest.raises(ValueError, match="'convention' is None"):
        StructuresFromLabelsd()({"label": volume([16])})


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("brains")
    return {layout: write_brain_phantoms(root / layout, layout, 3, SIZE) for layout in ("miccai", "mindboggle")}


def test_both_conventions_give_the_same_classes_from_the_same_brain(folders):
    load = Compose([LoadVolumed("label"), StructuresFromLabelsd(), Orientationd("label", axcodes="RAS", labels=None)])
    for section in ("training", "validation", "test"):
        pairs = (brain_structures_datalist(folder, section) for folder in folders.values())
        for one, other in zip(*pairs, strict=True):
            assert (one["convention"], other["convention"]) == CONVENTIONS
            assert torch.equal(load(one)["label"].as_tensor(), load(other)["label"].as_tensor())
            assert torch.equal(load(one)["label"].affine, load(other)["label"].affine)


def test_labels_of_aseg_differ_by_the_vermis_alone(folders):
    item = brain_structures_datalist(folders["mindboggle"])[0]
    aseg = item["image"].replace("t1weighted_brain", "labels.DKT31.manual+aseg")
    manual, automatic = (
        StructuresFromLabelsd()(LoadVolumed("label")({**item, "label": file}))["label"]
        for file in (item["label"], aseg)
    )
    vermis = LoadVolumed("label")(item)["label"] == 631
    assert vermis.any()
    assert torch.equal(manual != automatic, vermis)
    assert (automatic[vermis] == 1).all()
    assert (manual[vermis] == 0).all()


@pytest.mark.parametrize("layout", ["miccai", "mindboggle"])
@pytest.mark.parametrize(
    "turn",
    [Orientationd("label", axcodes=codes, labels=None) for codes in ("RAS", "LPI", "SAR")] + [Flipd("label", 1)],
    ids=["RAS", "LPI", "SAR", "flip"],
)
def test_classes_turn_with_the_volume(folders, layout, turn):
    item = LoadImaged("label", ensure_channel_first=True)(brain_structures_datalist(folders[layout])[0])
    before, after = Compose([StructuresFromLabelsd(), turn])(item), Compose([turn, StructuresFromLabelsd()])(item)
    assert torch.equal(before["label"].as_tensor(), after["label"].as_tensor())
    assert torch.equal(before["label"].affine, after["label"].affine)
