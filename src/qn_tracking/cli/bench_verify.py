"""`qn-bench verify`: checks a submission, runs it again, or runs it with fresh seeds."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from qn_tracking.cli import signals
from qn_tracking.cli.output import print_findings, print_json, print_rows, print_wrapped, warn
from qn_tracking.cli.parser import flag, valued
from qn_tracking.errors import printable

if TYPE_CHECKING:
    from qn_tracking.records.submission import Replicated
    from qn_tracking.reproduce.verification import VerificationReport

OPTIONS = (
    *("repeat", "sample", "replicate", "fresh", "trust", "no_sandbox", "present_code", "renew"),
    *("main_branch", "allowed_signers", "verifier", "github", "jobs", "dry_run"),
)
"""The arguments that are options of `Leaderboard.verify`."""
EXIT = {"verified": 0, "planned": 0, "mismatch": 1, "refused": 4}
ISOLATION = {
    "installed code": "runs the installed code, which is that of the submission",
    "renewed": "runs the installed code, which differs from that of the submission",
    "bubblewrap": "isolated by bubblewrap: sees its code and Python only; no network, no rights",
    "none": "warning: no isolation: the code can do all that you can",
}
AGREEMENTS = {"exact": "bit-exact", "outcome": "with the same outcomes", "none": "differ"}


EXAMPLES = """examples:
  qn-bench verify 20260131T12                        what can be checked without running it
  qn-bench verify 20260131T12 --repeat --sample 2    two of its runs again
  qn-bench verify 20260131T12 --fresh 5              five runs with new seeds

