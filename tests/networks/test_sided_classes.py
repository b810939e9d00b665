"""Laws of classes with sides: they turn with the image, and a mirror exchanges them; of one network, and of two."""

import numpy as np
import pytest
import torch
from fields import noise
from laws import assert_exports
from monai.data import MetaTensor
from monai.networks.nets import DynUNet, SegResNetDS
from torch import nn

from equivariant_nets import SidedClasses, SidedStructures, SteerableUNet, assert_equivariant, materialize
from equivariant_nets.equivariance import transform_field
from equivariant_nets.inference.sliding_window import SlidingWindowInferer
from equivariant_nets.networks.sides import voxel_ratio
from equivariant_nets.rotations import plane_rotation

GENERATORS = [plane_rotation("axial", 90), np.eye(3)[[1, 2, 0]]]
MIRRORS = [np.diag([-1.0, 1.0, 1.0]), np.eye(3)[[1, 0, 2]], -np.eye(3)]
EXCHANGED = [0, 2, 1, 4, 3, 5]  # background, two pairs, one structure without sides


def sided(**options):
    torch.manual_seed(0)
    net = SteerableUNet(irreps_out="4x0e+2x0o", features="2x0e+1x0o+1x1e+1x1o", group="O3", depth=1, **options)
    return SidedClasses(net, pairs=2, singles=1).eval()


def of_two(voxel_ratio=0.625, structures_group="SO3", **options):
    torch.manual_seed(0)
    features = {"SO3": "2x0e+1x1e", "O3": "2x0e+1x1o"}[structures_group]
    structures = SteerableUNet(irreps_out="4x0e", features=features, group=structures_group, depth=2)
    sides = SteerableUNet(irreps_out="1x0e+2x0o", features="2x0e+1x0o+1x1e+1x1o", group="O3", depth=1, **options)
    return SidedStructures(structures, sides, pairs=2, singles=1, voxel_ratio=voxel_ratio).eval()


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


@pytest.mark.parametrize("voxel_ratio", [1.6, 1.0, 0.625, 0.5])
@pytest.mark.parametrize("size", [(16, 16, 16), (13, 16, 18)])
def test_two_networks_are_exact_under_rotations_and_the_sides_under_mirrors(size, voxel_ratio):
    net, image = of_two(voxel_ratio).double(), noise(1, 1, *size)
    assert_equivariant(net, image, GENERATORS, tolerance=1e-10, irreps_in="1x0e", irreps_out="6x0e")
    with torch.no_grad():
        logits = net(image)
        for mirror in MIRRORS:
            mirrored = net(transform_field(image, mirror))
            difference = [(of[:, 1:5:2] - of[:, 2:5:2]).abs().max() for of in (logits, mirrored)]
            assert min(difference) > 1e-3
            back = transform_field(mirrored, mirror.T)
            assert torch.allclose(back[:, 1:5:2] - back[:, 2:5:2], logits[:, 2:5:2] - logits[:, 1:5:2], atol=1e-10)


def test_a_mirror_exchanges_the_sides_of_structures_that_know_mirrors():
    net, image = of_two(structures_group="O3").double(), noise(1, 1, 13, 16, 18)
    with torch.no_grad():
        logits = net(image)
        for mirror in MIRRORS:
            mirrored = net(transform_field(image, mirror))
            assert torch.allclose(mirrored, transform_field(logits[:, EXCHANGED], mirror), atol=1e-10)


def test_both_sides_together_are_what_the_first_network_finds():
    net, image = of_two().double(), noise(1, 1, 13, 16, 18)
    with torch.no_grad():
        net.structures.head.bias -= net.structures(image).mean((0, 2, 3, 4))  # so that every class is found
        logits, structures = net(image), net.structures(image)
    united = torch.stack([logits[:, own].amax(1) for own in ([0], [1, 2], [3, 4], [5])], 1)
    assert torch.equal(united, structures)
    found = logits.argmax(1)
    assert torch.equal(torch.tensor([0, 1, 1, 2, 2, 3])[found], structures.argmax(1))
    assert len(found.unique()) == 6


@pytest.mark.parametrize("network", [sided, of_two])
def test_it_trains_and_every_weight_has_a_gradient(network):
    net = network().train()
    net(noise(2, 1, 16, 16, 16).float()).square().sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    read = [name for name, p in net.named_parameters() if p.grad.abs().sum() == 0]
    assert read == (["sides.head.bias"] if network is of_two else [])  # of the scalar that is not read


@pytest.mark.parametrize("network", [sided, of_two])
def test_it_is_exported_as_plain_convolutions(network, tmp_path):
    images = [noise(1, 1, *size).float() for size in ((18, 20, 19), (16, 14, 23))]
    assert_exports(network(), images[0], images, tmp_path)


@pytest.mark.parametrize("network", [sided, of_two])
def test_windows_are_of_the_materialized_network(network, monkeypatch):
    net, image = network(), noise(1, 1, 16, 16, 16).float()
    with torch.no_grad():
        inferer = SlidingWindowInferer([8, 8, 8], overlap=0.5)
        expected = inferer(image, materialize(net))
        monkeypatch.setattr(SteerableUNet, "forward", None)
        got = inferer(image, net)
    assert torch.allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("network", [sided, of_two])
