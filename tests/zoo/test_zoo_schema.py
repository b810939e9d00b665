"""The Model Zoo's own schema takes the metadata of every bundle, and refuses what it does not allow."""

import json

import pytest
from bundle_files import BUNDLES, NAMES, SCHEMA
from damages import IMAGE, PRED

from equivariant_nets.zoo.bundle import Bundle
from equivariant_nets.zoo.metadata import check_schema

RULES = json.loads(SCHEMA.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_it_takes_the_metadata_of_every_bundle_which_names_it(name):
    bundle = Bundle(BUNDLES / name)
    assert check_schema(bundle, SCHEMA) is None
    assert bundle.metadata["schema"] == f"https://project-monai.github.io/schema/{SCHEMA.name}"


@pytest.mark.parametrize(
    ("where", "what", "finding"),
    [
        *[(key, ..., "a required property") for key in RULES["required"] if key != "schema"],
        *[
            (f"{tensor}#{key}", ..., "a required property")
            for tensor in (IMAGE, PRED)
            for key in RULES["$defs"]["tensor"]["required"]
        ],
        ("network_data_format#outputs", ..., "a required property"),
        ("version", 1, "1 is not of type 'string'"),
        ("changelog", [], "[] is not of type 'object'"),
        ("references", "a paper", "'a paper' is not of type 'array'"),
        ("references", [1], "1 is not of type 'string'"),
    ],
)
def test_it_refuses_what_is_missing_or_of_another_type(where, what, finding, copy_of):
    bundle = copy_of()
    bundle.metadata(**{where: what})
    found = check_schema(Bundle(bundle.root), SCHEMA)
    assert (f"{where.rpartition('#')[2]!r} is {finding}" if what is ... else finding) in found
