"""`qn-bench verify`: a submission put to the test, level by level."""

from __future__ import annotations

import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field

from qn_tracking import ids
from qn_tracking.api.leaderboard import validators
from qn_tracking.benchmark import files, provenance, validation, verifications, verify
from qn_tracking.benchmark.files import find, same_file
from qn_tracking.benchmark.protocol import Protocol, Rulebook, rulebook
from qn_tracking.cli import signals
from qn_tracking.cli.bench_runs import (
    ISOLATION,
    Display,
    InterruptedRunError,
    elsewhere,
    runner,
    stop,
)
from qn_tracking.cli.output import print_findings, print_json, warn
from qn_tracking.code import installed_digests
from qn_tracking.errors import QnError, UnsupportedError, UsageError, printable
from qn_tracking.records.submission import Checked, Finding, Replicated, Submission, Verification
from qn_tracking.render.text import duration, rows
from qn_tracking.repository import user_name

if TYPE_CHECKING:
    from qn_tracking.benchmark.files import Stored
    from qn_tracking.benchmark.provenance import Provenance
    from qn_tracking.benchmark.verify import Kept, Plan

EXIT = {"verified": 0, "mismatch": 1, "refused": 4}
GIT_SECONDS = 120.0
_BROKEN = {"digest", "aggregate"}
"""Rules that an edited episode breaks: which one it is, only running its run again tells."""


def arguments(parser: ArgumentParser, command: str) -> None:
    """The options of `verify`."""
    parser.add_argument("target", metavar="ID|PATH", help="a submission, or the file of one")
    parser.add_argument("--repeat", action="store_true", help="run its runs again")
    parser.add_argument(
        "--sample", type=int, metavar="K", help="not all of them: K, chosen at random"
    )
    parser.add_argument(
        "--replicate", action="store_true", help="and runs of fresh seeds, which nobody knew"
    )
    parser.add_argument(
        "-m", "--fresh", type=int, metavar="M", help=f"how many of those (default: {verify.FRESH})"
    )
    code = parser.add_mutually_exclusive_group()
    code.add_argument(
        "--trust", action="store_true", help="run the code of the submission's commit"
    )
    code.add_argument(
        "--present-code",
        action="store_true",
        help="run the installed code instead, which must be the same",
    )
    code.add_argument(
        "--renew",
        action="store_true",
        help="run the installed code, which has moved on: does what was submitted still hold?",
    )
    parser.add_argument(
        "--main-branch", metavar="NAME", help="the protected branch (default: that of the remote)"
    )
    parser.add_argument(
        "--allowed-signers", metavar="FILE", help="check its signature, as ssh-keygen does"
    )
    parser.add_argument(
        "--verifier", metavar="NAME", help="who verifies (default: git's user.name)"
    )
    parser.add_argument("--github", metavar="ACCOUNT", help="their GitHub account")
    parser.add_argument(
        "--no-record", action="store_true", help="write no verification beside the submission"
    )
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="runs side by side (default: 1)"
    )
    parser.add_argument("--dry-run", action="store_true", help="tell the plan and its cost")


def run(args: Namespace) -> int:
    """Does what the command asks for; returns the exit code."""
    _check(args)
    entry = find(args.benchmarks_dir, args.target)
    report = Report(entry=entry, level=_level(args))
    code = _verify(args, report)
    if args.json:
        print_json(report.plain())
    return code


def _check(args: Namespace) -> None:
    """What the options must not say together. Raises UsageError."""
    if args.sample is not None and not (args.repeat or args.replicate):
        raise UsageError("--sample needs --repeat or --replicate")
    if args.fresh is not None and not args.replicate:
        raise UsageError("-m needs --replicate")
    for name, value in (("-m", args.fresh), ("--jobs", args.jobs)):
        if value is not None and not 1 <= value <= 999:
            raise UsageError(f"{name} {value}: expected 1 to 999")
    for option in ("verifier", "github"):
        text = getattr(args, option)
        if text is not None and not 0 < len(text.strip()) <= 100:
            raise UsageError(f"--{option}: expected a name of at most 100 characters")


def _level(args: Namespace) -> str:
    return "replicate" if args.replicate else "repeat" if args.repeat else "integrity"


# ------------------------------------------------------------------------------------------ levels


