"""What the values of a folder's labels mean is told, or the folder is refused: nothing is guessed."""

import json
import re
import shutil

import nibabel as nib
import numpy as np
import pytest
from fresh import run_module

from equivariant_nets.data import (
    UnifyTumorLabelsd,
    brain_tumor_datalist,
    check_brain_tumor,
    write_tumor_phantoms,
)
from equivariant_nets.data.brain_tumor import CONVENTIONS, brain_tumor_sections
from equivariant_nets.data.brain_tumor.conventions import folder_convention

BEFORE, AFTER, PED = "BraTS-GLI-00000-000", "BraTS-GLI-02060-100", "BraTS-PED-00001-000"
UP_TO_3, UP_TO_4 = (0, 1, 2, 3), (0, 1, 2, 3, 4)


def write_labels(folder, values):
    """A tiny label map of each case with these values; None is no image at all."""
    labels = {name: str(folder / f"{name}-seg.nii.gz") for name in values}
    for name, path in labels.items():
        if values[name] is None:
            (folder / f"{name}-seg.nii.gz").touch()
        else:
            nib.save(nib.Nifti1Image(np.array(values[name], np.uint8).reshape(-1, 1, 1), np.eye(4)), path)
    return labels


@pytest.mark.parametrize(
    ("values", "convention"),
    [
        ({"BRATS_001": UP_TO_3}, "msd"),
        ({"Brats17_TCIA_1_1": (0, 2)}, "brats2021"),
        ({"Brats18_CBICA_AAM_1": (0, 1, 2, 4), "BraTS20_Training_001": (0,), "BraTS2021_00006": None}, "brats2021"),
        ({BEFORE: (0, 1), "BraTS-MEN-00004-000": UP_TO_3, "BraTS-SSA-00002-000": UP_TO_3}, "brats2023"),
        ({"BraTS-MET-00002-000": UP_TO_3}, "brats2023"),
        ({"BraTS-MET-00002-000": UP_TO_3, "BraTS-MET-00003-000": (0, 4)}, "brats2024"),
        ({AFTER: UP_TO_3}, "brats2024"),
        ({"BraTS-GLI-00005-100": UP_TO_3}, "brats2023"),  # of either, which give these values the same classes
        ({"BraTS-GLI-00005-100": UP_TO_3, "BraTS-GLI-00006-101": (0, 4)}, "brats2024"),
        ({"BraTS-GLI-00005-100": UP_TO_3, AFTER: None}, "brats2024"),
        ({PED: UP_TO_3, "BraTS-PED-00002-000": (0, 4)}, "brats2024-ped"),
    ],
    ids=str,
)
def test_a_folder_is_told_by_its_names_and_where_they_do_not_do_by_its_values(tmp_path, values, convention):
    assert folder_convention(tmp_path, write_labels(tmp_path, values)) == convention


@pytest.mark.parametrize(
    ("values", "seen"),
    [
        ({"case1": UP_TO_3}, "case1 may be of any, by the name, and the labels hold 0, 1, 2, 3"),
        ({"case1": (0, 1, 2, 4)}, "the labels hold 0, 1, 2, 4"),
        ({"case1": UP_TO_4}, "the labels hold 0, 1, 2, 3, 4"),
        ({"case1": (0, 7)}, "the labels hold 0, 7"),
        ({"case1": None}, "the labels hold nothing that can be read"),
        ({PED: UP_TO_3}, f"{PED} may be brats2023 or brats2024-ped, and the labels hold 0, 1, 2, 3"),
        ({PED: (0,), "BraTS-PED-00002-000": None}, "the labels hold 0"),  # what cannot be read may hold anything
        ({BEFORE: UP_TO_3, AFTER: UP_TO_4}, f"mixes data sets: {BEFORE} may be brats2023; {AFTER} may be brats2024"),
        (
            {f"BraTS2021_{k}": (0,) for k in range(5)} | {"case": (0,)},
            "BraTS2021_2 and 2 more may be .*; case may be of any, by the name",
        ),
    ],
    ids=str,
)
def test_a_folder_that_cannot_be_told_is_refused_unless_its_user_tells(tmp_path, values, seen):
    labels = write_labels(tmp_path, values)
    with pytest.raises(ValueError, match=rf"cannot be told: .*{seen}\. .*--convention: msd \(.*; brats2024-ped \("):
        folder_convention(tmp_path, labels)
    assert {folder_convention(tmp_path, labels, given=name) for name in CONVENTIONS} == set(CONVENTIONS)
    with pytest.raises(ValueError, match=r"convention='brats' is unknown\. Legal are msd \("):
        folder_convention(tmp_path, labels, given="brats")


