"""Command lines from functions: their signatures say what is legal, their docstrings what it means."""

from __future__ import annotations

from equivariant_nets import bundles_extra  # noqa: F401

# isort: split

import gc
from collections.abc import Callable
from typing import Any

from cyclopts import App, CycloptsError, Parameter, UnknownOptionError, UnusedCliTokensError
from rich.console import Console
from rich.text import Text

__all__ = ["command_line"]

_PLAIN: dict[str, Any] = {"soft_wrap": True, "markup": False, "highlight": False, "emoji": False}


def command_line(*functions: Callable[..., Any], help: str | None = None) -> App:
    """A command line that checks names and types before a function runs, and prints the text that it returns.

    Where something is wrong, the last line says what, and the exit status is 2.

    Args:
        functions: the only one is the command itself; of several, the first argument names one.
        help: of a command line of several functions. That of a function is its docstring.

    Returns:
        what reads ``sys.argv``, or a list of arguments, when it is called.

    Example:
        >>> from equivariant_nets.cli import command_line
        >>> def double(number: int, *, loud: bool = False) -> str:
        ...     return f"{2 * number}{'!' if loud else ''}"
        >>> _ = command_line(double)(["21", "--loud"])
        42!
    """
    app = App(
        help=help,
        help_format="plaintext",
        help_formatter="plain",
        version_flags=[],
        name_transform=str,  # names stay as they are in Python, with underscores
        default_parameter=Parameter(name_transform=str, negative=(), consume_multiple=1),
        console=Console(**_PLAIN),
        error_console=Console(stderr=True, **_PLAIN),
        error_formatter=_last_line,
        result_action="print_str_return_zero",
        suppress_keyboard_interrupt=False,  # the server of label/ ends by one, and well
    )
    gc.freeze()  # what was imported stays: to take it apart at the end takes a second or two
    if len(functions) == 1:
        app.default(functions[0])
    else:
        for function in functions:
            app.command(function)
    return app


def _last_line(error: CycloptsError) -> Text:
    """What was got, and what is legal."""
    text = " ".join(str(error).split())
    if isinstance(error, UnknownOptionError | UnusedCliTokensError) and error.app is not None:
        text += f" Legal are {', '.join(argument.name for argument in error.app.assemble_argument_collection())}."
    return Text(text)
