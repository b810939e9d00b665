"""Laws of the U-Nets: exact under the lattice symmetries at every size, in every variant, before and after training."""

import copy
import inspect
import itertools
import re

import monai
import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from equivariant_nets import (
    ConventionalUNet,
    RegularUNet,
    ScaleUNet,
    SteerableUNet,
    assert_equivariant,
    equivariance_error,
)
from equivariant_nets.networks.resampling import Upsample
from equivariant_nets.rotations import lattice_rotations, lattice_symmetries, plane_rotation

# The cyclic turn of all axes and a quarter turn generate the 24 rotations.
GENERATORS = [plane_rotation("axial", 90), np.eye(3)[[1, 2, 0]]]
QUARTER = GENERATORS[0]
O3_FEATURES = "1x0e+1x0o+1x1e+1x1o+1x2e"

VARIANTS = {
    "blur": {},
    "average": {"downsampling": "average"},
    "max": {"downsampling": "max"},
    "batch": {"normalization": "batch"},
    "none": {"normalization": "none"},
    "content": {"normalization": "content"},
    "spline": {"upsampling": "spline"},
    "size 5": {"kernel_size": 5},
    "smooth_finite": {"radial_basis": "smooth_finite"},
    "smooth_finite 5": {"radial_basis": "smooth_finite", "kernel_size": 5},
    "any order": {"features": "1x1e+1x0e+1x2e+1x0e"},
    "no scalars": {"features": "1x1e+1x2e", "irreps_out": "1x1e"},
    "third order": {"features": "1x0e+1x1e+1x3e", "lmax": 3, "kernel_size": 5},
    "scalar decoder": {"decoder_features": "3x0e"},
    "vector input": {"irreps_in": "1x1e"},
    "velocity field": {"irreps_out": "1x1e"},
    "mixed in and out": {"irreps_in": "1x1e+2x0e", "irreps_out": "1x2e+1x0e+1x1e"},
    "silu": {"activation": "silu"},
    "gelu": {"activation": "gelu"},
    "depth 0": {"depth": 0},
    "depth 3": {"depth": 3},
    "lmax 1": {"lmax": 1, "features": "2x0e+1x1e"},
    "gates by convolution": {"gates": "convolution"},
    "residual": {"residual": True},
    "residual, other decoder": {"residual": True, "decoder_features": "2x0e+1x2e", "normalization": "batch"},
    "deep supervision": {"deep_supervision": 2, "depth": 3},
}


def noise(channels, size, batch=2, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, channels, *size, generator=generator, dtype=torch.float64).to(dtype)


def steerable(**options):
    torch.manual_seed(0)
    defaults = {"irreps_out": "2x0e", "features": "1x0e+1x1e+1x2e", "depth": 2, "kernel_size": 3}
    return SteerableUNet(**{**defaults, **options}).double()


def conventional(**options):
    torch.manual_seed(0)
    return ConventionalUNet(**{"features": 2, "depth": 2, "kernel_size": 3, **options}).double()


def image(net, size, **options):
    return noise(net.in_channels, size, **options)


def train(net, size, steps=3):
    """A few optimizer steps that change every parameter."""
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    x = image(net, size)
    for _ in range(steps):
        optimizer.zero_grad()
        y = net.train()(x)
        (y - x[:, :1].cos()).square().mean().backward()
        optimizer.step()
    return net.eval()


@pytest.mark.parametrize("variant", VARIANTS)
def test_exact_under_the_24_rotations(variant):
    net = steerable(**VARIANTS[variant])
    net.train(not VARIANTS[variant].get("deep_supervision"))
    assert_equivariant(net, image(net, (7, 9, 6)), tolerance=1e-10)


@pytest.mark.parametrize("downsampling", ["blur", "max", "average"])
@pytest.mark.parametrize("size", [(16, 16, 16), (17, 17, 17), (18, 21, 19)], ids=str)
def test_exact_at_even_odd_and_mixed_sizes(size, downsampling):
    net = steerable(depth=3, features="1x0e+1x1e", downsampling=downsampling).eval()
    assert_equivariant(net, image(net, size, batch=1), GENERATORS, tolerance=1e-10)
    assert_equivariant(net.float(), image(net, size, batch=1, dtype=torch.float32), GENERATORS, tolerance=1e-5)


