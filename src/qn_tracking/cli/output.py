"""What commands print: warnings, JSON, progress."""

from __future__ import annotations

import sys

from qn_tracking.errors import json_escaped, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from qn_tracking.benchmark.reports import Submitted
    from qn_tracking.records.divergence import Divergence
    from qn_tracking.records.submission import Finding
    from qn_tracking.render.table import Column
    from qn_tracking.store.arrival import Arrived, Refused
    from qn_tracking.store.fields import Field


def warn(text: str) -> None:
    """Prints one line, `warning: …`, on standard error."""
    print(f"warning: {printable(text)}", file=sys.stderr, flush=True)


def once(warn: Callable[[str], None]) -> Callable[[str], None]:
    """Says each text once, however often a file with a fault is read."""
    said: set[str] = set()

    def say(text: str) -> None:
        if text not in said:
            said.add(text)
            warn(text)

    return say


def print_error(text: object) -> None:
    """Prints one line, `error: …`, on standard error, for a command that goes on."""
    print(f"error: {printable(text)}", file=sys.stderr, flush=True)


def unicode_out() -> bool:
    """Whether standard output takes more than ASCII."""
    return (sys.stdout.encoding or "").lower().replace("_", "-").startswith("utf")


def print_plain(value: Any) -> None:
    """Prints plain data (dict, list, text, numbers) as indented JSON on standard output."""
    import json

    write_json(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_json(value: Any) -> None:
    """Prints plain data, records among it, as indented JSON on standard output."""
    from qn_tracking.records.codec import document

    write_json(document(value).decode())


def write_json(text: str) -> None:
    """Writes JSON with what a terminal would obey, or cannot show, as escapes in its texts."""
    sys.stdout.write(json_escaped(text, ascii=not unicode_out()))


def print_text(data: bytes) -> None:
    """Prints a text of several lines that others may have written.

    A pipe gets it byte for byte, but for the control characters that no YAML can hold and a
    terminal would obey; a terminal gets what is invisible escaped, too.
    """
    text = data.decode(errors="surrogateescape")
    if sys.stdout.isatty():
        text = "\n".join(_shown(line.removesuffix("\r")) for line in text.split("\n"))
    else:
        import re

        active = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f]|\r(?!\n)"
        text = re.sub(active, lambda found: printable(found[0]), text)
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode(errors="surrogateescape"))
    sys.stdout.buffer.flush()


def _shown(line: str) -> str:
    return "\t".join(map(printable, line.split("\t")))


def print_table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Prints rows in columns that fit the terminal; see `Column`."""
    from qn_tracking.render.table import columns_of, table

    sys.stdout.write(table(columns, rows, columns_of()))


def print_wrapped(text: str) -> None:
    """Prints lines, each on as many as the terminal needs, the others indented."""
    from qn_tracking.render.table import columns_of
    from qn_tracking.render.text import wrapped

    wide = columns_of()
    for line in text.split("\n"):
        sys.stdout.write("\n".join(wrapped(line, wide)) + "\n")


def print_rows(pairs: Iterable[tuple[str, object]], indent: str = "  ") -> None:
    """Prints `name  value` lines that fit the terminal."""
    from qn_tracking.render.table import columns_of
    from qn_tracking.render.text import rows

    sys.stdout.write(rows(pairs, indent, columns_of()))


def progress(
    what: str, least: int = 2000, *, delay: float = 0.0
) -> Callable[[int, int], None] | None:
    """A callback `(done, total)` that draws how far long work has come; None without a terminal.

    It draws after `delay` seconds, of `least` steps or more.
    """
    try:
        if not sys.stderr.isatty():  # a listing is done before the import below would be
            return None
    except (OSError, ValueError):
        return None
    from qn_tracking.render.progress import counter

    return counter(what, least, delay=delay)


def print_section(title: str, pairs: Iterable[tuple[str, object]]) -> None:
    """Prints a title and `name  value` lines below it; nothing if no value is there."""
    found = [pair for pair in pairs if pair[1] is not None]
    if found:
        print_wrapped(printable(title))
        print_rows(found)


def number_text(value: float | str | None) -> str:
    """A number in a few digits; what is not finite is text already."""
    return "" if value is None else value if isinstance(value, str) else format(value, ".4g")


def value_text(value: object) -> str:
    """A value of a record on one line: text as it is, lists with commas."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(value_text, value)) or "none"
    return str(value)


