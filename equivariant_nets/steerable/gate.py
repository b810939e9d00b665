"""The gated non-linearity of steerable features."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from e3nn import o3
from scipy.integrate import trapezoid
from torch import Tensor, nn

from ..plain import ACTIVATIONS, PlainGate, activate
from .irreps import is_scalar, num_gates, summands

__all__ = ["ACTIVATIONS", "GATES", "Gate"]

GATES = ("scalars", "convolution")


def _unit_second_moment(function: Callable[[Tensor], Tensor]) -> float:
    """The factor that gives function(z) a second moment of 1 for z from N(0, 1), by quadrature."""
    z = np.linspace(-12, 12, 48001)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    moment = trapezoid(density * function(torch.from_numpy(z)).numpy() ** 2, z)
    return float(moment**-0.5)


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
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation={activation!r} is not known; choose from {list(ACTIVATIONS)}.")
        if gates not in GATES:
            raise ValueError(f"gates={gates!r} is not known; choose from {list(GATES)}.")
        num, scalars = num_gates(irreps), sum(mul for mul, ir in irreps if is_scalar(ir))
        own_channels = gates == "convolution" or scalars == 0
        self.irreps = irreps
        self.irreps_in = irreps + o3.Irreps([(num, (0, 1))] if num and own_channels else [])
        self.activation = activation
        self.scalar_factor = _unit_second_moment(lambda z: activate(z, activation))
        self.gate_factor = _unit_second_moment(torch.sigmoid)
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
        if torch.compiler.is_exporting():  # an autograd function would fix the sizes
            return self.materialize()(torch.addcmul(_over_space(shift, x), x, _over_space(scale, x)))
        with torch.autocast(x.device.type, enabled=False):
            return _AffineGate.apply(x, scale, shift, self.weight, self.bias, self)

    def materialize(self) -> PlainGate:
        """The same as plain tensor operations, after a normalization."""
        weight, bias = (None if p is None else p.detach() for p in (self.weight, self.bias))
        return PlainGate(summands(self.irreps), self.activation, weight, bias, self.scalar_factor, self.gate_factor)

    def extra_repr(self) -> str:
        return f"{self.irreps_in} -> {self.irreps}, {self.activation}"


class _AffineGate(torch.autograd.Function):
    """gate(scale * x + shift): keeps its inputs, and computes the rest anew in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, weight: Tensor | None, bias: Tensor | None, gate: Gate
    ) -> Tensor:
        ctx.save_for_backward(x, scale, shift, weight, bias)
        ctx.gate = gate
        x_wide = x.to(scale.dtype)
        output = torch.empty_like(x_wide[:, : gate.dim])
        z, sigmoids = _scalars_and_gates(x_wide, scale, shift, weight, bias, gate)
        for channels, own in zip(gate.scalar_slices, _consecutive(gate.scalar_slices), strict=True):
            torch.mul(activate(z[:, own], gate.activation), gate.scalar_factor, out=output[:, channels])
        for (channels, mul, dim), sigmoid in zip(gate.vector_slices, sigmoids, strict=True):
            factor = sigmoid.mul_(_vector_scale(x_wide, scale, channels, dim, gate)).unsqueeze(2)
            torch.mul(_vectors(x_wide, channels, mul, dim), factor, out=_vectors(output, channels, mul, dim))
        return output.to(x.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x_saved, scale, shift, weight, bias = ctx.saved_tensors
        gate: Gate = ctx.gate
        x, grad = x_saved.to(scale.dtype), grad.to(scale.dtype)
        grad_x = torch.empty_like(x)
        grad_scale = scale.new_zeros(x.shape[:2])
        grad_shift = torch.zeros_like(grad_scale)
        z, sigmoids = _scalars_and_gates(x, scale, shift, weight, bias, gate)
        grad_z = torch.empty_like(z)
        for channels, own in zip(gate.scalar_slices, _consecutive(gate.scalar_slices), strict=True):
            with torch.enable_grad():
                leaf = z[:, own].detach().requires_grad_()
                y = activate(leaf, gate.activation)
            grad_y = grad[:, channels] * gate.scalar_factor
            grad_z[:, own] = torch.autograd.grad(y, leaf, grad_y)[0]

        grad_gates = []  # before the sigmoid
        for (channels, mul, dim), sigmoid in zip(gate.vector_slices, sigmoids, strict=True):
            vectors, grad_vectors = _vectors(x, channels, mul, dim), _vectors(grad, channels, mul, dim)
            vector_scale = _vector_scale(x, scale, channels, dim, gate)
            torch.mul(grad_vectors, (sigmoid * vector_scale).unsqueeze(2), out=_vectors(grad_x, channels, mul, dim))
            along = _sum_over_components(grad_vectors, vectors)
            # All components share a scale: each gets its part of that scale's gradient.
            grad_scale[:, channels] = (_dot(along, sigmoid) * (gate.gate_factor / dim)).repeat_interleave(dim, 1)
            grad_gates.append(along.mul_(vector_scale).mul_(sigmoid).mul_(1 - sigmoid))

        grad_weight = grad_bias = None
        if grad_gates:
            grad_gate = torch.cat(grad_gates, 1)
            if weight is None:
                grad_z[:, gate.num_scalars :] = grad_gate
            else:
                flat = grad_gate.flatten(2)
                grad_weight = (flat @ z.flatten(2).transpose(1, 2)).sum(0)
                grad_bias = flat.sum((0, 2))
                grad_z.add_((weight.T @ flat).view_as(grad_z))
        for channels, own in zip(gate.scalar_channels, _consecutive(gate.scalar_channels), strict=True):
            torch.mul(grad_z[:, own], _over_space(scale[:, channels], x), out=grad_x[:, channels])
            grad_scale[:, channels] = _dot(grad_z[:, own], x[:, channels])
            grad_shift[:, channels] = grad_z[:, own].sum((2, 3, 4))
        if len(scale) == 1:
            grad_scale, grad_shift = grad_scale.sum(0, keepdim=True), grad_shift.sum(0, keepdim=True)
        return grad_x.to(x_saved.dtype), grad_scale, grad_shift, grad_weight, grad_bias, None


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
