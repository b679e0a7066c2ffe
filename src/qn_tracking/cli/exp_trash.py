"""`qn-exp rm` and `qn-exp restore`: into the trash, and out of it."""

from __future__ import annotations

import sys

from qn_tracking.cli.exp import folder, print_plain, resolved
from qn_tracking.errors import QnError, UsageError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from qn_tracking.cli.command import Parser


def arguments(parser: Parser, command: str) -> None:
    """The options of `rm` and `restore`."""
    if command == "rm":
        parser.add_argument("id", nargs="+", metavar="ID", help="what to put into the trash")
        parser.add_argument(
            "--force", action="store_true", help="also a run of another host that has no record"
        )
    else:
        parser.add_argument(
            "id", nargs="*", metavar="ID", help="what to take out; without any: what is there"
        )


def run(args: Namespace) -> int:
    """Moves each, and tells of each that cannot be moved."""
    from qn_tracking.store import trash

    experiments = folder(args)
    if args.command == "restore" and not args.id:
        ids = trash.listed(experiments)
        if args.json:
            print_plain({"trash": ids})
        else:
            print("\n".join(ids) if ids else "the trash is empty")
        return 0
    chosen = resolved(args, args.id) if args.command == "rm" else _in_trash(experiments, args.id)
    done, failed, code = [], [], 0
    for id in chosen:
        try:
            if args.command == "rm":
                place = trash.remove(experiments, id, force=args.force)
            else:
                place = trash.restore(experiments, id)
        except QnError as error:
            if len(chosen) == 1:
                raise
            print(f"error: {error}", file=sys.stderr)
            failed.append({"id": id, "error": str(error)})
            code = max(code, error.exit_code)
            continue
        done.append({"id": id, "path": place})
        if not args.json:
            verb = "removed to" if args.command == "rm" else "restored"
            print(f"{verb} {printable(place)}", flush=True)
    if args.json:
        print_plain({"removed" if args.command == "rm" else "restored": done, "failed": failed})
    return code


def _in_trash(experiments: str, texts: list[str]) -> list[str]:
    from qn_tracking.ids import check_id
    from qn_tracking.store import trash

    there = trash.listed(experiments)
    out = []
    for text in texts:
        check_id(text)
        found = [text] if text in there else [id for id in there if id.startswith(text)]
        if not found:
            hint = f"there: {', '.join(there[:5])}" if there else "the trash is empty"
            raise UsageError(f"no {text!r} in the trash", hint=hint)
        if len(found) > 1:
            raise UsageError(f"{text!r} is ambiguous", hint=", ".join(found[:5]))
        out.append(found[0])
    return list(dict.fromkeys(out))
