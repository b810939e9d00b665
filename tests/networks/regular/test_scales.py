"""Laws of the truncated group of scales: its filters, its convolutions, its normalization."""

import math

import numpy as np
import pytest
import torch
from fields import noise

from equivariant_nets.equivariance import central_error, scale_field, transform_field
from equivariant_nets.networks.regular import ElementInstanceNorm, FieldNorm, GroupConvolution, ScaleGroup
from equivariant_nets.networks.regular.basis import filter_basis
from equivariant_nets.rotations import lattice_symmetries

RATIO = 0.9
EXACT = "donot_use_mm_for_euclid_dist"


def group(spatial_dims=3, **options):
    return ScaleGroup(spatial_dims, **options)


def basis(spatial_dims=3, kernel_size=5, spacing=None, **options):
    return filter_basis(group(spatial_dims, **options), kernel_size, spacing or (1.0,) * spatial_dims)


def smooth_image(size=40, spatial_dims=3):
    """Three Gaussians in float64, which fade out within the frame."""
    axes = torch.meshgrid(*[torch.arange(size, dtype=torch.float64) - (size - 1) / 2] * spatial_dims, indexing="ij")
    image = torch.zeros([size] * spatial_dims, dtype=torch.float64)
    for centre, width, height in (((4, -2, 3), 4.0, 1.0), ((-5, 3, 0), 3.5, -1.5), ((1, 4, -5), 5.0, 0.7)):
        squares = sum((axis - c) ** 2 for axis, c in zip(axes, centre, strict=False))
        image += height * torch.exp(-squares / (2 * width**2))
    return image[None, None]


@pytest.mark.parametrize("max_order", [0, 1, 2, 4])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_all_orders_up_to_a_total_one_independent_and_finite(spatial_dims, max_order):
    filters = basis(spatial_dims, max_order=max_order)
    assert filters.shape == (4, math.comb(max_order + spatial_dims, spatial_dims), *[5] * spatial_dims)
    for scale in filters:
        assert torch.linalg.matrix_rank(scale.flatten(1)) == filters.shape[1]
    assert filters.isfinite().all()


@pytest.mark.parametrize("isotropic", [False, True])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_a_lattice_symmetry_permutes_the_bank_and_changes_signs(spatial_dims, isotropic):
    filters = basis(spatial_dims, max_order=4, isotropic=isotropic)
    for matrix in lattice_symmetries(spatial_dims):
        moved = transform_field(filters, matrix)
        for scale, scale_moved in zip(filters.flatten(2), moved.flatten(2), strict=True):
            same = torch.cdist(scale_moved, scale, compute_mode=EXACT) < 1e-12
            mirrored = torch.cdist(scale_moved, -scale, compute_mode=EXACT) < 1e-12
            assert ((same | mirrored).sum(1) == 1).all()
            if isotropic:
                assert same.diagonal().all()


def test_isotropic_filters_are_those_of_the_powers_of_the_laplacian():
    assert [basis(max_order=order, isotropic=True).shape[1] for order in range(6)] == [1, 1, 2, 2, 3, 3]
    # They depend on the distance from the centre alone, as far as the taps reach: three voxels along an axis, or not.
    filters = basis(kernel_size=9, isotropic=True)
    deviation = (filters[..., 7, 4, 4] - filters[..., 6, 6, 5]).abs() / filters.flatten(2).abs().amax(-1)
    assert (deviation < 0.1).all()
    assert (deviation[-1] < 0.01).all()


def test_the_mean_over_the_scales_has_unit_response():
    filters = basis().flatten(2)
    axis = torch.arange(5, dtype=torch.float64)
    line = torch.exp(-((axis - axis[:, None]) ** 2) / 2)
    correlation = 1 / math.pi + (1 - 1 / math.pi) * torch.kron(torch.kron(line, line), line)
    power = torch.einsum("sbx,xy,sby->sb", filters, correlation, filters)
    assert torch.allclose(power.mean(0), torch.ones(()).double())
    assert (power > 0.2).all()


