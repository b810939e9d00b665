"""Laws of the networks in nnU-Net's convention, for every symmetry: nnU-Net itself is not needed."""

import doctest
import importlib
import itertools
from types import MethodType

import numpy as np
import pytest
import torch

import equivariant_nets
from equivariant_nets import assert_equivariant, materialize
from equivariant_nets.nnunet import ConventionalUNet, RegularUNet, ScaleUNet, SteerableUNet
from equivariant_nets.nnunet.mirroring import mirror_axes
from equivariant_nets.nnunet.networks import strides_of
from equivariant_nets.rotations import lattice_rotations, lattice_symmetries

# A network of depth 2 for a patch, and the turns that are exact; the smallest of each family.
SMALL = {"kernel_size": 3}
SPACE, PLANE = strides_of(None, 3, 2), strides_of(None, 2, 2)
O3_FEATURES = "1x0e+1x0o+1x1e+1x1o"
NETWORKS = {
    "so3": (SteerableUNet, SPACE, {"features": "2x0e+1x1e"}, lattice_rotations()),
    "o3": (SteerableUNet, SPACE, {"features": O3_FEATURES, "group": "O3"}, lattice_symmetries()),
    "octahedral": (RegularUNet, SPACE, {"features": 1, "group": "O"}, lattice_rotations()),
    "e2, rotations": (RegularUNet, PLANE, {"features": 1, "group": "C8"}, [np.array([[0.0, -1], [1, 0]])]),
    "e2": (RegularUNet, PLANE, {"features": 1, "group": "D4"}, lattice_symmetries(2)),
    "scale": (ScaleUNet, SPACE, {"features": 1, "num_scales": 2}, []),
    "scale, 2-D": (ScaleUNet, PLANE, {"features": 1, "num_scales": 2, "isotropic": True}, lattice_symmetries(2)),
    "conventional": (ConventionalUNet, SPACE, {"features": 2}, []),
}
NEEDED = {  # axes to mirror along, so that all 4 or 8 mirror images are covered
    "so3": (0,), "o3": (), "octahedral": (0,), "e2, rotations": (0,), "e2": (), "scale": (0, 1, 2), "scale, 2-D": (),
    "conventional": (0, 1, 2),
}  # fmt: skip


def build(name, deep_supervision=True, dtype=torch.float64):
    torch.manual_seed(0)
    network, strides, options, _ = NETWORKS[name]
    return network(2, 3, strides, deep_supervision, **{**SMALL, **options}).to(dtype)


def image(net, dtype=torch.float64):
    size = (8, 12, 16)[: net.spatial_dims]
    return torch.randn(1, 2, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_are_those_that_nnunet_takes(name):
    """All levels but the coarsest while the switch is on, in evaluation too; each learns; loading is strict."""
    net = build(name)
    x = image(net)
    for training, on in itertools.product((True, False), repeat=2):
        net.train(training).decoder.deep_supervision = on
        outputs = net(x) if on else [net(x)]
        sizes = [x.shape[2:], [size // 2 for size in x.shape[2:]]][: len(outputs)]
        assert [list(y.shape) for y in outputs] == [[1, 3, *size] for size in sizes]
    net.decoder.deep_supervision = True
    sum(y.square().mean() for y in net(x)).backward()
    assert all((weight.grad != 0).any() for weight in net.parameters())
    other = build(name, deep_supervision=False)
    torch.nn.init.zeros_(next(other.parameters()))
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(x), net(x)[0])


@pytest.mark.parametrize("name", [name for name, (*_, turns) in NETWORKS.items() if len(turns)])
def test_every_output_turns_with_the_image(name):
    net = build(name).eval()
    for level in range(2):
        at_level = torch.nn.Module()
        at_level.forward = MethodType(lambda self, x, level=level: net(x)[level], at_level)
        assert_equivariant(at_level, image(net), NETWORKS[name][3][-3:], tolerance=1e-10)


@pytest.mark.parametrize("name", NETWORKS)
def test_mirror_images_along_fewer_axes_have_the_mean_of_all(name):
    net = build(name, deep_supervision=False).eval()
    x = image(net)

    def mean(axes):
        flips = [flip for count in range(len(axes) + 1) for flip in itertools.combinations(axes, count)]
        with torch.no_grad():
            outputs = {
                flip: net(x.flip([axis + 2 for axis in flip])).flip([axis + 2 for axis in flip]) for flip in flips
            }
        return torch.stack([*outputs.values()]).mean(0), outputs

    axes = mirror_axes(net)
    assert axes == NEEDED[name]
    fewer, outputs = mean(axes)
    assert torch.allclose(fewer, mean(range(net.spatial_dims))[0], atol=1e-9)
    assert all((outputs[()] - y).abs().max() > 1e-3 for flip, y in outputs.items() if flip)  # none is there twice


def test_weights_are_those_of_the_network_of_the_same_name():
    net = build("so3", deep_supervision=False, dtype=torch.float32).eval()
    same = equivariant_nets.SteerableUNet(
        "2x0e", "3x0e", "2x0e+1x1e", depth=2, deep_supervision=1, kernel_size=3
    ).eval()
    same.load_state_dict(net.state_dict())
    assert torch.equal(same(image(net, torch.float32)), net(image(net, torch.float32)))
    torch.testing.assert_close(materialize(net)(image(net, torch.float32)), net(image(net, torch.float32)))


def test_strides_of_a_coarse_axis():
    strides = strides_of((3.0, 1.0, 1.0), 3, 3)
    assert strides == [[1, 1, 1], [1, 2, 2], [1, 2, 2], [2, 2, 2]]
    net = SteerableUNet(1, 2, strides, True, spacing=(3.0, 1.0, 1.0), features="1x0e+1x1e").eval()
    outputs = net(torch.zeros(1, 1, 8, 16, 16))
    assert [tuple(y.shape[2:]) for y in outputs] == [(8, 16, 16), (8, 8, 8), (8, 4, 4)]


@pytest.mark.parametrize(
    ("network", "strides", "message"),
    [
        (
            SteerableUNet,
            [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
            r"are not those of spacing=None, which are \[\[1, 1, 1\], \[2",
        ),
        (SteerableUNet, PLANE, "SteerableUNet is 3-D, and the strides of the plan are 2-D. Plan a 3-D configuration"),
    ],
)
def test_what_the_networks_refuse(network, strides, message):
    with pytest.raises(ValueError, match=message):
        network(1, 2, strides)


@pytest.mark.parametrize("module", ["memory", "mirroring", "networks", "sizes"])
def test_examples(module):
    result = doctest.testmod(importlib.import_module(f"equivariant_nets.nnunet.{module}"))
    assert result.attempted > 0
    assert result.failed == 0
