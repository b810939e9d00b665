"""The law of fingerprints over all bundles: what reaches the objects that decide changes them, and nothing else."""

import copy
import json
import re
import shutil

import pytest
import torch
from bundle_files import BUNDLES, NAMES, RETINA
from monai.bundle import ConfigParser
from monai.bundle.reference_resolver import ReferenceResolver

from equivariant_nets.fingerprints import differences, fingerprint

# What CohortEvaluator and TrainingState take a fingerprint of, but for the data.
DECIDE = {
    "inference.json": ("preprocessing", "inferer", "postprocessing", "network_def"),
    "train.json": (
        "network_def", "loss", "optimizer", "lr_scheduler", "train#preprocessing", "train#inferer", "train#interaction",
        "train#dataset", "train#dataloader", "validate#preprocessing", "validate#inferer", "validate#early_stop",
    ),
}  # fmt: skip
# Data that is never read: the law is about what is done with it.
ITEMS = [{"image": "image", "label": "label"}] * 3
LISTS = ("train#dataset#data", "train#images#data", "validate#dataset#data")
# Other legal values, where a number is not made another or a word not made longer.
OTHERS = {
    "content": "instance",
    "RAS": "LPS", "bilinear": "nearest", "nearest": "bilinear", "bicubic": "bilinear", "one_hot": "nearest",
    "border": "zeros", "zeros": "border", "reflection": "border", "gaussian": "constant", "longest": "all",
    "instance": "batch", "batch": "instance", "none": "lattice", "full": "moderate", "moderate": "full",
    "PILReader": "NibabelReader", "equivariant_nets.data.PhotographReader": "PILReader",
    "PILWriter": "NibabelWriter", "blur": "average", "D8": "C4", "V4": "O", "O3": "SO3",
    "dice_ce": "dice", "regions": "classes", "silu": "relu", "mean": "max",
    "structures": "sides", "sides": "structures",
    "$torch.uint8": "$torch.int16", "$numpy.uint8": "$numpy.uint16", "constant": "reflect", "edge": "reflect",
    "$math.pi": "$math.pi / 2", "$math.radians(20)": "$math.radians(10)",
}  # fmt: skip
IN_MEMORY = "cache_cases"  # how many cases stay there changes none of them
# The dimensions are those of the group, the depth that of the widths of each level; a sampler forbids to shuffle; sides
# need reflections, and classes that have them.
LEGAL_WITH_OTHERS = {
    "network_def#spatial_dims", "network_def#depth", "train#dataloader#shuffle", "network_def#sides#group", "targets",
}  # fmt: skip
ALIKE_ALONG_ALL_AXES = {"brain_structures_mri_sides_segmentation": {f"spacing_mm#{axis}" for axis in range(3)}}
TABLE = re.compile(r"^\$@([\w#]+)\[@(\w+)\]$")  # one of several values, by its name
_known = {}


def read(name, file):
    return json.loads((BUNDLES / name / "configs" / file).read_text(encoding="utf-8"))


def get(config, id):
    """What stands under an id, such as ``a#b#0``."""
    for key in id.split("#"):
        config = config[int(key) if isinstance(config, list) else key]
    return config


def has(config, id):
    try:
        get(config, id)
    except (KeyError, IndexError, TypeError, ValueError):
        return False
    return True


def leaves(config, id):
    """The leaves below an id, and below all that it refers to."""
    found, waiting, seen = {}, [id], set()
    while waiting:
        id = waiting.pop()
        if id in seen or not has(config, id):
            continue
        seen.add(id)
        value = get(config, id)
        if isinstance(value, dict):
            waiting += [f"{id}#{key}" for key in value]
        elif isinstance(value, list):
            waiting += [f"{id}#{index}" for index in range(len(value))]
        elif isinstance(value, str) and (match := TABLE.match(value)):
            waiting += [match[2], f"{match[1]}#{get(config, match[2])}"]
        elif isinstance(value, str) and "@" in value:
            waiting += ReferenceResolver.match_refs_pattern(value)
        else:
            found[id] = value
    return found


def others(value):
    """Values to put in place of one; the first that is legal there is taken."""
    if isinstance(value, bool):
        return [not value]
    if value is None:
        return [1, [1, 1, 1], 0.5, "other", True]
    if isinstance(value, int | float):
        return [value + 1, value + 2, value + 9, value / 2]
    if value in OTHERS:
        return [OTHERS[value]]
    if "$" in value:
        return [re.sub(r"val_", "other_", value) if "val_" in value else re.sub(r"\d(?=\D*$)", "7", value)]
    if re.fullmatch(r"[\dx+eo]+", value):  # irreps
        return [re.sub(r"^\d+", "6", value)]
    return [f"{value}_other"]


def is_a_place(id):
    return re.search(r"(dir|path|root|device|num_workers|resume)$", id) is not None


