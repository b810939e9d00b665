"""Sets of brain structures: both layouts are found whole, the split is fixed, and a check lists all that is wrong."""

import logging
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from equivariant_nets.data import brain_structures_datalist, check_brain_structures, write_brain_phantoms
from equivariant_nets.data.brain_structures.__main__ import main

SECTIONS = ("training", "validation", "test")
MICCAI = [*range(1000, 1016), 1017, 1018, 1019, 1036]
SIZE = (24, 28, 24)
MANUAL = "OASIS-TRT-20_DKT31_CMA_labels_v2"


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def write_miccai(folder, names=MICCAI, suffix=".nii.gz"):
    for name in names:
        for part in ("images", "labels"):
            touch(folder / part / f"{name}{suffix}")
    return folder


def write_mindboggle(folder, numbers=range(1, 21), manual=None):
    """Empty files, with those of MNI space that are not used."""
    for number in numbers:
        name = f"OASIS-TRT-20-{number}"
        for space in ("", ".MNI152"):
            for file in ("t1weighted", "t1weighted_brain", "labels.DKT31.manual", "labels.DKT31.manual+aseg"):
                touch(folder / "OASIS-TRT-20_volumes" / name / f"{file}{space}.nii.gz")
        touch(folder / "OASIS-TRT-20_DKT31_CMA_labels_in_MNI152_v2" / f"{name}_DKT31_CMA_labels_in_MNI152.nii.gz")
        if manual:
            touch(folder / manual / f"{name}_DKT31_CMA_labels.nii.gz")
    return folder


def names(folder, section="training", **options):
    return [item["case"] for item in brain_structures_datalist(folder, section, **options)]


def every(folder):
    return [item for section in SECTIONS for item in brain_structures_datalist(folder, section)]


def test_the_split_of_miccai_2012_goes_by_its_names(tmp_path):
    folder = write_miccai(tmp_path)
    assert names(folder) == ["1000", "1001", "1002", "1006", "1007", "1008", "1009"]
    assert names(folder, "validation") == ["1010", "1011", "1012"]
    assert names(folder, "test") == ["1013", "1014", "1015", "1036", "1017", "1003", "1004", "1005", "1018", "1019"]
    assert brain_structures_datalist(folder)[0] == {
        "image": str(tmp_path / "images" / "1000.nii.gz"),
        "label": str(tmp_path / "labels" / "1000.nii.gz"),
        "case": "1000",
        "convention": "neuromorphometrics",
    }


@pytest.mark.parametrize("inside", ["", "OASIS-TRT-20_volumes"])
def test_the_split_of_mindboggle_goes_by_its_numbers_from_either_folder(tmp_path, inside):
    folder = write_mindboggle(tmp_path, manual=MANUAL)
    assert names(folder / inside) == [f"OASIS-TRT-20-{n}" for n in range(1, 8)]
    assert names(folder / inside, "validation") == [f"OASIS-TRT-20-{n}" for n in range(8, 11)]
    assert names(folder / inside, "test") == [f"OASIS-TRT-20-{n}" for n in range(11, 21)]
    assert brain_structures_datalist(folder / inside)[0] == {
        "image": str(tmp_path / "OASIS-TRT-20_volumes" / "OASIS-TRT-20-1" / "t1weighted_brain.nii.gz"),
        "label": str(tmp_path / MANUAL / "OASIS-TRT-20-1_DKT31_CMA_labels.nii.gz"),
        "case": "OASIS-TRT-20-1",
        "convention": "freesurfer",
    }


@pytest.mark.parametrize("manual", [MANUAL, "OASIS-TRT-20_DKT31_CMA_labels", f"{MANUAL}/{MANUAL}"])
def test_manual_labels_are_preferred_where_they_are(tmp_path, manual):
    for item in every(write_mindboggle(tmp_path, manual=manual)):
        assert item["label"] == str(tmp_path / manual / f"{item['case']}_DKT31_CMA_labels.nii.gz")


def test_without_manual_labels_those_with_aseg_are_taken_for_all(tmp_path):
    for item in every(write_mindboggle(tmp_path)):
        assert item["label"].endswith(f"{item['case']}/labels.DKT31.manual+aseg.nii.gz")


