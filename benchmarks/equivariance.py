"""How exact the networks are: errors under the rotations of the voxel grid, and under free rotations.

    python benchmarks/equivariance.py [--output equivariance.json]

Weights are random, from a fixed seed. Lattice errors are the worst of the 24 rotations of the cube, on noise; errors of
free rotations are measured in float32, in a central ball, on a smooth random image, beside the error of interpolation
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from common import environment, noise, print_table, smooth_image, write_json
from torch import Tensor, nn
from tqdm import tqdm

from equivariant_nets import (
    ConventionalUNet,
    RegularUNet,
    ScaleUNet,
    SteerableUNet,
    equivariance_curve,
    equivariance_error,
    interpolation_error,
)
from equivariant_nets.cli import command_line
from equivariant_nets.rotations import PLANES, lattice_rotations, plane_rotation

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "SteerableUNet": SteerableUNet,
    "SteerableUNet (average pooling)": lambda: SteerableUNet(downsampling="average"),
    "SteerableUNet (max pooling)": lambda: SteerableUNet(downsampling="max"),
    "SteerableUNet (smooth_finite basis)": lambda: SteerableUNet(radial_basis="smooth_finite"),
    "SteerableUNet (O3)": lambda: SteerableUNet(group="O3", features="4x0e+4x0o+2x1e+2x1o+1x2e+1x2o"),
    "RegularUNet (O)": lambda: RegularUNet(3, 1, 3, "O", features=1, kernel_size=5),
    "RegularUNet (O, separable)": lambda: RegularUNet(3, 1, 3, "O", features=1, kernel_size=5, separable=True),
    "ScaleUNet (isotropic)": lambda: ScaleUNet(in_channels=1, isotropic=True),
    "ConventionalUNet": ConventionalUNet,
}
SMOOTHNESS = 2.0  # voxels, standard deviation of the Gaussian filter of the image for free rotations


def grid_error(net: nn.Module, size: Sequence[int], seed: int) -> float:
    """The worst error under the 24 rotations of the cube, in the type of the weights."""
    image = noise(size, seed).to(next(net.parameters()).dtype)
    return float(np.max([equivariance_error(net, image, rotation) for rotation in lattice_rotations()]))


def measure(
    name: str, sizes: Sequence[Sequence[int]], image: Tensor, angles: Sequence[float], seed: int
) -> dict[str, Any]:
    """The errors of one network, those of free rotations on the image given."""
    torch.manual_seed(seed)
    net = NETWORKS[name]().eval()
    curves = {plane: equivariance_curve(net, image.float(), angles, plane) for plane in PLANES}
    grid = {}
    for dtype in (torch.float32, torch.float64):
        net.to(dtype)
        grid[str(dtype).removeprefix("torch.")] = {str(tuple(size)): grid_error(net, size, seed) for size in sizes}
    free = [error for curve in curves.values() for error, angle in zip(curve, angles, strict=True) if angle % 90]
    return {
        "network": name,
        "parameters": sum(p.numel() for p in net.parameters()),
        "grid rotations, float32": float(np.max(list(grid["float32"].values()))),
        "grid rotations, float64": float(np.max(list(grid["float64"].values()))),
        "free rotations, mean": float(np.mean(free)),
        "free rotations, worst": float(np.max(free)),
        "grid errors by size": grid,
        "errors by plane and angle": curves,
    }


def main(
    *,
    sizes: Sequence[tuple[int, int, int]] = ((16, 16, 16), (17, 17, 17), (18, 21, 19)),
    free_size: int = 33,
    angles: Sequence[float] = (15, 30, 45, 60, 75, 90),
    networks: Sequence[str] | None = None,
    threads: int | None = None,
    seed: int = 0,
    output: str | None = None,
) -> list[dict[str, Any]]:
    """Measure, print a table, and return its rows.

    Args:
        sizes: volumes for the rotations of the grid.
        free_size: side of the volume for free rotations.
        angles: degrees, in each of the three planes. Multiples of 90 are rotations of the grid: they stay in the
            record, and out of the mean and the worst error of free rotations.
        networks: names of the networks; all if None.
        threads: of the CPU; as torch chooses if None.
        seed: of weights and images.
        output: JSON file to write.

    Raises:
        ValueError: a network that is not known, or no angle of a free rotation.
    """
    networks = list(networks or NETWORKS)
    if unknown := set(networks) - set(NETWORKS):
        raise ValueError(f"networks {sorted(unknown)} are not known; choose from {list(NETWORKS)}.")
    free_angles = [angle for angle in angles if angle % 90]
    if not free_angles:
        raise ValueError(f"angles={angles} are rotations of the grid; give one that is no multiple of 90 degrees.")
    if threads is not None:
        torch.set_num_threads(threads)
    image = smooth_image(free_size, SMOOTHNESS, seed)
    floor = [interpolation_error(image, plane_rotation(plane, angle)) for plane in PLANES for angle in free_angles]
    rows = [measure(name, sizes, image, angles, seed) for name in tqdm(networks, unit="network")]
    print_table(rows)
    interpolation = {"mean": float(np.mean(floor)), "worst": float(np.max(floor))}
    print("\nTurning the image itself there and back: mean {mean:.3g}, worst {worst:.3g}".format(**interpolation))
    record = {"sizes": sizes, "free_size": free_size, "angles": angles, "smoothness_voxels": SMOOTHNESS, "seed": seed}
    write_json(output, {**environment(torch.device("cpu")), **record, "interpolation": interpolation, "networks": rows})
    return rows


cli = command_line(main)

if __name__ == "__main__":
    cli()
