"""Brain tumours as users have them: every layout is found, and everything wrong is said, with the case or file."""

import gzip
import hashlib
import json
import re
import shutil
import tarfile

import nibabel as nib
import numpy as np
import pytest
from fresh import run_module
from monai.apps import DecathlonDataset

from equivariant_nets.data import (
    CheckVolumed,
    LabelToRegionsd,
    LoadVolumed,
    UnifyTumorLabelsd,
    brain_tumor_datalist,
    check_brain_tumor,
    download_brain_tumor,
    tumor_image_datalist,
    write_tumor_phantoms,
)
from equivariant_nets.data.brain_tumor.layouts import find_cases

SIZE = (16, 16, 16)
SECTIONS = ("training", "validation", "test")
PARTS = ("flair", "t1", "t1ce", "t2", "seg")


def write_empty_case(folder, name="BraTS20_Training_001", parts=PARTS, form="{}_{}.nii.gz"):
    """A case of empty files."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in parts:
        (folder / form.format(name, part)).touch()
    return folder


def names(files):
    return [file.rsplit("/", 1)[-1] for file in files]


@pytest.mark.parametrize(
    ("name", "parts", "form", "convention"),
    [
        ("BraTS20_Training_001", ("flair", "t1", "t1ce", "t2", "seg"), "{}_{}.nii", "brats2021"),
        ("BraTS2021_00000", ("flair", "t1", "t1ce", "t2", "seg"), "{}_{}.nii.gz", "brats2021"),
        ("BraTS-GLI-00000-000", ("t2f", "t1n", "t1c", "t2w", "seg"), "{}-{}.nii.gz", "brats2023"),
        ("brats18_1", ("FLAIR", "T1w", "T1Gd", "T2w", "Seg"), "{}_{}.NII.GZ", "brats2021"),
    ],
)
@pytest.mark.parametrize("inside", [".", "own", "some/where/own"])
def test_every_spelling_is_found_at_any_depth_in_the_order_of_the_channels(
    tmp_path, name, parts, form, convention, inside
):
    write_empty_case(tmp_path / inside, name, parts, form)
    (tmp_path / inside / f"._{form.format(name, parts[0])}").touch()
    (tmp_path / inside / "notes.txt").touch()
    (case,), problems = find_cases(tmp_path)
    assert problems == []
    assert names(case.image) == [form.format(name, part) for part in parts[:4]]
    assert names([case.label]) == [form.format(name, parts[4])]
    assert (case.name, case.convention) == (name, convention)


def test_time_points_of_one_patient_are_told_from_patients(tmp_path):
    for name in ("BraTS-GLI-00001-000", "BraTS-GLI-00001-001", "BraTS-MET-00002-000", "BraTS2021_00003"):
        write_empty_case(tmp_path / name, name)
    cases, _ = find_cases(tmp_path)
    patients = ["BraTS-GLI-00001", "BraTS-GLI-00001", "BraTS-MET-00002", "BraTS2021_00003"]
    assert [case.patient for case in cases] == patients


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda folder: (folder / "BraTS20_Training_001_t1ce.nii.gz").unlink(),
            r"BraTS20_Training_001: no T1 with gadolinium found; looked for BraTS20_Training_001_t1ce\.nii\.gz, "
            r"BraTS20_Training_001_t1c\.nii\.gz, BraTS20_Training_001_t1gd",
        ),
        (
            lambda folder: (folder / "BraTS20_Training_001_t2w.nii").touch(),
            r"BraTS20_Training_001: 2 files for T2: own/BraTS20_Training_001_t2\.nii\.gz, own/.*_t2w\.nii\. Keep one",
        ),
        (
            lambda folder: (folder / "BraTS20_Training_001_seg.nii").touch(),
            r"BraTS20_Training_001: 2 files for label",
        ),
        (
            lambda folder: (folder / "BraTS20_Training_001_seg.nii.gz").rename(folder / "W39_1998.09.19_Segm.nii"),
            r"BraTS20_Training_001: no label found; looked for .*_seg\.nii\.gz.*W39_1998\.09\.19_Segm\.nii; rename",
        ),
        (lambda folder: shutil.copytree(folder, folder.parent / "copy"), r"2 files for FLAIR: copy/.*, own/"),
    ],
    ids=["missing modality", "two of a modality", "two labels", "odd name of a label", "copy of a case"],
)
def test_incomplete_and_doubtful_cases_are_refused(tmp_path, change, message):
    change(write_empty_case(tmp_path / "own"))
    with pytest.raises(ValueError, match=rf"(?s)\d problems:.*{message}.*List all.*python -m equivariant_nets"):
        brain_tumor_datalist(tmp_path)
    assert any(re.search(message, problem) for problem in check_brain_tumor(tmp_path))


def test_predictions_beside_the_images_are_no_labels(tmp_path):
    write_empty_case(tmp_path)
    before = find_cases(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "BraTS20_Training_001_flair_seg.nii.gz").touch()
    assert find_cases(tmp_path) == before


def test_a_label_without_images_is_one_problem(tmp_path):
    write_empty_case(tmp_path, "case", ("seg",))
    assert find_cases(tmp_path) == ([], ["case: the label case_seg.nii.gz has no image beside it."])
    with pytest.raises(FileNotFoundError, match="holds no NIfTI image"):
        tumor_image_datalist(tmp_path)


def test_the_first_ten_problems_and_their_number_are_given(tmp_path):
    for k in range(12):
        write_empty_case(tmp_path, f"case{k:02d}", PARTS[1:])
    with pytest.raises(ValueError, match=r"has 12 problems:") as error:
        brain_tumor_datalist(tmp_path)
    message = str(error.value)
    assert "case09: no FLAIR" in message
    assert "case10" not in message
    assert "... and 2 more" in message
    assert len(check_brain_tumor(tmp_path)) == 12


def test_folders_without_data_say_what_to_do(tmp_path):
    (tmp_path / "text.nii.gz").write_text("text")
    for folder, message in (
        (tmp_path / "nowhere", r"nowhere does not exist"),
        (tmp_path, r"holds no dataset\.json and no file named as in BraTS"),
        (tmp_path / "text.nii.gz", r"text\.nii\.gz is a file, not the folder of a data set"),
    ):
        with pytest.raises(FileNotFoundError, match=rf"(?s){message}.*--download"):
            brain_tumor_datalist(folder)
        (problem,) = check_brain_tumor(folder)
        assert re.search(message, problem)


# The Decathlon.


def write_task(folder, count, **manifest):
    """Task01 of empty files."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
        for k in range(count):
            (folder / part / f"BRATS_{k:03d}.nii.gz").touch()
    pairs = [
        {"image": f"./imagesTr/BRATS_{k:03d}.nii.gz", "label": f"./labelsTr/BRATS_{k:03d}.nii.gz"} for k in range(count)
    ]
    (folder / "dataset.json").write_text(json.dumps({"training": pairs, **manifest}))
    return folder


