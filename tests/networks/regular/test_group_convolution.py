"""Laws of group convolutions."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fields import GROUPS, LATTICE_GROUPS, noise, turn_fields

from equivariant_nets.equivariance import interpolation_error, transform_field
from equivariant_nets.networks.regular import DepthwiseConvolution, GroupConvolution, find_group
from equivariant_nets.rotations import plane_turn

SIZE = {2: (6, 9), 3: (4, 5, 6)}


def convolution(kind, group, kernel_size=3):
    torch.manual_seed(0)
    net = {
        "lifting": lambda: GroupConvolution(2, 2, group, kernel_size, lifting=True, bias=True),
        "group": lambda: GroupConvolution(2, 1, group, kernel_size, bias=True),
        "depthwise": lambda: DepthwiseConvolution(2, group, kernel_size, bias=True),
    }[kind]()
    torch.nn.init.normal_(net.bias)
    return net.double()


def channels_in(kind, group):
    return 2 if kind == "lifting" else 2 * group.order


@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("kind", ["lifting", "group", "depthwise"])
@pytest.mark.parametrize("case", GROUPS, ids=str)
def test_exactly_equivariant_under_the_elements_that_keep_the_lattice(case, kind, kernel_size):
    group = find_group(*case)
    net = convolution(kind, group, kernel_size)
    x = noise(1, channels_in(kind, group), *SIZE[group.spatial_dims])
    with torch.no_grad():
        y = net(x)
        for element in group.lattice_subgroup[:: max(1, len(group.lattice_subgroup) // 8)]:
            if kind == "lifting":
                turned = transform_field(x, group.matrices[element])
            else:
                turned = turn_fields(x, group, element)
            assert torch.allclose(net(turned), turn_fields(y, group, element), atol=1e-10)


@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("kind", ["lifting", "group"])
@pytest.mark.parametrize("name", ["C8", "D8", "C16"])
def test_nearly_equivariant_at_the_other_elements_on_smooth_images(name, kind, kernel_size):
    group = find_group(name, 2)
    grid = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, 41, dtype=torch.float64)] * 2, indexing="ij"))
    image = torch.exp(-((grid[0] - 0.2) ** 2 + 3 * (grid[1] + 0.1) ** 2) / 0.1)[None, None]
    assert interpolation_error(image, plane_turn(45)) < 0.001
    x = image.repeat(1, 2, 1, 1)
    net = convolution(kind, group, kernel_size)
    if kind == "lifting":
        turn_input = lambda x, group, element: transform_field(x, group.matrices[element])  # noqa: E731
    else:
        x, turn_input = convolution("lifting", group, 5)(x), turn_fields
    net.bias.data.zero_()
    inner = grid.norm(dim=0) < 0.6
    with torch.no_grad():
        y = net(x)
        for element in range(group.order):
            expected = turn_fields(y, group, element)[..., inner]
            error = (net(turn_input(x, group, element))[..., inner] - expected).norm() / expected.norm()
            assert error < 0.04


@pytest.mark.parametrize("case", LATTICE_GROUPS, ids=str)
def test_the_kernel_is_the_formula(case):
    """K[(o, g), (i, h)](x) = w[o, i, g^-1 h](g^-1 x), tap by tap."""
    group = find_group(*case)
    net = convolution("group", group)
    fields_out, fields_in, order, _ = net.weight.shape
    kernel = net.kernel().detach().view(fields_out, order, fields_in, order, *net.taps)
    at_identity = kernel[:, 0]  # g = 1: w[o, i, h](x)
    for g in range(0, order, max(1, order // 6)):
        moved = transform_field(at_identity.flatten(0, 1), group.matrices[g]).view(at_identity.shape)
        assert torch.allclose(kernel[:, g], moved[:, :, torch.from_numpy(group.relative[g])], atol=1e-12)


def test_c1_and_trivial_are_ordinary_convolutions():
    for name in ("C1", "trivial"):
        net = convolution("group", find_group(name, 2))
        x = noise(2, 2, 6, 7)
        assert net.kernel().shape == (1, 2, 3, 3)
        assert torch.allclose(net(x), F.conv2d(x, net.kernel(), net.bias, padding=1))


@pytest.mark.parametrize("kind", ["lifting", "group"])
@pytest.mark.parametrize("case", [("D8", 2), ("D4", 2), ("O", 3)], ids=str)
def test_unit_second_moment_on_smooth_inputs(case, kind):
    group = find_group(*case)
    torch.manual_seed(0)
    net = GroupConvolution(2, 20, group, 3, lifting=kind == "lifting").double()
    blur = torch.exp(-(torch.arange(-3.0, 4.0, dtype=torch.float64) ** 2))
    blur = blur / blur.norm()
    lines = torch.einsum("i,j->ij", blur, blur) if group.spatial_dims == 2 else torch.einsum("i,j,k->ijk", *[blur] * 3)
    convolve = F.conv2d if group.spatial_dims == 2 else F.conv3d
    size = (30, 30) if group.spatial_dims == 2 else (14, 14, 14)
    field = convolve(noise(channels_in(kind, group), 1, *size), lines[None, None]).transpose(0, 1)
    field = field * (1 - 1 / np.pi) ** 0.5 + (1 / np.pi) ** 0.5
    moment = convolve(field, net.kernel().detach()).square().mean()
    assert moment == pytest.approx(1, abs=0.4)


def test_two_calls_agree_and_kernels_follow_their_weights():
    net = convolution("group", find_group("C4", 2))
    x = noise(1, 8, 5, 5)
    with torch.no_grad():
        first = net(x)
        assert torch.equal(net(x), first)
        net.weight.data.neg_()
        net.bias.data.neg_()
        assert torch.allclose(net(x), -first)


def test_it_follows_its_weights_to_another_type():
    net = convolution("group", find_group("D8", 2)).float().double()
    assert net.kernel().dtype == torch.float64
    x = noise(1, 32, 5, 5)
    assert torch.allclose(net.float()(x.float()).double(), net.double()(x), atol=1e-5)


def test_even_kernels_and_spacings_that_a_group_does_not_keep():
    with pytest.raises(ValueError, match="kernel_size=4 must be odd"):
        GroupConvolution(1, 1, find_group("C4", 2), 4)
    with pytest.raises(ValueError, match=r"group=O takes axes to each other whose spacing differs: it is \(1, 1, 3\)"):
        GroupConvolution(1, 1, find_group("O", 3), 3, spacing=(1, 1, 3))
