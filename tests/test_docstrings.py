"""The examples of the docstrings run and print what they say."""

import doctest
import importlib

import pytest


@pytest.mark.parametrize(
    "name",
    [
        "equivariant_nets.networks.constants",
        "equivariant_nets.data.brain_tumor.phantoms",
        "equivariant_nets.data.datalist",
        "equivariant_nets.data.phantoms",
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
        "equivariant_nets.training.weights",
        "equivariant_nets.zoo.bundle",
        "equivariant_nets.zoo.card",
    ],
)
def test_examples(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
