"""HTML that opens from disk without a network: ``report.html.jinja`` says how data look, Python gives them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from equivariant_nets.files import write_text

__all__ = ["render", "templates", "write_report"]


def templates(folder: Path, autoescape: bool) -> Environment:
    """Those of a folder, in which a name without data is an error, and lines of statements leave no trace."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=autoescape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


_TEMPLATES = templates(Path(__file__).parent, autoescape=True)
_TEMPLATES.filters["base64"] = lambda path: base64.b64encode(path.read_bytes()).decode()


def render(part: str, **data: object) -> str:
    """A part of the template with its data; texts are escaped, and a picture is the path of a PNG."""
    module = _TEMPLATES.get_template("report.html.jinja").module
    return str(getattr(module, part)(**data)).strip() + "\n"


def write_report(
    path: str | Path,
    title: str,
    paragraphs: Sequence[str],
    tables: Sequence[Sequence[Sequence[str]]],
    pictures: Sequence[Path],
    lead: Sequence[Path] = (),
) -> Path:
    """Write one HTML file that opens from disk without a network: text, tables (first row the header) and pictures.

    The pictures of ``lead`` stand above the text.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    page = render("report", title=title, paragraphs=paragraphs, tables=tables, pictures=pictures, lead=lead)
    write_text(path, page)
    return path
