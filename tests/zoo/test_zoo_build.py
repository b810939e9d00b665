"""Laws of building: the committed configs are what the sources say, and a source reaches what extends it alone."""

import json
import shutil

import pytest
from bundle_files import BRAIN, BUNDLES, NAMES, RETINA, TUMOR, VOLUMES
from damages import says
from monai.bundle import ConfigParser

from equivariant_nets.zoo import build_bundle, check_bundle
from equivariant_nets.zoo.__main__ import cli
from equivariant_nets.zoo.build import built_configs
from equivariant_nets.zoo.inference import listed, taken_from_training

SMALL = "phantom_so3_segmentation"
CLICKS = "hippocampus_mri_so3_deepedit"
HIPPOCAMPUS = [name for name in NAMES if name.startswith("hippocampus")]
TRAIN, BOTH = {"train.json"}, {"train.json", "inference.json"}


class Collection:
    """A copy of all bundles, without their weights, and of their sources.

    Args:
        root: its folder.
    """

    def __init__(self, root):
        self.root = root

    def edit(self, file, change):
        """Change the content of a file of JSON in place."""
        path = self.root / file
        content = json.loads(path.read_text(encoding="utf-8"))
        change(content)
        path.write_text(json.dumps(content, indent=4), encoding="utf-8")

    def build(self):
        """The files that building all bundles writes, by the name of the bundle; empty ones are left out."""
        written = {name: {*build_bundle(self.root / name)} for name in NAMES}
        return {name: files for name, files in written.items() if files}

    def config(self, name, file):
        return json.loads((self.root / name / "configs" / file).read_text(encoding="utf-8"))


@pytest.fixture
def collection(tmp_path):
    return Collection(shutil.copytree(BUNDLES, tmp_path / "bundles", ignore=shutil.ignore_patterns("*.pt", "*.png")))


def put(part, id, value):
    def change(content):
        content.setdefault(part, {})[id] = value

    return change


@pytest.mark.parametrize("name", NAMES)
def test_every_bundle_is_built_exactly_as_it_is_committed(name):
    folder = BUNDLES / name / "configs"
    committed = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    del committed["metadata.json"]  # which is written by hand
    assert built_configs(BUNDLES / name) == committed


@pytest.mark.parametrize("name", NAMES)
def test_a_bundle_is_written_in_a_few_lines(name):
    authored = (BUNDLES / name / "bundle.json").read_text(encoding="utf-8").splitlines()
    shipped = sum(len(text.splitlines()) for text in built_configs(BUNDLES / name).values())
    assert len(authored) < 40 < shipped / 15


@pytest.mark.parametrize(
    ("source", "part", "id", "value", "names", "files"),
    [
        ("segmentation", "train", "seed", 7, NAMES, TRAIN),
        ("segmentation", "multi_gpu_train", "finalize", [], NAMES, {"multi_gpu_train.json"}),
        ("volumes", "train", "sweep_random_poses", 7, VOLUMES, TRAIN),
        ("volumes", "evaluate", "run", [], VOLUMES, {"evaluate.json"}),
        ("photographs", "train_and_inference", "field_of_view_pixels", 7, RETINA, BOTH),
        ("hippocampus", "train_and_inference", "class_names", ["head", "body"], HIPPOCAMPUS, BOTH),
        ("phantom", "train", "num_test", 7, [SMALL], TRAIN),
        ("large_volumes", "train_and_inference", "volume_device", "cuda", [*BRAIN, *TUMOR], BOTH),
        ("brain_structures", "train_and_inference", "check_skull", False, BRAIN, BOTH),
        ("brain_tumor", "train", "num_workers", 7, TUMOR, TRAIN),
        ("clicks", "evaluate_clicks", "+run", [], [CLICKS], {"evaluate_clicks.json"}),
    ],
)
def test_a_value_of_a_source_reaches_the_bundles_that_extend_it_and_no_other(
    source, part, id, value, names, files, collection
):
    assert collection.build() == {}
    collection.edit(f"sources/{source}.json", put(part, id, value))
    assert collection.build() == dict.fromkeys(names, files)
    if not id.startswith("+"):
        assert all(collection.config(name, file)[id] == value for name in names for file in files)
    assert collection.build() == {}


def test_the_logging_of_all_bundles_is_one_file(collection):
    (collection.root / "sources" / "logging.conf").write_text("[loggers]\n", encoding="utf-8")
    assert collection.build() == {name: {"logging.conf"} for name in NAMES}


