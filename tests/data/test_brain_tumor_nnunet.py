"""Brain tumours in the folders of nnU-Net: the channels are those that dataset.json names, or refused."""

import json

import numpy as np
import pytest
import torch

from equivariant_nets.data import (
    LoadVolumed,
    UnifyTumorLabelsd,
    brain_tumor_datalist,
    check_brain_tumor,
    tumor_image_datalist,
    write_tumor_phantoms,
)
from equivariant_nets.data.brain_tumor import brain_tumor_sections, name_by_case

ORDER = {"T1": "t1", "T1ce": "t1ce", "T2": "t2", "Flair": "flair"}  # as of nnU-Net's own script for BraTS
LABELS = {"background": 0, "NCR": 1, "ED": 2, "ET": 4}
SECTIONS = ("training", "validation", "test")
load = LoadVolumed(["image", "label"], allow_missing_keys=True)


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    return write_tumor_phantoms(tmp_path_factory.mktemp("cases"), "brats2021", 3, (16, 16, 16))


@pytest.fixture
def raw(cases, tmp_path):
    """The same cases in nnU-Net's raw layout."""
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / folder).mkdir()
    for case in cases.glob("BraTS*"):
        for channel, part in enumerate(ORDER.values()):
            (tmp_path / "imagesTr" / f"{case.name}_{channel:04d}.nii.gz").symlink_to(
                case / f"{case.name}_{part}.nii.gz"
            )
        (tmp_path / "labelsTr" / f"{case.name}.nii.gz").symlink_to(case / f"{case.name}_seg.nii.gz")
    write_manifest(tmp_path)
    return tmp_path


def write_manifest(folder, channels=ORDER, **others):
    content = {"channel_names": dict(enumerate(channels)), "labels": LABELS, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps({**content, **others}))


def assert_same(items, expected):
    assert [item["case"] for item in items] == [item["case"] for item in expected]
    for item, same in zip(items, expected, strict=True):
        item, same = UnifyTumorLabelsd()(load(item)), UnifyTumorLabelsd()(load(same))
        for key in {"image", "label"} & item.keys():
            assert torch.equal(item[key].as_tensor(), same[key].as_tensor())
        assert name_by_case(item["image"].meta)["subject"] == f"{item['case']}.nii.gz"


@pytest.mark.parametrize("version", [1, 2])
def test_channels_of_any_order_become_ours(version, raw, cases):
    if version == 1:
        pairs = [
            {"image": f"./imagesTr/{case.name}.nii.gz", "label": f"./labelsTr/{case.name}.nii.gz"}
            for case in cases.glob("BraTS*")
        ]
        write_manifest(raw, modality=dict(enumerate(ORDER)), channel_names=None, training=pairs)
    expected = brain_tumor_sections(cases)
    for section in SECTIONS:
        assert_same(brain_tumor_datalist(raw, section), expected[section])
    assert check_brain_tumor(raw) == []
    assert_same(tumor_image_datalist(raw / "imagesTr"), tumor_image_datalist(cases))
    assert_same(tumor_image_datalist(raw), tumor_image_datalist(cases))


def test_a_missing_channel_is_named(raw):
    (raw / "imagesTr" / "BraTS2021_00001_0002.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"has 1 problems:.*\n.*BraTS2021_00001_0002\.nii\.gz"):
        brain_tumor_datalist(raw)
    with pytest.raises(ValueError, match=r"BraTS2021_00001: the files .*0001\.nii\.gz, .*0003\.nii\.gz are not the"):
        tumor_image_datalist(raw / "imagesTr")


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        (["T1", "T1ce", "T2", "CT"], "names the channels T1, T1ce, T2, CT; legal are FLAIR, T1, .* in any order"),
        (["T1", "T1w", "T2", "FLAIR"], "names the channels T1, T1w, T2, FLAIR"),
        (["MRI"], "names the channels MRI, nothing, nothing, nothing"),
        ([], r"no dataset\.json beside it names the channels"),
    ],
    ids=str,
)
def test_channels_that_are_not_named_or_others_are_refused(channels, message, raw):
    write_manifest(raw, channels)
    for read in (brain_tumor_datalist, lambda folder: tumor_image_datalist(folder / "imagesTr")):
        with pytest.raises(ValueError, match=message):
            read(raw)


def test_a_damaged_channel_fails_when_its_case_is_loaded(raw):
    (raw / "imagesTr" / "BraTS2021_00001_0002.nii.gz").unlink()
    (raw / "imagesTr" / "BraTS2021_00001_0002.nii.gz").write_text("text")
    _, item, _ = tumor_image_datalist(raw / "imagesTr")
    with pytest.raises(ValueError, match=r"BraTS2021_00001_0002\.nii\.gz cannot be read"):
        load(item)


def test_numbered_files_without_a_manifest_say_how_to_name_them(raw):
    (raw / "dataset.json").unlink()
    with pytest.raises(ValueError, match=r"00000_0000\.nii\.gz is numbered, and .* CASE_flair, CASE_t1, CASE_t1ce"):
        tumor_image_datalist(raw / "imagesTr")


def test_one_file_of_channels_in_another_order_is_refused_at_inference_too(tmp_path):
    folder = write_tumor_phantoms(tmp_path, "msd", 2, (16, 16, 16))
    assert len(tumor_image_datalist(folder / "imagesTr")) == 2
    manifest = json.loads((folder / "dataset.json").read_text())
    names = np.roll(list(manifest["modality"].values()), 1).tolist()
    (folder / "dataset.json").write_text(json.dumps({**manifest, "modality": dict(enumerate(names))}))
    for read in (brain_tumor_datalist, lambda folder: tumor_image_datalist(folder / "imagesTr")):
        with pytest.raises(ValueError, match=r"has 1 problems:.*\n.*names the channels T2w, FLAIR, .* in this order"):
            read(folder)
