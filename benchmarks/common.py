"""What the benchmarks share: versions and machine for the record, and tables."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import equivariant_nets


def environment(device: torch.device) -> dict[str, str | int]:
    """What figures depend on beside the code."""
    processor = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            processor = line.split(":", 1)[1].strip()
            break
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "equivariant_nets": equivariant_nets.__version__,
    }


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    """Print rows with equal keys as a Markdown table."""
    header = list(rows[0])
    lines = [header, ["---"] * len(header), *([_text(row[key]) for key in header] for row in rows)]
    print("\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines))


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def write_json(path: str | None, content: dict[str, Any]) -> None:
    """Write the record of a run, where a path is given."""
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
