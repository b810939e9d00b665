"""The commands of README.md, and how a user's shell runs them."""

import os
import re
import subprocess
from pathlib import Path

from fresh import python

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = [
    re.sub(r"\s+", " ", re.sub(r"\s+#.*", "", command.replace("\\\n", " "))).strip()
    for block in re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    for command in re.split(r"(?<!\\)\n", block)
    if command.strip() and not command.startswith("#")
]


def run(command, folder):
    """Run a command in a folder, with the variables that README.md sets before it."""
    variables = [line for line in COMMANDS if re.fullmatch(r"\w+=\S+", line)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder), "PYTHONUNBUFFERED": "1"}
    environment["PATH"] = f"{Path(python()).parent}{os.pathsep}{environment['PATH']}"
    script = "\n".join(["set -e", *variables, command])
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
