"""Data lists: what dataset.json names, complete or not at all; images of a folder for inference."""

import itertools
import json
import logging
from pathlib import Path

import pytest

from equivariant_nets.data import image_datalist
from equivariant_nets.data.datalist import case_name, nested_subset, paired_cases, read_manifest, select_section

CASES = [{"image": f"i{k}", "label": f"l{k}"} for k in range(9)]
ADVICE = "Download it again."


def test_subsets_are_nested_and_of_the_size_asked_for():
    subsets = [nested_subset(CASES, count) for count in range(1, 10)]
    for small, large in itertools.pairwise(subsets):
        assert large[: len(small)] == small
    assert sorted(subsets[-1], key=str) == CASES


@pytest.mark.parametrize("count", [0, 10, -1, 2.0, "2", True])
def test_illegal_numbers_of_training_cases_are_refused(count):
    with pytest.raises(ValueError, match=r"train_cases=.* is not a whole number from 1 to 9"):
        nested_subset(CASES, count)


@pytest.mark.parametrize(
    ("section", "train_cases", "message"),
    [
        ("train", None, "section='train' is not one of training, validation, test"),
        ("validation", 2, "train_cases=2 applies to section='training', not to 'validation'"),
        ("test", None, "section 'test' is empty"),
    ],
)
def test_illegal_sections_are_refused(section, train_cases, message):
    sections = {"training": CASES[:5], "validation": CASES[5:], "test": []}
    with pytest.raises(ValueError, match=message):
        select_section(sections, section, train_cases)


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        (None, FileNotFoundError, "holds no dataset.json"),
        ("{", ValueError, "dataset.json is not valid JSON"),
        ("[]", ValueError, "holds a JSON list, not the object"),
    ],
)
def test_damaged_manifests_are_named(tmp_path, content, error, message):
    if content is not None:
        (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(error, match=rf"{tmp_path}.*{message}.*Download it again"):
        read_manifest(tmp_path, ADVICE)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist\. Download it again"):
        read_manifest(tmp_path / "nowhere", ADVICE)


@pytest.mark.parametrize("entries", [None, [], "text", [{"image": "a"}], ["a"]])
def test_entries_that_are_no_pairs_are_refused(tmp_path, entries):
    with pytest.raises(ValueError, match=r"dataset\.json (names no labelled cases|holds the entry)"):
        paired_cases(tmp_path, entries, ADVICE)


def test_every_missing_file_is_listed_and_nothing_else(tmp_path):
    for name in ("a.nii.gz", "b.nii.gz", "la.nii.gz"):
        (tmp_path / name).touch()
    entries = [{"image": "./b.nii.gz", "label": "./lb.nii.gz"}, {"image": "./a.nii.gz", "label": "./la.nii.gz"}]
    with pytest.raises(FileNotFoundError, match=r"1 files are missing:\n  lb\.nii\.gz\nDown"):
        paired_cases(tmp_path, entries, ADVICE)
    (tmp_path / "lb.nii.gz").touch()
    assert [case["image"] for case in paired_cases(tmp_path, json.loads(json.dumps(entries)), ADVICE)] == [
        str(tmp_path / "a.nii.gz"),
        str(tmp_path / "b.nii.gz"),
    ]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a/b.nii.gz", "b"),
        ("b.nii", "b"),
        ("CASE.NII.GZ", "CASE"),
        ("s.1.nii.gz", "s.1"),
        ("s.1.nii", "s.1"),
        ("gz.nii.gz", "gz"),
        ("scan_v1.2.mha", "scan_v1.2"),
        ("t1.seg.nrrd", "t1.seg"),
        ("brain.mgz", "brain"),
        ("im0001.ppm", "im0001"),
        ("im0001.ppm.gz", "im0001"),
        ("01_test.TIF", "01_test"),
        ("dicom/scan_v1.2", "scan_v1.2"),
        ("dicom/1.2.840.113619/", "1.2.840.113619"),
        ("dicom/0001.dcm", "0001"),
        ("nii", "nii"),
    ],
)
def test_a_case_is_named_by_its_file_without_the_ending_of_an_image(path, name):
    assert case_name(path) == case_name(Path(path)) == name


