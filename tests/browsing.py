"""A real browser for tests: Chromium of the distribution, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from qn_tracking.render.picture_parts import DARK_COLOURS, LIGHT_COLOURS

SCREENS = [(width, colours) for width in (390, 1400) for colours in ("light", "dark")]
PAPER = {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}


@pytest.fixture(scope="module")
def browser() -> Any:
    driver = pytest.importorskip("playwright.sync_api")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("no Chromium")
    with driver.sync_playwright() as started:
        found = started.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield found
        found.close()


@contextmanager
def quiet_page(browser: Any, width: int, colours: str) -> Iterator[Any]:
    """A page of a browser that is offline; nothing may be on its console at the end, and no request
    may have left the disk.
    """
    screen = {"width": width, "height": 900}
    context = browser.new_context(viewport=screen, color_scheme=colours, offline=True)
    page = context.new_page()
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    yield page
    assert said == [], said
    assert {urlsplit(url).scheme for url in asked} == {"file"}, asked
    context.close()


def looked_at(page: Any, path: Path, width: int, colours: str) -> None:
    """Opens a page and waits for its pictures: it is as wide as the screen, has the reader's
    colours, and axe has nothing serious to say. With QN_SCREENSHOTS a picture of it is kept there.
    """
    from axe_playwright_python.sync_playwright import Axe

    page.goto(path.as_uri())
    for figure in page.query_selector_all("figure.picture, figure.overlay"):
        figure.scroll_into_view_if_needed()
        page.wait_for_function("one => one.classList.contains('drawn')", arg=figure)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == PAPER[colours]
    strokes = page.evaluate(
        "[...document.querySelectorAll('svg.light [stroke]')].map(e => getComputedStyle(e).stroke)"
    )
    other = LIGHT_COLOURS if colours == "dark" else DARK_COLOURS
    theirs = {f"rgb({', '.join(str(b) for b in bytes.fromhex(one[1:]))})" for one in other}
    assert not theirs & {*strokes}
    assert page.query_selector("svg.light [role], svg.light [aria-label]") is None
    kept = os.environ.get("QN_SCREENSHOTS")
    if kept:
        page.evaluate("window.scrollTo(0, 0)")
        name = "-".join(path.with_suffix("").parts[-3:])[:80]
        page.screenshot(path=f"{kept}/{name}-{width}-{colours}.png", full_page=True)
    options = {"resultTypes": ["violations"], "preload": False}  # it would fetch the style
    found = Axe().run(page, options=options).response["violations"]
    serious = [one for one in found if one["impact"] in ("serious", "critical")]
    remarks = [(one["id"], [node["html"] for node in one["nodes"]]) for one in serious]
    assert remarks == [], remarks
