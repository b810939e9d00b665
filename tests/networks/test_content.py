"""Laws of networks over content: what is 0 is as what lies outside the canvas."""

import pytest
import torch
import torch.nn.functional as F

from equivariant_nets import ConventionalUNet, RegularUNet, ScaleUNet, SteerableUNet, materialize
from equivariant_nets.rotations import lattice_rotations

OPTIONS = {
    "default": {},
    "average": {"downsampling": "average"},
    "spline": {"upsampling": "spline"},
    "residual": {"residual": True, "dropout": 0.2},
    "no scalars": {"features": "1x1e+1x2e", "irreps_out": "1x1e"},
    "gates by convolution": {"gates": "convolution", "activation": "silu"},
    "spacing": {"spacing": (1, 1, 3)},
    "O": {"family": RegularUNet, "group": "O", "features": 1},
    "V4, separable": {"family": RegularUNet, "group": "V4", "separable": True, "activation": "gelu", "residual": True},
    "scale": {"family": ScaleUNet, "in_channels": 1, "num_scales": 3, "scale_size": 2, "residual": True},
    "scale, isotropic": {"family": ScaleUNet, "in_channels": 1, "isotropic": True, "activation": "silu"},
    "conventional": {"family": ConventionalUNet, "dropout": 0.2},
    "conventional, residual": {"family": ConventionalUNet, "residual": True, "spacing": (3, 1, 1)},
}
# Between those of one network: a field of the regular representation has the same statistics, and another name of them.
SAME_WEIGHTS = ["default", "no scalars", "scale", "conventional"]
LATTICE = ["default", "average", "residual", "gates by convolution", "O", "scale, isotropic"]
MARGINS = (8, 4, 4, 12, 8, 8)  # of W, H, D: multiples of 4 keep the grids of two halvings


def build(normalization="content", family=SteerableUNet, **options):
    torch.manual_seed(0)
    defaults = {"depth": 2, "kernel_size": 3, "normalization": normalization}
    if family is SteerableUNet:
        defaults["features"] = "2x0e+1x1e+1x2e"
    else:
        defaults |= {"features": 2, "spatial_dims": 3}
    net = family(**{**defaults, **options}).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return net.eval()


def noise(size=(13, 17, 21), seed=0):
    return torch.randn(2, 1, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def filled(size=(14, 17, 12)):
    """Noise in a slanted slab, which no axis is parallel to, and 0 outside."""
    axes = torch.meshgrid(*(torch.linspace(-1, 1, n, dtype=torch.float64) for n in size), indexing="ij")
    return noise(size) * ((axes[0] + 0.7 * axes[1] - 0.4 * axes[2]).abs() < 0.8)


def relative(a, b):
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("options", OPTIONS)
def test_margins_of_zeros_change_nothing_inside(options):
    net, x = build(**OPTIONS[options]), noise()
    inside = (..., slice(8, -8), slice(4, -12), slice(8, -4))
    with torch.no_grad():
        assert relative(net(F.pad(x, MARGINS))[inside], net(x)) < 1e-10


@pytest.mark.parametrize("options", SAME_WEIGHTS)
def test_instance_normalization_counts_the_margins(options):
    net, x = build("instance", **OPTIONS[options]), noise()
    with torch.no_grad():
        assert relative(net(F.pad(x, MARGINS))[..., 8:-8, 4:-12, 8:-4], net(x)) > 0.1


@pytest.mark.parametrize("options", SAME_WEIGHTS)
def test_it_is_instance_normalization_where_nothing_is_zero(options):
    content, instance = build(**OPTIONS[options]), build("instance", **OPTIONS[options])
    instance.load_state_dict(content.state_dict(), strict=True)
    with torch.no_grad():
        assert relative(content(noise()), instance(noise())) < 1e-10


def test_fields_have_the_statistics_of_instance_normalization_where_nothing_is_zero():
    content, instance = build(**OPTIONS["O"]), build("instance", **OPTIONS["O"])
    weights = {name.replace(".norm.", "."): value for name, value in content.state_dict().items()}
    instance.load_state_dict(
        {name: weights[name.replace(".norm.", ".")] for name in instance.state_dict()}, strict=True
    )
    with torch.no_grad():
        assert relative(content(noise()), instance(noise())) < 1e-10


@pytest.mark.parametrize("options", LATTICE)
def test_filled_volumes_turn_with_the_lattice(options):
    net, x = build(**OPTIONS[options]), filled()
    with torch.no_grad():
        expected = net(x)
        for matrix in lattice_rotations()[1::5]:
            axes = [2 + int(axis) for axis in abs(matrix).argmax(1)]
            flips = [2 + row for row in range(3) if matrix[row].sum() < 0]
            turned = net(x.permute(0, 1, *axes).flip(flips))
            assert relative(turned, expected.permute(0, 1, *axes).flip(flips)) < 1e-10


@pytest.mark.parametrize("options", OPTIONS)
def test_filled_volumes_through_the_materialized_network(options):
    net, x = build(**OPTIONS[options]), filled()
    with torch.no_grad():
        assert relative(materialize(net)(x), net(x)) < 1e-8


def ball(size=(25, 30, 22)):
    """Noise in a ball, and 0 outside."""
    axes = torch.meshgrid(*(torch.linspace(-1, 1, n, dtype=torch.float64) for n in size), indexing="ij")
    return noise(size) * (sum(axis**2 for axis in axes).sqrt() < 0.7)


@pytest.mark.parametrize("options", OPTIONS)
def test_no_level_of_the_decoder_reaches_beyond_the_content(options):
    net, x = build(**OPTIONS[options]), ball()
    features = {}
    for part in ("encoders", "decoders"):
        for number, block in enumerate(getattr(net, part)):
            block.register_forward_hook(lambda _, __, y, key=(part, number): features.__setitem__(key, y))
    with torch.no_grad():
        net(x)
    inside = [(features["encoders", level] != 0).any(1) for level in range(2)]
    assert torch.equal(inside[0], (x != 0).any(1))
    for level in range(2):
        assert not ((features["decoders", 1 - level] != 0).any(1) & ~inside[level]).any()


@pytest.mark.parametrize("options", ["default", "V4, separable", "scale", "conventional"])
def test_filled_volumes_through_exported_networks(options):
    net, x = build(**OPTIONS[options]), filled()
    plain = materialize(net)
    with torch.no_grad():
        for exported in (torch.jit.script(plain), torch.export.export(plain, (x,)).module()):
            assert relative(exported(x), net(x)) < 1e-8


@pytest.mark.parametrize("options", ["default", "O", "scale", "conventional"])
def test_a_volume_without_content_is_finite(options):
    net = build(**OPTIONS[options]).train()
    output = net(torch.zeros(1, 1, 9, 9, 9, dtype=torch.float64))
    output.sum().backward()
    assert output.isfinite().all()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in net.parameters())


def test_pictures_have_content_too():
    torch.manual_seed(0)
    net = RegularUNet(2, group="D8", features=1, depth=2, normalization="content").double().eval()
    x = noise((13, 17, 21))[:, :, 0]
    with torch.no_grad():
        assert relative(net(F.pad(x, MARGINS[:4]))[..., 4:-12, 8:-4], net(x)) < 1e-10


@pytest.mark.parametrize("family", [SteerableUNet, RegularUNet, ScaleUNet, ConventionalUNet])
def test_the_maximum_over_content_is_refused(family):
    with pytest.raises(ValueError, match=r"'content' .* does not go with downsampling='max'\. Choose blur or average"):
        family(normalization="content", downsampling="max")
