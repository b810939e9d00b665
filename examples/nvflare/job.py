"""Train a bundle at several sites by NVIDIA FLARE: federated averaging, in its simulator.

python examples/nvflare/job.py a=data/hospital_a b=data/hospital_b \
    --bundle bundles/hippocampus_mri_so3_segmentation --output_dir output/federated
"""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import torch
from client import KEY_METRIC, PROBLEM
from monai.bundle import ConfigParser
from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe
from nvflare.recipe import SimEnv, set_per_site_config

from equivariant_nets.cli import command_line
from equivariant_nets.ownership import FolderLock
from equivariant_nets.training.checkpoints import read_weights
from equivariant_nets.training.weights import load_weights


def run(
    *sites: str,
    bundle: Path,
    output_dir: Path,
    rounds: int = 2,
    overrides: Path | None = None,
    ckpt_path: Path | None = None,
) -> str:
    """Simulate a federated training on this machine, a process for each site.

    Args:
        sites: NAME=FOLDER of each site and its data.
        bundle: folder of the bundle.
        output_dir: receives model.pt, the weights of the best round, final.pt, those of the last one, and a folder for
            each site.
        rounds: how often the weights are averaged; each site trains an epoch in between.
        overrides: JSON file of values of the bundle's train.json.
        ckpt_path: weights to begin with; random ones by default.
    """
    output_dir, bundle = output_dir.absolute(), bundle.absolute()
    folders = {name: Path(folder).absolute() for name, _, folder in (site.partition("=") for site in sites)}
    for site, folder in folders.items():
        if not folder.is_dir():
            sys.exit(f"The data of the site {site} is {folder}, which is no folder. Give NAME=FOLDER for each site.")
    if len(folders) < 2 or rounds < 2:  # the sites validate what the round before has averaged
        sys.exit(
            f"{len(folders)} sites and {rounds} rounds were given. Give two or more sites as NAME=FOLDER, and rounds."
        )
    try:
        FolderLock(output_dir).acquire()
    except (OSError, RuntimeError) as error:
        sys.exit(str(error))
    network, weights = begin(bundle, overrides, ckpt_path)
    torch.save(weights, output_dir / "initial.pt")
    recipe = FedAvgRecipe(
        name="flare",
        model=network,
        initial_ckpt=str(output_dir / "initial.pt"),
        min_clients=len(folders),
        num_rounds=rounds,
        train_script=str(Path(__file__).with_name("client.py")),
        key_metric=KEY_METRIC,
    )
    options = ["--bundle", str(bundle), "--rounds", str(rounds)]
    options += ["--overrides", str(overrides.absolute())] if overrides else []
    for_site = {
        site: shlex.join([*options, "--dataset_dir", str(folder), "--output_dir", str(output_dir / site)])
        for site, folder in folders.items()
    }
    set_per_site_config(recipe, {site: {"train_args": arguments} for site, arguments in for_site.items()})
    try:
        recipe.execute(SimEnv(clients=list(folders), num_threads=len(folders), workspace_root=str(output_dir)))
    except RuntimeError as error:
        files = {site: output_dir / site / PROBLEM for site in folders}
        told = {site: file.read_text(encoding="utf-8") for site, file in files.items() if file.is_file()}
        sys.exit("\n".join(f"The site {site} failed: {text}" for site, text in told.items()) or str(error))
    results = output_dir / "flare" / "server" / "simulate_job" / "app_server"
    for name, kept in (("best_FL_global_model.pt", "model.pt"), ("FL_global_model.pt", "final.pt")):
        averaged = read_weights(results / name)["model"]
        # Means are floating point, also those of the whole numbers by which batch norm counts its batches.
        torch.save({key: value.to(weights[key].dtype) for key, value in averaged.items()}, output_dir / kept)
    return f"The weights are {output_dir / 'model.pt'}, the best of those that all sites validated."


def begin(
    bundle: Path, overrides: Path | None, ckpt_path: Path | None
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """The class and arguments of the network, and its first weights.

    NVIDIA FLARE would read the arguments of a network itself back from attributes of their names.
    """
    parser = ConfigParser()
    parser.read_config(str(bundle / "configs" / "train.json"))
    given = json.loads(overrides.read_text(encoding="utf-8")) if overrides else {}
    if unknown := [key for key in given if key.partition("#")[0] not in parser]:
        sys.exit(
            f"{overrides} overrides {', '.join(unknown)}, which {bundle.name} has not. Legal are those of train.json."
        )
    if "initial_weights" in given:
        sys.exit(f"{overrides} overrides initial_weights, which the server sends: give --ckpt_path in their place.")
    parser.update({**given, "bundle_root": str(bundle)})
    arguments = {key: parser.get_parsed_content(f"network_def#{key}") for key in parser["network_def"]}
    torch.manual_seed(0)
    network = parser.get_parsed_content("network_def")
    if ckpt_path:
        load_weights(network, ckpt_path, bundle)
    return {"class_path": arguments.pop("_target_"), "args": arguments}, network.state_dict()


if __name__ == "__main__":
    command_line(run)()
