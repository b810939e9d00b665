"""What an error says at its root."""

from __future__ import annotations

__all__ = ["root_cause"]


def root_cause(error: BaseException) -> str:
    """The type and the text of the error that led to another, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'no details'}"