def test_exact_at_the_size_of_a_real_volume():
    net = steerable(depth=3, features="1x0e+1x1e").eval()
    assert_equivariant(net, image(net, (35, 51, 36), batch=1), GENERATORS, tolerance=1e-10)


def test_exact_with_the_features_and_kernel_of_the_defaults():
    torch.manual_seed(0)
    net = SteerableUNet(features="2x0e+1x1e+1x2e").eval()
    assert_equivariant(net, image(net, (12, 9, 10), dtype=torch.float32), GENERATORS, tolerance=1e-5)


@pytest.mark.parametrize("downsampling", ["blur", "max"])
@pytest.mark.parametrize("irreps_out", ["2x0e", "1x0o", "1x0e+1x1o+1x1e"])
@pytest.mark.parametrize("irreps_in", ["1x0e", "1x1o+1x0o"])
def test_o3_exact_under_the_mirrors_too(irreps_in, irreps_out, downsampling):
    net = steerable(
        irreps_in=irreps_in, irreps_out=irreps_out, features=O3_FEATURES, group="O3", downsampling=downsampling
    ).eval()
    mirrored = [np.diag([1.0, 1.0, -1.0]), -np.eye(3), -QUARTER]
    assert_equivariant(net, image(net, (6, 7, 8), batch=1), [*GENERATORS, *mirrored], tolerance=1e-10)


def test_so3_is_not_equivariant_under_mirrors():
    net = steerable()
    assert equivariance_error(net, image(net, (8, 8, 8)), np.diag([-1.0, 1.0, 1.0])) > 0.01


@pytest.mark.parametrize("options", [{}, {"normalization": "batch"}, {"normalization": "none", "downsampling": "max"}])
def test_still_exact_after_optimizer_steps(options):
    fresh = steerable(**options)
    net = train(copy.deepcopy(fresh), (7, 8, 6))
    moved = zip(fresh.parameters(), net.parameters(), strict=True)
    assert all((a - b).abs().max() > 1e-3 for a, b in moved)
    assert_equivariant(net, image(net, (9, 10, 12)), tolerance=1e-10)


def test_o3_still_exact_after_optimizer_steps():
    net = train(steerable(features=O3_FEATURES, irreps_out="1x0o", group="O3"), (7, 8, 6))
    assert_equivariant(net, image(net, (6, 7, 8)), lattice_symmetries(), tolerance=1e-10)


def test_exact_in_batch_norm_evaluation_on_other_data():
    net = train(steerable(normalization="batch"), (7, 8, 6))
    assert_equivariant(net, 5 + 3 * image(net, (9, 6, 7), seed=9), tolerance=1e-10)


@pytest.mark.parametrize(
    ("build", "options"),
    [
        (SteerableUNet, {"features": "2x0e+1x1e"}),
        (ConventionalUNet, {"features": 3}),
        (RegularUNet, {"features": 1, "group": "V4", "spatial_dims": 3}),
    ],
)
@pytest.mark.parametrize(("normalization", "same"), [("batch", True), ("none", True), ("instance", False)])
def test_with_running_statistics_the_inside_of_a_window_is_that_of_the_whole_volume(
    build, options, normalization, same
):
    torch.manual_seed(0)
    net = build(depth=1, kernel_size=3, normalization=normalization, **options)
    volume = torch.randn(1, 1, 40, 40, 40)
    with torch.no_grad():
        net(2 * volume + 1)  # statistics of other volumes
        net.eval()
        whole, window = net(volume), net(volume[..., 4:36, 4:36, 4:36])  # which begins where a halving does
    inside = whole[..., 4:36, 4:36, 4:36], window
    inside = [tensor[..., 12:20, 12:20, 12:20] for tensor in inside]
    assert torch.allclose(*inside, atol=1e-5) is same


@pytest.mark.parametrize("size", [(8, 8, 8), (9, 10, 11)])
def test_conventional_network_is_not_equivariant(size):
    """The measure can fail."""
    net = conventional(features=4)
    assert min(equivariance_error(net, image(net, size), r) for r in lattice_rotations()[1:]) > 0.1


