"""The symmetries that a plan may ask for, and the networks that have them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Literal

import equivariant_nets.nnunet as networks
from equivariant_nets.networks import constructors
from equivariant_nets.nnunet.networks import NNUNetConvention

__all__ = ["SYMMETRIES", "Choice", "Symmetry"]

Symmetry = Literal["so3", "o3", "octahedral", "e2", "scale", "conventional"]
_OF_THE_PLAN = ("irreps_in", "irreps_out", "spatial_dims", "in_channels", "out_channels", "depth", "spacing")


@dataclass(frozen=True)
class Choice:
    """A network for a symmetry.

    Attributes:
        network: its class in :mod:`equivariant_nets.nnunet`.
        spatial_dims: of the configurations that it can be trained on.
        plans_name: of its plans, where no other is given.
        options: where they differ from the defaults of the network.
        has_group: whether the user may choose another group.
    """

    network: str
    spatial_dims: tuple[int, ...]
    plans_name: str
    options: dict[str, Any]
    has_group: bool = False

    @property
    def constructor(self) -> type[NNUNetConvention]:
        return getattr(networks, self.network)

    def all_options(self, **given: Any) -> dict[str, Any]:
        """Every option of the network but those that a plan has elsewhere, so that later defaults change no plan.

        Args:
            given: by the user; None stands for the default.
        """
        parameters = inspect.signature(getattr(constructors, self.network)).parameters
        own = {
            name: parameter.default
            for name, parameter in parameters.items()
            if name not in _OF_THE_PLAN and name != "deep_supervision"
        }
        return {**own, **self.options, **{name: value for name, value in given.items() if value is not None}}


SYMMETRIES: dict[Symmetry, Choice] = {
    "so3": Choice("SteerableUNet", (3,), "SteerableUNetPlans", {}),
    "o3": Choice(
        "SteerableUNet", (3,), "SteerableUNetO3Plans", {"group": "O3", "features": "4x0e+2x0o+2x1e+2x1o+1x2e+1x2o"}
    ),
    "octahedral": Choice("RegularUNet", (3,), "OctahedralUNetPlans", {"group": "O", "features": 2}, has_group=True),
    "e2": Choice("RegularUNet", (2,), "E2UNetPlans", {}, has_group=True),
    "scale": Choice("ScaleUNet", (2, 3), "ScaleUNetPlans", {}),
    "conventional": Choice("ConventionalUNet", (2, 3), "ConventionalUNetPlans", {}),
}
