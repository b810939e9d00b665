"""Laws of users' files: a kind that is read gives the values and the place of the plain file, any other one error."""

import logging
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import input_kinds
import nibabel as nib
import numpy as np
import pytest
from fresh import run_module
from input_kinds import (
    AFFINE,
    ALIKE,
    COLOURS,
    LABEL_MAPS,
    LABELS,
    OTHER,
    PHOTOGRAPHS,
    SHEAR,
    SHEARED,
    SIZE,
    VALUES,
    VOLUMES,
    Kind,
)
from monai.transforms import Compose, Orientationd, SaveImage, Spacingd

from equivariant_nets.data import CheckVolumed, LoadVolumed, PhotographReader, SegmentationWriter
from equivariant_nets.data.inspection import inspect_file
from equivariant_nets.data.writing import keep_place

DOCS = Path(__file__).resolve().parents[2] / "docs" / "inputs.md"
READ = (ALIKE, OTHER)


def named(kinds):
    return pytest.mark.parametrize("kind", kinds, ids=lambda kind: kind.name)


def written(kind: Kind, folder: Path) -> Path:
    """The file of a kind: skipped where a package that decides about it is missing, or there."""
    if kind.needs == "itk":
        pytest.skip("in a process of its own: itk crashes where pytest imports it")
    if kind.needs and (find_spec(kind.needs.strip("!")) is None) != kind.needs.startswith("!"):
        pytest.skip(f"{kind.needs} decides about this kind")
    return kind.write(folder)


def outcome(kind: Kind, steps, item, caplog):
    """What a file gives: the loaded item, or None where it is refused as its kind says; and its warnings."""
    caplog.clear()
    try:
        loaded = Compose(steps)(item)
    except Exception as error:
        texts = [str(link) for link in (error, error.__cause__) if link]
        assert kind.gets not in READ, texts
        assert any(kind.gets in text for text in texts)
        assert any("file." in text.lower() for text in texts)
        return None
    assert kind.gets in READ
    records = [record for record in caplog.records if record.name.startswith("equivariant_nets")]  # nibabel warns too
    warnings = [record.getMessage() for record in records if record.levelno >= logging.WARNING]
    assert len(warnings) == bool(kind.warning)
    assert all(kind.warning in warning for warning in warnings)
    return loaded


@named(VOLUMES)
def test_volumes(kind, tmp_path, caplog):
    path = written(kind, tmp_path)
    loaded = outcome(kind, [LoadVolumed("image"), CheckVolumed("image")], {"image": str(path)}, caplog)
    if kind.gets == ALIKE:
        loaded = Orientationd("image", "LAS", labels=None)(loaded)  # as the plain file is; DICOM has no such axes
        assert np.array_equal(loaded["image"][0], VALUES)
        assert np.allclose(loaded["image"].affine, AFFINE, atol=2e-3)


READ_BY_ITK = """
import numpy as np
from equivariant_nets.data import CheckVolumed, LoadVolumed
from monai.transforms import Compose, Orientationd

steps = [LoadVolumed("image"), CheckVolumed("image"), Orientationd("image", "LAS", labels=None)]
image = Compose(steps)({"image": "file.mha"})["image"]
np.savez("read.npz", values=image[0], affine=image.affine)
"""


@pytest.mark.skipif(find_spec("itk") is None, reason="itk is not installed")
def test_metaimage(tmp_path):
    input_kinds.metaimage(tmp_path)
    subprocess.run([sys.executable, "-c", READ_BY_ITK], cwd=tmp_path, check=True)
    read = np.load(tmp_path / "read.npz")
    assert np.array_equal(read["values"], VALUES)
    assert np.allclose(read["affine"], AFFINE)


@named(PHOTOGRAPHS)
def test_photographs(kind, tmp_path, caplog):
    path = written(kind, tmp_path)
    steps = [LoadVolumed("image", PhotographReader), CheckVolumed("image", num_channels=3, spatial_dims=2)]
    loaded = outcome(kind, steps, {"image": str(path)}, caplog)
    if kind.gets in READ:
        array = np.asarray(loaded["image"]).T
        assert array.shape == COLOURS.shape
        assert not kind.note.startswith("as three") or (array == array[..., :1]).all()
        assert kind.gets == OTHER or np.array_equal(array, COLOURS)
        if "16 bits" in kind.name:
            assert np.array_equal(array, 257.0 * COLOURS[..., 1:2].repeat(3, -1))
        if "transparent around" in kind.name:
            assert (array[:, :5] == 0).all()
            assert np.array_equal(array[:, 5:], COLOURS[:, 5:])


@named(LABEL_MAPS)
def test_label_maps(kind, tmp_path, caplog):
    (tmp_path / "image").mkdir()
    item = {"image": str(VOLUMES[0].write(tmp_path / "image")), "label": str(written(kind, tmp_path))}
    steps = [LoadVolumed(["image", "label"]), CheckVolumed("image", "label", num_classes=3)]
    loaded = outcome(kind, steps, item, caplog)
    if kind.gets == ALIKE:
        assert np.array_equal(loaded["label"][0], LABELS)
        assert np.array_equal(loaded["label"].affine, loaded["image"].affine)


PLACE = ("sform_code", "qform_code", "xyzt_units", "srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d",
         "qoffset_x", "qoffset_y", "qoffset_z")  # fmt: skip


