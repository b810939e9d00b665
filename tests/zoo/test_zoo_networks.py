"""Rules of the check that build networks, and those of a schema, fire."""

import json

import monai.bundle
import pytest
import torch
from damages import IMAGE, edit, meta, says, write

import equivariant_nets.zoo.metadata
from equivariant_nets.zoo import check_bundle


def spoil_weights(change):
    def damage(bundle):
        path = bundle.root / "models" / "model.pt"
        state = torch.load(path, weights_only=True)
        change(state, next(iter(state)))
        torch.save(state, path)

    return damage


NETWORKS = {
    "property": (edit("configs/train.json", **{"train#trainer#max_epochs": ...}), "has no train::trainer::max_epochs"),
    "argument": (
        edit("configs/train.json", **{"train#inferer#overlap": 1}),
        "train.json: cannot be built .*AutocastInferer.* unexpected keyword argument 'overlap'",
    ),
    "id": (
        edit(
            "configs/train.json",
            **{"train#dice": {"dice": {"_target_": "MeanDice"}}, "train#trainer#key_train_metric": "@train#dice"},
        ),
        "train.json: MONAI finds train_key_metric missing, or under another id",
    ),
    "channels": (
        meta(**{f"{IMAGE}#num_channels": 2, f"{IMAGE}#channel_def": {"0": "T1", "1": "T2"}}),
        "network_def with n=1 does not what",
    ),
    "other weights": (spoil_weights(lambda state, key: state.pop(key)), "does not fit network_def .*Missing key"),
    "no numbers": (spoil_weights(lambda state, key: state[key].fill_(torch.nan)), "values that are not finite"),
    "no weights": (write("models/model.pt", "none"), "model.pt: does not fit network_def"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "finding"), NETWORKS.values(), ids=NETWORKS)
def test_each_rule_of_networks_fires_and_is_left_out_by_quick(damage, finding, copy_of):
    bundle = copy_of()
    damage(bundle)
    findings = check_bundle(bundle.root)
    assert says(findings, finding), findings
    assert check_bundle(bundle.root, quick=True) == []


class Zeros(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x).expand(-1, 4, -1, -1, -1)


def write_another_network(net_id, filepath, **_):
    torch.jit.save(torch.jit.script(Zeros()), filepath)


def write_nothing(net_id, filepath, **_):
    raise RuntimeError("Compiled functions can't take variable number of arguments")


@pytest.mark.parametrize(
    ("export", "finding"),
    [
        (write_another_network, "writes differs from the network by 1;"),
        (write_nothing, "ckpt_export fails .*Comp"),
    ],
)
def test_an_export_that_fails_or_differs_is_told(export, finding, copy_of, monkeypatch):
    monkeypatch.setattr(monai.bundle, "ckpt_export", export)
    assert says(check_bundle(copy_of().root), finding)


@pytest.fixture
def schema(tmp_path):
    """Write a small schema."""

    def write(text=None):
        path = tmp_path / "schema.json"
        properties = {"version": {"type": "string", "pattern": "^0"}}
        path.write_text(text or json.dumps({"type": "object", "required": ["task"], "properties": properties}))
        return path

    return write


def test_metadata_is_validated_against_a_schema(copy_of, schema):
    bundle = copy_of()
    assert check_bundle(bundle.root, schema=schema(), quick=True) == []
    bundle.metadata(version=1)
    assert says(check_bundle(bundle.root, schema=schema()), r"\$.version: 1 is not of type 'string', says")


def test_a_schema_that_cannot_be_used_is_an_error(copy_of, schema, monkeypatch):
    root = copy_of().root
    with pytest.raises(ValueError, match=r"none.json is no file. Download it"):
        check_bundle(root, schema="none.json")
    for text in ("[", '{"type": "nothing"}'):
        with pytest.raises(ValueError, match="cannot be used"):
            check_bundle(root, schema=schema(text))
    monkeypatch.setattr(equivariant_nets.zoo.metadata, "optional_import", lambda name: (None, False))
    with pytest.raises(ValueError, match="not installed: pip install jsonschema"):
        check_bundle(root, schema=schema())
