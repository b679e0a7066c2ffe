"""`qn-exp tag` and `qn-exp note`: labels that are added later."""

from __future__ import annotations

import time

from qn_tracking.cli.exp import folder, print_plain, resolved, warn
from qn_tracking.errors import UsageError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

    from qn_tracking.cli.command import Parser

LONGEST = 10_000


def arguments(parser: Parser, command: str) -> None:
    """The options of `tag` and `note`."""
    parser.add_argument(
        "id", metavar="ID", help="an id, the beginning of one, or @1 for the latest"
    )
    if command == "tag":
        parser.add_argument("tags", nargs="*", metavar="KEY=VALUE", help="tags to add or to change")
        parser.add_argument(
            "--remove",
            action="append",
            default=[],
            metavar="KEY",
            help="take away a tag that was added later; those of the record stay",
        )
    else:
        parser.add_argument("text", metavar="TEXT", help="the note")


def run(args: Namespace) -> int:
    """Adds to the labels, and to the index what has changed."""
    from qn_tracking.ids import utc
    from qn_tracking.store import labels
    from qn_tracking.store.index import consult

    if args.command == "tag":
        tags = _tags(args.tags)
        if not tags and not args.remove:
            raise UsageError("expected KEY=VALUE, or --remove KEY")
    else:
        _check("the note", args.text)
    (id,) = resolved(args, [args.id])
    experiments = folder(args)

    def edit(found: dict[str, Any]) -> None:
        if args.command == "note":
            found["notes"].append({"at": utc(time.time()), "text": args.text})
            return
        for key in args.remove:
            if found["tags"].pop(key, None) is None:
                raise UsageError(f"no tag {key} was added to {id}")
        found["tags"].update(tags)

    changed = labels.change(experiments, id, edit)
    consult(experiments, lambda index: index.sync.relabel([id]), warn=warn)
    if args.json:
        print_plain({"id": id, "labels": changed})
    elif args.command == "note":
        print(f"noted on {id}")
    else:
        shown = " ".join(f"{key}={value}" for key, value in changed["tags"].items())
        print(f"{id}  {printable(shown) or 'no tags were added'}")
    return 0


def _tags(given: list[str]) -> dict[str, str]:
    tags = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise UsageError(f"{text}: expected KEY=VALUE")
        if key in tags:
            raise UsageError(f"{key}: given twice")
        _check("the tag", text)
        tags[key] = value
    return tags


def _check(what: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{what} is not valid Unicode text") from None
    if not text or len(text) > LONGEST:
        raise UsageError(f"{what} must have 1 to {LONGEST:,} characters")
