"""Laws of the bundles' files: what the Model Zoo asks for, and that no file contradicts another."""

import ast
import importlib.metadata
import json
import re
import tomllib
from pathlib import Path

import monai.bundle
import pytest
import torch
from monai.bundle import ConfigParser, ReferenceResolver
from monai.bundle.config_item import ConfigComponent
from monai.utils import optional_import, set_determinism

import equivariant_nets

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.name for path in (ROOT / "bundles").iterdir())
HIPPOCAMPUS = ["hippocampus_mri_so3_segmentation", "hippocampus_mri_conventional_segmentation"]
BRAIN = [f"brain_structures_mri_{family}_segmentation" for family in ("so3", "conventional", "octahedral")]
RETINA = ["retina_vessels_fundus_e2_segmentation", "retina_vessels_fundus_conventional_segmentation"]
TUMOR = [f"brain_tumor_mri_{family}_segmentation" for family in ("so3", "conventional", "scale")]
VOLUMES = [name for name in NAMES if name not in RETINA]
WORKFLOWS = {
    "train": ["train.json"],
    "evaluate": ["train.json", "evaluate.json"],
    "multi_gpu_train": ["train.json", "multi_gpu_train.json"],
    "inference": ["inference.json"],
}
TINY_FEATURES = {**dict.fromkeys(RETINA, (1, 2, 1, 2)), "brain_tumor_mri_scale_segmentation": 1, BRAIN[2]: 1}
every_bundle = pytest.mark.parametrize("name", NAMES)
every_workflow = pytest.mark.parametrize("files", WORKFLOWS.values(), ids=WORKFLOWS)


def path_of(name, file):
    return ROOT / "bundles" / name / "configs" / file


def read(name, file):
    return json.loads(path_of(name, file).read_text(encoding="utf-8"))


def merged(name, files):
    parser = ConfigParser()
    parser.read_config([str(path_of(name, file)) for file in files])
    parser.read_meta(str(path_of(name, "metadata.json")))
    parser.parse()
    return parser


