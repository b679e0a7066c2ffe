"""`qn-run --n-seeds`, `--seeds`, `--resume` and `--save-benchmark`: a study of independent runs."""

from __future__ import annotations

import shlex
import sys
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from qn_tracking.api.study import Study
from qn_tracking.cli import signals
from qn_tracking.cli.options import tuning
from qn_tracking.cli.output import confirm_submission, print_json, print_submitted
from qn_tracking.cli.run_print import study_dry_run, study_summary
from qn_tracking.cli.study_print import print_study
from qn_tracking.errors import UsageError, printable
from qn_tracking.records.submission import Contribution
from qn_tracking.render.progress import Display
from qn_tracking.render.text import counted
from qn_tracking.repository import user_name
from qn_tracking.studies.comparison import PRIMARY
from qn_tracking.studies.sweep import factors
from qn_tracking.tracking.manager import executor_plugin
from qn_tracking.tracking.warned import warn_on_stderr

if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Iterator

    from qn_tracking.studies.execute import StudyOutcome

NAMED = ("seed", "seeds", "episodes", "contributor", "github", "name", "baseline", "metric")
OPTIONS = {"notes": "--benchmark-notes", "n_seeds": "--n-seeds", "tuned_by": "--tuned-by"}
OPTIONS |= {name: f"--{name}" for name in NAMED}
"""The options of arguments that the library names in an error."""
SHARED = (
    "name", "question", "baseline", "n_seeds", "seeds", "seed", "tags", "notes", "experiments_dir",
)  # fmt: skip
"""What is declared of any study, as arguments and as parameters."""


def main(args: Namespace) -> int:
    """Runs or resumes a study as the arguments of `qn-run` say; returns the exit code."""
    study = _study(args)
    if args.dry_run:
        if args.executor not in (None, "local"):
            executor_plugin(args.executor, study.record.blocked)
        given = (args.seed, args.seeds, args.resume, args.extend)
        drawn = all(one is None for one in given)
        return study_dry_run(study, args.jobs or 1, args.json, drawn=drawn)
    quiet = args.quiet or args.json
    display = Display(silent=quiet)

    resumes = args.resume is not None or args.extend is not None

    def started() -> None:
        record = study.record
        if resumes and record.script is not None and not quiet:
            # It comes from the file of the study, which may be a stranger's.
            print(f"runs: {printable(shlex.join(record.script))}", file=sys.stderr)
        if not resumes and not quiet:
            arms = f"{len(record.arms)} arms, " if len(record.arms) > 1 else ""
            runs = counted(record.runs, "run")
            name = f"{record.name} ({study.id})" if record.name else study.id
            print(f"study {name}: {arms}{runs} declared", file=sys.stderr)
            division = study.division
            if division is not None:
                print(f"division {printable(division)}", file=sys.stderr)

    def warn(text: str) -> None:
        display.clear()
        warn_on_stderr(text)

    def handle(received: list[int]) -> None:
        if len(received) > 1:
            raise KeyboardInterrupt
        name = signals.name(received[0])
        warn(f"{name}: stopping after these episodes (again to stop at once)")

    try:
        with display, signals.handled_by(handle) as received:
            outcome = study.run(
                jobs=args.jobs,
                executor=args.executor,
                started=started,
                progress=lambda found: display(lambda: str(found)),
                stop=lambda: bool(received),
                warn=warn,
            )
    except KeyboardInterrupt:
        _say(args, f"go on with: qn-run --resume {study.id}")
        raise
    return _finish(args, study, outcome, received)


def _study(args: Namespace) -> Study:
    if args.resume is not None:
        return Study.load(
            args.resume,
            plugins=args.plugins,
            experiments_dir=args.experiments_dir,
            dry_run=args.dry_run,
        )
    if args.extend is not None:
        study = Study.load(args.extend, experiments_dir=args.experiments_dir, dry_run=args.dry_run)
        with _named_as_options():
            study.extend(n_seeds=args.n_seeds, seeds=args.seeds)
        return study
    shared = {
        "sweep": factors(args.sweep),
        "paired": args.zip,
        "metric": args.metric or PRIMARY,
        **{name: getattr(args, name) for name in SHARED},
    }
    with _named_as_options():
        if args.script is not None:
            return Study.script(args.script, **shared)
        return Study.plan(
            args.config,
            **shared,
            episodes=args.episodes,
            overrides=args.overrides,
            plugins=args.plugins,
            blocked=args.no_plugin,
            evaluate_every=args.evaluate_every,
            evaluate_episodes=args.evaluate_episodes,
            dry_run=args.dry_run,
            contribution=partial(_contribution, args) if args.save_benchmark else None,
            benchmarks_dir=args.benchmarks_dir,
        )


@contextmanager
def _named_as_options() -> Iterator[None]:
    """An error names the option of an argument instead of the argument."""
    try:
        yield
    except UsageError as error:
        error.field = OPTIONS.get(error.field or "", error.field)
        raise


def _finish(args: Namespace, study: Study, outcome: StudyOutcome, received: list[int]) -> int:
    """Prints what came of the study, and submits it if that is wanted; returns the exit code."""
    submits = study.record.contribution is not None
    if args.json and not submits:
        runs, finished = list(outcome.runs), outcome.finished
        print_json({"study": study.id, "runs": runs, "finished": finished})
    elif not args.json and not args.quiet:
        study_summary(study, study.summary(), outcome.seconds)
        if len(study.arms) > 1:
            print_study(study)
    if received:
        _say(args, f"go on with: qn-run --resume {study.id}")
        return 128 + received[0]
    lost = sum(state.status not in ("completed", "pruned") for state in outcome.runs)
    if lost:
        if submits:
            cause = f"{lost} of {study.record.runs} runs are not finished"
            print(f"error: no benchmark is saved: {cause}", file=sys.stderr)
        _say(args, f"try again with: qn-run --resume {study.id}")
        return 3 if outcome.storage_failed else 1
    if outcome.storage_failed:  # there are records, but some lack episodes
        return 3
    if submits:
        silent = args.json or args.quiet
        made = study.submit(
            args.benchmarks_dir,
            confirm=partial(confirm_submission, ask=not args.yes, silent=silent),
            warn=warn_on_stderr,
        )
        return print_submitted(made, as_json=args.json, quiet=args.quiet)
    return 0


def _say(args: Namespace, line: str) -> None:
    if not args.quiet:
        with suppress(OSError, ValueError):  # standard error may be closed
            print(line, file=sys.stderr)


def _contribution(args: Namespace) -> Contribution:
    """Name, account and notes: from the options, or asked for on a terminal."""
    name, github, notes = args.contributor, args.github, args.benchmark_notes
    if name is None or notes is None:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            missing = "--contributor" if name is None else "--benchmark-notes"
            raise UsageError(f"--save-benchmark needs {missing}", hint="no terminal to ask on")
        if name is None:
            name = _ask("contributor", user_name())
            if github is None:
                github = _ask("GitHub account (may be empty)", "") or None
        if notes is None:
            notes = _ask("notes", "")
    if not name.strip():
        raise UsageError("--contributor: expected a name")
    return Contribution(contributor=name, github=github, notes=notes or None, tuning=tuning(args))


def _ask(what: str, default: str) -> str:
    shown = f" [{printable(default)}]" if default else ""
    print(f"{what}{shown}: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip() or default
