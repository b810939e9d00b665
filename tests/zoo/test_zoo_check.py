"""The check finds nothing wrong with the bundles, and each of its rules fires on a bundle that breaks it."""

import json

import pytest
from bundle_files import BUNDLES, NAMES
from damages import IMAGE, PRED, edit, meta, remove, replace, says, write
from fresh import run_module
from monai.bundle import ConfigParser
from monai.utils import OptionalImportError

from equivariant_nets.zoo import check_bundle
from equivariant_nets.zoo.__main__ import cli
from equivariant_nets.zoo.bundle import workflow_files
from equivariant_nets.zoo.card import weights_licence

LARGE = {"path": "models/model.pt", "url": "https://example.org/model.pt", "hash_type": "md5", "hash_val": "0" * 32}
CARD = "docs/README.md"


@pytest.mark.parametrize("name", NAMES)
def test_every_bundle_is_sound(name):
    assert check_bundle(BUNDLES / name) == []


def test_the_command_passes_on_all_bundles():
    command = ["equivariant_nets.zoo", "check", "--quick", *(f"bundles/{name}/" for name in NAMES)]
    result = run_module(*command, cwd=BUNDLES.parent)
    assert result.returncode == 0, result.stdout
    assert result.stdout.splitlines() == [f"{len(NAMES)} bundles, no findings"]


def test_the_whole_check_is_a_command_too():
    result = run_module("equivariant_nets.zoo", "check", "bundles/phantom_so3_segmentation", cwd=BUNDLES.parent)
    assert result.returncode == 0, result.stdout
    assert result.stdout.splitlines()[-1] == "1 bundles, no findings"


def enlarge(bundle):
    with (bundle.root / "models" / "model.pt").open("r+b") as file:
        file.truncate(26 * 10**6)


def link_out(file):
    """Put a link to what lies outside in the place of a file, or of the folder that holds it."""

    def link(bundle):
        outside = bundle.root.parent / "outside"
        path = bundle.root / file
        if path.is_dir():
            path.rename(outside)
        else:
            outside.write_text("private")
        path.symlink_to(outside)

    return link


def list_large(**entry):
    return write("large_files.json", json.dumps({"large_files": [{**LARGE, **entry}]}))