def leaves(node, where=()):
    """All values of a config that hold no others, with their ids."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else None
    if children is None:
        yield "::".join(where), node
        return
    for key, child in children:
        yield from leaves(child, (*where, str(key)))


def test_all_bundles_are_here():
    assert set(NAMES) == {*HIPPOCAMPUS, *RETINA, *TUMOR, *BRAIN, "phantom_so3_segmentation"}


@every_bundle
def test_configs_hold_no_absolute_path(name):
    files = sorted(path_of(name, "train.json").parent.glob("*.json"))
    texts = [value for file in files for _, value in leaves(read(name, file.name)) if isinstance(value, str)]
    assert len(texts) > 100
    assert [text for text in texts if re.search(r"(^|[\s'\"(])(/|~|[A-Za-z]:[\\/])\w", text)] == []


@every_bundle
@every_workflow
def test_every_reference_leads_somewhere(name, files):
    parser = merged(name, files)
    missing = []
    for where, value in leaves(parser.get()):
        if isinstance(value, str) and not where.startswith("_meta_"):
            references = ReferenceResolver.match_refs_pattern(value)
            missing += [(where, reference) for reference in references if reference not in parser]
    assert missing == []


@every_bundle
@every_workflow
def test_every_expression_is_one_of_python(name, files):
    parser = merged(name, files)
    for where, value in leaves(parser.get()):
        if isinstance(value, str) and value.startswith("$"):
            for number, reference in enumerate(sorted(ReferenceResolver.match_refs_pattern(value), reverse=True)):
                value = value.replace(f"@{reference}", f"reference_{number}")
            ast.parse(value[1:], filename=where)


@every_bundle
@every_workflow
def test_every_target_can_be_imported(name, files):
    parser, targets = merged(name, files), []
    for where, value in leaves(parser.get()):
        if where.endswith("_target_"):
            component = ConfigComponent({"_target_": value}, id=where, locator=parser.locator)
            targets.append((where, value, component.resolve_module_name()))
    assert len(targets) >= 10
    for where, value, resolved in targets:
        module, _, attribute = resolved.rpartition(".")
        _, found = optional_import(module, name=attribute)
        assert found, f"{where}: {value}"
        assert value == resolved or "." not in value  # short names are found in MONAI


@pytest.mark.parametrize("file", ["evaluate.json", "multi_gpu_train.json", "logging.conf"])
@pytest.mark.parametrize("names", [VOLUMES, RETINA], ids=["volumes", "retina"])
def test_what_bundles_share_is_the_same_in_all(file, names):
    first, *others = [path_of(name, file).read_bytes() for name in names]
    assert all(other == first for other in others)


@pytest.mark.parametrize(
    ("names", "network"),
    [
        (HIPPOCAMPUS, {"features", "network_def"}),
        (RETINA, {"features", "network_def", "group", "widths"}),
        (TUMOR[:2], {"features", "network_def"}),
        (BRAIN[:2], {"features", "network_def"}),
        (BRAIN[:0:-1], {"features", "network_def", "group", "separable"}),
    ],
    ids=["hippocampus", "retina", "tumour", "brain", "octahedral"],
)
def test_the_conventional_reference_differs_in_its_network_alone(names, network):
    for file, same_but in (("train.json", {"learning_rate"}), ("inference.json", {"threshold"})):
        equivariant, conventional = (read(name, file) for name in names)
        keys = equivariant.keys() | conventional.keys()
        different = {key for key in keys if equivariant.get(key) != conventional.get(key)}
        assert different - same_but == network
        for option in ("depth", "kernel_size", "normalization"):
            assert equivariant["network_def"].get(option) == conventional["network_def"].get(option)


def for_the_image(transform):
    """What a transform of an image and its label does to the image."""
    ignored = ("label_key", "num_classes", "keys", "allow_missing_keys")
    kept = {key: value for key, value in transform.items() if key not in ignored}
    several = isinstance(transform.get("keys"), list) and isinstance(transform.get("mode"), list)
    return {key: value[0] if several and key == "mode" else value for key, value in kept.items()}


@pytest.mark.parametrize("name", RETINA)
def test_inference_finds_vessels_as_training_learned(name):
    train, inference = read(name, "train.json"), read(name, "inference.json")
    for key in ("network_def", "network", "features", "roi_size", "field_of_view_pixels", "device"):
        assert train[key] == inference[key], key
    assert train["validate"]["inferer"] == inference["inferer"]
    learned = train["train"]["loading_transforms"] + train["train"]["standardizing_transforms"]
    learned = [for_the_image(t) for t in learned if t["_target_"] != "AsDiscreted"]
    assert learned == [for_the_image(t) for t in inference["preprocessing"]["transforms"]]


@pytest.mark.parametrize("name", VOLUMES)
def test_inference_segments_as_training_learned(name):
    train, inference = read(name, "train.json"), read(name, "inference.json")
    for key in ("network_def", "network", "features", "roi_size", "ckpt_dir", "ckpt_path", "output_dir", "device"):
        assert train[key] == inference[key], key
    assert train["validate"]["inferer"] == inference["inferer"]
    learned = [t for t in train["train"]["deterministic_transforms"] if t.get("keys") != "label"]
    assert [for_the_image(t) for t in learned] == [for_the_image(t) for t in inference["preprocessing"]["transforms"]]
    assert train["validate"]["preprocessing"]["transforms"] == "@train#deterministic_transforms"


@pytest.mark.parametrize("name", [name for name in VOLUMES if name not in TUMOR])
def test_class_counts_agree(name):
    train, meta = read(name, "train.json"), read(name, "metadata.json")
    output = meta["network_data_format"]["outputs"]["pred"]
    channels = output["num_channels"]
    background, *classes = output["channel_def"].values()
    assert background == "background"
    assert all(short in long for short, long in zip(train["class_names"], classes, strict=True))
    assert len(output["channel_def"]) == channels == len(train["class_names"]) + 1
    check = next(t for t in train["train"]["deterministic_transforms"] if t["_target_"].endswith("CheckVolumed"))
    whole_maps = name in BRAIN  # their labels become classes after the check
    assert check.get("num_classes") == (None if whole_maps else channels)
    assert train["train"]["postprocessing"]["transforms"][0]["to_onehot"] == channels
    labels = re.findall(r"(\d): ([\w ]+)", meta["label_classes"])
    assert {key: value.strip() for key, value in labels} == output["channel_def"]


@every_bundle
def test_metadata_has_what_the_zoo_requires(name):
    meta = read(name, "metadata.json")
    texts = ["schema", "version", "monai_version", "pytorch_version", "numpy_version", "task", "description", "authors"]
    assert all(isinstance(meta[key], str) and meta[key] for key in [*texts, "copyright"])
    assert "optional_packages_version" not in meta
    assert re.search(r"/meta_schema_\d{8}\.json$", meta["schema"])
    assert meta["name"] == name
    tensors = [meta["network_data_format"]["inputs"]["image"], meta["network_data_format"]["outputs"]["pred"]]
    for tensor in tensors:
        assert {"type", "format", "num_channels", "spatial_shape", "dtype", "value_range"} <= tensor.keys()
        assert len(tensor["channel_def"]) == tensor["num_channels"]
        assert list(tensor["channel_def"]) == [str(channel) for channel in range(tensor["num_channels"])]


def pinned_versions():
    return dict(
        re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE)
    )


@every_bundle
def test_versions_are_those_that_are_pinned_and_released(name):
    meta = read(name, "metadata.json")
    required = dict(meta["required_packages_version"])
    assert meta["version"] == required.pop("equivariant_nets") == equivariant_nets.__version__
    assert meta["version"] in meta["changelog"]
    assert importlib.metadata.version("equivariant-nets") == meta["version"]
    required |= {"monai": meta["monai_version"], "torch": meta["pytorch_version"], "numpy": meta["numpy_version"]}
    pinned = pinned_versions()
    assert required == {package: pinned[package] for package in required}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {re.match(r"[\w-]+", dependency).group() for dependency in project["dependencies"]} <= required.keys()


@every_bundle
@pytest.mark.parametrize("config", ["train.json", "inference.json"])
@pytest.mark.parametrize("n", [1, 5])
def test_the_network_takes_and_gives_what_metadata_says(name, config, n):
    monai.bundle.verify_net_in_out(
        net_id="network_def", meta_file=str(path_of(name, "metadata.json")), config_file=str(path_of(name, config)),
        device="cpu", n=n, features=TINY_FEATURES.get(name, 3 if "conventional" in name else "2x0e+1x1e"),
    )  # fmt: skip


@every_bundle
def test_no_property_of_a_workflow_is_missing(name, get_bundle, shared_cases, shared_photographs, shared_brains):
    bundle = get_bundle(name)
    configs = bundle.root / "configs"
    images = shared_photographs / "drive" / "test" / "images" if name in RETINA else shared_cases / "imagesTr"
    images = bundle.tiny["dataset_dir"] if name in TUMOR else images
    images = shared_brains["miccai"] / "images" if name in BRAIN else images
    inference = {"features": bundle.tiny["features"], "dataset_dir": str(images)}
    for kind, config, overrides in (("train", "train.json", bundle.tiny), ("inference", "inference.json", inference)):
        workflow = monai.bundle.create_workflow(
            config_file=str(configs / config), workflow_type=kind, logging_file=False, bundle_root=str(bundle.root),
            **overrides,
        )  # fmt: skip
        assert workflow.check_properties() == []
        assert isinstance(workflow.network_def, torch.nn.Module)
        assert workflow.version == equivariant_nets.__version__
    set_determinism(None)
