"""`qn-exp list`: experiments, newest first."""

from __future__ import annotations

import os
import sys

from qn_tracking.cli.exp import folder, progress, unicode_out, warn
from qn_tracking.errors import UsageError, printable
from qn_tracking.store import query
from qn_tracking.store.index import consult

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace, _ArgumentGroup
    from collections.abc import Sequence
    from typing import Any

    from qn_tracking.cli.command import Parser
    from qn_tracking.store.index import Index

LIMIT = 20
STATUSES = ("completed", "failed", "interrupted", "crashed", "running", "unknown", "imported")
SPARK = 12

WHERE = (
    """--where takes any stored field, those of the configuration by their own names:
  --where "results.avg_reward > 3 and brain.config.gamma = 0.99"
  --where "not status in (failed, crashed) or facts.metadata.git.branch ~ 'exp/'"
  comparisons = != < <= > >=, ~ contains, in (...), is null, and, or, not, parentheses

--since and --until take 2026-01-31, 2026-01-31T12:00 (UTC) or an age: 30m, 12h, 7d, 4w.
--sort takes """
    + ", ".join(query.SORTS)
    + """ or a stored field.
"""
)


def arguments(parser: Parser, command: str) -> None:
    """The options of `list`."""
    parser.epilog = WHERE
    add_filters(parser.add_argument_group("filters"))
    parser.add_argument(
        "--sort", metavar="FIELD[:asc]", help="largest first, or smallest (default: newest first)"
    )
    parser.add_argument(
        "--limit", type=_limit, default=LIMIT, metavar="N", help=f"0 for all (default: {LIMIT})"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="look at every file for changes made in place"
    )


def add_filters(group: _ArgumentGroup) -> None:
    """The options that choose experiments; each text may be given again, any of them then fits."""

    def texts(option: str, metavar: str, about: str) -> None:
        group.add_argument(option, action="append", default=[], metavar=metavar, help=about)

    texts("--env-type", "NAME", "the environment")
    texts("--brain-type", "NAME", "the brain")
    texts("--family", "NAME", "quantum or classical")
    texts("--status", "STATUS", ", ".join(STATUSES))
    group.add_argument(
        "--min-success-rate", type=_rate, metavar="R", help="at least this share, from 0 to 1"
    )
    group.add_argument("--since", metavar="WHEN", help="started then or later")
    group.add_argument("--until", metavar="WHEN", help="started before the end of then")
    texts("--tag", "KEY[=VALUE]", "has the tag; all that are given")
    texts("--config", "NAME", "the configuration, by name or digest")
    texts("--commit", "HASH", "the commit, or the beginning of it")
    dirty = group.add_mutually_exclusive_group()
    dirty.add_argument("--dirty", action="store_true", help="with uncommitted changes")
    dirty.add_argument("--clean", action="store_true", help="without")
    group.add_argument("--seed", type=_seed, action="append", default=[], metavar="S")
    texts("--where", "EXPR", "any stored field; all that are given")


def run(args: Namespace) -> int:
    """Prints the list."""
    experiments = folder(args)
    chosen = filters(args)
    if args.experiments_dir is None and not os.path.isdir(experiments):
        if args.json:
            _print_json(experiments, chosen, [], False, 0, [])
        else:
            print(f"no experiments yet: there is no folder {printable(experiments)}")
        return 0

    def ask(index: Index) -> tuple[Any, ...]:
        conditions = conditions_of(index, args)
        sort = query.order(index, args.sort)
        rows, more = query.select(index, conditions, sort=sort, limit=args.limit)
        documents = _documents(index, rows) if args.json else None
        return rows, more, index.total(), index.problems(), documents

    found = consult(
        experiments, ask, fresh=args.fresh, warn=warn, progress=progress("indexing experiments")
    )
    rows, more, total, problems, documents = found
    for _, problem in problems:
        warn(problem)
    if args.json:
        _print_json(experiments, chosen, documents, more, total, problems)
        return 0
    _print(experiments, args, chosen, rows, more, total)
    return 0


# ----------------------------------------------------------------------------------------- filters


def statuses_of(args: Namespace, known: Sequence[str]) -> list[str]:
    """What `--status` means, given often or with commas. Raises UsageError for an unknown one."""
    statuses = [word for text in args.status for word in text.split(",")]
    for word in statuses:
        if word not in known:
            from qn_tracking.errors import did_you_mean

            hint = did_you_mean(word, known) or f"known: {', '.join(known)}"
            raise UsageError(f"--status {word}", hint=hint)
    return statuses


