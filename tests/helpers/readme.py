"""The commands of README.md and of the pages that go on from it, and how a user's shell runs them."""

import os
import re
import subprocess
from pathlib import Path

from fresh import python

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("README.md", "docs/use.md", "docs/compare.md", "docs/how_to/tilt.md", "docs/how_to/onnx.md")


def blocks(page, kinds="sh"):
    """The blocks of code of a page in their order, each with its kind; several kinds are joined by ``|``."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```({kinds})\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(code):
    """The commands of a block, each on one line and without its comment."""
    for command in re.split(r"(?<!\\)\n", code):
        if command.strip() and not command.startswith("#"):
            yield re.sub(r"\s+", " ", re.sub(r"\s+#.*", "", command.replace("\\\n", " "))).strip()


# Several pages may set the same variable, for each is read alone.
COMMANDS = list(dict.fromkeys(command for page in PAGES for _, code in blocks(page) for command in commands(code)))


def run(command, folder, variables=COMMANDS):
    """Run a command in a folder, with the variables that some of the commands set."""
    variables = [line for line in variables if re.fullmatch(r"\w+=\S+", line)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder), "PYTHONUNBUFFERED": "1"}
    environment["PATH"] = f"{Path(python()).parent}{os.pathsep}{environment['PATH']}"
    script = "\n".join(["set -e", *variables, command])
    return subprocess.run(
        ["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