# ------------------------------------------------------------------------------ fields of the index

_COLOURS = {"failed": "31", "crashed": "31", "interrupted": "33", "unknown": "33", "running": "36"}
SPARK = 12


def columns_for(fields: Sequence[tuple[str, Field | None]], *, keep: bool = False) -> list[Column]:
    """The columns of a table of fields of the index, and of other stored fields.

    With `keep`, a column without any value is shown as well.
    """
    from qn_tracking.render.table import Column, coloured

    return [
        Column(name.upper(), least=6, drop=20, keep=keep)
        if field is None
        else Column(
            field.title,
            least=field.least,
            right=field.right,
            drop=field.drop,
            keep=keep,
            style=_coloured if field.show == "status" and coloured() else None,
        )
        for name, field in fields
    ]


def cells_of(fields: Sequence[tuple[str, Field | None]], row: dict[str, Any]) -> list[str]:
    """A row of such a table, from a row of the index."""
    return [_cell(field.show if field else "value", row[name], row) for name, field in fields]


def _cell(show: str, value: Any, row: dict[str, Any]) -> str:
    if value is None:
        return ""
    if show == "time":
        return printable(value[:16].replace("T", " "))
    if show == "rate":
        return f"{value:.0%}"
    if show == "number" or (show == "value" and type(value) is float):
        return number_text(value)
    if show == "flag":
        return "dirty" if value else "clean"
    if show == "duration":
        from qn_tracking.render.text import duration

        return duration(value)
    if show == "episodes":
        planned = row["planned"]
        return f"{value}" if planned is None or planned == value else f"{value}/{planned}"
    if show == "curve":
        return _sparkline(value, row["curve_of"])
    if show == "tags":
        import json

        tags = json.loads(value)
        return " ".join(map(printable, tag_texts(tags)))
    return printable(value_text(value))


def tag_texts(tags: dict[str, str]) -> list[str]:
    """`KEY=VALUE` of each tag; one without a value is its key."""
    return [f"{key}={text}" if text else key for key, text in tags.items()]


def _coloured(text: str) -> str:
    colour = _COLOURS.get(text.strip())
    return f"\x1b[{colour}m{text}\x1b[0m" if colour else text


def _sparkline(curve: str, of: str | None) -> str:
    """The learning curve in a few characters."""
    from qn_tracking.render.text import means, sparkline

    values = []
    for item in curve.strip("[]").split(","):
        try:
            values.append(float(item.strip().strip('"')))
        except ValueError:
            return ""
    if len(values) < 2:
        return ""
    low, high = (0.0, 1.0) if of == "success_rate" else (None, None)
    return sparkline(means(values, SPARK), low, high, unicode=unicode_out())


# --------------------------------------------------------------------------------- two runs


def difference_text(first: Divergence) -> str:
    """Where a run differs from the original, in one line."""
    phase = "" if first.phase is None else f"phase {printable(first.phase)}, "
    if first.field == "episode":
        which = "original" if first.present[0] else "re-run"
        return f"{phase}episode {first.episode}, which only the {which} has"
    sides = [
        exact_text(value) if there else "absent"
        for value, there in zip((first.first, first.second), first.present, strict=True)
    ]
    where = f"{phase}episode {first.episode}: {printable(first.field)}"
    return f"{where}: {sides[0]}, now {sides[1]}"


