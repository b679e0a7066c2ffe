"""`qn-bench outdated`, `sign` and `regenerate`: keeping a leaderboard up to date."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from qn_tracking.api.leaderboard import Leaderboard
from qn_tracking.cli.options import leaderboard as of_folder
from qn_tracking.cli.output import print_json, print_wrapped
from qn_tracking.cli.parser import flag, valued
from qn_tracking.errors import printable

EXAMPLES = {
    "outdated": """examples:
  qn-bench outdated
""",
    "sign": """examples:
  qn-bench sign 20260131T12 --key ~/.ssh/id_ed25519
""",
    "regenerate": """examples:
  qn-bench regenerate                     README.md and BENCHMARKS.md
  qn-bench regenerate --check             exits with 1 if they are not up to date
""",
}


def arguments(parser: ArgumentParser, command: str) -> None:
    if command == "sign":
        valued(parser, "target", "ID|PATH", "a submission, or the file of a verification")
        valued(parser, "--key", "FILE", "your SSH key, such as ~/.ssh/id_ed25519", required=True)
    elif command == "regenerate":
        flag(parser, "--check", "change nothing; exit with 1 if a page is not up to date")
        valued(parser, "--readme", "FILE", "default: README.md", default="README.md")
        valued(parser, "--pages", "FILE", "default: BENCHMARKS.md", default="BENCHMARKS.md")


def run(args: Namespace) -> int:
    leaderboard = of_folder(args)
    commands = {"outdated": _outdated, "sign": _sign, "regenerate": _regenerate}
    return commands[args.command](args, leaderboard)


def _outdated(args: Namespace, leaderboard: Leaderboard) -> int:
    found = leaderboard.outdated()
    if args.json:
        print_json(found)
        return 0
    for one in found:
        why = "; ".join(one.verification["why"])
        print_wrapped(f"{one.id}  {printable(why)}\n  {printable(one.command)}")
    if not found:
        print("no verification is out of date")
    return 0


def _sign(args: Namespace, leaderboard: Leaderboard) -> int:
    signed = leaderboard.sign(args.target, args.key)
    if args.json:
        print_json(signed)
    else:
        print(f"signed {signed.kind} {printable(signed.id)}: {printable(signed.path)}")
    return 0


def _regenerate(args: Namespace, leaderboard: Leaderboard) -> int:
    pages = leaderboard.regenerate(check=args.check, readme=args.readme, pages=args.pages)
    if args.json:
        print_json(pages)
    for page in () if args.json else pages:
        stale = "does not exist" if page.created else "is not up to date"
        written = "created" if page.created else "written"
        state = "is up to date" if not page.changed else stale if args.check else written
        print(f"{page.file} {state}")
        for line in () if page.created else page.changes:
            print(f"  {line}")
    return 1 if args.check and any(page.changed for page in pages) else 0
