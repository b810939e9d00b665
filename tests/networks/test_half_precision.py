"""Laws of half precision: near float32, finite, and as equivariant as its rounding allows, in every family."""

import copy

import pytest
import torch

from equivariant_nets import ConventionalUNet, RegularUNet, ScaleUNet, SteerableUNet, equivariance_error, materialize
from equivariant_nets.rotations import plane_rotation, plane_turn

SMALL = {"depth": 1, "kernel_size": 3}
FAMILIES = {
    "SO3": lambda **o: SteerableUNet(features="2x0e+1x1e+1x2e", irreps_out="2x0e", **SMALL, **o),
    "SO3, gates by convolution, residual": lambda **o: SteerableUNet(
        features="2x0e+1x1e", irreps_out="1x1e", gates="convolution", residual=True, **SMALL, **o
    ),
    "O3": lambda **o: SteerableUNet(features="1x0e+1x0o+1x1e+1x1o", irreps_out="1x0e+1x0o", group="O3", **SMALL, **o),
    "D4": lambda **o: RegularUNet(2, group="D4", features=1, **SMALL, **o),
    "C8, separable, residual": lambda **o: RegularUNet(
        2, group="C8", features=1, separable=True, residual=True, **SMALL, **o
    ),
    "O": lambda **o: RegularUNet(3, group="O", features=1, projection="max", **SMALL, **o),
    "scale": lambda **o: ScaleUNet(in_channels=1, features=1, depth=1, isotropic=True, max_order=4, **o),
    "conventional": lambda **o: ConventionalUNet(features=3, **SMALL, **o),
}
OPTIONS = [("blur", "instance"), ("average", "batch"), ("max", "none"), ("max", "instance")]


def cast(net, dtype):
    return copy.deepcopy(net).to(dtype)


def under_autocast(net, dtype):
    def call(x):
        with torch.autocast("cpu", dtype):
            return net(x)

    return call


def trained(net, x):
    """With running statistics and biases of its own, in evaluation."""
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        for _ in range(3):
            net(x)
    return net.eval()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("downsampling", "normalization"), OPTIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_outputs_stay_near_float32_and_turn_with_the_input(family, downsampling, normalization, dtype):
    net = FAMILIES[family](downsampling=downsampling, normalization=normalization)
    three = net.spatial_dims == 3
    x = torch.randn(2, net.in_channels, *((6, 7, 8) if three else (9, 12))).to(dtype)
    net = trained(net, x.float())
    quarter = plane_rotation("axial", 90) if three else plane_turn(90)
    # A dozen roundings. Where one decides which of two vectors is the longer one, a voxel takes another vector.
    bound = (60 if downsampling == "max" and "3" in family else 12) * torch.finfo(dtype).eps
    with torch.no_grad():
        expected = net(x.float())
        for kind in (cast, under_autocast):
            for module in (net, materialize(net)):
                call = kind(module, dtype)
                y = call(x)
                assert y.dtype == dtype
                assert (y.float() - expected).norm() < bound * expected.norm()
                if family == "conventional":
                    continue

                def turned(x, call=call):
                    return call(x.to(dtype)).double()

                if hasattr(net, "irreps_out"):
                    turned.irreps_out = net.irreps_out
                assert equivariance_error(turned, x.double(), quarter) < bound


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ["cast", "autocast"])
@pytest.mark.parametrize("normalization", ["instance", "batch", "none"])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_finite(family, normalization, kind, dtype):
    net = FAMILIES[family](normalization=normalization)
    x = torch.randn(2, net.in_channels, *((9, 10, 11) if net.spatial_dims == 3 else (9, 10)))
    if kind == "cast":
        net, x = net.to(dtype), x.to(dtype)
    with torch.autocast("cpu", dtype, enabled=kind == "autocast"):
        y = net(x)
    assert y.dtype == dtype
    y.float().square().mean().backward()
    for parameter in net.parameters():
        assert parameter.grad.dtype == parameter.dtype
        assert parameter.grad.isfinite().all()


@pytest.mark.parametrize("kind", [cast, under_autocast])
@pytest.mark.parametrize("plain", [False, True])
def test_images_with_large_values_do_not_overflow_in_the_statistics(plain, kind):
    """In Hounsfield units, the mean square of the first features is above what float16 holds."""
    net = trained(FAMILIES["SO3"](), torch.randn(2, 1, 6, 7, 8))
    x = 1000 * torch.randn(1, 1, 6, 7, 8)
    with torch.no_grad():
        expected = net(x)
        y = kind(materialize(net) if plain else net, torch.float16)(x.half()).float()
    assert (y - expected).norm() < 0.02 * expected.norm()
