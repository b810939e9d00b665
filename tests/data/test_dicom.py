"""Laws of DICOM: a series is the volume that it was written from, at its place, or one error; its segmentation too."""

import logging
import os
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicom_series import AXIAL, OBLIQUE, REPORT, SAGITTAL, SECONDARY, volume, write_series
from fresh import run_module
from monai.transforms import LoadImage, SaveImage

from equivariant_nets.data import DicomReader, LoadVolumed, SegmentationWriter, image_datalist, target_structures
from equivariant_nets.data.brain_tumor import tumor_image_datalist
from equivariant_nets.data.dicom import packages
from equivariant_nets.data.dicom.codes import CONCEPTS, codes_of, is_known
from equivariant_nets.data.dicom.segmentation import Algorithm, write_segmentation
from equivariant_nets.fingerprints import fingerprint

RLE, JPEG_LOSSLESS = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.70"
SHUFFLED = [3, 0, 6, 2, 5, 1, 4]
WRITTEN = {
    "axial": {},
    "sagittal": {"affine": SAGITTAL},
    "oblique": {"affine": OBLIQUE},
    "backwards": {"order": range(6, -1, -1)},
    "shuffled, without endings": {"affine": OBLIQUE, "order": SHUFFLED, "name": "{}"},
    "RLE": {"affine": OBLIQUE, "syntax": RLE},
    "rescaled": {"affine": SAGITTAL, "RescaleSlope": 2, "RescaleIntercept": -1000},
}
NAMES = ["brain stem", "cerebellum"]

pytestmark = pytest.mark.usefixtures("dicom")


def load(folder):
    (item,) = image_datalist(folder)
    return LoadVolumed("image")(item)["image"]


def in_the_world_of(affine, values, other, other_affine):
    """The values of another volume at the place of each voxel of one."""
    voxels = np.stack([*np.meshgrid(*map(np.arange, values.shape), indexing="ij"), np.ones(values.shape)])
    places = (np.linalg.inv(other_affine) @ affine @ voxels.reshape(4, -1))[:3]
    assert np.abs(places - np.rint(places)).max() < 1e-3
    return other[tuple(np.rint(places).astype(int))].reshape(values.shape)


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_series_is_what_it_was_written_from_as_other_readers_have_it(kind, tmp_path):
    options, values = WRITTEN[kind], volume()
    affine = options.get("affine", AXIAL)
    write_series(tmp_path, values, **options)
    image = load(tmp_path)
    expected = values * options.get("RescaleSlope", 1) + options.get("RescaleIntercept", 0)
    assert np.array_equal(image[0], expected)
    assert np.allclose(image.affine, affine, atol=1e-5)
    other = LoadImage("PydicomReader", image_only=True)(str(tmp_path))
    assert np.array_equal(in_the_world_of(affine, values, np.asarray(other), other.affine.numpy()), expected)


@pytest.mark.parametrize("affine", [AXIAL, SAGITTAL, OBLIQUE])
def test_simpleitk_places_a_series_alike(affine, tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    write_series(tmp_path, volume(), affine, order=SHUFFLED)
    other = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path)))
    axes = np.reshape(other.GetDirection(), (3, 3)) * other.GetSpacing()
    place = np.diag([-1, -1, 1, 1]) @ np.block([[axes, np.c_[list(other.GetOrigin())]], [np.zeros(3), 1]])
    image = load(tmp_path)
    array = sitk.GetArrayFromImage(other).T
    assert np.array_equal(in_the_world_of(image.affine.numpy(), image[0], array, place), image[0])


def enhanced(files, path):
    import highdicom as hd
    import pydicom

    series = [pydicom.dcmread(file) for file in files]
    for dataset in series:
        dataset.StudyTime, dataset.StudyID, dataset.AccessionNumber, dataset.Manufacturer = "000000", "1", "1", "M"
        dataset.PatientBirthDate, dataset.PatientSex, dataset.ReferringPhysicianName = "19700101", "O", "R"
        dataset.PositionReferenceIndicator, dataset.ContentTime, dataset.SeriesTime = "", "000000", "000000"
        dataset.ContentDate = dataset.SeriesDate = dataset.AcquisitionDate = "20260101"
        dataset.AcquisitionTime = "000000"
    hd.legacy.LegacyConvertedEnhancedMRImage(series, hd.UID(), 9, hd.UID(), 1).save_as(path)


