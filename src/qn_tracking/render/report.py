"""A report as one page of HTML, or as Markdown with its pictures beside; pure functions.

A report is a list of blocks. Every text in it may be a stranger's: it is escaped here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import frozen

from qn_tracking.errors import printable
from qn_tracking.render import page
from qn_tracking.render.board import cell


@frozen
class Heading:
    """Above a section."""

    text: str


@frozen
class Text:
    """A paragraph."""

    text: str


@frozen
class Code:
    """Lines as they are: commands, a configuration."""

    text: str


@frozen
class Table:
    """Rows under their titles."""

    titles: Sequence[str]
    rows: Sequence[Sequence[str]]


@frozen
class Figure:
    """A picture by its name, with its description."""

    name: str
    description: str


Block = Heading | Text | Code | Table | Figure


def html(title: str, blocks: Sequence[Block], pictures: Mapping[str, str]) -> str:
    """One page that stands alone; `pictures` are SVGs by name."""
    parts = [page.heading(title, 1)]
    for block in blocks:
        match block:
            case Heading(text):
                parts.append(page.heading(text))
            case Text(text):
                parts.append(page.paragraph(text))
            case Code(text):
                parts.append(page.code(text))
            case Table(titles, rows):
                parts.append(page.table(titles, rows))
            case Figure(name, description):
                parts.append(page.figure(pictures[name], description))
    return page.document(title, "".join(parts))


def markdown(title: str, blocks: Sequence[Block], files: Mapping[str, str]) -> str:
    """Markdown; `files` are the names of the pictures' files, beside this one."""
    from urllib.parse import quote

    parts = [f"# {cell(title)}\n"]
    for block in blocks:
        match block:
            case Heading(text):
                parts.append(f"## {cell(text)}\n")
            case Text(text):
                parts.append(f"{cell(text)}\n")
            case Code(text):
                lines = "".join(f"    {printable(line)}\n" for line in text.splitlines())
                parts.append(lines)
            case Table(titles, rows):
                parts.append(_table(titles, rows))
            case Figure(name, description):
                parts.append(f"![{cell(description)}]({quote(files[name])})\n")
    return "\n".join(parts)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(map(cell, titles))} |", "|---" * len(titles) + "|"]
    lines += [f"| {' | '.join(map(cell, row))} |" for row in rows]
    return "\n".join(lines) + "\n"