def test_the_manifest_says_which_cases_there_are(tmp_path):
    folder = write_task(tmp_path / "data", 20)
    (folder / "imagesTr" / "BRATS_999.nii.gz").touch()
    items = [item for section in SECTIONS for item in brain_tumor_datalist(folder, section)]
    assert sorted(item["case"] for item in items) == [f"BRATS_{k:03d}" for k in range(20)]
    assert {item["convention"] for item in items} == {"msd"}
    assert all(item["image"] == str(folder / "imagesTr" / f"{item['case']}.nii.gz") for item in items)
    subset = brain_tumor_datalist(folder, train_cases=8)
    assert subset[:4] == brain_tumor_datalist(folder, train_cases=4)


def test_every_missing_file_of_the_decathlon_is_a_problem(tmp_path):
    folder = write_task(tmp_path / "data", 5)
    (folder / "imagesTr" / "BRATS_001.nii.gz").unlink()
    (folder / "labelsTr" / "BRATS_003.nii.gz").unlink()
    _, problems = find_cases(folder)
    assert ["imagesTr/BRATS_001" in problems[0], "labelsTr/BRATS_003" in problems[1]] == [True, True]
    with pytest.raises(ValueError, match="has 2 problems"):
        brain_tumor_datalist(folder)


def test_another_task_is_told_by_its_channels(tmp_path):
    folder = write_task(tmp_path / "data", 3, modality={"0": "MRI"})
    with pytest.raises(
        ValueError, match=r"dataset\.json names the channels MRI, nothing.*legal are FLAIR, T1, T1 with"
    ):
        brain_tumor_datalist(folder)
    named = {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}
    assert brain_tumor_datalist(write_task(tmp_path / "ours", 3, modality=named))


def test_a_task_without_labelled_cases_is_refused(tmp_path):
    with pytest.raises(ValueError, match="names no labelled cases"):
        brain_tumor_datalist(write_task(tmp_path / "data", 0))


def test_the_split_file_is_written_and_followed(tmp_path):
    folder, split_file = write_task(tmp_path / "data", 6), tmp_path / "split.json"
    before = [brain_tumor_datalist(folder, section, split_file=split_file) for section in SECTIONS]
    assert [item["case"] for item in before[2]] == json.loads(split_file.read_text())["test"]
    assert before == [brain_tumor_datalist(folder, section, split_file=split_file) for section in SECTIONS]
    with pytest.raises(ValueError, match="does not name 1 cases"):
        brain_tumor_datalist(write_task(tmp_path / "more", 7), split_file=split_file)


