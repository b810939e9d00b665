"""The shipped weights fit their networks, and segment what their cards say."""

import monai.bundle
import pytest
import torch
from bundle_files import BRAIN, BUNDLES, NAMES, load_shipped
from monai.metrics import compute_dice
from monai.networks.utils import one_hot
from monai.utils import set_determinism


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_finite_small_and_fit(name):
    _, network = load_shipped(name)
    assert all(value.isfinite().all() for value in network.state_dict().values())
    assert (BUNDLES / name / "models" / "model.pt").stat().st_size < 10 * 2**20


@pytest.mark.parametrize("name", NAMES)
def test_monai_loads_a_bundle_where_none_of_its_data_is(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    network = monai.bundle.load(name, bundle_dir=BUNDLES)
    set_determinism(None)
    _, expected = load_shipped(name)
    assert type(network) is type(expected)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in expected.state_dict().items())


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("hippocampus")])
def test_weights_segment_unseen_hippocampi(name, real_hippocampus):
    parser, network = load_shipped(name, dataset_dir=str(real_hippocampus))
    preprocessing = parser.get_parsed_content("validate#preprocessing")
    scores = []
    for item in parser.get_parsed_content("evaluation_data")[:5]:
        case = preprocessing(item)
        with torch.no_grad():
            prediction = network(case["image"][None]).argmax(1, keepdim=True)
        scores.append(compute_dice(one_hot(prediction, 3), one_hot(case["label"][None], 3), include_background=False))
    assert torch.cat(scores).mean() > 0.8


def test_the_hippocampus_of_the_other_side_is_found_as_the_first(real_hippocampus):
    parser, network = load_shipped("hippocampus_mri_o3_segmentation", dataset_dir=str(real_hippocampus))
    item = parser.get_parsed_content("evaluation_data")[0]
    image = parser.get_parsed_content("validate#preprocessing")(item)["image"][None].as_tensor()
    with torch.no_grad():
        own, other = network(image), network(image.flip(2)).flip(2)
    assert torch.allclose(other, own, atol=1e-3)
    assert len(own.argmax(1).unique()) == 3


@pytest.mark.parametrize("name", [name for name in NAMES if name in BRAIN])
def test_weights_segment_an_unseen_brain(name, real_brain_structures):
    few_windows = {"validate#inferer#overlap": 0.25}
    parser, network = load_shipped(name, dataset_dir=str(real_brain_structures), **few_windows)
    case = parser.get_parsed_content("validate#preprocessing")(parser.get_parsed_content("evaluation_data")[0])
    inferer = parser.get_parsed_content("validate#inferer")
    with torch.no_grad():
        prediction = inferer(case["image"][None].as_tensor(), network).argmax(1, keepdim=True)
    label = case["label"][None].as_tensor()
    classes = len(parser.get_parsed_content("class_names")) + 1
    scores = compute_dice(one_hot(prediction, classes), one_hot(label, classes), include_background=False)
    assert scores.mean() > 0.8
    assert scores.min() > 0.6
