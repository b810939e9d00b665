"""Laws of the bundles on DICOM: every series of a folder as it would be as NIfTI, and the commands of docs/dicom.md."""

import csv
import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from bundle_files import BUNDLES, NAMES
from dicom_series import AXIAL, OBLIQUE, volume, write_series
from monai.bundle import ConfigParser
from readme import ROOT, run

from equivariant_nets.data.dicom.codes import is_known

SO3 = "hippocampus_mri_so3_segmentation"
SIZE = (17, 18, 16)
UPRIGHT = AXIAL @ np.diag([1, 1, 1.25 / 1.2, 1])  # in numbers that headers of both formats hold exactly

pytestmark = pytest.mark.usefixtures("dicom")


def rows(output_dir):
    with (output_dir / "cases.csv").open(newline="") as file:
        return {Path(row["image"]).name: row for row in csv.DictReader(file)}


def write_study(folder):
    """Two volumes in one folder, one in another; a scout, a series with a gap, and NIfTI of the first volume."""
    write_series(folder, volume(0, SIZE), UPRIGHT, name="{}")
    write_series(folder, volume(1, SIZE), OBLIQUE, name="b{}", SeriesNumber=4, syntax="1.2.840.10008.1.2.5")
    write_series(folder / "below", volume(2, SIZE), OBLIQUE, SeriesNumber=5)
    write_series(folder, volume(3, SIZE)[..., :2], name="s{}", SeriesNumber=1, SeriesDescription="scout")
    write_series(folder, volume(4, SIZE), name="g{}", SeriesNumber=6)[5].unlink()
    nib.save(nib.Nifti1Image(volume(0, SIZE), UPRIGHT), folder / "plain.nii.gz")
    return folder


def test_a_study_is_segmented_and_its_segmentations_lie_on_it(get_bundle, get_network, run_here, tmp_path):
    import highdicom as hd
    import pydicom

    bundle = get_bundle(SO3)
    options = {"features": bundle.tiny["features"], "dicom_seg": "true"}
    (bundle.root / "models").mkdir()
    torch.save(get_network(bundle.root, options["features"]).state_dict(), bundle.root / "models" / "model.pt")
    study = write_study(tmp_path / "study")
    out = study / "results"  # below the images, and no series
    for status in ("segmented", "finished before"):
        with pytest.raises(RuntimeError) as caught:
            run_here(bundle.root, "inference.json", **options, dataset_dir=str(study), output_dir=str(out))
        assert "1 of 6 cases failed, the others are segmented" in str(caught.value.__cause__)
        found = rows(out)
        assert {name: row["status"] for name, row in found.items()} == {
            "plain.nii.gz": status, "P1_20260101_3_T1": status, "P1_20260101_4_T1": status, "P1_20260101_5_T1": status,
            "P1_20260101_1_scout": "left out", "P1_20260101_6_T1": "failed",
        }  # fmt: skip
        assert "it has 2 slices" in found["P1_20260101_1_scout"]["problem"]
        assert "1 slices are missing" in found["P1_20260101_6_T1"]["problem"]
    as_nifti = nib.load(out / "plain_seg.nii.gz")
    assert np.array_equal(nib.load(out / "P1_20260101_3_T1_seg.nii.gz").dataobj, as_nifti.dataobj)
    assert not (out / "plain_seg.dcm").exists()
    names = {"P1_20260101_3_T1": UPRIGHT, "P1_20260101_4_T1": OBLIQUE, "below/P1_20260101_5_T1": OBLIQUE}
    for name, affine in names.items():
        labels = nib.load(out / f"{name}_seg.nii.gz")
        assert np.allclose(labels.affine, affine, atol=1e-4)
        assert (out / f"{name}_preview.png").is_file()
        found = hd.seg.segread(out / f"{name}_seg.dcm")
        back = found.get_volume(combine_segments=True)
        voxels = np.argwhere(np.ones(SIZE))
        places = np.c_[voxels, np.ones(len(voxels))] @ (np.linalg.inv(back.affine) @ np.diag([-1, -1, 1, 1]) @ affine).T
        assert np.abs(places - np.rint(places)).max() < 1e-3
        assert len(np.unique(labels.dataobj)) > 1
        assert np.array_equal(back.array[tuple(np.rint(places[:, :3]).astype(int).T)], np.ravel(labels.dataobj))
        assert {found.get_segment_description(number).algorithm_identification.name for number in (1, 2)} == {SO3}
    (changed,) = [file for file in study.glob("b3")]
    dataset = pydicom.dcmread(changed)
    dataset.compress("1.2.840.10008.1.2.5", dataset.pixel_array + 1, generate_instance_uid=False)
    dataset.save_as(changed)
    edited, damaged = out / "P1_20260101_4_T1_seg.dcm", out / "below" / "P1_20260101_5_T1_seg.dcm"
    edited.write_bytes(edited.read_bytes().replace(b"anterior", b"Anterior"))  # as a viewer saves it
    damaged.write_bytes(damaged.read_bytes()[:-50])
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*_seg.*") if path.name[0] != "."}
    with pytest.raises(RuntimeError):
        run_here(bundle.root, "inference.json", **options, dataset_dir=str(study), output_dir=str(out))
    again = [path.name for path in before if path.exists() and path.stat().st_mtime_ns != before[path]]
    cases = ("P1_20260101_4_T1", "P1_20260101_5_T1")  # not the first, nor NIfTI
    assert sorted(again) == [f"{case}_seg.{ending}" for case in cases for ending in ("dcm", "nii.gz")]
    kept = out / ".previous" / edited.name
    assert b"Anterior hippocampus" in kept.read_bytes()
    assert b"Anterior hippocampus" not in edited.read_bytes()
    assert len(hd.seg.segread(damaged).get_volume(combine_segments=True).array)
    assert not (out / ".previous" / "below" / damaged.name).exists()


def test_the_commands_of_the_docs(tmp_path):
    for name in ("bundles", "equivariant_nets"):
        (tmp_path / name).symlink_to(ROOT / name)
    write_series(tmp_path / "STUDY", volume(0, SIZE), OBLIQUE)
    write_series(tmp_path / "STUDY", volume(0, SIZE)[..., :2], name="s{}", SeriesNumber=1, SeriesDescription="scout")
    text = (ROOT / "docs" / "dicom.md").read_text(encoding="utf-8")
    commands = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    assert [command.split()[0] for command in commands] == ["pip", "python", "python"]
    for command in commands[1:]:
        result = run(command, tmp_path)
        assert result.returncode == 0, result.stderr
    assert re.search(r"/P1_20260101_1_scout is left out: it has 2 slices", result.stdout)
    assert re.search(r"1 segmented, 1 left out\. The results lie in .*output/study, and cases\.csv", result.stdout)
    assert (tmp_path / "output" / "study" / "P1_20260101_3_T1_seg.dcm").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_every_class_that_is_shipped_has_a_code(name):
    config = json.loads((BUNDLES / name / "configs" / "inference.json").read_text(encoding="utf-8"))
    steps = config["postprocessing"]["transforms"]
    found = [step["segment_names"] for step in steps if "SaveDicom" in str(step)]
    assert bool(found) != name.startswith(("brain_tumor", "retina"))
    for names in found if not name.startswith("phantom") else []:  # whose structures are none
        if names == "@class_names":
            names = ConfigParser(config).get_parsed_content("class_names")
        assert all(map(is_known, names))
