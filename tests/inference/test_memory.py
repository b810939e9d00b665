"""Laws of the estimate of memory: it is what a hand computes, it runs nothing, and it leaves the network alone."""

import logging
import weakref

import pytest
import torch
from monai.networks.nets import UNet
from torch import nn

from equivariant_nets import ConventionalUNet, RegularUNet, SteerableUNet
from equivariant_nets.inference import memory
from equivariant_nets.inference.memory import SAFETY, SlidingWindowMemory, estimate_peak_bytes, trace_forward

NETWORKS = {
    "monai": lambda: UNet(3, 1, 3, (4, 8), (2,)),
    "conventional": lambda: ConventionalUNet(features=2, depth=2),
    "regular": lambda: RegularUNet(spatial_dims=3, group="V4", features=1, depth=2),
    "steerable": lambda: SteerableUNet(features="2x0e+1x1e", depth=2),
}


def two_convolutions():
    return nn.Sequential(nn.Conv3d(1, 8, 3, padding=1), nn.Conv3d(8, 2, 3, padding=1))


def number_of_weights(network):
    return sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_two_convolutions_take_weights_input_features_and_output(dtype):
    network, voxels = two_convolutions().to(dtype), 9 * 10 * 11
    expected = dtype.itemsize * (number_of_weights(network) + voxels * (1 + 8 + 2))
    assert estimate_peak_bytes(network, (1, 1, 9, 10, 11)) == expected


def test_what_is_no_longer_needed_does_not_count():
    network = nn.Sequential(*[nn.Conv2d(1, 1, 1, bias=False) for _ in range(9)])
    alive = 3  # the input, which the caller holds, and the features before and behind a layer
    assert estimate_peak_bytes(network, (1, 1, 30, 30)) == 4 * (9 + alive * 30 * 30)


def test_shared_weights_views_and_operations_in_place_count_once():
    layer = nn.Conv2d(1, 1, 1, bias=False)
    network = nn.Sequential(layer, nn.ReLU(inplace=True), nn.Flatten(), nn.Unflatten(1, (1, 30, 30)), layer)
    assert estimate_peak_bytes(network, (1, 1, 30, 30)) == 4 * (1 + 3 * 30 * 30)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_estimate_grows_as_the_volume_and_as_the_batch(name):
    network = NETWORKS[name]()
    shapes = [(1, 1, 32, 32, 32), (1, 1, 64, 64, 64), (2, 1, 32, 32, 32)]
    one, eight, two = (estimate_peak_bytes(network, shape) for shape in shapes)
    weights = estimate_peak_bytes(network, (1, 1, 8, 8, 8))
    assert eight - weights == pytest.approx(8 * (one - weights), rel=0.1)
    assert two - weights == pytest.approx(2 * (one - weights), rel=0.1)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_window_of_any_size_is_estimated_without_its_memory(name):
    assert estimate_peak_bytes(NETWORKS[name](), (1, 1, 4096, 4096, 4096)) > 4 * 4 * 4096**3


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_is_left_as_it_was(name):
    network = NETWORKS[name]().train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    estimate_peak_bytes(network, (1, 1, 16, 16, 16))
    assert network.training
    assert all(parameter.requires_grad and parameter.device.type == "cpu" for parameter in network.parameters())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_an_estimate_knows_the_shapes_of_all_outputs():
    class Two(nn.Module):
        def forward(self, x):
            return {"a": x[:, :1] + 0, "b": [x[..., ::2] + 0]}

    assert trace_forward(Two(), (1, 3, 8, 8)).output_shapes == ((1, 1, 8, 8), (1, 3, 8, 4))


def test_what_is_no_module_has_no_estimate():
    with pytest.raises(TypeError, match="function"):
        estimate_peak_bytes(lambda x: x, (1, 1, 8, 8))


def needs(network, shape=(2, 1, 16, 18, 20), window=(16, 16, 16), number=3):
    found = SlidingWindowMemory(torch.empty(shape), network, number, "cpu", "cpu").needs(window)
    assert [need.device for need in found] == [torch.device("cpu")]
    return found[0].needed_bytes


def test_windows_count_with_their_weights_and_the_volume_with_its_output_and_count():
    network = two_convolutions()
    stitched = 4 * 16 * 18 * 20 * (2 * 2 + 1)
    expected = int(SAFETY * estimate_peak_bytes(network, (3, 1, 16, 16, 16))) + 4 * 16**3 + stitched
    assert needs(network) == expected


def test_windows_and_stitching_count_on_the_devices_where_they_are():
    found = SlidingWindowMemory(torch.empty(1, 1, 16, 18, 20), two_convolutions(), 1, "meta", "cpu").needs((16, 16, 16))
    assert [need.device.type for need in found] == ["meta", "cpu"]
    assert found[1].needed_bytes == 4 * 16 * 18 * 20 * 3
    assert found[0].needed_bytes > found[1].needed_bytes


def test_an_output_at_half_the_resolution_counts_at_that():
    full, half = nn.Conv3d(1, 2, 1, bias=False), nn.Conv3d(1, 2, 1, stride=2, bias=False)
    one_window, batch = {"shape": (1, 1, 16, 16, 16), "window": (16, 16, 16), "number": 1}, 16**3
    peaks = [estimate_peak_bytes(network, (1, 1, 16, 16, 16)) for network in (full, half)]
    saved = needs(full, **one_window) - needs(half, **one_window)
    assert saved == int(SAFETY * peaks[0]) - int(SAFETY * peaks[1]) + 4 * 3 * (batch - batch // 8)


@pytest.mark.parametrize("network", [lambda x: x, len, nn.Linear(5, 5)], ids=["lambda", "builtin", "refuses the shape"])
def test_what_cannot_be_estimated_counts_by_its_volumes(network):
    assert needs(network) == 4 * (16**3 + 16 * 18 * 20 * 3)


def test_an_estimate_leaves_nothing_behind_that_grows_with_the_number_of_shapes():
    bones, before = two_convolutions().to("meta"), len(weakref.finalize._registry)
    for side in (4, 5, 6):
        trace_forward(bones, (1, 1, side, side, side))
    assert len(weakref.finalize._registry) <= before


def test_a_skeleton_is_made_once_and_dies_with_its_network(monkeypatch):
    made = []
    monkeypatch.setattr(memory, "materialize", lambda net: made.append(1) or nn.Conv3d(1, 2, 1))
    network, before = two_convolutions(), len(memory._skeletons)
    for _ in range(3):
        needs(network)
    assert (len(made), len(memory._skeletons)) == (1, before + 1)
    del network
    assert len(memory._skeletons) == before


def test_what_the_processor_has_free_is_known():
    assert memory.free_bytes(torch.device("cpu")) > 0
    assert memory.free_bytes(torch.device("meta")) is None


def test_a_network_without_an_estimate_says_why_in_the_log(caplog):
    with caplog.at_level(logging.INFO, "equivariant_nets.inference.memory"):
        needs(nn.Linear(5, 5))
    assert "No estimate" in caplog.text
