"""Declares two operators of torchvision, so that a torchvision built for CUDA imports beside a torch built for the CPU.

``make label`` installs it as ``sitecustomize`` of .venv-label, and only where torchvision does not import without it.
MONAI Label needs torchvision for its pictures alone, which use neither operator.
"""

import importlib.util
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import Any


class _BeforeTorchvision(MetaPathFinder):
    """Declares them when torchvision is first imported: torch is too slow to be imported by every interpreter."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            self.library = torch.library.Library("torchvision", "DEF")
            self.library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            self.library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            _kept.append(self)
            return importlib.util.find_spec(name)
        return None


_kept: list[_BeforeTorchvision] = []  # operators are declared as long as their library lives
sys.meta_path.insert(0, _BeforeTorchvision())