def segmentations(folder):
    """A series in a folder, as an image, with its label map; single slices of three orientations, and one object."""
    for name, affine in (("axial", AXIAL), ("sagittal", SAGITTAL), ("oblique", OBLIQUE), ("enhanced", OBLIQUE)):
        files = write_series(folder / name, volume(), affine, order=SHUFFLED)
        if name == "enhanced":
            enhanced(files, folder / "object")
            shutil.rmtree(folder / name)
            (folder / name).mkdir()
            (folder / "object").rename(folder / name / "object")
        image = load(folder / name)
        labels = (np.asarray(image[0]) > 500).astype(np.uint8)
        labels[..., 3:5] *= 2  # the second class in two slices, and neither in the first and the last
        labels[..., [0, -1]] = 0
        yield name, image, labels


def test_a_segmentation_lies_on_its_series_exactly(tmp_path):
    import highdicom as hd
    import pydicom

    for name, image, labels in segmentations(tmp_path):
        assert np.array_equal(image[0], volume()), name
        assert np.allclose(image.affine, AXIAL if name == "axial" else SAGITTAL if name == "sagittal" else OBLIQUE)
        path = tmp_path / f"{name}.dcm"
        write_segmentation(path, labels, image.meta["series_files"], NAMES, Algorithm("net", "0.1"))
        found = hd.seg.segread(path)
        back = found.get_volume(combine_segments=True)
        place = np.diag([-1, -1, 1, 1]) @ back.affine
        assert np.array_equal(in_the_world_of(image.affine.numpy(), labels, back.array, place), labels), name
        for number in (1, 2):  # as MONAI has it: a channel a segment
            other = LoadImage("PydicomReader", image_only=True)(str(path))
            part, other_place = np.asarray(other)[..., number - 1], other.affine.numpy()
            assert np.array_equal(in_the_world_of(image.affine.numpy(), labels, part, other_place), labels == number)
        first = pydicom.dcmread(image.meta["series_files"][0])
        for keyword in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
            assert found[keyword].value == first[keyword].value
        assert (found.SegmentationType, found.SeriesInstanceUID != first.SeriesInstanceUID) == ("BINARY", True)
        described = [found.get_segment_description(number) for number in found.segment_numbers]
        assert [one.segment_label for one in described] == NAMES
        assert [one.segmented_property_type.value for one in described] == ["119238007", "113305005"]
        assert {one.algorithm_identification.name for one in described} == {"net"}


def test_an_empty_segmentation_has_its_segments_and_another_grid_is_refused(tmp_path):
    import highdicom as hd

    image = LoadVolumed("image")({"image": str(write_series(tmp_path, volume())[0].parent)})["image"]
    files, algorithm = image.meta["series_files"], Algorithm("net", "0.1")
    write_segmentation(tmp_path / "seg", np.zeros(image.shape[1:]), files, NAMES, algorithm)
    found = hd.seg.segread(tmp_path / "seg")
    assert (found.number_of_segments, int(found.pixel_array.sum())) == (2, 0)
    with pytest.raises(ValueError, match=r"label map of \(7, 8, 8\) .*its series, \(7, 8, 9\)"):
        write_segmentation(tmp_path / "seg", np.zeros((8, 8, 7)), files, NAMES, algorithm)


