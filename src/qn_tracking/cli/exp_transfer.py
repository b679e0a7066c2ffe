"""`qn-exp export` and `import`: to other programs, and to and from other machines."""

from __future__ import annotations

import os
import sys
from argparse import Namespace

from qn_tracking.cli.options import add_choice, conditions, experiments
from qn_tracking.cli.output import print_arrivals, print_plain
from qn_tracking.cli.parser import Parser, flag, valued
from qn_tracking.errors import UsageError, printable

ENDINGS = {".csv": "csv", ".jsonl": "jsonl", ".parquet": "parquet", ".zip": "bundle"}
EXAMPLES = {
    "export": """examples:
  qn-exp export --format csv -o runs.csv                 a row for each run
  qn-exp export --format jsonl --rows episodes @1        a row for each episode of the latest run
  qn-exp export --format csv --rows series @1            a row for each value that it logged
  qn-exp export --format parquet --tag sweep=gamma -o sweep.parquet
  qn-exp export --format bundle -o some.zip @1 @2        for qn-exp import, on another machine
  qn-exp export rate --format bundle -o rate.zip         a study, for qn-exp import or qn-exp rerun

In CSV, a text that a spreadsheet would read as a formula gets a quote (') before it.
""",
    "import": """\
PATH is a bundle of qn-exp export, a record, a record of Quantum Nematode of any version
(with its configuration beside it, if there), a monitor.csv of Stable-Baselines3, or a folder,
with all folders in it; the monitors of one folder are one run. A study comes with its runs.
Existing experiments are not changed.

With --map, PATH is a table (.csv, .tsv, .jsonl) or a folder of them. A row is an episode, with
reward, steps, success, termination and seed, or logged values, with step; time is in seconds. The
other columns of numbers are its metrics, or the values.

examples:
  qn-exp import some.zip
  qn-exp import records/*
  qn-exp import logs/ppo
  qn-exp import episodes.csv --map reward=return,steps=length
  qn-exp import progress.csv --map step=total_timesteps
""",
}


def arguments(parser: Parser, command: str) -> None:
    if command == "import":
        valued(parser, "paths", "PATH", "files or folders", nargs="+")
        parser.add_argument(
            "--map",
            action="append",
            metavar="FIELD=COLUMN,…",
            help="the columns of a table that fields are read from",
        )
        return
    parser.renamed = {"--episodes": "--rows episodes", "--runs": "--rows runs"}
    add_choice(parser)
    parser.add_argument(
        "--format",
        choices=("csv", "jsonl", "parquet", "bundle"),
        help="the format of the file (default: by the ending of FILE); a bundle is a zip of records"
        " with all their files",
    )
    parser.add_argument(
        "--rows",
        choices=("runs", "episodes", "series"),
        help="a row for each run (default), each episode, or each logged value",
    )
    valued(
        parser,
        "--output",
        "FILE",
        "the file to write (default: -, standard output)",
        default="-",
        short="-o",
    )
    flag(parser, "--force", "overwrite FILE if it exists")


def run(args: Namespace) -> int:
    if args.command == "import":
        columns = None
        if args.map is not None:
            from qn_tracking.store import tables

            columns = tables.columns(args.map)
        return print_arrivals(experiments(args).import_(args.paths, columns=columns), args.json)
    form = args.format or _format(args.output)
    binary = form in ("parquet", "bundle")
    if form == "bundle" and args.rows:
        raise UsageError("a bundle holds everything", hint="leave --rows out")
    if args.output == "-":
        if binary and sys.stdout.isatty():
            raise UsageError(f"{form} on a terminal", hint="-o FILE")
        if args.json:
            raise UsageError("--json needs a file to describe", hint="-o FILE")
        sys.stdout.flush()
    done = experiments(args).export(
        sys.stdout.buffer if args.output == "-" else args.output,
        args.ids,
        format=form,
        rows=args.rows or "runs",
        replace=args.force,
        **conditions(args),
    )
    if done.path is None:
        sys.stdout.buffer.flush()
        return 0
    what = {"episodes": "episode", "series": "point"}.get(done.rows, "experiment")
    if args.json:
        count = {f"{what}s": done.count}
        print_plain({"path": done.path, "format": done.format, **count, "bytes": done.bytes})
    else:
        from qn_tracking.render.text import counted

        print(f"saved {counted(done.count, what)} to {printable(done.path)}")
    return 0


def _format(output: str) -> str:
    """The format that the ending of a file names. Raises UsageError if it names none."""
    ending = os.path.splitext(output)[1].lower()
    if ending not in ENDINGS:
        cause = "the ending names no format" if output != "-" else "no format given"
        hint = "--format csv, jsonl, parquet or bundle"
        raise UsageError(cause, file=None if output == "-" else output, hint=hint)
    return ENDINGS[ending]
