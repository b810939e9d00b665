"""Which modules of this package the configs of a bundle can reach, by the imports that stand in them."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import equivariant_nets
from equivariant_nets.zoo.bundle import PACKAGE, Bundle

__all__ = ["reachable_modules"]

_SOURCE = Path(equivariant_nets.__file__).parent
_NAME = re.compile(rf"\b{PACKAGE}(?:\.\w+)*")


def reachable_modules(bundle: Bundle) -> list[Path]:
    """Files of this package that the configs of a bundle can reach, as sorted paths below the package.

    These are the modules that the configs name, in ``_target_``, imports and expressions, and all that these import,
    wherever in a module: in functions too, and for type checkers alone, as names that are imported when first asked
    for. A package that is reached brings its ``__main__``, which is its command; a module, the templates that it names.
    """
    modules = {_dotted(path): path for path in _SOURCE.rglob("*.py")}
    texts = [(bundle.root / "configs" / name).read_text(encoding="utf-8") for name in bundle.config_files]
    waiting = [name for text in texts for name in _NAME.findall(text)]
    reached: set[str] = set()
    while waiting:
        name = waiting.pop()
        while name not in modules:  # an attribute of a module
            name = name.rpartition(".")[0]
        if name in reached:
            continue
        reached.add(name)
        waiting += [name.rpartition(".")[0] or PACKAGE, *_imported(name, modules[name])]
        if name != PACKAGE and f"{name}.__main__" in modules:
            waiting.append(f"{name}.__main__")
    files = [modules[name] for name in reached]
    code = "".join(file.read_text(encoding="utf-8") for file in files)
    files += [template for template in _SOURCE.rglob("*.jinja") if template.name in code]
    return sorted(file.relative_to(_SOURCE) for file in files)


def _dotted(path: Path) -> str:
    parts = (PACKAGE, *path.relative_to(_SOURCE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(name: str, path: Path) -> Iterator[str]:
    """Names in this package that a module imports: of modules, or of what stands in them."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            names = [f"{module}.{alias.name}" for alias in node.names]
        yield from (imported for imported in names if imported.split(".")[0] == PACKAGE)
