"""Commands of bundles, printed before they run."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["BUNDLES", "bundle_run"]

BUNDLES = Path(__file__).resolve().parent.parent / "bundles"


def bundle_run(bundle: Path, configs: Sequence[str | Path], **overrides: object) -> None:
    """Run a bundle and let its progress bars through.

    Args:
        bundle: its folder.
        configs: names of its own configs, or paths of others; overlays after them.
        overrides: values at the top of the configs.

    Raises:
        SystemExit: the command failed.
    """
    paths = [str(bundle / "configs" / config) for config in configs]  # a path that is absolute stays
    command = [sys.executable, "-m", "monai.bundle", "run", "--bundle_root", str(bundle), "--config_file", str(paths)]
    for key, value in overrides.items():
        command += [f"--{key}", str(value)]
    print("\n$ " + shlex.join(command), flush=True)
    if (code := subprocess.run(command, check=False).returncode) != 0:
        raise SystemExit(f"The command above failed with exit code {code}; its last lines say why.")
