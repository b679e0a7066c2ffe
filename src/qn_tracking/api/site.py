"""A static site: pages in a folder, each written only if what it is made of has changed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any

from attrs import frozen

from qn_tracking import files as system
from qn_tracking.benchmark.cache import digest
from qn_tracking.code import place_of, source_digest
from qn_tracking.errors import UsageError
from qn_tracking.render import site as templates
from qn_tracking.store.write import make_folder, naming, published

Progress = Callable[[int, int], None]

STAMPS = ".site.json"
"""What each page was made of, in the folder of the site: pages of the same are left as they are."""
_OURS = re.compile(
    r"(index|experiments|all-runs-\d+)\.html|"
    r"(entries|compare|rankings|runs|studies)/[A-Za-z0-9][A-Za-z0-9._-]*\.(html|js)"
)
STYLE = "site.css"
"""Of every page."""
SCRIPTS = ("vega.js", "site.js")
"""Of a page with pictures."""


@frozen(kw_only=True)
class Site:
    """A site that was built: its pages, how many were drawn now, and the bytes of all.

    `removed` pages were of entries that are gone. `left_out` maps files of submissions that are
    not valid here to the cause.
    """

    folder: str
    pages: int
    drawn: int
    removed: int
    bytes: int
    left_out: Mapping[str, str]

    def plain(self) -> dict[str, Any]:
        """The summary as JSON data."""
        names = ("folder", "pages", "drawn", "removed", "bytes")
        return {**{name: getattr(self, name) for name in names}, "left_out": dict(self.left_out)}


@frozen(kw_only=True)
class Page:
    """A file of the site: what it is made of, as JSON data, and how it is made.

    `make` returns the values of a `template`, or without one the bytes.
    """

    name: str
    inputs: Any
    make: Callable[[], Any]
    template: str | None = None
    scripts: Sequence[str] = SCRIPTS

    def data(self, nav: Sequence[tuple[str, str]]) -> bytes:
        """The bytes of the file."""
        if self.template is None:
            made: bytes = self.make()
            return made
        root = "../" * self.name.count("/")
        return templates.render(
            self.template, root=root, nav=nav, scripts=self.scripts, **self.make()
        ).encode()


def build(
    folder: str,
    pages: Iterable[Page],
    nav: Sequence[tuple[str, str]],
    left_out: Mapping[str, str],
    progress: Progress | None = None,
    only: str | None = None,
) -> Site:
    """Writes the pages of which something has changed, and removes those that are gone.

    `nav` are the pages to which every page leads: their titles and names. With `only` that page
    alone is looked at, with its scripts. Raises UsageError for a folder with other files, so that
    none of them is overwritten; StorageError.
    """
    shared = [Page(name=n, inputs=of, make=make) for n, (of, make) in templates.shared().items()]
    before = _stamps(folder)
    place = place_of("qn_tracking")
    tool = [source_digest(place) if place else "", list(nav)]
    made = [*shared, *pages]
    if only is not None:
        needed = {name for page in made if page.name == only for name in (only, *page.scripts)}
        made = [page for page in made if page.name in {*needed, STYLE}]
    now: dict[str, list[str]] = {}
    drawn, size = 0, 0
    try:
        for done, page in enumerate(made):
            if progress:
                progress(done, len(made))
            path = _path(folder, page.name)
            key = digest([page.inputs, *(tool if page.template else ())])
            data = _read(path) if before.get(page.name, [""])[0] == key else None
            if data is None or before[page.name][1] != sha256(data).hexdigest():
                data = page.data(nav)
                make_folder(os.path.dirname(path))
                with published(path, replace=True) as stream:
                    stream.write(data)
                drawn += page.template is not None
            now[page.name] = [key, sha256(data).hexdigest()]
            size += len(data)
    finally:
        # What was drawn before a failure is not drawn again.
        make_folder(folder)
        with published(os.path.join(folder, STAMPS), replace=True) as stream:
            stream.write(json.dumps({"pages": {**before, **now}}).encode())
    looked_at = before if only is None else [only] if only in before else []
    gone = [name for name in looked_at if name not in now and _OURS.fullmatch(name)]
    for name in gone:
        path = _path(folder, name)
        with naming(path), suppress(FileNotFoundError):
            os.unlink(path)
    if gone:
        with published(os.path.join(folder, STAMPS), replace=True) as stream:
            kept = {name: stamp for name, stamp in {**before, **now}.items() if name not in gone}
            stream.write(json.dumps({"pages": kept}).encode())
    if progress:
        progress(len(made), len(made))
    return Site(
        folder=folder,
        pages=sum(page.template is not None for page in made),
        drawn=drawn,
        removed=sum(name.endswith(".html") for name in gone),
        bytes=size,
        left_out=left_out,
    )


def _path(folder: str, name: str) -> str:
    """The path of a page. Raises StorageError for a link in the place of a folder of the site."""
    *folders, file = name.split("/")
    return os.path.join(system.inside(folder, *folders), file)


def _stamps(folder: str) -> dict[str, list[str]]:
    """What the pages in a folder were made of. Raises UsageError for a folder of other files."""
    if not folder or "\x00" in folder:
        raise UsageError("expected a folder for the site")
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise UsageError("is not a folder", file=folder)
    data = _read(os.path.join(folder, STAMPS))
    if data is None:
        with naming(folder):
            if os.path.isdir(folder) and os.listdir(folder):
                hint = "name another one, or one that this command has made"
                raise UsageError("is not empty, and not a site", file=folder, hint=hint)
        return {}
    try:
        pages = json.loads(data)["pages"]
        return {
            str(name): [key, content]
            for name, (key, content) in pages.items()
            if type(key) is str and type(content) is str
        }
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}  # every page is drawn again


def _read(path: str) -> bytes | None:
    try:
        return system.load(path)[0]
    except FileNotFoundError:
        return None