@define(kw_only=True)
class Report:
    """What is found out on the way, for whoever reads it."""

    entry: Stored
    level: str
    outcome: str = "verified"
    reasons: list[str] = field(factory=list)
    findings: tuple[Finding, ...] = ()
    provenance: Provenance | None = None
    signer: str | None = None
    plan: Plan | None = None
    cpu_seconds: float = 0.0
    isolation: str = ""
    runs: tuple[Checked, ...] = ()
    replication: Replicated | None = None
    record: str | None = None
    own: bool | None = None

    def plain(self) -> dict[str, Any]:
        """As `--json` tells it."""
        return {
            "path": self.entry.path,
            "id": self.entry.submission.id,
            "sha256": self.entry.sha256,
            "level": self.level,
            "outcome": self.outcome,
            "reasons": self.reasons,
            "findings": list(self.findings),
            "provenance": self.provenance,
            "signer": self.signer,
            "plan": self.plan,
            "cpu_seconds": self.cpu_seconds,
            "isolation": self.isolation or None,
            "runs": list(self.runs),
            "replication": self.replication,
            "record": self.record,
            "own": self.own,
        }


def _verify(args: Namespace, report: Report) -> int:
    entry = report.entry
    benchmark = entry.submission
    book = rulebook(args.benchmarks_dir)
    say = (lambda text: None) if args.json else print
    try:
        _integrity(args, report, book)
        broken = _broken(report) if report.outcome == "mismatch" else []
        if report.outcome != "verified" and not broken:
            return _end(args, report, say)
        plan = verify.make_plan(
            benchmark,
            repeat=report.level != "integrity",
            sample=args.sample,
            fresh=(args.fresh or verify.FRESH) if args.replicate else 0,
        )
        if broken and plan:
            # Not to verify it, but to name the episode.
            plan = evolve(plan, repeat=tuple(broken), fresh=())
        if args.dry_run:
            return _dry_run(args, report, plan, say)
        if plan and not (broken and not (args.trust or args.present_code or args.renew)):
            protocol = book.version(benchmark.protocol)
            with signals.hearing(stop) as received, ExitStack() as stack:
                _runs(args, report, protocol, plan, stack, received, bool(broken))
    except UnsupportedError as error:
        # That something else could not be done takes back no mismatch.
        report.outcome = "mismatch" if report.outcome == "mismatch" else "refused"
        report.reasons.append(str(error))
    except InterruptedRunError as error:
        if not args.json:
            print("go on with the same command", file=sys.stderr)
        report.outcome = "interrupted"
        return 128 + int(error.args[0])
    return _end(args, report, say)


def _integrity(args: Namespace, report: Report, book: Rulebook) -> None:
    """Every validator, the commit, the signature: nothing of the submission is run."""
    entry = report.entry
    everyone, problems = files.load_all(args.benchmarks_dir)
    for problem in problems:
        warn(f"{problem}: is left out")
    others = [e.submission for e in everyone if not same_file(e.path, entry.path)]
    report.findings = (
        *validation.validate(
            entry.submission, others, book=book, make_manager=validators, place=entry.path
        ),
        *entry.findings,
    )
    if not args.json:
        print_findings(entry.path, report.findings)
    errors = [finding for finding in report.findings if finding.level == "error"]
    if errors:
        # What is not even of the form of a commit or of a package is not looked up, let alone run.
        # What cannot be checked here is neither right nor wrong.
        odd = all(finding.rule in ("form", "source", validation.INSTALLED) for finding in errors)
        report.outcome = "refused" if odd else "mismatch"
        report.reasons = [_reason(finding) for finding in errors]
        if odd:
            return
    try:
        report.provenance = provenance.trace(
            entry.submission, repository(args.benchmarks_dir), args.main_branch
        )
    except UnsupportedError:
        if not errors:
            raise
    if args.allowed_signers is not None:
        from qn_tracking.benchmark import signature

        said = signature.message("submission", entry.submission.id, entry.sha256)
        try:
            report.signer = signature.signer(
                args.benchmarks_dir, entry.submission.id, said, args.allowed_signers
            )
        except signature.SignatureError as error:
            report.outcome = "mismatch"
            report.reasons.append(str(error))


def _reason(finding: Finding) -> str:
    return f"{finding.field or finding.rule}: {finding.message}"


def _broken(report: Report) -> list[int]:
    """The runs whose digests their episodes do not give, where nothing else is wrong."""
    errors = [finding for finding in report.findings if finding.level == "error"]
    if not errors or any(finding.rule not in _BROKEN for finding in errors):
        return []
    fields = [finding.field or "" for finding in errors if finding.rule == "digest"]
    places = {text.partition("]")[0].removeprefix("runs[") for text in fields}
    return sorted(int(place) for place in places if place.isdigit())


