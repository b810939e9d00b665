"""Bundles as the Model Zoo takes them: built of few sources, checked, packed with this package, and listed."""

from equivariant_nets import bundles_extra  # noqa: F401
from equivariant_nets.zoo.build import build_bundle
from equivariant_nets.zoo.check import check_bundle
from equivariant_nets.zoo.pack import pack_bundle
from equivariant_nets.zoo.table import bundle_table

__all__ = ["build_bundle", "bundle_table", "check_bundle", "pack_bundle"]
