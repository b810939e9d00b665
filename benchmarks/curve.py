"""A picture of exact and approximate: the error of equivariance against the angle of a turn.

    python benchmarks/curve.py --output docs/equivariance_curve.png

Random weights from seed 0, evaluation mode, float32; Gaussian-filtered noise (2 voxels) of 33x33x33 voxels that fades
out towards the surface of the largest ball. The error is that of :func:`equivariant_nets.equivariance_curve`.
"""

from __future__ import annotations

import numpy as np
import torch
from common import smooth_image
from matplotlib.figure import Figure
from tqdm import tqdm

from equivariant_nets import ConventionalUNet, RegularUNet, SteerableUNet, equivariance_curve, interpolation_error
from equivariant_nets.cli import command_line
from equivariant_nets.rotations import plane_rotation

NETWORKS = {
    "SteerableUNet, SO(3)": lambda: SteerableUNet(features="4x0e+2x1e+1x2e", depth=2),
    "RegularUNet, O": lambda: RegularUNet(spatial_dims=3, out_channels=3, group="O", features=1, depth=2),
    "ConventionalUNet": lambda: ConventionalUNet(features=15, depth=2),
}


def curve(*, output: str = "equivariance_curve.png", step_degrees: float = 7.5, size: int = 33) -> str:
    """Draw the errors of three networks, and that of interpolation alone, from 0 to 180 degrees.

    Args:
        output: the picture.
        step_degrees: from one angle to the next.
        size: voxels of each side of the image.
    """
    angles = np.arange(0, 180 + step_degrees / 2, step_degrees)
    image = smooth_image(size, smoothness=2.0, seed=0).float()
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, build in tqdm(NETWORKS.items(), desc="networks"):
        torch.manual_seed(0)
        axes.plot(angles, equivariance_curve(build().eval(), image, angles), marker=".", label=name)
    floor = [interpolation_error(image, plane_rotation("axial", angle)) for angle in angles]
    axes.plot(angles, floor, linestyle=":", color="gray", label="interpolation alone")
    axes.set(xlabel="turn about one axis (degrees)", ylabel="relative error", ylim=(0, None), xticks=range(0, 181, 45))
    axes.legend(frameon=False)
    figure.savefig(output, dpi=150)
    return f"The picture is {output}."


cli = command_line(curve)

if __name__ == "__main__":
    cli()