@named([kind for kind in VOLUMES if kind.gets in READ and not kind.needs])
def test_a_segmentation_lies_on_its_image_in_every_program(kind, tmp_path):
    path = written(kind, tmp_path)
    image = LoadVolumed("image")({"image": str(path)})["image"]
    saved = []
    for case in ("written", "by another writer"):
        saver = SaveImage(tmp_path / case, writer=SegmentationWriter if not saved else None, separate_folder=False)
        saver((image > 90).float())
        saved += list((tmp_path / case).glob("*"))
    keep_place(saved[1], path)  # what other software wrote
    source = nib.load(path)
    for result in map(nib.load, saved):
        assert np.array_equal(np.asarray(result.dataobj), np.asarray(image[0]) > 90)
        if not isinstance(source.header, nib.Nifti1Header):
            assert np.allclose(result.get_sform(), image.affine)
            if kind.warning == SHEARED:  # which no qform can say
                assert nib.load(saved[0]).header["qform_code"] == 0
            else:
                assert np.allclose(result.get_qform(), image.affine, atol=1e-6)
            continue
        for field in PLACE:
            lost = field == "sform_code" and "the sform of code 1 is" in kind.warning
            assert np.allclose(result.header[field], 0 if lost else source.header[field], 1e-6, equal_nan=True), field
        assert np.allclose(result.header["pixdim"][:4], source.header["pixdim"][:4], 1e-6)


def test_a_sheared_volume_is_resampled_in_its_place_and_comes_back(tmp_path):
    """A field that is linear in the world, which linear interpolation keeps."""
    points = SHEAR @ np.stack([*np.meshgrid(*map(np.arange, SIZE), indexing="ij"), np.ones(SIZE)]).reshape(4, -1)
    field = (np.array([0.3, -0.7, 0.5, 100]) @ points).reshape(SIZE).astype(np.float32)
    item = {"image": str(input_kinds.nifti(field, SHEAR)(tmp_path))}
    keys = {"keys": "image"}
    steps = [LoadVolumed("image"), CheckVolumed("image"), Orientationd(axcodes="RAS", labels=None, **keys)]
    preprocessing = Compose([*steps, Spacingd(pixdim=1.0, **keys)])
    image = preprocessing(item)["image"]
    frame = image.affine.numpy()[:3, :3]
    assert np.allclose(frame.T @ frame, np.eye(3), atol=1e-6)
    middle = np.array(image.shape[1:]) // 2
    expected = np.array([0.3, -0.7, 0.5, 100]) @ image.affine.numpy() @ [*middle, 1]
    assert abs(float(image[0][tuple(middle)]) - expected) < 1e-3
    back = preprocessing.inverse({"image": image})["image"]
    assert np.allclose(back.affine, SHEAR)
    assert np.abs(np.asarray(back[0]) - field)[4:-4, 4:-4, 4:-4].max() < 1e-3


def test_simpleitk_places_image_and_segmentation_alike(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    for kind in VOLUMES:
        if "coregistered" in kind.name or "unit" in kind.name:
            path = written(kind, tmp_path)
            image = LoadVolumed("image")({"image": str(path)})["image"]
            SaveImage(tmp_path / "out", writer=SegmentationWriter, separate_folder=False)(image)
            own, result = (sitk.ReadImage(str(file)) for file in (path, next((tmp_path / "out").glob("*"))))
            assert np.allclose(result.GetOrigin(), own.GetOrigin()), kind.name
            assert np.allclose(result.GetSpacing(), own.GetSpacing())
            assert np.allclose(result.GetDirection(), own.GetDirection())


def test_the_table_of_the_docs_is_that_of_these_tests():
    assert DOCS.read_text(encoding="utf-8") == input_kinds.table()
    assert sum(len(kinds) for kinds in (VOLUMES, PHOTOGRAPHS, LABEL_MAPS)) >= 60


def test_inspect_knows_a_label_map(tmp_path):
    text = inspect_file(LABEL_MAPS[0].write(tmp_path))
    assert "warning: its values are the whole numbers 0, 1, 2 alone: a label map, and no image." in text
    assert "warning" not in inspect_file(VOLUMES[0].write(tmp_path))


def test_inspect_says_what_a_file_is(tmp_path):
    files = {}
    for name, kinds in (("volume", VOLUMES), ("photograph", PHOTOGRAPHS)):
        for number, kind in enumerate(kinds):
            folder = tmp_path / f"{name}{number}"
            folder.mkdir()
            if not kind.needs:
                files[kind.name] = (kind, kind.write(folder))
    result = run_module("equivariant_nets.data", "inspect", *[path for _, path in files.values()], cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    said, current = {str(path): "" for _, path in files.values()}, ""
    for line in result.stdout.splitlines():
        current = line if line in said else current
        said[current] += line + "\n"
    assert said == {path: inspect_file(path) + "\n" for path in said}
    for kind, path in files.values():
        text = said[str(path)]
        assert ("error:" in text) == (kind.gets not in (*READ, "the number of channels is 3")), text
        assert ("suits:" in text) == ("error:" not in text)
        assert kind.gets in READ or "channels" in kind.gets or kind.gets in text
        assert ("warning:" in text) == bool(kind.warning)
        assert kind.warning in text
    assert "nan" not in said[str(files["no voxels: a size of 0"][1])].lower()
    scan = said[str(files["unit micron"][1])]
    for words in (
        "spacing: 1 x 1 x 1.2 mm",
        "axes run to: LAS",
        "unit of lengths: micron",
        "sform code 2",
        "hippocampus",
    ):
        assert words in scan