def test_manual_and_automatic_labels_are_not_mixed(tmp_path):
    folder = write_mindboggle(tmp_path, manual=MANUAL)
    (folder / MANUAL / "OASIS-TRT-20-3_DKT31_CMA_labels.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match=rf"1 files are missing:\n  {MANUAL}/OASIS-TRT-20-3_DKT31"):
        brain_structures_datalist(folder)


@pytest.mark.parametrize("layout", ["miccai", "mindboggle"])
def test_missing_cases_are_named_and_move_no_other(tmp_path, layout):
    if layout == "miccai":
        folder = write_miccai(tmp_path, [name for name in MICCAI if name not in (1001, 1012)])
        missing = ["images/1001.nii.gz", "images/1012.nii.gz", "labels/1001.nii.gz", "labels/1012.nii.gz"]
    else:
        folder = write_mindboggle(tmp_path, [n for n in range(1, 21) if n != 2], MANUAL)
        missing = [f"{MANUAL}/OASIS-TRT-20-2_DKT31", "OASIS-TRT-20_volumes/OASIS-TRT-20-2/t1weighted_brain.nii.gz"]
    for section in SECTIONS:
        with pytest.raises(FileNotFoundError, match=r"python -m equivariant_nets\.data\.brain_structures") as error:
            brain_structures_datalist(folder, section)
        assert all(name in str(error.value) for name in missing)
        assert f"{len(missing)} files are missing" in str(error.value)


def test_further_cases_of_the_challenge_are_left_out_and_named(tmp_path, caplog):
    folder = write_miccai(tmp_path, [*MICCAI, 1023, 1101])
    with caplog.at_level(logging.WARNING):
        assert sorted(item["case"] for item in every(folder)) == sorted(map(str, MICCAI))
    assert "left out, for they are in no section of the published split: 1023, 1101" in caplog.text


@pytest.mark.parametrize(
    ("count", "expected"), [(3, [1, 1, 1]), (4, [1, 1, 2]), (10, [4, 2, 4]), (20, [7, 3, 10]), (40, [14, 6, 20])]
)
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii"])
def test_other_cases_are_shared_out_in_the_order_of_their_names(tmp_path, count, expected, suffix):
    own = [f"subject_{k:02d}" for k in range(count)]
    folder = write_miccai(tmp_path, reversed(own), suffix)
    touch(folder / "images" / "._subject_00.nii.gz")
    assert [names(folder, section) for section in SECTIONS] == [
        own[: expected[0]],
        own[expected[0] : expected[0] + expected[1]],
        own[expected[0] + expected[1] :],
    ]
    assert all(item["image"].endswith(suffix) for item in every(folder))


def test_smaller_training_sets_are_part_of_larger_ones(tmp_path):
    folder = write_miccai(tmp_path)
    assert names(folder, train_cases=5)[:2] == names(folder, train_cases=2)
    assert set(names(folder, train_cases=7)) == set(names(folder))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"section": "tests"}, "section='tests' is not one of training, validation, test"),
        ({"train_cases": 8}, "train_cases=8 is not a whole number from 1 to 7"),
        ({"section": "test", "train_cases": 2}, "applies to section='training'"),
    ],
)
def test_illegal_requests_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        brain_structures_datalist(write_miccai(tmp_path), **options)


def test_two_cases_are_too_few_for_every_section(tmp_path):
    with pytest.raises(ValueError, match="section 'test' is empty: the data set has only 2 cases"):
        brain_structures_datalist(write_miccai(tmp_path, ["a", "b"]), "test")


def test_a_folder_without_cases_says_where_the_data_is(tmp_path):
    (tmp_path / "images").mkdir()
    for folder, message in ((tmp_path / "nowhere", "nowhere is no folder"), (tmp_path, r"no image images/ID\.nii\.gz")):
        with pytest.raises(FileNotFoundError, match=rf"{message}[\s\S]*neuromorphometrics\.com[\s\S]*mindboggle\.info"):
            brain_structures_datalist(folder)


@pytest.fixture
def phantoms(tmp_path):
    return {layout: write_brain_phantoms(tmp_path / layout, layout, 3, SIZE) for layout in ("miccai", "mindboggle")}