exit codes: 0 confirmed, 1 not confirmed, 4 not possible here
"""


def arguments(parser: ArgumentParser, command: str) -> None:
    valued(parser, "target", "ID|PATH", "the id of a submission, its beginning, or its file")
    flag(parser, "--repeat", "run the runs of the submission again")
    valued(parser, "--sample", "K", "run again only K of them, chosen at random", type=int)
    flag(parser, "--replicate", "also run with new seeds, which the contributor could not know")
    valued(parser, "--fresh", "M", "how many new seeds (default: 10)", type=int, short="-m")
    code = parser.add_mutually_exclusive_group()
    flag(code, "--trust", "run the code of the submission's commit")
    flag(parser, "--no-sandbox", "with --trust: run it without a sandbox, with all that you may do")
    flag(
        code,
        "--present-code",
        "run the installed code, if it is the same as that of the submission",
    )
    flag(
        code,
        "--renew",
        "run the installed code although it has changed: does the result still hold?",
    )
    valued(parser, "--main-branch", "NAME", "the protected branch (default: that of the remote)")
    valued(
        parser, "--allowed-signers", "FILE", "check the signature against this file of ssh-keygen"
    )
    valued(parser, "--verifier", "NAME", "who verifies (default: git's user.name)")
    valued(parser, "--github", "ACCOUNT", "the GitHub account of the verifier")
    flag(parser, "--no-record", "write no verification beside the submission")
    valued(
        parser, "--jobs", "N", "how many runs at the same time (default: 1)", type=int, default=1
    )
    flag(parser, "--dry-run", "print the plan and its cost, and run nothing")


def run(args: Namespace) -> int:
    from qn_tracking.api.leaderboard import Leaderboard
    from qn_tracking.render.progress import Display, time_left

    options = {name: getattr(args, name) for name in OPTIONS}
    first = [-1]
    with signals.handled_by(_stop) as received, Display(silent=args.json) as display:

        def progress(done: int, total: int) -> None:
            first[0] = done if first[0] < 0 else first[0]
            left = time_left(display.elapsed, done - first[0], total - first[0])
            display(f"runs {done}/{total}" + (f"  {left}" if left else ""))

        report = Leaderboard(args.benchmarks_dir, warn=warn).verify(
            args.target,
            record=not args.no_record,
            inform=None if args.json else _inform,
            progress=progress,
            stop=lambda: bool(received),
            **options,
        )
    if args.json:
        print_json(_plain(report))
    elif report.outcome == "planned":
        print_findings(report.path, report.findings)
        print_plan(report, args)
    else:
        print_findings(report.path, report.findings)
        print_report(report)
    if report.outcome == "interrupted":
        return 128 + received[0]
    return EXIT[report.outcome]


def _stop(received: list[int]) -> None:
    """The first signal ends the verification after the runs in progress, the second at once."""
    if len(received) > 1:
        raise KeyboardInterrupt
    warn(f"{signals.name(received[0])}: stopping after these runs (again to stop at once)")


def _inform(text: str) -> None:
    print(printable(ISOLATION.get(text, text)), file=sys.stderr, flush=True)


def _plain(report: VerificationReport) -> dict[str, Any]:
    about = {
        "path": report.path,
        "id": report.submission.id,
        "sha256": report.sha256,
        "level": report.level,
        "outcome": report.outcome,
        "reasons": list(report.reasons),
        "findings": list(report.findings),
        "provenance": report.source,
    }
    names = ("signer", "plan", "cpu_seconds", "isolation", "runs", "replication", "record", "own")
    return {**about, **{name: getattr(report, name) for name in names}}


def print_plan(report: VerificationReport, args: Namespace) -> None:
    """Prints what would be run, and what it costs."""
    from qn_tracking.render.text import duration

    submission, plan = report.submission, report.plan
    assert plan is not None
    if args.renew:
        code = "installed"
    elif args.present_code:
        other = "installed, but it is not the same: would be refused"
        code = "installed" if report.same_code else other
    else:
        code = f"commit {report.source.commit if report.source else '?'}"
        code += "" if args.trust else ", which needs --trust"
    print("nothing was run")
    print_rows(
        [
            ("submission", report.path),
            ("level", report.level),
            ("code", code),
            ("runs again", f"{len(plan.repeat)} of {len(submission.runs)}"),
            ("fresh seeds", len(plan.fresh) or None),
            ("episodes each", submission.episodes),
            ("cost", f"{duration(report.cpu_seconds)} of CPU, as it was recorded"),
        ]
    )


def print_report(report: VerificationReport) -> None:
    """Prints the outcome; errors on standard error."""
    from qn_tracking.reproduce.verification import reason_of

    if report.outcome == "interrupted":
        print("the same command continues", file=sys.stderr)
        return
    shown = [reason_of(finding) for finding in report.findings]
    for reason in report.reasons:
        if reason not in shown:
            where = "" if report.outcome == "refused" else f"{report.path}: "
            print(f"error: {printable(where + reason)}", file=sys.stderr)
    about: list[tuple[str, object]] = [("submission", report.path)]
    if report.source is not None:
        source = report.source
        same = " (the same code; the submission's own is on no branch)" if source.squashed else ""
        about.append(("commit", f"{source.commit} of {source.branch}{same}"))
    if report.signer is not None:
        about.append(("signed by", report.signer))
    again = [one.agreement for one in report.runs if one.index is not None]
    if again:
        counts = [f"{again.count(k)} {text}" for k, text in AGREEMENTS.items() if k in again]
        n = len(report.submission.runs)
        about.append(("run again", f"{len(again)} of {n} runs: {', '.join(counts)}"))
    if report.replication is not None:
        about += _replication(report.replication)
    if report.record is not None:
        about.append(("recorded", report.record))
        other = (
            "a check by someone other than the contributor: it counts once it is merged or signed"
        )
        about.append(("counts as", "the contributor's own: self-checked" if report.own else other))
    print_wrapped(f"{printable(report.submission.id)}: {report.outcome}, level {report.level}")
    print_rows(about)


def _replication(found: Replicated) -> list[tuple[str, object]]:
    from qn_tracking.render.text import counted

    return [
        (
            "fresh seeds",
            f"{counted(found.fresh, 'run')}: {found.fresh_mean:.1%}, submitted {found.mean:.1%}, "
            f"bound {found.bound:.1%}: {'accepted' if found.accepted else 'rejected'}",
        ),
        ("false alarm", f"{found.false_alarm:.1%} of honest submissions"),
        (
            "power",
            f"{found.best_of_2n:.1%} against the best {found.runs} of "
            f"{2 * found.runs} seeds, {found.best_of_5n:.1%} of {5 * found.runs}",
        ),
    ]
