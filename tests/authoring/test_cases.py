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
    with pytest.raises(FileNotFoundError, match=r"--labels others: .* has no such folder. It has the folders things"):
        find_cases(tmp_path, images="things", labels="others")
    shutil.rmtree(tmp_path / "things")
    (tmp_path / "dataset.json").write_text('{"training": []}')
    with pytest.raises(ValueError, match="names no labelled cases"):
        find_cases(tmp_path)


def test_names_match_in_any_case_and_with_or_without_zeros(tmp_path):
    for number in (1, 2, 10):
        image, label, affine = own_data.volume(number)
        own_data.save(tmp_path / "Images" / f"Scan-{number}_Image.nii.gz", image, affine)
        own_data.save(tmp_path / "Labels" / f"scan-{number:03d}_label.nii.gz", label, affine)
    found = find_cases(tmp_path)
    assert found.problems == []
    assert [int(case.label.name[5:8]) for case in found.cases] == [
        int(case.images[0].name.removeprefix("Scan-").partition("_")[0]) for case in found.cases
    ]
    assert len(found.cases) == 3


def test_which_folder_holds_the_labels_is_asked_where_several_may(tmp_path):
    """Masks of the field of view lie beside the labels in sets of photographs."""
    own_data.pictures(tmp_path)
    (tmp_path / "photos").rename(tmp_path / "images")
    (tmp_path / "masks").rename(tmp_path / "1st_manual")
    assert len(find_cases(tmp_path).cases) == 5  # the only one
    shutil.copytree(tmp_path / "1st_manual", tmp_path / "mask")
    with pytest.raises(ValueError, match=r"1st_manual, mask hold files that match .* Say it: --images images --labels"):
        find_cases(tmp_path)
    assert find_cases(tmp_path, labels="1st_manual").cases[0].label.parent.name == "1st_manual"
    shutil.copytree(tmp_path / "1st_manual", tmp_path / "labels")
    assert find_cases(tmp_path).cases[0].label.parent.name == "labels"


def test_bids_is_understood(tmp_path):
    for subject in (1, 2, 3):
        for session in (1, 2):
            image, label, affine = own_data.volume(subject)
            start = tmp_path / f"sub-{subject:02d}" / f"ses-{session}" / "anat" / f"sub-{subject:02d}_ses-{session}"
            own_data.save(start.with_name(f"{start.name}_T1w.nii.gz"), image, affine)
            own_data.save(start.with_name(f"{start.name}_FLAIR.nii.gz"), image, affine)
            own_data.save(start.with_name(f"{start.name}_desc-lesion_mask.nii.gz"), label, affine)
    found = find_cases(tmp_path)
    assert found.problems == []
    assert [case.name for case in found.cases] == [f"sub-0{k}_ses-{j}" for k in (1, 2, 3) for j in (1, 2)]
    assert found.contrasts == ("_FLAIR", "_T1w")


def test_two_files_for_one_thing_are_told(tmp_path):
    folder = own_data.case_folders(tmp_path / "cases", contrasts=("ct",), in_names=False)
    for k in range(5):
        (folder / f"case_{k:03d}" / "seg.nii.gz").rename(folder / f"case_{k:03d}" / "liver_mask.nii.gz")
    assert find_cases(folder).problems == []
    shutil.copy(folder / "case_001" / "liver_mask.nii.gz", folder / "case_001" / "tumour_mask.nii.gz")
    (problem,) = find_cases(folder).problems
    assert problem.startswith("case_001: has 2 label files, liver_mask.nii.gz, tumour_mask.nii.gz. Make one of them")
    pairs = own_data.two_folders(tmp_path / "pairs")
    (pairs / "images" / "case_001_t1.nii").write_bytes(b"")
    (problem,) = find_cases(pairs).problems
    assert "case_001_t1.nii, case_001_t1.nii.gz in images are images of one name" in problem


def test_regions_are_told_from_classes(tmp_path):
    folder = own_data.decathlon(tmp_path)
    text = (folder / "dataset.json").read_text()
    labels = '{"background": 0, "whole": [1, 2], "outer": 2}'
    (folder / "dataset.json").write_text(
        text[: text.index('{"0": "background"')] + labels + text[text.index(', "training"') :]
    )
    assert find_cases(folder).regions == ("whole",)
