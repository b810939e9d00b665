"""Laws of max-pooling by norm."""

import pytest
import torch
import torch.nn.functional as F
from e3nn import o3

from equivariant_nets import assert_equivariant
from equivariant_nets.networks.steerable import NormMaxPool
from equivariant_nets.rotations import lattice_rotations, lattice_symmetries

IRREPS = o3.Irreps("1x1e+2x0e+2x2e+1x0o")
SIZES = [(4, 4, 4), (5, 5, 5), (5, 6, 8), (2, 3, 7), (1, 1, 1)]


def noise(batch, size, seed=0):
    return torch.randn(batch, IRREPS.dim, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("size", SIZES)
def test_equivariant_under_all_lattice_symmetries(size):
    net = NormMaxPool(IRREPS)
    net.irreps_in = net.irreps_out = IRREPS
    assert_equivariant(net, noise(1, size), lattice_symmetries(), tolerance=1e-14)


@pytest.mark.parametrize("size", SIZES)
def test_size_is_halved_and_rounded_up(size):
    assert NormMaxPool(IRREPS)(noise(2, size)).shape == (2, IRREPS.dim, *[(n + 1) // 2 for n in size])


@pytest.mark.parametrize("size", SIZES)
def test_result_of_a_sample_does_not_depend_on_its_batch(size):
    net, x = NormMaxPool(IRREPS), noise(3, size)
    assert torch.equal(net(x), torch.cat([net(sample[None]) for sample in x]))


@pytest.mark.parametrize("size", SIZES)
def test_picks_a_whole_vector_of_the_largest_norm(size):
    x = noise(2, size)[:, :3]
    pooled = NormMaxPool(o3.Irreps("1x1e"))(x)
    arguments = {"kernel_size": [2 + n % 2 for n in size], "stride": 2, "padding": [n % 2 for n in size]}
    assert torch.allclose(pooled.norm(dim=1), F.max_pool3d(x.norm(dim=1), **arguments))
    assert (pooled.flatten(2).mT[:, :, None] == x.flatten(2).mT[:, None]).all(-1).any(-1).all()


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 400.0])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_chooses_as_float64_does(dtype, scale, plain):
    """The squares of float16 overflow from 256 on, vanish below 2e-4, and tie in between."""
    net = NormMaxPool(IRREPS)
    net = net.materialize() if plain else net
    x = (scale * noise(1, (8, 8, 8))).to(dtype)
    assert torch.equal(net(x).double(), net(x.double()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_equivariant_in_half_precision(dtype):
    irreps = o3.Irreps("2x0e+1x1e")  # of which a rotation of the lattice permutes the components
    net = NormMaxPool(irreps)

    def pool(x):
        return net(x.to(dtype)).double()

    pool.irreps_in = pool.irreps_out = irreps
    x = (300 * torch.randn(1, 5, 8, 9, 8, dtype=torch.float64)).to(dtype).double()
    assert_equivariant(pool, x, lattice_rotations(), tolerance=1e-14)


def test_each_irrep_chooses_its_own_voxel():
    x = torch.zeros(1, 6, 2, 2, 2)
    x[0, :3, 0, 0, 0] = torch.tensor([1.0, -2.0, 3.0])
    x[0, 3:, 1, 1, 1] = torch.tensor([-4.0, 5.0, -6.0])
    assert NormMaxPool(o3.Irreps("2x1e"))(x).flatten().tolist() == [1, -2, 3, -4, 5, -6]


def test_scalars_by_value_and_pseudoscalars_by_magnitude():
    x = torch.tensor([-5.0, 1, 2, 3, -1, 0, 2, 2]).view(1, 1, 2, 2, 2)
    assert NormMaxPool(o3.Irreps("1x0e+1x0o"))(x.repeat(1, 2, 1, 1, 1)).flatten().tolist() == [3, -5]


def test_gradient_reaches_the_chosen_vectors_alone():
    x = noise(1, (4, 4, 4)).requires_grad_()
    NormMaxPool(IRREPS)(x).sum().backward()
    assert float(x.grad.sum()) == IRREPS.dim * 8
    assert set(x.grad.unique().tolist()) == {0.0, 1.0}
