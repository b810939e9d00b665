"""Bundles for data sets of one's own: ``python -m equivariant_nets.zoo new``."""

from equivariant_nets.authoring.new import new_bundle, twin_bundle

__all__ = ["new_bundle", "twin_bundle"]
