"""`qn-run --n-seeds`: a study of independent runs, and the benchmark that is made of it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

from attrs import evolve

from qn_tracking import config as configuration, ids
from qn_tracking.cli import signals
from qn_tracking.cli.command import print_json
from qn_tracking.errors import PluginError, UnsupportedError, UsageError, describe, printable
from qn_tracking.records.codec import canonical
from qn_tracking.records.model import Config, Membership, PluginUse, RunInfo, Simulation
from qn_tracking.records.submission import Contribution, Study
from qn_tracking.redact import MARK, redact_arguments, redact_config, redact_value
from qn_tracking.render.text import clip, duration, rows
from qn_tracking.store import studies
from qn_tracking.tracking import runner
from qn_tracking.tracking.emit import slow
from qn_tracking.tracking.installed import TRACKER
from qn_tracking.tracking.manager import (
    choose,
    make_executor,
    make_manager,
    make_simulation,
    project,
)
from qn_tracking.tracking.recorder import FACTS_TIMEOUT, warn_on_stderr

if TYPE_CHECKING:
    from argparse import Namespace
    from concurrent.futures import Executor

    import pluggy

    from qn_tracking.store.studies import RunState

EPISODES = 50
BENCHMARKS = "benchmarks"


def main(
    args: Namespace, names: Sequence[str], blocked: Sequence[str], tags: Mapping[str, str]
) -> int:
    """Runs or resumes a study as the arguments of `qn-run` say; returns the exit code."""
    runner.pin_numeric_threads()
    settings = project()
    experiments = args.experiments_dir or settings.experiments_dir or "experiments"
    if args.resume is not None:
        study = studies.load(experiments, args.resume)
        config = _config_of(study, experiments)
        wanted: Mapping[str, Mapping[str, Any]] = study.plugins
        if MARK in canonical(wanted).decode():
            raise _redacted(study)
        blocked = study.blocked
    else:
        config = configuration.load(args.config, args.overrides)
        wanted = choose(config, settings, [*TRACKER, *names])
    manager = make_manager(wanted, blocked=blocked, config=config)
    simulation = make_simulation(config, manager)
    if args.resume is None:
        study = _study(args, config, simulation, wanted, blocked, tags, manager, experiments)
    if args.dry_run:
        return _dry_run(args, study)
    for text in simulation.warnings:
        warn_on_stderr(text)
    # Before anything is declared: it may not be there.
    with _executor(args, blocked) as executor:
        if args.resume is None:
            studies.declare(experiments, study)
            if not args.quiet and not args.json:
                said = f"study {study.id}: {study.runs} runs declared"
                print(said, file=sys.stderr)
        began = time.perf_counter()
        with (
            studies.locked(experiments, study.id),
            _resumable(study, args.quiet),
            signals.hearing(_stop) as received,
        ):
            before = studies.states(experiments, study)
            tasks = _tasks(experiments, study, config, wanted, before)
            display = _Display(study, before, args.quiet or args.json)
            outcomes = _play(
                tasks,
                executor,
                args.jobs,
                experiments,
                study,
                simulation,
                lambda done: display(done) or bool(received),
            )
            display.clear()
        seconds = time.perf_counter() - began
    _tell(outcomes, simulation.warnings)
    after = studies.states(experiments, study)
    finished = sum(state.status == "completed" for state in after)
    if args.json and study.contribution is None:
        print_json({"study": study.id, "runs": list(after), "finished": finished})
    elif not args.json and not args.quiet:
        _summary(experiments, study, after, seconds)
    if received:
        if not args.quiet:
            print(f"go on with: qn-run --resume {study.id}", file=sys.stderr)
        return 128 + received[0]
    storage = any(outcome.exit_code == 3 for outcome in outcomes)
    if finished < study.runs:
        if study.contribution is not None:
            lost = study.runs - finished
            cause = f"{lost} of {study.runs} runs are not finished"
            print(f"error: no benchmark is saved: {cause}", file=sys.stderr)
        if not args.quiet:
            print(f"try again with: qn-run --resume {study.id}", file=sys.stderr)
        return 3 if storage else 1
    if storage:  # there are records, but not all episodes of them
        return 3
    if study.contribution is not None:
        from qn_tracking.cli.bench_submit import submit_study

        return submit_study(
            experiments,
            args.benchmarks_dir,
            study,
            as_json=args.json,
            quiet=args.quiet,
            assume_yes=args.yes,
        )
    return 0


# ---------------------------------------------------------------------------------------- declaring


def _study(
    args: Namespace,
    config: Config,
    simulation: Simulation,
    wanted: Mapping[str, Mapping[str, Any]],
    blocked: Sequence[str],
    tags: Mapping[str, str],
    manager: pluggy.PluginManager,
    experiments: str,
) -> Study:
    """What the arguments declare. Raises UsageError for what the protocol forbids."""
    runs, episodes = args.n_seeds, args.episodes or config.settings.get("episodes")
    contribution = None
    if args.save_benchmark:
        from qn_tracking.benchmark.category import categorize
        from qn_tracking.benchmark.protocol import rulebook
        from qn_tracking.cli.bench_submit import check_before

        protocol = rulebook(args.benchmarks_dir).now
        runs = runs or protocol.minimum_runs
        episodes = episodes or max(EPISODES, protocol.minimum_episodes)
        protocol.check_plan(runs, episodes)
        if "json_storage" in blocked or "metadata" in blocked:
            raise UsageError("--save-benchmark needs the plugins metadata and json_storage")
        category = categorize(config, protocol, manager)
        contribution = _contribution(args, protocol.maximum_name)
        check_before(args.benchmarks_dir, category, contribution, protocol)
    given = config.settings.get("seed") if args.seed is None else args.seed
    seed = ids.new_seed() if given is None else given
    assert config.digest is not None
    runs, episodes = runs or 1, episodes or EPISODES
    if runs > 999:
        raise UsageError(f"--n-seeds {runs}: at most 999")
    clean = redact_config(config)
    return Study(
        id=ids.new_id(),
        created=ids.utc(time.time()),
        runs=runs,
        episodes=episodes,
        seed=seed,
        seeds=tuple(ids.run_seed(config.digest, seed, i) for i in range(runs)),
        config=clean,
        text=clean.text,
        config_file=_file_of(config, experiments),
        subject=simulation.subject,
        plugins=redact_value(wanted),
        blocked=tuple(blocked),
        tags=tags,
        notes=args.notes,
        command=redact_arguments(sys.argv),
        contribution=contribution,
    )


def _contribution(args: Namespace, longest: int) -> Contribution:
    """Name, account and notes: from the options, or asked for where somebody can answer."""
    name, github, notes = args.contributor, args.github, args.benchmark_notes
    if name is None or notes is None:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            missing = "--contributor" if name is None else "--benchmark-notes"
            raise UsageError(f"--save-benchmark needs {missing}", hint="no terminal to ask on")
        if name is None:
            from qn_tracking.repository import user_name

            default = user_name()
            name = _ask("contributor", default)
            if github is None:
                github = _ask("GitHub account (may be empty)", "") or None
        if notes is None:
            notes = _ask("notes", "")
    if not name.strip():
        raise UsageError("--contributor: expected a name")
    if len(name) > longest:
        raise UsageError(f"--contributor: longer than {longest} characters")
    return Contribution(contributor=name, github=github, notes=notes or None)


def _ask(what: str, default: str) -> str:
    print(
        f"{what}{f' [{printable(default)}]' if default else ''}: ",
        end="",
        file=sys.stderr,
        flush=True,
    )
    return sys.stdin.readline().strip() or default


def _file_of(config: Config, experiments: str) -> str | None:
    """Where a configuration was read, as it can be found again: a whole tree may be moved."""
    if config.path is None:
        return None
    name = os.path.relpath(config.path, os.path.realpath(experiments))
    try:
        name.encode()
    except UnicodeEncodeError:  # a record holds only what UTF-8 can
        return None
    return name


def _config_of(study: Study, experiments: str) -> Config:
    """The configuration of a study that goes on. Raises UnsupportedError if it was redacted.

    Its text is the study's. Its path, where that is still a file, is for those who ask in which
    repository it stands.
    """
    config = configuration.from_text(study.text, study.config.label, study.config.overrides)
    if config.digest != study.config.digest:
        raise _redacted(study)
    path = None
    if study.config_file is not None:
        path = os.path.normpath(os.path.join(os.path.realpath(experiments), study.config_file))
        path = path if os.path.isfile(path) else None
    # What is recorded is what was read then.
    return evolve(config, sha256=study.config.sha256, path=path)


def _redacted(study: Study) -> UnsupportedError:
    return UnsupportedError(
        "its configuration held secrets, which are not stored",
        file=f"study {study.id}",
        hint="start a new one",
    )


# ------------------------------------------------------------------------------------------ running


@contextmanager
def _executor(args: Namespace, blocked: Sequence[str]) -> Iterator[Executor | None]:
    """What `--executor` names; None for the processes of this machine."""
    if args.executor in (None, "local"):
        yield None
        return
    executor = make_executor(args.executor, args.jobs, blocked=blocked)
    plugin = f"plugin executor.{args.executor.partition('://')[0]}"
    for name in ("submit", "shutdown"):
        if not callable(getattr(executor, name, None)):
            cause = f"made no executor: {type(executor).__name__} has no {name}"
            raise PluginError(cause, file=plugin, field="make_executor")

    def leave(**how: bool) -> None:
        try:
            executor.shutdown(**how)
        except (Exception, SystemExit) as error:  # what was played is written down
            warn_on_stderr(f"{plugin}: shutdown: {describe(error)}")

    try:
        yield executor
    except BaseException:
        leave(wait=False, cancel_futures=True)
        raise
    leave()


@contextmanager
def _resumable(study: Study, quiet: bool) -> Iterator[None]:
    """Says how to go on where a study is stopped at once."""
    try:
        yield
    except KeyboardInterrupt:
        if not quiet:
            clear = "\r\x1b[K" if sys.stderr.isatty() else ""  # the line of what is done
            with suppress(OSError, ValueError):  # nobody need read it
                print(f"{clear}go on with: qn-run --resume {study.id}", file=sys.stderr)
        raise


def _play(
    tasks: list[runner.Task],
    executor: Executor | None,
    jobs: int | None,
    experiments: str,
    study: Study,
    simulation: Simulation,
    tick: Callable[[Sequence[int]], bool],
) -> list[runner.Outcome]:
    """Runs runs, here or on an executor."""
    if not tasks:
        return []
    if executor is not None:
        from qn_tracking.studies import remote

        return remote.run_tasks(
            tasks,
            executor,
            jobs,
            runs=study.runs,
            here=lambda: _snapshot(experiments, study, tasks[0].config, simulation),
            tick=tick,
        )
    jobs = jobs or 1
    runner.warm_up()
    here = _snapshot(experiments, study, tasks[0].config, simulation)
    return runner.run_tasks(
        [runner.with_snapshot(task, here, jobs) for task in tasks],
        jobs,
        runs=study.runs,
        tick=tick,
        retry=lambda task: _again(experiments, task),
    )


def _tell(outcomes: Sequence[runner.Outcome], known: Sequence[str]) -> None:
    """Says each warning once, and each failure with the runs that it ended."""
    ended: dict[str, list[str]] = {}
    for outcome in outcomes:
        if outcome.error:
            ended.setdefault(outcome.error, []).append(str(outcome.index))
    warnings = chain.from_iterable(outcome.warnings for outcome in outcomes)
    for text in dict.fromkeys(warnings):
        if text not in known:
            warn_on_stderr(text)
    for error, indices in ended.items():
        warn_on_stderr(f"run{'s' * (len(indices) > 1)} {', '.join(indices)}: {error}")


def _tasks(
    experiments: str,
    study: Study,
    config: Config,
    wanted: Mapping[str, Mapping[str, Any]],
    states: Sequence[RunState],
) -> list[runner.Task]:
    """The runs that a study lacks; those that another process is at are left to it."""
    tasks = []
    for state in states:
        if state.status == "completed":
            continue
        if state.status == "running":
            warn_on_stderr(f"run {state.index} is being run by another process")
            continue
        attempt = state.attempt + (state.status != "missing")
        tasks.append(
            runner.Task(
                id=studies.run_id(study.id, state.index, attempt),
                config=config,
                episodes=study.episodes,
                seed=study.seeds[state.index],
                plugins=wanted,
                blocked=study.blocked,
                experiments_dir=experiments,
                tags=study.tags,
                notes=study.notes,
                command=study.command,
                membership=Membership(id=study.id, index=state.index, attempt=attempt),
            )
        )
    return tasks


def _again(experiments: str, task: runner.Task) -> runner.Task | None:
    if studies.status(experiments, task.id) == "completed":
        return None  # beside the one that died, and just done
    member = evolve(task.membership, attempt=task.membership.attempt + 1)
    id = studies.run_id(member.id, member.index, member.attempt)
    warn_on_stderr(f"run {member.index}: its worker died; once more, by itself")
    return evolve(task, id=id, membership=member)


def _snapshot(
    experiments: str, study: Study, config: Config, simulation: Simulation
) -> Mapping[str, Any]:
    from os.path import abspath

    from qn_tracking.builtin.metadata import take_snapshot

    about = RunInfo(
        id=study.id,
        started=study.created,
        config=config,
        subject=simulation.subject,
        experiments_dir=abspath(experiments),
    )
    return take_snapshot(about, FACTS_TIMEOUT)


def _stop(received: list[int]) -> None:
    """The first signal ends every run after its episode, the second at once."""
    if len(received) == 1:
        name = signals.name(received[0])
        warn_on_stderr(f"{name}: stopping after these episodes (again to stop at once)")
        return
    runner.kill_workers()
    raise KeyboardInterrupt


class _Display:
    """One line for all runs: episodes and runs done, success so far, time left."""

    def __init__(self, study: Study, before: Sequence[RunState], silent: bool) -> None:
        self._study = study
        self._kept = sum(state.status == "completed" for state in before)
        self._silent = silent
        self._live = sys.stderr.isatty()
        self._began = time.perf_counter()
        self._next = self._began + (0.0 if self._live else 10.0)

    def __call__(self, done: Sequence[int]) -> bool:
        now = time.perf_counter()
        if self._silent or now < self._next:
            return False
        self._next = now + (0.1 if self._live else 10.0)
        line = self.line(done, now - self._began)
        if self._live:
            import shutil

            width = shutil.get_terminal_size().columns
            sys.stderr.write("\r\x1b[K" + clip(line, max(width - 1, 1)))
        else:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()
        return False

    def line(self, done: Sequence[int], elapsed: float) -> str:
        """The state in one line, without a line end."""
        study = self._study
        episodes, good = sum(done[::2]), sum(done[1::2])
        over = self._kept + sum(count >= study.episodes for count in done[::2])
        total = (study.runs - self._kept) * study.episodes
        parts = [f"runs {over}/{study.runs}", f"episodes {episodes}/{total}"]
        if episodes:
            left = duration(elapsed / episodes * (total - episodes))
            parts += [f"success {good / episodes:.0%}", f"{left} left"]
        return "  ".join(parts)

    def clear(self) -> None:
        """Takes the line away."""
        if self._live and not self._silent:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


# ----------------------------------------------------------------------------------------- printing


def _dry_run(args: Namespace, study: Study) -> int:
    about = {
        "config": study.config.label,
        "digest": study.config.digest,
        "environment": study.subject.environment,
        "brain": study.subject.brain,
        "family": study.subject.family,
        "runs": study.runs,
        "episodes": study.episodes,
        "seed": study.seed,
        "plugins": [name for name in study.plugins if name not in study.blocked],
    }
    if args.json:
        print_json(about)
    else:
        shown = {**about, "plugins": ", ".join(study.plugins)}
        sys.stdout.write("ok, nothing was run\n" + rows(shown.items()))
    return 0


def _summary(experiments: str, study: Study, states: Sequence[RunState], seconds: float) -> None:
    from qn_tracking.store import paths, read

    counts: dict[str, int] = {}
    for state in states:
        counts[state.status] = counts.get(state.status, 0) + 1
    done = [
        read.experiment(paths.record(experiments, state.id))
        for state in states
        if state.status == "completed"
    ]
    final = [
        one.results.final_success_rate for one in done if one.results.final_success_rate is not None
    ]
    uses: dict[str, float] = {}
    for use in chain.from_iterable(one.plugins for one in done):
        uses[use.name] = uses.get(use.name, 0.0) + use.seconds
    shares = slow(
        (PluginUse(name=name, seconds=spent) for name, spent in uses.items()),
        sum(one.wall_seconds or 0.0 for one in done),
    )
    about = study.subject
    what = " · ".join(part for part in (about.environment, about.brain, about.family) if part)
    sys.stdout.write(
        f"{printable(study.config.label)}  {printable(what)}\n"
        + rows(
            [
                ("study", study.id),
                ("runs", ", ".join(f"{n} {status}" for status, n in sorted(counts.items()))),
                ("episodes", f"{study.episodes} each, in {duration(seconds)}"),
                (
                    "final success",
                    f"mean {sum(final) / len(final):.1%}, {min(final):.0%} to {max(final):.0%}"
                    if final
                    else None,
                ),
                ("seed", study.seed),
                ("slow plugins", ", ".join(f"{n} {share:.0%}" for n, share in shares) or None),
            ]
        )
    )
    sys.stdout.flush()
