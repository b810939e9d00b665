"""The shipped weights fit their networks, and segment what their cards say."""

from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from monai.metrics import compute_dice
from monai.networks.utils import one_hot

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
NAMES = sorted(path.name for path in BUNDLES.iterdir() if path.is_dir())


def load(name, **overrides):
    parser = ConfigParser()
    parser.read_config(str(BUNDLES / name / "configs" / "train.json"))
    parser.update({"device": "$torch.device('cpu')", **overrides})
    network = parser.get_parsed_content("network_def")
    weights = torch.load(BUNDLES / name / "models" / "model.pt", weights_only=True)
    network.load_state_dict(weights, strict=True)
    return parser, network.eval()


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_finite_small_and_fit(name):
    _, network = load(name)
    assert all(value.isfinite().all() for value in network.state_dict().values())
    assert (BUNDLES / name / "models" / "model.pt").stat().st_size < 10 * 2**20


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("hippocampus")])
def test_weights_segment_unseen_hippocampi(name, real_hippocampus):
    parser, network = load(name, dataset_dir=str(real_hippocampus))
    preprocessing = parser.get_parsed_content("validate#preprocessing")
    scores = []
    for item in parser.get_parsed_content("evaluation_data")[:5]:
        case = preprocessing(item)
        with torch.no_grad():
            prediction = network(case["image"][None]).argmax(1, keepdim=True)
        scores.append(compute_dice(one_hot(prediction, 3), one_hot(case["label"][None], 3), include_background=False))
    assert torch.cat(scores).mean() > 0.8
