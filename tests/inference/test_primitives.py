"""What oneDNN keeps is bounded, unless somebody said how."""

import os

import pytest

from equivariant_nets.inference.primitives import CAPACITY, VARIABLES, bound_primitive_cache


@pytest.mark.parametrize("name", ["ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"])
def test_the_caches_are_bounded_and_what_is_set_stays(monkeypatch, name):
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    bound_primitive_cache()
    assert os.environ[name] == CAPACITY
    monkeypatch.setenv(name, "7")
    bound_primitive_cache()
    assert os.environ[name] == "7"
