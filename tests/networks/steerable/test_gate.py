"""Laws of the gated non-linearity."""

import pytest
import torch
from e3nn import o3

from equivariant_nets import assert_equivariant
from equivariant_nets.networks.materialize import ACTIVATIONS, activate
from equivariant_nets.networks.steerable import Gate
from equivariant_nets.networks.steerable.gate import GATES
from equivariant_nets.networks.steerable.irreps import irrep_of_channel, is_scalar_channel
from equivariant_nets.rotations import lattice_symmetries

IRREPS = [o3.Irreps(text) for text in ("2x0e+1x1e+1x2e", "1x2e+2x0e+2x1e+1x0e", "1x1o", "1x0o+1x0e+1x1o+2x1e", "3x0e")]


def noise(channels, *size, seed=0):
    return torch.randn(1, channels, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def make(irreps, gates="scalars", activation="relu"):
    torch.manual_seed(0)
    net = Gate(irreps, activation, gates).double()
    net.irreps_out = irreps
    return net


def affine(net, batch=1, seed=1):
    """A scale alike for all components of an irrep, and a shift of the scalars alone."""
    generator = torch.Generator().manual_seed(seed)
    irreps = net.irreps_in
    scale = torch.rand(batch, irreps.num_irreps, generator=generator, dtype=torch.float64)[:, irrep_of_channel(irreps)]
    scalar = is_scalar_channel(irreps)
    return scale, torch.where(scalar, torch.randn(batch, irreps.dim, generator=generator, dtype=torch.float64), 0.0)


@pytest.mark.parametrize("gates", GATES)
@pytest.mark.parametrize("irreps", IRREPS, ids=str)
def test_equivariant_under_all_lattice_symmetries(irreps, gates):
    net = make(irreps, gates)
    assert_equivariant(net, noise(net.irreps_in.dim, 3, 4, 5), lattice_symmetries(), tolerance=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("irreps", IRREPS, ids=str)
def test_unit_second_moment_is_kept(irreps, activation):
    net = make(irreps, "convolution", activation)
    moments = net(noise(net.irreps_in.dim, 40, 40, 40)).square().mean((0, 2, 3, 4))
    assert torch.allclose(moments, torch.ones_like(moments), atol=0.05)


def test_unit_second_moment_is_kept_by_a_map_of_the_scalars():
    """On average over its random weights."""
    net = make(o3.Irreps("20x0e+400x1e"))
    moment = net(noise(net.irreps_in.dim, 8, 8, 8))[:, 20:].square().mean()
    assert moment.item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("irreps", IRREPS, ids=str)
def test_input_has_one_scalar_gate_an_irrep_after_the_features(irreps):
    gates = sum(mul for mul, ir in irreps if str(ir) != "0e")
    by_convolution = Gate(irreps, gates="convolution").irreps_in
    assert by_convolution.dim == irreps.dim + gates
    assert all(str(ir) == "0e" for ir in [ir for mul, ir in by_convolution for _ in range(mul)][irreps.num_irreps :])


@pytest.mark.parametrize("irreps", IRREPS, ids=str)
def test_gates_from_the_scalars_need_no_channels_where_there_are_scalars(irreps):
    has_scalars = any(str(ir) == "0e" for _, ir in irreps)
    assert Gate(irreps).irreps_in == (irreps if has_scalars else Gate(irreps, gates="convolution").irreps_in)


@pytest.mark.parametrize("gate", range(4))
def test_each_gate_closes_its_own_irrep(gate):
    irreps = o3.Irreps("1x1e+2x0e+2x2e+1x0o")
    irrep = torch.tensor([0] * 3 + [-1] * 2 + [1] * 5 + [2] * 5 + [3])
    by_convolution, by_map = make(irreps, "convolution"), make(irreps)
    x = noise(by_convolution.irreps_in.dim, 2, 2, 2)
    x[:, irreps.dim + gate] = -100
    by_map.bias.data[gate] = -100
    for y in (by_convolution(x), by_map(x[:, : irreps.dim])):
        almost = (y[:, irrep != -1].abs() < 1e-20).flatten(2).all(2)
        assert torch.equal(almost[0], irrep[irrep != -1] == gate)


def test_gates_are_a_map_of_the_scalars():
    net = make(o3.Irreps("2x0e+1x1e"))
    net.weight.data = torch.tensor([[2.0, -1.0]], dtype=torch.float64)
    net.bias.data[:] = 0.5
    x = noise(5, 2, 2, 2)
    gate = torch.sigmoid(2 * x[:, :1] - x[:, 1:2] + 0.5)
    assert torch.allclose(net(x)[:, 2:], x[:, 2:] * gate * net.gate_factor)


def test_pseudoscalars_are_gated_and_keep_their_sign():
    net = make(o3.Irreps("1x0e+1x0o"))
    x = torch.tensor([-1.0, -1.0], dtype=torch.float64).view(1, 2, 1, 1, 1)
    scalar, pseudoscalar = net(x).flatten()
    assert scalar == 0
    assert pseudoscalar < 0
    x[:, 1] *= -1
    assert torch.equal(net(x).flatten()[1], -pseudoscalar)


def test_an_affine_map_on_the_way_is_applied_first():
    for irreps, gates in ((i, g) for i in IRREPS for g in GATES):
        net = make(irreps, gates)
        x = noise(net.irreps_in.dim, 3, 4, 2)
        scale, shift = affine(net)
        before = x * scale.view(1, -1, 1, 1, 1) + shift.view(1, -1, 1, 1, 1)
        assert torch.allclose(net(x, scale, shift), net(before), atol=1e-14)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("gates", GATES)
@pytest.mark.parametrize("irreps", IRREPS, ids=str)
def test_the_fused_operation_is_the_plain_one(irreps, gates, activation):
    """Values and all gradients, against automatic differentiation of the plain operations."""
    net = make(irreps, gates, activation)
    plain = net.materialize()
    x = noise(net.irreps_in.dim, 3, 4, 2).expand(2, -1, -1, -1, -1)
    weights = noise(irreps.dim, 3, 4, 2, seed=3)
    gradients = []
    for fused in (True, False):
        inputs = [t.clone().requires_grad_() for t in (x, *affine(net, batch=2))]
        scale, shift = (t.view(2, -1, 1, 1, 1) for t in inputs[1:])
        y = net(*inputs) if fused else plain(inputs[0] * scale + shift)
        outputs = torch.autograd.grad((y * weights).sum(), inputs)
        # Only the sum over the components of an irrep is defined, for they share a scale, and the shift of scalars.
        one_hot = torch.nn.functional.one_hot(irrep_of_channel(net.irreps_in)).double()
        scalar = is_scalar_channel(net.irreps_in)
        gradients.append([y, outputs[0], outputs[1] @ one_hot, torch.where(scalar, outputs[2], 0.0)])
    assert all(torch.allclose(a, b, atol=1e-10) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("gates", GATES)
@pytest.mark.parametrize("batch", [1, 2])
def test_gradcheck(gates, batch):
    net = make(o3.Irreps("1x1e+2x0e+1x2e+1x0e"), gates, "silu")
    x = noise(net.irreps_in.dim, 2, 2, 1).expand(2, -1, -1, -1, -1).clone().requires_grad_()
    scale, shift = affine(net, batch)
    parameters = list(net.parameters())
    assert torch.autograd.gradcheck(lambda x, *_: net(x, scale, shift), (x, *parameters), fast_mode=True)
    assert torch.autograd.gradcheck(lambda x, *_: net(x), (x, *parameters))


def test_what_autograd_keeps_is_the_input_alone():
    net = make(o3.Irreps("4x0e+3x1e"))
    x = noise(13, 8, 8, 8).requires_grad_()
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        net(x, *affine(net))
    assert {t.data_ptr() for t in kept if t.numel() > 100} == {x.data_ptr()}


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_scalars_go_through_the_activation(activation):
    x = noise(1, 4, 4, 4)
    ratio = Gate(o3.Irreps("1x0e"), activation)(x) / activate(x, activation)
    assert ratio.nan_to_num(nan=float(ratio[~ratio.isnan()][0])).std() < 1e-12


def test_state_is_that_of_the_map():
    assert set(Gate(IRREPS[0]).state_dict()) == {"weight", "bias"}
    assert not Gate(IRREPS[0], gates="convolution").state_dict()


def test_type_of_the_input_is_kept_under_autocast():
    net = Gate(IRREPS[0])
    x = torch.randn(1, 10, 4, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        y = net(x.bfloat16())
    assert y.dtype == torch.bfloat16
    assert (y.float() - net(x)).norm() < 0.01 * net(x).norm()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "tanh"}, r"activation='tanh' is not known; choose from \['relu', 'silu', 'gelu'\]"),
        ({"gates": "norm"}, r"gates='norm' is not known; choose from \['scalars', 'convolution'\]"),
    ],
)
def test_unknown_options(options, message):
    with pytest.raises(ValueError, match=message):
        Gate(IRREPS[0], **options)