@pytest.mark.parametrize(
    ("labels", "convention"),
    [
        ({"0": "background", "1": "edema", "2": "non-enhancing tumor", "3": "enhancing tumour"}, "msd"),
        ({"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]}, "msd"),
        ({"background": 0, "NCR": 1, "ED": 2, "ET": 3}, "brats2023"),
        ({"background": 0, "whole tumor": [1, 2, 3], "tumor core": [1, 3], "enhancing tumor": 3}, "brats2023"),
        ({"background": 0, "NETC": 1, "SNFH": 2, "ET": 3, "RC": 4}, "brats2024"),
        ({"ET": 1, "NET": 2, "CC": 3, "ED": 4}, "brats2024-ped"),
        ({"edema": 2, "necrotic core": 1}, None),  # as of several
        ({"background": 0, "enhancing": 2}, None),
        ({"background": 0, "tumour": 1}, "brats2021"),  # which says nothing, so that the name counts
    ],
    ids=str,
)
def test_a_description_of_the_labels_counts_before_the_names(tmp_path, labels, convention):
    files = write_labels(tmp_path, {"BraTS2021_00006": (0, 1, 2)})
    if convention is None:
        with pytest.raises(ValueError, match=r"cannot be told: dataset\.json describes the labels as"):
            folder_convention(tmp_path, files, labels)
    else:
        assert folder_convention(tmp_path, files, labels) == convention


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    return write_tumor_phantoms(tmp_path_factory.mktemp("cases"), "brats2023", 3, (16, 16, 16))


def rename(folder, old, new):
    for path in sorted(folder.rglob(f"*{old}*"), reverse=True):
        path.rename(path.with_name(path.name.replace(old, new)))


def test_labels_that_do_not_fit_their_names_are_listed_before_anything_is_trained(cases, tmp_path):
    shutil.copytree(cases, tmp_path / "data")
    for k in range(3):
        rename(tmp_path / "data", f"BraTS-GLI-{k:05d}-000", f"BraTS2021_{k:05d}")
    with pytest.raises(
        ValueError, match=r"(?s)3 of 3 labels in .* brats2021 has not:.*00002-seg.nii.gz holds 3\n"
    ) as e:
        brain_tumor_datalist(tmp_path / "data", "test")
    assert "say it with --convention" in str(e.value)
    assert len(check_brain_tumor(tmp_path / "data")) == 3
    expected = brain_tumor_sections(cases)
    for section, part in brain_tumor_sections(tmp_path / "data", convention="brats2023").items():
        for item, same in zip(part, expected[section], strict=True):
            assert item["convention"] == same["convention"] == "brats2023"


def test_the_command_line_takes_a_convention_and_lists_what_is_wrong_beside_one_that_cannot_be_told(cases, tmp_path):
    shutil.copytree(cases, tmp_path / "data")
    rename(tmp_path / "data", "BraTS-GLI-0000", "case")
    command = ["equivariant_nets.data.brain_tumor", "--dataset_dir", "data"]
    result = run_module(*command, "--convention", "brats2023", cwd=tmp_path)
    assert result.stdout == "training: 1 cases\nvalidation: 1 cases\ntest: 1 cases\n", result.stderr
    (tmp_path / "data" / "case0-000" / "case0-000-t2w.nii.gz").write_text("text")
    first, second = check_brain_tumor(tmp_path / "data")
    assert "cannot be told: case0-000, case1-000, case2-000 may be of any" in first
    assert "t2w.nii.gz cannot be read" in second


def test_a_modality_that_lies_elsewhere_and_a_whole_head_are_listed(tmp_path):
    write_tumor_phantoms(tmp_path, "brats2023", 1, (32, 32, 32))
    case = tmp_path / "BraTS-GLI-00000-000"
    path = case / f"{case.name}-t1c.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.roll(np.asanyarray(image.dataobj), 4, 0), image.affine), path)
    (problem,) = check_brain_tumor(tmp_path)
    assert re.search(
        r"t1c\.nii\.gz: the brains of T1 with gadolinium and FLAIR overlap by a Dice of 0\.\d\d; legal", problem
    )
    for file in case.iterdir():  # voxels of 6 x 9 x 9 mm, of which the "brain" has more than 2.3 L
        image = nib.load(file)
        affine = image.affine @ np.diag([6, 9, 9, 1])
        nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), affine), file)
    assert sum("this is a whole head" in problem for problem in check_brain_tumor(tmp_path)) == 4
    assert len(check_brain_tumor(tmp_path, check_skull=False)) == 1


def test_a_task_of_the_decathlon_is_told_by_its_manifest_alone(tmp_path):
    folder = write_tumor_phantoms(tmp_path, "msd", 3, (16, 16, 16))
    rename(folder, "BRATS_00", "scan")
    manifest = json.loads((folder / "dataset.json").read_text().replace("BRATS_00", "scan"))
    (folder / "dataset.json").write_text(json.dumps(manifest))
    (item,) = brain_tumor_datalist(folder)
    assert item["convention"] == "msd"
    (folder / "dataset.json").write_text(json.dumps({**manifest, "labels": {}}))
    with pytest.raises(ValueError, match="scan3 may be of any, by the name"):
        brain_tumor_datalist(folder)


def test_every_convention_has_the_classes_of_the_package():
    for name, convention in CONVENTIONS.items():
        values = np.array(list(convention.classes), np.uint8).reshape(1, -1, 1, 1)
        unified = UnifyTumorLabelsd()({"label": values, "convention": name})["label"]
        assert set(unified.flatten().tolist()) == {0, 1, 2, 3}
