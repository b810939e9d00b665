"""The hippocampus data: a fixed split of what dataset.json names, and a download that is checked."""

import hashlib
import json
import tarfile

import nibabel as nib
import numpy as np
import pytest
from monai.apps import DecathlonDataset
from monai.apps.utils import HashCheckError

from equivariant_nets.data import download_hippocampus, hippocampus_datalist
from equivariant_nets.data.hippocampus import check_hippocampus
from equivariant_nets.data.hippocampus.__main__ import main

SECTIONS = ("training", "validation", "test")


def write_task(folder, count):
    """A task of empty files."""
    names = [f"hippocampus_{k:03d}.nii.gz" for k in range(count)]
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
        for name in names:
            (folder / part / name).touch()
    entries = [{"image": f"./imagesTr/{n}", "label": f"./labelsTr/{n}"} for n in reversed(names)]
    (folder / "dataset.json").write_text(json.dumps({"training": entries}))
    return folder


def numbers(folder, section, **options):
    return [int(case["image"][-10:-7]) for case in hippocampus_datalist(folder, section, **options)]


def test_the_split_goes_by_the_order_of_the_names(tmp_path):
    folder = write_task(tmp_path, 40)
    test = list(range(4, 40, 5))
    rest = [k for k in range(40) if k not in test]
    assert numbers(folder, "test") == test
    assert numbers(folder, "validation") == rest[7::8]
    assert numbers(folder, "training") == [k for k in rest if k not in rest[7::8]]


def test_smaller_training_sets_are_part_of_larger_ones(tmp_path):
    folder = write_task(tmp_path, 20)
    assert numbers(folder, "training", train_cases=8)[:3] == numbers(folder, "training", train_cases=3)


def test_a_missing_copy_says_how_to_download(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"does not exist.*--dataset_dir .*nowhere --download"):
        hippocampus_datalist(tmp_path / "nowhere")


@pytest.fixture
def server(tmp_path, monkeypatch):
    """An archive of the task at an address without a network, with a hidden file as the true one has."""
    task = write_task(tmp_path / "source" / "Task04_Hippocampus", 10)
    (task / "imagesTr" / "._hippocampus_000.nii.gz").touch()
    archive = tmp_path / "Task04_Hippocampus.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(task, "Task04_Hippocampus")
    monkeypatch.setitem(DecathlonDataset.resource, "Task04_Hippocampus", archive.as_uri())
    digest = hashlib.md5(archive.read_bytes()).hexdigest()
    monkeypatch.setitem(DecathlonDataset.md5, "Task04_Hippocampus", digest)
    return archive


def test_download_gives_a_complete_copy_and_nothing_hidden(server, tmp_path):
    folder = download_hippocampus(tmp_path / "data")
    assert [len(hippocampus_datalist(folder, section)) for section in SECTIONS] == [7, 1, 2]
    assert sorted(path.name for path in folder.iterdir()) == ["dataset.json", "imagesTr", "labelsTr"]
    assert not list(folder.rglob("._*"))


def test_a_complete_copy_is_not_downloaded_again(server, tmp_path):
    folder = write_task(tmp_path / "data", 20)
    server.unlink()
    download_hippocampus(folder)
    assert len(hippocampus_datalist(folder)) == 14


def test_a_wrong_checksum_is_an_error_and_leaves_no_data(server, tmp_path, monkeypatch):
    monkeypatch.setitem(DecathlonDataset.md5, "Task04_Hippocampus", "0" * 32)
    with pytest.raises(HashCheckError, match="md5 hash check of downloaded file failed"):
        download_hippocampus(tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())


def save(path, array, affine=None):
    nib.save(nib.Nifti1Image(array.astype(np.float32), np.eye(4) if affine is None else affine), path)


@pytest.fixture
def sound(tmp_path):
    """A task of ten small cases."""
    folder = write_task(tmp_path / "sound", 10)
    image = np.random.RandomState(0).rand(6, 5, 4)
    for part, array in (("imagesTr", image), ("labelsTr", (3 * image).astype(int))):
        for path in (folder / part).iterdir():
            save(path, array)
    return folder