def build(config, id):
    """One object of a config, on the CPU, without data."""
    config = copy.deepcopy(config)
    for place in LISTS:
        if has(config, place):
            get(config, place.rsplit("#", 1)[0])["data"] = ITEMS
    for cached in ("train#dataset", "train#images", "validate#dataset"):
        if has(config, cached) and get(config, cached)["_target_"] == "CacheDataset":
            get(config, cached)["cache_num"] = 0
    config["device"] = "$torch.device('cpu')"
    parser = ConfigParser(config)
    result = parser.get_parsed_content(id)
    if id == "optimizer":  # with what acts before its steps
        for index, handler in enumerate(config["train"]["handlers"]):
            if handler["_target_"].endswith("GradientClipper"):
                parser.get_parsed_content(f"train#handlers#{index}").attach(None)
    return result.batch_sampler if id == "train#dataloader" else result


def leaves_of(config, id):
    """What decides about an object; of an optimizer what acts before its steps too, and not the network's own."""
    found = leaves(config, id)
    if id == "optimizer" and "max_gradient_norm" in config:
        found |= leaves(config, "max_gradient_norm")
    if id in ("optimizer", "lr_scheduler"):
        found = {leaf: value for leaf, value in found.items() if leaf not in leaves(config, "network_def")}
    elsewhere = [leaf for place in LISTS for leaf in leaves(config, place)]
    return {leaf: value for leaf, value in found.items() if leaf not in elsewhere}


def fingerprint_of(config, id):
    """Of one object, computed once for all bundles whose configs are the same there."""
    key = json.dumps([id, leaves_of(config, id), get(config, id)], sort_keys=True)
    if key not in _known:
        torch.manual_seed(0)
        _known[key] = fingerprint(item=build(config, id))
    return _known[key]


def changed(config, leaf, value):
    config = copy.deepcopy(config)
    above, _, key = leaf.rpartition("#")
    owner = get(config, above) if above else config
    owner[int(key) if isinstance(owner, list) else key] = value
    return config


CASES = [(name, file, id) for name in NAMES for file, ids in DECIDE.items() for id in ids if has(read(name, file), id)]


@pytest.mark.parametrize(("name", "file", "id"), CASES)
def test_every_leaf_that_reaches_an_object_that_decides_changes_its_fingerprint(name, file, id):
    config = read(name, file)
    before = fingerprint_of(config, id)
    unseen = []
    for leaf, value in leaves_of(config, id).items():
        if leaf.rpartition("#")[2] in ("_target_", "_mode_") or is_a_place(leaf) or leaf == IN_MEMORY:
            continue
        tried = []
        for other in others(value):
            try:
                now = fingerprint_of(changed(config, leaf, other), id)
            except Exception as error:  # no legal value
                tried.append(f"{other!r} {error.__cause__ or error}")
                continue
            if not differences(before, now):
                unseen.append(f"{leaf}: {value!r} -> {other!r} changes nothing")
            break
        else:
            if leaf in LEGAL_WITH_OTHERS | ALIKE_ALONG_ALL_AXES.get(name, set()):
                continue
            unseen.append(f"{leaf}: {value!r} has no other legal value among {tried}")
    assert unseen == []


@pytest.mark.parametrize(("name", "file"), [(name, file) for name in NAMES for file in DECIDE])
def test_places_devices_and_workers_do_not_count_and_building_twice_changes_nothing(name, file, tmp_path):
    config = read(name, file)
    elsewhere = copy.deepcopy(config)
    for key in config:
        if is_a_place(key) and key not in ("device", "resume"):
            elsewhere[key] = 3 if key == "num_workers" else str(tmp_path / key)
    for id in DECIDE[file]:
        if has(config, id):
            first, again, other = (fingerprint(item=build(c, id)) for c in (config, config, elsewhere))
            assert differences(first, again) == ""
            assert differences(first, other) == ""


@pytest.mark.parametrize("name", NAMES)
def test_the_data_of_a_training_count_by_their_number_and_content_and_not_by_their_place(name, get_bundle, tmp_path):
    bundle = get_bundle(name)

    def cases(folder, **overrides):
        parser = ConfigParser()
        parser.read_config(str(bundle.root / "configs" / "train.json"))
        parser.update({**bundle.tiny, "dataset_dir": str(folder), "output_dir": str(tmp_path), **overrides})
        return parser.get_parsed_content("train#images#data" if name in RETINA else "train#dataset#data")

    source = bundle.tiny["dataset_dir"]
    before = fingerprint(data=cases(source))
    copied = shutil.copytree(source, tmp_path / "copied")
    assert fingerprint(data=cases(copied)) == before
    if len(cases(source)) > 1 and name not in RETINA:
        assert differences(before, fingerprint(data=cases(source, train_cases=1))) != ""
    for path in (path for path in copied.rglob("*") if path.suffix in (".gz", ".tif", ".jpg", ".gif", ".png")):
        path.write_bytes(path.read_bytes() + b"\0")
    assert "sha256" in differences(before, fingerprint(data=cases(copied)))


def test_the_two_kinds_of_law_are_about_something():
    """So that the walk through the configs cannot be empty without notice."""
    for name in NAMES:
        for file, ids in DECIDE.items():
            config = read(name, file)
            found = {leaf for id in ids if has(config, id) for leaf in leaves_of(config, id)}
            assert "network_def#_target_" in found
            assert len(found) > (25 if file == "inference.json" else 30)