def test_images_of_a_folder_are_sorted_and_hidden_files_left_out(tmp_path):
    for name in ("b.nii.gz", "a.nii.gz", "._a.nii.gz", "notes.txt"):
        (tmp_path / name).touch()
    assert image_datalist(tmp_path) == [{"image": str(tmp_path / name)} for name in ("a.nii.gz", "b.nii.gz")]
    assert image_datalist(tmp_path, "b*") == [{"image": str(tmp_path / "b.nii.gz")}]
    assert image_datalist(tmp_path, "*") == image_datalist(tmp_path, "*.nii.gz")
    assert image_datalist(tmp_path / "notes.txt") == [{"image": str(tmp_path / "notes.txt")}]


def test_all_that_can_be_read_is_taken_and_companions_are_said(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    volumes = ["a.nii", "b.nii.gz", "c.mgz", "d.img", "e.nrrd", "f.mha"]
    photographs = ["g.JPG", "h.tif", "i.png"]
    for name in (*volumes, "d.hdr", *photographs, "Thumbs.db", "README.txt", ".DS_Store"):
        (tmp_path / name).touch()
    for kind, names, left_out in (("volumes", volumes, 5), ("photographs", photographs, 9)):
        caplog.clear()
        assert [Path(item["image"]).name for item in image_datalist(tmp_path, kind=kind)] == names
        assert f"{left_out} files are left out, for they are no such images: README.txt, Thumbs.db" in caplog.text
        assert "d.hdr" not in caplog.text  # a part of d.img, or behind the five that are listed
    with pytest.raises(ValueError, match=r"kind='films' is not legal; give one of volumes, photographs"):
        image_datalist(tmp_path, kind="films")


def test_of_an_image_of_two_files_that_of_the_voxels_is_listed(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    images = ["a.nii.bz2", "b+orig.BRIK.gz", "c.REC", "d.img.gz", "e.mnc"]
    for name in (*images, "b+orig.HEAD", "c.PAR", "d.hdr", "motion.par"):
        (tmp_path / name).touch()
    assert [Path(item["image"]).name for item in image_datalist(tmp_path)] == images
    assert "1 files are left out, for they are no such images: motion.par" in caplog.text
    assert [case_name(name) for name in images] == ["a", "b+orig", "c", "d", "e"]


def test_folders_without_images_are_named(tmp_path):
    (tmp_path / "0001.dcm").touch()
    with pytest.raises(
        FileNotFoundError, match=r"(?s)No file in .* matches '\*' .*no such images: 0001\.dcm\. .*--dataset_dir"
    ):
        image_datalist(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist; give an image file or a folder"):
        image_datalist(tmp_path / "nowhere")


@pytest.mark.parametrize("names", [("case_0", "case_1"), ("a_b", "0001")])
def test_the_layouts_of_nnunet_are_read(tmp_path, names):
    for folder, ending in (("imagesTr", "_0000.nii.gz"), ("labelsTr", ".nii.gz")):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / f"{name}{ending}").touch()
    expected = [
        {
            "image": str(tmp_path / "imagesTr" / f"{name}_0000.nii.gz"),
            "label": str(tmp_path / "labelsTr" / f"{name}.nii.gz"),
        }
        for name in sorted(names)
    ]
    second = {"channel_names": {"0": "MRI"}, "labels": {"background": 0}, "numTraining": 2, "file_ending": ".nii.gz"}
    first = {"training": [{key: rf".\{key}sTr\{name}.nii.gz" for key in ("image", "label")} for name in names]}
    for manifest in (first, second):
        (tmp_path / "dataset.json").write_text(json.dumps(manifest), encoding="utf-8-sig")  # with a byte-order mark
        assert paired_cases(tmp_path, read_manifest(tmp_path, ADVICE)["training"], ADVICE) == expected
