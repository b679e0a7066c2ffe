"""A report as one page of HTML, or as Markdown with its pictures beside; pure functions.

A report is a list of blocks. Every text in it may be a stranger's: it is escaped here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from attrs import frozen

from qn_tracking.errors import printable
from qn_tracking.render import page
from qn_tracking.render.board import cell, table


@frozen
class Heading:
    """Above a section."""

    text: str


@frozen
class Text:
    """A paragraph."""

    text: str


@frozen
class Items:
    """Sentences of a list."""

    texts: Sequence[str]


@frozen
class Code:
    """Lines as they are: commands, a configuration."""

    text: str


@frozen
class Table:
    """Rows under their titles; `caption` is what a page calls it, by default as its heading."""

    titles: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@frozen
class Figure:
    """A picture by its name, with its description."""

    name: str
    description: str


Block = Heading | Text | Items | Code | Table | Figure


def html(title: str, blocks: Sequence[Block], pictures: Mapping[str, str]) -> str:
    """One page that stands alone; `pictures` are SVGs by name."""
    parts = [f"<h1>{page.text(title)}</h1>\n"]
    for block in blocks:
        match block:
            case Heading(text):
                parts.append(f"<h2>{page.text(text)}</h2>\n")
            case Text(text):
                parts.append(f"<p>{page.text(text)}</p>\n")
            case Items(texts):
                lines = "".join(f"<li>{page.text(text)}</li>\n" for text in texts)
                parts.append(f"<ul>\n{lines}</ul>\n")
            case Code(text):
                lines = "\n".join(map(page.text, text.splitlines()))
                parts.append(f"<pre><code>{lines}</code></pre>\n")
            case Table(titles, rows):
                parts.append(page.table(titles, rows))
            case Figure(name, description):
                parts.append(page.figure(pictures[name], description))
    return page.document(title, "".join(parts))


def plain(text: object) -> str:
    """A stranger's text as plain text of Markdown that is also read as it is: by people, in a diff.

    As `render.board.cell`, but what is harmless once brackets, pipes and angles are escaped stays.
    """
    return _HARMLESS.sub(lambda found: _AS_IT_IS[found[0]], cell(text))


_AS_IT_IS = {f"&#{ord(char)};": char for char in ":()'\""} | {"&#91;": "\\[", "&#93;": "\\]"}
_HARMLESS = re.compile(
    r"&#58;(?=\s|$)|(?<=\d)&#58;(?=\d)|" + "|".join(name for name in _AS_IT_IS if name != "&#58;")
)


def markdown(blocks: Sequence[Block], files: Mapping[str, str]) -> str:
    """Markdown; `files` are the names of the pictures' files, beside this one."""
    from urllib.parse import quote

    parts = []
    for block in blocks:
        match block:
            case Heading(text):
                parts.append(f"## {plain(text)}\n")
            case Text(text):
                parts.append(f"{plain(text)}\n")
            case Items(texts):
                parts.append("".join(f"- {plain(text)}\n" for text in texts))
            case Code(text):
                lines = "".join(f"    {printable(line)}\n" for line in text.splitlines())
                parts.append(lines)
            case Table(titles, rows):
                said = [[plain(text) for text in row] for row in (titles, *rows)]
                parts.append(table(said[0], said[1:])[1:])
            case Figure(name, description):
                parts.append(f"![{plain(description)}]({quote(files[name])})\n")
    return "\n".join(parts)


# ----------------------------------------------------------------------------------------- markers


def markers(key: str) -> tuple[str, str]:
    """The lines between which a report stands, so that people write their own text around it."""
    return f"<!-- qn:report {key} -->", f"<!-- /qn:report {key} -->"


def section(page: str, key: str) -> tuple[int, int] | None:
    """Where in a page the text between the markers begins and ends; None without them.

    A marker is a line of its own. Raises ValueError for one without the other, or twice.
    """
    places: list[list[int]] = [[], []]
    at = 0
    for line in page.split("\n"):
        for found, marker in zip(places, markers(key), strict=True):
            if line.rstrip("\r") == marker:
                found.append(at)
        at += len(line) + 1
    begin, end = places
    if not begin and not end:
        return None
    if len(begin) != 1 or len(end) != 1 or end < begin:
        first, last = markers(key)
        raise ValueError(f"expected the lines {first} and {last} once each, in this order")
    return page.index("\n", begin[0]) + 1, end[0]


def fresh(title: str, key: str, body: str) -> str:
    """A whole page: the title, and below it the report between its markers."""
    begin, end = markers(key)
    return f"# {plain(title)}\n\n{begin}\n{body}{end}\n"
