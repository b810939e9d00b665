"""The caches of oneDNN, which computes convolutions on a CPU."""

from __future__ import annotations

import os

__all__ = ["bound_primitive_cache"]

CAPACITY = "64"  # a network of the bundles needs some 40 for a size of windows
# Of oneDNN, and of ideep, through which torch calls it, and which keeps what oneDNN would drop.
VARIABLES = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")


def bound_primitive_cache() -> None:
    """Let oneDNN keep what it compiles for the last sizes of windows alone.

    It keeps 1024 primitives otherwise, which take 400 MB when each volume has a size of its own, and so does torch, of
    which each convolution of a size of its own takes 20 kB. Variables of the environment, ``VARIABLES``, are the only
    way to say so from Python, and stay where they are set already. They are read once, at the first convolution of a
    process.
    """
    for name in VARIABLES:
        os.environ.setdefault(name, CAPACITY)
