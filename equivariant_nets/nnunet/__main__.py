"""Plans of nnU-Net v2 for the networks of this package.

python -m equivariant_nets.nnunet plan 4 --symmetry so3
python -m equivariant_nets.nnunet trainer
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from equivariant_nets.cli import command_line
from equivariant_nets.files import write_json
from equivariant_nets.nnunet.datasets import dataset_number, find_dataset, read_dataset, read_plans
from equivariant_nets.nnunet.plans import Planned, is_own, plan_network
from equivariant_nets.nnunet.symmetries import SYMMETRIES, Symmetry

TRAINER = "nnUNetTrainerEquivariant"
CONFIGURATIONS = {2: "2d", 3: "3d_fullres"}


def plan(
    dataset: str,
    *,
    symmetry: Symmetry,
    configuration: str | None = None,
    plans: str = "nnUNetPlans",
    name: str | None = None,
    gpu_memory_gb: float = 8.0,
    depth: int | None = None,
    features: int | str | None = None,
    group: str | None = None,
) -> str:
    """Write plans for a network of this package beside nnU-Net's, which share the preprocessed data.

    Patch and batch are at most those of nnU-Net's plans, and fit into the memory by an estimate.

    Args:
        dataset: its number or its name, in the folder that the environment variable nnUNet_preprocessed names.
        symmetry: of the network.
        configuration: of nnU-Net's plans; 3d_fullres, or 2d for e2, if none is given.
        plans: of nnU-Net, whose spacing, normalization and preprocessed data are taken over.
        name: of the new plans; SteerableUNetPlans for so3.
        gpu_memory_gb: what a training step may take, in 10^9 bytes.
        depth: number of halvings; that of nnU-Net's plans, and at most 3, if none is given.
        features: of the first level: irreps for so3 and o3, a number of fields or channels for the others.
        group: of octahedral, such as V4 or O_h, or of e2, such as C8 or D4.
    """
    choice = SYMMETRIES[symmetry]
    name = choice.plans_name if name is None else name
    configuration = configuration or CONFIGURATIONS[max(choice.spatial_dims)]
    try:
        _check(name, plans, gpu_memory_gb, group, symmetry)
        folder = find_dataset(dataset)
        found, description = read_plans(folder, plans), read_dataset(folder)
        path = folder / f"{name}.json"
        if path.exists() and not is_own(read_plans(folder, name)):
            raise ValueError(f"{path} holds other plans than those of this command. Give another --name.")
        planned = plan_network(
            found, description, configuration, symmetry, name, gpu_memory_gb, depth, features=features, group=group
        )
        _check_preprocessed(folder, planned.plans["configurations"][configuration], plans, configuration)
        write_json(path, planned.plans, indent=4)
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    return "\n".join(_summary(path, found, planned, configuration, gpu_memory_gb))


def trainer() -> str:
    """Print the folder of nnUNetTrainerEquivariant, which mirrors only where the group does not.

    It is what the environment variable nnUNet_extTrainer is for.
    """
    return str(Path(__file__).parent / "trainer")


def _check(name: str, plans: str, gpu_memory_gb: float, group: str | None, symmetry: Symmetry) -> None:
    if not re.fullmatch(r"[A-Za-z0-9]+(_[A-Za-z0-9]+)*", name):
        raise ValueError(
            f"--name {name} is no name of plans: give letters, digits and single underscores, without .json. nnU-Net "
            "makes names of folders of it."
        )
    if name == plans:
        raise ValueError(f"--name {name} is that of the plans to start from. Give another.")
    if not gpu_memory_gb > 0:
        raise ValueError(f"--gpu_memory_gb {gpu_memory_gb:g} is no memory: give a number above 0.")
    if group is not None and not SYMMETRIES[symmetry].has_group:
        others = [key for key, choice in SYMMETRIES.items() if choice.has_group]
        raise ValueError(f"--group {group} does not go with --symmetry {symmetry}, but with {' and '.join(others)}.")


def _check_preprocessed(folder: Path, own: dict[str, Any], plans: str, configuration: str) -> None:
    data = folder / own["data_identifier"]
    if not data.is_dir():
        raise ValueError(
            f"{data}, the preprocessed data of configuration {configuration}, is not there. Run nnUNetv2_preprocess "
            f"-d {dataset_number(folder)} -plans_name {plans} -c {configuration} first."
        )


def _summary(path: Path, found: dict[str, Any], planned: Planned, configuration: str, given_gb: float) -> list[str]:
    before, own = (plans["configurations"][configuration] for plans in (found, planned.plans))
    arguments = own["architecture"]["arch_kwargs"]
    spacing = "taken as equal" if arguments["spacing"] is None else f"taken as {_product(arguments['spacing'])}"
    needed_gb = planned.fit.needed_bytes / 1e9
    name = path.stem
    return [
        str(path),
        f"{own['architecture']['network_class_name']}, {planned.parameters:,} parameters, "
        f"{len(arguments['strides']) - 1} halvings",
        f"spacing {_product(before['spacing'])} mm, {spacing}",
        f"patch {_product(own['patch_size'])} (nnU-Net: {_product(before['patch_size'])}), "
        f"batch {own['batch_size']} ({before['batch_size']}): {needed_gb:.2g} of {given_gb:g} GB, by an estimate",
        f"nnUNetv2_train {dataset_number(path.parent)} {configuration} 0 -p {name}",
        f"or, with fewer mirror images: export nnUNet_extTrainer={trainer()}, and -tr {TRAINER} too",
    ]


def _product(sizes: list[float]) -> str:
    return " x ".join(f"{size:g}" for size in sizes)


cli = command_line(plan, trainer, help=__doc__)

if __name__ == "__main__":
    cli()
