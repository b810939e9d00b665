"""Our own command lines: what is documented is legal, and anything else is refused before it runs."""

import ast
import contextlib
import doctest
import importlib
import re
import runpy
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest
from cyclopts import MissingArgumentError

import equivariant_nets.cli
from equivariant_nets.cli import command_line

ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted((ROOT / "equivariant_nets").rglob("__main__.py"))
# annotation_round.py imports MONAI Label
SCRIPTS = sorted(
    path
    for path in (*ROOT.glob("benchmarks/*.py"), *ROOT.glob("label/*.py"), *ROOT.glob("demo/*.py"))
    if "cli = command_line(" in path.read_text(encoding="utf-8") and path.name != "annotation_round.py"
)


NAMES = [".".join(path.relative_to(ROOT).parent.parts) for path in MODULES]
NAMES += [str(path.relative_to(ROOT)) for path in SCRIPTS]


@pytest.fixture
def cli_of(monkeypatch):
    """The command line that ``python -m NAME``, or ``python NAME``, runs."""

    def load(name):
        if not name.endswith(".py"):
            return importlib.import_module(f"{name}.__main__").cli
        monkeypatch.syspath_prepend(str((ROOT / name).parent))
        return runpy.run_path(str(ROOT / name))["cli"]

    return load


def refusal(cli, arguments, capsys):
    """The last line of a command line that is refused."""
    with pytest.raises(SystemExit) as caught:
        cli(arguments)
    assert caught.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_example():
    assert doctest.testmod(equivariant_nets.cli) == (0, 3)


@pytest.mark.parametrize("name", NAMES)
def test_every_command_says_what_is_legal_and_writes_nothing(name, cli_of, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cli = cli_of(name)
    names = [one for one in cli if not one.startswith("-")]
    if cli.default_command is None:
        assert refusal(cli, ["no_such_command"], capsys).endswith(f"Available commands: {', '.join(names)}.")
    for command in [[one] for one in names] if cli.default_command is None else [[]]:
        own = cli[command[0]] if command else cli
        legal = [one.name for one in own.assemble_argument_collection(default_parameter=cli.default_parameter)]
        cli([*command, "--help"])
        shown = capsys.readouterr().out
        assert all(one in shown for one in legal)
        if "--[KEYWORD]" not in legal:  # which takes any name
            line = refusal(cli, [*command, "--xyz"], capsys)
            assert line == f"Unknown option: --xyz. Legal are {', '.join(legal)}."
    assert list(tmp_path.iterdir()) == []


def documented_commands():
    """All of our own that README, docs, cards and the modules themselves tell a user to type."""
    files = [*ROOT.glob("*.md"), *ROOT.glob("*/*.md"), *ROOT.glob("docs/*/*.md"), *ROOT.glob("bundles/*/docs/*.md")]
    for file in sorted([*files, *MODULES, *SCRIPTS]):
        text = file.read_text(encoding="utf-8")
        text = re.sub(r"\\\n\s*", " ", text if file.suffix == ".md" else ast.get_docstring(ast.parse(text)))
        for name, line in re.findall(rf"python (?:-m )?({'|'.join(map(re.escape, NAMES))}) ([^`\n]*)", text):
            optional = re.sub(r"\[(--.*?)\]", r"\1", line)
            yield pytest.param(name, optional, id=f"{file.relative_to(ROOT)}: {name} {line[:50]}")


@pytest.mark.parametrize(("name", "line"), [*documented_commands()])
def test_every_documented_command_is_legal(name, line, cli_of):
    with contextlib.suppress(MissingArgumentError):  # a text may name a command alone
        cli_of(name).parse_args(shlex.split(line, comments=True), print_error=False, exit_on_error=False)


def probe(path: str, *, seeds: Sequence[int] = (0,), quick: bool = False, skull: Literal[True, False] = True) -> str:
    """What arrives."""
    return f"{path} {list(seeds)} {quick} {skull}"


@pytest.mark.parametrize(
    ("arguments", "arrived"),
    [
        ("a", "a [0] False True"),
        ("--path a --quick", "a [0] True True"),
        ("--quick a", "a [0] True True"),
        ("1001 --seeds [1,2]", "1001 [1, 2] False True"),
        ("a --seeds 1 2 --skull False", "a [1, 2] False False"),
        ("a --seeds 3 --skull=True", "a [3] False True"),
    ],
)
def test_values_arrive_as_they_are_typed(arguments, arrived, capsys):
    command_line(probe)(arguments.split())
    assert capsys.readouterr().out == f"{arrived}\n"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("a --seeds two", 'Invalid value for --seeds: unable to convert "two" into int.'),
        ("a --seeds [1,x]", "Invalid value for --seeds: "),
        ("a --seeds", "Parameter --seeds requires at least 1 element. Got 0."),
        ("a --skull maybe", 'Invalid value "maybe" for --skull. Choose from: True, False.'),
        ("a b", "Unused Tokens: ['b']. Legal are --path, --seeds, --quick, --skull."),
        ("a --quik", "Unknown option: --quik. Did you mean --quick? Legal are --path, --seeds, --quick, --skull."),
        ("", "Parameter --path requires an argument."),
    ],
)
def test_what_is_wrong_is_the_last_line(arguments, line, capsys):
    assert refusal(command_line(probe), arguments.split(), capsys).startswith(line)


def test_a_long_answer_stays_one_line(capsys):
    command_line(probe)(["a/[bold]" * 40])
    assert capsys.readouterr().out == "a/[bold]" * 40 + " [0] False True\n"