def exact_text(value: object) -> str:
    """A value as it is stored, with every digit, in short."""
    from qn_tracking.errors import short
    from qn_tracking.records.codec import canonical
    from qn_tracking.studies.comparison import ABSENT

    if value is None or value is ABSENT:
        return "none" if value is None else "absent"
    text = value if isinstance(value, str) else canonical(value).decode()
    return printable(short(text, 64))


# ---------------------------------------------------------------------------------------- arrivals


def print_arrivals(found: Iterable[Arrived | Refused], as_json: bool) -> int:
    """Prints what became of each experiment that was to be imported; 3 if one was refused."""
    from qn_tracking.store import arrival

    arrived: list[Arrived] = []
    studies: list[Arrived] = []
    refused: list[Refused] = []
    for one in found:
        if isinstance(one, arrival.Arrived):
            (studies if one.study else arrived).append(one)
        else:
            refused.append(one)
            print_error(one.error)
    outcomes = (arrival.IMPORTED, arrival.COMPLETED, arrival.HERE)
    counts = {kind: sum(one.outcome == kind for one in arrived) for kind in outcomes}
    if as_json:
        fields = ("id", "outcome", "source", "origin_id", "format")
        print_plain(
            {
                **counts,
                "refused": len(refused),
                "experiments": [{name: getattr(one, name) for name in fields} for one in arrived],
                "studies": [{"id": one.id, "outcome": one.outcome} for one in studies],
                "errors": [{"source": one.source, "error": str(one.error)} for one in refused],
            }
        )
        return 3 if refused else 0
    parts = [f"{counts[arrival.IMPORTED]} imported"]
    if counts[arrival.COMPLETED]:
        parts.append(f"{counts[arrival.COMPLETED]} completed")
    if counts[arrival.HERE]:
        parts.append(f"{counts[arrival.HERE]} already here")
    if refused:
        parts.append(f"{len(refused)} refused")
    said = {
        arrival.IMPORTED: "imported",
        arrival.COMPLETED: "completed",
        arrival.HERE: "already here",
    }
    parts += [f"study {one.id} {said[one.outcome]}" for one in studies]
    print(", ".join(parts))
    return 3 if refused else 0


def print_findings(path: str, findings: Sequence[Finding]) -> None:
    """Prints the findings on a submission, a line each, errors on standard error."""
    for finding in findings:
        where = f"{finding.field}: " if finding.field else ""
        text = f"{finding.level}: {path}: {where}{finding.message} [{finding.rule}]"
        stream = sys.stderr if finding.level == "error" else sys.stdout
        print(printable(text), file=stream)


def confirm_submission(made: Submitted, *, ask: bool, silent: bool) -> bool:
    """Prints the warnings on a submission unless `silent`, and asks whether to save it.

    Without a terminal to ask on, the warnings are enough.
    """
    if not silent:
        print_findings(made.path, made.findings)
    if not (ask and sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    from qn_tracking.render.text import counted

    question = f"{counted(len(made.warnings), 'warning')}: save it all the same? [y/N] "
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def print_submitted(made: Submitted, *, as_json: bool, quiet: bool = False) -> int:
    """Prints what became of a submission; returns the exit code."""
    if not made.valid and not as_json:
        print_findings(made.path, [f for f in made.findings if not quiet or f.level == "error"])
    if as_json:
        print_json(made.plain())
    elif not made.saved:
        print("nothing was saved", file=sys.stderr)
    elif not quiet:
        submission = made.submission
        claim = submission.aggregates["success_rate"]
        from qn_tracking.render.text import counted

        runs = counted(claim["n"], "run")
        category = submission.category
        print_wrapped(f"final success {claim['mean']:.1%} over {runs}, category {category}")
        if made.division is not None:
            print(f"division {printable(made.division)}")
        print(f"saved {printable(made.path)}")
        print_wrapped(
            "To have it on the leaderboard: commit this file on a branch, and open a pull request;"
            " CONTRIBUTING.md explains how."
        )
    return 0 if made.saved else 1
