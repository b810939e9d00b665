"""Laws of the pyramid: it moves with the size of the image, keeps the symmetries and the weights of its network, and
follows the level of which this is sure."""

import copy
from fractions import Fraction

import numpy as np
import pytest
import torch
from fields import noise
from laws import assert_exports, trained
from monai.data import MetaTensor
from scipy.ndimage import gaussian_filter
from torch import nn

from equivariant_nets import (
    ConventionalUNet,
    RegularUNet,
    ScalePyramid,
    SteerableUNet,
    assert_equivariant,
    materialize,
)
from equivariant_nets.equivariance import central_error
from equivariant_nets.inference.memory import estimate_peak_bytes
from equivariant_nets.networks.rescaling import Rescale
from equivariant_nets.networks.scale_pyramid import expected_dice
from equivariant_nets.rotations import plane_rotation

SMALL = {"depth": 1, "kernel_size": 3}
GENERATORS = [plane_rotation("axial", 90), np.eye(3)[[1, 2, 0]]]
NETWORKS = {
    "steerable": lambda: SteerableUNet(irreps_out="3x0e", features="1x0e+1x1e", **SMALL),
    "steerable, content": lambda: SteerableUNet(features="1x0e+1x1e", normalization="content", **SMALL),
    "O": lambda: RegularUNet(3, out_channels=2, group="O", features=1, **SMALL),
}


def plane(**options):
    torch.manual_seed(0)
    return ConventionalUNet(2, **{"out_channels": 3, "features": 4, **SMALL, **options}).double().eval()


def framed(x):
    """An image in a frame of filling."""
    return nn.functional.pad(x, [2] * 2 * (x.dim() - 2))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("name", NETWORKS)
def test_exact_under_the_rotations_that_its_network_keeps(name, activation):
    torch.manual_seed(0)
    net = ScalePyramid(NETWORKS[name](), activation=activation, enlarged=1, reduced=1).double().eval()
    for size in [(6, 6, 6), (5, 8, 7)]:
        assert_equivariant(net, framed(noise(1, 1, *size)), GENERATORS, tolerance=1e-10)


@pytest.mark.parametrize("depth", [0, 1])
@pytest.mark.parametrize("plain", [False, True])
def test_levels_of_a_network_over_content_keep_what_is_filled(depth, plain):
    for normalization in ("content", "instance"):
        net = SteerableUNet(features="1x0e+1x1e", normalization=normalization, depth=depth, kernel_size=3)
        pyramid = ScalePyramid(materialize(net) if plain else net)
        assert {level.over_content for level in pyramid.there} == {normalization == "content"}


def smooth_image(size=65, smoothness=4.0):
    """Smooth noise that fades out towards the border."""
    image = gaussian_filter(np.random.RandomState(0).normal(size=[size] * 2), smoothness)
    radius = np.linalg.norm(np.indices(image.shape) - (size - 1) / 2, axis=0)
    return torch.from_numpy(image / image.std() * np.clip(((size - 1) / 2 - radius) / 10, 0, 1))[None, None]


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_the_pyramid_moves_by_a_level_when_the_image_shrinks_by_a_step(activation):
    """Ends apart: the smaller image has one level more above it, and one less below. What is left is interpolation."""
    image, back = smooth_image(), Rescale(Fraction(4, 5))
    small = back(image, [52, 52])

    def error(net, moved):
        with torch.no_grad():
            return central_error(moved.eval()(small), back(net.eval()(image), [52, 52]))

    for seed in range(3):
        torch.manual_seed(seed)
        own = ConventionalUNet(2, out_channels=3, features=4, depth=2).double()
        pyramid = ScalePyramid(own, activation=activation, enlarged=1, reduced=1)
        moved = ScalePyramid(own, activation=activation, enlarged=2, reduced=0)
        assert error(pyramid, moved) < 0.2
        assert error(pyramid, moved) < error(own, own) / 4


