"""Laws of the rotation matrices."""

import numpy as np
import pytest

from equivariant_nets.rotations import PLANES, lattice_rotations, lattice_symmetries, plane_rotation, random_rotation

GROUPS = [lattice_symmetries(2), lattice_symmetries(3), lattice_rotations()]


def is_rotation(matrix):
    return np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-14) and np.isclose(np.linalg.det(matrix), 1)


@pytest.mark.parametrize(("group", "order"), [*zip(GROUPS, (8, 48, 24), strict=True)])
def test_number_of_distinct_elements(group, order):
    assert len({tuple(m.flatten()) for m in group}) == len(group) == order


@pytest.mark.parametrize("group", GROUPS)
def test_signed_permutations_closed_under_products_and_inverses(group):
    elements = {tuple(m.flatten()) for m in group}
    for a in group:
        assert sorted(np.abs(a).flatten()) == [0] * (a.size - len(a)) + [1] * len(a)
        assert tuple(a.T.flatten() + 0.0) in elements
        assert all(tuple((a @ b).flatten() + 0.0) in elements for b in group)


def test_lattice_rotations_begin_with_the_identity_and_are_proper():
    assert np.array_equal(lattice_rotations()[0], np.eye(3))
    assert all(is_rotation(m) for m in lattice_rotations())


@pytest.mark.parametrize("degrees", [-30, 10, 45, 123.4])
@pytest.mark.parametrize("plane", [*PLANES, (1, 0), (2, 1)])
def test_plane_rotation_turns_the_first_axis_towards_the_second(plane, degrees):
    first, second = PLANES.get(plane, plane)
    matrix, radians = plane_rotation(plane, degrees), np.deg2rad(degrees)
    turned = np.zeros(3)
    turned[[first, second]] = np.cos(radians), np.sin(radians)
    fixed = np.eye(3)[3 - first - second]
    assert is_rotation(matrix)
    assert np.allclose(matrix @ np.eye(3)[first], turned)
    assert np.array_equal(matrix @ fixed, fixed)


@pytest.mark.parametrize("degrees", [-450, -90, 0, 90, 180, 270, 360, 720.0])
@pytest.mark.parametrize("plane", PLANES)
def test_multiples_of_90_degrees_are_exact(plane, degrees):
    assert any(np.array_equal(plane_rotation(plane, degrees), m) for m in lattice_rotations())


def test_angles_add_up():
    assert np.allclose(plane_rotation("axial", 20) @ plane_rotation("axial", 35), plane_rotation("axial", 55))


@pytest.mark.parametrize(
    ("plane", "message"),
    [
        ("oblique", r"plane='oblique' is not one of .*axial.*\(0, 1\)"),
        ((0, 0), "two different axes"),
        ((0, 3), "two different axes among 0, 1 and 2"),
    ],
)
def test_illegal_planes_are_refused(plane, message):
    with pytest.raises(ValueError, match=message):
        plane_rotation(plane, 10)


def test_random_rotations_are_proper_and_follow_the_seed():
    draws = [random_rotation(np.random.RandomState(seed)) for seed in (0, 0, 1)]
    assert all(is_rotation(m) for m in draws)
    assert np.array_equal(draws[0], draws[1])
    assert not np.allclose(draws[0], draws[2])


def test_random_rotations_are_uniform():
    random_state = np.random.RandomState(0)
    draws = np.stack([random_rotation(random_state) for _ in range(4000)])
    assert np.abs(draws.mean(0)).max() < 0.05  # means of D_1 vanish under the Haar measure,
    assert np.abs((draws**2).mean(0) - 1 / 3).max() < 0.03  # those of its squares are 1/3,
    angles = np.arccos(np.clip((np.trace(draws, axis1=1, axis2=2) - 1) / 2, -1, 1))
    assert abs((angles < np.pi / 2).mean() - (0.5 - 1 / np.pi)) < 0.03  # and angles have density (1 - cos a) / pi