@pytest.mark.parametrize("variant", ["blur", "max", "none", "scalar decoder", "mixed in and out"])
def test_result_of_a_sample_does_not_depend_on_its_batch(variant):
    net = steerable(**VARIANTS[variant])
    x = image(net, (6, 7, 8), batch=3)
    x[1] *= 100
    assert torch.allclose(net(x), torch.cat([net(sample[None]) for sample in x]), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("size", [(5, 5, 9), (5, 8, 16), (13, 6, 7), (9, 9), (6, 11), (5, 16)], ids=str)
@pytest.mark.parametrize("downsampling", ["blur", "average", "max"])
@pytest.mark.parametrize("normalization", ["instance", "batch", "none"])
def test_conventional_network_at_any_size_in_2d_and_3d(size, downsampling, normalization):
    net = conventional(
        spatial_dims=len(size),
        in_channels=2,
        depth=3,
        downsampling=downsampling,
        normalization=normalization,
        dropout=0.1,
    )
    output = net(image(net, size))
    assert output.shape == (2, 3, *size)
    assert output.isfinite().all()


def spatial_sizes(net, size):
    """Of the input of each convolution, down- and upsampling, in order."""
    sizes, kinds = [], ("Convolution", "Conv3d", "Downsample", "MaxPool", "NormMaxPool")
    for module in net.modules():
        if type(module).__name__ in kinds or isinstance(module, Upsample):
            module.register_forward_pre_hook(lambda m, args: sizes.append(tuple(args[0].shape[2:])))
    net(image(net, size, batch=1))
    return sizes


@pytest.mark.parametrize("downsampling", ["blur", "max"])
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_both_networks_are_wired_alike(depth, downsampling):
    options = {"depth": depth, "downsampling": downsampling}
    sizes = spatial_sizes(steerable(**options), (9, 10, 12))
    assert sizes == spatial_sizes(conventional(**options), (9, 10, 12))
    assert len(sizes) == 2 * (2 * depth + 1) + 2 * depth + 1


@pytest.mark.parametrize(("build", "options"), [(steerable, {"features": "2x0e"}), (conventional, {"features": 2})])
def test_features_double_with_each_halving(build, options):
    net = build(**options)
    x, widths = image(net, (4, 4, 4)), []
    for encoder in net.encoders:
        x = encoder(x)
        widths.append(x.shape[1])
    assert widths == [2, 4, 8]


@pytest.mark.parametrize("build", [steerable, conventional])
def test_deep_features_and_skips_both_reach_the_output(build):
    net, x = build(), image(build(), (8, 8, 8))
    expected = net(x)
    for cut in (net.encoders[0], net.encoders[-1]):
        handle = cut.register_forward_hook(lambda module, args, output: torch.zeros_like(output))
        assert (net(x) - expected).norm() > 0.01 * expected.norm()
        handle.remove()


@pytest.mark.parametrize("build", [steerable, conventional])
def test_same_seed_same_weights(build):
    first, second = build().state_dict(), build().state_dict()
    assert all(torch.equal(v, second[k]) for k, v in first.items())


def gradients(net):
    outputs = net(image(net, (8, 9, 10)))
    for y in outputs if isinstance(outputs, list) else [outputs]:
        (y * noise(y.shape[1], y.shape[2:], seed=1)).sum().backward(retain_graph=True)
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in net.named_parameters() if p.numel()}


@pytest.mark.parametrize(
    "net",
    [lambda o=options: steerable(**o) for options in VARIANTS.values()]
    + [lambda: steerable(group="O3", features=O3_FEATURES), conventional]
    + [lambda o=options: conventional(**o) for options in ({"normalization": "batch"}, {"downsampling": "max"})],
    ids=[*VARIANTS, "O3", "conventional", "conventional batch", "conventional max"],
)
def test_gradients_reach_every_tensor_of_parameters(net):
    assert not [name for name, gradient in gradients(net()).items() if (gradient == 0).all()]


@pytest.mark.parametrize(
    "options",
    [
        {"irreps_out": "1x0e+1x1e+1x2e", "downsampling": d, "normalization": n}
        for d in ("blur", "max")
        for n in ("instance", "batch")
    ]
    + [{}, {"irreps_out": "1x1e"}, {"irreps_out": "1x2e"}, {"decoder_features": "3x0e"}]
    + [{"group": "O3", "features": O3_FEATURES, "irreps_out": irreps} for irreps in (O3_FEATURES, "2x0e", "1x0o")]
    + [{"residual": True}, {"deep_supervision": 1}, {"gates": "convolution"}, {"features": "1x1e+1x2e+1x0e"}],
    ids=str,
)
def test_gradients_reach_every_weight(options):
    assert not [name for name, gradient in gradients(steerable(**options)).items() if (gradient == 0).any()]