def test_the_command_line_counts_the_cases_of_sound_data(sound):
    assert check_hippocampus(sound) == []
    assert main(sound) == "training: 7 cases\nvalidation: 1 cases\ntest: 2 cases"


def test_every_problem_of_every_file_is_listed_at_once(sound):
    def path(part, index):
        return sound / part / f"hippocampus_{index:03d}.nii.gz"

    ones = np.ones((6, 5, 4))
    path("labelsTr", 0).unlink()
    path("imagesTr", 1).write_bytes(path("imagesTr", 1).read_bytes()[:100])
    save(path("imagesTr", 2), 7 * ones)
    save(path("labelsTr", 3), ones[1:])
    save(path("labelsTr", 4), ones, np.diag([2, 2, 2, 1]))
    save(path("labelsTr", 5), 3 * ones)
    save(path("labelsTr", 6), 0.5 * ones)
    save(path("imagesTr", 7), np.nan * ones)
    path("labelsTr", 7).write_bytes(b"no image")
    manifest = json.loads((sound / "dataset.json").read_text())
    manifest["training"].append({"image": "./imagesTr/a.nii.gz"})
    (sound / "dataset.json").write_text(json.dumps(manifest))

    problems = check_hippocampus(sound)
    expected = [
        ("", "holds the entry {'image': './imagesTr/a.nii.gz'}; a labelled case is"),
        ("hippocampus_000", "labelsTr/hippocampus_000.nii.gz does not exist"),
        ("hippocampus_001", "imagesTr/hippocampus_001.nii.gz cannot be read"),
        ("hippocampus_002", "all voxels of channel 0 are 7"),
        ("hippocampus_003", "the spatial shape is (5, 5, 4)"),
        ("hippocampus_004", "the affine differs from that of"),
        ("hippocampus_005", "the label values 3 are not legal; legal are whole numbers from 0 to 2"),
        ("hippocampus_006", "the label values 0.5 are not legal"),
        ("hippocampus_007", "120 of 120 voxels are NaN or infinite"),
        ("hippocampus_007", "labelsTr/hippocampus_007.nii.gz cannot be read"),
    ]
    assert len(problems) == len(expected)
    for problem, (case, message) in zip(problems, expected, strict=True):
        assert problem.startswith(f"{case}: " if case else str(sound))
        assert message in problem
    with pytest.raises(
        SystemExit, match=rf"(?s)hippocampus_000.*hippocampus_007.*error: 10 problems in {sound}"
    ) as end:
        main(sound)
    assert end.value.code != 0


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "holds no dataset.json"), ("{", "is not valid JSON"), ('{"training": []}', "names no labelled cases")],
)
def test_the_command_line_says_how_to_get_data_that_is_not_there(tmp_path, content, message):
    if content is not None:
        (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(SystemExit, match=rf"(?s){message}.*--download.*error: 1 problems in {tmp_path}"):
        main(tmp_path)
    with pytest.raises(SystemExit, match=r"(?s)nowhere does not exist.*--download.*error: 1 problems"):
        main(tmp_path / "nowhere")


def test_the_real_data_is_split_and_sound(real_hippocampus):
    sections = {section: hippocampus_datalist(real_hippocampus, section) for section in SECTIONS}
    images = [case["image"] for cases in sections.values() for case in cases]
    total = len(images)
    assert len(set(images)) == total
    assert [len(cases) for cases in sections.values()] == [round(0.7 * total), round(0.1 * total), round(0.2 * total)]
    assert check_hippocampus(real_hippocampus) == []


def test_all_crops_show_the_hippocampus_of_one_side(real_hippocampus):
    """As the cards of the bundles say: each label lies nearer to the mean of all than to its mirror image."""
    centre, labels = np.array([32, 40, 32]), []
    for path in sorted((real_hippocampus / "labelsTr").glob("*.nii.gz")):
        voxels = np.argwhere(np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj) > 0)
        labels.append(np.zeros(2 * centre + 1, bool))
        labels[-1][tuple((voxels - voxels.mean(0).round().astype(int) + centre).T)] = True
    mean = np.mean(labels, axis=0)
    assert len(labels) >= 100
    assert all(mean[label].sum() > mean[::-1][label].sum() for label in labels)
