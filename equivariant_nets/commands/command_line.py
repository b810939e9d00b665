"""Check a command line of ``python -m monai.bundle``: options that nothing reads, and names that do not arrive."""

from __future__ import annotations

import inspect
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import fire
import monai.bundle.scripts
from fire.decorators import SetParseFn
from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser, ConfigWorkflow, ReferenceResolver, update_kwargs
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS

from equivariant_nets.commands.overrides import problem_of_override

__all__ = ["check_command_line"]

# Options that stand for the text that was typed, whatever it looks like.
FILES = {
    "bundle_root", "ckpt_dir", "ckpt_file", "ckpt_path", "clicks", "dataset_dir", "filepath", "initial_weights",
    "output_dir", "split_file",
}  # fmt: skip
# Switches that are read as they are typed, by `equivariant_nets.settings.is_on`. To all else, the text false is true.
SWITCHES = {"bfloat16", "check_skull", "dicom_seg", "overwrite", "resume"}
TEXTS = {*FILES, "dask", "experiment_name", "pattern", "run_name", "tracking_uri"}


def check_command_line(arguments: Sequence[str]) -> None:
    """Check the options of MONAI's command before anything runs.

    Legal are the parameters of the command, the keys at the top of the merged config files, and what lies below them,
    such as ``network_def#depth``: a component takes the arguments of its class, and a plain dictionary any key. An
    option that names a folder, a file or a pattern must be read as it was typed: ``1001`` would arrive as a number, and
    ``2024_01`` as 202401. What is a number in the config stays one, or becomes an expression; what is True or False is
    given no text that counts as true.

    Args:
        arguments: the name of the command and all that follows. Commands without ``config_file`` pass.

    Raises:
        ValueError: an option is not legal, and the closest legal ones are named; or a name is read as something else.
        OSError: a config file cannot be read.

    Example:
        >>> from equivariant_nets.commands import check_command_line
        >>> check_command_line(["run", "--config_file", "[]", "--trakcing", "mlflow"])
        Traceback (most recent call last):
        ValueError: --trakcing: there is no "trakcing" at the top of the config files. Did you mean --tracking?
    """
    command = getattr(monai.bundle.scripts, arguments[0], None) if arguments else None
    if not inspect.isfunction(command):
        return
    texts = _typed(command, arguments[1:])
    values = {option: DefaultParseValue(text) for option, text in texts.items()}
    merged = update_kwargs(values.pop("args_file", None), **values)
    if "config_file" not in merged or "workflow_name" in merged:
        return
    parser = ConfigParser()
    parser.read_config(merged["config_file"])
    for key, value in _tracking_options(merged.get("tracking")).items():
        if key not in parser:
            parser[key] = value
    options = {**values, **merged}  # MONAI ignores those that are None
    unknown = _unknown(command, options, parser)
    known = {option: value for option, value in options.items() if option not in unknown}
    if problems := [*_misread(texts, known, parser), *(f"--{option}: {text}" for option, text in unknown.items())]:
        raise ValueError("\n".join(problems))


def _typed(command: Any, arguments: Sequence[str]) -> dict[str, str]:
    """The text of each option, found as fire finds it: by position, behind an equals sign, with dashes in its name."""

    @SetParseFn(str)
    def options(*positional: str, **named: str) -> inspect.BoundArguments:
        return inspect.signature(command).bind(*positional, **named)

    bound = fire.Fire(options, command=list(arguments), serialize=lambda _: None)
    texts: dict[str, Any] = dict(bound.arguments)
    for others in _parameters(command, inspect.Parameter.VAR_KEYWORD):
        texts |= texts.pop(others, {})
    return texts


def _parameters(command: Any, *kinds: Any) -> set[str]:
    return {name for name, one in inspect.signature(command).parameters.items() if one.kind in kinds}


def _tracking_options(tracking: Any) -> dict[str, Any]:
    """What ``--tracking`` adds to a config."""
    if tracking is None:
        return {}
    is_name = isinstance(tracking, str) and tracking in DEFAULT_EXP_MGMT_SETTINGS
    settings: Any = DEFAULT_EXP_MGMT_SETTINGS[tracking] if is_name else ConfigParser.load_config_files(tracking)
    return {key: value for key, value in settings["configs"].items() if key not in settings["handlers_id"]}


def _misread(texts: Mapping[str, str], options: Mapping[str, Any], parser: ConfigParser) -> Iterator[str]:
    for option in sorted(TEXTS & options.keys()):
        value, text = options[option], texts.get(option)
        if value is None and parser.get(option, "") is None:  # None is its default
            continue
        if option == "clicks" and isinstance(value, Mapping):  # the content of its file
            continue
        if text is None:
            if not isinstance(value, str):
                yield f"{option} is {value!r} in the args_file. Write it as a text, in quotes."
        elif value != text and not (isinstance(value, str) and text.startswith(("'", '"'))):
            omitted = ", as an option without a value is" if value is True else ""
            yield (
                f"--{option} {text} is read as {value!r} ({type(value).__name__}){omitted}. "
                f"Write --{option} {_remedy(option, text)}."
            )


def _remedy(option: str, text: str) -> str:
    """The argument, as a shell takes it, that is read as a text."""
    path = f"./{text}"
    is_path = option in FILES and DefaultParseValue(path) == path
    return shlex.quote(path if is_path else json.dumps(text))


def _unknown(command: Any, options: Mapping[str, Any], parser: ConfigParser) -> dict[str, str]:
    """The options that nothing reads, or of another kind than in the config, and what is legal in their place."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = _parameters(command, kind)
    if command in (monai.bundle.scripts.run, monai.bundle.scripts.run_workflow):  # which pass the others on
        parameters |= _parameters(ConfigWorkflow, kind)
    read = _read_by_name(options, parser)
    problems = {}
    for option, value in options.items():
        if option in parameters:
            continue
        problem = None if option in read else problem_of_override(option, parser, parameters)
        problem = problem or _problem_of_kind(option, value, parser.get(option))
        if problem is not None:
            problems[option] = problem
        elif value is not None:
            parser[option] = value  # of which a later option may be a part
    return problems


def _problem_of_kind(option: str, value: Any, default: Any) -> str | None:
    if not isinstance(value, str) or value.startswith(("$", "@", "%")):
        return None
    if isinstance(default, bool):
        if option in SWITCHES or value == "true":
            return None
        return f"{value!r} is read as a text, which counts as true. Write True or False, with a capital."
    if isinstance(default, int | float):
        return f"{value!r} is no number, which {default!r} in the config is. Give a number, or an expression ($ ...)."
    return None


def _read_by_name(options: Mapping[str, Any], parser: ConfigParser) -> set[str]:
    """Keys that a config need not have: what a command runs or exports, and what is referred to, as by ``@loss``."""
    ids = {"initialize", "run", "finalize", *(str(options[name]) for name in options if name.endswith("_id"))}
    values = [parser.get(), *options.values()]
    references = {one for value in values for one in ReferenceResolver.find_refs_in_config(value, "")}
    return ids | {ReferenceResolver.split_id(one)[0] for one in references} - {*parser.get()}
