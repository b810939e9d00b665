"""Switches of the command line, where ``--resume false`` arrives as a text."""

from __future__ import annotations

__all__ = ["is_on"]


def is_on(name: str, value: bool | str) -> bool:
    """Whether a switch is on.

    Args:
        name: of the switch, for the error.
        value: True or False, or one of these as text, in small letters or not.

    Raises:
        ValueError: it is neither.

    Example:
        >>> from equivariant_nets.settings import is_on
        >>> is_on("resume", "false")
        False
    """
    text = str(value).lower()
    if text not in ("true", "false"):
        raise ValueError(f"{name}={value!r} is not legal: give true or false.")
    return text == "true"
