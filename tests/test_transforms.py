"""Laws of the rotation transforms: exact on the lattice, right in the world, the same for all keys, and reversible."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.transforms import Compose, Identityd, Invertd, ResizeWithPadOrCrop
from monai.utils import TraceKeys

from equivariant_nets.rotations import lattice_rotations, lattice_symmetries, plane_rotation, random_rotation
from equivariant_nets.transforms import (
    RandRotateAxisd,
    RandRotateLatticed,
    RandRotateUniformd,
    RotateMatrixd,
    rotation_augmentation,
)

SIZES = [(5, 5, 5), (4, 4, 4), (4, 5, 6), (7, 2, 4)]
# Oblique, anisotropic, mirrored and shifted, as an affine of a scanner can be.
WORLD = np.eye(4)
WORLD[:3, :3] = plane_rotation("axial", 25) @ np.diag([-1.0, 0.8, 2.5])
WORLD[:3, 3] = [10.0, -20.0, 5.0]


def noise(size, channels=1, dtype=torch.float64, seed=0):
    return torch.randn(channels, *size, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def blob(size, centre):
    """A Gaussian that interpolation reproduces well."""
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in size), indexing="ij")
    return torch.exp(-sum((x - c) ** 2 for x, c in zip(axes, centre, strict=True)) / 6.0)[None]


def centroid(volume):
    weights = np.asarray(volume[0], dtype=float)
    return np.array([(i * weights).sum() for i in np.indices(weights.shape)]) / weights.sum()


def ball_label(size=(15, 15, 15)):
    """A label map with the values 0, 2 and 5: two halves of a ball."""
    ball = blob(size, [n / 2 - 0.5 for n in size]) > 0.02
    return torch.where(torch.arange(size[0])[None, :, None, None] < size[0] // 2, 2, 5) * ball


def turn(volume, matrix, **options):
    return RotateMatrixd("image", matrix, **options)({"image": volume})["image"]


@pytest.mark.parametrize("mode", [3, "bilinear", "nearest"])
@pytest.mark.parametrize("size", SIZES)
def test_lattice_rotations_move_each_voxel_to_where_the_matrix_says(size, mode):
    volume = noise(size, channels=2)
    voxels = np.indices(size).reshape(3, -1).T
    for matrix in lattice_rotations():
        turned = turn(volume, matrix, mode=mode)
        expected_size = (np.abs(matrix) @ size).astype(int)
        target = (voxels - (np.array(size) - 1) / 2) @ matrix.T + (expected_size - 1) / 2
        target = target.astype(int)
        assert tuple(turned.shape[1:]) == tuple(expected_size)
        assert turned.dtype == volume.dtype
        assert torch.equal(turned[(slice(None), *target.T)].as_tensor(), volume.flatten(1))


def test_quarter_turns_are_rot90():
    volume = noise((4, 5, 6))
    for plane, dims in (("axial", (1, 2)), ("coronal", (1, 3)), ("sagittal", (2, 3))):
        for quarter in range(-1, 4):
            turned = turn(volume, plane_rotation(plane, 90 * quarter))
            assert torch.equal(turned.as_tensor(), torch.rot90(volume, quarter, dims))


def test_lattice_rotation_given_with_rounding_error_is_exact():
    angle = np.pi / 2 + 1e-7
    matrix = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    assert matrix[0, 0] != 0
    volume = noise((4, 5, 6))
    assert torch.equal(turn(volume, matrix).as_tensor(), torch.rot90(volume, 1, (1, 2)))


def test_composition_is_the_matrix_product():
    volume = noise((3, 4, 5))
    for first in lattice_rotations():
        for second in lattice_rotations()[::5]:
            assert torch.equal(turn(turn(volume, first), second), turn(volume, second @ first))


@pytest.mark.parametrize("mode", [1, 3, "bilinear"])
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_free_angle_turns_content_as_the_matrix_says(plane, mode):
    size, start = np.array([17, 18, 19]), np.array([6.0, 10.0, 8.0])
    matrix = plane_rotation(plane, 30)
    turned = turn(blob(size, start), matrix, mode=mode)
    expected = matrix @ (start - (size - 1) / 2) + (np.array(turned.shape[1:]) - 1) / 2
    np.testing.assert_allclose(centroid(turned), expected, atol=0.01)


def test_small_positive_angle_turns_first_axis_towards_second():
    volume = torch.zeros(1, 9, 9, 9)
    volume[0, 8, 4, 4] = 1  # on the positive half of the first axis
    turned = turn(volume, plane_rotation((0, 1), 40), mode="bilinear", keep_size=True)
    assert centroid(turned)[1] > 5


@pytest.mark.parametrize("mode", [1, 3, "bilinear", "nearest", "one_hot"])
def test_canvas_grows_so_that_nothing_is_lost(mode):
    matrix = random_rotation(np.random.RandomState(1))
    volume = torch.ones(1, 6, 9, 12)
    grown = turn(volume, matrix, mode=mode)
    assert tuple(grown.shape[1:]) == tuple(np.ceil(np.abs(matrix) @ [6, 9, 12]))
    assert float(grown.sum()) == pytest.approx(float(volume.sum()), rel=0.02)
    kept = turn(volume, matrix, mode=mode, keep_size=True)
    assert kept.shape == volume.shape
    assert kept.sum() < 0.95 * volume.sum()


@pytest.mark.parametrize("mode", [3, "nearest", "bilinear", "one_hot"])
@pytest.mark.parametrize("keep_size", [True, False])
def test_world_position_of_content_is_kept(mode, keep_size):
    size, start = (15, 16, 17), np.array([6.0, 9.0, 8.0])
    volume = blob(size, start)
    if mode in ("nearest", "one_hot"):
        volume = (volume > 0.1).float()
    item = MetaTensor(volume, affine=torch.as_tensor(WORLD))
    rng = np.random.RandomState(0)
    for matrix in (plane_rotation("coronal", 90), plane_rotation("axial", 35), random_rotation(rng)):
        turned = turn(item, matrix, mode=mode, keep_size=keep_size)
        former_voxel = np.linalg.inv(WORLD) @ turned.affine.numpy() @ [*centroid(turned), 1]
        np.testing.assert_allclose(former_voxel[:3], start, atol=0.15 if mode in ("nearest", "one_hot") else 0.01)


def test_world_position_of_each_voxel_is_kept_on_the_lattice():
    item = MetaTensor(torch.arange(60.0).reshape(1, 3, 4, 5), affine=torch.as_tensor(WORLD))
    for matrix in lattice_rotations():
        turned = turn(item, matrix)
        for value in (0, 7, 33, 59):
            start, end = (np.argwhere(np.asarray(v[0]) == value)[0] for v in (item, turned))
            np.testing.assert_allclose(turned.affine.numpy() @ [*end, 1], WORLD @ [*start, 1], atol=1e-9)


def test_the_input_is_left_alone_and_its_metadata_kept():
    item = MetaTensor(noise((4, 5, 6)), affine=torch.as_tensor(WORLD), meta={"filename_or_obj": "a.nii.gz"})
    before = item.clone()
    for matrix in (np.eye(3), plane_rotation("axial", 90), plane_rotation("axial", 30)):
        turned = turn(item, matrix)
        assert turned.meta["filename_or_obj"] == "a.nii.gz"
        assert len(turned.applied_operations) == 1
        turned += 1
    assert torch.equal(item, before)
    assert torch.equal(item.affine, before.affine)
    assert item.applied_operations == []


@pytest.mark.parametrize("size", SIZES)
def test_inverse_is_exact_on_the_lattice(size):
    item = {"image": MetaTensor(noise(size), affine=torch.as_tensor(WORLD))}
    for matrix in lattice_rotations():
        transform = RotateMatrixd("image", matrix)
        back = transform.inverse(transform(item))["image"]
        assert torch.equal(back, item["image"])
        np.testing.assert_allclose(back.affine, WORLD, atol=1e-9)
        assert back.applied_operations == []


@pytest.mark.parametrize("mode", [3, "bilinear", "one_hot"])
def test_inverse_restores_shape_world_and_values(mode):
    volume = ball_label() if mode == "one_hot" else blob((15, 16, 17), (6, 9, 8))
    item = {"image": MetaTensor(volume, affine=torch.as_tensor(WORLD))}
    transform = RotateMatrixd("image", random_rotation(np.random.RandomState(3)), mode=mode)
    back = transform.inverse(transform(item))["image"]
    assert back.shape == volume.shape
    np.testing.assert_allclose(back.affine, WORLD, atol=1e-9)
    assert (back - volume).abs().double().mean() < (0.05 if mode == "one_hot" else 0.005)


@pytest.mark.parametrize("scheme", ["moderate", "full", "uniform", "lattice"])
def test_invertd_brings_a_prediction_back(scheme):
    image = MetaTensor(blob((15, 16, 17), (6, 9, 8)), affine=torch.as_tensor(WORLD))
    transform = Compose([rotation_augmentation(scheme, "image", 3)]).set_random_state(seed=1)
    item = transform({"image": image})
    item["pred"] = MetaTensor((item["image"] > 0.3).as_tensor().float())
    inverted = Invertd("pred", transform, orig_keys="image", nearest_interp=True)(item)["pred"]
    truth = image > 0.3
    assert inverted.shape == image.shape
    assert set(inverted.unique().tolist()) == {0.0, 1.0}
    assert (inverted.bool() & truth).sum() * 2 / (inverted.bool().sum() + truth.sum()) > 0.85
    np.testing.assert_allclose(inverted.affine, WORLD, atol=1e-9)


@pytest.mark.parametrize("scheme", ["moderate", "full", "uniform", "lattice"])
def test_all_keys_of_an_item_turn_alike(scheme):
    volume = blob((13, 13, 13), (4, 7, 6))
    transform = rotation_augmentation(scheme, ("a", "b"), (3, "bilinear")).set_random_state(seed=2)
    matrices = []
    for _ in range(3):
        item = transform({"a": volume, "b": volume.numpy(), "other": "kept"})
        np.testing.assert_allclose(centroid(item["a"]), centroid(item["b"]), atol=0.05)
        np.testing.assert_allclose(item["a"].affine, item["b"].affine)
        assert item["other"] == "kept"
        matrices.append(transform.matrix)
    assert not np.allclose(matrices[0], matrices[1])
    assert all(np.allclose(m @ m.T, np.eye(3)) and np.linalg.det(m) > 0 for m in matrices)


@pytest.mark.parametrize("scheme", ["moderate", "full", "uniform", "lattice"])
def test_a_seed_reproduces_the_draws(scheme):
    def run(seed):
        transform = rotation_augmentation(scheme, "image", "bilinear", prob=0.7).set_random_state(seed=seed)
        return torch.cat([transform({"image": noise((5, 5, 5))})["image"] for _ in range(5)])

    assert torch.equal(run(5), run(5))
    assert not torch.equal(run(5), run(6))


def test_axis_range_and_planes_are_respected():
    transform = RandRotateAxisd("image", range_degrees=(-20, 20), planes=("coronal", (1, 2)), mode="nearest")
    transform.set_random_state(seed=0)
    seen = set()
    for _ in range(40):
        transform.randomize((4, 4, 4))
        matrix = transform.matrix
        axis = int(np.argmax(np.isclose(np.diag(matrix), 1)))
        angle = np.degrees(np.arccos((np.trace(matrix) - 1) / 2))
        assert angle <= 20
        seen.add(axis)
    assert seen == {0, 1}  # the axes normal to the planes (1, 2) and (0, 2)


def test_lattice_draws_all_rotations_or_those_that_keep_the_size():
    for size, keep_size, count in (
        ((4, 4, 4), True, 24),
        ((4, 4, 6), True, 8),
        ((4, 5, 6), True, 4),
        ((4, 5, 6), False, 24),
    ):
        transform = RandRotateLatticed("image", keep_size=keep_size).set_random_state(seed=0)
        drawn = set()
        for _ in range(400):
            transform.randomize(size)
            drawn.add(transform.matrix.tobytes())
        assert len(drawn) == count
        volume = noise(size)
        turned = transform({"image": volume})["image"]
        assert torch.equal(turned.flatten().sort().values.as_tensor(), volume.flatten().sort().values)


@pytest.mark.parametrize("scheme", ["none", "moderate", "full", "uniform", "lattice"])
@pytest.mark.parametrize("size", [(9, 7, 5), (11, 15, 13)])
def test_a_canvas_of_a_given_size_is_the_centre_of_the_turned_volume(scheme, size):
    volume = MetaTensor(blob((15, 15, 15), (6, 8, 9)), affine=torch.as_tensor(WORLD))
    item = {"image": volume, "label": MetaTensor((volume > 0.5).float())}
    options = {"keys": ("image", "label"), "mode": ("bilinear", "one_hot")}
    whole, patch = (
        Compose([rotation_augmentation(scheme, **options, **canvas)]).set_random_state(seed=3)(item)
        for canvas in ({"keep_size": True}, {"spatial_size": size})
    )
    for key in item:
        assert tuple(patch[key].shape[1:]) == size
        expected = ResizeWithPadOrCrop(size)(whole[key])  # of odd sizes, whose centres are voxels
        assert torch.allclose(patch[key].as_tensor(), expected.as_tensor(), atol=1e-6)
        np.testing.assert_allclose(patch[key].affine, expected.affine, atol=1e-9)


def test_a_patch_cut_with_its_corners_is_turned_without_an_empty_one():
    transform = RandRotateUniformd("image", spatial_size=(8, 8, 8), mode="bilinear").set_random_state(seed=0)
    for _ in range(5):
        assert torch.allclose(transform({"image": torch.ones(1, 14, 14, 14)})["image"], torch.ones(1, 8, 8, 8))


def test_random_rotation_is_uniform():
    rng = np.random.RandomState(0)
    matrices = np.stack([random_rotation(rng) for _ in range(4000)])
    np.testing.assert_allclose(np.linalg.det(matrices), 1)
    np.testing.assert_allclose(
        matrices @ matrices.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (4000, 3, 3)), atol=1e-9
    )
    # Under the Haar measure E[R] = 0, E[R_ij^2] = 1/3, E[tr R] = 0, Var[tr R] = 1.
    assert np.abs(matrices.mean(0)).max() < 0.04
    assert np.abs((matrices**2).mean(0) - 1 / 3).max() < 0.03
    traces = np.trace(matrices, axis1=1, axis2=2)
    assert abs(traces.mean()) < 0.06
    assert abs(traces.var() - 1) < 0.08


@pytest.mark.parametrize("padding_mode", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["nearest", "one_hot"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32])
def test_turned_labels_keep_their_values_and_dtype(mode, padding_mode, dtype):
    label = ball_label().to(dtype)
    transform = RandRotateUniformd("label", mode=mode, padding_mode=padding_mode).set_random_state(seed=0)
    for _ in range(3):
        turned = transform({"label": label})["label"]
        assert turned.dtype == dtype
        assert set(turned.unique().tolist()) == {0, 2, 5}
        for value in (2, 5):
            assert float((turned == value).sum()) == pytest.approx(float((label == value).sum()), rel=0.06)


def test_one_hot_is_smoother_than_nearest():
    label = ball_label()
    matrix = plane_rotation("axial", 30)

    def surface(turned):
        return sum(int((turned.diff(dim=d) != 0).sum()) for d in (1, 2, 3))

    assert surface(turn(label, matrix, mode="one_hot")) <= surface(turn(label, matrix, mode="nearest"))


def test_one_hot_treats_the_outside_as_background():
    matrix = plane_rotation("axial", 45)
    turned = turn(torch.full((2, 8, 8, 8), 3), matrix, mode="one_hot")
    assert set(turned.unique().tolist()) == {0, 3}
    assert (turned[:, 0, 0] == 0).all()
    assert (turn(torch.zeros(1, 8, 8, 8), matrix, mode="one_hot") == 0).all()


@pytest.mark.parametrize("cls", [RandRotateAxisd, RandRotateLatticed, RandRotateUniformd])
@pytest.mark.parametrize("keep_size", [True, False])
def test_an_item_that_is_not_drawn_is_copied_and_reversible(cls, keep_size):
    item = {"image": MetaTensor(noise((4, 5, 6)), affine=torch.as_tensor(WORLD)), "ct": torch.ones(1, 4, 5, 6).short()}
    transform = cls(("image", "ct"), prob=0.0, keep_size=keep_size)
    turned = transform(item)
    assert torch.equal(turned["image"], item["image"])
    assert torch.equal(turned["image"].affine, item["image"].affine)
    assert turned["ct"].dtype == torch.float32  # as if it had been turned
    assert turned["image"].applied_operations[-1][TraceKeys.DO_TRANSFORM] is False
    back = transform.inverse(turned)["image"]
    assert torch.equal(back, item["image"])
    assert torch.equal(back.affine, item["image"].affine)


def test_batches_can_be_taken_apart_and_reversed():
    transform = RandRotateLatticed("image", prob=0.5).set_random_state(seed=0)
    items = [{"image": MetaTensor(noise((4, 4, 4), seed=i), affine=torch.as_tensor(WORLD))} for i in range(6)]
    batch = next(iter(DataLoader(Dataset(items, transform), batch_size=6)))
    assert batch["image"].shape == (6, 1, 4, 4, 4)
    for item, turned in zip(items, decollate_batch(batch), strict=True):
        assert torch.equal(transform.inverse(turned)["image"], item["image"])


def test_missing_keys():
    for transform in (RotateMatrixd("image", np.eye(3)), RandRotateUniformd("image")):
        with pytest.raises(KeyError, match="image"):
            transform({"label": 1})
    assert RandRotateUniformd("image", allow_missing_keys=True)({"label": 1}) == {"label": 1}
    item = RandRotateUniformd(("image", "label"), allow_missing_keys=True)({"label": torch.ones(1, 4, 4, 4)})
    assert list(item) == ["label"]


def test_schemes():
    types = {
        "moderate": RandRotateAxisd,
        "full": RandRotateAxisd,
        "uniform": RandRotateUniformd,
        "lattice": RandRotateLatticed,
    }
    for scheme, cls in types.items():
        transform = rotation_augmentation(scheme, ("a", "b"), (3, "nearest"), prob=0.5, padding_mode="border")
        assert type(transform) is cls
        assert (transform.mode, transform.padding_mode) == ((3, "nearest"), ("border", "border"))
        assert transform.prob == 0.5
    assert rotation_augmentation("moderate", "a", 3).range_degrees == (-20, 20)
    assert rotation_augmentation("full", "a", 3).range_degrees == (0, 360)
    assert isinstance(rotation_augmentation("none", "a", 3), Identityd)
    with pytest.raises(ValueError, match=r"'some' is unknown.*none.*moderate.*full.*uniform.*lattice"):
        rotation_augmentation("some", "a", 3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RotateMatrixd("a", -np.eye(3)), "reflection.*Flipd"),
        (lambda: RotateMatrixd("a", [[1, 0, 0], [0, 1, 1], [0, 0, 1]]), "not an orthogonal"),
        (lambda: RotateMatrixd("a", np.eye(4)), "not an orthogonal 3x3"),
        (lambda: RotateMatrixd(("a", "b"), np.eye(3), mode=(3, 3, 3)), "2 keys.*one per key"),
        (lambda: RotateMatrixd("a", np.eye(3), mode="cubic"), "'cubic'.*'one_hot'"),
        (lambda: RandRotateUniformd("a", padding_mode="wrap"), "'wrap'.*'border'"),
        (lambda: RandRotateAxisd("a", range_degrees=20), r"20 is not a range.*\(-20, 20\)"),
        (lambda: RandRotateAxisd("a", range_degrees=(20, -20)), "not a range"),
        (lambda: RandRotateAxisd("a", range_degrees=(0, float("nan"))), "not a range"),
        (lambda: RandRotateUniformd("a", spatial_size=(4, 4)), r"\(4, 4\) is not the size \(D, H, W\)"),
        (lambda: rotation_augmentation("full", "a", 3, spatial_size=(4, 0, 4)), "three positive numbers"),
        (lambda: RandRotateAxisd("a", planes=("oblique",)), "oblique.*axial"),
        (lambda: RandRotateAxisd("a", planes="axial"), "not a sequence of planes"),
        (lambda: RandRotateAxisd("a", planes=()), "not a sequence of planes"),
    ],
)
def test_bad_arguments_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("cls", [RandRotateAxisd, RandRotateLatticed, RandRotateUniformd])
@pytest.mark.parametrize("shape", [(1, 8, 8), (8, 8), (1, 1, 8, 8, 8), (1, 1, 8, 8)])
def test_items_that_are_no_volumes_are_refused_by_name(cls, shape):
    item = MetaTensor(torch.zeros(shape), meta={"filename_or_obj": "case_7.nii.gz"})
    with pytest.raises(ValueError, match=r"'image' \(file case_7.nii.gz\).*EnsureChannelFirstd"):
        cls("image", prob=0.0)({"image": item})


def test_one_hot_refuses_images():
    with pytest.raises(ValueError, match=r"whole numbers.*one_hot"):
        turn(noise((4, 4, 4)), plane_rotation("axial", 30), mode="one_hot")


def test_all_48_symmetries_are_judged_by_their_determinant():
    rotations = 0
    for matrix in lattice_symmetries(3):
        try:
            RotateMatrixd("image", matrix)
            rotations += 1
        except ValueError:
            assert np.linalg.det(matrix) < 0
    assert rotations == 24