def test_networks_built_in_inference_mode_leave_later_ones_trainable():
    options = {"radial_basis": "smooth_finite", "lmax": 1, "features": "2x0e+1x1e"}  # bases that no other test builds
    with torch.inference_mode():
        steerable(**options).float()(torch.zeros(1, 1, 5, 6, 7))
    assert all(gradient.isfinite().all() for gradient in gradients(steerable(**options)).values())


def test_networks_can_be_built_on_the_meta_device():
    with torch.device("meta"):
        net = steerable(lmax=1, features="1x1e+2x0e", kernel_size=5)
    assert {name: p.shape for name, p in net.named_parameters()} == {
        name: p.shape for name, p in steerable(lmax=1, features="1x1e+2x0e", kernel_size=5).named_parameters()
    }


def test_gradients_reach_the_input():
    net = steerable()
    x = image(net, (6, 7, 8)).requires_grad_()
    net(x).square().sum().backward()
    assert (x.grad != 0).all()


@pytest.mark.parametrize("build", [steerable, conventional])
def test_evaluation_leaves_the_state_dict_alone(build):
    net = build(normalization="batch").eval()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with torch.no_grad():
        net(image(net, (6, 7, 8)))
    assert before.keys() == net.state_dict().keys()
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize("build", [steerable, conventional])
def test_a_state_dict_makes_another_network_the_same(build):
    net = train(build(normalization="batch"), (7, 8, 6))
    other = build(normalization="batch").eval()
    x = image(net, (6, 7, 8))
    with torch.no_grad():
        assert not torch.equal(other(x), net(x))  # also fills the cached kernels
        other.load_state_dict(net.state_dict())
        assert torch.equal(other(x), net(x))


def test_dropout_acts_in_training_alone():
    net = steerable(dropout=0.5)
    x = image(net, (6, 7, 8))
    assert not torch.equal(net(x), net(x))
    assert torch.equal(net.eval()(x), net(x))
    assert_equivariant(net, x, tolerance=1e-10)


@pytest.mark.parametrize("build", [steerable, conventional])
@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_the_smallest_legal_size_works_and_one_less_is_refused(build, depth):
    net = build(depth=depth)
    smallest = 2 ** (depth - 1) + 1 if depth else 1
    largest = 2**depth + 1
    assert net(image(net, (smallest, smallest, largest))).isfinite().all()
    refused = {(largest - 1,) * 3} | ({(smallest - 1, largest, largest)} if depth else set())
    for size in refused:
        message = rf"{re.escape(str(size))} cannot be halved {depth} times: .*{smallest}\) voxels, .*{largest}, .*Pad"
        with pytest.raises(ValueError, match=message):
            net(image(net, size))


@pytest.mark.parametrize("build", [steerable, conventional])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(1, 2, 8, 8, 8), r"\(1, 2, 8, 8, 8\): this network takes \(B, C, D, H, W\) with C=1"),
        (torch.zeros(1, 1, 8, 8), r"\(1, 1, 8, 8\): this network takes \(B, C, D, H, W\)"),
        (torch.zeros(1, 8, 8, 8), r"\(1, 8, 8, 8\): this network takes \(B, C, D, H, W\)"),
        (torch.zeros(1, 1, 8, 8, 8, dtype=torch.int16), r"torch.int16: the weights are torch.float64. .*x.to\("),
        (torch.zeros(1, 1, 8, 8, 8, dtype=torch.float32), r"torch.float32: the weights are torch.float64. .*x.to\("),
    ],
)
def test_illegal_inputs_are_refused_with_a_remedy(build, x, message):
    with pytest.raises(ValueError, match=message):
        build()(x)


