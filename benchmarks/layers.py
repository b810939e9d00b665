"""Where the error of a free turn arises: the error of equivariance of each layer of a steerable U-Net, by itself.

    python benchmarks/layers.py

Random weights, evaluation mode, float32; Gaussian-filtered noise (2 voxels) of 33x33x33 voxels that fades out towards
the surface of the largest ball, turned by 30, 45 and 60 degrees in three planes. *So far* compares the features of the
turned image with the turned features, in a central ball, relative to their deviation from their mean. *Own* is the same
for a layer that is fed turned features: what it adds. *Interpolation* is what is lost by turning its output there and
back, without any network.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
import torch
from common import environment, print_table, smooth_image, write_json
from e3nn import o3
from torch import Tensor, nn
from tqdm import tqdm

from equivariant_nets import SteerableUNet, interpolation_error
from equivariant_nets.cli import command_line
from equivariant_nets.equivariance import central_error, transform_field
from equivariant_nets.networks.resampling import Downsample, Upsample
from equivariant_nets.networks.steerable import Convolution, Gate, InstanceNorm
from equivariant_nets.rotations import plane_rotation

LAYERS = (Convolution, InstanceNorm, Gate, Downsample, Upsample)
PLANES = ("axial", "coronal", "sagittal")


def layers(
    *,
    features: str = "4x0e+2x1e+1x2e",
    depth: int = 2,
    kernel_size: int = 5,
    activation: str = "relu",
    upsampling: str = "linear",
    angles: tuple[float, ...] = (30.0, 45.0, 60.0),
    size: int = 33,
    seeds: int = 3,
    output: str | None = None,
) -> list[dict[str, Any]]:
    """Print the errors of each layer, means over seeds, planes and angles.

    Args:
        features: irreps of the first level.
        depth: number of halvings.
        kernel_size: of the convolutions, odd.
        activation: of the 0e features.
        upsampling: ``linear`` or ``spline``.
        angles: in degrees.
        size: voxels of each side of the image.
        seeds: of weights and images, from 0.
        output: JSON file to write.
    """
    turns = [plane_rotation(plane, angle) for plane, angle in itertools.product(PLANES, angles)]
    options: dict[str, Any] = {"kernel_size": kernel_size, "activation": activation, "upsampling": upsampling}
    errors: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for seed in tqdm(range(seeds), desc="seeds"):
        torch.manual_seed(seed)
        net = SteerableUNet(features=features, depth=depth, **options).eval()
        image = smooth_image(size, smoothness=2.0, seed=seed).float()
        straight = record(net, image)
        for turn in turns:
            turned_image = transform_field(image, turn)
            for layer, of_turned in zip(straight, record(net, turned_image), strict=True):
                expected = transform_field(layer.output, turn, layer.irreps_out)
                with torch.no_grad():
                    alone = layer.module(transform_field(layer.inputs[0], turn, layer.irreps_in), *layer.inputs[1:])
                so_far, own = (central_error(got, expected) for got in (of_turned.output, alone))
                floor = interpolation_error(layer.output, turn)
                errors.setdefault((layer.name, type(layer.module).__name__), []).append((so_far, own, floor))
    rows = []
    for (name, kind), values in errors.items():
        so_far, own, floor = np.mean(values, axis=0).tolist()
        rows.append({"layer": name, "kind": kind, "so far": so_far, "own": own, "interpolation": floor})
    print_table(rows)
    record_of = {"features": features, "depth": depth, **options, "size": size, "seeds": seeds, "rows": rows}
    write_json(output, {**environment(torch.device("cpu")), **record_of})
    return rows


class Layer(NamedTuple):
    """A layer of a network in the order of the calls, what it was given and what it gave."""

    name: str
    module: nn.Module
    inputs: tuple[Any, ...]
    output: Tensor
    irreps_in: o3.Irreps
    irreps_out: o3.Irreps


@torch.no_grad()
def record(net: SteerableUNet, image: Tensor) -> list[Layer]:
    """What happens to an image in a network, layer by layer."""
    calls: list[Layer] = []

    def note(name: str, module: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        # Resampling keeps the irreps of what was there before; concatenated features are convolved next.
        before = calls[-1].irreps_out if calls else net.irreps_in
        irreps_in = getattr(module, "irreps_in", before)
        irreps_out = getattr(module, "irreps_out", getattr(module, "irreps", before))
        calls.append(Layer(name, module, inputs, output, irreps_in, irreps_out))

    hooks = [
        module.register_forward_hook(lambda module, inputs, output, name=name: note(name, module, inputs, output))
        for name, module in net.named_modules()
        if isinstance(module, LAYERS)
    ]
    net(image)
    for hook in hooks:
        hook.remove()
    return calls


cli = command_line(layers)

if __name__ == "__main__":
    cli()
