"""The gated non-linearity of steerable features."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from e3nn import o3
from torch import Tensor, nn

from equivariant_nets.networks.checks import check_choice
from equivariant_nets.networks.materialize import ACTIVATIONS, PlainGate, activate, gated
from equivariant_nets.networks.precision import autocast_off
from equivariant_nets.networks.steerable.irreps import is_scalar, num_gates, num_scalars, summands

__all__ = ["ACTIVATIONS", "GATES", "Gate"]

GATES = ("scalars", "convolution")
# Of each activation, from the gradient of its output and its input, as autograd itself computes it.
ACTIVATION_GRADIENTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "relu": lambda grad, z: torch.ops.aten.threshold_backward(grad, z, 0),
    "silu": lambda grad, z: torch.ops.aten.silu_backward(grad, z),
    "gelu": lambda grad, z: torch.ops.aten.gelu_backward(grad, z),
}


@functools.cache
def _unit_second_moment(name: str) -> float:
    """The factor that gives function(z) a second moment of 1 for z from N(0, 1), by quadrature.

    Args:
        name: of the function: ``sigmoid``, or one of :data:`ACTIVATIONS`.
    """
    z = torch.linspace(-12, 12, 48001, dtype=torch.float64, device="cpu")
    values = torch.sigmoid(z) if name == "sigmoid" else activate(z, name)
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return float(torch.trapezoid(density * values**2, z)) ** -0.5


class Gate(nn.Module):
    """A pointwise function on 0e, and every other irrep times the sigmoid of a gate of its own.

    Both are rescaled so that inputs of unit second moment give outputs of unit second moment. An affine map of the
    channels, that of a normalization, can be applied on the way: one autograd function does both, and keeps nothing but
    its input for the backward pass.

    Args:
        irreps: channels of the output.
        activation: the function on 0e: ``relu``, ``silu`` or ``gelu``.
        gates: ``scalars`` makes the gates a learned pointwise map of the 0e channels, before the function acts on
            them; ``convolution``, as in the paper, takes them from 0e channels of their own, which the convolution
            before has to compute. Where no 0e is in irreps, they come from channels of their own in any case.

    Shape: ``(B, gate.irreps_in.dim, D, H, W)`` to ``(B, irreps.dim, D, H, W)``: the input has the output's channels
    and, after them, those of the gates, if any. Scale and shift: ``(B or 1, gate.irreps_in.dim)``; all components of an
    irrep have the same scale, and the shift of all but 0e is 0.

    Source: Weiler et al. 2018, 3D Steerable CNNs; MELBA 2024:010.
    """

    def __init__(self, irreps: o3.Irreps, activation: str = "relu", gates: str = "scalars") -> None:
        super().__init__()
        check_choice("activation", activation, ACTIVATIONS)
        check_choice("gates", gates, GATES)
        num, scalars = num_gates(irreps), num_scalars(irreps)
        own_channels = gates == "convolution" or scalars == 0
        self.irreps = irreps
        self.irreps_in = irreps + o3.Irreps([(num, (0, 1))] if num and own_channels else [])
        self.activation = activation
        self.scalar_factor = _unit_second_moment(activation)
        self.gate_factor = _unit_second_moment("sigmoid")
        mixes = num > 0 and not own_channels
        self.weight = nn.Parameter(torch.randn(num, scalars) / math.sqrt(scalars)) if mixes else None
        self.bias = nn.Parameter(torch.zeros(num)) if mixes else None
        slices = list(zip(irreps, irreps.slices(), strict=True))
        self.num_scalars = scalars
        self.dim = irreps.dim
        self.scalar_slices = [s for (_, ir), s in slices if is_scalar(ir)]
        gate_slice = slice(irreps.dim, self.irreps_in.dim)
        self.scalar_channels = self.scalar_slices + ([gate_slice] if num and own_channels else [])
        self.vector_slices = [(s, mul, ir.dim) for (mul, ir), s in slices if not is_scalar(ir)]

    def forward(self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None) -> Tensor:
        if scale is None or shift is None:
            scale = x.new_ones(1, x.shape[1], dtype=torch.promote_types(x.dtype, torch.float32))
            shift = torch.zeros_like(scale)
        weight, bias = (None if p is None else p.to(scale.dtype) for p in (self.weight, self.bias))
        with autocast_off(x):
            if torch.compiler.is_exporting() or torch.jit.is_tracing():  # an autograd function would fix the sizes
                return _affine_gate(x, scale, shift, weight, bias, self)
            return _AffineGate.apply(x, scale, shift, weight, bias, self)

    def materialize(self) -> PlainGate:
        """The same as plain tensor operations, after a normalization."""
        weight, bias = (None if p is None else p.detach() for p in (self.weight, self.bias))
        return PlainGate(summands(self.irreps), self.activation, weight, bias, self.scalar_factor, self.gate_factor)

    def extra_repr(self) -> str:
        return f"{self.irreps_in} -> {self.irreps}, {self.activation}"


def _affine_gate(
    x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor | None, bias: Tensor | None, gate: Gate
) -> Tensor:
    """What :class:`_AffineGate` computes, as operations that can be traced, mapped, and differentiated repeatedly."""
    y = torch.addcmul(_over_space(shift, x), x.to(scale.dtype), _over_space(scale, x))
    weight = None if weight is None else weight[:, :, None, None, None]
    mul, dim = (list(values) for values in zip(*summands(gate.irreps), strict=True))
    return gated(y, mul, dim, gate.activation, weight, bias, gate.scalar_factor, gate.gate_factor).to(x.dtype)


class _AffineGate(torch.autograd.Function):
    """gate(scale * x + shift): keeps its inputs, and computes the rest anew in the backward pass."""

    @staticmethod
    def forward(
        x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor | None, bias: Tensor | None, gate: Gate
    ) -> Tensor:
        x_wide = x.to(scale.dtype)
        output = torch.empty_like(x_wide[:, : gate.dim])
        z, sigmoids = _scalars_and_gates(x_wide, scale, shift, weight, bias, gate)
        for channels, own in zip(gate.scalar_slices, _consecutive(gate.scalar_slices), strict=True):
            _multiply_into(output[:, channels], activate(z[:, own], gate.activation), gate.scalar_factor)
        for (channels, mul, dim), sigmoid in zip(gate.vector_slices, sigmoids, strict=True):
            factor = sigmoid.mul_(_vector_scale(x_wide, scale, channels, dim, gate)).unsqueeze(2)
            _multiply_into(_vectors(output, channels, mul, dim), _vectors(x_wide, channels, mul, dim), factor)
        return output.to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.gate = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        return torch.vmap(_affine_gate, in_dims, randomness=info.randomness)(*inputs), 0

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors
        # With create_graph=True, and under torch.func, the gradient has to have a gradient. Compilers make their own.
        if torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return *_differentiable_gradients(ctx.gate, inputs, grad), None
        return *_gradients(ctx.gate, inputs, grad, ctx.needs_input_grad), None


def _differentiable_gradients(gate: Gate, inputs: Sequence[Any], grad: Tensor) -> list[Tensor | None]:
    """Of all inputs, by operations that have gradients themselves."""

    def function(*tensors: Tensor) -> Tensor:
        remaining = iter(tensors)
        x, scale, shift, weight, bias = (None if value is None else next(remaining) for value in inputs)
        return _affine_gate(x, scale, shift, weight, bias, gate)  # type: ignore[arg-type]

    _, pull_back, *_ = torch.func.vjp(function, *(value for value in inputs if value is not None))
    gradients = iter(pull_back(grad))
    return [None if value is None else next(gradients) for value in inputs]


def _gradients(gate: Gate, inputs: Sequence[Any], grad: Tensor, needed: Sequence[bool]) -> tuple[Tensor | None, ...]:
    """Of those inputs that need one, in as few passes over the features as possible."""
    x_saved, scale, shift, weight, bias = inputs
    needs_x, needs_scale, needs_shift, needs_weight, needs_bias, _ = needed
    x, grad = x_saved.to(scale.dtype), grad.to(scale.dtype)
    grad_x = torch.empty_like(x) if needs_x else None
    grad_scale = scale.new_zeros(x.shape[:2]) if needs_scale else None
    grad_shift = scale.new_zeros(x.shape[:2]) if needs_shift else None
    z, sigmoids = _scalars_and_gates(x, scale, shift, weight, bias, gate)
    grad_z = torch.empty_like(z)
    for channels, own in zip(gate.scalar_slices, _consecutive(gate.scalar_slices), strict=True):
        grad_z[:, own] = ACTIVATION_GRADIENTS[gate.activation](grad[:, channels] * gate.scalar_factor, z[:, own])
    grad_gates = _fill_vector_gradients(gate, x, scale, sigmoids, grad, grad_x, grad_scale)
    grad_weight = grad_bias = None
    if grad_gates:
        grad_gate = torch.cat(grad_gates, 1)
        if weight is None:
            grad_z[:, gate.num_scalars :] = grad_gate
        else:
            flat = grad_gate.flatten(2)
            grad_weight = (flat @ z.flatten(2).transpose(1, 2)).sum(0) if needs_weight else None
            grad_bias = flat.sum((0, 2)) if needs_bias else None
            grad_z.add_((weight.T @ flat).view_as(grad_z))
    _fill_scalar_gradients(gate, x, scale, grad_z, grad_x, grad_scale, grad_shift)
    if len(scale) == 1:
        grad_scale, grad_shift = (None if g is None else g.sum(0, keepdim=True) for g in (grad_scale, grad_shift))
    return None if grad_x is None else grad_x.to(x_saved.dtype), grad_scale, grad_shift, grad_weight, grad_bias


def _fill_vector_gradients(
    gate: Gate,
    x: Tensor,
    scale: Tensor,
    sigmoids: Sequence[Tensor],
    grad: Tensor,
    grad_x: Tensor | None,
    grad_scale: Tensor | None,
) -> list[Tensor]:
    """Write the gradients of all irreps but 0e where they are asked for; those of their gates, before the sigmoid."""
    grad_gates = []
    for (channels, mul, dim), sigmoid in zip(gate.vector_slices, sigmoids, strict=True):
        vectors, grad_vectors = _vectors(x, channels, mul, dim), _vectors(grad, channels, mul, dim)
        vector_scale = _vector_scale(x, scale, channels, dim, gate)
        if grad_x is not None:
            _multiply_into(_vectors(grad_x, channels, mul, dim), grad_vectors, (sigmoid * vector_scale).unsqueeze(2))
        along = _sum_over_components(grad_vectors, vectors)
        if grad_scale is not None:  # all components share a scale: each gets its part of that scale's gradient
            grad_scale[:, channels] = (_dot(along, sigmoid) * (gate.gate_factor / dim)).repeat_interleave(dim, 1)
        grad_gates.append(along.mul_(vector_scale).mul_(sigmoid).mul_(1 - sigmoid))
    return grad_gates


def _fill_scalar_gradients(
    gate: Gate,
    x: Tensor,
    scale: Tensor,
    grad_z: Tensor,
    grad_x: Tensor | None,
    grad_scale: Tensor | None,
    grad_shift: Tensor | None,
) -> None:
    """Write the gradients of the 0e channels where they are asked for, from those after the affine map."""
    for channels, own in zip(gate.scalar_channels, _consecutive(gate.scalar_channels), strict=True):
        if grad_x is not None:
            _multiply_into(grad_x[:, channels], grad_z[:, own], _over_space(scale[:, channels], x))
        if grad_scale is not None:
            grad_scale[:, channels] = _dot(grad_z[:, own], x[:, channels])
        if grad_shift is not None:
            grad_shift[:, channels] = grad_z[:, own].sum((2, 3, 4))


def _scalars_and_gates(
    x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor | None, bias: Tensor | None, gate: Gate
) -> tuple[Tensor, list[Tensor]]:
    """The 0e channels after the affine map, and the sigmoids of the gates of each summand."""
    z = torch.cat(
        [
            torch.addcmul(_over_space(shift[:, channels], x), x[:, channels], _over_space(scale[:, channels], x))
            for channels in gate.scalar_channels
        ],
        dim=1,
    )
    if weight is None or bias is None:
        gates = z[:, gate.num_scalars :]
    else:
        gates = (weight @ z.flatten(2)).add_(bias[:, None]).unflatten(2, z.shape[2:])
    return z, list(torch.sigmoid(gates).split([mul for _, mul, _ in gate.vector_slices], dim=1))


def _multiply_into(out: Tensor, a: Tensor, b: Tensor | float) -> None:
    """Write a * b into a slice; compilers, whose graph would break at that, get a product and a copy, and fuse them."""
    if torch.compiler.is_compiling():
        out.copy_(a * b)
    else:
        torch.mul(a, b, out=out)


def _consecutive(slices: list[slice]) -> list[slice]:
    """Where channels of these slices lie after a concatenation."""
    ends = list(itertools.accumulate(s.stop - s.start for s in slices))
    return [slice(end - (s.stop - s.start), end) for s, end in zip(slices, ends, strict=True)]


def _vectors(x: Tensor, channels: slice, mul: int, dim: int) -> Tensor:
    return x[:, channels].unflatten(1, (mul, dim))


def _over_space(values: Tensor, x: Tensor) -> Tensor:
    return values.reshape(*values.shape, *[1] * (x.dim() - 2))


def _vector_scale(x: Tensor, scale: Tensor, channels: slice, dim: int, gate: Gate) -> Tensor:
    """The scale of each irrep of a summand, times the factor of its gate."""
    return _over_space(scale[:, channels][:, ::dim] * gate.gate_factor, x)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Sum over space of a * b, ``(B, C)``."""
    return torch.linalg.vecdot(a.flatten(2), b.flatten(2))


def _sum_over_components(a: Tensor, b: Tensor) -> Tensor:
    """Sum over the components of a * b, ``(B, mul, *spatial)``."""
    total = a[:, :, 0] * b[:, :, 0]
    for m in range(1, a.shape[2]):
        total.addcmul_(a[:, :, m], b[:, :, m])
    return total
