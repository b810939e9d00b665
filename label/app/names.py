"""Names that clients give to images, tags and sessions: each is one part of a path, and stays inside its folder."""

from typing import Annotated

from pydantic import AfterValidator

__all__ = ["Name", "check_name"]

_MAX_LENGTH = 200  # file systems allow 255 bytes, with an extension


def check_name(name: str) -> str:
    """The name, where no path can be made of it.

    Raises:
        ValueError: it holds a separator or what cannot be printed, begins with a dot or tilde, or is too long.
    """
    if name.startswith((".", "~")) or not name.isprintable() or {"/", "\\"} & set(name) or len(name) > _MAX_LENGTH:
        raise ValueError(
            f"{name[:_MAX_LENGTH]!r} is no legal name; legal are up to {_MAX_LENGTH} printable characters without / "
            "and \\ that do not begin with . or ~. Give the name alone, without a folder."
        )
    return name


Name = Annotated[str, AfterValidator(check_name)]
