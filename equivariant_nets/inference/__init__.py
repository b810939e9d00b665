"""Segmentation of the images of a folder."""

from equivariant_nets import bundles_extra  # noqa: F401
