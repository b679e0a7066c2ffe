"""`qn-exp report`: everything about some runs, or a study, in one file."""

from __future__ import annotations

from argparse import Namespace

from qn_tracking.cli.options import add_choice, conditions, experiments
from qn_tracking.cli.output import print_plain
from qn_tracking.cli.parser import Parser, flag, valued
from qn_tracking.errors import printable

EXAMPLES = """examples:
  qn-exp report --tag sweep=gamma -o report.html     one page, without scripts
  qn-exp report @1 @2 -o report.md                   Markdown, with its pictures beside it
  qn-exp report rate -o 007.md                       the logbook of a study
  qn-exp report rate -o 007.md --check               whether it is up to date

In Markdown the report stands between the lines <!-- qn:report NAME --> and
<!-- /qn:report NAME -->. What you write around them stays; the same command writes it again.
"""


def arguments(parser: Parser, command: str) -> None:
    add_choice(parser)
    valued(
        parser,
        "--metric",
        "NAME",
        "what is shown (default: success, else the reward; of a study: what was declared)",
    )
    valued(
        parser,
        "--by",
        "FIELD",
        "runs with the same value of FIELD form a group (default: config, or the arms)",
    )
    valued(parser, "--output", "FILE", "the file to write: .html or .md", required=True, short="-o")
    flag(parser, "--force", "overwrite files that exist")
    flag(parser, "--check", "write nothing; exit code 1 if the file is not up to date")


def run(args: Namespace) -> int:
    report = experiments(args).report(args.ids, metric=args.metric, by=args.by, **conditions(args))
    if args.check:
        stale = report.stale(args.output)
        if args.json:
            print_plain({"path": args.output, "ok": not stale, "stale": stale})
        else:
            for text in stale or [f"{args.output} is up to date"]:
                print(printable(text))
        return int(bool(stale))
    paths = report.save(args.output, replace=args.force)
    if args.json:
        print_plain({"paths": paths, "title": report.title, "runs": len(report.docs)})
    else:
        print(f"saved {', '.join(map(printable, paths))}: {printable(report.title)}")
    return 0