def filters(args: Namespace) -> dict[str, Any]:
    """The filters as given, by the names of their options. Raises UsageError for a wrong one."""
    statuses = statuses_of(args, STATUSES)
    for commit in args.commit:
        if not 4 <= len(commit) <= 64 or commit.lower().strip("0123456789abcdef"):
            raise UsageError(f"--commit {commit}: expected 4 to 64 hexadecimal digits")
    for since in (args.since, args.until):
        if since is not None:
            _when(since, end=False)
    given = {
        "env-type": args.env_type,
        "brain-type": args.brain_type,
        "family": args.family,
        "status": statuses,
        "min-success-rate": args.min_success_rate,
        "since": args.since,
        "until": args.until,
        "tag": args.tag,
        "config": args.config,
        "commit": args.commit,
        "dirty": True if args.dirty else False if args.clean else None,
        "seed": args.seed,
        "where": args.where,
    }
    return {name: value for name, value in given.items() if value not in (None, [])}


def conditions_of(index: Index, args: Namespace) -> list[query.Condition]:
    """The filters as conditions. Raises UsageError for an expression that makes no sense."""
    from qn_tracking.store import where

    out = []
    statuses = statuses_of(args, STATUSES)
    for column, values in (
        ("environment", args.env_type),
        ("brain", args.brain_type),
        ("family", args.family),
        ("status", statuses),
        ("seed", args.seed),
    ):
        if values:
            out.append(query.any_of(column, values))
    if args.min_success_rate is not None:
        out.append(query.at_least("success", args.min_success_rate))
    if args.since is not None:
        out.append(query.at_least("at", _when(args.since, end=False) * 1024))
    if args.until is not None:
        out.append(query.below("at", _when(args.until, end=True) * 1024))
    if args.config:
        out.append(query.either([query.config_is(name) for name in args.config]))
    if args.commit:
        out.append(query.either([query.begins("commit", text.lower()) for text in args.commit]))
    if args.dirty or args.clean:
        out.append(query.any_of("dirty", [1 if args.dirty else 0]))
    out.extend(query.tagged(index, text) for text in args.tag)
    for text in args.where:
        out.extend(query.conditions(index, where.parse(text)))
    return out


def _rate(text: str) -> float:
    from argparse import ArgumentTypeError

    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1:
        raise ArgumentTypeError(f"expected a share from 0 to 1, got {text!r}")
    return rate


def _limit(text: str) -> int:
    return _whole(text, 10**9)


def _seed(text: str) -> int:
    return _whole(text, 2**53)


def _whole(text: str, most: int) -> int:
    from argparse import ArgumentTypeError

    if not (text.isascii() and text.isdigit()) or len(text) > 18 or int(text) > most:
        raise ArgumentTypeError(f"expected a whole number from 0 to {most}, got {text!r}")
    return int(text)


_AGES = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def _when(text: str, *, end: bool) -> int:
    """Microseconds since 1970. A day given as an end is whole, and so is a minute."""
    number, unit = text[:-1], text[-1:]
    if unit in _AGES and number.isascii() and number.isdigit() and len(number) < 7:
        import time

        return max(0, int((time.time() - int(number) * _AGES[unit]) * 1_000_000))
    from qn_tracking.store.entry import microseconds

    try:
        at = microseconds(text)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{text[:40]!r} is no time", hint="2026-01-31, 2026-01-31T12:00 or an age such as 7d"
        ) from None
    step = 1
    if end:
        length = len(text)
        step = 86_400_000_000 if length <= 10 else 60_000_000 if length == 16 else 1_000_000
    return max(0, at + (step if end else 0))


# ----------------------------------------------------------------------------------------- printing


def _documents(index: Index, rows: list[query.Row]) -> list[dict[str, Any]]:
    found = index.documents([row.n for row in rows])
    out = []
    for row in rows:
        if row.n in found:
            doc = found[row.n]
            path = f"{index.experiments}/{row['id']}.json"
            recorded = doc.get("ended") is not None or "digests" in doc
            out.append({"path": path if recorded else None, **doc})
    return out


