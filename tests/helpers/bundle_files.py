"""The bundles as they are shipped, and a command on them that is killed."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import torch
from monai.bundle import ConfigParser

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
SCHEMA = BUNDLES.parent / "tests" / "zoo" / "meta_schema_20240725.json"  # that of the Model Zoo
NAMES = sorted(path.parent.name for path in BUNDLES.glob("*/configs"))
RETINA = [name for name in NAMES if name.startswith("retina")]
VOLUMES = [name for name in NAMES if name not in RETINA]
TUMOR = [name for name in NAMES if name.startswith("brain_tumor")]
BRAIN = [name for name in NAMES if name.startswith("brain_structures")]


def config(name, file="train.json", **overrides):
    """A parsed config of a bundle on the CPU."""
    parser = ConfigParser()
    parser.read_config(str(BUNDLES / name / "configs" / file))
    parser.update({"device": "$torch.device('cpu')", **overrides})
    return parser


def weights(path):
    """A saved state dict."""
    return torch.load(path, weights_only=True)


def load_shipped(name, **overrides):
    """The training config of a bundle on the CPU, and its network with the shipped weights, in evaluation mode."""
    parser = config(name, **overrides)
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(weights(BUNDLES / name / "models" / "model.pt"), strict=True)
    return parser, network.eval()


def kill_when_it_writes(path, command, cwd):
    """Start a command and kill it, without any warning, as soon as a file is there."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=cwd, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as run:
        while run.poll() is None and not path.exists():
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
        _, errors = run.communicate()
    assert run.returncode == -signal.SIGKILL, errors.decode()


def copy_bundle(name, folder):
    """The configs of a bundle alone: results and weights go to the copy where nothing else is said."""
    shutil.copytree(BUNDLES / name / "configs", folder / name / "configs")
    return folder / name
