"""Vessels in fundus photographs: sample efficiency under an orientation shift, and a picture of turned photographs.

    python benchmarks/vessels.py few_samples DATA --output output/few_samples_0.json --seeds "[0]"
    python benchmarks/vessels.py table "output/few_samples_*.json"
    python benchmarks/vessels.py picture DATA output/turned_vessels.png

DATA is a folder with drive/ and chase_db1/, see equivariant_nets.data.retina_datalist. Networks, preprocessing,
augmentation and loss are those of the retina bundles.
"""

from __future__ import annotations

import glob
import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
import torch
from common import environment, print_table, write_json
from monai.bundle import ConfigParser
from monai.data import DataLoader
from monai.transforms import Rotated
from monai.utils import set_determinism
from tqdm import tqdm

from equivariant_nets.cli import command_line
from equivariant_nets.data import PatchDataset
from equivariant_nets.evaluation.metrics import PooledScores
from equivariant_nets.evaluation.vessels import predict_vessels

matplotlib.use("Agg", force=False)
import matplotlib.pyplot as plt

BUNDLES = Path(__file__).parents[1] / "bundles"
DATASETS = ["drive", "chase_db1"]
SEEN, UNSEEN = [0, 1], [2, 3]  # directions of vessels
# Bundle, and what is overridden of its training configuration.
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "D8": ("e2", {"group": "D8"}),
    "C4": ("e2", {"group": "C4"}),
    "conventional": ("conventional", {}),
}


def configuration(network: str, dataset_dir: str, names: Sequence[str] = ("train.json",), **overrides: Any) -> Any:
    """The parsed configuration of a bundle."""
    bundle, own = NETWORKS[network]
    folder = BUNDLES / f"retina_vessels_fundus_{bundle}_segmentation"
    parser = ConfigParser()
    parser.read_config([str(folder / "configs" / name) for name in names])
    for key, value in {"bundle_root": str(folder), "dataset_dir": dataset_dir, **own, **overrides}.items():
        parser[key] = value
    return parser


def few_samples(
    dataset_dir: str,
    *,
    seeds: Sequence[int] = (0, 1),
    counts: Sequence[int] = (20, 200, 2000),
    augmentations: Sequence[str] = ("none", "full"),
    networks: Sequence[str] = tuple(NETWORKS),
    steps: int = 300,
    batch_size: int = 8,
    patch_size: int = 64,
    test_patches: int = 400,
    bfloat16: Literal[True, False] = False,
    output: str | None = None,
) -> list[dict[str, Any]]:
    """Train on few patches whose vessels run in two of four directions, and test on the other two.

    Training and validation patches are dominated by vessels of the directions 0-90 degrees; test patches, of other
    photographs, by those of 90-180 degrees (shifted) or 0-90 degrees (not shifted). Every network sees the same
    patches, as often. The threshold is that of the best Dice on the validation patches.

    Args:
        dataset_dir: the folder that holds drive and chase_db1.
        seeds: of the pools, the networks and the order of patches.
        counts: sizes of the pools of training patches.
        augmentations: of the bundles.
        networks: keys of NETWORKS.
        steps: of Adam, with a cosine schedule from the bundle's learning rate.
        batch_size: patches a step.
        patch_size: in pixels, where the field of view has 540.
        test_patches: of each test.
        bfloat16: train in mixed precision.
        output: JSON file to write.
    """
    sections: dict[str, Any] = {}
    for section in ("training", "validation", "test"):
        parser = configuration("conventional", dataset_dir, datasets=DATASETS)
        parser["train#images#data#section"] = section
        sections[section] = parser.get_parsed_content("train#images")

    def patches(section: str, count: int, directions: Sequence[int], seed: int) -> PatchDataset:
        return PatchDataset(sections[section], patch_size, count, count, directions, seed=seed)

    tests = {
        "validation": patches("validation", test_patches, SEEN, 1000),
        "Dice, shifted": patches("test", test_patches, UNSEEN, 1000),
        "Dice, not shifted": patches("test", test_patches, SEEN, 1001),
    }
    batches = {name: next(iter(DataLoader(pool, batch_size=test_patches))) for name, pool in tests.items()}
    rows = []
    runs = list(itertools.product(seeds, counts, augmentations, networks))
    for seed, count, augmentation, network in tqdm(runs, desc="networks", unit="run"):
        start = time.perf_counter()
        pool = patches("training", count, SEEN, seed)
        net = train(network, dataset_dir, augmentation, pool, seed, steps, batch_size, bfloat16)
        scores = {name: score(net, batch) for name, batch in batches.items()}
        threshold = scores.pop("validation").best_threshold()
        row = {"network": network, "augmentation": augmentation, "patches": count, "seed": seed}
        row |= {name: own.at(threshold)["dice"] for name, own in scores.items()}
        rows.append({**row, "seconds": time.perf_counter() - start})
        sizes = {"steps": steps, "batch_size": batch_size, "patch_size": patch_size, "test_patches": test_patches}
        write_json(output, {**environment(torch.device("cpu")), **sizes, "bfloat16": bfloat16, "rows": rows})
    print_table(rows)
    return rows


