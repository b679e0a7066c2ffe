"""The leaderboard in README.md and BENCHMARKS.md, between markers."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence

from attrs import frozen

from qn_tracking.errors import StorageError
from qn_tracking.files import load
from qn_tracking.render.board import BEGIN, END, splice
from qn_tracking.store import write

STARTS = {
    "README.md": "# {project}\n\n## Leaderboard\n\n",
    "BENCHMARKS.md": "# Benchmarks\n\nWritten by `qn-bench regenerate`, between the markers.\n\n",
}
"""How a page begins that did not exist."""


@frozen(kw_only=True)
class Page:
    """A page: whether its leaderboard has changed, and the lines that differ (`+…`, `-…`)."""

    file: str
    changed: bool
    changes: Sequence[str]
    created: bool = False


def regenerate(blocks: Mapping[str, str], *, check: bool) -> list[Page]:
    """Writes each block between the markers of its page, all pages or none.

    A page that does not exist is created. With `check` nothing is written. Raises StorageError for
    a page that cannot be read, or that lacks the markers.
    """
    report, texts = [], {}
    for name, block in blocks.items():
        before = _load(name)
        start = before if before is not None else _start(name)
        try:
            after = splice(start, block, name)
        except ValueError as error:
            cause = str(error).partition(": ")[2]
            hint = f"put a line {BEGIN} and a line {END} where the leaderboard belongs"
            raise StorageError(cause, file=name, hint=hint) from None
        texts[name] = after
        report.append(
            Page(
                file=name,
                changed=before != after,
                changes=_changes(before or "", after, name),
                created=before is None,
            )
        )
    for page in report:
        if page.changed and not check:
            with write.published(page.file, replace=True) as stream:
                stream.write(texts[page.file].encode())
    return report


def _start(name: str) -> str:
    project = os.path.basename(os.path.dirname(os.path.abspath(name)))
    start = STARTS.get(os.path.basename(name), STARTS["BENCHMARKS.md"])
    return f"{start.replace('{project}', project)}{BEGIN}\n{END}\n"


def _load(name: str) -> str | None:
    try:
        return load(name)[0].decode()  # other line ends than ours stay
    except FileNotFoundError:
        return None
    except UnicodeDecodeError:
        raise StorageError("is not UTF-8", file=name) from None


def _changes(before: str, after: str, name: str) -> list[str]:
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), os.path.basename(name), "now", n=0, lineterm=""
    )
    return [line for line in list(lines)[2:] if line[:1] in "+-"]