def test_2d_network_says_that_it_takes_2d_images():
    with pytest.raises(ValueError, match=r"\(1, 1, 8, 8, 8\): this network takes \(B, C, H, W\) with C=1"):
        conventional(spatial_dims=2)(torch.zeros(1, 1, 8, 8, 8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 4}, "kernel_size=4 must be odd"),
        ({"depth": -1}, "depth=-1 must be 0 or more"),
        (
            {"normalization": "layer"},
            r"normalization='layer' is not known; choose from \['instance', 'batch', 'none'",
        ),
        ({"downsampling": "stride"}, r"downsampling='stride' is not known; choose from \['blur', 'average', 'max'\]"),
        ({"upsampling": "cubic"}, r"upsampling='cubic' is not known; choose from \['linear', 'spline'\]"),
    ],
)
@pytest.mark.parametrize("build", [steerable, conventional])
def test_illegal_options_are_refused(build, options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radial_basis": "bessel"}, "gaussian_rings"),
        ({"group": "SO2"}, "'SO3', 'O3'"),
        ({"activation": "tanh"}, "'relu', 'silu', 'gelu'"),
        ({"dropout": 1.0}, "0 <= dropout < 1"),
        ({"features": "4x"}, "features='4x' is not a list of irreps"),
        ({"decoder_features": "x"}, "decoder_features='x' is not a list of irreps"),
        ({"irreps_in": "0x0e"}, "irreps_in='0x0e' holds no channel"),
        (
            {"irreps_out": "1x1e", "features": "2x0e"},
            "asks for 1e, and the last features, 2x0e, hold none. Add 1e to features",
        ),
        ({"irreps_out": "1x1e", "decoder_features": "3x0e"}, "asks for 1e, .* or to decoder_features"),
        ({"features": "2x0o", "group": "O3"}, "leads from 1x0e to any of the features 2x0o under O3"),
        ({"irreps_in": "1x3e", "features": "2x1e", "irreps_out": "1x1e"}, "gated by 0e .* from 1x3e to 0e .* lmax=2"),
    ],
)
def test_illegal_steerable_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        steerable(**options)


def test_conventional_network_refuses_other_dimensions():
    with pytest.raises(ValueError, match="spatial_dims=1 is not supported; choose 2 or 3"):
        conventional(spatial_dims=1)


@pytest.mark.parametrize("build", [steerable, conventional])
def test_residual_blocks_add_what_they_are_given(build):
    """Without a block's convolutions, the shortcut is all that is left: the input is still seen."""
    net = build(residual=True, depth=0)
    x = image(net, (6, 7, 8))
    net.encoders[0].block.register_forward_hook(lambda module, args, output: torch.zeros_like(output))
    assert equivariance_error(net, x, QUARTER) < 1e-12
    assert torch.allclose(net(2 * x) - net(0 * x), 2 * (net(x) - net(0 * x)))
    assert (net(x) - net(0 * x)).norm() > 0


@pytest.mark.parametrize("build", [steerable, conventional])
def test_deep_supervision_gives_one_output_a_level_in_training_alone(build):
    net = build(depth=3, deep_supervision=2)
    x = image(net, (9, 10, 12))
    outputs = net(x)
    assert [tuple(y.shape[2:]) for y in outputs] == [(9, 10, 12), (5, 5, 6), (3, 3, 3)]
    assert torch.allclose(net.eval()(x), outputs[0])


@pytest.mark.parametrize("build", [steerable, conventional])
def test_deep_supervision_trains_with_monais_loss(build):
    net = build(depth=3, deep_supervision=2)
    x = image(net, (9, 10, 12))
    loss = monai.losses.DeepSupervisionLoss(monai.losses.DiceLoss(sigmoid=True))
    loss(net(x), (x > 0).double().expand(-1, net(x)[0].shape[1], -1, -1, -1)).backward()
    assert all((head.weight.grad != 0).any() for head in [net.head, *net.coarse_heads])


def test_every_coarse_output_is_equivariant():
    net = steerable(depth=3, deep_supervision=2)
    for level in range(3):
        at_level = torch.nn.Module()
        at_level.forward = lambda x, level=level: net(x)[level]
        assert_equivariant(at_level, image(net, (9, 10, 12)), GENERATORS, tolerance=1e-10)


@pytest.mark.parametrize(("depth", "levels"), [(2, 2), (1, 1), (0, 1), (3, -1)])
def test_deep_supervision_of_levels_that_are_not_there(depth, levels):
    with pytest.raises(ValueError, match=rf"deep_supervision={levels} .* depth={depth}, give 0 to {max(depth - 1, 0)}"):
        steerable(depth=depth, deep_supervision=levels)


