"""Training in mixed precision on any device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import monai.inferers
import torch

from equivariant_nets.settings import is_on

__all__ = ["AutocastInferer"]


class AutocastInferer(monai.inferers.SimpleInferer):
    """MONAI's simple inferer in mixed precision with bfloat16, on any device, with outputs in float32.

    For training on CPUs that multiply bfloat16 in hardware (AMX, AVX512_BF16), several times faster there. MONAI's
    engines know mixed precision on GPUs alone.

    Args:
        enabled: whether to use it. On a command line, ``true`` or ``false``.

    Raises:
        ValueError: ``enabled`` is not legal.
    """

    def __init__(self, enabled: bool | str = True) -> None:
        super().__init__()
        self.enabled = is_on("bfloat16", enabled)

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        if not self.enabled:  # an engine's own mixed precision stays as it is
            return super().__call__(inputs, network, *args, **kwargs)
        with torch.autocast(inputs.device.type, torch.bfloat16):
            return super().__call__(inputs, network, *args, **kwargs).float()
