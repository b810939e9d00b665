"""Laws of sliding-window inference without padding."""

import copy
import itertools
import logging
import pickle
import re
from collections import Counter

import monai.inferers.inferer as monai_inferers
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from equivariant_nets import ScalePyramid, SteerableUNet, materialize
from equivariant_nets.equivariance import equivariance_error
from equivariant_nets.inference import memory
from equivariant_nets.inference.sliding_window import SlidingWindowInferer
from equivariant_nets.networks.steerable.convolution import Convolution
from equivariant_nets.networks.steerable.dropout import Dropout
from equivariant_nets.rotations import lattice_rotations
from equivariant_nets.training.precision import AutocastInferer


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


class Operations(TorchDispatchMode):
    """How often each operation of torch runs."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.counts[str(function)] += 1
        return function(*args, **(kwargs or {}))

    def __enter__(self):
        self.counts = Counter()
        return super().__enter__()


@pytest.mark.parametrize("kind", ["steerable", "pyramid"])
def test_windows_are_segmented_without_a_look_at_the_weights(kind):
    """On a GPU each operation is a launch, and a comparison, of weights with those that a kernel is of, a wait."""
    network = SteerableUNet(features="2x0e+1x1e", depth=1, dropout=0.5, normalization="batch").eval()
    if kind == "pyramid":
        network = ScalePyramid(network, enlarged=1, reduced=0).eval()
    counts = []
    for size in [(20, 12, 9), (40, 12, 9)]:
        x, windows = noise(*size).float(), inferer()
        with torch.no_grad():
            expected = windows(x, lambda window: network(window))
            windows(x, network)  # which checks the memory, once
            with Operations() as operations:
                found = windows(x, network)
        counts.append(operations.counts)
        assert torch.linalg.norm(found - expected) < 1e-5 * torch.linalg.norm(expected)
    fewer, more = counts
    assert more["aten.convolution.default"] > 1.5 * fewer["aten.convolution.default"] > 0
    for name in ("aten.equal.default", "aten.masked_scatter.default", "aten.index.Tensor"):
        assert more[name] == fewer[name] < 30, name  # of the network, once


@pytest.mark.parametrize("why", ["gradients", "dropout that samples", "a hook"])
def test_a_network_is_left_as_it_is_where_it_does_more_than_infer(why):
    network, heard = SteerableUNet(features="2x0e+1x1e", depth=1, dropout=0.5).eval(), []
    x = noise(12, 8, 8).float()
    for module in network.modules():
        if why == "a hook" and isinstance(module, Convolution):
            module.register_forward_hook(lambda *_: heard.append(1))
        if why == "dropout that samples" and isinstance(module, Dropout):
            module.train()
    with torch.set_grad_enabled(why == "gradients"):
        first, second = (inferer()(x, network) for _ in range(2))
    assert first.requires_grad == (why == "gradients")
    assert torch.equal(first, second) == (why != "dropout that samples")
    assert bool(heard) == (why == "a hook")


def test_an_inferer_is_left_as_it_was_even_by_an_error():
    windows = inferer(cache_roi_weight_map=True)
    before = dict(vars(windows))

    def broken(x):
        assert vars(windows) == before  # another thread may use the same inferer meanwhile
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        windows(noise(5, 6, 7), broken)
    assert vars(windows) == before


@pytest.mark.parametrize("device", [None, "cpu", torch.device("cpu")])
@pytest.mark.parametrize("as_argument", [False, True])
def test_devices_of_windows_and_output_may_be_named(device, as_argument):
    options = {"sw_device": "cpu"} if as_argument else {"sw_device": "cpu", "device": device}
    x = noise(9, 12, 7)
    out = inferer(**options)(x, centre_weighted, **({"device": device} if as_argument else {}))
    assert torch.equal(out, inferer()(x, centre_weighted))


class OnGPU(torch.Tensor):
    """A tensor that says it lies on a GPU."""

    is_cuda = True


@pytest.mark.parametrize("failures", [0, 1, 2])
@pytest.mark.parametrize("size", [(13, 8, 17), (20, 9, 9), (8, 8, 8)])
def test_without_memory_on_the_gpu_the_output_is_stitched_on_the_cpu_and_the_same(size, failures, monkeypatch):
    attempts, calls = [], []
    stitch = monai_inferers.sliding_window_inference
    monkeypatch.setattr(
        monai_inferers, "sliding_window_inference",
        lambda *args, **kwargs: attempts.append((args[10], args[14])) or stitch(*args, **kwargs),
    )  # fmt: skip

    def network(x):
        calls.append(1)
        if len(attempts) <= failures:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return centre_weighted(x.as_subclass(torch.Tensor))

    windows, x = inferer(), noise(*size)
    out = windows(x.as_subclass(OnGPU), network)
    torch.testing.assert_close(out.as_subclass(torch.Tensor), inferer()(x, centre_weighted))
    attempts = attempts[: failures + 1]
    assert [buffer_steps for _, buffer_steps in attempts] == [None, 1, None][: failures + 1]
    assert all(device == torch.device("cpu") for device, _ in attempts)
    assert windows.cpu_thresh == (x[0, 0].numel() - 1 if failures else None)  # the next one starts there


def test_another_error_and_a_chosen_device_do_not_make_it_adapt():
    def network(x):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(torch.OutOfMemoryError):
        inferer(device="cpu")(noise(9, 9, 9).as_subclass(OnGPU), network)
    with pytest.raises(torch.OutOfMemoryError):
        inferer()(noise(9, 9, 9), network)


def free(monkeypatch, gigabytes):
    monkeypatch.setattr(memory, "free_bytes", lambda device: int(1e9 * gigabytes))


@pytest.fixture
def network():
    return SteerableUNet(features="2x0e+1x1e", depth=2).eval()


def test_a_volume_that_does_not_fit_is_an_error_that_names_windows_that_do(network, monkeypatch):
    calls = []
    network.register_forward_pre_hook(lambda *_: calls.append(1))
    x, windows = noise(70, 50, 60).float(), inferer((64, 64, 64))
    free(monkeypatch, 0.02)
    with pytest.raises(MemoryError, match="free memory, or give roi_size=") as error, torch.no_grad():
        windows(x, network)
    message = str(error.value)
    for part in ("(1, 1, 70, 50, 60)", "windows of", " GB on cpu, where 0.02 GB are free"):
        assert part in message
    assert not calls
    roi_size = tuple(int(n) for n in re.search(r"roi_size=\(([\d, ]+)\)", message)[1].split(","))
    assert all(0 < n <= m for n, m in zip(roi_size, (64, 50, 64), strict=True))
    with torch.no_grad():
        assert inferer(roi_size)(x, network).shape == (1, 3, 70, 50, 60)
    assert calls


def test_an_output_that_does_not_fit_is_an_error_that_names_no_window(network, monkeypatch):
    free(monkeypatch, 1e-6)
    with pytest.raises(MemoryError, match="smaller windows do not help"):
        inferer((64, 64, 64))(noise(70, 50, 60), network)
    with pytest.raises(MemoryError, match="smaller windows do not help"):
        inferer((64, 64, 64))(noise(70, 50, 60), lambda x: x)


@pytest.mark.parametrize("mode", ["constant", "gaussian"])
def test_the_check_changes_no_output(network, mode, monkeypatch):
    x = noise(20, 12, 17).float()
    with torch.no_grad():
        checked = inferer(mode=mode)(x, network)
        monkeypatch.setattr(SlidingWindowInferer, "_check_memory", lambda *_: None)
        assert torch.equal(checked, inferer(mode=mode)(x, network))


def test_the_check_is_made_once_for_each_shape_and_logged_once_a_run(network, caplog):
    windows = inferer()
    with torch.no_grad(), caplog.at_level(logging.DEBUG, "equivariant_nets.inference.sliding_window"):
        for size in [(9, 8, 8), (9, 8, 8), (8, 8, 9), (9, 8, 8)]:
            windows(noise(*size).float(), network)
    assert [(record.levelname, record.message.split(" in ")[0]) for record in caplog.records] == [
        ("INFO", "A volume of shape (1, 1, 9, 8, 8)"), ("DEBUG", "A volume of shape (1, 1, 8, 8, 9)"),
    ]  # fmt: skip


def test_the_check_is_made_for_each_network_even_where_one_has_the_place_of_another_in_memory(monkeypatch):
    checked = []
    shortage = memory.SlidingWindowMemory.shortage
    monkeypatch.setattr(
        memory.SlidingWindowMemory, "shortage", lambda self, window: checked.append(1) or shortage(self, window)
    )
    windows, places = inferer(), set()
    for _ in range(20):
        net = torch.nn.Conv3d(1, 1, 1).double()
        places.add(id(net))
        windows(noise(8, 8, 8), net)
        del net
    assert len(places) < 20  # else this test sees nothing
    assert len(checked) == 20
    assert not windows.fitted


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_nothing_is_checked_while_a_program_is_traced(network, monkeypatch):
    monkeypatch.setattr(SlidingWindowInferer, "_check_memory", lambda *_: pytest.fail("checked"))

    class Whole(torch.nn.Module):
        def forward(self, x):
            return inferer()(x, torch.nn.functional.relu)

    x = noise(8, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.trace(Whole(), x, check_trace=False)(x), x.relu())


def test_a_scripted_network_runs(network):
    x = noise(9, 8, 8).float()
    scripted = torch.jit.script(materialize(network))
    with torch.no_grad():
        torch.testing.assert_close(inferer()(x, scripted), inferer()(x, network), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"])
def test_an_inferer_can_be_copied(copied, network):
    windows, x = inferer(), noise(9, 8, 8).float()
    with torch.no_grad():
        assert torch.equal(windows(x, network), copied(windows)(x, network))


def test_autocast_computes_in_bfloat16_and_returns_float32():
    net = torch.nn.Conv2d(1, 2, 3)
    types = []
    net.register_forward_hook(lambda module, inputs, output: types.append(output.dtype))
    x = torch.randn(1, 1, 8, 8)
    outputs = [AutocastInferer(enabled)(x, net) for enabled in (True, False, "true", "false")]  # typed, it is a text
    assert types == [torch.bfloat16, torch.float32] * 2
    assert [y.dtype for y in outputs] == [torch.float32] * 4
    with pytest.raises(ValueError, match="bfloat16='no' is not legal: give true or false"):
        AutocastInferer("no")
    assert torch.equal(outputs[1], net(x))
    assert 0 < (outputs[0] - outputs[1]).abs().max() < 0.05
    with torch.autocast("cpu", torch.bfloat16):  # as an engine does
        assert AutocastInferer(False)(x, net).dtype == torch.bfloat16
