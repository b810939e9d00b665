"""Laws of finding cases: the layout of a folder does not matter, and what is wrong is said for every case at once."""

import shutil

import own_data
import pytest

from equivariant_nets.authoring.cases import find_cases

LAYOUTS = {
    "decathlon": (own_data.decathlon, {}, {}),
    "nnunet": (own_data.nnunet, {}, {}),
    "nnunet of one channel": (own_data.nnunet, {"channels": 1}, {}),
    "usual names": (own_data.two_folders, {}, {}),
    "names alike": (own_data.two_folders, {"image_end": "", "label_end": ""}, {}),
    "other names": (own_data.two_folders, {"images": "a", "labels": "b"}, {"images": "a", "labels": "b"}),
    "case folders": (own_data.case_folders, {}, {}),
    "case folders, short names": (own_data.case_folders, {"in_names": False}, {}),
    "one folder": (own_data.one_folder, {}, {}),
}


@pytest.fixture
def folder(tmp_path, request):
    writer, options, _ = LAYOUTS[request.param]
    return writer(tmp_path / "data", **options)


@pytest.mark.parametrize(("folder", "layout"), [(name, name) for name in LAYOUTS], indirect=["folder"])
def test_every_layout_has_its_cases(folder, layout):
    """Five cases, the images of each beside its label, whatever is called how; what is hidden is no case."""
    (folder / ".DS_Store").write_bytes(b"")
    found = find_cases(folder, **LAYOUTS[layout][2])
    channels = 2 if layout in ("nnunet", "case folders", "case folders, short names") else 1
    assert found.problems == []
    assert len(found.cases) == 5
    for number, case in enumerate(found.cases):
        paths = [path.relative_to(folder).as_posix() for path in (*case.images, case.label)]
        assert len(case.images) == channels
        assert all(f"{number:03d}" in path for path in paths)
        assert not {*case.images} & {case.label}
    assert len(found.contrasts) == channels
    assert len({*found.contrasts}) == channels


def test_numbers_in_names_are_not_cut(tmp_path):
    """1, 11 and 21 end alike, and case1 begins as case11 does."""
    for number in (1, 11, 21):
        image, label, affine = own_data.volume(number)
        own_data.save(tmp_path / "images" / f"case{number}.nii.gz", image, affine)
        own_data.save(tmp_path / "labels" / f"case{number}.nii.gz", label, affine)
        own_data.save(tmp_path / "flat" / f"case{number}_t1.nii.gz", image, affine)
        own_data.save(tmp_path / "flat" / f"case{number}_seg.nii.gz", label, affine)
    for found in (find_cases(tmp_path), find_cases(tmp_path / "flat")):
        assert found.problems == []
        for case in found.cases:
            assert [path.name.partition("_")[0].partition(".")[0] for path in (*case.images, case.label)] == [
                case.label.name.partition("_")[0].partition(".")[0]
            ] * 2


@pytest.mark.parametrize(
    ("folder", "removed", "said"),
    [
        ("decathlon", "labelsTr/case_001.nii.gz", "labelsTr/case_001.nii.gz is not there"),
        ("nnunet", "imagesTr/case_001_0001.nii.gz", "case_001: case_001_0001 is not there"),
        ("usual names", "labels/case_001_mask.nii.gz", "case_001_t1.nii.gz: has no label"),
        ("usual names", "images/case_001_t1.nii.gz", "case_001_mask.nii.gz: has no image"),
        ("case folders", "case_001/case_001_seg.nii.gz", "case_001: has no label"),
        ("case folders", "case_001/case_001_t2.nii.gz", "case_001: case_001_t2 is not there, which other cases have"),
        ("one folder", "case_001_label.nii.gz", "case_001_t1.nii.gz: has no label beside it"),
        ("one folder", "case_001_t1.nii.gz", "case_001: has a label and no image"),
    ],
    indirect=["folder"],
)
def test_what_is_missing_is_said_and_the_others_are_found(folder, removed, said):
    if removed.startswith("imagesTr/case_001_0001"):  # a list in dataset.json names it, labels without a list do not
        (folder / "dataset.json").unlink()
    (folder / removed).unlink()
    found = find_cases(folder)
    assert len(found.cases) == 4
    assert len(found.problems) == 1
    assert said in found.problems[0]


def test_a_folder_that_is_no_data_set_is_refused_with_what_is_legal(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"does not exist. Legal is a folder with dataset.json"):
        find_cases(tmp_path / "nowhere")
    (tmp_path / "things").mkdir()
    with pytest.raises(FileNotFoundError, match=r"It has the folders things.*give --images and --labels"):
        find_cases(tmp_path)
    with pytest.raises(ValueError, match="give both, or neither"):
        find_cases(tmp_path, images="things")
    with pytest.raises(FileNotFoundError, match=r"--labels others: .* has no such folder. It has the folders things"):
        find_cases(tmp_path, images="things", labels="others")
    shutil.rmtree(tmp_path / "things")
    (tmp_path / "dataset.json").write_text('{"training": []}')
    with pytest.raises(ValueError, match="names no labelled cases"):
        find_cases(tmp_path)
