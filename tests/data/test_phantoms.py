"""Phantoms: the same for the same seed, whole in every pose, and without a sign of orientation but the stem."""

import subprocess

import nibabel as nib
import numpy as np
import pytest
from fresh import python

from equivariant_nets.data import phantom, phantom_datalist, write_phantoms

SIZE = (24, 24, 24)
COUNTS = {"num_training": 3, "num_validation": 1, "num_test": 2, "size": (20, 20, 20)}


def draw(seed, size=SIZE, **options):
    return phantom(np.random.RandomState(seed), size, **options)


def centre(mask):
    return np.argwhere(mask).mean(0)


def direction(label):
    """From the caudal to the rostral nucleus, a unit vector."""
    axis = centre(label == 3) - centre(label == 2)
    return axis / np.linalg.norm(axis)


def test_the_same_seed_gives_the_same_phantom_and_another_seed_another():
    first, again, other = draw(0), draw(0), draw(1)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[1], other[1])


@pytest.mark.parametrize("size", [(24, 24, 24), (20, 26, 31)], ids=str)
@pytest.mark.parametrize("max_tilt_degrees", [10.0, None])
def test_images_are_finite_magnitudes_and_all_labels_lie_inside(size, max_tilt_degrees):
    for seed in range(8):
        image, label = draw(seed, size, max_tilt_degrees=max_tilt_degrees)
        assert image.shape == label.shape == size
        assert image.dtype == np.float32
        assert np.isfinite(image).all()
        assert (image >= 0).all()
        assert set(np.unique(label)) == {0, 1, 2, 3}
        border = np.ones(size, dtype=bool)
        border[1:-1, 1:-1, 1:-1] = False
        assert not label[border].any()


def test_only_the_stem_tells_the_nuclei_apart():
    """Size and brightness of the two nuclei differ no more than by chance; the caudal one is nearer to the stem."""
    differences = []
    for seed in range(40):
        image, label = draw(seed, max_tilt_degrees=None)
        nuclei = [label == 2, label == 3]
        differences.append([np.log(n.sum()) + 1j * np.log(image[n].mean()) for n in nuclei])
        distances = [np.linalg.norm(centre(n) - centre(label == 1)) for n in nuclei]
        assert distances[0] < distances[1]
    difference = np.diff(np.array(differences), axis=1)[:, 0]
    for part in (difference.real, difference.imag):
        assert abs(part.mean()) < 3 * part.std(ddof=1) / np.sqrt(len(part))


def test_upright_phantoms_point_up_and_free_ones_everywhere():
    upright = np.array([direction(draw(seed)[1]) for seed in range(30)])
    free = np.array([direction(draw(seed, max_tilt_degrees=None)[1]) for seed in range(60)])
    assert (upright @ (0, 0, 1) > np.cos(np.deg2rad(20))).all()  # 10 degrees, and those of the deformation
    assert np.linalg.norm(free.mean(0)) < 0.35
    assert (free @ (0, 0, 1) < -0.5).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": (24, 24)}, r"size=\(24, 24\)"),
        ({"size": (24, 24, 19)}, "whole numbers of voxels from 20"),
        ({"max_tilt_degrees": -1}, "-1"),
    ],
)
def test_illegal_phantoms_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        draw(0, **{"size": SIZE, **options})


def read(folder, section):
    return [nib.load(case["image"]).get_fdata() for case in phantom_datalist(folder, section)]


def test_case_k_does_not_depend_on_how_many_are_written(tmp_path):
    few = write_phantoms(tmp_path / "few", **COUNTS)
    many = write_phantoms(tmp_path / "many", **{**COUNTS, "num_training": 5, "num_test": 3})
    other = write_phantoms(tmp_path / "other", **COUNTS, seed=1)
    for section in ("training", "test", "upright_test"):
        for a, b, c in zip(read(few, section), read(many, section), read(other, section), strict=False):
            assert np.array_equal(a, b)
            assert not np.array_equal(a, c)
    assert [len(phantom_datalist(many, s)) for s in ("training", "validation", "test", "upright_test")] == [5, 1, 3, 3]


def test_poses_of_the_sections(tmp_path):
    folder = write_phantoms(tmp_path, **{**COUNTS, "num_test": 8})

    def cosines(section):
        labels = [nib.load(case["label"]).get_fdata() for case in phantom_datalist(folder, section)]
        return np.array([direction(label)[2] for label in labels])

    for section in ("training", "validation", "upright_test"):
        assert (cosines(section) > 0.9).all()
    assert (cosines("test") < 0.5).any()


def test_a_complete_data_set_is_left_alone_and_another_one_replaced(tmp_path):
    write_phantoms(tmp_path, **COUNTS)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nii.gz")}
    write_phantoms(tmp_path, **COUNTS)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nii.gz")} == before
    write_phantoms(tmp_path, **{**COUNTS, "num_training": 2})
    assert len(list((tmp_path / "imagesTr").iterdir())) == 3
    next(tmp_path.rglob("*.nii.gz")).unlink()
    write_phantoms(tmp_path, **{**COUNTS, "num_training": 2})
    assert len(list(tmp_path.rglob("*.nii.gz"))) == 2 * 7


def test_a_data_set_of_another_kind_is_never_overwritten(tmp_path):
    (tmp_path / "dataset.json").write_text('{"name": "mine"}')
    with pytest.raises(ValueError, match=r"did not write\. Choose another folder"):
        write_phantoms(tmp_path, **COUNTS)
    assert (tmp_path / "dataset.json").read_text() == '{"name": "mine"}'
    assert len(list(tmp_path.iterdir())) == 1


def test_processes_that_write_one_folder_wait_for_each_other(tmp_path):
    code = f"from equivariant_nets.data import write_phantoms; write_phantoms({str(tmp_path)!r}, **{COUNTS})"
    processes = [subprocess.Popen([python(), "-c", code]) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert np.array_equal(read(tmp_path, "training"), read(write_phantoms(tmp_path / "alone", **COUNTS), "training"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_test": 0}, "num_test=0 is less than 1"),
        ({"seed": -1}, "seed=-1 is negative"),
        ({"size": (9, 9, 9)}, "20"),
    ],
)
def test_illegal_data_sets_are_refused_before_anything_is_written(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        write_phantoms(tmp_path / "new", **{**COUNTS, **options})
    assert not (tmp_path / "new").exists()
