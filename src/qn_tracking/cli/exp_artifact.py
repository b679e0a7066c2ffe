"""`qn-exp attach` and `artifact`: files and folders of runs, such as weights."""

from __future__ import annotations

import os
from argparse import Namespace

from qn_tracking.cli.options import RUN_ID, experiments, one_id, up_to
from qn_tracking.cli.output import print_plain, print_wrapped
from qn_tracking.cli.parser import Parser, flag, valued
from qn_tracking.errors import UsageError, printable

EXAMPLES = """examples:
  qn-exp attach @1 weights.pt --type weights   keep a copy with the latest run
  qn-exp artifact @1                           list what it has
  qn-exp artifact @1 weights.pt -o here.pt     write one to a file
"""


def arguments(parser: Parser, command: str) -> None:
    one_id(parser, RUN_ID)
    if command == "attach":
        valued(parser, "path", "PATH", "a file or a folder")
        valued(parser, "--type", "TYPE", "a word of your choice, such as weights")
        valued(parser, "--name", "NAME", "its name (default: of the file)")
        flag(parser, "--reference", "keep path, size and SHA-256, and no copy")
        valued(
            parser,
            "--keep-up-to",
            "BYTES",
            "keep no copy of what is larger (default: 1 GiB)",
            type=up_to(2**53),
        )
    else:
        valued(parser, "name", "NAME", "which one (default: list all)", nargs="?")
        valued(
            parser, "--output", "PATH", "where to write it (default: its name, here)", short="-o"
        )


def run(args: Namespace) -> int:
    return _attach(args) if args.command == "attach" else _artifact(args)


def _attach(args: Namespace) -> int:
    from qn_tracking.records.codec import plain

    store = experiments(args)
    id, keep = store.id(args.id), not args.reference
    found = store.attach(
        id, args.path, args.type, name=args.name, keep=keep, keep_up_to=args.keep_up_to
    )
    if args.json:
        print_plain({"id": id, "artifact": plain(found)})
    else:
        how = "kept" if found.kept else "referred to"
        print(f"{how} {printable(found.name)}  {found.size:,} bytes  {found.sha256}")
    return 0


def _artifact(args: Namespace) -> int:
    from qn_tracking.records.codec import plain

    store = experiments(args)
    id = store.id(args.id)
    if args.name is None:
        if args.output is not None:
            raise UsageError("-o needs a NAME")
        found = store.artifacts(id)
        if args.json:
            print_plain({"id": id, "artifacts": [plain(one) for one in found]})
        names = [one.name for one in found]
        for one in () if args.json else found:
            how = "kept" if one.kept else one.path
            which = one.sha256[:12] if names.count(one.name) > 1 else None
            words = (one.name, which, one.type, f"{one.size:,} bytes", how, one.source and "used")
            print_wrapped("  ".join(printable(word) for word in words if word))
        if not found and not args.json:
            print_wrapped(f"{id} has no files (qn-exp attach adds one)")
        return 0
    path = store.artifact(id, args.name, args.output or os.path.basename(args.name))
    if args.json:
        print_plain({"id": id, "name": args.name, "path": path})
    else:
        print(f"saved {printable(path)}")
    return 0
