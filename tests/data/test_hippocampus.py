"""The hippocampus data: a fixed split of what dataset.json names, and a download that is checked."""

import hashlib
import itertools
import json
import tarfile

import pytest
from monai.apps import DecathlonDataset
from monai.apps.utils import HashCheckError

from equivariant_nets.data import CheckVolumed, LoadVolumed, download_hippocampus, hippocampus_datalist
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


def test_the_command_line_counts_cases_and_reports_errors(tmp_path):
    assert main(write_task(tmp_path / "data", 40)) == "training: 28 cases\nvalidation: 4 cases\ntest: 8 cases"
    with pytest.raises(SystemExit, match=r"error: The data set folder .*nowhere does not exist"):
        main(tmp_path / "nowhere")


def test_the_real_data_is_split_and_sound(real_hippocampus):
    sections = {section: hippocampus_datalist(real_hippocampus, section) for section in SECTIONS}
    images = [case["image"] for cases in sections.values() for case in cases]
    total = len(images)
    assert len(set(images)) == total
    assert [len(cases) for cases in sections.values()] == [round(0.7 * total), round(0.1 * total), round(0.2 * total)]
    load, check = LoadVolumed(("image", "label")), CheckVolumed("image", "label", num_classes=3)
    for case in itertools.chain(*sections.values()):
        check(load(case))
