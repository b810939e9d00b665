"""Laws of the groups."""

import numpy as np
import pytest
from fields import GROUPS

from equivariant_nets.networks.regular import find_group

ORDERS = {"trivial": 1, "C1": 1, "C8": 8, "C16": 16, "D1": 2, "D4": 8, "D8": 16, "V4": 4, "T": 12, "O": 24, "O_h": 48}


@pytest.fixture(params=GROUPS, ids=str)
def group(request):
    return find_group(*request.param)


def test_order(group):
    assert group.order == ORDERS.get(group.name, group.order)
    assert group.matrices.shape == (group.order, group.spatial_dims, group.spatial_dims)


def test_matrices_are_orthogonal_and_differ(group):
    products = group.matrices @ group.matrices.transpose(0, 2, 1)
    assert np.allclose(products, np.eye(group.spatial_dims), atol=1e-12)
    distances = np.abs(group.matrices[:, None] - group.matrices).max((2, 3))
    assert (distances + np.eye(group.order) > 1e-3).all()


def test_closed_under_composition(group):
    products = np.einsum("aij,bjk->abik", group.matrices, group.matrices)
    assert np.allclose(products, group.matrices[group.composition], atol=1e-9)


def test_associative(group):
    table, elements = group.composition, np.arange(group.order)
    left = table[table[elements[:, None, None], elements[:, None]], elements]
    right = table[elements[:, None, None], table[elements[:, None], elements]]
    assert (left == right).all()


def test_identity_and_inverses(group):
    elements = np.arange(group.order)
    assert np.array_equal(group.matrices[0], np.eye(group.spatial_dims))
    assert np.array_equal(group.composition[0], elements)
    assert np.array_equal(group.composition[:, 0], elements)
    assert (group.composition[group.inverse, elements] == 0).all()
    assert (group.composition[elements, group.inverse] == 0).all()


def test_relative_elements_solve_g_x_is_h(group):
    elements = np.arange(group.order)
    assert np.array_equal(group.composition[elements[:, None], group.relative], np.tile(elements, (group.order, 1)))


def test_rotations_alone_in_c_n_and_half_reflections_in_d_n(group):
    reflections = (np.linalg.det(group.matrices) < 0).sum()
    assert reflections == (group.order // 2 if group.name[0] == "D" or group.name == "O_h" else 0)


def test_lattice_subgroup_is_closed_and_of_signed_permutations(group):
    subgroup = group.lattice_subgroup
    assert np.isin(group.composition[np.ix_(subgroup, subgroup)], subgroup).all()
    assert set(np.unique(group.matrices[subgroup])) <= {-1.0, 0.0, 1.0}
    assert group.is_lattice_group == (len(subgroup) == group.order)


@pytest.mark.parametrize(
    ("name", "size"), [("C8", 4), ("D8", 8), ("C16", 4), ("C3", 1), ("D3", 2), ("C6", 2), ("D6", 4)]
)
def test_lattice_subgroups_of_the_plane(name, size):
    assert len(find_group(name, 2).lattice_subgroup) == size


@pytest.mark.parametrize(
    ("name", "spatial_dims", "spacing", "kept"),
    [("V4", 3, (1, 2, 3), True), ("O", 3, (1, 1, 3), False), ("T", 3, (1, 1, 1), True), ("D2", 2, (1, 2), True),
     ("C4", 2, (1, 2), False)],
)  # fmt: skip
def test_which_spacings_a_group_keeps(name, spatial_dims, spacing, kept):
    assert find_group(name, spatial_dims).keeps(spacing) == kept


@pytest.mark.parametrize(("name", "spatial_dims"), [("O", 2), ("C4", 3), ("C0", 2), ("D", 2), ("SO3", 3), ("", 2)])
def test_an_unknown_group_lists_the_known_ones(name, spatial_dims):
    with pytest.raises(ValueError, match=f"is not known in {spatial_dims}-D; choose from trivial, "):
        find_group(name, spatial_dims)


def test_other_dimensions():
    with pytest.raises(ValueError, match="spatial_dims=4 is not supported"):
        find_group("C4", 4)
