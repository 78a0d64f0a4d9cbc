"""Pieces of HTML: the page around, tables, badges. Everything that comes from a run is escaped."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from kexue_cli.manage.tables import Row, shown

HERE = Path(__file__).parent


def page(title: str, sections: Sequence[str]) -> str:
    """A whole page: style and script inside, nothing outside."""
    style = (HERE / "style.css").read_text(encoding="utf-8")
    script = (HERE / "script.js").read_text(encoding="utf-8")
    body = "\n".join(section for section in sections if section)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"{body}\n<script>\n{script}</script>\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """A headed section, nothing if it has no content."""
    content = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>" if content else ""


def table(rows: Sequence[Row], columns: Sequence[str] | None = None, sortable: bool = False) -> str:
    """Rows as a table that scrolls sideways by itself; numbers stand right."""
    if not rows:
        return ""
    names = list(columns) if columns else list(dict.fromkeys(k for row in rows for k in row))
    numeric = {n for n in names if all(_is_number(row.get(n)) or not row.get(n) for row in rows)}
    head = "".join(f"<th{_right(n in numeric)}>{escape(n)}</th>" for n in names)
    body = "\n".join(
        "<tr>" + "".join(_cell(row.get(n), n in numeric) for n in names) + "</tr>" for row in rows
    )
    kind = ' class="sortable"' if sortable else ""
    return (
        f'<div class="scroll"><table{kind}><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _cell(value: Any, right: bool) -> str:
    text = escape(shown(value))
    wrap = ' class="wrap"' if len(text) > 40 else ""
    return f"<td{_right(right) or wrap}>{text}</td>"


def _right(right: bool) -> str:
    return ' class="number"' if right else ""


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def badge(status: str) -> str:
    """A status as a coloured word."""
    return f'<span class="badge {escape(status)}">{escape(status)}</span>'


def headline(items: Sequence[tuple[str, str]]) -> str:
    """Large numbers with small names."""
    cells = (
        f"<div><b>{escape(value)}</b><span class=soft>{escape(name)}</span></div>"
        for name, value in items
        if value
    )
    return f'<div class="headline">{"".join(cells)}</div>'


def pre(text: str) -> str:
    """Text as it is."""
    return f"<pre>{escape(text)}</pre>"


def details(summary: str, content: str, is_open: bool = False) -> str:
    """A part that opens at a click."""
    state = " open" if is_open else ""
    return f"<details{state}><summary>{escape(summary)}</summary>\n{content}\n</details>"


def picture(path: Path) -> str:
    """A PNG inside the page."""
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    name = escape(path.stem.replace("_", " "))
    return (
        f'<figure><figcaption>{name}</figcaption><img alt="{name}" '
        f'src="data:image/png;base64,{data}"></figure>'
    )


def figure(caption: str, content: str, wide: bool = False) -> str:
    """A chart with its caption."""
    kind = ' class="wide"' if wide else ""
    return f"<figure{kind}><figcaption>{caption}</figcaption>\n{content}\n</figure>"
