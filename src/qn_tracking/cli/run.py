"""`qn-run`: run a configuration, and track it if asked."""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager

from qn_tracking.cli import signals
from qn_tracking.cli.command import complete, run
from qn_tracking.cli.options import plugin_names, tags
from qn_tracking.cli.output import print_json
from qn_tracking.cli.parser import Parser
from qn_tracking.cli.run_options import (
    BENCHMARKS,
    SUBMITTED,
    check_together,
    is_study,
    option_of,
    parser,
)
from qn_tracking.errors import ConfigError, QnError, UsageError, describe, printable, storable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Iterator, Sequence

    from qn_tracking.api.run import Run


def _parsed(p: Parser, argv: Sequence[str]) -> Namespace:
    """The arguments; `script` is what stands after `--`, None without."""
    own = argv.index("--") if "--" in argv else len(argv)
    args = p.parse_args(argv[:own])
    args.script = list(argv[own + 1 :]) if own < len(argv) else None
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what the arguments say; returns the exit code."""
    p = parser()
    complete(lambda words: p)
    argv = list(sys.argv[1:] if argv is None else argv)
    args = _parsed(p, argv)
    files = [config for config in args.config if config.endswith((".yml", ".yaml"))]
    if files:
        from qn_tracking.cli.study_file import arguments

    if len(args.config) > 1:
        for file in files:
            if arguments(file) is not None:
                cause = "is the file of a study: it cannot be combined with a configuration"
                raise UsageError(cause, file=file, hint="its configurations are study.configs")
    elif files:
        written = arguments(args.config[0], argv)
        if written is not None:
            try:
                _parsed(p, written)
            except UsageError as error:
                said = str(error.cause).removeprefix("--")
                raise ConfigError(f"study.{said}", file=args.config[0]) from None
            # Those of the command line come later, and win.
            argv.remove(args.config[0])
            place = written.index("--") if "--" in written else len(written)
            args = _parsed(p, [*written[:place], *argv, *written[place:]])
    if args.list_configs:
        from qn_tracking.cli.run_print import list_configs

        return list_configs(args.json)
    if args.new_plugin is not None:
        from qn_tracking.cli.new_plugin import main as new_plugin

        return new_plugin(args.new_plugin, args.json)
    args.plugins = plugin_names(args.plugins, "--plugins")
    args.no_plugin = plugin_names(args.no_plugin, "--no-plugin")
    if not args.list_plugins:
        check_together(args)
    if args.track_experiment:
        from qn_tracking.tracking.installed import TRACKER

        args.plugins = [*TRACKER, *args.plugins]
    if args.list_plugins:
        from qn_tracking.cli.run_print import list_plugins

        return list_plugins(args)
    if args.runs is not None:
        args.episodes = args.runs
        if not args.quiet and not args.json:
            from qn_tracking.render.text import counted

            said = counted(args.runs, "episode")
            print(f"{said} (--runs is --episodes)", file=sys.stderr)
    args.tags = tags(args.tag)
    args.benchmarks_dir = args.benchmarks_dir or BENCHMARKS
    for name in ("notes", "contributor", "github", "benchmark_notes", "question"):
        if (text := getattr(args, name)) is not None:
            setattr(args, name, storable(text))
    if not args.config and args.script is None and args.resume is None and args.extend is None:
        hint = "qn-run --list-configs lists some; --help explains the options"
        raise UsageError("no configuration given", hint=hint)
    try:
        if is_study(args) and not _is_run(args):
            from qn_tracking.cli.study import main as run_study

            return run_study(args)
        return _run(args)
    except Exception as error:
        if args.traceback:
            import traceback

            traceback.print_exception(error)
        raise


def _is_run(args: Namespace) -> bool:
    """Whether it is a run that is to be resumed. Raises UsageError for options of a study."""
    if args.resume is None:
        return False
    from qn_tracking.cli.options import experiments

    try:
        store = experiments(args)
        if store.study(args.resume) is not None or not store.id(args.resume):
            return False
    except QnError:  # the study says what is wrong
        return False
    for name in ("jobs", "executor", *SUBMITTED):
        if getattr(args, name) not in (None, False, BENCHMARKS):
            raise UsageError(f"{option_of(name)} needs a study", hint=f"{args.resume} is a run")
    return True


def _run(args: Namespace) -> int:
    from qn_tracking.api.run import Run
    from qn_tracking.builtin.progress import Progress
    from qn_tracking.cli.run_print import dry_run, summary
    from qn_tracking.tracking.warned import warn_on_stderr

    if args.resume is not None:
        run = Run.load(
            args.resume,
            plugins=args.plugins,
            experiments_dir=args.experiments_dir,
            dry_run=args.dry_run,
            capture_output=args.capture_output,
        )
        if not args.quiet and not args.dry_run:
            print("what it has is run again first, and compared", file=sys.stderr)
    else:
        run = Run(
            args.config[0],
            episodes=args.episodes,
            seed=args.seed,
            overrides=args.overrides,
            plugins=args.plugins,
            blocked=args.no_plugin,
            tags=args.tags,
            notes=args.notes,
            experiments_dir=args.experiments_dir,
            dry_run=args.dry_run,
            evaluate_every=args.evaluate_every,
            evaluate_episodes=args.evaluate_episodes,
            capture_output=args.capture_output,
        )
    if args.dry_run:
        return dry_run(run.about, args.json)
    bar = Progress()
    if not args.quiet and not args.json:
        run.add_sink("progress", bar)

    def warn(text: str) -> None:
        bar.clear()
        warn_on_stderr(text)

    with _signals(run, warn) as stop:
        try:
            run.execute(stop=lambda: bool(stop), warn=warn)
        except KeyboardInterrupt:
            stop.append(signal.SIGINT)
            if run.experiment is None:
                raise
        except QnError:
            raise
        except Exception as error:
            if args.traceback:
                raise
            print(f"error: simulation: {printable(describe(error))}", file=sys.stderr)
            return 1
    experiment = run.experiment
    assert experiment is not None
    path = run.path
    if run.storage is not None and path is None:
        warn(f"no record was saved; the episodes are in {run.storage.journal}")
    if args.json:
        from qn_tracking.records.codec import plain

        print_json({"path": path, **plain(experiment)})
    elif not args.quiet:
        summary(experiment, path)
    if stop:
        return 128 + stop[0]
    return 3 if any(failure.storage for failure in experiment.failures) else 0


@contextmanager
def _signals(run: Run, warn: Callable[[str], None]) -> Iterator[list[int]]:
    """The first signal ends the run after this episode, the second at once."""

    def handle(received: list[int]) -> None:
        busy = run.busy
        if len(received) == 1 and (busy is None or busy[1] < 1.0):
            warn(
                f"{signals.name(received[0])}: stopping after this episode (again to stop at once)"
            )
            return
        # In case saving hangs: the journal is complete after every line, so leaving is safe.
        signal.signal(signal.SIGALRM, lambda *_: os._exit(128 + received[0]))
        signal.setitimer(signal.ITIMER_REAL, 0.8)
        raise KeyboardInterrupt

    with signals.handled_by(handle) as received:
        try:
            yield received
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def entry() -> None:
    run(main)


if __name__ == "__main__":
    entry()
