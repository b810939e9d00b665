"""The cache of oneDNN, which computes convolutions on a CPU."""

from __future__ import annotations

import os

__all__ = ["bound_primitive_cache"]

CAPACITY = "64"  # a network of the bundles needs some 40 for a size of windows


def bound_primitive_cache() -> None:
    """Let oneDNN keep what it compiles for the last sizes of windows alone.

    It keeps 1024 primitives otherwise, which take 400 MB when each volume has a size of its own. A variable of the
    environment, ``ONEDNN_PRIMITIVE_CACHE_CAPACITY``, is the only way to say so from Python, and stays where it is set
    already. It is read once, at the first convolution of a process.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", CAPACITY)