def repository(folder: str) -> provenance.Git:
    """Git in the repository around a folder. Raises UnsupportedError where there is none."""
    from qn_tracking.repository import GitError, Repository

    try:
        found = Repository(folder, GIT_SECONDS)
    except FileNotFoundError:
        raise UnsupportedError("git is not installed, or no such folder", file=folder) from None
    except (GitError, TimeoutError, OSError) as error:
        raise UnsupportedError(f"no repository: {error}", file=folder) from None

    def git(*arguments: str) -> str:
        try:
            return found.git(*arguments)
        except (GitError, OSError) as error:
            raise provenance.GitFailedError(str(error)) from None

    return git


# ------------------------------------------------------------------------------- running runs


def _runs(
    args: Namespace,
    report: Report,
    protocol: Protocol,
    plan: Plan,
    stack: ExitStack,
    received: list[int],
    broken: bool,
) -> None:
    """Runs what the plan lacks, and judges it. Raises UnsupportedError for what cannot be run."""
    benchmark, source = report.entry.submission, report.provenance
    # Who it was is asked before hours of running, not after.
    who = None if args.no_record or broken else _verifier(args)
    run, report.isolation = runner(
        args.benchmarks_dir,
        benchmark,
        source,
        stack,
        trust=args.trust,
        present_code=args.present_code,
        renew=args.renew,
    )
    if not args.json:
        print(ISOLATION[report.isolation], file=sys.stderr)
    present = args.present_code or args.renew
    if present or source is None:
        where = ",".join(str(one["digest"]) for one in _code_that_ran(args, benchmark))
    else:
        where = source.commit
    key = verify.key_of(
        report.entry.sha256,
        report.level,
        where,
        len(plan.repeat),
        len(plan.fresh),
        broken,
    )
    path = verify.kept_path(args.benchmarks_dir, benchmark.id)
    stack.enter_context(verify.alone(path))
    kept = verify.resume(path, key, plan)
    report.plan = kept.plan
    if kept.done and not args.json:
        print(f"goes on: {len(kept.done)} runs are done", file=sys.stderr)
    display = Display(benchmark, kept, args.json)

    def finished(now: Kept) -> None:
        verify.keep(path, now)
        display(now)

    try:
        kept = verify.execute(
            benchmark,
            kept,
            run,
            protocol=protocol,
            jobs=args.jobs,
            finished=finished,
            stopped=lambda: bool(received),
        )
    except QnError as error:
        if isinstance(error, UnsupportedError):
            raise
        raise UnsupportedError(f"could not be run: {error}", file=report.entry.path) from error
    finally:
        display.clear()
    report.runs = kept.done
    if len(kept.done) < len(kept.plan):
        raise InterruptedRunError(received[0])
    report.reasons += verify.reasons(benchmark, kept.done, elsewhere=elsewhere(benchmark))
    if args.replicate and not broken:
        try:
            found = verify.replication(benchmark, kept.done, protocol)
        except ValueError as error:
            raise UnsupportedError(f"no replication: {error}") from None
        report.replication = found
        if not found.accepted:
            report.reasons.append(
                f"{found.fresh} runs of fresh seeds have {found.fresh_mean:.1%}, "
                f"below the bound of {found.bound:.1%} that {found.mean:.1%} sets"
            )
    if report.reasons:
        report.outcome = "mismatch"
    if args.renew and report.reasons:
        # That the code has moved on is not the submission's fault: nothing is held against it.
        report.reasons.append("the installed code plays other episodes; it stays outdated")
        who = None
    if who is not None:
        record = _record(args, report, protocol_now=rulebook(args.benchmarks_dir).current, who=who)
        report.own = verifications.same_person(
            benchmark.contribution, record.verifier, record.github
        )
        report.record = verifications.save(args.benchmarks_dir, record)
    verify.forget(path)


# ---------------------------------------------------------------------------------------- recording


def _verifier(args: Namespace) -> tuple[str, str | None]:
    """Who verifies. Raises UsageError if nobody says."""
    name = user_name(args.benchmarks_dir) if args.verifier is None else args.verifier
    if not name:
        raise UsageError("--verifier: who verifies?", hint="git has no user.name; or --no-record")
    return name[:100], args.github


