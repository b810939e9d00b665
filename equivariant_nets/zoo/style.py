"""Python files in the style of the Model Zoo, whose pull requests its formatters check."""

from __future__ import annotations

__all__ = ["check_formatters", "zoo_style"]

_LINE = 120
_TARGETS = ("py37", "py38", "py39")


def check_formatters() -> str:
    """The versions of the formatters, which decide where lines are broken.

    Raises:
        ModuleNotFoundError: black or isort is not installed.
    """
    try:
        import black
        import isort
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"--zoo_style needs the formatters of the Model Zoo, and {error.name} is not installed: "
            "pip install 'equivariant-nets[zoo]'"
        ) from error
    return f"black {black.__version__}, isort {isort.__version__}"


def zoo_style(text: str) -> str:
    """The text of a module as ``./runtests.sh --autofix`` of the Model Zoo leaves it: imports by isort, lines by black.

    The options are those of the Zoo's ``setup.cfg``, ``pyproject.toml`` and ``runtests.sh``; what it means is
    unchanged. Which lines black breaks depends on its version.

    Args:
        text: the source of a module.

    Raises:
        ModuleNotFoundError: as :func:`check_formatters`.

    Example:
        >>> print(zoo_style("import torch\\nimport monai\\nsizes = [1,\\n2,]"), end="")
        import monai
        import torch
        <BLANKLINE>
        sizes = [1, 2]
    """
    check_formatters()
    import black
    import isort

    # The folder that is packed from must not decide what counts as a package of one's own; the Zoo's is another.
    sort = isort.Config(
        profile="black",
        line_length=_LINE,
        known_first_party=frozenset(["models"]),
        known_third_party=frozenset(["equivariant_nets"]),
        src_paths=(),
    )
    lines = black.Mode(
        line_length=_LINE,
        target_versions={black.TargetVersion[version.upper()] for version in _TARGETS},
        magic_trailing_comma=False,
    )
    return black.format_str(isort.code(text, config=sort), mode=lines)
