"""Laws of ScaleUNet: every size, no dependence on the batch, a small answer to a change of scale, plain exports."""

import copy

import numpy as np
import pytest
import torch
from fields import noise
from laws import assert_exports, trained
from monai.losses import DeepSupervisionLoss
from scipy.ndimage import gaussian_filter

from equivariant_nets import (
    ConventionalUNet,
    ScaleUNet,
    assert_equivariant,
    equivariance_error,
    materialize,
    scale_equivariance_error,
)
from equivariant_nets.equivariance import central_error, scale_field
from equivariant_nets.rotations import lattice_symmetries

SIZES = {2: [(8, 8), (9, 9), (10, 13), (5, 7)], 3: [(6, 6, 6), (7, 7, 7), (5, 6, 9)]}
VARIANTS = {
    "default": {},
    "plane": {"spatial_dims": 2},
    "interacting scales": {"scale_size": 3},
    "batch": {"normalization": "batch"},
    "none": {"normalization": "none"},
    "max": {"downsampling": "max"},
    "max projection": {"projection": "max", "activation": "relu"},
    "isotropic": {"isotropic": True, "max_order": 4},
    "third order": {"max_order": 3},
    "one scale": {"num_scales": 1},
    "wide kernels": {"kernel_size": 7, "ratio": 0.8},
    "widths": {"features": [1, 3, 2]},
    "residual": {"residual": True},
    "deep supervision": {"deep_supervision": 1},
    "depth 0": {"depth": 0},
    "many channels": {"in_channels": 3, "out_channels": 2},
    "dropout": {"dropout": 0.3},
}


def network(**options):
    torch.manual_seed(0)
    return ScaleUNet(**{"in_channels": 1, "features": 1, "depth": 2, **options}).double()


@pytest.mark.parametrize("name", VARIANTS)
def test_every_size_and_the_same_materialized(name):
    net = network(**VARIANTS[name])
    sizes = SIZES[net.spatial_dims]
    net = trained(net, noise(2, net.in_channels, *sizes[1]))
    plain = materialize(net)
    kinds = {type(module).__name__ for module in plain.modules()}
    assert not kinds & {"GroupConvolution", "FieldDropout", "ScaleUNet"}
    for size in sizes:
        x = noise(2, net.in_channels, *size, seed=1)
        with torch.no_grad():
            y = net(x)
            assert y.shape == (2, VARIANTS[name].get("out_channels", 1), *size)
            assert torch.allclose(plain(x), y, atol=1e-10)
            assert torch.allclose(net(x[:1]), y[:1], atol=1e-12)  # one sample does not depend on the batch


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_isotropic_networks_are_exact_under_every_symmetry_of_the_lattice(spatial_dims):
    net = network(spatial_dims=spatial_dims, isotropic=True, max_order=4, scale_size=2)
    for size in SIZES[spatial_dims]:
        assert_equivariant(copy.deepcopy(net).eval(), noise(1, 1, *size), lattice_symmetries(spatial_dims), 1e-10)
    x = noise(2, 1, *SIZES[spatial_dims][-1])
    assert_equivariant(trained(net, x), x, lattice_symmetries(spatial_dims), 1e-10)
    assert equivariance_error(network(spatial_dims=spatial_dims), x, lattice_symmetries(spatial_dims)[-1]) > 0.05


def fading_image(size=40, smoothness=3.0, seed=0):
    """Smooth noise that fades out towards the border."""
    image = gaussian_filter(np.random.RandomState(seed).normal(size=[size] * 3), smoothness)
    radius = np.linalg.norm(np.indices(image.shape) - (size - 1) / 2, axis=0)
    return torch.from_numpy(image / image.std() * np.clip(((size - 1) / 2 - radius) / 6, 0, 1))[None, None].float()


def feature_error(net, image, factor, steps):
    """The error of the last features of a shrunken image, against those so many scales before of the image itself."""
    scales = net.group.order

    def features(x):
        return net._features(x)[-1].unflatten(1, (-1, scales))

    with torch.no_grad():
        before = features(image)[:, :, : scales - steps].flatten(1, 2)
        after = features(scale_field(image, factor))[:, :, steps:].flatten(1, 2)
    return central_error(after, scale_field(before, factor))


@pytest.mark.parametrize(
    ("options", "bound"),
    [({"normalization": "none"}, 0.15), ({"residual": True}, 0.35), ({}, 0.45)],
)
def test_features_of_a_whole_network_move_with_the_scale(options, bound):
    """Median of three seeds, untrained, on a smooth image; features that stay where they are would be far off."""
    moved, stayed = [], []
    for seed in range(3):
        torch.manual_seed(seed)
        net = ScaleUNet(in_channels=1, features=2, depth=2, **options).eval()
        moved.append(feature_error(net, fading_image(), 0.9, steps=1))
        stayed.append(feature_error(net, fading_image(), 0.9, steps=0))
    assert np.median(moved) < bound
    assert np.median(moved) < np.median(stayed)


