"""Laws of the tensors that follow from arguments: they are where the weights are, however these came there."""

import copy
import pickle
import pickletools

import pytest
import torch
from families import FAMILIES, build, image
from torch.func import functional_call
from torch.nn.utils import prune

from equivariant_nets import RegularUNet
from equivariant_nets.networks.constants import Constant, _original, _placed
from equivariant_nets.networks.regular import Group, find_group


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture
def net(family):
    return build(family)


def doubled(net):
    return {name: value.double() if value.is_floating_point() else value for name, value in net.state_dict().items()}


def on_meta(family):
    """A network that was built without memory."""
    with torch.device("meta"):
        return build(family)


def equal(output, expected):
    """To the last bit in float32; in float64, whose products are summed as their memory lies, as far as no constant of
    float32 would allow."""
    return torch.linalg.norm(output - expected) <= 1e-12 * torch.linalg.norm(expected)


def assert_same(net, other, dtype=torch.float32):
    x = image(net, dtype)
    with torch.no_grad():
        assert equal(other.eval()(x), net.eval()(x))
    other(x).square().sum().backward()
    assert all(p.grad.isfinite().all() for p in other.parameters())


def test_weights_of_another_type_that_are_assigned(net):
    other = copy.deepcopy(net)
    other.load_state_dict(doubled(net), assign=True)
    assert_same(net.double(), other, torch.float64)


def test_weights_that_are_assigned_to_a_network_without_memory(family, net):
    other = on_meta(family)
    other.load_state_dict(net.state_dict(), assign=True)
    assert_same(net, other)


def test_weights_that_are_copied_into_a_network_that_was_emptied(family, net):
    for other in (on_meta(family).to_empty(device="cpu"), copy.deepcopy(net).to_empty(device="cpu")):
        other.load_state_dict(net.state_dict())
        assert_same(net, other)


@pytest.mark.parametrize("grad", [True, False])
def test_networks_run_without_memory(net, grad):
    other = copy.deepcopy(net).to("meta")
    with torch.set_grad_enabled(grad):
        y = other(image(net).to("meta"))
    assert y.is_meta
    assert y.shape == net(image(net)).shape
    assert_same(net, pickle.loads(pickle.dumps(net)))  # nothing of it is left in what networks share


def test_weights_that_are_pruned(net):
    layer = net.encoders[0].block[0] if hasattr(net.encoders[0], "block") else net.encoders[0][0]
    prune.l1_unstructured(layer, "weight", 0.5)
    net(image(net))
    net.double()
    with torch.no_grad():
        pruned = net(image(net, torch.float64))
        prune.remove(layer, "weight")
        assert equal(net(image(net, torch.float64)), pruned)


def test_weights_of_one_call(net):
    """As replicas of a network have them: the network itself stays as it is."""
    expected = net(image(net))
    double = functional_call(net, doubled(net), (image(net, torch.float64),))
    assert equal(double, copy.deepcopy(net).double()(image(net, torch.float64)))
    assert torch.equal(net(image(net)), expected)


def replicate(net, change):
    """Shallow copies of all modules whose tensors are swapped, as ``nn.DataParallel`` makes them."""
    replica = net._replicate_for_data_parallel()
    for name, module in net._modules.items():
        setattr(replica, name, None if module is None else replicate(module, change))
    for name, value in (net._parameters | net._buffers).items():
        setattr(replica, name, None if value is None else change(value))
    return replica


@pytest.mark.parametrize("grad", [True, False])
def test_replicas_of_another_type(net, grad):
    with torch.set_grad_enabled(grad):
        expected = net(image(net))
        replica = replicate(net, lambda value: value.double() if value.is_floating_point() else value)
        double = replica(image(net, torch.float64))
        assert torch.equal(net(image(net)), expected)
        assert equal(double, net.double()(image(net, torch.float64)))


def test_copies_and_pickles_hold_no_constants(net):
    before = sum(p.numel() for p in net.parameters())
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert_same(net, other)
    tensors = sum(
        b"_rebuild_tensor" in str(argument).encode() for _, argument, _ in pickletools.genops(pickle.dumps(net))
    )
    state = net.state_dict()
    assert tensors <= 1  # the name of what rebuilds the weights
    assert len(pickle.dumps(net)) < 4 * before + 600 * len(state) + 40_000


def test_copies_add_nothing_to_what_a_process_shares(net):
    for dtype in (torch.float32, torch.float64):
        net.to(dtype)(image(net, dtype))
    sizes = _original.cache_info().currsize, _placed.cache_info().currsize
    for _ in range(3):
        for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
            for dtype in (torch.float32, torch.float64):
                other.to(dtype)(image(net, dtype))
    assert (_original.cache_info().currsize, _placed.cache_info().currsize) == sizes


def test_groups_are_equal_by_their_name_and_matrices():
    group = find_group("D4", 2)
    other = pickle.loads(pickle.dumps(group))
    assert other is not group
    assert other == group
    assert hash(other) == hash(group)
    assert group != find_group("C8", 2)
    assert find_group("trivial", 2) != find_group("trivial", 3)
    assert Group("D4", group.matrices[::-1], group.composition, group.inverse) != group
    assert group != "D4"


def test_one_network_and_its_twin_share_their_constants():
    one, other = RegularUNet(group="D4", depth=1, features=1), RegularUNet(group="D4", depth=1, features=1)
    weight = one.encoders[0][0].weight
    assert one.encoders[0][0]._basis.like(weight) is other.encoders[0][0]._basis.like(weight)


def test_the_original_is_rounded_once():
    third = Constant(lambda: torch.tensor([1 / 3], dtype=torch.float64))
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        assert torch.equal(
            third.like(torch.zeros(1, dtype=dtype)), torch.tensor([1 / 3], dtype=torch.float64).to(dtype)
        )


def test_numbers_keep_their_type():
    index = Constant(lambda: torch.arange(3))
    assert index.like(torch.zeros(1, dtype=torch.float16)).dtype == torch.int64


class Counter:
    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return graph.forward


@pytest.mark.parametrize("family", ["SO3, other options", "O, separable"], indirect=True)
@pytest.mark.filterwarnings("ignore")  # torch.compile warns of what it does itself
@pytest.mark.usefixtures("unchecked_shapes")
def test_compilers_see_the_constants_that_fit_the_weights(family, net):
    """In one graph, whether the layers ran before or not, and anew when the weights have another type."""
    other = on_meta(family)
    other.load_state_dict(net.state_dict(), assign=True)
    torch._dynamo.reset()
    counter = Counter()
    compiled = torch.compile(other, backend=counter, fullgraph=True)
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(compiled(image(net)), net(image(net)), rtol=1e-5, atol=1e-5)
        assert counter.graphs == 1
        other.load_state_dict(doubled(net), assign=True)
        net.double()
        torch.testing.assert_close(compiled(image(net, torch.float64)), net(image(net, torch.float64)))


@pytest.mark.parametrize("family", ["SO3, other options", "O, separable"], indirect=True)
def test_a_network_can_be_exported_before_it_ran(net):
    exported = torch.export.export(pickle.loads(pickle.dumps(net.double())), (image(net, torch.float64),)).module()
    assert torch.allclose(exported(image(net, torch.float64)), net(image(net, torch.float64)))
    assert_same(net.float(), pickle.loads(pickle.dumps(net)))


def test_modules_hold_no_buffers_that_are_not_saved(net):
    assert set(dict(net.named_buffers())) <= set(net.state_dict())