def _record(
    args: Namespace, report: Report, *, protocol_now: int, who: tuple[str, str | None]
) -> Verification:
    from importlib.metadata import PackageNotFoundError, version

    from qn_tracking.machine import system_facts

    versions = {}
    for name in ("qn-tracking", "numpy", "scipy"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    here = system_facts()
    benchmark, source = report.entry.submission, report.provenance
    level: Any = report.level
    outcome: Any = report.outcome
    return Verification(
        id=ids.new_id(),
        submission=benchmark.id,
        sha256=report.entry.sha256,
        protocol=protocol_now,
        level=level,
        outcome=outcome,
        reasons=tuple(report.reasons),
        verifier=who[0],
        github=who[1],
        created=ids.utc(time.time()),
        commit=None if source is None or args.present_code or args.renew else source.commit,
        present=args.present_code or args.renew,
        isolation=report.isolation,
        code=_code_that_ran(args, benchmark),
        versions=versions,
        system={
            name: here[name] for name in ("python", "implementation", "platform", "machine", "cpu")
        },
        runs=report.runs,
        replication=report.replication,
    )


def _code_that_ran(args: Namespace, benchmark: Submission) -> tuple[Mapping[str, Any], ...]:
    """Names and digests: what ran had these, or it would not have been run."""
    now = installed_digests()
    return tuple(
        {
            "name": one.get("name"),
            "digest": now(str(one.get("name"))) if args.renew else one.get("digest"),
        }
        for one in benchmark.code
    )


# ----------------------------------------------------------------------------------------- printing


def _dry_run(args: Namespace, report: Report, plan: Plan, say: Any) -> int:
    benchmark = report.entry.submission
    report.outcome = "planned"
    report.plan = plan
    report.cpu_seconds = verify.cost(benchmark, len(plan))
    if args.json:
        return 0
    same = verifications.same_code(benchmark, installed_digests())
    commit = report.provenance.commit if report.provenance else "?"
    if args.renew:
        code = "installed"
    elif args.present_code:
        code = "installed" if same else "installed, but it is not the same: would be refused"
    else:
        code = f"commit {commit}" + ("" if args.trust else ", which needs --trust")
    say("nothing was run")
    sys.stdout.write(
        rows(
            [
                ("submission", report.entry.path),
                ("level", report.level),
                ("code", code),
                ("runs again", f"{len(plan.repeat)} of {len(benchmark.runs)}"),
                ("fresh seeds", len(plan.fresh) or None),
                ("episodes each", benchmark.episodes),
                ("cost", f"{duration(report.cpu_seconds)} of CPU, as it was recorded"),
            ]
        )
    )
    return 0


def _end(args: Namespace, report: Report, say: Any) -> int:
    """Says what came of it; returns the exit code."""
    code = EXIT[report.outcome]
    if args.json:
        return code
    benchmark, source = report.entry.submission, report.provenance
    shown = [_reason(finding) for finding in report.findings]
    for reason in report.reasons:
        # What a validator said stands there already.
        if reason not in shown:
            where = "" if report.outcome == "refused" else f"{report.entry.path}: "
            print(f"error: {printable(where + reason)}", file=sys.stderr)
    told: list[tuple[str, object]] = [("submission", report.entry.path)]
    if source is not None:
        same = " (the same code; the submission's own is on no branch)" if source.squashed else ""
        told.append(("commit", f"{source.commit} of {source.branch}{same}"))
    if report.signer is not None:
        told.append(("signed by", report.signer))
    told += _told(benchmark, report)
    if report.record is not None:
        told.append(("recorded", report.record))
        kind = "the contributor's own: self-checked" if report.own else "by another than the"
        kind += "" if report.own else " contributor, as they say: it counts once merged, or signed"
        told.append(("counts as", kind))
    say(f"{printable(benchmark.id)}: {report.outcome}, level {report.level}")
    sys.stdout.write(rows(told))
    return code


def _told(benchmark: Submission, report: Report) -> list[tuple[str, object]]:
    again = [one for one in report.runs if one.index is not None]
    told: list[tuple[str, object]] = []
    if again:
        counts = {kind: sum(one.agreement == kind for one in again) for kind in _AGREEMENTS}
        said = [f"{n} {_AGREEMENTS[kind]}" for kind, n in counts.items() if n]
        n = len(benchmark.runs)
        told.append(("run again", f"{len(again)} of {n} runs: {', '.join(said)}"))
    found = report.replication
    if found is not None:
        told += [
            (
                "fresh seeds",
                f"{found.fresh} runs: {found.fresh_mean:.1%}, told {found.mean:.1%}, "
                f"bound {found.bound:.1%}: {'accepted' if found.accepted else 'rejected'}",
            ),
            ("false alarm", f"{found.false_alarm:.1%} of honest submissions"),
            (
                "power",
                f"{found.best_of_2n:.1%} against the best {found.runs} of "
                f"{2 * found.runs} seeds, {found.best_of_5n:.1%} of {5 * found.runs}",
            ),
        ]
    return told


_AGREEMENTS = {
    "exact": "bit-exact",
    "outcome": "with the same outcomes",
    "none": "differ",
}
