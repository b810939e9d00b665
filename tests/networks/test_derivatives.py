"""Second derivatives, torch.func and traces, in every family."""

import io

import pytest
import torch
from e3nn import o3
from families import FAMILIES, build, image
from torch.autograd import gradgradcheck
from torch.func import functional_call, grad, stack_module_state, vmap

from equivariant_nets import materialize
from equivariant_nets.networks.materialize import ACTIVATIONS
from equivariant_nets.networks.steerable import BatchNorm, Convolution, Gate, InstanceNorm
from equivariant_nets.networks.steerable.gate import _gradients

IRREPS = o3.Irreps("1x1e+2x0e+1x0o")


@pytest.fixture(params=FAMILIES)
def net(request):
    return build(request.param).double()


def features(channels, seed=0):
    noise = torch.randn(2, channels, 2, 2, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return noise.requires_grad_()


@pytest.mark.parametrize("norm", [InstanceNorm, BatchNorm])
def test_norms_have_second_gradients(norm):
    net = norm(IRREPS).double()
    assert gradgradcheck(lambda x, *_: net(x), (features(IRREPS.dim), *net.parameters()))


@pytest.mark.parametrize("activation", [name for name in ACTIVATIONS if name != "relu"])
@pytest.mark.parametrize("gates", ["scalars", "convolution"])
def test_gates_have_second_gradients(gates, activation):
    torch.manual_seed(0)
    net = Gate(IRREPS, activation, gates).double()
    scale = torch.rand(2, net.irreps_in.dim, dtype=torch.float64).requires_grad_()
    shift = torch.rand(2, net.irreps_in.dim, dtype=torch.float64).requires_grad_()
    arguments = features(net.irreps_in.dim), scale, shift, *net.parameters()
    assert gradgradcheck(lambda x, scale, shift, *_: net(x, scale, shift), arguments, fast_mode=True)


def test_convolutions_have_second_gradients():
    torch.manual_seed(0)
    net = Convolution("1x0e+1x1e", "1x0e+1x1e", kernel_size=3).double()
    assert gradgradcheck(lambda x, *_: net(x), (features(4), *net.parameters()), fast_mode=True)


def test_a_gradient_penalty_has_the_slope_of_its_values(net):
    """Central differences of the squared norm of the gradient, along a direction."""
    x = image(net, torch.float64).requires_grad_()

    def penalty(x):
        (gradient,) = torch.autograd.grad(net(x).square().sum(), x, create_graph=True)
        return gradient.square().sum()

    (slope,) = torch.autograd.grad(penalty(x), x)
    step = 1e-6 * torch.randn_like(x)
    assert float((penalty(x + step) - penalty(x - step)).detach() / 2) == pytest.approx(
        float((slope * step).sum()), 1e-3
    )


def test_the_gradient_is_the_same_whether_it_has_a_graph_or_not(net):
    x = image(net, torch.float64).requires_grad_()
    inputs = [x, *net.parameters()]
    once, again = (torch.autograd.grad(net(x).cos().sum(), inputs, create_graph=g) for g in (False, True))
    for a, b in zip(once, again, strict=True):
        assert torch.allclose(a, b, rtol=1e-9, atol=1e-10)


def test_gradients_that_nobody_asks_for_are_not_computed():
    torch.manual_seed(0)
    net = Gate(IRREPS).double()
    scale, shift = torch.ones(2, 1, IRREPS.dim, dtype=torch.float64)
    inputs = features(IRREPS.dim).detach(), scale, shift, net.weight.detach(), net.bias.detach()
    grad = features(IRREPS.dim, seed=1).detach()
    every = _gradients(net, inputs, grad, [True] * 5 + [False])
    for number in range(5):
        one = _gradients(net, inputs, grad, [n == number for n in range(6)])
        assert torch.equal(one[number], every[number])
        assert [g is None for g in one] == [n != number for n in range(5)]


def loss(net, weights, x):
    return functional_call(net, weights, (x,)).cos().sum()


def test_gradients_of_a_function_of_the_weights(net):
    weights, x = dict(net.named_parameters()), image(net, torch.float64)
    expected = torch.autograd.grad(net(x).cos().sum(), list(weights.values()))
    for gradient, other in zip(grad(lambda w: loss(net, w, x))(weights).values(), expected, strict=True):
        assert torch.allclose(gradient, other, atol=1e-10)
    net.float()(x.float())  # what a transform made is not left in what networks share


def test_gradients_of_each_sample(net):
    weights, batch = dict(net.named_parameters()), image(net, torch.float64, batch=3)
    each = vmap(grad(lambda w, x: loss(net, w, x)), (None, 0))(weights, batch[:, None])
    for number, x in enumerate(batch):
        expected = torch.autograd.grad(net(x[None]).cos().sum(), list(weights.values()))
        for gradient, other in zip(each.values(), expected, strict=True):
            assert torch.allclose(gradient[number], other, atol=1e-10)


@pytest.mark.parametrize("grad", [True, False])
def test_an_ensemble_in_one_call(grad):
    for family in FAMILIES:
        nets = [build(family, seed).double() for seed in range(2)]
        x = image(nets[0], torch.float64)
        with torch.set_grad_enabled(grad):
            together = vmap(lambda *state, x=x, net=nets[0]: functional_call(net, state, (x,)))(
                *stack_module_state(nets)
            )
        for y, net in zip(together, nets, strict=True):
            assert torch.allclose(y, net(x), atol=1e-10)


@pytest.mark.filterwarnings("ignore")  # of what a trace fixes
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("materialized", [True, False])
def test_a_trace_gives_the_same_after_it_was_saved(net, materialized, grad):
    net = net.float()
    module = materialize(net) if materialized else net
    with torch.set_grad_enabled(grad):
        traced = torch.jit.trace(module, image(net))  # and traces it again, to compare
    file = io.BytesIO()
    torch.jit.save(traced, file)
    file.seek(0)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(file)(image(net)), net(image(net)), rtol=1e-4, atol=1e-4)
