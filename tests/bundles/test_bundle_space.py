"""Laws of inference: what a file says about its space stays true, and its segmentation does not depend on it."""

import nibabel as nib
import numpy as np
import pytest
import torch
from nibabel.orientations import axcodes2ornt, ornt_transform

from equivariant_nets.rotations import plane_rotation

HIPPOCAMPUS = ["hippocampus_mri_so3_segmentation", "hippocampus_mri_conventional_segmentation"]
O3 = "hippocampus_mri_o3_segmentation"
AXCODES = ["RAS", "LPS", "PIR", "SAL", "IPL", "RSA"]


def volume(size=(16, 12, 19), seed=0):
    """A smooth volume without symmetry."""
    noise = torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.avg_pool3d(noise, 3, 1, 1)[0, 0].numpy()


def reoriented(image, axcodes):
    start, end = (axcodes2ornt(codes) for codes in (nib.aff2axcodes(image.affine), axcodes))
    return image.as_reoriented(ornt_transform(start, end))


@pytest.fixture
def segment(tmp_path, get_bundle, get_network, run_here):
    """Segment all files of a folder by a bundle with fixed random weights, which predict every class."""

    def run(name, folder):
        bundle = get_bundle(name)
        features, checkpoint = bundle.tiny["features"], tmp_path / "random.pt"
        torch.save(get_network(bundle.root, features).state_dict(), checkpoint)
        paths = {"dataset_dir": folder, "ckpt_path": checkpoint, "output_dir": tmp_path / "out"}
        run_here(bundle.root, "inference.json", features=features, **{key: str(path) for key, path in paths.items()})
        return {path.name.split("_seg")[0]: nib.load(path) for path in (tmp_path / "out").glob("*_seg.nii.gz")}

    return run


def oblique(spacing_mm=(1.0, 1.5, 0.8), degrees=12.0):
    """An affine in no lattice orientation, closest to RAS."""
    turn = plane_rotation((0, 2), degrees) @ plane_rotation((1, 2), -degrees)
    return nib.affines.from_matvec(turn @ np.diag(spacing_mm), [-7, 30, 12])


