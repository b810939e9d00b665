"""Hooks on any layer of any family: called once, with what the layer returns, and without a change to the output."""

import pytest
import torch
from families import FAMILIES, build, image
from torch import nn


def layers(net):
    return {name: m for name, m in net.named_modules() if not isinstance(m, nn.ModuleList)}


@pytest.fixture(params=FAMILIES)
def net(request):
    return build(request.param).double()


def copied(arguments):
    """Before what works in place changes them."""
    return [a.clone() if isinstance(a, torch.Tensor) else a for a in arguments]


def test_forward_hooks_are_called_once_with_the_output_of_their_layer(net):
    x, before, after, handles = image(net, torch.float64), {}, {}, []
    expected = net(x)
    for name, module in layers(net).items():
        before[name], after[name] = [], []
        handles += [
            module.register_forward_pre_hook(lambda m, args, calls=before[name]: calls.append(copied(args))),
            module.register_forward_hook(lambda m, args, y, calls=after[name]: calls.append(y.clone())),
        ]
    assert torch.allclose(net(x), expected, atol=1e-12)
    for handle in handles:
        handle.remove()
    for name, module in layers(net).items():
        assert len(before[name]) == len(after[name]) == 1
        assert torch.allclose(module(*before[name][0]), after[name][0])


@pytest.mark.parametrize("kind", ["norm", "gate"])
def test_a_hook_on_one_layer_changes_what_comes_after_it_and_nothing_without_it(kind):
    net = build("SO3, other options").double()
    x = image(net, torch.float64)
    expected = net(x)
    layer = net.encoders[0].block[1 if kind == "norm" else 2]
    handle = layer.register_forward_hook(lambda module, args, y: torch.zeros_like(y))
    assert not torch.allclose(net(x), expected)
    handle.remove()
    assert torch.equal(net(x), expected)


def test_hooks_of_all_modules_and_of_gradients_are_called_too(net):
    x, calls = image(net, torch.float64), []
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, y: calls.append(module))
    net(x)
    handle.remove()
    assert {id(module) for module in calls} == {id(module) for module in layers(net).values()}
    gradients = []
    norms = [m for m in layers(net).values() if "Norm" in type(m).__name__]
    for module in norms:
        module.register_full_backward_hook(lambda module, grad_input, grad_output: gradients.append(module))
    if not any(getattr(m, "inplace", False) for m in net.modules()):  # which such hooks forbid
        net(x).sum().backward()
        assert {id(module) for module in gradients} == {id(module) for module in norms}


@pytest.mark.parametrize("training", [True, False])
def test_hooks_leave_the_type_and_the_gradients_alone(training):
    net = build("SO3, other options").train(training)
    x, results = image(net, batch=2), []
    for hooked in (False, True):
        if hooked:
            for module in layers(net).values():
                module.register_forward_hook(lambda module, args, y: None)
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            low = net(x)
        net(x).square().mean().backward()
        results.append((low, [p.grad for p in net.parameters()]))
    (low, expected), (hooked_low, gradients) = results
    assert hooked_low.dtype == low.dtype == torch.bfloat16
    assert (hooked_low - low).float().norm() < 0.05 * low.float().norm()
    for gradient, other in zip(gradients, expected, strict=True):
        assert torch.allclose(gradient, other, rtol=1e-3, atol=1e-5)