def test_a_change_of_scale_changes_less_than_in_a_conventional_network():
    """Untrained residual networks of equal width, mean of three seeds."""
    errors = {"scale": [], "conventional": []}
    options = {"in_channels": 1, "out_channels": 1, "depth": 2, "residual": True}
    for seed in range(3):
        torch.manual_seed(seed)
        nets = {"scale": ScaleUNet(features=2, **options), "conventional": ConventionalUNet(features=8, **options)}
        for name, net in nets.items():
            errors[name].append(scale_equivariance_error(net.eval(), fading_image(), 0.9))
    assert np.mean(errors["scale"]) < 0.8 * np.mean(errors["conventional"])


def test_anisotropic_spacing():
    net = network(spacing=(1, 1, 3), depth=2)
    assert net.encoders[0][0].taps == (5, 5, 1)
    assert net(noise(1, 1, 9, 10, 5)).shape == (1, 1, 9, 10, 5)


def test_deep_supervision_and_gradients_of_every_parameter():
    net = network(deep_supervision=1, residual=True, scale_size=2)
    outputs = net(noise(2, 1, 9, 8, 7))
    assert [tuple(y.shape) for y in outputs] == [(2, 1, 9, 8, 7), (2, 1, 5, 4, 4)]
    DeepSupervisionLoss(torch.nn.MSELoss())(outputs, torch.ones(2, 1, 9, 8, 7).double()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in net.parameters())


def test_batch_norm_keeps_running_statistics_of_each_field():
    net = network(normalization="batch")
    net(noise(2, 1, 8, 8, 8))
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm1d)]
    assert len(norms) == 10
    assert norms[0].running_mean.shape == (1,)
    assert norms[0].running_mean.any()
    x = noise(2, 1, 8, 8, 8, seed=1)
    net.eval()
    assert torch.allclose(net(x)[:1], net(x[:1]))


def test_state_dict_is_small_and_the_same_in_both_modes():
    net = network(normalization="batch")
    keys = set(net.state_dict())
    net.eval()(noise(1, 1, 8, 8, 8))
    assert set(net.state_dict()) == keys
    assert not any("_relative" in key or "basis" in key for key in keys)
    other = network(normalization="batch").eval()
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(noise(1, 1, 8, 8, 8)), net(noise(1, 1, 8, 8, 8)))


def test_bfloat16_autocast_stays_close():
    net = network(features=2).float()
    x = noise(1, 1, 12, 12, 12, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = net(x)
    assert (y.float() - net(x)).norm() / net(x).norm() < 0.05


@pytest.mark.parametrize("names", [["default"], ["plane", "batch", "max projection"]], ids=str)
def test_torchscript_onnx_and_torch_export(names, tmp_path):
    options = {key: value for name in names for key, value in VARIANTS[name].items()}
    net = network(depth=1, **options)
    sizes = SIZES[net.spatial_dims]
    net = trained(net, noise(2, 1, *sizes[1])).float()
    images = [noise(1, 1, *size, dtype=torch.float32, seed=2) for size in sizes]
    example = noise(1, 1, *[size + 2 for size in sizes[-1]], dtype=torch.float32)
    assert_exports(net, example, images, tmp_path)


def test_the_published_width_has_few_parameters():
    """Width 4, 8, 16, 32 of four scales: 75,600 in the paper, whose filters are 27 of total order 4."""
    assert sum(p.numel() for p in ScaleUNet().parameters()) < 40_000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_scales": 0}, "num_scales=0 is not a number of scales"),
        ({"ratio": 1.1}, "ratio=1.1 must be above 0 and below 1"),
        ({"scale_size": 9}, "scale_size=9 is not from 1 to 4"),
        ({"features": [1, 2]}, r"features=\[1, 2\] are no widths for depth=2"),
        ({"kernel_size": 4}, "kernel_size=4 must be odd"),
        ({"normalization": "layer"}, "normalization='layer' is not known"),
        ({"spatial_dims": 4}, "spatial_dims=4 is not supported"),
    ],
)
def test_illegal_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        network(**options)


def test_illegal_inputs_are_named():
    with pytest.raises(ValueError, match=r"takes \(B, C, D, H, W\) with C=4"):
        ScaleUNet()(torch.zeros(1, 1, 16, 16, 16))
    with pytest.raises(ValueError, match="cannot be halved 2 times"):
        network()(noise(1, 1, 2, 2, 2))
