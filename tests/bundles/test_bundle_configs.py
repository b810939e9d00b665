"""Laws between the files of bundles; the rules of every bundle are in ``equivariant_nets.zoo``, and tests/zoo."""

import importlib.metadata
import json
import re
import tomllib

import pytest
from bundle_files import BRAIN, BUNDLES, NAMES, RETINA, TUMOR, VOLUMES, config

import equivariant_nets

HIPPOCAMPUS = ["hippocampus_mri_so3_segmentation", "hippocampus_mri_conventional_segmentation"]
CONVENTIONAL, OCTAHEDRAL = (f"brain_structures_mri_{family}_segmentation" for family in ("conventional", "octahedral"))


def read(name, file):
    return json.loads((BUNDLES / name / "configs" / file).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("names", "network"),
    [
        (HIPPOCAMPUS, {"features", "network_def"}),
        (RETINA[::-1], {"features", "network_def", "group", "widths"}),
        ([f"brain_tumor_mri_{family}_segmentation" for family in ("so3", "conventional")], {"features", "network_def"}),
        ((OCTAHEDRAL, CONVENTIONAL), {"features", "network_def", "group", "separable"}),
    ],
    ids=["hippocampus", "retina", "tumour", "octahedral"],
)
def test_the_conventional_reference_differs_in_its_network_alone(names, network):
    for file, same_but in (("train.json", {"learning_rate"}), ("inference.json", {"threshold"})):
        equivariant, conventional = (read(name, file) for name in names)
        keys = equivariant.keys() | conventional.keys()
        different = {key for key in keys if equivariant.get(key) != conventional.get(key)}
        assert different - same_but == network
        for option in ("depth", "kernel_size"):
            assert equivariant["network_def"].get(option) == conventional["network_def"].get(option)
        # The steerable network of the hippocampus counts the content only; without filling, that is instance
        # normalization.
        normalizations = [net["network_def"].get("normalization", "instance") for net in (equivariant, conventional)]
        assert normalizations in (["content", "instance"], [normalizations[1]] * 2)


@pytest.mark.parametrize("name", ["rotation", "groups"])
def test_the_steerable_network_of_the_experiments_on_brains_differs_in_its_network_alone(name):
    """Its bundle has a recipe of its own; so the experiments give it that of the others."""
    text = (BUNDLES.parent / "experiments" / f"brain_structures_{name}.json").read_text(encoding="utf-8")
    steerable = json.loads(text)["networks"]["steerable"]
    assert steerable["bundle"] == CONVENTIONAL
    assert steerable["overrides"].keys() == {"network_def", "learning_rate"}
    own, other = steerable["overrides"]["network_def"], read(CONVENTIONAL, "train.json")["network_def"]
    assert own["_target_"] == "equivariant_nets.SteerableUNet"
    assert all(own.get(option) == other.get(option) for option in ("depth", "kernel_size", "normalization"))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_overridden_alike_is_called_alike_in_training_and_inference(name):
    train, inference = read(name, "train.json"), read(name, "inference.json")
    for key in ("features", "roi_size", "field_of_view_pixels", "spacing_mm", "ckpt_dir", "output_dir", "device"):
        assert train.get(key) == inference.get(key), key


@pytest.mark.parametrize("name", [name for name in VOLUMES if name not in TUMOR])
def test_class_counts_agree(name):
    train, meta, parser = read(name, "train.json"), read(name, "metadata.json"), config(name)
    names = parser.get_parsed_content("class_names")
    output = meta["network_data_format"]["outputs"]["pred"]
    channels = output["num_channels"]
    background, *classes = output["channel_def"].values()
    assert background == "background"
    assert all(short in long for short, long in zip(names, classes, strict=True))
    assert channels == len(names) + 1
    check = next(t for t in train["train"]["deterministic_transforms"] if t["_target_"].endswith("CheckVolumed"))
    whole_maps = name in BRAIN  # their labels become classes after the check
    assert check.get("num_classes") == (None if whole_maps else channels)
    assert parser.get_parsed_content("train#postprocessing#transforms#0#to_onehot") == channels
    labels = re.findall(r"(\d+): ([\w ]+)", meta["label_classes"])
    assert {key: value.strip() for key, value in labels} == output["channel_def"]


def test_bundles_require_what_the_project_depends_on():
    project = tomllib.loads((BUNDLES.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert importlib.metadata.version("equivariant-nets") == project["version"] == equivariant_nets.__version__
    needed = {re.match(r"[\w-]+", dependency)[0] for dependency in project["dependencies"]}
    for name in NAMES:
        assert needed - read(name, "metadata.json")["required_packages_version"].keys() <= {"torch", "monai", "numpy"}
