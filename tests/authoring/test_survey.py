"""Laws of reading a data set: facts do not depend on the order of voxels, and every fault is named with its file."""

import nibabel as nib
import numpy as np
import own_data
import pytest
from PIL import Image

from equivariant_nets.authoring.cases import Case, find_cases
from equivariant_nets.authoring.survey import read_cases


def facts_of(folder, axes):
    image, label, affine = own_data.volume(0, size=(20, 26, 12), spacing=(1.0, 0.9, 2.5))
    image[:4], label[:4] = 0, 0  # a margin
    own_data.save(folder / axes / "image.nii.gz", image, affine, axes)
    own_data.save(folder / axes / "label.nii.gz", label, affine, axes)
    case = Case("one", (folder / axes / "image.nii.gz",), folder / axes / "label.nii.gz")
    (facts,), problems = read_cases([case])
    assert problems == []
    return facts


def test_facts_are_those_of_the_patient_and_not_of_the_file(tmp_path):
    """Sizes, spacings, content, intensities and classes are the same in every order of the voxels; its name is not."""
    first = facts_of(tmp_path, "RAS")
    assert first.size == (20, 26, 12)
    assert first.spacing_mm == (1.0, 0.9, 2.5)
    assert first.content == (16, 26, 12)
    assert {*first.labels} == {1, 2}
    for axes in ("LPS", "SAR", "PIL"):
        other = facts_of(tmp_path, axes)
        assert other.axes == axes
        assert other.as_json() | {"axes": "RAS"} == first.as_json()


@pytest.fixture
def case(tmp_path):
    """A sound case, whose files a test may replace."""
    return find_cases(own_data.case_folders(tmp_path / "data", number=1)).cases[0]


def rewrite(path, change):
    image = nib.load(path)
    changed = change(np.asanyarray(image.dataobj))
    nib.Nifti1Image(changed, image.affine).to_filename(path)


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        (1, lambda a: a[:, :, 2:], "t2.nii.gz"),  # contrasts of unequal shape
        (-1, lambda a: a[:, :, 2:], "seg.nii.gz"),
        (0, lambda a: np.full_like(a, np.nan), "NaN"),
        (0, np.zeros_like, "must not be constant"),
        (-1, lambda a: np.random.default_rng(0).normal(size=a.shape), "holds"),  # an image in the label's place
        (-1, lambda a: a + np.float32(0.5), "legal are whole numbers"),
    ],
)
def test_a_fault_is_named_with_its_file(case, file, change, said):
    path = [*case.images, case.label][file]
    rewrite(path, change)
    facts, problems = read_cases([case])
    assert facts == []
    assert any(said in problem and path.name in problem for problem in problems), problems


def test_a_series_is_told_from_contrasts(tmp_path):
    """Four axes are contrasts where the data set names as many channels, and else a series that is refused."""
    image, label, affine = own_data.volume(0)
    own_data.save(tmp_path / "label.nii.gz", label, affine)
    nib.Nifti1Image(np.stack([image, 2 * image], -1), affine).to_filename(tmp_path / "image.nii.gz")
    case = Case("one", (tmp_path / "image.nii.gz",), tmp_path / "label.nii.gz")
    (facts,), _ = read_cases([case], channels=2)
    assert facts.channels == 2
    none, problems = read_cases([case])
    assert none == []
    assert "2 channels or time points" in problems[0]
    assert "save the frames" in problems[0]


def test_labels_in_colours_are_refused_and_grey_in_colours_is_not(tmp_path):
    own_data.pictures(tmp_path)
    case = find_cases(tmp_path, "photos", "masks").cases[0]
    grey = Image.open(case.label)
    grey.convert("RGB").save(case.label)
    (facts,), problems = read_cases([case])
    assert problems == []
    assert {*facts.labels} == {255}
    assert facts.size == (48, 40)
    assert facts.channels == 3
    red = np.zeros((40, 48, 3), np.uint8)
    red[5:20, 5:20, 0] = 200
    Image.fromarray(red).save(case.label)
    _, problems = read_cases([case])
    assert "a label map in colours, 2 of them" in problems[0]
    assert case.label.name in problems[0]


def test_pictures_that_mislead_are_told(tmp_path):
    """Masks in JPEG, which changes numbers, and photographs that EXIF turns while their masks are not."""
    own_data.pictures(tmp_path)
    case = find_cases(tmp_path, "photos", "masks").cases[0]
    lossy = case.label.with_suffix(".jpg")
    Image.open(case.label).save(lossy, quality=60)
    _, (problem,) = read_cases([Case("one", case.images, lossy)])
    assert "JPEG changes the numbers of classes. Save label maps without loss" in problem
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(case.images[0]).save(tmp_path / "turned.jpg", exif=exif)
    _, (problem,) = read_cases([Case("one", (tmp_path / "turned.jpg",), case.label)])
    assert "is turned by its EXIF orientation" in problem


def test_a_slice_is_no_volume(case):
    rewrite(case.images[0], lambda a: a[:, :, :1])
    _, problems = read_cases([Case("one", case.images[:1], case.label)])
    assert "is a single slice, 22 x 24 x 1 voxels; legal are volumes" in problems[0]