def test_one_source_gives_all_volumes_a_preprocessing_step_in_training_and_inference(collection):
    step = {"_target_": "ThresholdIntensityd", "keys": ["image", "label"], "threshold": 0, "mode": ["a", "b"]}
    piece, place = "@pieces#normalize", "train#deterministic_transforms"

    def insert(source):
        source["pieces"]["threshold"] = step
        source["train"][place] = source["train"][place].replace(piece, f"@pieces#threshold + {piece}")

    collection.edit("sources/volumes.json", insert)
    assert collection.build() == dict.fromkeys(VOLUMES, BOTH)
    for name in VOLUMES:
        train = ConfigParser(collection.config(name, "train.json"))
        train = listed(train, train["validate#preprocessing#transforms"])  # of training and validation
        inference = collection.config(name, "inference.json")["preprocessing"]["transforms"]
        for transforms, found in ((train, step), (inference, {**step, "keys": ["image"], "mode": "a"})):
            behind = [step for step in transforms[transforms.index(found) + 1 :] if step["keys"] != "label"]
            assert behind[0]["_target_"].split(".")[-1] in ("NormalizeIntensityd", "NormalizeContentd")


@pytest.mark.parametrize("name", NAMES)
def test_inference_does_to_the_image_what_training_does(name):
    """By the rule itself: with the configs as they are committed, and what photographs load alone."""
    train, inference = (json.loads(built_configs(BUNDLES / name)[f"{file}.json"]) for file in ("train", "inference"))
    taken = taken_from_training(ConfigParser(train))
    if name in RETINA:
        taken["preprocessing"]["transforms"][1]["allow_missing_keys"] = True  # a mask of the field of view
    assert {key: inference[key] for key in taken} == taken
    for key in ("network_def", "network", "ckpt_path"):
        assert inference[key] == train[key]
    assert '"label"' not in json.dumps(inference["preprocessing"])


def test_inference_takes_of_transforms_what_is_of_the_image():
    first = [
        {"_target_": "A", "keys": ["label", "image", "mask"], "mode": [1, 2, 3], "allow_missing_keys": True},
        {"_target_": "B", "keys": "label"},
        {"_target_": "C", "keys": ["label"]},
    ]
    second = [
        {"_target_": "D", "image_keys": "image", "label_key": "label", "num_classes": 3},
        {"_target_": "E", "keys": ["image", "label"], "padding_mode": ["border", "zeros"], "pixdim": [1, 2]},
        "$@a_transform",
    ]
    config = {
        "first": first,
        "second": second,
        "validate": {
            "preprocessing": {"_target_": "Compose", "transforms": "$@first + @second"},
            "inferer": {"_target_": "I"},
        },
    }
    expected = [
        {"_target_": "A", "keys": ["image", "mask"], "mode": [2, 3]},
        {"_target_": "D", "image_keys": "image"},
        {"_target_": "E", "keys": ["image"], "padding_mode": "border", "pixdim": [1, 2]},
        "$@a_transform",
    ]
    taken = taken_from_training(ConfigParser(config))
    assert taken == {"preprocessing": {"_target_": "Compose", "transforms": expected}, "inferer": {"_target_": "I"}}


def test_a_user_finds_options_before_components_and_targets_first():
    config = json.loads(built_configs(BUNDLES / "brain_structures_mri_octahedral_segmentation")["train.json"])
    keys = list(config)
    assert keys[0] == "imports"
    assert keys[-2:] == ["initialize", "run"]
    options, first = {"group", "separable", "features", "spacing_mm", "dataset_dir", "learning_rate"}, "ckpt_path"
    assert options <= {*keys[: keys.index(first)]}
    assert {"network_def", "network", "sweep_data", "train", "validate"} <= {*keys[keys.index(first) :]}
    assert next(iter(config["train"]["dataset"]["data"])) == "_target_"


def remove(file):
    return lambda bundle: (bundle / "configs" / file).unlink()


def rewrite(file, change):
    def damage(bundle):
        path = bundle / "configs" / file
        path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")

    return damage


@pytest.mark.parametrize(
    ("damage", "finding"),
    [
        (
            rewrite("train.json", lambda text: text.replace('"batch_size": 1,', '"batch_size": 2,', 1)),
            "train.json: is not what bundle.json says at batch_size: 2, not 1",
        ),
        (
            rewrite("inference.json", lambda text: text.replace('"axcodes": "RAS"', '"axcodes": "LPS"')),
            "inference.json: is not what .* at preprocessing at transforms at 2 at axcodes: 'LPS', not 'RAS'",
        ),
        (
            rewrite("train.json", lambda text: text.replace('    "seed": 0,\n', "", 1)),
            "train.json: .*: seed is missing",
        ),
        (
            rewrite("train.json", lambda text: text.replace("{", '{\n    "own": 1,', 1)),
            "train.json: .*: own is too many",
        ),
        (
            rewrite("evaluate.json", lambda text: json.dumps(json.loads(text))),
            "evaluate.json: is not what bundle.json says, in its order or its spaces",
        ),
        (rewrite("logging.conf", lambda text: text + "\n"), "logging.conf: is not what bundle.json says"),
        (remove("evaluate_clicks.json"), "evaluate_clicks.json: missing, and bundle.json says it"),
    ],
)
def test_a_config_that_was_edited_by_hand_is_told_until_it_is_built(damage, finding, collection):
    bundle = collection.root / CLICKS
    damage(bundle)
    found = [one for one in check_bundle(bundle, quick=True) if "bundle.json" in one]
    assert len(found) == 1
    assert says(found, finding), found
    assert found[0].endswith(f"run python -m equivariant_nets.zoo build {bundle}")
    build_bundle(bundle)
    assert not says(check_bundle(bundle, quick=True), "bundle.json")


