"""What ``python -m monai.bundle`` says when something is wrong.

The configs of the bundles import this package, and MONAI imports before it evaluates anything else, in each of its
commands. There, and only there, the command line is checked at once, and what fails later ends with its cause. A
program that reads the configs otherwise, such as a server or a federated client, is left alone.
"""

from __future__ import annotations

import gc
import logging
import sys

from equivariant_nets import bundles_extra  # noqa: F401
from equivariant_nets.commands.command_line import check_command_line
from equivariant_nets.commands.last_words import end_with_the_cause, tell, without_traceback

__all__ = ["check_command_line", "end_with_the_cause", "tell", "without_traceback"]


def _is_monai_command() -> bool:
    return getattr(getattr(sys.modules.get("__main__"), "__spec__", None), "name", None) == "monai.bundle.__main__"


if _is_monai_command():
    gc.freeze()  # what was imported stays: to take it apart at the end takes a second or two
    sys.excepthook = end_with_the_cause
    logging.setLogRecordFactory(without_traceback(logging.getLogRecordFactory()))
    try:
        check_command_line(sys.argv[1:])
    except ValueError as error:
        tell(str(error))
        raise SystemExit(1) from None  # MONAI's import is optional: errors of other types would not stop it
