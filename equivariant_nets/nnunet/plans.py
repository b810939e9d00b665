"""nnU-Net's plans with a network of this package in place of its own."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch

from equivariant_nets.networks.checks import check_choice
from equivariant_nets.nnunet.networks import strides_of
from equivariant_nets.nnunet.sizes import Fit, evened_spacing, fitted
from equivariant_nets.nnunet.symmetries import SYMMETRIES, Symmetry

__all__ = ["MOST_HALVINGS", "OWN_NETWORKS", "Planned", "is_own", "plan_network"]

OWN_NETWORKS = "equivariant_nets.nnunet."
# Unless the user asks for more: the kernels of 5 voxels see 170 voxels of an image with three halvings, and features
# that double with each halving become expensive.
MOST_HALVINGS = 3
# With a single output, nnU-Net's weights of outputs are 0 / 0.
FEWEST_HALVINGS = 2


class Planned(NamedTuple):
    """Plans for a network, and what was chosen for it.

    Attributes:
        plans: the content of the file.
        fit: patch, batch, and the memory that they take.
        parameters: of the network.
    """

    plans: dict[str, Any]
    fit: Fit
    parameters: int


def is_own(plans: dict[str, Any]) -> bool:
    """Whether all networks of plans are of this package."""
    configurations = plans.get("configurations", {}).values()
    names = [one.get("architecture", {}).get("network_class_name", "") for one in configurations]
    return bool(names) and all(name.startswith(OWN_NETWORKS) for name in names)


def plan_network(
    plans: dict[str, Any],
    dataset: dict[str, Any],
    configuration: str,
    symmetry: Symmetry,
    name: str,
    gpu_memory_gb: float = 8.0,
    depth: int | None = None,
    **options: Any,
) -> Planned:
    """Plans with one configuration of nnU-Net's, for a network of this package. The preprocessed data stay the same.

    Patch and batch are at most those of nnU-Net, and such that a training step fits into the memory.

    Args:
        plans: of nnU-Net.
        dataset: the content of ``dataset.json``.
        configuration: ``2d``, ``3d_fullres`` or ``3d_lowres``.
        symmetry: a key of :data:`equivariant_nets.nnunet.symmetries.SYMMETRIES`.
        name: of the new plans.
        gpu_memory_gb: in 10^9 bytes.
        depth: number of halvings; that of nnU-Net, and at most :data:`MOST_HALVINGS`, if None.
        options: of the network; None stands for the default.

    Raises:
        ValueError: a configuration that is not there or has other axes than the symmetry, a network that cannot be
            built, or too little memory.
    """
    choice = SYMMETRIES[symmetry]
    own = _configuration(plans, configuration, symmetry)
    if depth is None:
        depth = min(len(own["architecture"]["arch_kwargs"]["strides"]) - 1, MOST_HALVINGS)
    if depth < FEWEST_HALVINGS:
        raise ValueError(f"depth={depth} is too small: nnU-Net's deep supervision needs {FEWEST_HALVINGS} or more.")
    spacing = evened_spacing(own["spacing"])
    strides = strides_of(spacing, len(own["patch_size"]), depth)
    arguments = {"strides": strides, "spacing": spacing, **choice.all_options(**options)}
    with torch.device("meta"):
        network = choice.constructor(_input_channels(dataset), _num_classes(dataset), **arguments)
    fit = fitted(
        network,
        strides,
        own["patch_size"],
        own["batch_size"],
        own["median_image_size_in_voxels"],
        int(gpu_memory_gb * 1e9),
    )
    own |= {"patch_size": list(fit.patch), "batch_size": fit.batch}
    own["architecture"] = {
        "network_class_name": f"{OWN_NETWORKS}{choice.network}",
        "arch_kwargs": arguments,
        "_kw_requires_import": [],
    }
    content = {**plans, "plans_name": name, "configurations": {configuration: own}}
    return Planned(content, fit, sum(weight.numel() for weight in network.parameters()))


def _configuration(plans: dict[str, Any], configuration: str, symmetry: Symmetry) -> dict[str, Any]:
    """A configuration of nnU-Net's plans that a network of the symmetry can take over."""
    choice = SYMMETRIES[symmetry]
    legal = [key for key, value in plans["configurations"].items() if "patch_size" in value]  # not the cascade
    check_choice("configuration", configuration, legal)
    if is_own(plans):
        raise ValueError(
            f"The plans {plans.get('plans_name')} are for a network of this package. Give --plans nnU-Net's own."
        )
    own = copy.deepcopy(plans["configurations"][configuration])
    own.pop("next_stage", None)  # the cascade is not among the new plans
    spatial_dims = len(own["patch_size"])
    if spatial_dims not in choice.spatial_dims:
        symmetries = [key for key, other in SYMMETRIES.items() if spatial_dims in other.spatial_dims]
        fitting = [key for key in legal if len(plans["configurations"][key]["patch_size"]) in choice.spatial_dims]
        raise ValueError(
            f"configuration {configuration} is {spatial_dims}-D, and symmetry {symmetry} is of "
            f"{choice.spatial_dims[0]}-D images. Choose another symmetry, {', '.join(symmetries)}, or another "
            f"configuration, {', '.join(fitting) or 'of which these plans hold none'}."
        )
    if "architecture" not in own:
        raise ValueError("These plans are of an older nnU-Net. Run nnUNetv2_plan_experiment of a newer one first.")
    return own


def _input_channels(dataset: dict[str, Any]) -> int:
    return len(dataset["channel_names"] if "channel_names" in dataset else dataset["modality"])


def _num_classes(dataset: dict[str, Any]) -> int:
    """Outputs of the network: one for each label, or for each region but the background."""
    labels = {name: value for name, value in dataset["labels"].items() if name != "ignore"}
    has_regions = any(isinstance(value, list) and len(value) > 1 for value in labels.values())
    return len(labels) - has_regions