def test_a_download_gives_a_complete_copy_once(tmp_path, monkeypatch):
    task = write_task(tmp_path / "source" / "Task01_BrainTumour", 4)
    (task / "imagesTr" / "._BRATS_000.nii.gz").touch()
    archive = tmp_path / "Task01_BrainTumour.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(task, "Task01_BrainTumour")
    monkeypatch.setitem(DecathlonDataset.resource, "Task01_BrainTumour", archive.as_uri())
    monkeypatch.setitem(DecathlonDataset.md5, "Task01_BrainTumour", hashlib.md5(archive.read_bytes()).hexdigest())
    folder = download_brain_tumor(tmp_path / "data")
    assert len(brain_tumor_datalist(folder)) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["dataset.json", "imagesTr", "labelsTr"]
    assert not list(folder.rglob("._*"))
    archive.unlink()
    assert download_brain_tumor(folder) == folder


# Images without labels.


def save(path, array, affine=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def noise(size=SIZE, seed=0):
    return np.random.RandomState(seed).normal(size=size).astype(np.float32)


def test_images_are_found_without_a_manifest(tmp_path):
    paths = [save(tmp_path / "imagesTs" / f"BRATS_{k}.nii.gz", noise((4, 4, 4, 4))) for k in (485, 486)]
    save(tmp_path / "labelsTs" / "BRATS_485.nii.gz", noise((4, 4, 4)))
    save(tmp_path / "BRATS_485_seg.nii.gz", noise((4, 4, 4)))
    expected = [{"image": str(path), "case": path.name.removesuffix(".nii.gz")} for path in paths]
    assert tumor_image_datalist(tmp_path) == tumor_image_datalist(tmp_path / "imagesTs") == expected
    assert tumor_image_datalist(paths[0]) == expected[:1]


def test_a_case_of_brats_needs_no_label(tmp_path):
    folder = write_empty_case(tmp_path / "own", parts=PARTS[:4])
    (item,) = tumor_image_datalist(folder)
    assert item["case"] == "BraTS20_Training_001"
    assert len(item["image"]) == 4
    assert tumor_image_datalist(tmp_path) == [item]


def test_images_that_are_incomplete_are_named(tmp_path):
    write_empty_case(tmp_path / "brats", parts=("flair", "t1", "t2"))
    with pytest.raises(ValueError, match="BraTS20_Training_001: no T1 with gadolinium found"):
        tumor_image_datalist(tmp_path / "brats")
    path = save(tmp_path / "one" / "scan.nii.gz", noise())
    with pytest.raises(ValueError, match=r"scan\.nii\.gz is of shape \(16, 16, 16\); legal are images of 4 channels"):
        tumor_image_datalist(path.parent)
    path = save(tmp_path / "part" / "case_t1.nii.gz", noise())
    with pytest.raises(ValueError, match="by its name the T1 of a BraTS case: give the folder"):
        tumor_image_datalist(path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no NIfTI image"):
        tumor_image_datalist(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        tumor_image_datalist(tmp_path / "nowhere")


# What is wrong inside the files.


@pytest.fixture(scope="module", params=["msd", "brats2021"])
def sound(request, tmp_path_factory):
    return write_tumor_phantoms(tmp_path_factory.mktemp(request.param), request.param, 3, SIZE)


@pytest.fixture
def folder(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "data")


def image_file(folder):
    """The second modality of the second case, or its one file."""
    path = folder / "imagesTr" / "BRATS_002.nii.gz"
    return path if path.exists() else folder / "BraTS2021_00001" / "BraTS2021_00001_t1.nii.gz"


def label_file(folder):
    path = folder / "labelsTr" / "BRATS_003.nii.gz"
    return path if path.exists() else folder / "BraTS2021_00002" / "BraTS2021_00002_seg.nii.gz"


def change(path, function, affine=None):
    volume = nib.load(path)
    array = function(np.asanyarray(volume.dataobj).astype(np.float32))
    save(path, array, volume.affine if affine is None else affine)


def with_nan(array):
    array[(1,) * array.ndim] = np.nan
    return array


def shifted(path):
    affine = nib.load(path).affine.copy()
    affine[0, 3] += 2
    change(path, lambda array: array, affine)


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


IMAGE_FAULTS = {
    "truncated": (truncated, "cannot be read"),
    "text": (lambda path: path.write_text("text"), "cannot be read"),
    "compressed text": (lambda path: path.write_bytes(gzip.compress(b"text")), "cannot be read"),
    "NaN": (lambda path: change(path, with_nan), "1 of 4096 voxels are NaN"),
    "infinite": (lambda path: change(path, lambda a: np.where(a == a.max(), np.inf, a)), "are NaN or infinite"),
    "constant": (lambda path: change(path, np.zeros_like), "all voxels of channel 0 are 0"),
    "channels": (
        lambda path: change(path, lambda a: np.stack([a, a], -1)[..., :3, :]),
        "number of channels is|shape is",
    ),
}
LABEL_FAULTS = {
    "truncated": (truncated, "cannot be read"),
    "shape": (lambda path: change(path, lambda a: a[:-1]), r"spatial shape is \(15, 16, 16\); legal is \(16, 16, 16\)"),
    "affine": (shifted, "affine differs .* by up to 2 mm"),
    "values": (lambda path: change(path, lambda a: a + 4), "label values .* are not legal"),
    "fractions": (lambda path: change(path, lambda a: a / 4), "label values .* are not legal"),
    "channels": (lambda path: change(path, lambda a: np.stack([a, a], -1)), r"shape is \(2, 16, 16, 16\)"),
}


@pytest.mark.parametrize("fault", IMAGE_FAULTS)
def test_bad_images_are_named(folder, fault):
    spoil, message = IMAGE_FAULTS[fault]
    spoil(image_file(folder))
    problems = check_brain_tumor(folder)
    assert any(re.search(rf"{image_file(folder)}.*({message})", problem) for problem in problems)
    assert all(image_file(folder).name in problem for problem in problems)


@pytest.mark.parametrize("fault", LABEL_FAULTS)
def test_bad_labels_are_named(folder, fault):
    spoil, message = LABEL_FAULTS[fault]
    spoil(label_file(folder))
    (problem,) = check_brain_tumor(folder)
    assert re.search(rf"{label_file(folder)}.*{message}", problem)


def test_problems_of_all_kinds_are_listed_at_once(folder):
    change(image_file(folder), with_nan)
    change(label_file(folder), lambda array: array[:-1] + 4)
    first = folder / "labelsTr" / "BRATS_001.nii.gz"
    first = first if first.exists() else folder / "BraTS2021_00000" / "BraTS2021_00000_seg.nii.gz"
    first.unlink()
    text = "\n".join(check_brain_tumor(folder))
    for part in (image_file(folder).name, "NaN", "are not legal", "spatial shape is (15, 16, 16)", first.name):
        assert part in text
    assert len(check_brain_tumor(folder)) == 4


def test_a_label_without_tumour_is_no_problem_but_is_logged(folder, caplog):
    change(label_file(folder), np.zeros_like)
    assert check_brain_tumor(folder) == []
    assert f"{label_file(folder)} holds no tumour" in caplog.text


def test_a_bad_file_among_four_is_named_when_the_case_is_loaded(tmp_path):
    case = write_tumor_phantoms(tmp_path, "brats2021", 1, SIZE) / "BraTS2021_00000"
    (item,) = tumor_image_datalist(case)
    bad = item["image"][2]
    check = CheckVolumed("image", num_channels=4)
    change(case / bad, with_nan)
    with pytest.raises(ValueError, match=rf"image {bad}: 1 of 4096 voxels are NaN or infinite in channel 2"):
        check(LoadVolumed("image")(item))
    change(case / bad, np.zeros_like)
    with pytest.raises(ValueError, match=rf"image {bad}: all voxels of channel 2 are 0"):
        check(LoadVolumed("image")(item))


def test_the_command_line_counts_cases_or_lists_problems(folder):
    def run(*options):
        command = ["equivariant_nets.data.brain_tumor", "--dataset_dir", folder, *options]
        return run_module(*command, cwd=folder.parent)

    split_file = folder.parent / "split.json"
    if (folder / "dataset.json").exists():
        result = run("--split_file", split_file)
        assert result.returncode == 0, result.stderr
        assert result.stdout == "training: 1 cases\nvalidation: 1 cases\ntest: 1 cases\n"
        assert split_file.exists()
    else:
        truncated(image_file(folder))
        result = run()
        assert result.returncode == 1
        assert image_file(folder).name in result.stderr
        assert "error: 1 problems in" in result.stderr


def test_the_real_case_is_found_sound_and_nested(real_brain_tumor):
    (case, *_), problems = find_cases(real_brain_tumor)
    assert problems == []
    assert check_brain_tumor(real_brain_tumor) == []
    item = next(item for item in brain_tumor_datalist(real_brain_tumor) if item["case"] == case.name)
    data = UnifyTumorLabelsd()(LoadVolumed(("image", "label"))(item))
    CheckVolumed("image", "label", num_channels=4, num_classes=4)(data)
    assert data["image"].shape == (4, 240, 240, 155)
    enhancing, core, whole = LabelToRegionsd("label", ("ET", "TC", "WT"))(data)["label"]
    assert 0 < enhancing.sum() < core.sum() < whole.sum()
    assert (enhancing <= core).all()
    assert (core <= whole).all()
