"""Laws of the gated non-linearity."""

import pytest
import torch
from e3nn import o3

from equivariant_nets import assert_equivariant
from equivariant_nets.rotations import lattice_symmetries
from equivariant_nets.steerable import Gate
from equivariant_nets.steerable.gate import ACTIVATIONS

IRREPS = [o3.Irreps(text) for text in ("2x0e+1x1e+1x2e", "1x2e+2x0e+2x1e+1x0e", "1x1o", "1x0o+1x0e+1x1o+2x1e", "3x0e")]


def noise(channels, *size, seed=0):
    return torch.randn(1, channels, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("irreps", IRREPS, ids=str)
def test_equivariant_under_all_lattice_symmetries(irreps):
    net = Gate(irreps)
    net.irreps_out = irreps
    assert_equivariant(net, noise(net.irreps_in.dim, 3, 4, 5), lattice_symmetries(), tolerance=1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("irreps", IRREPS, ids=str)
def test_unit_second_moment_is_kept(irreps, activation):
    net = Gate(irreps, activation)
    moments = net(noise(net.irreps_in.dim, 40, 40, 40)).square().mean((0, 2, 3, 4))
    assert torch.allclose(moments, torch.ones_like(moments), atol=0.05)


@pytest.mark.parametrize("irreps", IRREPS, ids=str)
def test_input_has_one_scalar_gate_an_irrep_after_the_features(irreps):
    gates = sum(mul for mul, ir in irreps if str(ir) != "0e")
    assert Gate(irreps).irreps_in.dim == irreps.dim + gates
    assert all(
        str(ir) == "0e" for ir in [ir for mul, ir in Gate(irreps).irreps_in for _ in range(mul)][irreps.num_irreps :]
    )


@pytest.mark.parametrize("gate", range(4))
def test_each_gate_closes_its_own_irrep(gate):
    irreps = o3.Irreps("1x1e+2x0e+2x2e+1x0o")
    irrep_of_channel = torch.tensor([0] * 3 + [-1] * 2 + [1] * 5 + [2] * 5 + [3])
    x = noise(irreps.dim + 4, 2, 2, 2)
    x[:, irreps.dim + gate] = -100
    closed = (Gate(irreps)(x)[:, irrep_of_channel != -1] == 0).flatten(2).all(2)
    almost = (Gate(irreps)(x)[:, irrep_of_channel != -1].abs() < 1e-20).flatten(2).all(2)
    assert torch.equal(almost[0], irrep_of_channel[irrep_of_channel != -1] == gate)
    assert not closed[0, irrep_of_channel[irrep_of_channel != -1] != gate].any()


def test_pseudoscalars_are_gated_and_keep_their_sign():
    irreps = o3.Irreps("1x0e+1x0o")
    x = torch.tensor([-1.0, -1.0, 0.0]).view(1, 3, 1, 1, 1)
    scalar, pseudoscalar = Gate(irreps)(x).flatten()
    assert scalar == 0
    assert pseudoscalar < 0
    x[:, 1] *= -1
    assert torch.equal(Gate(irreps)(x).flatten()[1], -pseudoscalar)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_scalars_go_through_the_activation(activation):
    x = noise(1, 4, 4, 4)
    ratio = Gate(o3.Irreps("1x0e"), activation)(x) / ACTIVATIONS[activation](x)
    assert ratio.nan_to_num(nan=float(ratio[~ratio.isnan()][0])).std() < 1e-12


def test_no_state():
    assert not Gate(IRREPS[0]).state_dict()


def test_unknown_activation():
    with pytest.raises(ValueError, match=r"activation='tanh' is not known; choose from \['relu', 'silu', 'gelu'\]"):
        Gate(IRREPS[0], "tanh")
