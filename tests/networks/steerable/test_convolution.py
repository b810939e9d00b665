"""Laws of the steerable convolution."""

import copy
import itertools
import math
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from equivariant_nets import assert_equivariant, equivariance_error
from equivariant_nets.networks.steerable import Convolution
from equivariant_nets.rotations import lattice_symmetries, plane_rotation

MIRROR = np.diag([-1.0, 1.0, 1.0])


def noise(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def convolution(irreps_in, irreps_out, **options):
    torch.manual_seed(0)
    return Convolution(irreps_in, irreps_out, **options).double()


def small(**options):
    return convolution("1x0e+1x1e", "2x0e+1x1e", kernel_size=3, **options)


@pytest.mark.parametrize("radial_basis", ["gaussian_rings", "smooth_finite"])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize(
    ("irreps_in", "irreps_out"), [("2x0e+1x1e+1x2e", "1x0e+2x1e+1x2e"), ("1x2e+1x0e+1x1e+1x0e", "2x1e+1x0e+1x2e+1x1e")]
)
def test_equivariant_under_lattice_rotations(irreps_in, irreps_out, kernel_size, radial_basis):
    net = convolution(irreps_in, irreps_out, kernel_size=kernel_size, radial_basis=radial_basis, bias=True)
    torch.nn.init.normal_(net.bias)
    assert_equivariant(net, noise(1, net.irreps_in.dim, 5, 6, 8), tolerance=1e-12)


@pytest.mark.parametrize(
    ("irreps_in", "irreps_out"),
    [("1x0e", "1x0e+1x1o+1x2e"), ("1x1o+1x0o", "1x0o+1x1e+1x2o"), ("1x1e+1x1o", "1x0e+1x0o+1x1o")],
)
def test_o3_equivariant_under_all_lattice_symmetries(irreps_in, irreps_out):
    net = convolution(irreps_in, irreps_out, kernel_size=3, group="O3", bias="0e" in irreps_out)
    assert_equivariant(net, noise(1, net.irreps_in.dim, 5, 6, 8), lattice_symmetries(), tolerance=1e-12)


def test_so3_is_not_equivariant_under_mirrors():
    assert equivariance_error(convolution("1x0e", "1x1e"), noise(1, 1, 6, 6, 6), MIRROR) > 1


@pytest.mark.parametrize("irreps_out", ["1x1e", "1x2e"])
def test_nearly_equivariant_at_free_angles_on_smooth_images(irreps_out):
    axis = torch.linspace(-1, 1, 21, dtype=torch.float64)
    x, y, z = torch.meshgrid(axis, axis, axis, indexing="ij")
    image = torch.exp(-((x - 0.2) ** 2 + 2 * y**2 + 3 * (z + 0.1) ** 2) / 0.3)[None, None]
    assert equivariance_error(convolution("1x0e", irreps_out), image, plane_rotation("axial", 30)) < 0.1


def test_first_order_points_along_the_gradient():
    net = convolution("1x0e", "1x1e", kernel_size=3)
    for axis in range(3):
        ramp = (
            torch.arange(7.0, dtype=torch.float64)
            .view([7 if i == axis + 2 else 1 for i in range(5)])
            .expand(1, 1, 7, 7, 7)
        )
        vector = net(ramp)[0, :, 3, 3, 3].abs()
        assert vector[axis] > 0.01
        assert vector.sum() - vector[axis] < 1e-12


@pytest.mark.parametrize("radial_basis", ["gaussian_rings", "smooth_finite"])
def test_unit_second_moment_on_smooth_inputs(radial_basis):
    blur = torch.exp(-(torch.arange(-3.0, 4.0, dtype=torch.float64) ** 2))
    blur = torch.einsum("i,j,k->ijk", *[blur / blur.norm()] * 3)[None, None]
    field = F.conv3d(noise(9, 1, 16, 16, 16), blur).transpose(0, 1)
    field = torch.cat([field[:, :1] * math.sqrt(1 - 1 / math.pi) + math.sqrt(1 / math.pi), field[:, 1:]], dim=1)
    net = convolution("1x0e+1x1e+1x2e", "200x0e+30x1e+20x2e", radial_basis=radial_basis)
    moments = F.conv3d(field, net.kernel().detach()).square().mean((0, 2, 3, 4))
    for of_order in moments.split([200, 90, 100]):
        assert of_order.mean() == pytest.approx(1, abs=0.25)


def test_output_is_a_zero_padded_convolution_with_the_kernel_and_bias_on_0e():
    net = convolution("1x1e", "1x0e+1x1e+2x0e", bias=True)
    net.bias.data.copy_(torch.tensor([1.0, 2.0, 3.0]))
    x = noise(1, 3, 5, 6, 7)
    bias = torch.tensor([1.0, 0, 0, 0, 2, 3], dtype=torch.float64)
    assert torch.allclose(net(x), F.conv3d(x, net.kernel(), bias, padding=2), atol=1e-13)


def step(net):
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    with torch.enable_grad():
        net.kernel().square().sum().backward()
    optimizer.step()
    return net


def load(net):
    net.load_state_dict({"weight": noise(*net.weight.shape, seed=7)})
    return net


def negate_vector(net):
    vector_to_parameters(-parameters_to_vector(net.parameters()), net.parameters())
    return net


CHANGES = {
    "optimizer step": step,
    "load_state_dict": load,
    "float and double": lambda net: net.float().double(),
    "in place": lambda net: torch.nn.init.ones_(net.weight) is None or net,
    "new storage": negate_vector,
    "through .data": lambda net: net.weight.data.neg_() is None or net,
    "deepcopy": lambda net: load(copy.deepcopy(net)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_cached_kernel_follows_the_weights(change):
    net, x = small(), noise(1, 4, 4, 5, 6)
    with torch.no_grad():
        net(x)
        net = CHANGES[change](net)
        assert torch.equal(net(x), F.conv3d(x, net.kernel(), padding=1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cached_kernel_follows_the_type(dtype):
    net, x = small(), noise(1, 4, 4, 5, 6)
    with torch.no_grad():
        net(x)
        assert net.to(dtype)(x.to(dtype)).dtype == dtype


def test_kernel_is_assembled_once_without_gradients(monkeypatch):
    net, x = small(), noise(1, 4, 4, 4, 4)
    calls = []
    monkeypatch.setattr(net, "kernel", lambda: calls.append(1) or Convolution.kernel(net))
    with torch.no_grad():
        net(x), net(x)
    assert len(calls) == 1


def test_gradients_flow_after_a_call_without_gradients():
    net, x = small(), noise(1, 4, 4, 4, 4)
    with torch.no_grad():
        net(x)
    net(x).square().sum().backward()
    assert (net.weight.grad != 0).all()


def test_casting_down_and_up_keeps_equivariance_exact():
    net = small().float().double()
    assert_equivariant(net, noise(1, 4, 5, 6, 7), tolerance=1e-13)


def test_state_dict_holds_the_weights_alone_and_is_untouched_by_calls():
    net = small(bias=True)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    net(noise(1, 4, 4, 4, 4))
    with torch.no_grad():
        net.eval()(noise(1, 4, 4, 4, 4))
    assert before.keys() == net.state_dict().keys() == {"weight", "bias"}
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["deepcopy", "pickle"]
)
def test_copies_compute_the_same(duplicate):
    net, x = small(), noise(1, 4, 4, 5, 6)
    with torch.no_grad():
        expected = net(x)
        assert torch.equal(duplicate(net)(x), expected)


def test_a_fresh_kernel_is_not_pickled():
    net = small()
    with torch.no_grad():
        size = len(pickle.dumps(net))
        net(noise(1, 4, 4, 4, 4))
    assert len(pickle.dumps(net)) == size


def test_autocast_stays_near_float32():
    torch.manual_seed(0)
    net, x = Convolution("1x0e+1x1e", "2x0e+1x1e"), noise(1, 4, 7, 7, 7, dtype=torch.float32)
    for grad in (True, False):
        with torch.set_grad_enabled(grad), torch.autocast("cpu", torch.bfloat16):
            output = net(x)
        assert output.dtype == torch.bfloat16
        assert (output.float() - net(x)).norm() < 0.02 * net(x).norm()


@pytest.mark.parametrize("group", ["SO3", "O3"])
def test_gradcheck(group):
    net = convolution("1x0e+1x1o", "1x0e+1x1o", kernel_size=3, lmax=1, group=group, bias=True)

    def call(weight, bias, x):
        return torch.func.functional_call(net, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(call, (net.weight, net.bias, noise(1, 4, 2, 2, 2).requires_grad_()), fast_mode=True)


def test_same_seed_same_weights():
    assert torch.equal(small().weight, small().weight)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": 4}, "kernel_size=4 must be odd"),
        ({"kernel_size": -1}, "kernel_size=-1 must be odd"),
        ({"radial_basis": "bessel"}, "gaussian_rings"),
        ({"group": "SE3"}, r"'SO3', 'O3'"),
        ({"irreps_out": "8x0"}, r"irreps_out='8x0' is not a list of irreps"),
        ({"irreps_in": "0x0e"}, "irreps_in='0x0e' holds no channel"),
        ({"irreps_out": "1x0o", "group": "O3"}, "leads from 1x0e to 0o under O3"),
        ({"irreps_out": "1x0e+1x3e"}, "to 3e under SO3 with lmax=2"),
        ({"irreps_out": "1x1e", "kernel_size": 1}, "kernel_size=1"),
        ({"irreps_out": "1x4e", "kernel_size": 3, "lmax": 4}, "to 4e"),
    ],
)
def test_errors_say_what_was_got_and_what_is_legal(arguments, message):
    with pytest.raises(ValueError, match=message):
        Convolution(**{"irreps_in": "1x0e", "irreps_out": "1x0e", **arguments})


def test_parity_is_ignored_under_so3():
    assert str(convolution("1x0o", "1x1o+1x0e").irreps_out) == "1x1e+1x0e"


@pytest.mark.parametrize("sizes", list(itertools.product((1, 2), (1, 3), (4,))))
def test_volumes_smaller_than_the_kernel(sizes):
    assert small()(noise(1, 4, *sizes)).shape == (1, 5, *sizes)


@pytest.mark.parametrize(("few", "many"), [("1x0e", "4x0e"), ("2x1e", "5x1e"), ("3x0e", "4x0e")])
@pytest.mark.parametrize("group", ["SO3", "O3"])
def test_widened_weights_are_those_of_the_same_kernel_and_0_on_the_new_channels(few, many, group):
    torch.manual_seed(0)
    irreps_out = "3x0e+2x1e+1x2e"
    narrow, wide = (Convolution(irreps, irreps_out, group=group, allow_zero=True) for irreps in (few, many))
    assert wide.fewer_channels(narrow.weight) == narrow.irreps_in.num_irreps
    assert not narrow.fewer_channels(wide.weight)
    assert not wide.fewer_channels(wide.weight)
    wide.load_state_dict({"weight": wide.widened(narrow.weight.detach())})
    channels = narrow.irreps_in.dim
    torch.testing.assert_close(wide.kernel()[:, :channels], narrow.kernel(), rtol=1e-5, atol=1e-7)
    assert not wide.kernel()[:, channels:].any()


def test_weights_of_other_outputs_are_not_taken_for_those_of_fewer_channels():
    wide = Convolution("4x0e", "3x0e+2x1e")
    assert not wide.fewer_channels(torch.zeros(wide.weight.numel() // 4 + 1))
    assert not wide.fewer_channels(torch.zeros(0))
    assert not Convolution("1x0e+1x1e", "3x0e").fewer_channels(torch.zeros(1))
