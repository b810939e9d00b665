"""Whether an override of a config is read by anything: ``features``, ``network_def#depth``, ``train#handlers#0``."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pydoc import locate
from typing import Any, NamedTuple

from monai.bundle import ComponentLocator, ConfigComponent, ConfigParser, ReferenceResolver

__all__ = ["problem_of_override"]

_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class _Fault(NamedTuple):
    level: int  # of the part that is wrong
    problem: str
    legal: Collection[str] = ()  # in its place


def problem_of_override(option: str, parser: ConfigParser, parameters: Collection[str]) -> str | None:
    """What is wrong with an override, and the closest that are legal; None if it is legal itself.

    Args:
        option: the id of a part of the config, with ``#`` or ``::`` between its levels.
        parser: holds the config.
        parameters: options of the command that are no parts of the config.

    Example:
        >>> from monai.bundle import ConfigParser
        >>> from equivariant_nets.commands.overrides import problem_of_override
        >>> problem_of_override("epoch", ConfigParser({"epochs": 20}), ["config_file"])
        'there is no "epoch" at the top of the config files. Did you mean --epochs?'
    """
    parts = ReferenceResolver.split_id(option)
    fault = _fault(parts, parser, parameters)
    if fault is None:
        return None
    level, problem, legal = fault
    if not legal:
        return f"{problem}."
    close = difflib.get_close_matches(parts[level], sorted(legal))
    if not close:
        return f"{problem}. Legal are {', '.join(sorted(legal))}."
    ids = [[*parts[:level], name, *parts[level + 1 :]] for name in close]
    ids = [one for one in ids if _fault(one, parser, parameters) is None] or [one[: level + 1] for one in ids]
    return f"{problem}. Did you mean {' or '.join('--' + '#'.join(one) for one in ids)}?"


def _fault(parts: Sequence[str], parser: ConfigParser, parameters: Collection[str]) -> _Fault | None:
    node: Any = parser.get()
    for level, part in enumerate(parts):
        where = "#".join(parts[:level])
        if isinstance(node, list):
            try:
                node = node[int(part)]
            except (ValueError, IndexError):
                return _Fault(level, f"{where} is a list of {len(node)} items, counted from 0, without {part!r}")
        elif not isinstance(node, dict):
            return _Fault(level, f"{where} is {node!r}, which has no parts")
        elif part in node:
            node = node[part]
        else:
            quoted = '"' + part + '"'
            legal, problem = {*node}, f"there is no {quoted} in {where}"
            if level == 0:
                legal = {*node, *parameters} - {parser.meta_key}
                problem = f"there is no {quoted} at the top of the config files"
            elif level == len(parts) - 1:  # a new key
                arguments = _arguments(node, parser.locator) if "_target_" in node else None
                if arguments is None:
                    return None
                legal |= arguments
                problem = f"{where}, {node['_target_']}, takes no {quoted}"
            return None if level == len(parts) - 1 and part in legal else _Fault(level, problem, legal)
    return None


def _arguments(component: Mapping[str, Any], locator: ComponentLocator) -> set[str] | None:
    """The keys that a component of a config may have; None if it takes any, or they are not known."""
    target = ConfigComponent(dict(component), locator=locator).resolve_module_name()
    called = locate(target) if isinstance(target, str) else None
    arguments: set[str] = set()
    for function in _functions(called):
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):  # no function, or one in C
            return None
        arguments |= {one.name for one in parameters if one.kind in _NAMED}
        if not any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters):
            return arguments | ConfigComponent.non_arg_keys
    return None


def _functions(called: Any) -> list[Any]:
    """What takes the arguments of a call: each hands those that it has not to the next."""
    if inspect.isclass(called) and called.__module__.startswith("equivariant_nets."):  # whose classes do so
        return [partial(vars(one)["__init__"], None) for one in called.__mro__ if "__init__" in vars(one)]
    return [called]
