"""`qn-exp rerun`: runs an experiment again, from its record alone, and compares bit for bit."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

from qn_tracking.cli import signals
from qn_tracking.cli.output import (
    difference_text,
    exact_text,
    once,
    print_error,
    print_plain,
    print_rows,
    print_table,
    print_wrapped,
    warn,
)
from qn_tracking.cli.parser import Parser, flag, many, valued
from qn_tracking.errors import printable

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterable

    from qn_tracking.api.experiments import Experiments
    from qn_tracking.reproduce.rerun import Plan, Rerun

EXAMPLES = """\
By default the installed code runs the recorded configuration. --at-commit runs the code
of the recorded commit, in a temporary worktree of this repository. Code that may be someone
else's (a recorded patch, a commit that is on no branch here) needs --trust.

examples:
  qn-exp rerun @1                                the latest run, in the installed code
  qn-exp rerun lr                                every run of the study lr
  qn-exp rerun lr.zip                            of a study from another machine, imported first
  qn-exp rerun ID --at-commit                    in the code of the recorded commit
  qn-exp rerun ID --at-commit --env recorded     and with the recorded packages

exit codes: 0 identical or same outcome, 1 different, 4 not possible here
"""
MOST_SERIES = 10
"""Series that differ and are named."""


def arguments(parser: Parser, command: str) -> None:
    about = "an id, its beginning, @1 for the latest, a study, or a bundle: a file of qn-exp export"
    valued(parser, "id", "ID", about)
    flag(
        parser,
        "--at-commit",
        "run the code of the recorded commit, with the recorded uncommitted changes",
    )
    parser.add_argument(
        "--env",
        choices=("present", "recorded"),
        default="present",
        help="recorded: in a new virtual environment with the recorded packages (default: present)",
    )
    flag(parser, "--trust", "run code that may be someone else's, in a sandbox")
    flag(parser, "--no-sandbox", "with --trust: run it without a sandbox, with all that you may do")
    many(parser, "--no-plugin", "NAME", "run without a plugin that the configuration names")
    flag(parser, "--dry-run", "print the plan and run nothing")


def run(args: Namespace) -> int:
    from qn_tracking.api.experiments import Experiments
    from qn_tracking.api.reruns import is_bundle
    from qn_tracking.render.progress import counter
    from qn_tracking.tracking.runner import pin_numeric_threads

    def progress(what: str) -> Callable[[int, int], None] | None:
        return None if args.json else counter(what, least=1)

    # Before anything imports a numeric library.
    pin_numeric_threads()
    with signals.handled_by(signals.interrupt) as received:
        try:
            experiments = Experiments(args.experiments_dir, warn=once(warn), progress=progress)
            if experiments.study(args.id) is not None or is_bundle(experiments, args.id):
                return _all(experiments, args)
            found = experiments.rerun(args.id, **_how(args))
        except KeyboardInterrupt:
            return 128 + (received[0] if received else signal.SIGINT)
    if found.outcome == "planned":
        print_plan(found.plan, args.json)
        return 0
    if args.json:
        print_plain(_plain(found))
    else:
        print_outcome(found)
    return int(found.outcome == "different")


def _how(args: Namespace) -> dict[str, Any]:
    names = ("at_commit", "env", "trust", "no_sandbox", "dry_run")
    how = {name: getattr(args, name) for name in names}
    return {**how, "without": args.no_plugin, "inform": None if args.json else _inform}


def _all(experiments: Experiments, args: Namespace) -> int:
    """Runs every run of a study or a bundle again; a line for each, and how many are identical."""
    from attrs import asdict

    from qn_tracking.errors import QnError
    from qn_tracking.render.text import counted

    causes: dict[str, int] = {}

    def each(id: str, found: Rerun | QnError) -> None:
        if isinstance(found, QnError):
            cause = str(found).removeprefix(f"{id}: ")
            causes[cause] = causes.get(cause, 0) + 1
            if causes[cause] == 1:
                print_error(cause if id in cause else f"{id}: {cause}")
        elif not args.json:
            print(in_a_line(id, found), flush=True)

    found = experiments.rerun_all(args.id, each=each, **_how(args))
    if args.json:
        reruns = [
            _plain(one) if one.outcome != "planned" else {"outcome": "planned", **asdict(one.plan)}
            for one in found.done
        ]
        failed = [{"id": id, "error": str(error)} for id, error in found.failed]
        outcomes = found.outcomes
        print_plain({"runs": found.runs, "outcomes": outcomes, "reruns": reruns, "failed": failed})
    else:
        for cause, count in causes.items():
            if count > 1:
                print_error(f"{counted(count - 1, 'more run')}: {cause}")
        print_wrapped(found.summary)
    return found.exit_code


def in_a_line(id: str, found: Rerun) -> str:
    """The outcome of one of several runs; of a dry run what would run."""
    if found.outcome == "planned":
        plan = found.plan
        code = f"commit {plan.commit[:12]}" if plan.commit else "the present code"
        patch = " with the recorded changes" if plan.patch else ""
        what = printable(plan.command or plan.config)
        return f"{id}: planned, {what}, seed {plan.seed}, in {code}{patch}"
    words = [f"{id}: {found.outcome}"]
    if found.first_difference is not None:
        words.append(f"first at {difference_text(found.first_difference)}")
    differ = sum(1 for first in found.series.values() if first is not None)
    if differ:
        words.append(f"{differ} of {len(found.series)} series differ")
    return ", ".join(words)


def _inform(text: str) -> None:
    print(printable(text), file=sys.stderr)


def print_plan(plan: Plan, json: bool) -> None:
    """Prints what would be done."""
    from attrs import asdict

    about = asdict(plan)
    if json:
        print_plain(about)
        return

    shown = {
        **about,
        "commit": plan.commit or "the present code",
        "patch": "the recorded one" if plan.patch else None,
        "command": plan.command,
        "packages": f"{plan.packages} recorded" if plan.packages else "the installed ones",
    }
    print("ok, nothing was run")
    print_rows(shown.items())


def _plain(found: Rerun) -> dict[str, Any]:
    from qn_tracking.records.codec import plain
    from qn_tracking.studies.comparison import ABSENT

    def value(of: Any) -> Any:
        return None if of is ABSENT else plain(of)

    def both(values: Iterable[Any]) -> dict[str, Any]:
        return dict(zip(("origin", "rerun"), values, strict=True))

    return {
        "id": found.id,
        "path": found.path,
        "origin": found.plan.origin,
        "outcome": found.outcome,
        "episodes": found.episodes,
        "status": found.status,
        "how": list(found.how),
        "digests": both(map(plain, (found.digests, found.rerun_digests))),
        "first_difference": plain(found.first_difference),
        "series": plain(found.series),
        "differences": {
            name: [{"field": row.field, **both(map(value, row.values))} for row in rows]
            for name, rows in found.differences.items()
        },
    }


def print_outcome(found: Rerun) -> None:
    """Prints the outcome, the first difference, and what may explain it."""
    from qn_tracking.render.text import counted

    count = counted(found.plan.episodes, "episode")
    if not found.plan.episodes and found.series:
        count = f"{len(found.series)} series"
    if found.outcome == "identical":
        print_wrapped(f"identical: every number of {count}, {found.digests.exact[:12]}")
    elif found.outcome == "same outcome":
        print_wrapped(
            f"same outcome: success, termination, steps and counts of {count};"
            " floating point differs"
        )
    else:
        print("different" if found.first_difference else "different: the digests are not the same")
    if found.first_difference is not None:
        print_wrapped(f"first at {difference_text(found.first_difference)}")
    elif found.outcome != "identical" and found.plan.compared_by == "digest":
        print_wrapped(
            "the episodes of the original are not here, so the first difference is not known"
        )
    _print_series(found)
    if found.outcome != "identical" or any(found.series.values()):
        _print_explanations(found)
    print(f"saved {printable(found.path)}")


def _print_series(found: Rerun) -> None:
    """Says which of the series that were logged differ, and where each begins to."""
    differ = {name: first for name, first in found.series.items() if first is not None}
    if not differ:
        return
    print(f"series: {len(differ)} of {len(found.series)} differ")
    for name, first in [*differ.items()][:MOST_SERIES]:
        where = f"  {printable(name)}: first at step {first.step}"
        if first.field == "point":
            print_wrapped(
                f"{where}, which only the {'original' if first.present[0] else 're-run'} has"
            )
        else:
            what = "" if first.field == "value" else f"{first.field} "
            print_wrapped(
                f"{where}: {what}{exact_text(first.first)}, now {exact_text(first.second)}"
            )
    if len(differ) > MOST_SERIES:
        print(f"  and {len(differ) - MOST_SERIES} more")


def _print_explanations(found: Rerun) -> None:
    from qn_tracking.render.table import Column

    rows = [
        [
            printable(row.field if name == "code" else f"{name}: {row.field}"),
            *map(exact_text, row.values),
        ]
        for name, differences in found.differences.items()
        for row in differences
    ]
    if found.plan.lives:
        print_wrapped(
            "the original was resumed: what its loop loaded then may not be all that it had"
        )
    if not rows:
        print_wrapped("code, packages and machine are the same as far as they were recorded")
        if found.plan.command is not None:
            print_wrapped(
                "perhaps the script draws random numbers that do not derive from its seed"
            )
        return
    print("\nwhat may explain it")
    columns = [Column("FIELD", least=12), Column("ORIGINAL", least=6), Column("RE-RUN", least=6)]
    print_table(columns, rows)
    print()