def rewrite(path, change, affine=None):
    volume = nib.load(path)
    array = change(np.asanyarray(volume.dataobj).copy())
    nib.save(nib.Nifti1Image(array, volume.affine if affine is None else affine), path)


def constant(array):
    array[...] = 3
    return array


def without_pallidum(array):
    array[np.isin(array, (55, 56))] = 0
    return array


def test_all_problems_are_listed_at_once(tmp_path):
    folder = write_brain_phantoms(tmp_path / "brains", "miccai", 9, SIZE)
    whole = write_brain_phantoms(tmp_path / "whole", "miccai", 1, (32, 36, 28), spacing_mm=5.5, whole_head=True)
    for part in ("images", "labels"):
        (folder / part / "zwhole.nii.gz").write_bytes((whole / part / "phantom_000.nii.gz").read_bytes())
    (folder / "labels" / "phantom_000.nii.gz").unlink()
    image = folder / "images" / "phantom_001.nii.gz"
    image.write_bytes(image.read_bytes()[:2000])
    rewrite(folder / "images" / "phantom_002.nii.gz", constant)
    rewrite(folder / "labels" / "phantom_003.nii.gz", lambda array: array[1:])
    rewrite(folder / "labels" / "phantom_004.nii.gz", lambda array: array, np.diag([2, 2, 2, 1]))
    rewrite(folder / "labels" / "phantom_005.nii.gz", np.zeros_like)
    rewrite(folder / "labels" / "phantom_006.nii.gz", without_pallidum)
    rewrite(folder / "labels" / "phantom_007.nii.gz", lambda array: array + np.float32(0.5))
    problems = check_brain_structures(folder)
    expected = [
        ("phantom_000", "labels/phantom_000.nii.gz does not exist"),
        ("phantom_001", "images/phantom_001.nii.gz cannot be read"),
        ("phantom_002", "all voxels of channel 0 are 3"),
        ("phantom_003", "the spatial shape is"),
        ("phantom_004", "the affine differs from that of"),
        ("phantom_005", "holds none of the seven structures"),
        ("phantom_006", "holds no pallidum"),
        ("phantom_007", "are not legal; legal are whole numbers"),
        ("zwhole", "this is a whole head"),
    ]
    assert len(problems) == len(expected)
    for problem, (case, message) in zip(problems, expected, strict=True):
        assert problem.startswith(f"{case}: ")
        assert message in problem
    with pytest.raises(SystemExit, match=rf"(?s)phantom_000.*zwhole.*mindboggle\.info.*error: 9 problems in {folder}"):
        main(folder)
    assert len(check_brain_structures(folder, check_skull=False)) == 8


def test_missing_published_cases_are_problems(tmp_path):
    folder = write_brain_phantoms(tmp_path, "miccai", 1, SIZE)
    for part in ("images", "labels"):
        (folder / part / "phantom_000.nii.gz").rename(folder / part / "1036.nii.gz")
    problems = check_brain_structures(folder)
    assert len(problems) == 2 * 19
    assert all("does not exist" in problem for problem in problems)


@pytest.mark.parametrize(("layout", "missing"), [("miccai", "brain stem"), ("mindboggle", "hippocampus")])
def test_labels_in_the_numbers_of_the_other_convention_are_problems(phantoms, layout, missing):
    other = "mindboggle" if layout == "miccai" else "miccai"
    for own, foreign in zip(every(phantoms[layout]), every(phantoms[other]), strict=True):
        for key in ("image", "label"):
            Path(own[key]).write_bytes(Path(foreign[key]).read_bytes())
    problems = check_brain_structures(phantoms[layout])
    assert len(problems) == 3
    assert all(f"no {missing}" in problem and "numbered so" in problem for problem in problems)


@pytest.mark.parametrize("layout", ["miccai", "mindboggle"])
def test_the_command_line_counts_the_cases_of_sound_data(phantoms, layout):
    assert main(phantoms[layout]) == "training: 1 cases\nvalidation: 1 cases\ntest: 1 cases"


def test_the_command_line_reports_an_empty_folder(tmp_path):
    with pytest.raises(SystemExit, match="nowhere is no folder"):
        main(tmp_path / "nowhere")