def test_a_displacement_field_turns_with_the_pair_it_registers():
    """Two images in, a vector of voxels out: turning both turns the field, its arrows included."""
    net = train(steerable(irreps_in="2x0e", irreps_out="1x1o", group="O3", features=O3_FEATURES), (7, 8, 6))
    pair = image(net, (6, 7, 8), batch=1)
    assert_equivariant(net, pair, lattice_symmetries(), tolerance=1e-10)
    field = net(pair)
    turned = net(torch.rot90(pair, 1, (2, 3)))  # takes axis D to H, and H to -D
    arrows = torch.stack([-field[:, 1], field[:, 0], field[:, 2]], dim=1)
    assert torch.allclose(turned, torch.rot90(arrows, 1, (2, 3)), atol=1e-10)
    assert field.std() > 1e-3


def keeps_spacing(spacing, rotation):
    return np.array_equal(np.abs(rotation) @ np.asarray(spacing), np.asarray(spacing))


@pytest.mark.parametrize("spacing", [(1, 1, 3), (3, 1, 1), (0.5, 2, 0.5), (1, 1.5, 4)], ids=str)
@pytest.mark.parametrize("downsampling", ["blur", "max"])
def test_exact_under_the_rotations_that_keep_the_spacing(spacing, downsampling):
    net = steerable(spacing=spacing, depth=3, kernel_size=5, features="1x0e+1x1e", downsampling=downsampling)
    kept = [rotation for rotation in lattice_rotations() if keeps_spacing(spacing, rotation)]
    assert len(kept) == (8 if len(set(spacing)) == 2 else 4)
    assert_equivariant(net, image(net, (12, 9, 10), batch=1), kept, tolerance=1e-10)
    others = [rotation for rotation in lattice_rotations() if not keeps_spacing(spacing, rotation)]
    assert min(equivariance_error(net, image(net, (10, 10, 10), batch=1), rotation) for rotation in others[::3]) > 1e-3


def test_o3_with_spacing_is_exact_under_the_mirrors_too():
    net = steerable(group="O3", features=O3_FEATURES, irreps_out="1x0o+1x0e", spacing=(1, 1, 3), kernel_size=5)
    kept = [symmetry for symmetry in lattice_symmetries() if keeps_spacing((1, 1, 3), symmetry)]
    assert len(kept) == 16
    assert_equivariant(net, image(net, (8, 7, 6), batch=1), kept, tolerance=1e-10)


@pytest.mark.parametrize("build", [steerable, conventional])
def test_spacing_1_1_3_has_the_taps_and_halvings_of_the_paper(build):
    net = build(spacing=(1, 1, 3), kernel_size=5, depth=3)
    taps = [encoder[0].weight.shape[2:] if build is conventional else encoder[0].taps for encoder in net.encoders]
    assert [tuple(t) for t in taps] == [(5, 5, 1), (5, 5, 3), (5, 5, 7), (5, 5, 7)]
    assert spatial_sizes(net, (16, 16, 9))[2::3][:4] == [(16, 16, 9), (8, 8, 9), (4, 4, 9), (2, 2, 5)]


@pytest.mark.parametrize("build", [steerable, conventional])
@pytest.mark.parametrize("spacing", [(1, 1), (1, 1, 0), (1, -1, 1), (1, 1, float("nan")), 3, "abc"], ids=str)
def test_a_spacing_that_is_none(build, spacing):
    with pytest.raises(ValueError, match="is not a spacing: give 3 positive numbers"):
        build(spacing=spacing)


def test_unit_of_the_spacing_does_not_matter():
    net, other = steerable(spacing=(1, 1, 3)), steerable(spacing=(0.5, 0.5, 1.5))
    assert torch.equal(net(image(net, (8, 9, 7))), other(image(net, (8, 9, 7))))


@pytest.mark.parametrize("build", [steerable, conventional])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.1), (torch.float16, 0.01)])
def test_autocast_stays_near_float32(build, dtype, tolerance):
    net = build().float()
    # Of 2 x 3 x 3 voxels, oneDNN's bfloat16 gradient of a plain conv3d reads memory that nobody wrote (torch 2.13).
    x = image(net, (16, 17, 18), dtype=torch.float32)
    with torch.autocast("cpu", dtype):
        output = net(x)
        output.float().square().sum().backward()
    assert (output.float() - net(x)).norm() < tolerance * net(x).norm()
    assert all(p.grad.isfinite().all() and p.grad.dtype == torch.float32 for p in net.parameters())


