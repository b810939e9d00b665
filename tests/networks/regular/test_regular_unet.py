"""Laws of RegularUNet: exact under the elements that keep the lattice, at every size and in every variant."""

import copy

import numpy as np
import pytest
import torch
from fields import GROUPS, noise
from laws import assert_exports, trained
from monai.losses import DeepSupervisionLoss
from scipy.ndimage import gaussian_filter

from equivariant_nets import (
    ConventionalUNet,
    RegularUNet,
    assert_equivariant,
    equivariance_error,
    interpolation_error,
    materialize,
)
from equivariant_nets.networks.regular import find_group
from equivariant_nets.rotations import plane_turn

PLANE_SIZES = [(8, 8), (9, 9), (10, 13), (12, 7)]
SPACE_SIZES = [(6, 6, 6), (7, 7, 7), (5, 6, 8)]
VARIANTS = {
    "default": {},
    "separable": {"separable": True},
    "batch": {"normalization": "batch"},
    "none": {"normalization": "none"},
    "max": {"downsampling": "max"},
    "average": {"downsampling": "average"},
    "max projection": {"projection": "max", "activation": "relu"},
    "silu": {"activation": "silu"},
    "gelu": {"activation": "gelu"},
    "size 5": {"kernel_size": 5},
    "widths": {"features": [1, 3, 2]},
    "residual": {"residual": True},
    "separable, residual": {"separable": True, "residual": True, "normalization": "batch"},
    "deep supervision": {"deep_supervision": 1},
    "depth 0": {"depth": 0},
    "many channels": {"in_channels": 3, "out_channels": 2},
    "dropout": {"dropout": 0.3},
}


def network(**options):
    torch.manual_seed(0)
    return RegularUNet(**{"features": 1, "depth": 2, "group": "D4", **options}).double()


def lattice_elements(group, most=8):
    elements = group.lattice_subgroup
    return [group.matrices[e] for e in elements[:: max(1, len(elements) // most)]]


@pytest.mark.parametrize("case", GROUPS, ids=str)
def test_exact_under_every_group_at_every_size(case):
    group = find_group(*case)
    net = network(group=case[0], spatial_dims=case[1], depth=2 if case[1] == 2 else 1)
    for size in PLANE_SIZES if case[1] == 2 else SPACE_SIZES:
        assert_equivariant(net, noise(1, 1, *size), lattice_elements(group), 1e-10)


@pytest.mark.parametrize("name", VARIANTS)
def test_exact_in_every_variant_before_and_after_training(name):
    net = network(**VARIANTS[name])
    x = noise(2, VARIANTS[name].get("in_channels", 1), 9, 12)
    elements = lattice_elements(net.group)
    assert_equivariant(copy.deepcopy(net).eval(), x, elements, 1e-10)
    assert_equivariant(trained(net, x), x, elements, 1e-10)


@pytest.mark.parametrize("case", [("D8", 2), ("C8", 2), ("O_h", 3)], ids=str)
def test_exact_in_float32(case):
    group = find_group(*case)
    net = network(group=case[0], spatial_dims=case[1], features=2 if case[1] == 2 else 1).float()
    x = noise(1, 1, *[13] * case[1], dtype=torch.float32)
    assert_equivariant(net, x, [group.matrices[e] for e in group.lattice_subgroup], 1e-5)


def test_c8_and_d8_are_bounded_at_45_degrees():
    """Untrained, on a smooth image that fades to zero within the frame, with the error of interpolating it far below.
    Medians over five seeds: C8 and D8 stay below half of the error of a conventional network of the same width."""
    line = torch.linspace(-1, 1, 65, dtype=torch.float64)
    radius = torch.stack(torch.meshgrid(line, line, indexing="ij")).norm(dim=0)
    image = torch.from_numpy(gaussian_filter(noise(1, 1, 65, 65).numpy(), (0, 0, 2.5, 2.5)))
    image = image * torch.exp(-((radius / 0.5) ** 4))
    turn = plane_turn(45)
    assert interpolation_error(image, turn) < 0.001

    def median_error(build):
        errors = []
        for seed in range(5):
            torch.manual_seed(seed)
            errors.append(equivariance_error(build().double(), image, turn))
        return np.median(errors)

    options = {"depth": 1, "kernel_size": 5}
    conventional = median_error(lambda: ConventionalUNet(2, 1, 1, features=24, **options))
    for name, features in (("C8", 3), ("D8", 2)):
        assert median_error(lambda g=name, f=features: RegularUNet(group=g, features=f, **options)) < conventional / 2


def test_mirrors_are_kept_by_d_n_and_o_h_alone():
    x, mirror = noise(1, 1, 8, 8), np.diag([1.0, -1.0])
    assert equivariance_error(network(group="D4"), x, mirror) < 1e-12
    assert equivariance_error(network(group="C4"), x, mirror) > 0.1


def test_two_calls_and_two_constructions_agree():
    x = noise(1, 1, 9, 9)
    net = network()
    assert torch.equal(net(x), net(x))
    assert torch.equal(net(x), network()(x))


def test_trivial_group_has_the_parameters_of_the_plain_network():
    count = [
        sum(p.numel() for p in net.parameters())
        for net in (
            RegularUNet(group="trivial", features=[3, 5, 7], depth=2),
            ConventionalUNet(2, 1, 1, features=[3, 5, 7], depth=2, kernel_size=3),
        )
    ]
    assert count[0] == count[1]


def test_separable_layers_have_far_fewer_weights():
    full, separable = (sum(p.numel() for p in network(separable=s, features=4).parameters()) for s in (False, True))
    assert separable < full / 4


def test_widths_of_each_level():
    net = network(features=[1, 3, 2])
    norms = [m.fields for m in net.modules() if type(m).__name__ == "FieldNorm"]
    assert norms == [1, 1, 3, 3, 2, 2, 3, 3, 1, 1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"features": [1, 2]}, r"features=\[1, 2\] are no widths for depth=2: give one whole number from 1"),
        ({"features": 0}, "features=0 are no widths"),
        ({"features": 1.5}, "features=1.5 are no widths"),
        ({"group": "O"}, "group='O' is not known in 2-D"),
        ({"spatial_dims": 1}, "spatial_dims=1 is not supported"),
        ({"kernel_size": 2}, "kernel_size=2 must be odd"),
        ({"normalization": "layer"}, "normalization='layer' is not known"),
        ({"projection": "median"}, "projection='median' is not known"),
        ({"activation": "tanh"}, "activation='tanh' is not known"),
        ({"downsampling": "stride"}, "downsampling='stride' is not known"),
        ({"in_channels": 0}, "in_channels=0 is not a number of channels"),
        ({"dropout": 1.0}, "dropout=1.0 is not a probability"),
        ({"depth": -1}, "depth=-1 must be 0 or more"),
        ({"spacing": (1, 2)}, "group=D4 takes axes to each other whose spacing differs"),
    ],
)
def test_illegal_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        network(**options)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(1, 2, 8, 8), r"takes \(B, C, H, W\) with C=1"),
        (torch.zeros(1, 8, 8), r"takes \(B, C, H, W\) with C=1"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.int64), "Input of type torch.int64"),
        (torch.zeros(1, 1, 2, 2), "cannot be halved 2 times"),
    ],
)
def test_illegal_inputs_are_named(x, message):
    with pytest.raises(ValueError, match=message):
        network().float()(x)