# What is done to a sound bundle, and what the check says of it.
FILES = {
    "no licence": (remove("LICENSE"), "LICENSE: missing"),
    "no card": (remove(CARD), "README.md: missing"),
    "no training": (remove("configs/train.json"), "train.json: missing"),
    "no metadata": (remove("configs/metadata.json"), "metadata.json: missing"),
    "empty": (write("docs/data_license.txt", ""), "data_license.txt: empty"),
    "left behind": (write("configs/monailabel_train.json", "{}"), "no archive takes this file"),
    "a link out": (
        link_out("docs/picture.png"),
        "picture.png: leads out of the bundle, to .*outside, which an archive",
    ),
    "a folder that is a link": (link_out("docs"), "README.md: leads out of the bundle, to .*outside/README.md"),
    "large": (enlarge, "26.0 MB; legal are 25 MB"),
    "weights": (remove("models/model.pt"), "the bundle has no models/model.pt, and its card does not say so. Put them"),
    "hash missing": (list_large(hash_val=""), "'models/model.pt' has no hash_val"),
    "hash unknown": (list_large(hash_type="crc"), "hash_type 'crc'; legal are md5, sha1, sha256, sha512"),
    "hash short": (list_large(hash_val="0"), "legal are 32 digits of md5"),
    "large files broken": (write("large_files.json", "["), "large_files.json: cannot be read"),
    "large files of none": (write("large_files.json", "{}"), "large_files is None; legal is a list"),
}
METADATA = {
    "broken": (write("configs/metadata.json", '{"name": }'), "metadata.json: no JSON .*line 1 column 10"),
    "list": (write("configs/metadata.json", "[]"), "the top is list; legal is an object"),
    "name": (meta(name="other"), "name is 'other'; legal is that of the folder"),
    "text": (meta(task=...), "task is None; legal is a text"),
    "blank": (meta(copyright=" "), "copyright is ' '; legal is a text"),
    "old name": (meta(optional_packages_version={}), "optional_packages_version is the old name"),
    "schema": (meta(schema="schema.json"), "schema is 'schema.json'; legal is the address"),
    "version": (meta(version="1.0"), "version is '1.0'; legal is MAJOR.MINOR.PATCH"),
    "changelog": (meta(changelog={"0.0.1": "first"}), "changelog has no entry"),
    "other version": (meta(version="9.0.0"), "version is '9.0.0'; legal is '[.0-9]+', that of the package"),
    "package": (meta(required_packages_version={}), "has equivariant_nets None; legal is"),
    "packages": (meta(required_packages_version=[]), r"required_packages_version is \[\]; legal is an object"),
    "dependency": (meta(**{"required_packages_version#scipy": ...}), "has no scipy, which equivariant_nets needs"),
    "pin": (meta(**{"required_packages_version#scipy": "1.0.0"}), "scipy is '1.0.0'; legal is .*requirements.txt"),
    "pinned MONAI": (meta(monai_version="1.5.0"), "monai_version is '1.5.0'; legal is"),
    "no tensors": (meta(network_data_format=[]), "outputs.pred is None; legal is an object"),
    "tensor type": (meta(**{f"{IMAGE}#type": ...}), "inputs.image.type is None"),
    "shape": (meta(**{f"{IMAGE}#spatial_shape": ["*"]}), r"spatial_shape is \['\*'\]; legal is a list of 2 or 3"),
    "range": (meta(**{f"{PRED}#value_range": [0]}), r"pred.value_range is \[0\]; legal is a list of two"),
    "channels": (meta(**{f"{IMAGE}#num_channels": 0}), "num_channels is 0; legal is a whole number from 1"),
    "names": (meta(**{f"{PRED}#channel_def#3": ...}), "channel_def is .*; legal is a name for each of '0' to '3'"),
}  # fmt: skip
CONFIGS = {
    "path": (edit("configs/train.json", dataset_dir="/data/phantoms"), "train.json: /data/phantoms is the path of one"),
    "path of Windows": (edit("configs/evaluate.json", output_dir="C:\\out"), r"C:\\\\out is the path of one machine"),
    "path in the card": (replace(CARD, "--dataset_dir data/", "--dataset_dir ~/data/"), "~/data/phantoms is the path"),
    "broken": (replace("configs/evaluate.json", '"initialize"', "initialize"), "evaluate.json: no JSON"),
    "reference": (edit("configs/train.json", loss="@losses"), "train.json: loss refers to @losses, which is not there"),
    "expression": (edit("configs/train.json", seed="$1 +"), "seed is no expression of Python"),
    "overlay": (edit("configs/evaluate.json", run=["$@nothing.run()"]), "evaluate.json: run::0 refers to @nothing"),
    "target": (
        edit("configs/inference.json", **{"network_def#_target_": "equivariant_nets.NoUNet"}),
        "inference.json: network_def::_target_ is 'equivariant_nets.NoUNet', which cannot be imported",
    ),
    "short target": (edit("configs/train.json", **{"loss#_target_": "NoLoss"}), "'NoLoss', which cannot be imported"),
}  # fmt: skip
CARDS = {
    "title": (replace(CARD, "# phantom_so3_segmentation\n", "# Phantoms\n"), "the first line is '# Phantoms'"),
    "section": (replace(CARD, "## Training\n", "## Recipe\n"), "no section 'Training'"),
    "licence": (replace(CARD, "Software and weights: ", "Software: "), "under which licence the weights are"),
    "command": (replace(CARD, "    python -m monai.bundle run", "    run"), "Performance has no command"),
    "figures": (replace(CARD, "| ", ""), "or no figure in a table"),
    "figure in the card": (replace(CARD, "| mean | 0.988 ", "| mean | 0.989 "), "no figure under mean is 0.988"),
    "figure in the metadata": (
        meta(**{"eval_metrics#mean_dice_turned_45_degrees": 0.994}),
        "no figure under 45 degrees or 45° is 0.994, which eval_metrics.mean_dice_turned_45_degrees",
    ),
    "figure of another name": (meta(**{"eval_metrics#threshold": 0.5}), "no figure under any label is 0.5"),
    "no figures": (meta(eval_metrics=...), "eval_metrics None; legal are figures of this card"),
    "text for a figure": (meta(**{"eval_metrics#mean_dice": "high"}), "mean_dice .* is 'high'; legal is a number"),
}  # fmt: skip


GROUPS = {"files": FILES, "metadata": METADATA, "configs": CONFIGS, "card": CARDS}
CASES = {f"{group}, {case}": value for group, cases in GROUPS.items() for case, value in cases.items()}


@pytest.mark.parametrize(("damage", "finding"), CASES.values(), ids=CASES)
def test_each_rule_fires(damage, finding, copy_of):
    bundle = copy_of()
    damage(bundle)
    findings = check_bundle(bundle.root, quick=True)
    assert says(findings, finding), findings
    assert all(text.startswith(str(bundle.root)) and "\n" not in text for text in findings)


def test_a_damaged_file_is_the_only_finding(copy_of):
    bundle = copy_of()
    bundle.metadata(**{"required_packages_version#scipy": "1.0.0"})
    (bundle.root / "LICENSE").unlink()
    assert len(check_bundle(bundle.root)) == 2


def test_a_folder_of_another_name_is_told(copy_of):
    findings = check_bundle(copy_of(called="Phantom").root, quick=True)
    assert says(findings, "the folder is called 'Phantom'; legal are words of a-z and 0-9")
    assert says(findings, "name is 'phantom_so3_segmentation'; legal is that of the folder, 'Phantom'")


