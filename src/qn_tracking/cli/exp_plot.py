"""`qn-exp plot`: a picture of runs, in a file or on the terminal."""

from __future__ import annotations

import sys
from argparse import Namespace

from qn_tracking.cli.options import add_choice, conditions, experiments, positive
from qn_tracking.cli.output import print_plain, unicode_out
from qn_tracking.cli.parser import Parser, flag, many, valued
from qn_tracking.errors import UsageError, printable

EXAMPLES = """examples:
  qn-exp plot @1                                          the learning curve of the latest run
  qn-exp plot --tag sweep=gamma -o curve.svg              a line with its band for each setting
  qn-exp plot --tag sweep=gamma --metric loss --x step -o loss.pdf
  qn-exp plot --tag sweep=gamma --kind final --by brain -o final.png

Without -o the terminal shows it. --metric is one of the episodes for curves (success, reward,
steps, a count, a metric, or a series of `log`), else one of whole runs, as in qn-exp compare.
"""


def arguments(parser: Parser, command: str) -> None:
    add_choice(parser)
    add = parser.add_argument
    valued(parser, "--metric", "NAME", "what is drawn (default: success)", default="success")
    valued(
        parser,
        "--by",
        "FIELD",
        "runs with the same value of FIELD form a group (default: config)",
        default="config",
    )
    add(
        "--kind",
        default="curve",
        choices=(
            *("curve", "final", "profile", "improvement", "cost"),
            *("heat", "parallel", "endings"),
        ),
        help="curve (default); final: a value for each run; profile: the share of runs above a"
        " value; improvement: how often one group is above another; cost: the metric against what"
        " runs cost (along --x, default steps); heat: over two or more settings that differ;"
        " parallel: a line for each configuration through its settings to the metric;"
        " endings: how episodes ended",
    )
    add(
        "--x",
        choices=("episode", "step", "time"),
        help="the axis: episodes (default), steps so far or the step of a series, or seconds",
    )
    add(
        "--statistic",
        default="mean",
        choices=("mean", "iqm"),
        help="the mean over runs (default), or the interquartile mean",
    )
    valued(
        parser,
        "--smooth",
        "N",
        "a point is the mean of the last N episodes (default: of success a tenth, else 1)",
        type=positive,
    )
    many(
        parser,
        "--phase",
        "NAME",
        "the episodes of a phase, such as evaluation; of several (main is one), each apart",
    )
    flag(parser, "--runs", "also single runs, as thin lines")
    flag(parser, "--dark", "for a dark background")
    valued(
        parser,
        "--output",
        "FILE",
        "the file to write: .svg, .png, .pdf, .html or .json (the Vega-Lite specification)",
        short="-o",
    )
    flag(parser, "--force", "overwrite FILE if it exists")


def run(args: Namespace) -> int:
    if args.output is not None:
        from qn_tracking.api.picture import check_format

        check_format(args.output)
    elif args.dark:
        raise UsageError("--dark needs a file", hint="-o FILE")
    names = ("metric", "by", "kind", "x", "statistic", "smooth", "runs", "dark")
    how = {name: getattr(args, name) for name in names}
    picture = experiments(args).plot(args.ids, **how, phases=args.phase, **conditions(args))
    path = None if args.output is None else picture.save(args.output, replace=args.force)
    if args.json:
        print_plain(
            {
                "path": path,
                "title": picture.title,
                "caption": picture.caption,
                "rows": [dict(zip(picture.titles, row, strict=True)) for row in picture.rows],
                "left_out": picture.left_out,
            }
        )
    elif path is not None:
        print(f"saved {printable(path)}: {picture.caption}")
    else:
        from qn_tracking.render.table import columns_of

        sys.stdout.write(picture.text(columns_of(), unicode=unicode_out()))
    return 0