def response(filters, image):
    """Each filter at each scale, ``(1, scales * filters, ...)``."""
    kernels = filters.flatten(0, 1)[:, None]
    return torch.nn.functional.conv3d(image, kernels, padding=filters.shape[-1] // 2)


@pytest.mark.parametrize(("steps", "kernel_size"), [(1, 5), (2, 5), (3, 5), (2, 7)])
def test_what_shrinks_moves_to_the_next_scales_with_the_same_magnitude(steps, kernel_size):
    filters, image, factor = basis(kernel_size=kernel_size), smooth_image(), RATIO**steps
    small = scale_field(image, factor)
    for order in range(filters.shape[1]):
        before = scale_field(response(filters[: 4 - steps, [order]], image), factor)
        after = response(filters[steps:, [order]], small)
        assert central_error(after, before) < 0.08
        assert after.std() / before.std() == pytest.approx(1, abs=0.08)


def test_filters_that_are_sampled_would_not_pass():
    image, small = smooth_image(), scale_field(smooth_image(), RATIO)
    axis = torch.arange(5, dtype=torch.float64) - 2

    def sampled(scale):
        x, gauss = axis / scale, torch.exp(-((axis / scale) ** 2) / 2) / scale
        return torch.einsum("i,j,k->ijk", (x**2 - 1) * gauss, gauss, gauss)[None, None]

    assert central_error(response(sampled(RATIO), small), scale_field(response(sampled(1.0), image), RATIO)) > 0.15


def test_coarser_axes_have_fewer_taps_and_orders():
    assert basis(spacing=(1.0, 1.0, 3.0)).shape == (4, 6, 5, 5, 1)  # orders along the first two axes alone
    assert basis(2, kernel_size=3, max_order=4).shape == (4, 9, 3, 3)  # up to 2 along each axis
    assert basis(spacing=(1.0, 1.0, 3.0), isotropic=True).shape[1] == 1


@pytest.mark.parametrize("scale_size", [1, 2, 4])
def test_the_kernel_is_the_formula(scale_size):
    """K[(o, s), (i, t)](x) = sum_b w[o, i, t - s, b] psi_b(x / scale s), for 0 <= t - s < scale_size."""
    scales = group(scale_size=scale_size)
    net = GroupConvolution(2, 3, scales, 5).double()
    filters = filter_basis(scales, 5, (1.0, 1.0, 1.0))
    assert net.weight.shape == (3, 2, scale_size, 10)
    kernel = net.kernel().view(3, 4, 2, 4, 5, 5, 5)
    for s in range(4):
        for t in range(4):
            if 0 <= t - s < scale_size:
                expected = torch.einsum("oib,bxyz->oixyz", net.weight[:, :, t - s] * net._factor, filters[s])
                assert torch.allclose(kernel[:, s, :, t], expected)
            else:
                assert not kernel[:, s, :, t].any()


def test_the_lifting_kernel_is_the_formula():
    net = GroupConvolution(2, 3, group(), 5, lifting=True).double()
    expected = torch.einsum("oib,sbxyz->osixyz", net.weight[:, :, 0] * net._factor, basis())
    assert torch.allclose(net.kernel(), expected.flatten(0, 1))


@pytest.mark.parametrize("scales", [1, 4])
def test_one_scale_is_an_ordinary_convolution_and_one_tap_is_shared_by_all(scales):
    shared = GroupConvolution(2, 2, group(order=scales), 1).double()
    x = noise(1, 2 * scales, 4, 5, 6)
    mixed = torch.einsum(
        "oi,bisdhw->bosdhw", shared.kernel().view(2, scales, 2, scales)[:, 0, :, 0], x.view(1, 2, scales, 4, 5, 6)
    )
    assert torch.allclose(shared(x), mixed.flatten(1, 2))


@pytest.mark.parametrize("steps", [1, 2])
def test_features_of_a_deep_stack_move_with_the_scale(steps):
    """Two convolutions with the norm and the non-linearity between them: the error stays that of the filters."""
    torch.manual_seed(0)
    lift, norm = GroupConvolution(1, 4, group(), lifting=True, kernel_size=5), ElementInstanceNorm(4, 4)
    stack = torch.nn.Sequential(lift, norm, torch.nn.SiLU(), GroupConvolution(4, 4, group(), 5)).double()
    image, factor = smooth_image(), RATIO**steps
    before = stack(image).unflatten(1, (4, 4))[:, :, : 4 - steps].flatten(1, 2)
    after = stack(scale_field(image, factor)).unflatten(1, (4, 4))[:, :, steps:].flatten(1, 2)
    assert central_error(after.detach(), scale_field(before, factor)) < 0.12


def test_instance_norm_of_one_scale_does_not_depend_on_the_others():
    norm = ElementInstanceNorm(3, 4).double()
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x = noise(2, 12, 5, 6, 7)
    moved = x.unflatten(1, (3, 4)).roll(1, 2).flatten(1, 2) * 5
    assert torch.allclose(norm(moved), norm(x).unflatten(1, (3, 4)).roll(1, 2).flatten(1, 2), atol=1e-4)
    other = FieldNorm(3, "instance").double()
    assert not torch.allclose(other(torch.cat([x[:, :1] * 9, x[:, 1:]], 1))[:, 1], other(x)[:, 1], atol=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spatial_dims": 1}, "spatial_dims=1 is not supported"),
        ({"order": 0}, "num_scales=0 is not a number of scales"),
        ({"ratio": 1.0}, r"ratio=1.0 must be above 0 and below 1"),
        ({"ratio": 0}, r"ratio=0 must be above 0 and below 1"),
        ({"scale_size": 5}, "scale_size=5 is not from 1 to 4"),
        ({"scale_size": 0}, "scale_size=0 is not from 1 to 4"),
        ({"max_order": -1}, "max_order=-1 must be 0 or more"),
    ],
)
def test_illegal_scales_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ScaleGroup(**{"spatial_dims": 3, **options})


def test_what_an_output_scale_reads():
    assert np.array_equal(group(order=3, scale_size=2).relative, [[0, 1, -1], [-1, 0, 1], [-1, -1, 0]])
