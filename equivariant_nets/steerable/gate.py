"""The gated non-linearity of steerable features."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from e3nn import o3
from torch import Tensor, nn

from .irreps import is_scalar, num_gates

__all__ = ["ACTIVATIONS", "Gate"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "silu": F.silu, "gelu": F.gelu}


def _unit_second_moment(function: Callable[[Tensor], Tensor]) -> float:
    """The factor that gives function(z) a second moment of 1 for z from N(0, 1), by quadrature."""
    z = np.linspace(-12, 12, 48001)
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    moment = np.trapezoid(density * function(torch.from_numpy(z)).numpy() ** 2, z)
    return float(moment**-0.5)


class Gate(nn.Module):
    """A pointwise function on 0e, and every other irrep times the sigmoid of a 0e channel of its own.

    Both are rescaled so that inputs of unit second moment give outputs of unit second moment.

    Args:
        irreps: channels of the output.
        activation: the function on 0e: ``relu``, ``silu`` or ``gelu``.

    Shape: ``(B, gate.irreps_in.dim, D, H, W)`` to ``(B, irreps.dim, D, H, W)``: the input has the output's channels
    and, after them, one 0e channel for each irrep other than 0e.

    Source: Weiler et al. 2018, 3D Steerable CNNs; MELBA 2024:010.
    """

    def __init__(self, irreps: o3.Irreps, activation: str = "relu") -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation={activation!r} is not known; choose from {list(ACTIVATIONS)}.")
        gates = num_gates(irreps)
        self.irreps = irreps
        self.irreps_in = irreps + o3.Irreps([(gates, (0, 1))] if gates else [])
        self.activation = activation
        self.scalar_factor = _unit_second_moment(ACTIVATIONS[activation])
        self.gate_factor = _unit_second_moment(torch.sigmoid)

    def forward(self, x: Tensor) -> Tensor:
        gates = torch.sigmoid(x[:, self.irreps.dim :]) * self.gate_factor
        outputs, gate = [], 0
        for (mul, ir), channels in zip(self.irreps, self.irreps.slices(), strict=True):
            block = x[:, channels]
            if is_scalar(ir):
                outputs.append(ACTIVATIONS[self.activation](block) * self.scalar_factor)
                continue
            gated = block.unflatten(1, (mul, ir.dim)) * gates[:, gate : gate + mul].unsqueeze(2)
            outputs.append(gated.flatten(1, 2))
            gate += mul
        return torch.cat(outputs, dim=1)

    def extra_repr(self) -> str:
        return f"{self.irreps_in} -> {self.irreps}, {self.activation}"
