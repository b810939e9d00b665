"""Time and memory of segmenting one large volume with a bundle's own network, windows and inferer.

    python benchmarks/inference.py [--bundles brain_tumor_mri_so3_segmentation] [--output inference.json]

Each bundle runs in a process of its own, on noise of the size of a BraTS volume, with random weights: neither time nor
memory depends on them. The peak is that of the whole process; what it was before the first window stands beside it.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from common import environment, print_table, write_json
from monai.bundle import ConfigParser
from tqdm import tqdm

from equivariant_nets.cli import command_line
from equivariant_nets.inference.memory import SlidingWindowMemory

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
TUMOUR_BUNDLES = [f"brain_tumor_mri_{kind}_segmentation" for kind in ("so3", "conventional", "scale")]
GB = 1e9
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes that ru_maxrss counts in


def one(bundle: str, *, size: Sequence[int], roi_size: Sequence[int] | None = None, threads: int | None = None) -> None:
    """Measure one bundle in this process, and print the row as JSON."""
    if threads is not None:
        torch.set_num_threads(threads)
    parser = ConfigParser()
    parser.read_config(str(BUNDLES / bundle / "configs" / "inference.json"))
    if roi_size is not None:
        parser["roi_size"] = list(roi_size)
    device = parser.get_parsed_content("device")
    network = parser.get_parsed_content("network").eval()
    inferer = parser.get_parsed_content("inferer")
    volume_device = parser.get("volume_device", str(device))
    image = torch.randn(1, network.in_channels, *size, generator=torch.Generator().manual_seed(0)).to(volume_device)
    window, _ = inferer.windows(size, parser["roi_size"])
    memory = SlidingWindowMemory(image, network, inferer.sw_batch_size, device, volume_device)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT
    start = time.perf_counter()
    with torch.no_grad():
        inferer(image, network)
    seconds = time.perf_counter() - start
    row = {
        "bundle": bundle,
        "parameters": sum(p.numel() for p in network.parameters()),
        "window": "x".join(map(str, window)),
        "seconds": seconds,
        "estimate, GB": sum(need.needed_bytes for need in memory.needs(window)) / GB,
        "peak of the process, GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT / GB,
        "before, GB": before / GB,
    }
    if device.type == "cuda":
        row["peak on the GPU, GB"] = torch.cuda.max_memory_allocated(device) / GB
    print(json.dumps(row))


def main(
    *,
    bundles: Sequence[str] | None = None,
    size: Sequence[int] = (240, 240, 155),
    roi_size: Sequence[int] | None = None,
    threads: int | None = None,
    output: str | None = None,
) -> list[dict[str, Any]]:
    """Measure, print a table, and return its rows.

    Args:
        bundles: names of bundles of volumes; those of brain tumours if None.
        size: of the volume, in voxels.
        roi_size: of the windows; that of each bundle if None.
        threads: of the CPU; as torch chooses if None.
        output: JSON file to write.

    Raises:
        ValueError: there is no such bundle.
    """
    names = list(bundles or TUMOUR_BUNDLES)
    if unknown := [name for name in names if not (BUNDLES / name / "configs" / "inference.json").is_file()]:
        raise ValueError(f"bundles {unknown} are not in {BUNDLES}.")
    rows = []
    for name in tqdm(names, unit="bundle"):
        arguments = {"size": size, "roi_size": roi_size, "threads": threads}
        options = [f"--{key}={json.dumps(value)}" for key, value in arguments.items() if value is not None]
        command = [sys.executable, __file__, "one", name, *options]
        result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows.append(json.loads(result.stdout.splitlines()[-1]))
    print_table(rows)
    write_json(output, {**environment(torch.device("cpu")), "size": list(size), "networks": rows})
    return rows


cli = command_line(main)
cli.command(one, show=False)

if __name__ == "__main__":
    cli()
