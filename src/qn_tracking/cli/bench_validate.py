"""`qn-bench validate`: judges submissions by the rules, for contributors and for CI."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence

from qn_tracking.benchmark import files, validation, verifications
from qn_tracking.benchmark.protocol import rulebook
from qn_tracking.cli.bench import validators
from qn_tracking.cli.command import print_json
from qn_tracking.errors import printable
from qn_tracking.records.submission import Finding


def arguments(parser: ArgumentParser, command: str) -> None:
    """The options of `validate`."""
    parser.add_argument(
        "paths", nargs="*", metavar="PATH", help="files or folders (default: all benchmarks)"
    )


def run(args: Namespace) -> int:
    """Judges each against all others; 1 if one has an error or cannot be read, 4 if all that is
    wrong is that one needs what is not installed here.
    """
    book = rulebook(args.benchmarks_dir)
    everyone, _ = files.load_all(args.benchmarks_dir)
    report = []
    for place in args.paths or [args.benchmarks_dir]:
        entries, problems = files.load_all(place)
        for entry in entries:
            # The file itself is no other, but a copy of it under another name is one.
            rest = [e.submission for e in everyone if not same_file(e.path, entry.path)]
            findings = (
                *validation.validate(
                    entry.submission, rest, book=book, make_manager=validators, place=entry.path
                ),
                *entry.findings,
            )
            report.append((entry.path, findings))
        for problem in problems:
            found = Finding(
                rule="schema", level="error", field=problem.field, message=problem.cause
            )
            report.append((problem.file or place, (found,)))
    if not args.paths:
        for problem in verifications.problems(args.benchmarks_dir):
            found = Finding(
                rule="verification", level="error", field=problem.field, message=problem.cause
            )
            report.append((problem.file or args.benchmarks_dir, (found,)))
    strange = sum(not validation.checkable(findings) for _, findings in report)
    bad = sum(not validation.passes(findings) for _, findings in report) - strange
    if args.json:
        print_json(
            [
                {"path": path, "valid": validation.passes(findings), "findings": list(findings)}
                for path, findings in report
            ]
        )
    else:
        for path, findings in report:
            show(path, findings)
        warned = sum(bool(findings) for _, findings in report) - bad - strange
        good = len(report) - bad - strange
        more = f"; {strange} cannot be checked here" if strange else ""
        print(f"{len(report)} submissions: {good} valid, {bad} not; {warned} with warnings{more}")
    return 1 if bad else 4 if strange else 0


def show(path: str, findings: Sequence[Finding]) -> None:
    """The findings on a submission, a line each, errors on standard error."""
    for finding in findings:
        where = f"{finding.field}: " if finding.field else ""
        text = f"{finding.level}: {path}: {where}{finding.message} [{finding.rule}]"
        stream = sys.stderr if finding.level == "error" else sys.stdout
        print(printable(text), file=stream)


def same_file(one: str, other: str) -> bool:
    """Whether two paths are of one file that is there."""
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)
