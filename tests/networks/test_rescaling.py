"""Laws of resampling by a factor: the centre stays, voxels come to lie where they should, and the lattice is kept."""

from fractions import Fraction

import pytest
import torch

from equivariant_nets.networks.rescaling import Rescale, rescaled_size

FACTORS = [Fraction(5, 4) ** level for level in (-3, -1, 0, 1, 2)]


def rescaled(x, factor):
    size = [rescaled_size(n, factor.numerator, factor.denominator) for n in x.shape[2:]]
    return Rescale(factor)(x, size)


@pytest.mark.parametrize("size", [16, 17, 30, 31])
@pytest.mark.parametrize("factor", FACTORS, ids=str)
def test_a_voxel_at_x_from_the_centre_comes_to_lie_at_factor_times_x(factor, size):
    from_centre = torch.arange(size).double() - (size - 1) / 2
    new = rescaled(from_centre.view(1, 1, size, 1).expand(-1, -1, -1, 3), factor)[0, 0, :, 1]
    expected = (torch.arange(len(new)).double() - (len(new) - 1) / 2) / float(factor)
    inner = expected.abs() < (size - 1) / 2 - max(1, 1 / float(factor))  # elsewhere the border cuts the tent
    assert inner.sum() > len(new) / 3
    # Taps of a tent that is wider than 1 are not balanced about every point.
    assert torch.allclose(new[inner], expected[inner], atol=1e-12 if factor >= 1 else 0.1)
    assert abs(len(new) - size * factor) <= 0.5


@pytest.mark.parametrize("factor", FACTORS, ids=str)
def test_constants_stay_and_mirrors_commute(factor):
    x = torch.randn(1, 2, 11, 8, 9).double()
    assert torch.allclose(rescaled(torch.ones_like(x), factor), torch.ones(1).double(), atol=1e-12)
    assert torch.allclose(rescaled(x.flip(2, 4), factor), rescaled(x, factor).flip(2, 4), atol=1e-12)
    assert torch.allclose(rescaled(x.transpose(2, 3), factor), rescaled(x, factor).transpose(2, 3), atol=1e-12)


def test_an_image_is_filtered_before_it_is_reduced():
    """What alternates from voxel to voxel would else come back as stripes."""
    stripes = torch.tensor([1.0, -1.0]).repeat(20).view(1, 1, 1, 40)
    stripes = stripes.expand(-1, -1, 40, -1)
    assert rescaled(stripes, Fraction(1, 2))[..., 4:-4].abs().max() < 1e-6


def test_there_and_back_leaves_what_is_smooth():
    grid = torch.linspace(-1, 1, 41).double()
    blob = torch.exp(-4 * (grid[:, None] ** 2 + grid**2))[None, None]
    for factor in FACTORS:
        back = Rescale(1 / factor)(rescaled(blob, factor), [41, 41])
        assert (back - blob).abs().max() < 0.03