@pytest.mark.parametrize("affine", [oblique(degrees=0.0), oblique()], ids=["straight", "oblique"])
@pytest.mark.parametrize("name", HIPPOCAMPUS)
def test_the_orientation_of_the_file_does_not_matter(name, affine, segment, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    upright = nib.Nifti1Image(volume(), affine)
    sources = {axcodes: reoriented(upright, axcodes) for axcodes in AXCODES}
    for axcodes, source in sources.items():
        nib.save(source, folder / f"{axcodes}.nii.gz")
    labels = segment(name, folder)
    expected = labels["RAS"].get_fdata()
    assert labels.keys() == sources.keys()
    assert len(np.unique(expected)) > 1
    for axcodes, label in labels.items():
        assert label.shape == sources[axcodes].shape
        assert np.allclose(label.affine, sources[axcodes].affine, atol=1e-5)
        assert nib.aff2axcodes(label.affine) == tuple(axcodes)
        assert np.array_equal(reoriented(label, "RAS").get_fdata(), expected), axcodes


def test_any_spacing_and_data_type_comes_back_as_it_was(segment, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    images = {
        "thick": nib.Nifti1Image(volume((24, 22, 7)), np.diag([0.6, 0.6, 2.5, 1.0])),
        "coarse": nib.Nifti1Image(volume((9, 8, 10)), oblique((2.0, 2.0, 3.0), 30.0)),
        "integers": nib.Nifti1Image((1000 * volume()).astype(np.int16), np.diag([-1.0, -1.0, 1.0, 1.0])),
        "channel": nib.Nifti1Image(volume()[..., None], np.eye(4)),
    }
    for case, image in images.items():
        nib.save(image, folder / f"{case}.nii.gz")
    labels = segment(HIPPOCAMPUS[0], folder)
    assert labels.keys() == images.keys()
    for case, image in images.items():
        assert labels[case].shape == image.shape[:3], case
        assert np.allclose(labels[case].affine, image.affine, atol=1e-5), case
        assert set(np.unique(labels[case].get_fdata())) <= {0, 1, 2}
        assert len(np.unique(labels[case].get_fdata())) > 1


@pytest.mark.parametrize(("name", "is_equivariant"), list(zip(HIPPOCAMPUS, [True, False], strict=True)))
def test_a_turned_patient_is_segmented_alike_by_the_steerable_network_alone(name, is_equivariant, segment, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    upright = volume((15, 12, 17))
    turns = {"upright": (0, 0), "axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}
    for case, axes in turns.items():
        turned = np.rot90(upright, axes=axes) if case != "upright" else upright
        nib.save(nib.Nifti1Image(np.ascontiguousarray(turned), np.eye(4)), folder / f"{case}.nii.gz")
    labels = segment(name, folder)
    expected = labels["upright"].get_fdata()
    for case in ("axial", "coronal", "sagittal"):
        back = np.rot90(labels[case].get_fdata(), -1, axes=turns[case])
        agreement = np.mean(back == expected)
        assert agreement > 0.999 if is_equivariant else agreement < 0.95


@pytest.mark.parametrize(("name", "knows_mirrors"), [(O3, True), (HIPPOCAMPUS[0], False)])
def test_the_other_side_is_segmented_alike_by_the_network_under_mirrors_alone(name, knows_mirrors, segment, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    upright = volume((15, 12, 17))
    mirrors = {"upright": (), "left and right": 0, "up and down": 2, "all": None}
    for case, axes in mirrors.items():
        nib.save(nib.Nifti1Image(np.ascontiguousarray(np.flip(upright, axes)), np.eye(4)), folder / f"{case}.nii.gz")
    labels = segment(name, folder)
    expected = labels["upright"].get_fdata()
    assert len(np.unique(expected)) > 1
    for case, axes in mirrors.items():
        agreement = np.mean(np.flip(labels[case].get_fdata(), axes) == expected)
        assert agreement > 0.999 if knows_mirrors or case == "upright" else agreement < 0.95


def test_margins_their_value_and_the_unit_do_not_matter(segment, tmp_path):
    folder, margins = tmp_path / "images", [(9, 3), (0, 14), (6, 5)]
    folder.mkdir()
    values, affine = volume().astype(float), np.eye(4)
    files = {"plain": values, "unit": 500 * values + 3000}
    for name, filling in (("zero", 0.0), ("lowest", values.min()), ("air", -1024.0)):
        files[name] = np.pad(values, margins, constant_values=filling)
    for name, array in files.items():
        nib.save(nib.Nifti1Image(array, affine), folder / f"{name}.nii.gz")
    labels = {name: label.get_fdata() for name, label in segment(HIPPOCAMPUS[0], folder).items()}
    expected = labels.pop("plain")
    assert len(np.unique(expected)) > 1
    assert (labels.pop("unit") == expected).mean() > 0.999
    inside = tuple(slice(before, before + size) for (before, _), size in zip(margins, values.shape, strict=True))
    for label in labels.values():  # but for the voxels beside a margin of their own value
        assert (label[inside] == expected).mean() > 0.99
        label[inside] = 0
        assert not label.any()


def test_both_forms_and_the_unit_of_a_coregistered_file_stay(segment, tmp_path):
    folder, own, to_scanner = tmp_path / "images", np.diag([1.0, 1, 1, 1]), np.eye(4)
    folder.mkdir()
    to_scanner[:3, 3] = 40, -40, 40
    for case, per_mm, unit in (("mm", 1, "mm"), ("micron", 1000, "micron")):
        image = nib.Nifti1Image(volume(), own)
        image.set_sform(np.diag([per_mm] * 3 + [1]) @ own, 2)
        image.set_qform(np.diag([per_mm] * 3 + [1]) @ to_scanner, 1)
        image.header.set_xyzt_units(unit)
        nib.save(image, folder / f"{case}.nii.gz")
    labels = segment(HIPPOCAMPUS[0], folder)
    for case, label in labels.items():
        image = nib.load(folder / f"{case}.nii.gz")
        for form in ("get_sform", "get_qform"):
            (wanted, code), (found, own_code) = (getattr(file, form)(coded=True) for file in (image, label))
            assert np.allclose(found, wanted)
            assert own_code == code
        assert label.header.get_xyzt_units()[0] == case
    assert len(np.unique(labels["mm"].get_fdata())) > 1
    assert np.array_equal(labels["mm"].get_fdata(), labels["micron"].get_fdata())
