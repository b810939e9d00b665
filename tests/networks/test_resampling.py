"""Laws of halving and doubling the grid."""

import itertools

import pytest
import torch
from scipy.ndimage import map_coordinates

from equivariant_nets.equivariance import transform_field
from equivariant_nets.networks.resampling import LINEAR_DOWNSAMPLINGS, UPSAMPLINGS, Downsample, MaxPool, Upsample
from equivariant_nets.rotations import lattice_symmetries

WINDOWS = sorted(LINEAR_DOWNSAMPLINGS)


def down(window):
    """Halve all axes of x, however many there are."""
    return lambda x: Downsample(window, [True] * (x.dim() - 2))(x)


def max_pool(x):
    return MaxPool(x.shape[1], [True] * (x.dim() - 2))(x)


def up(x, size, window="linear"):
    return Upsample([True] * len(size), window)(x, size)


POOLS = [
    pytest.param(pool, id=name)
    for name, pool in (("blur", down("blur")), ("average", down("average")), ("max", max_pool))
]
SIZES = [(6, 6, 6), (7, 7, 7), (5, 6, 8), (1, 2, 9), (6, 7), (5, 5), (8, 4)]


def noise(size, batch=2, channels=3, seed=0):
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def halved(size):
    return tuple((n + 1) // 2 for n in size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pool", POOLS)
def test_downsampling_halves_and_rounds_up(pool, size):
    assert pool(noise(size)).shape == (2, 3, *halved(size))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pool", POOLS)
def test_downsampling_commutes_with_every_lattice_symmetry(pool, size):
    x = noise(size)
    for matrix in lattice_symmetries(len(size)):
        assert torch.allclose(pool(transform_field(x, matrix)), transform_field(pool(x), matrix), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("window", UPSAMPLINGS)
def test_upsampling_commutes_with_every_lattice_symmetry(size, window):
    x = noise(halved(size))
    for matrix in lattice_symmetries(len(size)):
        expected = transform_field(up(x, size, window), matrix)
        turned = up(transform_field(x, matrix), expected.shape[2:], window)
        assert torch.allclose(turned, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_constants_are_kept(size):
    for resampled in [pool(torch.full((1, 1, *size), 3.0)) for (pool,) in [p.values for p in POOLS]] + [
        up(torch.full((1, 1, *halved(size)), 3.0), size, window) for window in UPSAMPLINGS
    ]:
        assert torch.allclose(resampled, torch.tensor(3.0), rtol=1e-6)


@pytest.mark.parametrize("n", [10, 11, 16, 17])
def test_linear_functions_are_kept_in_the_interior(n):
    fine = torch.arange(n, dtype=torch.float64)[None, None]
    for window in WINDOWS:
        coarse = down(window)(fine)
        grid = 2 * torch.arange((n + 1) // 2, dtype=torch.float64) + (0.5 if n % 2 == 0 else 0)
        assert torch.allclose(coarse[0, 0, 1:-1], grid[1:-1], atol=1e-12)
    for window, rim in (("linear", 1), ("spline", 4)):
        inside = slice(rim, -rim)
        assert torch.allclose(up(grid[None, None], (n,), window)[0, 0, inside], fine[0, 0, inside], atol=1e-12)


@pytest.mark.parametrize("n", [24, 25])
def test_the_spline_is_that_of_scipy(n):
    """Upsampling puts a cubic B-spline of the coarse grid at each coarse value."""
    coarse = noise(((n + 1) // 2,), batch=1, channels=1)
    step = (torch.arange(n, dtype=torch.float64) - (0.5 if n % 2 == 0 else 0)) / 2
    expected = map_coordinates(coarse[0, 0].numpy(), step[None].numpy(), order=3, prefilter=False, mode="nearest")
    assert torch.allclose(up(coarse, (n,), "spline")[0, 0, 4:-4], torch.from_numpy(expected)[4:-4], atol=1e-12)


@pytest.mark.parametrize("n", [3, 5, 11])
def test_every_second_voxel_of_an_odd_axis_is_kept_by_upsampling(n):
    coarse = noise((n // 2 + 1,))
    assert torch.allclose(up(coarse, (n,))[..., ::2], coarse, atol=1e-14)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("n", [12, 13])
def test_the_nyquist_frequency_is_removed(n, window):
    wave = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(7)[:n].view(1, 1, n)
    assert down(window)(wave)[..., 1:-1].abs().max() < 1e-14


def variance(n):
    """Of the blur's window about the middle coarse voxel, in voxels squared."""
    weights = down("blur")(torch.eye(n, dtype=torch.float64)[:, None])[:, 0, 3]
    x = torch.arange(n, dtype=torch.float64)
    return float(weights @ x**2 - (weights @ x) ** 2)


def test_blur_is_alike_on_even_and_odd_axes():
    assert variance(12) == pytest.approx(0.75)
    assert variance(13) == pytest.approx(0.75)


@pytest.mark.parametrize(("window", "n", "taps"), [
    ("blur", 12, [1, 3, 3, 1]), ("blur", 13, [1, 8, 14, 8, 1]), ("average", 12, [1, 1]), ("average", 13, [1, 2, 1]),
])  # fmt: skip
def test_windows_are_as_documented(window, n, taps):
    weights = down(window)(torch.eye(n, dtype=torch.float64)[:, None])[:, 0, 3]
    taps = torch.tensor(taps, dtype=torch.float64)
    assert torch.allclose(weights[weights > 0], taps / taps.sum())


@pytest.mark.parametrize("module", [*POOLS, pytest.param(lambda x: up(x, (9, 12, 14)), id="up")])
def test_channels_last_gives_the_same(module):
    x = noise((5, 6, 7))
    assert torch.allclose(module(x.contiguous(memory_format=torch.channels_last_3d)), module(x), rtol=0, atol=1e-14)


@pytest.mark.parametrize("pool", POOLS)
def test_channels_and_samples_are_treated_alike_and_apart(pool):
    x = noise((5, 6, 7))
    for b, c in itertools.product(range(2), range(3)):
        assert torch.allclose(pool(x)[b, c], pool(x[b, c][None, None])[0, 0], rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_type_is_kept(dtype):
    x = noise((4, 5)).to(dtype)
    assert {pool(x).dtype for (pool,) in [p.values for p in POOLS]} == {up(x, (8, 9)).dtype} == {dtype}


def test_max_pool_keeps_the_maximum():
    x = noise((6, 7, 9))
    assert torch.equal(max_pool(x).amax((2, 3, 4)), x.amax((2, 3, 4)))


def test_unknown_window():
    with pytest.raises(
        ValueError, match=r"window='cubic' is not a linear downsampling; choose from \['blur', 'average'\]"
    ):
        Downsample("cubic", [True])


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("pool", [lambda h: Downsample("blur", h), lambda h: MaxPool(3, h)], ids=["blur", "max"])
def test_axes_that_are_not_halved_are_left_alone(pool, axis):
    halved = [n != axis for n in range(3)]
    x = noise((6, 7, 9))
    assert torch.equal(pool([False] * 3)(x), x)
    for position in range(x.shape[2 + axis]):
        part = x.narrow(2 + axis, position, 1)
        assert torch.allclose(pool(halved)(part), pool(halved)(x).narrow(2 + axis, position, 1), rtol=0, atol=1e-14)


def test_upsampling_of_some_axes():
    x = noise((3, 4, 5))
    assert torch.equal(Upsample([False] * 3)(x, (3, 4, 5)), x)
    one_by_one = Upsample([False, False, True])(Upsample([True, False, False])(x, (6, 4, 5)), (6, 4, 9))
    assert torch.allclose(Upsample([True, False, True])(x, (6, 4, 9)), one_by_one)