def test_sides_are_coded_and_read_back(tmp_path):
    import highdicom as hd

    image = LoadVolumed("image")({"image": str(write_series(tmp_path, volume())[0].parent)})["image"]
    names = target_structures("sides")
    labels = np.zeros(image.shape[1:])
    labels[:2, 0, 0] = 3, 4
    write_segmentation(tmp_path / "seg", labels, image.meta["series_files"], names, Algorithm("net", "0.1"))
    segments = hd.seg.segread(tmp_path / "seg").SegmentSequence
    assert [segment.SegmentLabel for segment in segments] == names
    kinds = [segment.SegmentedPropertyTypeCodeSequence[0] for segment in segments]
    assert [kind.CodeMeaning for kind in kinds[2:4]] == ["Hippocampus", "Hippocampus"]
    sides = [[side.CodeValue for side in kind.get("SegmentedPropertyTypeModifierCodeSequence", [])] for kind in kinds]
    assert sides == [["7771000"], ["24028007"]] * 6 + [[]]
    assert len({kind.CodeValue for kind in kinds}) == 7
    assert all(map(is_known, names))


def test_every_code_is_known_to_the_standard():
    assert len({codes_of(name)[1].value for name in CONCEPTS}) >= 8
    for name in [*CONCEPTS, "no structure"]:
        assert [code.scheme_designator for code in codes_of(name)] == ["SCT", "SCT"]


def told(keyword, *values):
    def change(dataset, k):
        setattr(dataset, keyword, values[k % len(values)])
        if keyword != "ImageOrientationPatient":  # two volumes of half as many places
            dataset.ImagePositionPatient = [*dataset.ImagePositionPatient[:2], 1.2 * (k // 2)]

    return change


PLANES = [1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1], [1, 0, 0, 0, 0, -1]
LEFT_OUT = {
    "report": ({"SOPClassUID": REPORT, "Modality": "SR"}, "Basic Text SR Storage of modality SR"),
    "secondary": ({"SOPClassUID": SECONDARY, "Modality": "OT"}, "Secondary Capture Image Storage of modality OT"),
    "scout": ({"values": volume()[..., :2]}, "it has 2 slices"),
    "localizer": ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "it is a localizer"),
    "three planes": ({"change": told("ImageOrientationPatient", *PLANES)}, "several orientations"),
    "two echoes": ({"values": volume()[..., :6], "change": told("EchoTime", 3, 5)}, "differ in EchoTime"),
    "two times": ({"values": volume()[..., :6], "change": told("TriggerTime", 1, 2)}, "differ in TriggerTime"),
    "sizes": ({"change": lambda dataset, k: setattr(dataset, "Rows", 8 if k else 4)}, "several sizes"),
    "nowhere": ({"change": lambda dataset, k: delattr(dataset, "ImagePositionPatient")}, "do not say where they lie"),
}  # fmt: skip


def test_what_is_no_volume_is_named_and_all_else_is_found(tmp_path, caplog):
    """All files in one folder, but for one below; with a text, a segmentation and a volume of NIfTI."""
    for number, (name, (options, _)) in enumerate(LEFT_OUT.items()):
        options = {"values": volume(), "name": f"{number}-{{}}", "SeriesDescription": name, **options}
        write_series(tmp_path, **options)
    for number, affine in enumerate((AXIAL, OBLIQUE)):
        write_series(tmp_path, volume(number), affine, name=f"good{number}-{{}}.dcm", SeriesNumber=10 + number)
    write_series(tmp_path / "below", volume(2), name="{}.img", SeriesNumber=12)
    (tmp_path / "README.txt").write_text("a text")
    (tmp_path / "damaged").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 20)
    nib.save(nib.Nifti1Image(volume(), AXIAL), tmp_path / "plain.nii.gz")
    (series,) = [item["image"] for item in image_datalist(tmp_path / "below")]
    labels = np.ones((9, 8, 7))
    write_segmentation(tmp_path / "seg", labels, series.files, ["a"], Algorithm("segmented", "0"))
    with caplog.at_level(logging.INFO):
        images = [item["image"] for item in image_datalist(tmp_path)]
    assert "README.txt" in caplog.text
    assert images[0] == str(tmp_path / "plain.nii.gz")
    series = images[1:]
    reasons = {Path(one.path).name.split("_")[-1].replace("-", " "): one.left_out for one in series if one.left_out}
    assert reasons.keys() == {*LEFT_OUT, "segmented"}
    for name, (_, reason) in LEFT_OUT.items():
        assert reason in reasons[name]
    assert "Segmentation Storage of modality SEG" in reasons["segmented"]
    damaged = next(one for one in series if Path(one.path).name == "damaged")
    with pytest.raises(ValueError, match=r"damaged cannot be read .* truncated, damaged"):
        LoadVolumed("image")({"image": damaged})
    good = [one for one in series if not one.left_out and one is not damaged]
    assert [os.path.relpath(one.path, tmp_path) for one in good] == [
        "P1_20260101_10_T1", "P1_20260101_11_T1", "below/P1_20260101_12_T1",
    ]  # fmt: skip
    for number, one in enumerate(good):
        assert np.array_equal(LoadVolumed("image")({"image": one})["image"][0], volume(number))
        assert image_datalist(one.files[3]) == [{"image": one}]
    assert [item["image"] for item in image_datalist(tmp_path, "*.nii.gz")] == images[:1]
    assert [item["image"] for item in image_datalist(tmp_path, "good1*")] == good[1:2]
    with pytest.raises(ValueError, match=r"three-planes: its slices have several orientations"):
        LoadVolumed("image")({"image": next(one for one in series if "planes" in one.path)})
    with pytest.raises(ValueError, match=r"the folder holds 3 series: P1_20260101_10_T1, P1_20260101_11_T1, damaged"):
        LoadVolumed("image")({"image": str(tmp_path)})


