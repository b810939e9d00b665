"""Laws of the lattices of the levels."""

import pytest

from equivariant_nets.networks.lattice import lattices, num_taps


def spacings_in_mm(spacing, depth):
    """Of each level, from its unit: the finest spacing of the input, doubled with each level."""
    levels = lattices(spacing, len(spacing), depth)
    return [[step * min(spacing) * 2**level for step in lattice.spacing] for level, lattice in enumerate(levels)]


@pytest.mark.parametrize("spacing", [(1, 1, 3), (0.7, 0.7, 5), (2, 1.5, 1), (1, 1, 1.99), (4, 1, 9)], ids=str)
def test_an_axis_doubles_its_spacing_where_it_is_halved_and_keeps_it_elsewhere(spacing):
    levels, mm = lattices(spacing, 3, 5), spacings_in_mm(spacing, 5)
    for lattice, fine, coarse in zip(levels, mm, mm[1:], strict=False):
        expected = [step * (2 if halved else 1) for step, halved in zip(fine, lattice.halved, strict=True)]
        assert coarse == pytest.approx(expected)


@pytest.mark.parametrize("spacing", [(1, 1, 3), (0.7, 0.7, 5), (2, 1.5, 1), (1, 1, 1.99), (4, 1, 9)], ids=str)
def test_no_axis_is_halved_beyond_the_unit_of_the_next_level_nor_left_below_half_of_it(spacing):
    for level, mm in enumerate(spacings_in_mm(spacing, 6)):
        unit = min(spacing) * 2**level
        assert all(
            step <= unit * (1 + 1e-9) or step == pytest.approx(start) for step, start in zip(mm, spacing, strict=True)
        )
        assert all(step > unit / 2 for step in mm)


def test_equal_spacing_is_that_of_voxels():
    assert lattices(None, 3, 2) == lattices((0.8, 0.8, 0.8), 3, 2) == [((1.0,) * 3, (True,) * 3)] * 3


def test_taps_are_those_of_the_paper():
    assert [num_taps(5, lattice.spacing) for lattice in lattices((1, 1, 3), 3, 3)] == [
        (5, 5, 1),
        (5, 5, 3),
        (5, 5, 7),
        (5, 5, 7),
    ]


@pytest.mark.parametrize("kernel_size", [1, 3, 5, 7])
def test_taps_at_unit_spacing_are_the_kernel_size(kernel_size):
    assert num_taps(kernel_size, (1.0, 1.0)) == (kernel_size, kernel_size)