def _print_json(
    experiments: str,
    chosen: dict[str, Any],
    documents: list[dict[str, Any]],
    more: bool,
    total: int,
    problems: list[tuple[str, str]],
) -> None:
    """One object; each experiment is a line of its own, so that very many can be streamed."""
    import json

    def text(value: Any) -> str:
        return json.dumps(value, ensure_ascii=not unicode_out())

    head = {"experiments_dir": experiments, "filters": chosen, "total": total, "more": more}
    out = sys.stdout
    out.write("{\n" + "".join(f"  {text(key)}: {text(value)},\n" for key, value in head.items()))
    faults = [{"id": name, "problem": problem} for name, problem in problems]
    out.write(f'  "problems": {text(faults)},\n  "experiments": [')
    for i, doc in enumerate(documents):
        out.write(("," if i else "") + "\n    " + text(doc))
    out.write(("\n  " if documents else "") + "]\n}\n")


def _print(
    experiments: str,
    args: Namespace,
    chosen: dict[str, Any],
    rows: list[query.Row],
    more: bool,
    total: int,
) -> None:
    from qn_tracking.render.table import columns_of, table
    from qn_tracking.render.text import clip

    wide = columns_of()
    kind = "newest" if args.sort is None else "first"
    place = printable(experiments)
    if not chosen:
        count = f"{kind} {len(rows):,} of {total:,}" if more else f"{total:,}"
        head = f"{count} experiment{'' if total == 1 else 's'} in {place}"
    else:
        head = f"{len(rows):,}{' and more' if more else ''} of {total:,} experiments in {place}"
    parts = [head, *_echo(chosen)]
    if args.sort is not None:
        parts.append(f"sort {printable(args.sort)}")
    line = " · ".join(parts) if unicode_out() else "; ".join(parts)
    print(clip(line, wide) if wide else line)
    if not rows:
        if chosen:
            print("none fits")
        return
    cells = [_cells(row) for row in rows]
    sys.stdout.write(table(_columns(), cells, wide))
    if more:
        print(
            clip("more: --limit N, or 0 for all", wide) if wide else "more: --limit N, or 0 for all"
        )


def _echo(chosen: dict[str, Any]) -> list[str]:
    out = []
    for name, value in chosen.items():
        if name == "dirty":
            out.append("dirty" if value else "clean")
        elif isinstance(value, list):
            joint = " and " if name in ("tag", "where") else " or "
            out.append(f"{name} {joint.join(printable(one) for one in value)}")
        else:
            out.append(f"{name} {printable(value)}")
    return out


def _columns() -> tuple[Any, ...]:
    from qn_tracking.render.table import Column, coloured

    return (
        Column("ID"),
        Column("STARTED (UTC)", drop=3),
        Column("STATUS", drop=1, style=_status if coloured() else None),
        Column("ENVIRONMENT", drop=6, least=11),
        Column("BRAIN", drop=4, least=5),
        Column("CONFIG", drop=9, least=6),
        Column("SEED", drop=10, right=True, least=6),
        Column("EPISODES", drop=5, right=True),
        Column("SUCCESS", drop=2, right=True),
        Column("REWARD", drop=7, right=True),
        Column("CURVE", drop=8),
        Column("TAGS", drop=11, least=8),
    )


_COLOURS = {"failed": "31", "crashed": "31", "interrupted": "33", "unknown": "33", "running": "36"}


def _status(text: str) -> str:
    colour = _COLOURS.get(text.strip())
    return f"\x1b[{colour}m{text}\x1b[0m" if colour else text


def _cells(row: query.Row) -> list[str]:
    episodes, planned = row["episodes"], row["planned"]
    done = "" if episodes is None else f"{episodes}"
    if planned is not None and planned != episodes:
        done = f"{done}/{planned}"
    success, reward, started = row["success"], row["reward"], row["started"]
    return [
        row["id"],
        started[:16].replace("T", " ") if started else "",
        printable(row["status"]),
        printable(row["environment"] or ""),
        printable(row["brain"] or ""),
        printable(row["label_key"] or ""),
        "" if row["seed"] is None else str(row["seed"]),
        done,
        "" if success is None else f"{success:.0%}",
        _number(reward),
        _spark(row["curve"], row["curve_of"]),
        _tags(row["tags"]),
    ]


def _number(value: float | str | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:.4g}"


def _spark(curve: str | None, of: str | None) -> str:
    """The learning curve in a few characters."""
    if not curve:
        return ""
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


def _tags(text: str | None) -> str:
    if not text:
        return ""
    import json

    return " ".join(
        f"{printable(key)}={printable(value)}" for key, value in json.loads(text).items()
    )
