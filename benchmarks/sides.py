"""Left and right with a pseudoscalar output: which networks can tell the sides of a mirror-symmetric patient apart.

    python benchmarks/sides.py [--output sides.json]

Synthetic patients of 13^3 voxels: a pair of blobs to the left and right of the mirror plane, a head that says which way
is up, and a nose that says which way is forward. They lie in any of the 24 lattice rotations. Labels: 0 background,
1 the blob on the patient's left, 2 the one on its right. All networks see the same patients; Dice is on new ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from common import environment, print_table, write_json
from torch import Tensor, nn
from tqdm import tqdm

from equivariant_nets import SidedClasses, SteerableUNet
from equivariant_nets.cli import command_line
from equivariant_nets.equivariance import transform_field
from equivariant_nets.rotations import lattice_rotations

SIZE = 13
O3_FEATURES = "4x0e+2x0o+2x1e+2x1o+1x2e+1x2o"
CLASS_WEIGHTS = torch.tensor([0.1, 1.0, 1.0])


NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "O(3), 0e and 0o outputs": lambda **options: SidedClasses(
        SteerableUNet(group="O3", irreps_out="2x0e+1x0o", features=O3_FEATURES, **options), pairs=1
    ),
    "O(3), 0e outputs": lambda **options: SteerableUNet(group="O3", features=O3_FEATURES, **options),
    "SO(3), 0e outputs": lambda **options: SteerableUNet(features="4x0e+4x1e+2x2e", **options),
}


def _blob(x: float, y: float, z: float, width: float) -> np.ndarray:
    points = np.stack(np.meshgrid(*[np.arange(SIZE) - SIZE // 2] * 3, indexing="ij"))
    distance = points - np.reshape([x, y, z], (3, 1, 1, 1))
    return np.exp(-(distance**2).sum(0) / (2 * width**2))


def patient(random: np.random.RandomState, nose: bool = True, offset: float = 1.0) -> tuple[Tensor, Tensor]:
    """Image, float32 ``(1, 1, 13, 13, 13)``, and labels, int64 of the same shape, upright: axes are right to left, back
    to front, and feet to head. Without a nose, and with no offset of the pair, nothing says which way is forward."""
    x, (y, z) = random.uniform(2.5, 3.5), random.uniform(-offset, offset, 2)
    left, right = _blob(x, y, z, 1.0), _blob(-x, y, z, 1.0)
    image = left + right + 1.5 * _blob(0, 0, 4.5, 1.5)
    if nose:
        image = image - 1.5 * _blob(0, 4, 0, 1.2)
    label = np.where(left > 0.4, 1, np.where(right > 0.4, 2, 0))
    return torch.from_numpy(image)[None, None].float(), torch.from_numpy(label)[None, None]


def batch(random: np.random.RandomState, count: int, nose: bool = True) -> tuple[Tensor, Tensor]:
    """Patients in random lattice rotations."""
    rotations, images, labels = lattice_rotations(), [], []
    for _ in range(count):
        rotation = rotations[random.randint(len(rotations))]
        image, label = (transform_field(volume, rotation) for volume in patient(random, nose))
        images.append(image)
        labels.append(label)
    return torch.cat(images), torch.cat(labels)


def train(build: Callable[..., nn.Module], steps: int, seed: int, nose: bool = True) -> nn.Module:
    """A network after some steps of Adam on two new patients each."""
    torch.manual_seed(seed)
    random = np.random.RandomState(seed)
    net = build(depth=1)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in tqdm(range(steps), desc="training", unit="step", leave=False):
        images, labels = batch(random, 2, nose)
        optimizer.zero_grad()
        F.cross_entropy(net(images), labels[:, 0], weight=CLASS_WEIGHTS).backward()
        optimizer.step()
    return net.eval()


@torch.no_grad()
def dice(net: nn.Module, images: Tensor, labels: Tensor) -> list[float]:
    """Dice of left and right, over all voxels of all patients."""
    prediction = net(images).argmax(1, keepdim=True)
    scores = []
    for side in (1, 2):
        found, true = prediction == side, labels == side
        scores.append(float(2 * (found & true).sum() / (found.sum() + true.sum())))
    return scores


def main(*, steps: int = 120, seeds: int = 3, patients: int = 24, output: str | None = None) -> list[dict[str, Any]]:
    """Train, print a table, and return its rows.

    Args:
        steps: of Adam, two patients each.
        seeds: networks of each kind, with seeds 0, 1, ...
        patients: new ones to score on.
        output: JSON file to write.
    """
    rows = []
    for nose in (True, False):
        images, labels = batch(np.random.RandomState(1000), patients, nose)
        for name, build in NETWORKS.items():
            scores = [dice(train(build, steps, seed, nose), images, labels) for seed in range(seeds)]
            row: dict[str, Any] = {"network": name, "patients": "with a nose" if nose else "without"}
            means = [float(np.mean(score)) for score in scores]
            row["Dice of both sides, by seed"] = ", ".join(f"{mean:.2f}" for mean in means)
            rows.append({**row, "scores": scores})
    print_table(rows)
    write_json(output, {**environment(torch.device("cpu")), "steps": steps, "seeds": seeds, "rows": rows})
    return rows


cli = command_line(main)

if __name__ == "__main__":
    cli()
