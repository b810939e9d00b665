"""Bundles as the Model Zoo takes them: a check, archives that need no installation of this package, and a table."""

from equivariant_nets.zoo.check import check_bundle, check_shared
from equivariant_nets.zoo.pack import pack_bundle
from equivariant_nets.zoo.table import bundle_table

__all__ = ["bundle_table", "check_bundle", "check_shared", "pack_bundle"]
