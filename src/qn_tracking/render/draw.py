"""Specifications drawn: SVG, PNG and PDF by `vl-convert`, offline, the same bytes every time."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from qn_tracking.errors import UnsupportedError
from qn_tracking.render import page

VEGA_LITE = "5.21"
"""The version that draws: one that other tools and notebooks know as well."""
SCALE = 3.0
"""Pixels of a PNG for one of the picture: about 300 in an inch of print."""
FORMATS = ("svg", "png", "pdf", "html", "json")


def engine(hint: str = "") -> Any:
    """The library that draws. Raises UnsupportedError where it is not installed."""
    try:
        return import_module("vl_convert")
    except ImportError:
        raise UnsupportedError(
            "drawing a picture needs vl-convert-python",
            hint=f"pip install 'qn-tracking[plot]'{hint}",
        ) from None


def svg(spec: dict[str, Any]) -> str:
    """The picture as SVG. Raises UnsupportedError without the engine."""
    drawn: str = engine().vegalite_to_svg(spec, vl_version=VEGA_LITE, allowed_base_urls=[])
    return drawn


@cache
def bundle() -> bytes:
    """The script that draws specifications in a browser, without evaluating any text as code."""
    # Its newest Vega-Lite: the one that is of its version of Vega, and says nothing on the console.
    script: str = engine().javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return script.encode()


def draw(
    spec: dict[str, Any], format: str, *, table: tuple[list[str], list[list[str]]] | None = None
) -> bytes:
    """The picture as the bytes of a file; a page has its `table` of titles and rows as well."""
    if format == "json":
        import json

        return (json.dumps(spec, indent=1, ensure_ascii=False) + "\n").encode()
    convert = engine("; .json needs nothing")
    if format == "html":
        body = page.figure(svg(spec), spec["description"])
        if table is not None:
            body += page.table(*table)
        return page.document(" ".join(spec["title"]["text"]), body).encode()
    if format == "svg":
        return svg(spec).encode()
    common = {"vl_version": VEGA_LITE, "allowed_base_urls": []}
    if format == "png":
        data: bytes = convert.vegalite_to_png(spec, scale=SCALE, **common)
        return data
    # Fonts are embedded in the order of a hash: the same bytes every time need a single one.
    config = spec["config"]
    one_font = {**spec, "config": {**config, "title": {**config["title"], "fontWeight": "normal"}}}
    return _ordered(convert.vegalite_to_pdf(one_font, **common))


def _ordered(pdf: bytes) -> bytes:
    """The PDF with the names of a page's parts in one order, which else is that of a hash."""
    import re

    def ordered(match: re.Match[bytes]) -> bytes:
        return b"".join(sorted(match[0].splitlines(keepends=True)))

    return re.sub(rb"(?:      /[A-Za-z]+\d+ \d+ 0 R\n)+", ordered, pdf)
