"""Laws of the kernel bases: steerable under every lattice symmetry, linearly independent, of unit second moment."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from e3nn import o3

from equivariant_nets.equivariance import transform_field
from equivariant_nets.networks.steerable.basis import (
    RADIAL_BASES,
    KernelSpace,
    _angular_filters,
    kernel_basis,
    reachable,
)
from equivariant_nets.rotations import lattice_rotations, lattice_symmetries

ORDERS = [*itertools.product(range(3), range(3)), (0, 3), (3, 1), (2, 3), (3, 3)]
RADIAL = sorted(RADIAL_BASES)


def irrep(l, p=1):
    return o3.Irrep(l, p)


def wigner_d(ir, matrix):
    """D(R) from D_1 = R by coupling D_(l-1) with R: independent of e3nn's angles and of the package."""
    det = round(np.linalg.det(matrix))
    rotation = torch.from_numpy(det * matrix)
    block = torch.ones(1, 1, dtype=torch.float64)
    for order in range(1, ir.l + 1):
        coupling = o3.wigner_3j(order - 1, 1, order, dtype=torch.float64)
        block = (2 * order + 1) * torch.einsum("abm,ac,bd,cdn->mn", coupling, block, rotation, coupling)
    return block * (ir.p if det < 0 else 1)


def constraint_error(irrep_in, irrep_out, space, matrices):
    """The largest entry of D_o K(R^-1 x) D_i^-1 - K(x)."""
    basis = kernel_basis(irrep_in, irrep_out, space)
    worst = 0.0
    for matrix in matrices:
        moved = transform_field(basis.flatten(1, 2), matrix).view_as(basis)
        turned = torch.einsum("ij,pj...->pi...", wigner_d(irrep_out, matrix), moved)
        turned = torch.einsum("ij,pkj...->pki...", wigner_d(irrep_in, matrix), turned)
        worst = max(worst, float((turned - basis).abs().amax()) if len(basis) else 0.0)
    return worst


