"""What a network may be trained to segment, by the name that a bundle's config gives it."""

from __future__ import annotations

__all__ = ["target_channels", "target_regions"]

# Output channels, and the regions that are scored, in the order of the tables.
_TARGETS: dict[str, tuple[int, tuple[str, ...]]] = {
    "classes": (4, ("ET", "TC", "WT")),
    "regions": (3, ("ET", "TC", "WT")),
    "whole": (1, ("WT",)),
}


def target_channels(targets: str) -> int:
    """The output channels of a network.

    Args:
        targets: ``classes``, softmax over background, edema, non-enhancing and enhancing tumour, one of which each
            voxel is; ``regions``, a sigmoid each for enhancing tumour, tumour core and whole tumour, which overlap; or
            ``whole``, one sigmoid for the whole tumour.

    Raises:
        ValueError: ``targets`` is none of these.
    """
    return _TARGETS[_checked(targets)][0]


def target_regions(targets: str) -> list[str]:
    """The regions that a network is scored by: ET, TC and WT, or WT alone.

    Args:
        targets: as for :func:`target_channels`.

    Raises:
        ValueError: ``targets`` is none of these.
    """
    return list(_TARGETS[_checked(targets)][1])


def _checked(targets: str) -> str:
    if targets not in _TARGETS:
        raise ValueError(f"targets={targets!r} is not one of {', '.join(_TARGETS)}.")
    return targets
