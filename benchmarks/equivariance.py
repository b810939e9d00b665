"""How exact the networks are: errors under the rotations of the voxel grid, and under free rotations.

    python benchmarks/equivariance.py [--output equivariance.json]

Weights are random, from a fixed seed. Lattice errors are the worst of the 24 rotations of the cube, on noise; errors of
free rotations are measured in a central ball, on a smooth random image, beside the error of interpolation alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import fire
import numpy as np
import scipy.ndimage
import torch
from common import environment, print_table, write_json
from torch import Tensor, nn
from tqdm import tqdm

from equivariant_nets import (
    ConventionalUNet,
    SteerableUNet,
    equivariance_curve,
    equivariance_error,
    interpolation_error,
)
from equivariant_nets.rotations import PLANES, lattice_rotations, plane_rotation

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "SteerableUNet": SteerableUNet,
    "SteerableUNet, average pooling": lambda: SteerableUNet(downsampling="average"),
    "SteerableUNet, norm-max pooling": lambda: SteerableUNet(downsampling="max"),
    "SteerableUNet, smooth_finite basis": lambda: SteerableUNet(radial_basis="smooth_finite"),
    "SteerableUNet, O(3)": lambda: SteerableUNet(group="O3", features="4x0e+4x0o+2x1e+2x1o+1x2e+1x2o"),
    "ConventionalUNet": ConventionalUNet,
}
SMOOTHNESS = 2.0  # voxels, standard deviation of the Gaussian filter of the image for free rotations


def noise(size: Sequence[int], seed: int) -> Tensor:
    """White noise, float64 ``(1, 1, *size)``."""
    return torch.from_numpy(np.random.RandomState(seed).normal(size=(1, 1, *size)))


def smooth_image(size: Sequence[int], seed: int) -> Tensor:
    """Gaussian-filtered noise of unit variance, float64 ``(1, 1, *size)``."""
    image = scipy.ndimage.gaussian_filter(noise(size, seed)[0, 0].numpy(), SMOOTHNESS)
    return torch.from_numpy(image / image.std())[None, None]


def lattice_error(net: nn.Module, sizes: Sequence[Sequence[int]], seed: int) -> float:
    """The worst error under the 24 rotations of the cube, over all sizes, in the type of the weights."""
    dtype = next(net.parameters()).dtype
    images = [noise(size, seed).to(dtype) for size in sizes]
    return max(equivariance_error(net, image, rotation) for image in images for rotation in lattice_rotations())


def main(
    sizes: Sequence[Sequence[int]] = ((16, 16, 16), (17, 17, 17), (18, 21, 19)),
    free_size: int = 33,
    angles: Sequence[float] = (15, 30, 45, 60, 75, 90),
    networks: Sequence[str] | None = None,
    seed: int = 0,
    output: str | None = None,
) -> list[dict[str, Any]]:
    """Measure, print a table, and return its rows.

    Args:
        sizes: volumes for the rotations of the grid.
        free_size: side of the volume for free rotations.
        angles: angles of the free rotations, in degrees, in each of the three planes.
        networks: names of the networks; all if None.
        seed: of weights and images.
        output: JSON file to write.
    """
    image = smooth_image([free_size] * 3, seed)
    floor = max(interpolation_error(image, plane_rotation(plane, angle)) for plane in PLANES for angle in angles)
    rows = []
    for name in tqdm(networks or list(NETWORKS), unit="network"):
        torch.manual_seed(seed)
        net = NETWORKS[name]().eval()
        errors = {"float32": lattice_error(net, sizes, seed), "float64": lattice_error(net.double(), sizes, seed)}
        free = [error for plane in PLANES for error in equivariance_curve(net, image, angles, plane)]
        rows.append(
            {
                "network": name,
                "parameters": sum(p.numel() for p in net.parameters()),
                "grid rotations, float32": errors["float32"],
                "grid rotations, float64": errors["float64"],
                "free rotations, mean": float(np.mean(free)),
                "free rotations, worst": max(free),
            }
        )
    print_table(rows)
    print(f"\nWorst error of turning the image itself there and back: {floor:.3g}")
    write_json(output, {**environment(torch.device("cpu")), "seed": seed, "interpolation": floor, "networks": rows})
    return rows


if __name__ == "__main__":
    fire.Fire(main, serialize=lambda rows: None)
