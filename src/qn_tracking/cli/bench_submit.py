"""`qn-bench submit`: a submission of tracked experiments or of a study."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import fields

from qn_tracking.benchmark import files, validation
from qn_tracking.benchmark.assemble import FINISHED, assemble
from qn_tracking.benchmark.category import categorize
from qn_tracking.benchmark.protocol import Protocol, rulebook
from qn_tracking.cli.bench import validators
from qn_tracking.cli.bench_validate import show
from qn_tracking.cli.command import print_json
from qn_tracking.errors import StorageError, UsageError, printable
from qn_tracking.records.submission import Category, Contribution, Study, Submission
from qn_tracking.store import paths, read, studies

if TYPE_CHECKING:
    from qn_tracking.records.model import Episode, Experiment


def arguments(parser: ArgumentParser, command: str) -> None:
    """The options of `submit`."""
    parser.add_argument(
        "ids", nargs="+", metavar="ID", help="a study, or experiments of one configuration"
    )
    parser.add_argument("--contributor", required=True, metavar="NAME", help="who submits")
    parser.add_argument("--github", metavar="ACCOUNT", help="their GitHub account")
    parser.add_argument("--benchmark-notes", metavar="TEXT", help="what they say about it")
    parser.add_argument("--experiments-dir", metavar="DIR", default="experiments")
    parser.add_argument(
        "--yes", action="store_true", help="save it in spite of warnings, without asking"
    )


def run(args: Namespace) -> int:
    """Makes, judges and saves a submission; 1 if it is not valid, and nothing is written."""
    by = Contribution(contributor=args.contributor, github=args.github, notes=args.benchmark_notes)
    study = None
    ids = list(args.ids)
    if len(ids) == 1:
        try:
            study = studies.load(args.experiments_dir, ids[0])
        except UsageError:
            study = None
    if study is not None:
        ids = []
    return submit(
        args.experiments_dir,
        args.benchmarks_dir,
        by,
        study=study,
        ids=ids,
        as_json=args.json,
        assume_yes=args.yes,
    )


OPTIONS = {"contributor": "--contributor", "github": "--github", "notes": "--benchmark-notes"}


def check_before(benchmarks: str, category: Category, by: Contribution, protocol: Protocol) -> None:
    """What would keep a submission from being saved, said before hours of runs; writes nothing.

    Raises UsageError for what the contributor says, StorageError for the folder.
    """
    for finding in files.check_contribution(by, protocol):
        if finding.level == "error":
            option = OPTIONS[(finding.field or "").rpartition(".")[2]]
            raise UsageError(f"{option}: {finding.message}", hint=finding.rule)
    files.check_folder(os.path.join(benchmarks, category.environment, category.family))


def submit_study(
    experiments: str,
    benchmarks: str,
    study: Study,
    *,
    as_json: bool,
    quiet: bool,
    assume_yes: bool,
) -> int:
    """What `qn-run --save-benchmark` ends with."""
    assert study.contribution is not None
    return submit(
        experiments,
        benchmarks,
        study.contribution,
        study=study,
        ids=(),
        as_json=as_json,
        quiet=quiet,
        assume_yes=assume_yes,
    )


def submit(
    experiments: str,
    benchmarks: str,
    by: Contribution,
    *,
    study: Study | None,
    ids: Sequence[str],
    as_json: bool,
    assume_yes: bool,
    quiet: bool = False,
) -> int:
    """Makes, judges and saves a submission; returns the exit code."""
    statuses: list[str] = []
    if study is not None:
        states = studies.states(experiments, study)
        statuses = [state.status for state in states]
        ids = [state.id for state in states if state.status == FINISHED]
    found = [_load(experiments, id) for id in ids]
    book = rulebook(benchmarks)
    from qn_tracking import config as configuration

    if not found:
        raise UsageError("no finished run to make a submission of")
    text = _text(experiments, found[0][0])
    first = found[0][0].config
    config = configuration.from_text(text, first.label, first.overrides)
    category = categorize(config, book.now, validators(config))
    submission = assemble(
        found,
        text=text,
        category=category,
        contribution=by,
        protocol=book.now,
        study=study,
        statuses=statuses,
    )
    others = [entry.submission for entry in files.load_all(benchmarks)[0]]
    findings = validation.validate(submission, others, book=book, make_manager=validators)
    name = files.path(benchmarks, category, submission.id)
    if not as_json:
        show(name, [f for f in findings if not quiet or f.level == "error"])
    valid = validation.passes(findings)
    warnings = [finding for finding in findings if finding.level == "warning"]
    saved = valid and (not warnings or assume_yes or _go_on(warnings))
    if saved:
        files.save(benchmarks, submission)
    if as_json:
        print_json(
            {
                "path": name if saved else None,
                "valid": valid,
                "findings": list(findings),
                "submission": _brief(submission),
            }
        )
    elif saved and quiet:
        pass
    elif saved:
        claim = submission.aggregates.success_rate
        print(f"final success {claim.mean:.1%} over {claim.n} runs, category {category}")
        print(f"saved {printable(name)}")
        print(
            "To have it on the leaderboard: commit this file on a branch, and open a pull request;"
            " CONTRIBUTING.md tells how."
        )
    else:
        print("nothing was saved", file=sys.stderr)
    return 0 if saved else 1


def _brief(submission: Submission) -> dict[str, object]:
    names = [a.name for a in fields(Submission) if a.name not in ("runs", "text")]
    return {name: getattr(submission, name) for name in names}


def _load(experiments: str, id: str) -> tuple[Experiment, list[Episode]]:
    from qn_tracking.ids import check_id

    try:
        experiment = read.experiment(paths.record(experiments, check_id(id)))
    except FileNotFoundError:
        raise UsageError(f"no experiment {id}", hint=f"looked in {experiments}") from None
    journal = f"{paths.run_folder(experiments, id)}/episodes.jsonl"
    try:
        return experiment, list(read.Lines(journal))
    except FileNotFoundError:
        raise StorageError("its episodes are not here", file=journal) from None


def _text(experiments: str, experiment: Experiment) -> str:
    name = f"{paths.run_folder(experiments, experiment.id)}/config.yml"
    try:
        data, _ = read.load(name)
    except FileNotFoundError:
        raise StorageError("the configuration is not here", file=name) from None
    return data.decode("utf-8-sig")


def _go_on(warnings: Sequence[object]) -> bool:
    """Asks whether to save in spite of warnings; where nobody can answer, they are marks enough."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    n = len(warnings)
    print(
        f"{n} warning{'s' * (n > 1)}: save it all the same? [y/N] ",
        end="",
        file=sys.stderr,
        flush=True,
    )
    return sys.stdin.readline().strip().lower() in ("y", "yes")
