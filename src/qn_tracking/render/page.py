"""Pages of HTML that stand alone: no script, no request, and every stored text is text."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from html import escape

from qn_tracking.errors import printable
from qn_tracking.render.picture_parts import DARK, LIGHT

_DRAWN = {
    **dict(zip(LIGHT.colours, DARK.colours, strict=True)),
    LIGHT.pale: DARK.pale,
    LIGHT.ink: DARK.ink,
}
"""What a colour of a light picture is where the reader prefers dark."""
_DARK_COLOURS = "".join(
    f'  svg.light [{name}="{light}" i] {{ {name}: {dark} }}\n'
    for light, dark in _DRAWN.items()
    for name in ("stroke", "fill")
)
STYLE = (
    """
:root { color-scheme: light dark; --paper: #fff; --ink: #1f2328; --pale: #59636e; --grid: #d8dee4 }
@media (prefers-color-scheme: dark) {
  :root { --paper: #0d1117; --ink: #e6edf3; --pale: #9da7b3; --grid: #30363d }
  svg.light > rect { fill: var(--paper) }
  svg.light :not(.role-mark) > text { fill: var(--ink) }
  svg.light .role-title-subtitle > text { fill: var(--pale) }
  svg.light .role-mark [stroke="#ffffff" i] { stroke: var(--paper) }
  svg.light .role-axis-grid line { stroke: var(--grid) }
"""
    + _DARK_COLOURS
    + """}
body { background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
  margin: 0 auto; max-width: 60rem; overflow-wrap: break-word; padding: 1rem }
h1, h2, h3 { line-height: 1.2 }
figure { display: inline-block; margin: 0 1rem 1rem 0; max-width: 100%; vertical-align: top }
figcaption, .pale { color: var(--pale); font-size: .85rem; max-width: 42rem }
svg { height: auto; max-width: 100%; overflow: visible; width: 34rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-size: .9rem; margin: 0 0 1rem }
th, td { border-bottom: 1px solid var(--grid); max-width: 24rem; overflow-wrap: break-word;
  padding: .2rem .7rem .2rem 0; text-align: left; vertical-align: top }
pre { overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere }
@media (max-width: 40rem) {
  .wide table { width: max-content }
  .wide :is(th, td) { max-width: 16rem }
  .wide table:not(:has(th:nth-child(3))) { width: auto }
  table:not(:has(th:nth-child(3))) td { overflow-wrap: anywhere }
}
"""
)
POLICY = "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'"


_TAG, _SPOKEN = re.compile("<[^>]*>"), re.compile(r' (?:role|aria-[a-z]+)="[^"]*"')
"""What a picture says of its parts: it is one image with one name."""


def text(value: object) -> str:
    """A stored text, of anyone, as text of a page."""
    return escape(printable(value))


def document(title: str, body: str) -> str:
    """A whole page around a body; its policy allows nothing but this one style."""
    policy = POLICY.format(b64encode(sha256(STYLE.encode()).digest()).decode())
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}</main>\n</body>\n</html>\n"
    )


def figure(svg: str, description: str) -> str:
    """A picture that the project drew, for a screen reader with its description.

    One of light colours takes those of the page where the reader prefers dark.
    """
    theme = "light" if 'fill="#ffffff"' in svg[:400] else "dark"
    start = f'<svg role="img" aria-label="{text(description)}" class="{theme}"'
    plain = _TAG.sub(lambda tag: _SPOKEN.sub("", tag[0]), svg)
    drawn = plain.replace(' class="marks"', "", 1).replace("<svg", start, 1)
    return f"<figure>{drawn}</figure>\n"


def table(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Rows under their titles."""
    head = "".join(f'<th scope="col">{text(title)}</th>' for title in titles)
    lines = [
        "<tr>" + "".join(f"<td>{text('' if c is None else c)}</td>" for c in row) + "</tr>\n"
        for row in rows
    ]
    return (
        f'<div class="wide" tabindex="0"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{''.join(lines)}</tbody>\n</table></div>\n"
    )