def tilt(dataset, k):
    dataset.ImagePositionPatient = [dataset.ImagePositionPatient[0] + 0.1 * k, *dataset.ImagePositionPatient[1:]]


def cut(files):
    files[2].write_bytes(files[2].read_bytes()[:-20])


def compressed(files):
    import pydicom

    for file in files:
        dataset = pydicom.dcmread(file)
        dataset.file_meta.TransferSyntaxUID = JPEG_LOSSLESS
        dataset.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(file)


def copy(files):
    shutil.copy(files[3], files[3].parent / "copy")


FAULTS = {
    "missing": (
        lambda files: files[3].unlink(),
        {},
        r"about 1 slices are missing: IM0002 and IM0004 lie 2\.4 mm apart",
    ),
    "two missing": (lambda files: [file.unlink() for file in files[3:5]], {}, r"about 2 slices are missing"),
    "duplicate": (copy, {}, r"1 places have more than one slice, the first of them (IM0003 and copy|copy and IM0003)"),
    "tilted": (lambda files: None, {"change": tilt}, r"stacked 4\.76 degrees off straight, as of a tilted gantry"),
    "cut": (cut, {}, r"the pixels of IM0002 cannot be read as Explicit VR Little Endian"),
    "JPEG": (compressed, {}, r"compressed as JPEG Lossless.*pip install 'pylibjpeg\[all\]'"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_faulty_series_is_refused_in_words(kind, tmp_path):
    damage, options, message = FAULTS[kind]
    damage(write_series(tmp_path, volume(), **options))
    (item,) = image_datalist(tmp_path)
    assert not item["image"].left_out
    with pytest.raises(ValueError, match=message) as caught:
        LoadVolumed("image")(item)
    assert str(item["image"]) in str(caught.value)


PATIENTS = [
    ("P1", "T1 *MPRAGE* / 0.9 mm", 3), ("P1", "T1 *MPRAGE* / 0.9 mm", 3), ("", "", None), ("", "", None),
    ("a/b..", "x", 1), ("A/B..", "X", 1), ("Ünïcøde患者", "..", 2),
]  # fmt: skip


def test_names_are_legal_readable_and_unique_in_every_file_system(tmp_path):
    for index, (patient, description, number) in enumerate(PATIENTS):
        write_series(
            tmp_path, volume(), name=f"{index}-{{}}", PatientID=patient, SeriesDescription=description,
            SeriesNumber=number, SpecificCharacterSet="ISO_IR 192", StudyDate="",
        )  # fmt: skip
    names = [Path(item["image"].path).name for item in image_datalist(tmp_path)]
    assert len({name.casefold() for name in names}) == len(PATIENTS)
    assert all(set('/\\.:*?"<>| ').isdisjoint(name) for name in names)
    assert [name[:-9] for name in names if name.startswith("P1")] == ["P1_3_T1-MPRAGE-0-9-mm"] * 2
    assert "Ünïcøde患者_2" in names


def test_a_case_is_the_content_of_all_its_files_whatever_they_are_called(tmp_path):
    files = write_series(tmp_path / "a", volume())
    before = fingerprint(item=image_datalist(tmp_path / "a"))
    (tmp_path / "b").mkdir()
    for number, file in enumerate(files):
        shutil.copy(file, tmp_path / "b" / f"{9 - number}")
    assert fingerprint(item=image_datalist(tmp_path / "b")) == before
    content = bytearray((tmp_path / "b" / "4").read_bytes())
    content[-3] ^= 1
    (tmp_path / "b" / "4").write_bytes(content)
    assert fingerprint(item=image_datalist(tmp_path / "b")) != before


def test_the_segmentation_of_a_series_as_nifti_lies_on_it(tmp_path):
    write_series(tmp_path / "in", volume(), OBLIQUE)
    image = load(tmp_path / "in")
    SaveImage(tmp_path / "out", writer=SegmentationWriter, separate_folder=False)((image > 400).float())
    (path,) = (tmp_path / "out").glob("*")
    assert path.name == "P1_20260101_3_T1_trans.nii.gz"
    result = nib.load(path)
    assert np.array_equal(result.get_fdata(), volume() > 400)
    assert np.allclose(result.affine, OBLIQUE, atol=1e-4)


def test_other_modalities_are_warned_of(tmp_path, caplog):
    write_series(tmp_path, volume(), SOPClassUID="1.2.840.10008.5.1.4.1.1.2", Modality="CT")
    load(tmp_path)
    assert "modality CT; the networks know MRI" in caplog.text


def test_inspect_tells_of_each_series_of_a_folder(tmp_path):
    write_series(tmp_path, volume(size=(30, 40, 20)), OBLIQUE)
    write_series(tmp_path, volume()[..., :2], name="scout{}", SeriesNumber=1, SeriesDescription="scout")
    result = run_module("equivariant_nets.data", "inspect", str(tmp_path), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    for words in (
        "P1_20260101_1_scout\n  error: ", "it has 2 slices", "P1_20260101_3_T1\n", "size: 30 x 40 x 20 voxels",
        "format: DICOM, 20 files of modality MR", "spacing: 0.9 x 1.1 x 1.3 mm", "suits: hippocampus_mri_*",
    ):  # fmt: skip
        assert words in result.stdout


def test_brain_tumours_say_that_dicom_must_be_converted(tmp_path):
    write_series(tmp_path, volume())
    with pytest.raises(FileNotFoundError, match=r"DICOM is read for bundles of one channel alone: convert the four"):
        tumor_image_datalist(tmp_path)


def test_the_reader_takes_folders_files_and_lists_of_them(tmp_path):
    files = write_series(tmp_path, volume(), order=SHUFFLED)
    for given in (str(tmp_path), str(files[2]), [str(file) for file in files]):
        image = LoadImage(DicomReader, image_only=True)(given)
        assert np.array_equal(image, volume())
    assert DicomReader().verify_suffix(str(files[0]))
    assert not DicomReader().verify_suffix(__file__)


def test_without_the_packages_an_error_says_what_to_install(tmp_path, monkeypatch, caplog):
    files = write_series(tmp_path, volume())
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    advice = "pip install pydicom highdicom"
    with pytest.raises(FileNotFoundError, match=advice):
        image_datalist(tmp_path)
    for item in image_datalist(files[0]):
        with pytest.raises(ValueError, match=advice):
            LoadVolumed("image")(item)
    nib.save(nib.Nifti1Image(volume(), AXIAL), tmp_path / "plain.nii.gz")
    assert image_datalist(tmp_path) == [{"image": str(tmp_path / "plain.nii.gz")}]
    assert (
        f"7 files of DICOM in {tmp_path} are left out. DICOM needs packages that are not installed: {advice}"
        in caplog.text
    )
