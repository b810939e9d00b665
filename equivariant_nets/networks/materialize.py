"""Networks of plain convolutions and elementwise operations, made from equivariant ones.

:func:`materialize` computes every kernel once and for all. What it returns runs without e3nn, in TorchScript, through
``torch.export`` and in ONNX, at any size; it is for inference, and cannot be trained on within its symmetry.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equivariant_nets.networks.precision import autocast_off, widened

__all__ = [
    "ACTIVATIONS",
    "PlainAffine",
    "PlainContentBlock",
    "PlainContentNorm",
    "PlainGate",
    "PlainInstanceNorm",
    "PlainMaxPool",
    "activate",
    "content_mask",
    "content_moments",
    "gated",
    "materialize",
    "moments",
    "plain_convolution",
]

CONVOLUTIONS: dict[int, Callable[..., nn.Module]] = {4: nn.Conv2d, 5: nn.Conv3d}
ACTIVATIONS = ("relu", "silu", "gelu")
IRREPS_NAMES = ("irreps_in", "irreps_out", "irreps")  # what the channels of a module carry


@runtime_checkable
class Materializable(Protocol):
    """A module that has a plain counterpart; its children are replaced after it."""

    def materialize(self) -> nn.Module:
        """The counterpart, in evaluation mode."""


def materialize(net: nn.Module) -> nn.Module:
    """Turn a network of this package into plain convolutions and elementwise operations, in evaluation mode.

    Args:
        net: a network, such as a :class:`equivariant_nets.SteerableUNet`. It is left as it is.

    Returns:
        a network with the same outputs as ``net.eval()``, within 1e-4 of their norm in float32, on the same device.

    Raises:
        TypeError: net is no module.

    Example:
        >>> import torch
        >>> from equivariant_nets import SteerableUNet, materialize
        >>> plain = materialize(SteerableUNet(features="2x0e+1x1e", depth=1))
        >>> torch.export.export(plain, (torch.zeros(1, 1, 9, 10, 11),)).module()(torch.ones(1, 1, 9, 10, 11)).shape
        torch.Size([1, 3, 9, 10, 11])
    """
    if not isinstance(net, nn.Module):
        raise TypeError(f"materialize takes a network, an nn.Module; got {type(net).__name__}.")
    weight = next(net.parameters(), torch.empty(0))
    with torch.no_grad(), autocast_off(weight):  # kernels of half precision would not fit their biases
        plain = copy.deepcopy(_with_plain_parts(net, {}))  # what it shares with net till here
    return plain.eval().requires_grad_(False)


def _with_plain_parts(module: nn.Module, done: dict[nn.Module, nn.Module]) -> nn.Module:
    if module not in done:
        if isinstance(module, Materializable):
            result = module.materialize()
            for name in IRREPS_NAMES:
                if hasattr(module, name):
                    setattr(result, name, str(getattr(module, name)))  # a text, which TorchScript keeps
        elif next(module.children(), None) is not None:
            result = copy.copy(module)
            result._modules = dict(module._modules)
        else:
            result = module
        for name, child in result.named_children():
            setattr(result, name, _with_plain_parts(child, done))
        done[module] = result
    return done[module]


def plain_convolution(kernel: Tensor, bias: Tensor | None, groups: int = 1) -> nn.Module:
    """A convolution with a given dense kernel, ``(C_out, C_in / groups, *taps)``, and zeros outside the volume."""
    channels_out, channels_in, *taps = kernel.shape
    padding = [n // 2 for n in taps]
    with torch.device("meta"):
        convolution = CONVOLUTIONS[kernel.dim()](
            channels_in * groups, channels_out, taps, padding=padding, groups=groups, bias=bias is not None
        )
    convolution.register_parameter("weight", nn.Parameter(kernel.contiguous()))
    convolution.register_parameter("bias", None if bias is None else nn.Parameter(bias))
    return convolution


class PlainAffine(nn.Module):
    """scale * x + shift, by channel.

    Args:
        scale: of each channel, ``(C,)``.
        shift: of each channel, ``(C,)``.

    Shape: ``(B, C, *spatial)`` to the same.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, x: Tensor) -> Tensor:
        shape = [1, -1] + [1] * (x.dim() - 2)
        scale, shift = widened(self.scale).view(shape), widened(self.shift).view(shape)
        return torch.addcmul(shift, widened(x), scale).to(x.dtype)


