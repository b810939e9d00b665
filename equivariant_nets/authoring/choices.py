"""What a new bundle does with a data set, and why: voxels, network, patches, windows and steps."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from equivariant_nets.authoring.networks import NetworkChoice, build_network, choose_network
from equivariant_nets.authoring.survey import CaseFacts
from equivariant_nets.inference.memory import SAFETY, estimate_peak_bytes
from equivariant_nets.training.memory import estimate_training_bytes

__all__ = ["Choices", "choose"]

_ANISOTROPIC = 2.0  # of the coarsest axis over the finest: beyond, interpolated voxels would be guesses
_AGREEING = 0.8  # of the cases whose coarsest axis is one
_WHOLE = 64  # voxels along each axis up to which a network learns from whole volumes
_SIDES = (32, 40, 48, 56, 64, 80, 96)  # of patches
_WINDOWS = (48, 64, 80, 96, 112, 128)
_PICTURE_SIDES = (96, 128, 160, 192, 256)
_COARSEST = 2.0  # of the voxels over the median ones, to see more of an anatomy at once
_SEEN = 0.25  # of the content that a patch shall hold
_STEPS, _PATCH_STEPS = 3400, 1200
_EPOCHS = (12, 1200)
_EPOCH_LENGTH = 50
_LARGE_GB = 8
_BATCH = 2  # cases a step, and patches of each


@dataclass(frozen=True)
class Choices:
    """What was chosen.

    Args:
        symmetry: of the network.
        whole: whether training sees whole volumes; else patches.
        dims: 3 for volumes, 2 for pictures.
        network: its definition.
        shared: values for training and inference.
        train: values for training.
        reasons: by topic, what was chosen and why.
    """

    symmetry: str
    whole: bool
    dims: int
    network: NetworkChoice
    shared: dict[str, Any]
    train: dict[str, Any]
    reasons: dict[str, str] = field(default_factory=dict)


def choose(
    facts: Sequence[CaseFacts],
    class_names: Sequence[str],
    num_training: int,
    symmetry: str,
    memory_gb: float,
    spacing_mm: Sequence[float] | None = None,
) -> Choices:
    """Choose for the cases of a data set.

    Args:
        facts: of all cases, of one number of channels.
        class_names: of the classes from 1.
        num_training: cases of the training section.
        symmetry: of the network.
        memory_gb: that a training step and a window may take.
        spacing_mm: of the voxels; None chooses it.

    Raises:
        ValueError: the symmetry does not fit the data, or the memory is too little for the smallest patch.
    """
    dims = len(facts[0].size)
    if dims == 2:
        return _choose_pictures(facts, class_names, symmetry, memory_gb)
    spacing, reason = _spacing(facts) if spacing_mm is None else (list(spacing_mm), "as given")
    reasons = {"Voxels": f"{_times(spacing)} mm: {reason}"}
    classes, channels = len(class_names) + 1, facts[0].channels
    sizes = _sizes(facts, spacing)
    whole = bool(np.percentile(sizes, 95, axis=0).max() <= _WHOLE)
    if not whole and spacing_mm is None:
        spacing, reasons["Voxels"] = _coarser(spacing, sizes, reasons["Voxels"], memory_gb)
        sizes = _sizes(facts, spacing)
    uneven = spacing if max(spacing) > min(spacing) * 1.01 else None
    depth = 2 if whole else 4 if np.median(sizes, axis=0).min() >= 96 else 3
    network = choose_network(symmetry, channels, classes, depth, whole, uneven, dims)
    net = build_network(network, uneven)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    reasons["Network"] = f"{network.description}; {parameters:,} parameters, {depth} halvings"
    train: dict[str, Any] = {"learning_rate": network.learning_rate, **network.train}
    if whole:
        train |= _whole_volumes(net, channels, sizes, num_training, memory_gb, reasons)
    else:
        train |= _patches(net, channels, sizes, depth, memory_gb, reasons)
    if uneven is not None:
        train["augmentation"] = "none"
        reasons["Augmentation"] = (
            "contrast, noise and resolution, and no turns: a turn of voxels that are not alike along all axes would "
            "distort the anatomy. The network takes their spacing into account instead"
        )
    roi = _window(net, channels, memory_gb, sizes)
    reasons["Window"] = f"{_times(roi)} voxels in inference, as the volumes and {memory_gb:g} GB allow, up to 128"
    cached = _cached(facts, sizes, channels, memory_gb)
    if cached < len(facts):
        train["train#dataset#cache_num"] = train["validate#dataset#cache_num"] = cached
        reasons["Cache"] = f"{cached} preprocessed cases stay in memory; the others are read at every epoch"
    shared = {"spacing_mm": spacing, "roi_size": roi, "features": network.features, "network_def": network.definition}
    return Choices(symmetry, whole, dims, network, shared, train, reasons)


def _choose_pictures(
    facts: Sequence[CaseFacts], class_names: Sequence[str], symmetry: str, memory_gb: float
) -> Choices:
    sizes = np.array([case.size for case in facts], dtype=float)
    depth = 3
    network = choose_network(symmetry, facts[0].channels, len(class_names) + 1, depth, False, None, 2)
    net = build_network(network, None)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    smallest = int(sizes.min())
    most = min(smallest, 128 if memory_gb < _LARGE_GB else 256)
    sides = [side for side in _PICTURE_SIDES if side <= most] or [max(2**depth, smallest - smallest % 2**depth)]
    side = _largest(net, facts[0].channels, sides, _BATCH**2, 2, memory_gb)
    window = max(side, 512)
    reasons = {
        "Pixels": "as they are",
        "Network": f"{network.description}; {parameters:,} parameters, {depth} halvings",
        "Patches": f"{side} x {side} pixels, centred on a class drawn at random, so that rare ones are seen; batch of "
        f"{_BATCH**2}, as {memory_gb:g} GB suffice for",
        "Window": f"{window} x {window} pixels in inference",
    }
    train = {"learning_rate": network.learning_rate, **network.train, **_patch_steps([side, side], reasons)}
    shared = {"roi_size": [window, window], "features": network.features, "network_def": network.definition}
    return Choices(symmetry, False, 2, network, shared, train, reasons)


def _spacing(facts: Sequence[CaseFacts]) -> tuple[list[float], str]:
    """Voxels near the median ones: alike along all axes, unless one axis is much coarser in most of the cases."""
    spacings = np.array([case.spacing_mm for case in facts])
    median = np.median(spacings, axis=0)
    coarse = spacings.max(1) > _ANISOTROPIC * spacings.min(1)
    axes = spacings[coarse].argmax(1)
    agreeing = np.bincount(axes, minlength=3).max() / len(facts) if coarse.any() else 0.0
    if agreeing >= _AGREEING:
        return [_rounded(size) for size in median], (
            f"the median of the files, whose slices are {median.max() / median.min():.1f} times as thick as their "
            "pixels; the kernels take this into account"
        )
    if coarse.mean() > 1 - _AGREEING:
        size = _rounded(float(np.median(np.cbrt(spacings.prod(1)))))
        return [size] * 3, "alike along all axes, for the files have thick slices along different axes"
    size = _rounded(float(np.cbrt(median.prod())))
    return [size] * 3, "alike along all axes, as a turned patient needs it, and near the median of the files"


def _coarser(spacing: list[float], sizes: np.ndarray, reason: str, memory_gb: float) -> tuple[list[float], str]:
    """Voxels so coarse that a patch holds a part of the anatomy that is worth to be seen, within limits."""
    side = _most(memory_gb)
    shortfall = (_SEEN * float(np.median(sizes.prod(1))) / side**3) ** (1 / 3)
    factor = min(max(shortfall, 1.0), _COARSEST)
    if factor <= 1.1:
        return spacing, reason
    coarser = [_rounded(size * factor) for size in spacing]
    return coarser, (
        f"{_times(coarser)} mm: {factor:.1f} times the median of the files, so that patches of {side} voxels, as "
        f"{memory_gb:g} GB allow, see enough of the anatomy at once. Finer voxels, with more memory: --spacing_mm"
    )


def _sizes(facts: Sequence[CaseFacts], spacing: Sequence[float]) -> np.ndarray:
    """Voxels of the content of each case at a spacing, (cases, axes)."""
    extents = np.array([np.multiply(case.content, case.spacing_mm) for case in facts])
    return np.ceil(extents / np.array(spacing))


def _whole_volumes(
    net: Any, channels: int, sizes: np.ndarray, num_training: int, memory_gb: float, reasons: dict[str, str]
) -> dict[str, Any]:
    epochs = int(np.clip(round(_STEPS / num_training), *_EPOCHS))
    most = max(_SIDES[0], float(np.median(sizes, axis=0).max()))
    side = _largest(net, channels, [side for side in _SIDES if side <= most], 1, 3, memory_gb)
    cut = f"{_SIDES[0]} to {side}" if side > _SIDES[0] else str(side)
    reasons["Patches"] = (
        f"one volume a step, of which {cut} voxels along each axis are cut out, so that margins and canvases of any "
        "size are seen"
    )
    reasons["Steps"] = f"{epochs} epochs of all {num_training} training cases, {epochs * num_training:,} steps"
    reasons["Augmentation"] = (
        "turns by any rotation, on a canvas that holds all, filled; contrast, noise and resolution"
    )
    reasons["Normalization"] = "of each volume over its content, so that margins and filled corners count nowhere"
    return {
        "patch_size": [side] * 3,
        "epochs": epochs,
        "epoch_length": None,
        "patience": epochs,
        "val_interval": max(1, epochs // 12),
    }


def _patches(
    net: Any, channels: int, sizes: np.ndarray, depth: int, memory_gb: float, reasons: dict[str, str]
) -> dict[str, Any]:
    most = max(32.0, min(_most(memory_gb), float(np.median(sizes, axis=0).max())))
    side = _largest(net, channels, [s for s in _SIDES if s <= most and s % 2**depth == 0], _BATCH**2, 3, memory_gb)
    reasons["Patches"] = (
        f"{side}^3 voxels, {_BATCH**2} a step, as {memory_gb:g} GB suffice for; each is centred on a class drawn at "
        "random, so that rare ones are seen"
    )
    reasons["Augmentation"] = "patches turned by any rotation; contrast, noise and resolution"
    reasons["Normalization"] = "batch statistics, so that windows of any size give the same result inside"
    return _patch_steps([side] * 3, reasons)


def _patch_steps(patch_size: list[int], reasons: dict[str, str]) -> dict[str, Any]:
    epochs = _PATCH_STEPS // _EPOCH_LENGTH
    reasons["Steps"] = f"{epochs} epochs of {_EPOCH_LENGTH} steps"
    return {
        "patch_size": patch_size,
        "batch_size": _BATCH,
        "patches_per_case": _BATCH,
        "epochs": epochs,
        "epoch_length": _EPOCH_LENGTH,
        "patience": epochs,
        "val_interval": 4,
    }


def _most(memory_gb: float) -> int:
    """Voxels along each axis of the largest patch: where there is little memory, there are few cores as well."""
    return 64 if memory_gb < _LARGE_GB else 96


def _largest(net: Any, channels: int, sides: Sequence[int], batch: int, dims: int, memory_gb: float) -> int:
    """The largest patch for which the memory suffices."""

    def needed(side: int) -> float:
        return SAFETY * estimate_training_bytes(net, (batch, channels, *[side] * dims)) / 1e9

    ordered = sorted(sides)
    fitting = bisect_right(ordered, memory_gb, key=needed)
    if not fitting:
        raise ValueError(
            f"--memory_gb {memory_gb:g} is too little: a step on the smallest patches, {ordered[0]} voxels along each "
            f"axis, takes about {needed(ordered[0]):.2g} GB. Give more, or another --symmetry."
        )
    return ordered[fitting - 1]


def _window(net: Any, channels: int, memory_gb: float, sizes: np.ndarray) -> list[int]:
    most = float(np.percentile(sizes, 95, axis=0).max())
    sides = [side for side in _WINDOWS if side == _WINDOWS[0] or side / 2 <= most]
    fitting = bisect_right(
        sides, memory_gb, key=lambda side: SAFETY * estimate_peak_bytes(net, (1, channels, *[side] * 3)) / 1e9
    )
    return [sides[max(0, fitting - 1)]] * 3


def _cached(facts: Sequence[CaseFacts], sizes: np.ndarray, channels: int, memory_gb: float) -> int:
    """Cases of which the preprocessed volumes take no more than the memory."""
    one = 4 * (channels + 1) * float(np.median(sizes.prod(1)))
    return max(1, min(len(facts), int(memory_gb * 1e9 / one)))


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")


def _times(values: Any) -> str:
    return " x ".join(f"{float(value):.3g}" for value in values)


def default_memory_gb() -> float:
    """Half of the memory of the GPU where there is one, else 4 GB, as a laptop can spare."""
    if torch.cuda.is_available():
        return round(torch.cuda.mem_get_info()[1] / 2e9, 1)
    return 4.0
