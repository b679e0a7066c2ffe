"""What commands print: warnings, JSON, progress."""

from __future__ import annotations

import sys

from qn_tracking.errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from qn_tracking.render.table import Column


def warn(text: str) -> None:
    """Prints one line, `warning: …`, on standard error."""
    print(f"warning: {printable(text)}", file=sys.stderr, flush=True)


def print_error(text: object) -> None:
    """Prints one line, `error: …`, on standard error, for a command that goes on."""
    print(f"error: {printable(text)}", file=sys.stderr, flush=True)


def unicode_out() -> bool:
    """Whether standard output takes more than ASCII."""
    return (sys.stdout.encoding or "").lower().replace("_", "-").startswith("utf")


def print_plain(value: Any) -> None:
    """Prints plain data (dict, list, text, numbers) as indented JSON on standard output."""
    import json

    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=not unicode_out()) + "\n")


def print_json(value: Any) -> None:
    """Prints plain data, records among it, as indented JSON on standard output."""
    from qn_tracking.records.codec import document

    sys.stdout.write(document(value).decode())


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Prints rows in columns that fit the terminal; see `Column`."""
    from qn_tracking.render.table import columns_of, table

    sys.stdout.write(table(columns, rows, columns_of()))


def progress(what: str) -> Callable[[int, int], None] | None:
    """A callback `(done, total)` that draws how far long work has come; None without a terminal."""
    from qn_tracking.render.progress import counter

    return counter(what)
