"""Parts of an HTML page that opens from disk without a network: all text is escaped, all pictures are inside."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path

__all__ = ["page", "paragraph", "picture", "table", "write_report"]

STYLE = (
    "body{font-family:sans-serif;max-width:70em;margin:2em auto}"
    "td,th{padding:.2em 1em;text-align:left}img{max-width:100%}"
)


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph, of a class of the style sheet if one is given."""
    return f'<p class="{kind}">{html.escape(text)}</p>' if kind else f"<p>{html.escape(text)}</p>"


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table; its first row is the header."""

    def row(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    header, *others = rows
    return "<table>" + row(header, "th") + "".join(row(cells, "td") for cells in others) + "</table>"


def picture(path: str | Path, description: str | None = None) -> str:
    """A PNG with the text that stands for it; by default the name of the file without its ending."""
    path = Path(path)
    text = html.escape(path.stem if description is None else description)
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<p><img alt="{text}" src="data:image/png;base64,{data}"></p>'


def page(path: str | Path, title: str, body: str, style: str = STYLE) -> Path:
    """Write a page and return its path.

    Args:
        path: the file to write.
        title: of the window.
        body: HTML, such as the other functions return.
        style: CSS.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{style}</style>'
    path.write_text(f'<!doctype html><html lang="en">{head}{body}</html>\n', encoding="utf-8")
    return path


def write_report(
    path: str | Path,
    title: str,
    paragraphs: Sequence[str],
    tables: Sequence[Sequence[Sequence[str]]],
    pictures: Sequence[Path],
) -> Path:
    """Write one HTML file that opens from disk without a network: text, tables (first row the header) and pictures."""
    parts = [f"<h1>{html.escape(title)}</h1>", *map(paragraph, paragraphs)]
    parts += [*map(table, tables), *map(picture, pictures)]
    return page(path, title, "".join(parts))
