"""The bundles as they are shipped."""

from pathlib import Path

import torch
from monai.bundle import ConfigParser

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
NAMES = sorted(path.name for path in BUNDLES.iterdir() if path.is_dir())
RETINA = [name for name in NAMES if name.startswith("retina")]
VOLUMES = [name for name in NAMES if name not in RETINA]
TUMOR = [name for name in NAMES if name.startswith("brain_tumor")]
BRAIN = [name for name in NAMES if name.startswith("brain_structures")]
WITHOUT_WEIGHTS = [*TUMOR, *(name for name in BRAIN if "so3" not in name)]  # not trained, or too large
SHIPPED = [name for name in NAMES if name not in WITHOUT_WEIGHTS]


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
