"""The networks that a new bundle can have, by the symmetry that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import equivariant_nets
from equivariant_nets.networks.unet import UNet

__all__ = ["SYMMETRIES", "NetworkChoice", "build_network", "choose_network"]

SYMMETRIES = ("so3", "o3", "octahedral", "e2", "scale", "none")
_VOLUMES, _PICTURES = ("so3", "o3", "octahedral", "scale", "none"), ("e2", "scale", "none")
# Widths and learning rates are those that did well in the bundles of the collection: at about equal cost a step, for
# whole volumes, for patches of volumes, and for pictures.
_STEERABLE = {
    "so3": ("8x0e+4x1e+2x2e", "4x0e+2x1e+1x2e"),
    "o3": ("6x0e+2x0o+2x1e+2x1o+1x2e+1x2o", "3x0e+1x0o+1x1e+1x1o+1x2e"),
}
_WIDTHS: dict[str, tuple[Any, Any, Any]] = {
    "octahedral": (2, 1, None),
    "e2": (None, None, [2, 3, 5, 7]),
    "scale": (4, 4, 4),
    "none": (15, 8, [6, 9, 15, 20]),
}
_LEARNING_RATES = {"so3": 0.02, "o3": 0.02, "octahedral": 0.03, "e2": 0.03, "scale": 0.02, "none": 0.012}
_WHOLE_LEARNING_RATES = {"so3": 0.04, "o3": 0.04}  # one volume a step, normalized by itself
_DESCRIPTIONS = {
    "so3": "an SO(3)-steerable U-Net: equivariant under all rotations, and it can tell left from right",
    "o3": "an O(3)-steerable U-Net: equivariant under all rotations and reflections, so left is right to it",
    "octahedral": "a U-Net on fields of the octahedral group: equivariant under the 24 rotations of the voxel grid",
    "e2": "a U-Net on fields of the dihedral group D8: equivariant under turns by 45 degrees and reflections",
    "scale": "a scale-equivariant U-Net: it answers to the size of the anatomy as to its place",
    "none": "a plain U-Net of the same wiring: the reference, equivariant under translations alone",
}


@dataclass(frozen=True)
class NetworkChoice:
    """A network as a config defines it, and what its training needs.

    Args:
        description: in words.
        features: its width, an option of the bundle of this name.
        definition: of ``network_def``; ``@features`` stands for the width.
        learning_rate: of Adam.
        train: other values for the config of training.
    """

    description: str
    features: Any
    definition: dict[str, Any]
    learning_rate: float
    train: dict[str, Any] = field(default_factory=dict)


def choose_network(
    symmetry: str, channels: int, classes: int, depth: int, whole: bool, spacing_mm: Sequence[float] | None, dims: int
) -> NetworkChoice:
    """The network of a symmetry.

    Args:
        symmetry: one of :data:`SYMMETRIES`.
        channels: of the image.
        classes: with the background.
        depth: number of halvings.
        whole: whether it learns from whole volumes, each normalized over its content; else from patches, with batch
            statistics.
        spacing_mm: of voxels that are not alike along all axes, or None.
        dims: 3 for volumes, 2 for pictures.

    Raises:
        ValueError: there is no such symmetry, or none for so many dimensions.
    """
    legal = _VOLUMES if dims == 3 else _PICTURES
    if symmetry not in legal:
        what = "volumes" if dims == 3 else "pictures"
        raise ValueError(f"--symmetry {symmetry} is not legal for {what}; choose one of {', '.join(legal)}.")
    if symmetry == "octahedral" and spacing_mm is not None:
        raise ValueError(
            "--symmetry octahedral takes axes to each other, and these voxels are not alike along all axes "
            f"({' x '.join(f'{size:g}' for size in spacing_mm)} mm). Choose so3, or equal voxels: --spacing_mm 1,1,1."
        )
    kind = 2 if dims == 2 else 0 if whole else 1
    common: dict[str, Any] = {
        "features": "@features",
        "depth": depth,
        "kernel_size": 5,
        "normalization": "content" if whole else "batch",
    }
    if spacing_mm is not None:
        common["spacing"] = "@spacing_mm"
    plain = {"spatial_dims": dims, "in_channels": channels, "out_channels": classes}
    train: dict[str, Any] = {}
    if symmetry in _STEERABLE:
        features: Any = _STEERABLE[symmetry][kind]
        own = {"irreps_in": f"{channels}x0e", "irreps_out": f"{classes}x0e", **common}
        if symmetry == "o3":
            own["group"] = "O3"
        definition = {"_target_": "equivariant_nets.SteerableUNet", **own}
    else:
        features = _WIDTHS[symmetry][kind]
        own = {**plain, **common}
        if symmetry == "scale":
            own |= {"residual": True, "dropout": 0.07}
            train = {"max_gradient_norm": 0.1}
        if symmetry in ("octahedral", "e2"):
            own["group"] = "O" if dims == 3 else "D8"
        name = {"scale": "ScaleUNet", "none": "ConventionalUNet"}.get(symmetry, "RegularUNet")
        definition = {"_target_": f"equivariant_nets.{name}", **own}
    rate = _WHOLE_LEARNING_RATES.get(symmetry, _LEARNING_RATES[symmetry]) if whole else _LEARNING_RATES[symmetry]
    return NetworkChoice(_DESCRIPTIONS[symmetry], features, definition, rate, train)


def build_network(choice: NetworkChoice, spacing_mm: Sequence[float] | None) -> UNet:
    """The network itself, to count and to estimate with."""
    values = {"@features": choice.features, "@spacing_mm": spacing_mm}
    options = {
        key: values.get(value, value) if isinstance(value, str) else value for key, value in choice.definition.items()
    }
    return getattr(equivariant_nets, options.pop("_target_").rpartition(".")[2])(**options)
