"""Pages of the site, by templates: whatever a page is given is text, escaped and printable.

The templates are in `templates/site`, with the style and the script that all pages share. A page
has no style and no script of its own, so that its policy needs no exception. Pictures are
specifications in the page, as data, which the browser draws.
"""

from __future__ import annotations

import os
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from qn_tracking.errors import UnsupportedError, printable
from qn_tracking.render import page

if TYPE_CHECKING:
    from collections.abc import Callable

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
    found.filters["lines"] = _lines
    found.policies["json.dumps_kwargs"] = {"sort_keys": True, "separators": (",", ":")}
    found.globals["policy"] = POLICY
    return found


def check_installed() -> None:
    """Raises UnsupportedError where a library of a site is not installed."""
    from qn_tracking.render import draw

    templates()
    draw.engine()


def render(template: str, **values: Any) -> str:
    """A page. Values are text, or data that becomes JSON; none is markup."""
    return templates().get_template(template).render(values)


def shared() -> dict[str, tuple[str, Callable[[], bytes]]]:
    """The files that all pages share, by name: what each is made of, and how."""
    from qn_tracking.render import draw

    library = f"{draw.VEGA_LITE} {getattr(draw.engine(), '__version__', '')}"
    css = page.STYLE.encode() + _file("site.css")
    script = _file("site.js")
    return {
        "site.css": (sha256(css).hexdigest(), lambda: css),
        "site.js": (sha256(script).hexdigest(), lambda: script),
        "vega.js": (library, draw.bundle),
    }


def _file(name: str) -> bytes:
    with open(os.path.join(FOLDER, name), "rb") as stream:
        return stream.read()


def _shown(value: Any) -> Any:
    """A value as it is printed; what is markup already stays."""
    return value if hasattr(value, "__html__") else printable(value)


def _lines(text: str) -> Any:
    """A text of several lines, which stay lines."""
    from markupsafe import Markup

    return Markup("\n").join(printable(line) for line in text.splitlines())