def test_a_metatensor_gives_what_its_array_gives(network):
    net, image = network(), noise(1, 1, 13, 16, 18).float()
    with torch.no_grad():
        got = net(MetaTensor(image))
        assert type(got) is torch.Tensor
        assert torch.equal(got, net(image))


@pytest.mark.parametrize("network", [sided, of_two])
def test_half_precision_is_near(network):
    net, image = network(), noise(1, 1, 13, 16, 18).float()
    with torch.no_grad():
        expected = net(image)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = net(image)
    assert (got - expected).norm() < 0.05 * expected.norm()


def test_an_image_that_is_small_once_reduced_is_continued():
    net, image = of_two(voxel_ratio=0.125).double(), noise(1, 1, 9, 8, 10)
    assert_equivariant(net, image, GENERATORS, tolerance=1e-10, irreps_in="1x0e", irreps_out="6x0e")


def test_the_structures_may_be_of_any_network():
    sides = of_two().sides
    image = noise(1, 1, 13, 16, 18).float()
    assert SidedStructures(nn.Conv3d(1, 4, 1), sides, pairs=2, singles=1)(image).shape == (1, 6, 13, 16, 18)
    message = r"returned \(1, 5, 13, 16, 18\) where one tensor \(1, 4, 13, 16, 18\) is needed: build it with 4 outputs"
    with pytest.raises(ValueError, match=message):
        SidedStructures(nn.Conv3d(1, 5, 1), sides, pairs=2, singles=1)(image)


def test_deep_supervision_of_networks_of_monai_is_refused():
    sides, image = of_two().sides, noise(1, 1, 16, 16, 24).float()
    levels = {"kernel_size": [3] * 3, "strides": [1, 2, 2], "upsample_kernel_size": [2, 2], "filters": [4, 4, 4]}
    stacked = DynUNet(3, 1, 4, **levels, deep_supervision=True, deep_supr_num=1)
    listed = SegResNetDS(3, init_filters=8, in_channels=1, out_channels=4, blocks_down=[1, 1, 1], dsdepth=2)
    for network, given in ((stacked, r"\(1, 2, 4, 16, 16, 24\)"), (listed, "list")):
        with pytest.raises(ValueError, match=f"returned {given} where .* without deep supervision"):
            SidedStructures(network, sides, pairs=2, singles=1)(image)
        assert SidedStructures(network.eval(), sides, pairs=2, singles=1)(image).shape == (1, 6, 16, 16, 24)


def test_heads_at_coarser_levels_are_refused():
    irreps = {"features": "2x0e+1x0o+1x1e+1x1o", "group": "O3", "depth": 2}
    with pytest.raises(ValueError, match="network has heads at coarser levels: build it with deep_supervision=0"):
        SidedClasses(SteerableUNet(irreps_out="2x0e+1x0o", deep_supervision=1, **irreps), pairs=1)
    deep = SteerableUNet(irreps_out="1x0o", deep_supervision=1, **irreps)
    with pytest.raises(ValueError, match="sides has heads at coarser levels"):
        SidedStructures(nn.Conv3d(1, 2, 1), deep, pairs=1)


def test_the_ratio_of_voxels_is_of_equal_edges():
    assert voxel_ratio([1.25, 1.25, 1.25], 2.0) == 0.625
    for spacing in ([1.0, 1.0, 2.0], [4.5] * 3, [0.01] * 3):
        with pytest.raises(ValueError, match=r"spacing_mm=.* give three times the same edge, from 0.03125 to 4 mm"):
            voxel_ratio(spacing, 2.0)


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


@pytest.mark.parametrize(
    ("irreps", "side_irreps", "options", "message"),
    [
        ("3x0e", "1x0o", {"pairs": 1}, "=3x0e of structures do not fit pairs=1 and singles=0: give it '2x0e'"),
        (
            "3x0e",
            "2x0o",
            {"pairs": 1, "singles": 1},
            "=2x0o of sides do not fit pairs=1: give it '1x0o' and group='O3'",
        ),
        ("3x0e", "1x0e", {"pairs": 1, "singles": 1}, "irreps_out=1x0e of sides do not fit pairs=1"),
        ("3x0e", "1x0o", {"pairs": 0, "singles": 2}, "pairs=0 and singles=2: give 1 or more pairs"),
        (
            "3x0e",
            "1x0o",
            {"pairs": 1, "singles": 1, "voxel_ratio": 0},
            "=0 is not legal: give one from 1/64 to 2",
        ),
        ("3x0e", "1x0o", {"pairs": 1, "singles": 1, "voxel_ratio": 2.5}, "voxel_ratio=2.5 is not legal"),
        ("3x0e", "1x0o", {"pairs": 1, "singles": 1, "voxel_ratio": 0.001}, "voxel_ratio=0.001 is not legal"),
        ("3x0e", "1x0o", {"pairs": 1, "singles": 1, "voxel_ratio": float("nan")}, "voxel_ratio=nan is not legal"),
    ],
)
def test_what_does_not_fit_of_two_networks_is_told(irreps, side_irreps, options, message):
    structures = SteerableUNet(irreps_out=irreps, features="2x0e+1x1e", depth=1)
    sides = SteerableUNet(irreps_out=side_irreps, features="2x0e+1x0o+1x1e+1x1o", group="O3", depth=1)
    with pytest.raises(ValueError, match=message):
        SidedStructures(structures, sides, **options)
