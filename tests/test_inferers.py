"""Laws of sliding-window inference without padding."""

import itertools

import pytest
import torch

from equivariant_nets import SteerableUNet
from equivariant_nets.equivariance import equivariance_error
from equivariant_nets.inferers import AutocastInferer, SlidingWindowInferer
from equivariant_nets.rotations import lattice_rotations


def noise(*size):
    return torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def centre_weighted(x):
    """A network that sees its window: the position of a voxel in it changes the result."""
    ramps = [torch.linspace(-1, 1, n, dtype=x.dtype).abs() for n in x.shape[2:]]
    return x * sum(torch.meshgrid(*ramps, indexing="ij"))


def inferer(roi_size=(8, 8, 8), **options):
    return SlidingWindowInferer(roi_size, **{"overlap": 0.5, "mode": "gaussian", **options})


@pytest.mark.parametrize("size", [(8, 8, 8), (5, 7, 8), (7, 7, 7), (3, 8, 5)])
@pytest.mark.parametrize("options", [{}, {"mode": "constant"}, {"cache_roi_weight_map": True}])
def test_a_volume_that_fits_is_one_window_as_it_is(size, options):
    seen = []

    def network(x):
        seen.append(x.clone())
        return centre_weighted(x)

    out = inferer(**options)(noise(*size), network)
    assert [x.shape for x in seen] == [(1, 1, *size)]
    assert torch.equal(seen[0], noise(*size))
    torch.testing.assert_close(out, centre_weighted(noise(*size)))


@pytest.mark.parametrize("size", [(9, 8, 8), (13, 5, 17), (20, 20, 20)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_a_larger_volume_is_covered_by_windows_within_the_roi(size, overlap):
    seen = []

    def network(x):
        seen.append(x.shape[2:])
        return 2 * x

    x = noise(*size)
    torch.testing.assert_close(inferer(overlap=overlap)(x, network), 2 * x)
    assert len(seen) > 1
    assert len(set(seen)) == 1
    assert all(min(6, n) <= window <= min(8, n) for window, n in zip(seen[0], size, strict=True))


@pytest.mark.parametrize("roi_size", [(-1, -1, -1), (8, -1, None)])
def test_an_axis_without_a_window_size_takes_all_of_it(roi_size):
    seen = []
    inferer(roi_size)(noise(6, 11, 13), lambda x: seen.append(x.shape[2:]) or x)
    assert seen == [(6, 11, 13)]


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.5, 0.75])
def test_windows_are_evenly_spaced_from_end_to_end_with_the_overlap_that_was_asked_for(overlap):
    for n in range(9, 42):
        seen = []
        position = torch.arange(float(n)).reshape(1, 1, n, 1, 1).repeat(1, 1, 1, 2, 2)
        inferer(overlap=overlap)(position, lambda x, seen=seen: seen.append((int(x.min()), int(x.max()))) or 2 * x)
        sizes = {last - first + 1 for first, last in seen}
        steps = {after[0] - before[0] for before, after in itertools.pairwise(seen)}
        assert (seen[0][0], seen[-1][1]) == (0, n - 1)
        assert len(sizes) == len(steps) == 1
        assert max(steps) <= (1 - overlap) * max(sizes)


@pytest.mark.parametrize("roi_size", [96, 7, 8])
@pytest.mark.parametrize("size", [(7, 9, 11), (9, 9, 9), (6, 8, 20)])
def test_a_steerable_network_stays_exactly_equivariant_below_and_above_the_roi(size, roi_size):
    network = SteerableUNet(features="2x0e+1x1e", depth=2).double().eval()
    windows = inferer((roi_size,) * 3)
    for matrix in lattice_rotations()[1::5]:
        assert equivariance_error(lambda x: windows(x, network), noise(*size), matrix) < 1e-7  # float32 weights


def test_an_inferer_is_left_as_it_was_even_by_an_error():
    windows = inferer(cache_roi_weight_map=True)
    before = dict(vars(windows))

    def broken(x):
        assert vars(windows) == before  # another thread may use the same inferer meanwhile
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        windows(noise(5, 6, 7), broken)
    assert vars(windows) == before


def test_autocast_computes_in_bfloat16_and_returns_float32():
    net = torch.nn.Conv2d(1, 2, 3)
    types = []
    net.register_forward_hook(lambda module, inputs, output: types.append(output.dtype))
    x = torch.randn(1, 1, 8, 8)
    outputs = [AutocastInferer(enabled)(x, net) for enabled in (True, False)]
    assert types == [torch.bfloat16, torch.float32]
    assert [y.dtype for y in outputs] == [torch.float32] * 2
    assert torch.equal(outputs[1], net(x))
    assert 0 < (outputs[0] - outputs[1]).abs().max() < 0.05
    with torch.autocast("cpu", torch.bfloat16):  # as an engine does
        assert AutocastInferer(False)(x, net).dtype == torch.bfloat16
