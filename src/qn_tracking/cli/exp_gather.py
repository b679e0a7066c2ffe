"""`qn-exp gather`: runs that were done before, as a study."""

from __future__ import annotations

from argparse import Namespace

from qn_tracking.cli.options import add_choice, conditions, experiments
from qn_tracking.cli.output import print_plain
from qn_tracking.cli.parser import Parser, valued
from qn_tracking.errors import printable

EXAMPLES = """The runs stay where they are. The study is marked as gathered afterwards: nothing was
declared before its runs, so that what it shows has to be shown again by a study that was.

examples:
  qn-exp gather --by config --name gammas --tag sweep=gamma
  qn-exp gather --by brain.config.gamma --name gammas @1 @2 @3 @4
  qn-exp show gammas
"""


def arguments(parser: Parser, command: str) -> None:
    add_choice(parser)
    valued(parser, "--by", "FIELD", "an arm for each value (default: config)", default="config")
    valued(parser, "--name", "NAME", "what the study is called")
    valued(parser, "--question", "TEXT", "what it was asked")
    valued(parser, "--metric", "NAME", "what it is shown by (default: final_success_rate)")


def run(args: Namespace) -> int:
    found = experiments(args).gather(
        args.ids,
        by=args.by,
        name=args.name,
        question=args.question,
        metric=args.metric,
        **conditions(args),
    )
    if args.json:
        arms = [{"name": arm.name, "runs": list(arm.runs)} for arm in found.record.arms]
        print_plain({"study": found.id, "name": found.name, "by": args.by, "arms": arms})
    else:
        print(f"{printable(', '.join(found.headline))}: qn-exp show {found.name or found.id}")
    return 0