class SureAtItsSize(nn.Module):
    """Says that the middle is foreground: surely in an image of so many voxels, and of others without being sure."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, x):
        logits = torch.full_like(x, -8.0)
        logits[..., 4:-4, 4:-4] = 8.0
        return logits * (1 if x.shape[-1] == self.size else 0.02)


@pytest.mark.parametrize(("size", "factor"), [(16, Fraction(5, 4)), (20, Fraction(1)), (25, Fraction(4, 5))])
def test_the_level_of_which_the_network_is_sure_decides(size, factor):
    net = ScalePyramid(SureAtItsSize(20), enlarged=1, reduced=1, activation="sigmoid").eval()
    level = Rescale(factor)(torch.zeros(1, 1, size, size), [20, 20])
    expected = Rescale(1 / factor)(net.network(level), [size, size])
    assert ((net(torch.zeros(1, 1, size, size)) - expected).abs() < 0.2).all()


def test_a_pyramid_of_one_level_is_its_network():
    own = plane()
    x = noise(2, 1, 11, 12)
    assert torch.equal(ScalePyramid(own, enlarged=0, reduced=0).eval()(x), own(x))


def test_in_training_it_is_its_network_at_one_size():
    own = plane(depth=2, deep_supervision=1)
    net = ScalePyramid(own).train()
    x = noise(2, 1, 11, 12)
    assert [y.shape for y in net(x)] == [y.shape for y in own(x)]
    assert torch.equal(net(x)[0], own(x)[0])
    assert net.eval()(x).shape == (2, 3, 11, 12)


def test_its_weights_are_those_of_its_network():
    own, other = plane(), plane(normalization="batch")
    net = ScalePyramid(copy.deepcopy(own))
    assert net.state_dict().keys() == own.state_dict().keys()
    net.load_state_dict(own.state_dict(), strict=True)
    own.load_state_dict(net.state_dict(), strict=True)
    inside = nn.ModuleList([net])
    assert {key.removeprefix("0.") for key in inside.state_dict()} == own.state_dict().keys()
    inside.load_state_dict(inside.state_dict(), strict=True)
    with pytest.raises(RuntimeError, match="Missing key"):
        ScalePyramid(other).load_state_dict(own.state_dict())


def test_gradients_of_all_levels_reach_every_parameter():
    net = ScalePyramid(plane(), enlarged=1, reduced=1).eval()
    net(noise(1, 1, 11, 12)).square().mean().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in net.parameters())


def test_one_sample_does_not_depend_on_the_batch_nor_on_its_class():
    net = ScalePyramid(plane()).eval()
    x = noise(3, 1, 11, 14)
    x[1] *= 3
    y = net(x)
    assert torch.allclose(net(x[1:2]), y[1:2], atol=1e-12)
    meta = net(MetaTensor(x))
    assert torch.allclose(torch.as_tensor(meta), y, atol=1e-12)


@pytest.mark.parametrize("spacing", [(1, 1, 3), (3, 1, 1)])
def test_axes_of_other_spacing_are_scaled_alike(spacing):
    torch.manual_seed(0)
    net = ScalePyramid(ConventionalUNet(features=1, **SMALL, spacing=spacing), enlarged=1, reduced=1).eval()
    size = [4 if step == 3 else 9 for step in spacing]
    assert net(torch.rand(1, 1, *size)).shape == (1, 3, *size)
    assert net.there[0](torch.zeros(1, 1, *size)).shape[2:] == tuple(3 if n == 4 else 7 for n in size)


def test_a_level_is_never_too_small_for_the_network():
    net = ScalePyramid(plane(depth=2), reduced=4).eval()
    assert net(noise(1, 1, 5, 6)).shape == (1, 3, 5, 6)
    with pytest.raises(ValueError, match=r"spatial size \(2, 2\) cannot be halved 2 times"):
        net(noise(1, 1, 2, 2))


def test_expected_dice():
    p = torch.tensor([[0.1, 0.9, 0.0], [0.8, 0.2, 0.0], [0.3, 0.1, 0.6], [1.0, 0.0, 0.0]]).double().T[None]
    assert torch.allclose(expected_dice(p), torch.tensor([2 * (0.9 + 0.6) / (0.9 + 0.2 + 0.1 + 0.6 + 2 + 1)]).double())
    wider = torch.cat([p, torch.tensor([1.0, 0.0, 0.0]).double().view(1, 3, 1).expand(-1, -1, 50)], 2)
    assert torch.allclose(expected_dice(wider), expected_dice(p))
    assert expected_dice(wider[..., 10:]) == 0


def test_half_precision_stays_close():
    net = ScalePyramid(plane(features=8)).float().eval()
    x = noise(1, 1, 16, 17, dtype=torch.float32)
    with torch.no_grad():
        expected = net(x)
        with torch.autocast("cpu", torch.bfloat16):
            y = net(x)
    assert y.dtype == torch.bfloat16
    assert (y.float() - expected).norm() < 0.1 * expected.norm()


def test_its_memory_is_estimated():
    net = plane().float()
    alone, pyramid = (estimate_peak_bytes(n, (1, 1, 64, 64)) for n in (net, ScalePyramid(net)))
    assert 2 * alone < pyramid < 4 * alone  # the largest level has 2.4 times as many voxels


def test_materialized_around_a_steerable_network():
    net = ScalePyramid(NETWORKS["steerable, content"](), enlarged=1, reduced=1)
    net = trained(net, noise(1, 1, 7, 6, 8, dtype=torch.float32))
    plain = materialize(net)
    assert not any("steerable" in type(module).__module__ for module in plain.modules())
    x = framed(noise(1, 1, 7, 6, 5, dtype=torch.float32))
    with torch.no_grad():
        assert torch.allclose(plain(x), net(x), atol=1e-5)


def test_torchscript_onnx_and_torch_export(tmp_path):
    net = ScalePyramid(plane().float(), enlarged=1, reduced=0).eval()
    images = [noise(1, 1, *size, dtype=torch.float32) for size in [(8, 9), (12, 11)]]
    assert_exports(net, noise(1, 1, 14, 15, dtype=torch.float32), images, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio": 1.0}, "ratio=1.0 must be above 1 and at most 2"),
        ({"enlarged": -1}, "enlarged=-1 is not a number of levels"),
        ({"reduced": 1.5}, "reduced=1.5 is not a number of levels"),
        ({"activation": "relu"}, "activation='relu' is not known"),
        ({"network": SteerableUNet(irreps_out="1x1e+1x0e", **SMALL)}, "irreps_out='1x1e.1x0e' of the network are no"),
    ],
)
def test_illegal_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        ScalePyramid(**{"network": plane(), **options})
