"""Laws of the filter bases."""

import math

import pytest
import torch
from fields import GROUPS, LATTICE_GROUPS

from equivariant_nets.equivariance import transform_field
from equivariant_nets.networks.kernels import SHARE_OF_MEAN, tap_correlation
from equivariant_nets.networks.regular import find_group
from equivariant_nets.networks.regular.basis import filter_basis

SIZES = [1, 3, 5]


def ones(group):
    return (1.0,) * group.spatial_dims


@pytest.mark.parametrize("kernel_size", SIZES)
@pytest.mark.parametrize("case", GROUPS, ids=str)
def test_lattice_elements_turn_the_sampled_filters(case, kernel_size):
    group = find_group(*case)
    basis = filter_basis(group, kernel_size, ones(group))
    for element in group.lattice_subgroup:
        turned = transform_field(basis, group.matrices[element])
        assert torch.allclose(turned, basis[torch.from_numpy(group.composition[element])], atol=1e-12)


@pytest.mark.parametrize("kernel_size", SIZES)
@pytest.mark.parametrize("case", GROUPS, ids=str)
def test_filters_are_independent_and_of_unit_response(case, kernel_size):
    group = find_group(*case)
    filters = filter_basis(group, kernel_size, ones(group))[0].flatten(1)
    assert torch.linalg.matrix_rank(filters) == len(filters)
    axis = torch.arange(kernel_size, dtype=torch.float64) - kernel_size // 2
    correlation = tap_correlation([axis] * group.spatial_dims, SHARE_OF_MEAN)
    assert torch.allclose(torch.einsum("bx,xy,by->b", filters, correlation, filters), torch.ones(()).double())


@pytest.mark.parametrize("case", LATTICE_GROUPS, ids=str)
def test_a_lattice_group_has_every_tap(case):
    group = find_group(*case)
    basis = filter_basis(group, 3, ones(group))
    assert basis.shape[1] == 3**group.spatial_dims
    assert basis.count_nonzero() == group.order * basis.shape[1]


@pytest.mark.parametrize(("kernel_size", "number"), [(1, 1), (3, 6), (5, 13), (7, 22)])
def test_other_groups_have_the_orders_that_rings_can_carry(kernel_size, number):
    assert filter_basis(find_group("D8", 2), kernel_size, (1.0, 1.0)).shape == (16, number, kernel_size, kernel_size)


def test_harmonics_are_periodic_in_the_angle():
    """C8 turns a filter of order m by 45 degrees to a mixture of its cosine and sine with the phase 45 m."""
    basis = filter_basis(find_group("C8", 2), 5, (1.0, 1.0))
    cosine, sine = basis[:, 2], basis[:, 3]  # ring 1: order 0, then cosine and sine of order 1
    scale = sine[0].norm() / cosine[0].norm()
    expected = math.cos(math.pi / 4) * cosine[0] + math.sin(math.pi / 4) * sine[0] / scale
    assert torch.allclose(cosine[1], expected, atol=1e-12)


def test_coarser_axes_have_fewer_taps():
    assert filter_basis(find_group("V4", 3), 5, (1.0, 1.0, 3.0)).shape == (4, 25, 5, 5, 1)
    assert filter_basis(find_group("C8", 2), 5, (1.0, 2.0)).shape[2:] == (5, 3)
