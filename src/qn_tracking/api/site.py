"""The leaderboard as a static site: `Leaderboard.site`, which writes what has changed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from attrs import frozen

from qn_tracking import files as system
from qn_tracking.api import site_compare, site_index, site_pages
from qn_tracking.api.site_pages import Source
from qn_tracking.benchmark import places, signature
from qn_tracking.benchmark.cache import digest
from qn_tracking.code import place_of, source_digest
from qn_tracking.errors import QnError, UsageError
from qn_tracking.render import draw, site as templates
from qn_tracking.store.write import make_folder, naming, published

if TYPE_CHECKING:
    from qn_tracking.api.leaderboard import Board
    from qn_tracking.benchmark.checker import Checker
    from qn_tracking.benchmark.entries import Entry
    from qn_tracking.benchmark.survey import Survey

    Progress = Callable[[int, int], None]

STAMPS = ".site.json"
"""What each page was made of, in the folder of the site: pages of the same are left as they are."""
_OURS = re.compile(r"(entries|compare)/[A-Za-z0-9][A-Za-z0-9._-]*\.html")


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


@frozen
class _Page:
    """A file of the site: what it is made of, as JSON data, and how."""

    name: str
    inputs: Any
    make: Callable[[], bytes]


def build(
    found: Survey,
    boards: Sequence[Board],
    checker: Checker,
    folder: str,
    progress: Progress | None = None,
) -> Site:
    """Writes the site. Raises UnsupportedError without its libraries, UsageError, StorageError.

    A folder with other files is refused, so that none of them is overwritten.
    """
    templates.templates()
    engine = [draw.VEGA_LITE, getattr(draw.engine(), "__version__", "")]
    place = place_of("qn_tracking")
    tool = [*engine, source_digest(place) if place else ""]
    before = _stamps(folder)
    left_out = site_index.left_out(found)
    source = Source(found, checker)
    made = list(_pages(found, boards, source, left_out))
    now: dict[str, list[str]] = {}
    drawn, size = 0, 0
    try:
        for done, page in enumerate(made):
            if progress:
                progress(done, len(made))
            path = os.path.join(folder, *page.name.split("/"))
            key = digest([tool, page.inputs])
            data = _read(path) if before.get(page.name, [""])[0] == key else None
            if data is None or before[page.name][1] != sha256(data).hexdigest():
                data = page.make()
                make_folder(os.path.dirname(path))
                with published(path, replace=True) as stream:
                    stream.write(data)
                drawn += page.name.endswith(".html")
            now[page.name] = [key, sha256(data).hexdigest()]
            size += len(data)
    finally:
        # What was drawn before a failure is not drawn again.
        make_folder(folder)
        with published(os.path.join(folder, STAMPS), replace=True) as stream:
            stream.write(json.dumps({"pages": {**before, **now}}).encode())
    gone = [name for name in before if name not in now and _OURS.fullmatch(name)]
    for name in gone:
        path = os.path.join(folder, *name.split("/"))
        with naming(path), suppress(FileNotFoundError):
            os.unlink(path)
    if gone:
        with published(os.path.join(folder, STAMPS), replace=True) as stream:
            stream.write(json.dumps({"pages": now}).encode())
    if progress:
        progress(len(made), len(made))
    return Site(
        folder=folder,
        pages=sum(page.name.endswith(".html") for page in made),
        drawn=drawn,
        removed=len(gone),
        bytes=size,
        left_out=left_out,
    )


def _pages(
    found: Survey, boards: Sequence[Board], source: Source, left_out: Mapping[str, str]
) -> Iterator[_Page]:
    """Every file of the site, in order; nothing is drawn yet."""
    names = _names(found.entries)
    for name, data in templates.shared().items():
        yield _Page(name, sha256(data).hexdigest(), lambda data=data: data)  # type: ignore[misc]
    whole = [board.plain() for board in boards]
    yield _Page(
        "index.html",
        [whole, dict(left_out), digest(repr(found.protocol))],
        lambda: site_index.index(found, boards, names, left_out).encode(),
    )
    for board in boards:
        for title, rows in site_index.rankings(board):
            together = digest([row.plain() for row in rows])
            drawing = site_compare.Ranking(board.name, title, rows, names, source)
            for row in rows:
                yield _entry(found, board, row, title, names, source, len(rows) > 1)
            for row in rows if len(rows) > 1 else ():
                yield _Page(
                    f"compare/{names[row.entry.path]}.html",
                    [title, row.entry.id, together],
                    lambda row=row, of=drawing: of.page(row).encode(),  # type: ignore[misc]
                )
        for one in board.open:
            title = "open division, not ranked"
            yield _entry(found, board, one, title, names, source, False)


def _entry(
    found: Survey,
    board: Board,
    place: Any,
    title: str,
    names: Mapping[str, str],
    source: Source,
    compared: bool,
) -> _Page:
    entry: Entry = place.entry
    beside = [
        *places.verification_names(found.folder, entry.id),
        signature.path(found.folder, entry.id),
    ]
    unsound = {problem.file: problem.cause for problem in found.problems}
    contents = [[os.path.basename(name), _digest(name), unsound.get(name)] for name in beside]

    def make() -> bytes:
        return site_pages.entry(found, board, place, title, names, source, compared).encode()

    inputs = [board.name, title, place.plain(), contents, compared]
    return _Page(f"entries/{names[entry.path]}.html", inputs, make)


def _names(entries: Sequence[Entry]) -> dict[str, str]:
    """The name of the page of each entry, by the path of its file."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for entry in sorted(entries, key=lambda entry: entry.path):
        clash = entry.id.lower() in taken
        name = f"{entry.id[:100]}.{entry.sha256[:16]}" if clash else entry.id
        taken.add(name.lower())
        names[entry.path] = name
    return names


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


def _digest(path: str) -> str | None:
    with suppress(QnError):
        data = _read(path)
        return None if data is None else sha256(data).hexdigest()
    return "not readable"
