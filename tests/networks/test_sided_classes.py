"""Laws of classes with sides: they turn with the image, and a mirror exchanges them."""

import numpy as np
import pytest
import torch
from fields import noise
from laws import assert_exports

from equivariant_nets import SidedClasses, SteerableUNet, assert_equivariant, materialize
from equivariant_nets.equivariance import transform_field
from equivariant_nets.inference.sliding_window import SlidingWindowInferer
from equivariant_nets.rotations import plane_rotation

GENERATORS = [plane_rotation("axial", 90), np.eye(3)[[1, 2, 0]]]
MIRRORS = [np.diag([-1.0, 1.0, 1.0]), np.eye(3)[[1, 0, 2]], -np.eye(3)]
EXCHANGED = [0, 2, 1, 4, 3, 5]  # background, two pairs, one structure without sides


def sided(**options):
    torch.manual_seed(0)
    net = SteerableUNet(irreps_out="4x0e+2x0o", features="2x0e+1x0o+1x1e+1x1o", group="O3", depth=1, **options)
    return SidedClasses(net, pairs=2, singles=1).eval()


@pytest.mark.parametrize("size", [(8, 8, 8), (7, 10, 9)])
def test_exact_under_rotations_and_a_mirror_exchanges_the_sides(size):
    net, image = sided().double(), noise(1, 1, *size)
    assert_equivariant(net, image, GENERATORS, tolerance=1e-10, irreps_in="1x0e", irreps_out="6x0e")
    with torch.no_grad():
        logits = net(image)
        assert (logits - logits[:, EXCHANGED]).abs().max() > 1e-3
        for mirror in MIRRORS:
            mirrored = net(transform_field(image, mirror))
            assert torch.allclose(mirrored, transform_field(logits[:, EXCHANGED], mirror), atol=1e-10)


def test_single_structures_and_background_know_no_side():
    net, image = sided().double(), noise(1, 1, 8, 9, 7)
    with torch.no_grad():
        logits = net(image)
        scalars, sides = net.network(image).split([4, 2], 1)
    assert torch.equal(logits[:, [0, 5]], scalars[:, [0, 3]])
    assert torch.allclose(logits[:, [1, 3]] + logits[:, [2, 4]], 2 * scalars[:, 1:3])
    assert torch.allclose(logits[:, [1, 3]] - logits[:, [2, 4]], 2 * sides)


def test_it_trains_and_every_weight_has_a_gradient():
    net = sided().train()
    net(noise(2, 1, 8, 8, 8).float()).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_it_is_exported_as_plain_convolutions(tmp_path):
    images = [noise(1, 1, *size).float() for size in ((9, 10, 11), (8, 7, 12))]
    assert_exports(sided(), images[0], images, tmp_path)


def test_windows_are_of_the_materialized_network(monkeypatch):
    net, image = sided(), noise(1, 1, 16, 16, 16).float()
    with torch.no_grad():
        inferer = SlidingWindowInferer([8, 8, 8], overlap=0.5)
        expected = inferer(image, materialize(net))
        monkeypatch.setattr(SteerableUNet, "forward", None)
        got = inferer(image, net)
    assert torch.allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("irreps", "pairs", "message"),
    [
        ("3x0e", 1, "irreps_out=3x0e of the network do not fit pairs=1 and singles=0: give it irreps_out='2x0e"),
        ("2x0e+1x0o", 2, r"irreps_out='3x0e\+2x0o' and group='O3'"),
        ("2x0e+1x0o", 0, "pairs=0 and singles=0: give 1 or more pairs"),
    ],
)
def test_what_does_not_fit_is_told(irreps, pairs, message):
    net = SteerableUNet(irreps_out=irreps, features="2x0e+1x0o+1x1e+1x1o", group="O3", depth=1)
    with pytest.raises(ValueError, match=message):
        SidedClasses(net, pairs=pairs)