def smooth_field(channels, size, mean_square):
    """Unit second moment, correlation exp(-d^2 / 2), and the given share of it in a constant."""
    noise = torch.randn(channels, 1, *[size + 6] * 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    offsets = torch.arange(-3, 4, dtype=torch.float64)
    line = torch.exp(-(offsets**2))
    line = line / line.norm()
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = 7
        noise = F.conv3d(noise, line.view(shape))
    return ((1 - mean_square) ** 0.5 * noise + mean_square**0.5).transpose(0, 1)


@pytest.mark.parametrize("radial_basis", RADIAL)
@pytest.mark.parametrize("kernel_size", [3, 5, 7])
def test_kernels_are_steerable_under_the_lattice_rotations(kernel_size, radial_basis):
    space = KernelSpace(kernel_size, 6, radial_basis)
    for i, o in ORDERS:
        assert constraint_error(irrep(i), irrep(o), space, lattice_rotations()) < 1e-12, (i, o)


@pytest.mark.parametrize("radial_basis", RADIAL)
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_o3_kernels_are_steerable_under_all_lattice_symmetries(kernel_size, radial_basis):
    space = KernelSpace(kernel_size, 4, radial_basis, "O3")
    for (i, o), p in itertools.product(ORDERS, (1, -1)):
        assert constraint_error(irrep(i), irrep(o, p), space, lattice_symmetries()) < 1e-12, (i, o, p)


def test_so3_kernels_are_not_all_steerable_under_mirrors():
    assert constraint_error(irrep(0), irrep(1), KernelSpace(3), [np.diag([-1.0, 1.0, 1.0])]) > 0.1


@pytest.mark.parametrize("radial_basis", RADIAL)
@pytest.mark.parametrize("kernel_size", [1, 3, 5, 7])
def test_functions_are_linearly_independent_and_none_is_zero(kernel_size, radial_basis):
    for (i, o), group in itertools.product(ORDERS, ("SO3", "O3")):
        functions = kernel_basis(irrep(i), irrep(o), KernelSpace(kernel_size, 4, radial_basis, group)).flatten(1)
        functions = functions / functions.norm(dim=1, keepdim=True)
        if len(functions):
            assert torch.linalg.eigvalsh(functions @ functions.T)[0] > 1e-9, (i, o, group)


# Paths from l_in to l_out: rings of each order l, with the centre delta for l = 0 alone. Size 3 cannot sample l = 4.
@pytest.mark.parametrize(
    ("kernel_size", "l_in", "l_out", "paths"),
    [
        *[(k, 0, 0, k // 2 + 1) for k in (1, 3, 5, 7)],
        *[(k, 0, l, k // 2) for k in (1, 3, 5, 7) for l in (1, 2)],
        *[(k, 1, 1, 3 * (k // 2) + 1) for k in (1, 3, 5, 7)],
        (3, 2, 2, 5),
        (5, 2, 2, 10),
        (7, 2, 2, 15),
    ],
)
def test_number_of_gaussian_ring_paths(kernel_size, l_in, l_out, paths):
    assert len(kernel_basis(irrep(l_in), irrep(l_out), KernelSpace(kernel_size, lmax=4))) == paths


@pytest.mark.parametrize(("kernel_size", "paths"), [(1, 1), (3, 4), (5, 5), (7, 5)])
def test_number_of_smooth_finite_paths_between_scalars(kernel_size, paths):
    assert len(kernel_basis(irrep(0), irrep(0), KernelSpace(kernel_size, radial_basis="smooth_finite"))) == paths


@pytest.mark.parametrize(("kernel_size", "paths"), [(3, 0), (5, 1), (7, 2)])
def test_rings_too_small_to_sample_an_order_are_dropped(kernel_size, paths):
    assert len(kernel_basis(irrep(0), irrep(4), KernelSpace(kernel_size, lmax=4))) == paths


def test_lmax_limits_the_orders():
    assert len(kernel_basis(irrep(1), irrep(1), KernelSpace(5, lmax=0))) == 3
    assert len(kernel_basis(irrep(0), irrep(2), KernelSpace(5, lmax=1))) == 0


@pytest.mark.parametrize(("p_out", "orders"), [(1, {0, 2}), (-1, {1})])
def test_parity_selects_the_orders_under_o3(p_out, orders):
    found = len(kernel_basis(irrep(1), irrep(1, p_out), KernelSpace(5, 2, group="O3")))
    assert found == sum(2 + (order == 0) for order in orders)


@pytest.mark.parametrize("radial_basis", RADIAL)
def test_kernel_of_one_voxel_joins_equal_irreps_by_the_identity(radial_basis):
    space = KernelSpace(1, 2, radial_basis)
    for i, o in itertools.product(range(3), range(3)):
        basis = kernel_basis(irrep(i), irrep(o), space)[..., 0, 0, 0]
        expected = (
            torch.eye(2 * i + 1, dtype=torch.float64)[None] if i == o else basis.new_zeros(0, 2 * o + 1, 2 * i + 1)
        )
        assert basis.shape == expected.shape
        assert (basis.abs() - expected).abs().sum() < 1e-12


@pytest.mark.parametrize("radial_basis", RADIAL)
@pytest.mark.parametrize(("l_in", "l_out"), [(0, 0), (0, 1), (1, 0), (1, 1), (2, 1), (2, 2)])
def test_each_function_gives_unit_second_moment_on_smooth_inputs(l_in, l_out, radial_basis):
    basis = kernel_basis(irrep(l_in), irrep(l_out), KernelSpace(5, 2, radial_basis))
    image = smooth_field(2 * l_in + 1, 24, mean_square=1 / np.pi if l_in == 0 else 0.0)
    moments = F.conv3d(image, basis.flatten(0, 1)).square().mean((0, 2, 3, 4)).view(len(basis), -1).mean(1)
    assert ((moments - 1).abs() < 0.25).all(), moments


@pytest.mark.parametrize("kernel_size", [3, 5, 7])
def test_gaussian_rings_are_cut_to_the_ball(kernel_size):
    axis = torch.arange(kernel_size) - kernel_size // 2
    radius = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).double().norm(dim=0)
    for i, o in [(0, 0), (0, 1), (1, 1)]:
        energy = kernel_basis(irrep(i), irrep(o), KernelSpace(kernel_size)).square().sum((0, 1, 2))
        assert torch.equal(energy > 0, (radius < (kernel_size + 1) / 2) & ((radius > 0) | (i == o)))


@pytest.mark.parametrize("default", [torch.float16, torch.float32, torch.float64])
def test_bases_are_the_same_float64_in_any_default_type(default):
    expected = kernel_basis(irrep(1), irrep(1), KernelSpace(3))
    _angular_filters.cache_clear()  # what was computed before has its type already
    torch.set_default_dtype(default)
    try:
        computed = kernel_basis.__wrapped__(irrep(1), irrep(1), KernelSpace(3))
    finally:
        torch.set_default_dtype(torch.float32)
    assert computed.dtype == torch.float64
    assert torch.equal(computed, expected)


@pytest.mark.parametrize(("group", "found"), [("SO3", "2x0e+1x0o+1x1e+1x1o+1x2e"), ("O3", "2x0e+1x1o+1x2e")])
def test_reachable_from_a_scalar(group, found):
    wanted = o3.Irreps("2x0e+1x0o+1x1e+1x1o+1x2e+1x3e")
    assert reachable(o3.Irreps("1x0e"), wanted, KernelSpace(5, 2, group=group)) == o3.Irreps(found)
