"""Laws of measuring equivariance."""

import itertools

import numpy as np
import pytest
import torch
from e3nn import o3
from torch import nn

from equivariant_nets import SteerableUNet, materialize
from equivariant_nets.equivariance import (
    assert_equivariant,
    equivariance_curve,
    equivariance_error,
    interpolation_error,
    scale_equivariance_error,
    scale_field,
    transform_field,
)
from equivariant_nets.networks.steerable import Convolution, Gate, InstanceNorm
from equivariant_nets.rotations import lattice_rotations, lattice_symmetries, plane_rotation, random_rotation

QUARTER = plane_rotation((0, 1), 90)  # turns D towards H
MIRROR = np.diag([1.0, -1.0, 1.0])
FREE = [random_rotation(np.random.RandomState(seed)) for seed in range(3)]


def noise(channels=1, size=(4, 5, 6), seed=0):
    return torch.randn(2, channels, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def blob(n=25, scale=0.15):
    """A smooth image without symmetry that vanishes at the border."""
    x, y, z = torch.meshgrid(*[torch.linspace(-1, 1, n, dtype=torch.float64)] * 3, indexing="ij")
    return torch.exp(-((x - 0.1) ** 2 + 2 * (y + 0.1) ** 2 + 3 * z**2 + x * y) / scale)[None, None]


class Function(nn.Module):
    def __init__(self, function, irreps_in=None, irreps_out=None):
        super().__init__()
        self.function = function
        if irreps_in or irreps_out:
            self.irreps_in, self.irreps_out = o3.Irreps(irreps_in), o3.Irreps(irreps_out)

    def forward(self, x):
        return self.function(x)


IDENTITY = Function(lambda x: x)
ADD_RAMP = Function(lambda x: x + torch.arange(x.shape[2], dtype=x.dtype).view(-1, 1, 1))


@pytest.mark.parametrize("matrix", lattice_symmetries(3))
def test_a_voxel_goes_where_the_matrix_sends_it(matrix):
    field, voxel = torch.zeros(1, 1, 3, 4, 5), np.array([0, 1, 4])
    field[0, 0, 0, 1, 4] = 1
    moved = transform_field(field, matrix)
    old, new = (np.array(x.shape[2:]) for x in (field, moved))
    expected = matrix @ (voxel - (old - 1) / 2) + (new - 1) / 2
    assert moved[0, 0].nonzero().tolist() == [expected.tolist()]


def test_a_quarter_turn_moves_d_to_h():
    field = torch.zeros(1, 1, 3, 3, 3)
    field[0, 0, 2, 1, 1] = 1
    assert transform_field(field, QUARTER)[0, 0].nonzero().tolist() == [[1, 2, 1]]


def test_free_rotations_send_the_centre_of_mass_where_the_matrix_does():
    axes = torch.stack(torch.meshgrid(*[torch.arange(25.0, dtype=torch.float64) - 12] * 3, indexing="ij"))

    def centre(x):
        return ((axes * x[0, 0]).sum((1, 2, 3)) / x.sum()).numpy()

    image = torch.exp(-((axes - torch.tensor([4.0, -2, 1]).view(3, 1, 1, 1)) ** 2).sum(0) / 8)[None, None]
    for matrix in FREE:
        assert np.allclose(centre(transform_field(image, matrix)), matrix @ centre(image), atol=0.01)


def test_vectors_turn_their_components():
    field = torch.zeros(1, 3, 1, 1, 1)
    field[0, 0] = 1  # along D
    assert transform_field(field, QUARTER, o3.Irreps("1x1o")).flatten().tolist() == pytest.approx([0, 1, 0])


@pytest.mark.parametrize("matrix", [*lattice_symmetries(3)[::5], *FREE])
def test_polar_vectors_turn_by_the_matrix_and_axial_ones_by_its_proper_part(matrix):
    vector = noise(3, (1, 1, 1))
    turned = torch.einsum("ij,bj...->bi...", torch.from_numpy(matrix), vector)
    assert torch.allclose(transform_field(vector, matrix, o3.Irreps("1x1o")), turned, atol=1e-13)
    proper = turned * round(np.linalg.det(matrix))
    assert torch.allclose(transform_field(vector, matrix, o3.Irreps("1x1e")), proper, atol=1e-13)


@pytest.mark.parametrize(("irrep", "sign"), [("0e", 1), ("0o", -1), ("1e", 1), ("1o", -1), ("2e", 1), ("2o", -1)])
def test_the_inversion_acts_by_parity(irrep, sign):
    field = noise(o3.Irrep(irrep).dim, (1, 1, 1))
    assert torch.allclose(transform_field(field, -np.eye(3), o3.Irreps(irrep)), sign * field, atol=1e-13)


@pytest.mark.parametrize("irreps", [None, "1x0o+1x1o+1x1e+1x2e"], ids=str)
def test_transforms_compose_and_invert(irreps):
    irreps = irreps and o3.Irreps(irreps)
    field = noise(irreps.dim if irreps else 2)
    for a, b in itertools.product(lattice_symmetries(3)[::7], lattice_symmetries(3)[1::6]):
        twice = transform_field(transform_field(field, b, irreps), a, irreps)
        assert torch.allclose(twice, transform_field(field, a @ b, irreps), atol=1e-12)
        assert torch.allclose(transform_field(twice, (a @ b).T, irreps), field, atol=1e-12)


def test_lengths_are_kept():
    field = noise(9)
    turned = transform_field(field, QUARTER, o3.Irreps("1x0e+1x1o+1x2e"))
    for part in (slice(0, 1), slice(1, 4), slice(4, 9)):
        assert torch.allclose(turned[:, part].norm(), field[:, part].norm())


def test_the_field_is_left_alone_and_its_type_is_kept():
    field = noise().float()
    before = field.clone()
    assert transform_field(field, FREE[0]).dtype == torch.float32
    assert torch.equal(field, before)


@pytest.mark.parametrize(
    "matrix", [np.eye(2), np.diag([1, 1, 2.0]), np.zeros((3, 3)), np.ones(3), np.full((3, 3), np.nan)]
)
def test_matrices_that_are_not_orthogonal_are_refused(matrix):
    with pytest.raises(ValueError, match=r"must be an orthogonal 3x3 matrix for a field of shape \(2, 1, 4, 5, 6\)"):
        transform_field(noise(), matrix)


def test_error_is_zero_for_the_identity():
    assert equivariance_error(IDENTITY, noise(), MIRROR) == 0
    assert equivariance_error(IDENTITY, blob(), FREE[0]) == 0


@pytest.mark.parametrize("matrix", [*lattice_symmetries(3)[::9], *FREE])
def test_error_is_near_zero_for_pointwise_functions(matrix):
    assert equivariance_error(Function(torch.tanh), blob(), matrix) < 1e-3


def test_error_is_large_for_functions_that_are_not_equivariant():
    assert equivariance_error(ADD_RAMP, noise(), QUARTER) > 0.5


def test_error_is_relative():
    small = equivariance_error(ADD_RAMP, noise(), QUARTER)
    scaled = equivariance_error(Function(lambda x: 1000 * ADD_RAMP(x)), noise(), QUARTER)
    assert scaled == pytest.approx(small)


def test_error_of_outputs_of_opposite_sign_is_two():
    """x -> x[0] of a vector field, a scalar by claim: under a half turn its sign flips."""
    net = Function(lambda x: x[:, :1], "1x1o", "1x0e")
    assert equivariance_error(net, noise(3), plane_rotation((0, 1), 180)) == pytest.approx(2)


@pytest.mark.parametrize(("irreps_out", "error"), [("1x0o", 2), ("1x0e", 0)])
def test_mirrors_see_the_parity_of_the_output(irreps_out, error):
    net = Function(lambda x: x, "1x0e", irreps_out)
    assert equivariance_error(net, noise(), MIRROR) == pytest.approx(error)


def test_error_leaves_mode_gradients_and_weights_alone():
    net = Convolution("1x0e", "1x1e", kernel_size=3).double()
    before = net.weight.clone()
    equivariance_error(net, noise(), QUARTER)
    assert net.training
    assert net.weight.grad is None
    assert torch.equal(net.weight, before)


def test_an_output_of_zero_is_refused():
    with pytest.raises(ValueError, match=r"zero everywhere.*give another image"):
        equivariance_error(Function(torch.zeros_like), noise(), QUARTER)


def test_assert_equivariant_accepts_equivariant_functions():
    assert_equivariant(Function(torch.tanh), noise())
    assert_equivariant(Function(torch.tanh), noise(), lattice_symmetries())
    assert_equivariant(nn.Tanh(), noise(size=(4, 5)), lattice_symmetries(2))


def test_assert_equivariant_uses_the_24_rotations_by_default():
    seen = []
    assert_equivariant(Function(lambda x: seen.append(x) or x), noise())
    assert len(seen) == 25  # of the image, and of the image under each rotation
    chiral = Convolution("1x0e", "1x1e", kernel_size=3).double()
    assert_equivariant(chiral, noise())
    with pytest.raises(AssertionError):
        assert_equivariant(chiral, noise(), lattice_symmetries())


def test_assert_equivariant_names_the_worst_transform():
    net = Function(lambda x: x + torch.arange(x.shape[4]))  # W alone is special: turns about it do no harm
    half_turn = np.diag([1.0, -1.0, -1.0])
    with pytest.raises(
        AssertionError, match=r"exceeds the tolerance 1e-05 under the transform \[\[1.0, 0.0, 0.0\], \[0.0, -1.0, 0.0\]"
    ):
        assert_equivariant(net, noise(size=(4, 4, 4)), [np.eye(3), half_turn, QUARTER])


def test_assert_equivariant_keeps_to_the_tolerance():
    net = Function(lambda x: x + 1e-3 * torch.randn_like(x))
    torch.manual_seed(0)
    assert_equivariant(net, noise(), tolerance=1e-2)
    with pytest.raises(AssertionError, match="exceeds the tolerance 1e-04"):
        assert_equivariant(net, noise(), tolerance=1e-4)


def test_assert_equivariant_refuses_an_empty_list():
    with pytest.raises(ValueError, match="transforms is empty: nothing was measured; give at least one matrix"):
        assert_equivariant(IDENTITY, noise(), [])


def test_assert_equivariant_rejects_nan():
    with pytest.raises(AssertionError):
        assert_equivariant(Function(lambda x: x * float("nan")), noise())


def test_assert_equivariant_rejects_nan_that_only_one_transform_shows():
    x = noise()
    spoil = Function(lambda y: y if torch.equal(y, x) else y * float("nan"))
    with pytest.raises(AssertionError, match="nan"):
        assert_equivariant(spoil, x)


def vector_net(**options):
    """From vectors to vectors."""
    torch.manual_seed(0)
    net = SteerableUNet("1x1o", "1x1o", group="O3", features="2x0e+1x1o+1x1e", depth=1, **options)
    return net.double().eval()


def scripted(net):
    return torch.jit.script(materialize(net))


@pytest.mark.parametrize(
    "wrap",
    [
        materialize,
        scripted,
        nn.DataParallel,
        lambda net: nn.DataParallel(materialize(net)),
    ],
    ids=["materialize", "script", "DataParallel", "DataParallel of materialize"],
)
def test_a_wrapped_or_materialized_network_is_measured_as_itself(wrap):
    wrapped = wrap(vector_net())
    assert_equivariant(wrapped, noise(3), [QUARTER, MIRROR], tolerance=1e-12)
    (error,) = equivariance_curve(wrapped, noise(3), [90])
    assert error < 1e-12


@pytest.mark.usefixtures("unchecked_shapes")
def test_a_compiled_layer_is_measured_as_itself():
    layer = Convolution("1x1o", "1x1o", kernel_size=3, group="O3").double()
    assert_equivariant(torch.compile(layer, backend="eager"), noise(3), [QUARTER], tolerance=1e-12)


def test_a_materialized_layer_is_measured_as_itself():
    layers = [
        Convolution("1x0e", "1x0e+1x1o", group="O3"),
        Gate(o3.Irreps("1x0e+1x1o")),
        InstanceNorm(o3.Irreps("1x1o")),
    ]
    for layer in layers:
        for net in (layer.double(), materialize(layer)):
            channels = getattr(layer, "irreps_in", getattr(layer, "irreps", None)).dim
            assert_equivariant(net, noise(channels), [QUARTER], tolerance=1e-12)


@pytest.mark.parametrize(
    "measure", [equivariance_error, lambda net, x, r, **k: equivariance_curve(net, x, [90], **k)[0]]
)
@pytest.mark.parametrize(
    "wrap",
    [
        nn.Sequential,
        lambda net: nn.Sequential(nn.Identity(), nn.Sequential(net)),
        lambda net: nn.Sequential(materialize(net)),
        lambda net: nn.Sequential(scripted(net)),
        torch.optim.swa_utils.AveragedModel,
    ],
)
def test_what_hides_the_irreps_of_a_network_is_measured_with_given_ones_or_not_at_all(wrap, measure):
    wrapped = wrap(vector_net())
    with pytest.raises(ValueError, match=r"does not say .* channels of 1x1o\. Give irreps_in and irreps_out"):
        measure(wrapped, noise(3), QUARTER)
    with pytest.raises(ValueError, match="Give irreps_in and irreps_out"):
        measure(wrapped, noise(3), QUARTER, irreps_in="1x1o")
    assert measure(wrapped, noise(3), QUARTER, irreps_in="1x1o", irreps_out=o3.Irreps("1x1o")) < 1e-12


def test_a_wrapped_network_of_scalars_needs_no_irreps():
    net = SteerableUNet(features="2x0e+1x1e", depth=1).double()
    assert_equivariant(nn.Sequential(nn.Identity(), net), noise(), tolerance=1e-12)


def test_given_irreps_go_before_those_of_the_network_and_wrong_ones_are_refused():
    assert equivariance_error(vector_net(), noise(3), QUARTER, irreps_in="3x0e") > 0.5
    with pytest.raises(ValueError, match=r"irreps 1x2e are 5 channels, and the field of shape .* has 3"):
        equivariance_error(vector_net(), noise(3), QUARTER, irreps_out="1x2e")


def test_all_outputs_of_deep_supervision_are_measured_and_the_worst_counts():
    net = SteerableUNet(features="2x0e+1x1e", depth=3, deep_supervision=2).double()
    image = noise(size=(9, 10, 12))
    assert_equivariant(net, image, [QUARTER], tolerance=1e-10)
    net.coarse_heads[1].register_forward_hook(lambda module, args, y: y + torch.arange(y.shape[2]).view(-1, 1, 1))
    with pytest.raises(AssertionError):
        assert_equivariant(net, image, [QUARTER], tolerance=1e-10)
    assert_equivariant(net.eval(), image, [QUARTER], tolerance=1e-10)


def test_free_rotations_turn_coarse_outputs_about_their_own_centre():
    """Smooth coarse outputs, as pyramids of the image are, turn with it; what a grid is too small for is refused."""
    pyramid = Function(lambda x: [x, nn.functional.avg_pool3d(x, 3, 2, 1)])
    assert equivariance_error(pyramid, blob(41), FREE[0]) < 0.01
    assert equivariance_error(Function(lambda x: [x, x[:, :, ::2, ::2, 2::2]]), blob(41), FREE[0]) > 0.05
    with pytest.raises(ValueError, match=r"size \(2, 2, 2\) has no voxel in the central ball.*evaluation mode"):
        equivariance_error(Function(lambda x: [x, x[..., :2, :2, :2]]), blob(), FREE[0])


def test_outputs_whose_shape_does_not_turn_are_refused():
    halved = Function(lambda x: x[:, :, ::2])
    assert equivariance_error(halved, noise(size=(5, 4, 4)), np.diag([1.0, -1.0, -1.0])) == 0
    with pytest.raises(ValueError, match=r"shape \(2, 1, 2, 4, 4\), .* is of shape \(2, 1, 4, 2, 4\)"):
        equivariance_error(halved, noise(size=(4, 4, 4)), QUARTER)


PRECISIONS = (torch.backends.cudnn.conv, torch.backends.cudnn.rnn, torch.backends.cuda.matmul)


def precisions():
    return [setting.fp32_precision for setting in PRECISIONS]


@pytest.fixture(params=["tf32", "ieee"])
def precision(request):
    """Of products of float32 on GPUs."""
    before = precisions()
    for setting in PRECISIONS:
        setting.fp32_precision = request.param
    yield request.param
    for setting, value in zip(PRECISIONS, before, strict=True):
        setting.fp32_precision = value


def test_float32_is_measured_in_full_precision_and_the_setting_is_restored(precision):
    seen = []
    net = Function(lambda x: seen.append(precisions()) or x)
    assert_equivariant(net, noise(), [QUARTER])
    equivariance_curve(net, blob(), [30])
    scale_equivariance_error(net, blob(), 0.8)
    assert seen == [["ieee"] * 3] * 6
    assert precisions() == [precision] * 3
    with pytest.raises(ZeroDivisionError):
        equivariance_error(Function(lambda x: 1 / 0), noise(), QUARTER)
    assert precisions() == [precision] * 3


def test_curve_is_near_zero_on_the_lattice_and_bounded_between():
    torch.manual_seed(0)
    net = Convolution("1x0e", "1x0e+1x1e", kernel_size=3).double()
    angles = [0, 30, 90, 120, 180, 270]
    curve = equivariance_curve(net, blob(), angles)
    exact, free = [curve[0], curve[2], curve[4], curve[5]], [curve[1], curve[3]]
    assert len(curve) == len(angles)
    assert max(exact) < 1e-12
    assert 1e-6 < min(free) <= max(free) < 0.1


@pytest.mark.parametrize(("plane", "moves"), [("axial", True), ("coronal", True), ("sagittal", False), ((1, 2), False)])
def test_curve_turns_in_the_plane_it_is_asked_for(plane, moves):
    (error,) = equivariance_curve(ADD_RAMP, noise(size=(4, 4, 4)), [90], plane)
    assert (error > 0.5) == moves


def test_interpolation_error_is_zero_on_the_lattice_and_small_on_smooth_images():
    assert max(interpolation_error(noise(), m) for m in lattice_rotations()) == 0
    smooth = interpolation_error(blob(), FREE[0])
    assert 0 < smooth < 0.01
    assert interpolation_error(noise(size=(25, 25, 25)), FREE[0]) > 0.1


def gaussian(size, width):
    axes = torch.meshgrid(*[torch.arange(n, dtype=torch.float64) - (n - 1) / 2 for n in size], indexing="ij")
    return torch.exp(-sum(axis**2 for axis in axes) / (2 * width**2))[None, None]


@pytest.mark.parametrize("size", [(20, 20), (21, 25), (20, 21, 23)])
@pytest.mark.parametrize("factor", [0.5, 0.8, 1.5])
def test_scaling_makes_a_gaussian_narrower_about_the_centre(size, factor):
    scaled = scale_field(gaussian(size, 2.5), factor)
    assert scaled.shape[2:] == tuple(round(n * factor) for n in size)
    assert torch.allclose(scaled, gaussian(scaled.shape[2:], 2.5 * factor), atol=2e-3)


def test_scaling_by_one_is_the_identity_and_sizes_can_be_multiples():
    field = gaussian((16, 24), 3.0)
    assert torch.equal(scale_field(field, 1.0), field)
    assert scale_field(field, 0.7, multiple=8).shape == (1, 1, 8, 16)
    assert scale_field(field, 1.0, multiple=16).shape == (1, 1, 16, 32)
    for factor in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="is not above 0"):
            scale_field(field, factor)


def test_scale_error_is_that_of_the_network():
    image = gaussian((24, 24, 24), 4.0)
    pointwise = torch.nn.Conv3d(1, 2, 1).double()
    assert scale_equivariance_error(pointwise, image, 0.8) < 1e-3
    laplacian = torch.nn.Conv3d(1, 1, 3, padding=1, bias=False).double()
    laplacian.weight.data.fill_(1)
    laplacian.weight.data[0, 0, 1, 1, 1] = -26
    # Second derivatives grow by the square: (1 / 0.8)^2 - 1 = 0.56 times what is expected, about its mean more or less.
    assert 0.4 < scale_equivariance_error(laplacian, image, 0.8) < 1.2


def test_a_constant_output_has_no_scale_error():
    class Constant(torch.nn.Module):
        def forward(self, x):
            return torch.ones_like(x)

    with pytest.raises(ValueError, match="constant"):
        scale_equivariance_error(Constant(), gaussian((12, 12), 3.0), 0.8)
