"""Memory of segmenting many volumes of different shapes with a shipped bundle: does it grow?

    python benchmarks/memory_over_volumes.py [--volumes 1000] [--output memory_over_volumes.json]

The bundle's own ``inference.json`` runs, with its weights, on noise: every volume has a shape of its own, drawn from a
seed. Memory is what the process holds (resident) behind each ``every`` volumes. Volumes of one shape (``--one_shape``)
are what to compare with.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import psutil
import torch
from common import environment, print_table, write_json
from ignite.engine import Events
from monai.bundle import ConfigWorkflow

from equivariant_nets.cli import command_line

BUNDLES = Path(__file__).resolve().parents[1] / "bundles"
MB = 1e6


def write_volumes(folder: Path, shapes: Sequence[Sequence[int]], seed: int) -> None:
    """Write noise of 1 mm, one file for each shape."""
    generator = np.random.default_rng(seed)
    for index, shape in enumerate(shapes):
        voxels = generator.normal(100, 20, size=shape).astype(np.float32)
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), folder / f"volume_{index:04d}.nii")


def main(
    *,
    bundle: str = "hippocampus_mri_so3_segmentation",
    volumes: int = 200,
    smallest: int = 24,
    largest: int = 48,
    one_shape: bool = False,
    every: int = 50,
    seed: int = 0,
    threads: int | None = None,
    output: str | None = None,
) -> list[dict[str, Any]]:
    """Segment, print a table, and return its rows.

    Args:
        bundle: name of a bundle of volumes.
        volumes: how many.
        smallest, largest: bounds of the sides of a volume, in voxels.
        one_shape: whether all have the same shape, the middle of the bounds.
        every: volumes from one row of the table to the next.
        seed: of shapes and noise.
        threads: of the CPU; as torch chooses if None.
        output: JSON file to write.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    shapes = np.random.default_rng(seed).integers(smallest, largest, size=(volumes, 3), endpoint=True)
    if one_shape:
        shapes[:] = (smallest + largest) // 2
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        images.mkdir()
        write_volumes(images, shapes.tolist(), seed)
        own = {"dataset_dir": str(images), "output_dir": str(Path(folder) / "results")}
        root = BUNDLES / bundle
        workflow = ConfigWorkflow(
            str(root / "configs" / "inference.json"), workflow_type="inference", logging_file=False,
            bundle_root=str(root), **own,
        )  # fmt: skip
        workflow.initialize()

        def measure(engine: Any) -> None:
            rows.append({"volumes": engine.state.iteration, "memory, MB": psutil.Process().memory_info().rss / MB})

        workflow.evaluator.add_event_handler(Events.ITERATION_COMPLETED(every=every), measure)
        workflow.run()
        workflow.finalize()
    print_table(rows)
    record = {"bundle": bundle, "smallest": smallest, "largest": largest, "one_shape": one_shape, "seed": seed}
    write_json(output, {**environment(torch.device("cpu")), **record, "rows": rows})
    return rows


cli = command_line(main)

if __name__ == "__main__":
    cli()
