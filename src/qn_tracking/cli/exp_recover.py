"""`qn-exp recover`: runs that died become records."""

from __future__ import annotations

import sys

from qn_tracking.cli.exp import folder, print_plain, resolved, warn
from qn_tracking.errors import QnError, UsageError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from qn_tracking.cli.command import Parser


def arguments(parser: Parser, command: str) -> None:
    """The options of `recover`."""
    parser.add_argument("id", nargs="*", metavar="ID", help="a run that has no record")
    parser.add_argument("--all", action="store_true", help="every run that has crashed")
    parser.add_argument(
        "--force", action="store_true", help="also a run of another host that is known to be dead"
    )


def run(args: Namespace) -> int:
    """Makes the records, and tells of each run for which that was not possible."""
    from qn_tracking.store.recover import recover

    experiments = folder(args)
    if bool(args.id) == args.all:
        raise UsageError("expected IDs, or --all")
    ids = _crashed(experiments) if args.all else resolved(args, args.id)
    done, failed, code = [], [], 0
    for id in ids:
        try:
            experiment = recover(experiments, id, force=args.force)
        except QnError as error:
            if len(ids) == 1 and not args.all:
                raise
            print(f"error: {error}", file=sys.stderr)
            failed.append({"id": id, "error": str(error)})
            code = max(code, error.exit_code)
            continue
        for text in experiment.warnings:
            warn(f"{id}: {text}")
        path = f"{experiments}/{id}.json"
        done.append({"id": id, "path": path, "episodes": experiment.results.episodes})
        if not args.json:
            count = experiment.results.episodes
            print(
                f"recovered {count} episode{'' if count == 1 else 's'}: {printable(path)}",
                flush=True,
            )
    if args.json:
        print_plain({"recovered": done, "failed": failed})
    elif not ids:
        print("no run has crashed")
    return code


def _crashed(experiments: str) -> list[str]:
    from qn_tracking.store.index import Index, consult
    from qn_tracking.store.sync import CRASHED

    def ask(index: Index) -> list[str]:
        found = index.db.execute("SELECT id FROM run WHERE status = 'crashed'")
        return [id for (id,) in found if index.kind(id) == CRASHED]

    return sorted(consult(experiments, ask, warn=warn))