def test_anisotropic_spacing_keeps_v4_exact():
    net = network(group="V4", spatial_dims=3, spacing=(1, 1, 3), kernel_size=5, depth=2)
    assert net.encoders[0][0].taps == (5, 5, 1)
    assert_equivariant(net, noise(1, 1, 9, 10, 5), list(net.group.matrices), 1e-10)


def test_deep_supervision_and_gradients_of_every_parameter():
    net = network(deep_supervision=1, residual=True)
    outputs = net(noise(2, 1, 9, 12))
    assert [tuple(y.shape) for y in outputs] == [(2, 1, 9, 12), (2, 1, 5, 6)]
    DeepSupervisionLoss(torch.nn.MSELoss())(outputs, torch.ones(2, 1, 9, 12).double()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_state_dict_is_small_and_the_same_in_both_modes():
    net = network(group="D8", features=2, normalization="batch")
    keys = set(net.state_dict())
    net.eval()(noise(1, 1, 8, 8))
    assert set(net.state_dict()) == keys
    assert not any("_relative" in key or "basis" in key for key in keys)
    other = network(group="D8", features=2, normalization="batch").eval()
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(noise(1, 1, 8, 8)), net(noise(1, 1, 8, 8)))


def test_bfloat16_autocast_stays_close():
    net = network(group="C8", features=2).float()
    x = noise(1, 1, 16, 16, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = net(x)
    assert (y.float() - net(x)).norm() / net(x).norm() < 0.05


@pytest.mark.parametrize("name", VARIANTS)
def test_materialized_outputs_are_equal_at_every_size(name):
    net = trained(network(**VARIANTS[name]), noise(2, VARIANTS[name].get("in_channels", 1), 9, 12))
    plain = materialize(net)
    kinds = {type(module).__name__ for module in plain.modules()}
    assert not kinds & {"GroupConvolution", "DepthwiseConvolution", "FieldDropout", "RegularUNet"}
    for size in PLANE_SIZES:
        x = noise(2, net.in_channels, *size, seed=1)
        with torch.no_grad():
            assert torch.allclose(plain(x), net(x), atol=1e-10)


@pytest.mark.parametrize("names", [["default"], ["separable", "batch", "max", "max projection"]], ids=str)
def test_torchscript_onnx_and_torch_export(names, tmp_path):
    options = {key: value for name in names for key, value in VARIANTS[name].items()}
    net = trained(network(**{**options, "depth": 1}), noise(2, 1, 9, 12)).float()
    images = [noise(1, 1, *size, dtype=torch.float32, seed=2) for size in PLANE_SIZES]
    assert_exports(net, noise(1, 1, 8, 9, dtype=torch.float32), images, tmp_path)


def test_max_pooling_of_plain_channels_and_fields_is_the_same_layer():
    kinds = [
        {type(m).__name__ for m in net.modules()}
        for net in (network(downsampling="max"), ConventionalUNet(2, downsampling="max"))
    ]
    assert "MaxPool" in kinds[0] & kinds[1]
