"""Measured quality: scores upright and turned, their tables and plots."""

from equivariant_nets import bundles_extra  # noqa: F401
