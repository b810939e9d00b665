"""What the benchmarks share: random images, versions and machine for the record, and tables."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import monai
import numpy as np
import scipy.ndimage
import torch
from torch import Tensor

import equivariant_nets


def noise(size: Sequence[int], seed: int) -> Tensor:
    """White noise, float64 ``(1, 1, *size)``."""
    return torch.from_numpy(np.random.RandomState(seed).normal(size=(1, 1, *size)))


def smooth_image(size: int, smoothness: float, seed: int) -> Tensor:
    """Gaussian-filtered noise in the ball that a turn keeps inside the volume, float64 ``(1, 1, size, size, size)``.

    Args:
        size: voxels of each side.
        smoothness: standard deviation of the filter, in voxels.
        seed: of the noise.
    """
    image = scipy.ndimage.gaussian_filter(noise([size] * 3, seed)[0, 0].numpy(), smoothness)
    radius = np.linalg.norm(np.indices(image.shape) - (size - 1) / 2, axis=0)
    window = np.clip(((size - 1) / 2 - radius) / (2 * smoothness), 0, 1)  # fades out, for an edge would not be smooth
    return torch.from_numpy(image / image.std() * window)[None, None]


def environment(device: torch.device) -> dict[str, str | int]:
    """What figures depend on beside the code."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "monai": monai.__version__,
        "equivariant_nets": equivariant_nets.__version__,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else []:
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print rows with equal keys as a Markdown table; lists and dicts are for the record alone."""
    header = [key for key, value in rows[0].items() if not isinstance(value, list | dict)]
    lines = [header, ["---"] * len(header), *([_text(row[key]) for key in header] for row in rows)]
    print("\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines))


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def write_json(path: str | None, content: dict[str, Any]) -> None:
    """Write the record of a run, where a path is given."""
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
