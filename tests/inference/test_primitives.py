"""What oneDNN keeps is bounded, unless somebody said how."""

import os

from equivariant_nets.inference.primitives import CAPACITY, bound_primitive_cache

NAME = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"


def test_the_cache_is_bounded_and_what_is_set_stays(monkeypatch):
    monkeypatch.delenv(NAME, raising=False)
    bound_primitive_cache()
    assert os.environ[NAME] == CAPACITY
    monkeypatch.setenv(NAME, "7")
    bound_primitive_cache()
    assert os.environ[NAME] == "7"
