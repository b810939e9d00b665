"""Laws of the data of one's own tasks: lists follow the split, contrasts are grouped by case, labels become classes."""

import json

import nibabel as nib
import numpy as np
import own_data
import pytest
import torch

from equivariant_nets.data import CaseNames, ClassesFromLabelsd, LoadVolumed, contrast_datalist, task_datalist


@pytest.fixture
def split(tmp_path):
    """A split of five cases of two contrasts, and its content, which a test may change before it is written."""
    folder = own_data.case_folders(tmp_path / "data")
    entries = [
        {
            "case": f"case_{k:03d}",
            "image": [f"case_{k:03d}/case_{k:03d}_{contrast}.nii.gz" for contrast in ("t1", "t2")],
            "label": f"case_{k:03d}/case_{k:03d}_seg.nii.gz",
        }
        for k in range(5)
    ]
    content = {"dataset_dir": str(folder), "training": entries[:3], "validation": entries[3:4], "test": entries[4:]}

    def write(**changes):
        path = tmp_path / "split.json"
        path.write_text(json.dumps(content | changes))
        return path

    return write


def test_a_section_is_what_the_split_says_wherever_the_data_lie(split, tmp_path):
    cases = task_datalist(split())
    assert [case["case"] for case in cases] == ["case_000", "case_001", "case_002"]
    assert LoadVolumed(("image", "label"))(cases[0])["image"].shape == (2, *own_data.SIZE)
    assert len(task_datalist(split(), train_cases=2)) == 2
    (tmp_path / "data").rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError, match=r"data does not exist. Say where it lies: --dataset_dir DIR"):
        task_datalist(split())
    moved = task_datalist(split(), "test", tmp_path / "moved")
    assert moved[0]["label"] == str(tmp_path / "moved" / "case_004" / "case_004_seg.nii.gz")


def test_a_split_that_does_not_fit_is_refused(split, tmp_path):
    (tmp_path / "data" / "case_001" / "case_001_t2.nii.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"incomplete, for .*split.json names more: 1 files(.|\n)*case_001_t2"):
        task_datalist(split())
    assert len(task_datalist(split(), "validation")) == 1  # which has all of its files
    with pytest.raises(FileNotFoundError, match=r"The split nowhere.json does not exist"):
        task_datalist("nowhere.json")
    with pytest.raises(ValueError, match=r"is no split \(TypeError.*zoo new"):
        task_datalist(split(training=["case_001"]))
    with pytest.raises(ValueError, match="section='all' is not one of"):
        task_datalist(split(), "all")


@pytest.mark.parametrize(("in_names", "contrasts"), [(True, ["_t2", "_t1"]), (False, ["t2", "t1"])])
def test_contrasts_are_grouped_in_their_order_and_named_by_the_case(tmp_path, in_names, contrasts):
    """Also with labels and previews beside them, and in another folder a file that holds both contrasts."""
    folder = own_data.case_folders(tmp_path / "data", number=3, in_names=in_names)
    items = contrast_datalist(folder, contrasts)
    assert [[path.rpartition(contrasts[0][-2:])[0] != "" for path in item["image"]] for item in items] == [
        [True, False],
    ] * 3
    loaded = LoadVolumed("image")(items[1])["image"]
    assert float((loaded[0] - 2 * loaded[1]).abs().max()) == 0  # t2 is twice t1
    assert CaseNames(contrasts)(loaded.meta) == {"subject": "case_001.nii.gz", "idx": None}
    first = nib.load(items[0]["image"][0])
    stack = nib.Nifti1Image(np.stack([first.get_fdata()] * 2, -1), first.affine)
    (tmp_path / "stacks").mkdir()
    stack.to_filename(tmp_path / "stacks" / "other.nii.gz")
    (item,) = contrast_datalist(tmp_path / "stacks", contrasts)
    alone = LoadVolumed("image")(item)["image"]
    assert alone.shape[0] == 2
    assert CaseNames(contrasts)(alone.meta)["subject"].endswith("other.nii.gz")


def test_incomplete_cases_and_two_of_one_name_are_told(tmp_path):
    folder = own_data.case_folders(tmp_path / "data", number=3)
    (folder / "case_001" / "case_001_t2.nii.gz").unlink()
    (folder / "again").mkdir()
    for contrast in ("t1", "t2"):
        source = folder / "case_002" / f"case_002_{contrast}.nii.gz"
        (folder / "again" / source.name).write_bytes(source.read_bytes())
    with pytest.raises(ValueError, match=r"2 problems(.|\n)*case_001: no file for _t2\n *case_002: 2 cases have this"):
        contrast_datalist(folder, ["_t1", "_t2"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        FileNotFoundError, match=r"holds no case. A case is the files CASE_t1.nii.gz, CASE_t2.nii.gz, or"
    ):
        contrast_datalist(tmp_path / "empty", ["_t1", "_t2"])


def test_labels_become_classes_or_are_refused():
    label = torch.tensor([0, 3, 7, 8, 3.0003]).reshape(1, 5, 1, 1)
    chosen = ClassesFromLabelsd("label", [[7], [3, 8]])({"label": label})["label"]
    assert chosen.flatten().tolist() == [0, 2, 1, 2, 2]
    rest = ClassesFromLabelsd("label", [[7]])({"label": label})["label"]
    assert rest.flatten().tolist() == [0, 0, 1, 0, 0]
    with pytest.raises(ValueError, match=r"the values 8 are of no class; legal are 0, 3, 7"):
        ClassesFromLabelsd("label", [[7], [3]], strict=True)({"label": label})
