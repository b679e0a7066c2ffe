"""Pages of the site, by templates: whatever a page is given is text, escaped and printable.

The templates are in `templates/site`, with the style and the script that all pages share. A page
has no style and no script of its own, so that its policy needs no exception.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Any

from qn_tracking.errors import UnsupportedError, printable
from qn_tracking.render import page

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = os.path.join(os.path.dirname(os.path.dirname(__file__)), "templates", "site")
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; base-uri 'none'; form-action 'none'"
)


@cache
def templates() -> Environment:
    """The templates. Raises UnsupportedError where Jinja2 is not installed."""
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError:
        raise UnsupportedError(
            "a site needs Jinja2", hint="pip install 'qn-tracking[site]'"
        ) from None
    found = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(lines=_lines, figure=_figure)
    found.globals["policy"] = POLICY
    return found


def render(template: str, **values: Any) -> str:
    """A page. Values are text; only `figure` takes markup, of a picture that the project drew."""
    return templates().get_template(template).render(values)


def shared() -> dict[str, bytes]:
    """The files that all pages share, by name."""
    with open(os.path.join(FOLDER, "site.css"), "rb") as style:
        css = page.STYLE.encode() + style.read()
    with open(os.path.join(FOLDER, "site.js"), "rb") as script:
        return {"site.css": css, "site.js": script.read()}


def _shown(value: Any) -> Any:
    """A value as it is printed; what is markup already stays."""
    return value if hasattr(value, "__html__") else printable(value)


def _lines(text: str) -> Any:
    """A text of several lines, which stay lines."""
    from markupsafe import Markup

    return Markup("\n").join(printable(line) for line in text.splitlines())


def _figure(svg: str, description: str) -> Any:
    """A picture that the project drew, with its description for a screen reader."""
    from markupsafe import Markup

    return Markup(page.figure(svg, description))  # noqa: S704