def moments(x: Tensor, centred: Tensor, axes: list[int]) -> tuple[Tensor, Tensor]:
    """Mean over the axes, 0 where a channel is not centred, and mean square about it: each without these axes."""
    variance, mean = torch.var_mean(x, axes, correction=0)
    return torch.where(centred, mean, torch.zeros_like(mean)), torch.where(centred, variance, variance + mean * mean)


class PlainInstanceNorm(nn.Module):
    """(x - mean) / root mean square * weight + bias, where some channels are not centred, and groups of channels share
    a root mean square.

    Args:
        weight: of each channel, ``(C,)``.
        bias: of each channel, ``(C,)``.
        centred: whether the mean of a channel is subtracted, ``(C,)``.
        average: ``(C, C)``, takes the mean square of each channel to that of its group.
        eps: added to the mean square.

    Shape: ``(B, C, *spatial)`` to the same.
    """

    weight: Tensor
    bias: Tensor
    centred: Tensor
    average: Tensor

    def __init__(self, weight: Tensor, bias: Tensor, centred: Tensor, average: Tensor, eps: float) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.register_buffer("centred", centred)
        self.register_buffer("average", average)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        wide = widened(x)
        mean, square = moments(wide, self.centred, list(range(2, x.dim())))
        square = (square.unsqueeze(2) * widened(self.average)).sum(1)  # autocast would round in a matrix product
        scale = widened(self.weight) * torch.rsqrt(square + self.eps)
        shift = widened(self.bias) - mean * scale
        shape = list(scale.shape) + [1] * (x.dim() - 2)
        return torch.addcmul(shift.view(shape), wide, scale.view(shape)).to(x.dtype)


def content_mask(x: Tensor) -> Tensor:
    """Where features ``(B, C, *spatial)`` are not 0 in all channels: 1, else 0; ``(B, 1, *spatial)``."""
    return (x != 0).any(1, keepdim=True).to(x.dtype)


def content_moments(x: Tensor, content: Tensor, centred: Tensor) -> tuple[Tensor, Tensor]:
    """The :func:`moments` of x ``(B, C, *spatial)`` over the voxels of a mask ``(B, 1, *spatial)``: each ``(B, C)``."""
    weights = content.to(x.dtype).flatten(2)
    values = x.flatten(2)
    count = weights.sum(2).clamp(min=1)
    mean = (values * weights).sum(2) / count
    mean = torch.where(centred, mean, torch.zeros_like(mean))
    return mean, ((values - mean.unsqueeze(2)).square() * weights).sum(2) / count


class PlainContentNorm(PlainInstanceNorm):
    """:class:`PlainInstanceNorm` with the statistics of the voxels of a mask; 0 outside.

    Shape: ``(B, C, *spatial)`` and the mask ``(B, 1, *spatial)`` to the same as x.
    """

    def forward(self, x: Tensor, content: Tensor) -> Tensor:  # type: ignore[override]
        wide = widened(x)
        mean, square = content_moments(wide, content, self.centred)
        square = (square.unsqueeze(2) * widened(self.average)).sum(1)
        scale = widened(self.weight) * torch.rsqrt(square + self.eps)
        shift = widened(self.bias) - mean * scale
        shape = list(scale.shape) + [1] * (x.dim() - 2)
        return torch.addcmul(shift.view(shape), wide, scale.view(shape)).to(x.dtype) * content.to(x.dtype)


class PlainContentBlock(nn.Module):
    """Layers over the content of their input, where not all of its channels are 0.

    Args:
        norms: take the content beside the features, in order.
        between: what comes before the first, between each two, and after the last.

    Shape: ``(B, C_in, *spatial)`` to ``(B, C_out, *spatial)``, 0 where all channels of the input are.
    """

    def __init__(self, norms: Sequence[nn.Module], between: Sequence[nn.Module]) -> None:
        super().__init__()
        self.norms = nn.ModuleList(norms)
        self.first = between[0]
        self.behind = nn.ModuleList(between[1:])

    def forward(self, x: Tensor) -> Tensor:
        content = content_mask(x)
        x = self.first(x)
        for norm, layers in zip(self.norms, self.behind):  # noqa: B905
            x = layers(norm(x, content))
        return x


def activate(x: Tensor, name: str) -> Tensor:
    """One of :data:`ACTIVATIONS`, by name."""
    if name == "relu":
        return F.relu(x)
    return F.silu(x) if name == "silu" else F.gelu(x)