def test_a_config_that_nothing_says_is_told(collection):
    shutil.copy(collection.root / CLICKS / "configs" / "evaluate_clicks.json", collection.root / SMALL / "configs")
    found = check_bundle(collection.root / SMALL, quick=True)
    assert says(found, "evaluate_clicks.json: no part of bundle.json says it. Remove it, or write that part")


def test_a_bundle_away_from_its_sources_is_checked_without_them(collection):
    shutil.rmtree(collection.root / "sources")
    collection.edit(f"{SMALL}/configs/train.json", lambda config: config.update(batch_size=2))
    assert not says(check_bundle(collection.root / SMALL, quick=True), "bundle.json")


def test_a_new_bundle_needs_no_configs_to_be_built(collection):
    (collection.root / "new").mkdir()
    shutil.copy(collection.root / SMALL / "bundle.json", collection.root / "new")
    files = {path.name for path in (collection.root / SMALL / "configs").iterdir()} - {"metadata.json"}
    assert {*build_bundle(collection.root / "new")} == files


OWN = {"extends": ["phantom"]}
BAD = {
    "missing": (None, "bundle.json: missing; a bundle is built of it"),
    "no JSON": ("{", "bundle.json: no JSON .*line 1"),
    "a list": ([], "bundle.json: the top is list; legal is an object of extends, pieces, train_and_inference"),
    "unknown source": ({"extends": ["phantoms"]}, "bundle.json: extends 'phantoms'; legal are brain_structures, .*vol"),
    "no list": ({"extends": "phantom"}, "bundle.json: extends is 'phantom'; legal is a list of names of sources"),
    "unknown part": (
        {**OWN, "trian": {}},
        "bundle.json: there is no part 'trian'; legal are extends, pieces, train_and",
    ),
    "no object": ({**OWN, "train": []}, "bundle.json: train is list; legal is an object of values by their ids"),
    "unknown id": ({**OWN, "train": {"trian#dataset": 1}}, "bundle.json: train sets trian#dataset, but nothing"),
    "too far": ({**OWN, "pieces": {"training#9#x": 1}}, "bundle.json: pieces sets training#9#x, but nothing"),
    "adds to none": ({**OWN, "pieces": {"+chek": []}}, r"bundle.json: pieces sets \+chek, but nothing"),
    "one alone": ({**OWN, "inference": {"roi_size": 1}}, "inference sets roi_size, which training and inference have"),
    "part alone": ({**OWN, "train": {"roi_size#0": 1}}, "train sets roi_size#0, which training and"),
    "an inferer": ({**OWN, "inference": {"inferer": 1}}, "inference sets inferer, which training and inference have"),
    "unknown piece": (
        {**OWN, "train": {"x": "@pieces#chek"}},
        "bundle.json: '@pieces#chek' refers to @pieces#chek, which",
    ),
    "one item": ({**OWN, "train": {"x": "$@pieces#load[0]"}}, r"bundle.json: '\$@pieces#load\[0\]' is no list; legal"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_a_bad_bundle_is_told_and_nothing_is_written(content, message, collection):
    path = collection.root / SMALL / "bundle.json"
    path.unlink()
    if content is not None:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        build_bundle(path.parent)
    assert str(caught.value).startswith(str(path))
    if content is not None:
        assert says(check_bundle(path.parent, quick=True), message)
    assert collection.config(SMALL, "train.json") == json.loads(built_configs(BUNDLES / SMALL)["train.json"])


def test_sources_that_extend_each_other_are_told(collection):
    collection.edit("sources/segmentation.json", lambda source: source.update(extends=["phantom"]))
    circle = r"segmentation.json -> phantom.json -> volumes.json -> segmentation.json|phantom.json -> volumes.json -> "
    with pytest.raises(ValueError, match=rf"extends itself \(({circle})"):
        build_bundle(collection.root / SMALL)


def test_the_command_builds_all_and_leaves_the_sources_out(collection, capsys):
    folders = [str(path) for path in sorted(collection.root.iterdir()) if path.is_dir()]
    assert str(collection.root / "sources") in folders
    collection.edit("sources/photographs.json", put("train", "patience", 7))
    cli(["build", *folders])
    *written, last = capsys.readouterr().out.splitlines()
    assert written == [str(collection.root / name / "configs" / "train.json") for name in RETINA]
    assert last == f"{len(NAMES)} bundles, 2 files written"
    (collection.root / SMALL / "bundle.json").write_text("{")
    with pytest.raises(SystemExit, match=r"(?s)bundle.json: no JSON.*error: 1 of \d+ bundles were not built"):
        cli(["build", *folders])
    with pytest.raises(SystemExit, match="No bundle was given"):
        cli(["check", str(collection.root / "sources")])
