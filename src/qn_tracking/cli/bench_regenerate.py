"""`qn-bench regenerate`: the leaderboard in README.md and BENCHMARKS.md, between markers."""

from __future__ import annotations

import difflib
import os
from argparse import ArgumentParser, Namespace

from qn_tracking.cli.bench import survey
from qn_tracking.cli.bench_board import board, boards
from qn_tracking.cli.command import print_json
from qn_tracking.errors import StorageError
from qn_tracking.records.codec import plain
from qn_tracking.render.board import details, splice, summary
from qn_tracking.store import write


def arguments(parser: ArgumentParser, command: str) -> None:
    """The options of `regenerate`."""
    parser.add_argument("--check", action="store_true", help="change nothing; 1 if one is stale")
    parser.add_argument("--readme", default="README.md", metavar="FILE")
    parser.add_argument("--pages", default="BENCHMARKS.md", metavar="FILE")


def run(args: Namespace) -> int:
    """Writes what changed, and says what; twice is the same as once."""
    # Pages without what cannot be checked here would take it from the leaderboard.
    entries, book, cache = survey(args, whole=True)
    found = [board(category, rows) for category, rows in boards(entries, book.now, cache)]
    cache.save()
    texts = {
        args.readme: summary(found),
        args.pages: details(found, plain(book.now)),
    }
    report = []
    spliced = {}
    for name, block in texts.items():
        before = _read(name)
        try:
            after = splice(before, block, name)
        except ValueError as error:
            raise StorageError(str(error).partition(": ")[2], file=name) from None
        lines = _changes(before, after, name)
        report.append({"file": name, "changed": before != after, "changes": lines})
        if before != after:
            spliced[name] = after
    # Only now: a page that has no place for it leaves the other as it is, too.
    for name, after in {} if args.check else spliced.items():
        with write.published(name, replace=True) as stream:
            stream.write(after.encode())
    stale = any(one["changed"] for one in report)
    if args.json:
        print_json(report)
    else:
        for one in report:
            state = ("is stale" if args.check else "written") if one["changed"] else "is up to date"
            print(f"{one['file']} {state}")
            for line in one["changes"]:
                print(f"  {line}")
    return 1 if stale and args.check else 0


def _read(name: str) -> str:
    try:
        # Bytes as they are: another line end than ours is not ours to change.
        with open(name, encoding="utf-8", newline="") as stream:
            return stream.read()
    except UnicodeDecodeError:
        raise StorageError("is not UTF-8", file=name) from None
    except OSError as error:
        raise StorageError((error.strerror or str(error)).lower(), file=name) from None


def _changes(before: str, after: str, name: str) -> list[str]:
    lines = difflib.unified_diff(
        before.splitlines(), after.splitlines(), os.path.basename(name), "now", n=0, lineterm=""
    )
    return [line for line in list(lines)[2:] if line[:1] in "+-"]
