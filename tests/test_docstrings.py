"""The examples of the docstrings run and print what they say; the pages beside the code name what exists."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

import equivariant_nets


@pytest.mark.parametrize(
    "name",
    [
        "equivariant_nets.networks.constants",
        "equivariant_nets.data.brain_tumor.phantoms",
        "equivariant_nets.data.datalist",
        "equivariant_nets.data.phantoms",
        "equivariant_nets.data.soft_labels",
        "equivariant_nets.evaluation.on_files.cases",
        "equivariant_nets.evaluation.on_files.poses",
        "equivariant_nets.interaction.files",
        "equivariant_nets.interaction.simulation",
        "equivariant_nets.inference.memory",
        "equivariant_nets.networks.constructors",
        "equivariant_nets.networks.materialize",
        "equivariant_nets.networks.steerable.convolution",
        "equivariant_nets.settings",
        "equivariant_nets.transforms",
        "equivariant_nets.training.losses",
        "equivariant_nets.training.weights",
        "equivariant_nets.zoo.bundle",
        "equivariant_nets.zoo.card",
    ],
)
def test_examples(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


PAGES = sorted(Path(equivariant_nets.__file__).parent.rglob("README.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_pages_beside_the_code_name_files_and_tests_that_exist(page):
    text = page.read_text(encoding="utf-8")
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.rglob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", text)
    assert named
    assert [name for name in named if f"def {name}(" not in tests] == []
    files = re.findall(r"`([\w./]+\.py)`", text)
    assert [
        name for name in files if not any((root / name).is_file() for root in (page.parent, *page.parents[1:4]))
    ] == []