def gated(
    x: Tensor,
    multiplicities: list[int],
    dims: list[int],
    activation: str,
    weight: Tensor | None,
    bias: Tensor | None,
    scalar_factor: float,
    gate_factor: float,
) -> Tensor:
    """The operation of :class:`PlainGate`, whose arguments it takes."""
    channels = [multiplicities[i] * max(dims[i], 1) for i in range(len(dims))]
    parts = (x if weight is not None else x[:, : sum(channels)]).split(channels, 1)
    if weight is None:
        gates = x[:, sum(channels) :]
    else:
        scalars: list[Tensor] = []
        for part, dim in zip(parts, dims):  # noqa: B905
            if dim == 0:
                scalars.append(part)
        gates = F.conv3d(torch.cat(scalars, 1), weight, bias)
    gates = torch.sigmoid(gates) * gate_factor
    outputs: list[Tensor] = []
    used = 0
    for part, mul, dim in zip(parts, multiplicities, dims):  # noqa: B905
        if dim == 0:
            outputs.append(activate(part, activation) * scalar_factor)
        else:
            vectors = part.unflatten(1, [mul, dim]) * gates[:, used : used + mul].unsqueeze(2)
            outputs.append(vectors.flatten(1, 2))
            used += mul
    return torch.cat(outputs, 1)


class PlainGate(nn.Module):
    """A function of some channels, and a product with a sigmoid for the others.

    Args:
        summands: multiplicity and number of components of each summand, in order; 0 components for channels that go
            through the function.
        activation: the function: ``relu``, ``silu`` or ``gelu``.
        weight: ``(gates, scalars)``, maps those channels to the gates; gates come as channels after the others if None.
        bias: of the gates, ``(gates,)``.
        scalar_factor: multiplies the function.
        gate_factor: multiplies the sigmoid.

    Shape: ``(B, C_in, D, H, W)`` to ``(B, C, D, H, W)``, C = sum of multiplicities times components.
    """

    weight: Tensor | None
    bias: Tensor | None

    def __init__(
        self,
        summands: Sequence[tuple[int, int]],
        activation: str,
        weight: Tensor | None,
        bias: Tensor | None,
        scalar_factor: float,
        gate_factor: float,
    ) -> None:
        super().__init__()
        self.multiplicities = [mul for mul, _ in summands]
        self.dims = [dim for _, dim in summands]
        self.activation = activation
        self.register_buffer("weight", None if weight is None else weight[:, :, None, None, None])
        self.register_buffer("bias", bias)
        self.scalar_factor = scalar_factor
        self.gate_factor = gate_factor

    def forward(self, x: Tensor) -> Tensor:
        return gated(
            x,
            self.multiplicities,
            self.dims,
            self.activation,
            self.weight,
            self.bias,
            self.scalar_factor,
            self.gate_factor,
        )


class PlainMaxPool(nn.Module):
    """Halve axes by the maximum of single channels, and by the group of channels of largest norm.

    The windows are those of :func:`equivariant_nets.networks.resampling.max_pool_windows`, written so that the size of
    the input can be a symbol.

    Args:
        summands: multiplicity and number of components of each summand, in order; 0 components for single channels.
        halved: for each spatial axis, whether it is halved.

    Shape: ``(B, C, *spatial)`` to ``(B, C, *[ceil(n / 2) for n in spatial])``.
    """

    def __init__(self, summands: Sequence[tuple[int, int]], halved: Sequence[bool]) -> None:
        super().__init__()
        self.channels = [mul * max(dim, 1) for mul, dim in summands]
        self.components = [max(dim, 1) for _, dim in summands]
        self.single = [dim == 0 for _, dim in summands]
        self.axes = [axis for axis, halve in enumerate(halved, start=2) if halve]

    def forward(self, x: Tensor) -> Tensor:
        outputs: list[Tensor] = []
        for part, components, single in zip(x.split(self.channels, 1), self.components, self.single):  # noqa: B905
            vectors = part.unflatten(1, [-1, components])
            height = vectors if single else widened(vectors).square().sum(2, keepdim=True)
            for axis in self.axes:
                vectors, height = self._halve(vectors, height, axis + 1)
            outputs.append(vectors.flatten(1, 2))
        return torch.cat(outputs, 1)

    def _halve(self, vectors: Tensor, height: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        size = vectors.shape[axis]
        first = 2 * torch.arange((size + 1) // 2, device=vectors.device) - size % 2
        start = first.clamp(min=0)
        best, top = vectors.index_select(axis, start), height.index_select(axis, start)
        for index in [first + 1, first + 1 + size % 2]:  # a window of two takes its last voxel twice
            index = index.clamp(max=size - 1)
            other = height.index_select(axis, index)
            higher = other > top
            best = torch.where(higher, vectors.index_select(axis, index), best)
            top = torch.where(higher, other, top)
        return best, top
