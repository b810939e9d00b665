"""Segmentation networks that are equivariant by construction."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from equivariant_nets.equivariance import (
        assert_equivariant,
        equivariance_curve,
        equivariance_error,
        interpolation_error,
        scale_equivariance_error,
    )
    from equivariant_nets.networks.constructors import ConventionalUNet, RegularUNet, ScaleUNet, SteerableUNet
    from equivariant_nets.networks.materialize import materialize
    from equivariant_nets.networks.scale_pyramid import ScalePyramid
    from equivariant_nets.networks.sides import SidedClasses, SidedStructures

__version__ = "0.1.0"
__all__ = [
    "ConventionalUNet",
    "RegularUNet",
    "ScalePyramid",
    "ScaleUNet",
    "SidedClasses",
    "SidedStructures",
    "SteerableUNet",
    "assert_equivariant",
    "equivariance_curve",
    "equivariance_error",
    "interpolation_error",
    "materialize",
    "scale_equivariance_error",
]

# Imported when first asked for, so that a materialized network loads where e3nn is not installed.
_MODULES = {
    "ConventionalUNet": "networks.constructors",
    "RegularUNet": "networks.constructors",
    "ScalePyramid": "networks.scale_pyramid",
    "ScaleUNet": "networks.constructors",
    "SidedClasses": "networks.sides",
    "SidedStructures": "networks.sides",
    "SteerableUNet": "networks.constructors",
    "assert_equivariant": "equivariance",
    "equivariance_curve": "equivariance",
    "equivariance_error": "equivariance",
    "interpolation_error": "equivariance",
    "materialize": "networks.materialize",
    "scale_equivariance_error": "equivariance",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