@pytest.mark.parametrize("path", ["nowhere", "folder", "folder/file"])
def test_what_is_no_bundle_is_told(path, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    (finding,) = check_bundle(tmp_path / path)
    assert says([finding], f"{path} is (no folder|a folder without configs); legal is a bundle")


def test_weights_may_lie_where_they_are_downloaded_from(copy_of):
    bundle = copy_of()
    (bundle.root / "models" / "model.pt").unlink()
    list_large()(bundle)
    assert check_bundle(bundle.root, quick=True) == []


def test_a_list_in_yaml_needs_a_parser(copy_of, monkeypatch):
    def load(path, load=ConfigParser.load_config_file):
        if str(path).endswith(".yml"):
            raise OptionalImportError
        return load(path)

    bundle = copy_of()
    (bundle.root / "large_files.yml").write_text("large_files: []")
    monkeypatch.setattr(ConfigParser, "load_config_file", load)
    assert says(
        check_bundle(bundle.root, quick=True),
        "large_files.yml: PyYAML reads it, and is not installed",
    )


def test_a_bundle_without_weights_says_so_and_claims_nothing(copy_of):
    bundle = copy_of()
    (bundle.root / "models" / "model.pt").unlink()
    findings = check_bundle(bundle.root, quick=True)
    assert len(findings) == 2
    assert says(findings, "the bundle has no models/model.pt, and its card does not say so")
    assert says(findings, "the bundle has no weights, but .* has eval_metrics")


def test_a_bundle_without_weights_that_says_so_is_noted(copy_of, capsys):
    bundle = copy_of()
    bundle.take_weights_out()
    cli(["check", str(bundle.root), "--quick"])
    training = f"python -m monai.bundle run --bundle_root {bundle.root} --config_file {bundle.root}/configs/train.json"
    training += f" --ckpt_dir {bundle.root}/models --dataset_dir DATA"
    expected = f"{bundle.root}: ships without weights. Train it: {training}\n1 bundles, no findings\n"
    assert capsys.readouterr().out == expected


def test_the_command_prints_findings_and_fails(copy_of, capsys):
    bundle = copy_of()
    cli(["check", str(bundle.root), "--quick"])
    assert capsys.readouterr().out == "1 bundles, no findings\n"
    (bundle.root / "LICENSE").unlink()
    with pytest.raises(SystemExit, match="error: 1 findings in 1 bundles"):
        cli(["check", str(bundle.root), "--quick"])
    advice = "missing; a bundle needs it. Take it from another bundle, and adapt it."
    assert capsys.readouterr().out == f"{bundle.root}/LICENSE: {advice}\n"


def test_the_quick_check_runs_nothing_of_a_bundle_that_it_is_started_in(copy_of):
    root = copy_of().root
    (root / "own_package").mkdir()
    for file in ("own.py", "own_package/__init__.py", "own_package/part.py", "onnx.py"):
        (root / file).write_text("open('executed', 'a').write(__name__)\nclass Network: pass\n")
    targets = ["own.Network", "own_package.part.Network", "own_package.Network", "onnx.Network", "own.nothing"]
    config = json.loads((root / "configs" / "train.json").read_text())
    config["imports"] += ["$import own"]
    config |= {"others": [{"_target_": target} for target in targets], "more": "$__import__('own')"}
    (root / "configs" / "train.json").write_text(json.dumps(config))
    result = run_module("equivariant_nets.zoo", "check", "--quick", ".", cwd=root)
    assert not (root / "executed").exists()
    assert result.returncode == 0, result.stdout
    findings = check_bundle(root)  # from elsewhere, and thoroughly
    assert sum("cannot be imported" in finding for finding in findings) == len(targets)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check"], "No bundle was given"),
        (["check", "--quick", "bundles/a", "bundles/b"], "error: 2 findings in 2 bundles"),
        (["check", "bundles/a", "bundles/b", "--quick"], "error: 2 findings in 2 bundles"),
    ],
)
def test_the_command_refuses_what_it_would_misread(arguments, message):
    with pytest.raises(SystemExit, match=message):
        cli(arguments)


def test_overlays_stand_behind_what_they_overlay():
    assert workflow_files("multi_gpu_evaluate.json") == ["train.json", "evaluate.json", "multi_gpu_evaluate.json"]
    assert workflow_files("evaluate_clicks.json") == ["train.json", "evaluate.json", "evaluate_clicks.json"]
    assert workflow_files("multi_gpu_inference.json") == ["inference.json", "multi_gpu_inference.json"]


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("Software and weights: Apache-2.0 (`LICENSE`).", "Apache-2.0"),
        ("Software: Apache-2.0. Weights: for non-commercial use, as\nthe data: `x`.", "for non-commercial use"),
        ("Weights: CC BY-SA 4.0.", "CC BY-SA 4.0"),
        ("Software: Apache-2.0.", None),
    ],
)
def test_the_licence_of_the_weights_is_read_from_the_card(text, licence):
    assert weights_licence(f"# Name\n## License\n\n{text}\n") == licence