def train(
    network: str,
    dataset_dir: str,
    augmentation: str,
    pool: PatchDataset,
    seed: int,
    steps: int,
    batch_size: int,
    bfloat16: bool,
) -> torch.nn.Module:
    """A network after some steps on patches of a pool."""
    parser = configuration(network, dataset_dir, augmentation=augmentation, bfloat16=bfloat16)
    set_determinism(seed)
    net = parser.get_parsed_content("network_def")
    loss = parser.get_parsed_content("loss")
    inferer = parser.get_parsed_content("train#inferer")
    pool.transform = parser.get_parsed_content("train#preprocessing")
    pool.length = steps * batch_size
    optimizer = torch.optim.Adam(net.parameters(), parser.get_parsed_content("learning_rate"))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    net.train()
    for batch in DataLoader(pool, batch_size=batch_size, shuffle=True):
        optimizer.zero_grad()
        loss(inferer(batch["image"].as_tensor(), net), batch["label"].as_tensor()).backward()
        optimizer.step()
        schedule.step()
    set_determinism(None)
    return net.eval()


@torch.no_grad()
def score(net: torch.nn.Module, batch: dict[str, Any]) -> PooledScores:
    """Pixels of patches, within the field of view, at every threshold."""
    scores = PooledScores()
    images, labels, masks = (batch[key].as_tensor() for key in ("image", "label", "mask"))
    for part in zip(images.split(50), labels.split(50), masks.split(50), strict=True):
        scores.update(torch.sigmoid(net(part[0])), *part[1:])
    return scores


def table(files: str) -> list[dict[str, Any]]:
    """Means and deviations over the seeds of the records that a pattern matches."""
    rows = [row for path in sorted(glob.glob(files)) for row in json.loads(Path(path).read_text())["rows"]]
    summary = []
    grouped = [list(dict.fromkeys(row[key] for row in rows)) for key in ("augmentation", "network")]
    for augmentation, network in itertools.product(*grouped):
        line: dict[str, Any] = {"rotation augmentation": augmentation, "network": network}
        own = [row for row in rows if (row["augmentation"], row["network"]) == (augmentation, network)]
        for name, count in itertools.product(
            ("Dice, shifted", "Dice, not shifted"), sorted({r["patches"] for r in own})
        ):
            values = [row[name] for row in own if row["patches"] == count]
            line[f"{name}, {count} patches"] = f"{np.mean(values):.3f} ± {np.std(values):.3f}"
        summary.append(line)
    print_table(summary)
    print(f"\n{len({row['seed'] for row in rows})} seeds: mean ± deviation")
    return summary


def turned(photograph: dict[str, Any], degrees: float) -> dict[str, Any]:
    """A loaded photograph, turned by cubic splines on a canvas that holds all of it."""
    keys, modes, padding = ["image", "mask"], [3, "bilinear"], ["constant", "zeros"]
    turn = Rotated(keys, float(np.deg2rad(degrees)), keep_size=False, mode=modes, padding_mode=padding)
    result = {key: photograph[key] for key in keys}
    if degrees:
        result = turn(result)
        result["mask"] = (result["mask"] > 0.5).to(torch.float32)
    return result


def picture(dataset_dir: str, path: str, *, dataset: str = "chase_db1", case: int = 0, columns: int = 4) -> str:
    """Draw a test photograph turned in steps of 30 degrees, with the vessels that both bundles' weights find in it.

    Args:
        dataset_dir: the folder that holds the data set.
        path: the PNG to write.
        dataset: its name.
        case: number of the test photograph.
        columns: angles in a row, from 0 in steps of 30 degrees.
    """
    angles = [30 * step for step in range(columns)]
    photographs: list[dict[str, Any]] = []
    found: dict[str, list[torch.Tensor]] = {"D8": [], "conventional": []}
    for network, probabilities in found.items():
        overrides = {"datasets": [dataset], "test_datasets": [dataset], "device": "cpu"}
        parser = configuration(network, dataset_dir, ("train.json", "evaluate.json"), **overrides)
        net = parser.get_parsed_content("network_def")
        net.load_state_dict(torch.load(Path(parser["bundle_root"], "models", "model.pt"), map_location="cpu"))
        if not photographs:
            item = parser.get_parsed_content("loading")(parser.get_parsed_content("evaluation_data")[case])
            photographs = [turned(item, angle) for angle in angles]
        inferer = parser.get_parsed_content("validate#inferer")
        standardizing = parser.get_parsed_content("train#standardizing_transforms")
        probabilities += [predict_vessels(net, inferer, standardizing, item)[0] for item in photographs]
    figure, axes = plt.subplots(3, columns, figsize=(3 * columns, 9), layout="constrained")
    for column, angle in enumerate(angles):
        axes[0, column].imshow(photographs[column]["image"].permute(2, 1, 0).clamp(0, 255) / 255)
        axes[0, column].set_title(f"{angle}°")
        for row, network in enumerate(("D8", "conventional"), start=1):
            axes[row, column].imshow(found[network][column].T, cmap="gray", vmin=0, vmax=1)
        inside = photographs[column]["mask"][0].nonzero()
        (left, top), (right, bottom) = inside.amin(0).tolist(), inside.amax(0).tolist()
        for axis in axes[:, column]:
            axis.set(xlim=(left, right), ylim=(bottom, top))
    for row, name in enumerate(("photograph", "D8", "conventional")):
        axes[row, 0].set_ylabel(name)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=70, bbox_inches="tight")
    return path


cli = command_line(few_samples, table, picture, help=__doc__)

if __name__ == "__main__":
    cli()