@pytest.mark.parametrize("build", [steerable, conventional])
def test_channels_last_gives_the_same(build):
    net = build()
    x = image(net, (6, 7, 8))
    expected = net(x)
    net.to(memory_format=torch.channels_last_3d)
    assert torch.allclose(net(x.to(memory_format=torch.channels_last_3d)), expected, atol=1e-10)


@pytest.mark.parametrize("network", [SteerableUNet, ConventionalUNet])
def test_every_argument_is_documented(network):
    documented = inspect.getdoc(network)
    assert all(f"{name}: " in documented for name in inspect.signature(network).parameters)


def test_magnitudes_are_kept_through_depth():
    """Unit second moment at initialisation: without normalization nothing explodes or vanishes over 10 layers."""
    torch.manual_seed(0)
    net = SteerableUNet(features="8x0e+4x1e+2x2e", depth=2, kernel_size=3, normalization="none")
    rms = []
    for block in (*net.encoders, *net.decoders):
        block.register_forward_hook(
            lambda module, args, output: rms.append(float(output.detach().square().mean().sqrt()))
        )
    smooth = torch.nn.functional.interpolate(
        noise(1, (8, 8, 8), batch=1, dtype=torch.float32), size=16, mode="trilinear"
    )
    net(smooth / smooth.square().mean().sqrt())
    assert len(rms) == 5
    assert 0.2 < min(rms) <= max(rms) < 5


@pytest.mark.parametrize(
    ("build", "option", "values"),
    [
        (steerable, "downsampling", ["blur", "average", "max"]),
        (steerable, "upsampling", ["linear", "spline"]),
        (steerable, "normalization", ["instance", "batch", "none"]),
        (steerable, "activation", ["relu", "silu", "gelu"]),
        (steerable, "radial_basis", ["gaussian_rings", "smooth_finite"]),
        (conventional, "downsampling", ["blur", "average", "max"]),
        (conventional, "upsampling", ["linear", "spline"]),
        (conventional, "normalization", ["instance", "batch", "none"]),
    ],
)
def test_every_value_of_an_option_has_an_effect(build, option, values):
    nets = [build(**{option: value}) for value in values]
    x = image(nets[0], (6, 7, 8))
    outputs = [net(x) for net in nets]
    assert all((a - b).norm() > 1e-3 * a.norm() for a, b in itertools.combinations(outputs, 2))


def test_upsampling_by_splines_has_less_error_between_the_angles_of_the_grid():
    """Where the error of free turns arises is what benchmarks/layers.py says: a good part in linear interpolation."""
    errors = {}
    for upsampling in ("linear", "spline"):
        torch.manual_seed(0)
        net = SteerableUNet(features="4x0e+2x1e+1x2e", depth=2, upsampling=upsampling).eval()
        smooth = gaussian_filter(np.random.RandomState(0).normal(size=(33, 33, 33)), 2).astype(np.float32)
        radius = np.linalg.norm(np.indices(smooth.shape) - 16, axis=0)
        # It fades out, so that no turn cuts anything off.
        image = torch.from_numpy(smooth / smooth.std() * np.clip((16 - radius) / 4, 0, 1).astype(np.float32))[
            None, None
        ]
        turns = [plane_rotation(plane, 45) for plane in ("axial", "sagittal")]
        errors[upsampling] = np.mean([equivariance_error(net, image, turn) for turn in turns])
    assert errors["spline"] < 0.8 * errors["linear"]


@pytest.mark.parametrize("build", [steerable, conventional])
def test_the_head_adds_a_bias_to_scalars(build):
    net = build()
    x = image(net, (6, 7, 8))
    before = net(x)
    net.head.bias.data += 2
    assert torch.allclose(net(x), before + 2, atol=1e-10)


@pytest.mark.parametrize("network", [SteerableUNet, RegularUNet, ScaleUNet, ConventionalUNet])
def test_weights_fit_a_network_with_another_dropout(network):
    options = {"features": "2x0e+1x1e"} if network is SteerableUNet else {"features": 2}
    trained, other = (network(depth=1, dropout=p, **options) for p in (0.0, 0.3))
    other.load_state_dict(trained.state_dict())
    x = torch.rand(1, trained.in_channels, *[6] * trained.spatial_dims)
    assert torch.equal(other.eval()(x), trained.eval()(x))
