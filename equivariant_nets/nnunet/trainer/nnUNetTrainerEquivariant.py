"""nnU-Net's own trainer with Adam, but for mirroring. nnU-Net imports this file alone, from ``nnUNet_extTrainer``."""

from __future__ import annotations

from typing import Any

try:
    from nnunetv2.training.nnUNetTrainer.variants.optimizer.nnUNetTrainerAdam import nnUNetTrainerVanillaAdam
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"nnUNetTrainerEquivariant is a trainer of nnU-Net v2, and {error.name} is not installed. Install both in one "
        "command, or nnU-Net's dependencies replace torch: pip install torch -e '.[nnunet]'",
        name=error.name,
    ) from error

from equivariant_nets.nnunet.mirroring import mirror_axes
from equivariant_nets.nnunet.networks import NNUNetConvention

__all__ = ["nnUNetTrainerEquivariant"]


class nnUNetTrainerEquivariant(nnUNetTrainerVanillaAdam):
    """Mirrors, in training and in prediction, along those axes alone whose mirror images the group does not give.

    The weights of a kernel that is assembled have unit scale, which nnU-Net's gradient descent moves slowly: Adam.

    Raises:
        TypeError: the network of the plans is none of :mod:`equivariant_nets.nnunet`.
    """

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple[Any, ...]:
        *others, _ = super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        network = self.network.module if self.is_ddp else self.network
        network = getattr(network, "_orig_mod", network)  # that of a compiled one
        if not isinstance(network, NNUNetConvention):
            raise TypeError(
                f"nnUNetTrainerEquivariant needs a network of equivariant_nets.nnunet; the plans "
                f"{self.plans_manager.plans_name} name {type(network).__name__}. Give -p with plans that "
                "python -m equivariant_nets.nnunet plan wrote, or take nnU-Net's own trainer: leave -tr out."
            )
        axes = mirror_axes(network) or None  # nnU-Net's word for no axis
        self.inference_allowed_mirroring_axes = axes
        return *others, axes
