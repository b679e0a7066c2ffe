"""`qn-run`: run a configuration, and track it if asked."""
# PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import os
import signal
import sys
from argparse import SUPPRESS, Action, Namespace
from contextlib import contextmanager

from qn_tracking.cli import signals
from qn_tracking.cli.command import Parser, Version, complete, print_json, run
from qn_tracking.errors import QnError, UsageError, describe, printable, storable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from qn_tracking.records.model import Config, Experiment, Simulation
    from qn_tracking.tracking.recorder import Recorder

EPISODES = 50
BENCHMARKS = "benchmarks"
EXAMPLES = """examples:
  qn-run mlp_dynamic_small                      a shipped configuration, 50 episodes
  qn-run my.yml --episodes 200 --seed 7 --track-experiment
  qn-run my.yml --set brain.config.gamma=0.95 --tag sweep=gamma --track-experiment
  qn-run my.yml --plugins mysink:Sink           a plugin of your own, in mysink.py here
  qn-run my.yml --n-seeds 10 --jobs 2          independent runs, each tracked
  qn-run my.yml --save-benchmark --contributor Ada --benchmark-notes "baseline"
  qn-run my.yml --dry-run                       check everything, run nothing
  qn-run --new-plugin qn-tracking-hello         a package to begin a plugin with

exit codes: 0 done, 1 the simulation or a plugin failed, 2 usage or configuration,
3 the record could not be written, 128 + signal when interrupted
"""


def parser() -> Parser:
    """The command line."""
    p = Parser(prog="qn-run", description="Run a simulation.", epilog=EXAMPLES)
    p.add_argument(
        "config",
        nargs="?",
        metavar="CONFIG",
        help="a YAML file, or the name of a shipped configuration",
    )
    p.add_argument(
        "--episodes",
        type=_positive,
        metavar="N",
        help=f"how many (default: the configuration's, or {EPISODES})",
    )
    p.add_argument("--runs", type=_positive, action=_Runs, dest="episodes", help=SUPPRESS)
    p.renamed = {"--sessions": "--n-seeds"}
    p.add_argument(
        "--seed",
        type=_seed,
        metavar="S",
        help="run seed (default: the configuration's, or a random one)",
    )
    p.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        dest="overrides",
        help="override a field of the configuration; VALUE is YAML",
    )
    p.add_argument("--dry-run", action="store_true", help="check everything, run nothing")
    tracking = p.add_argument_group("tracking")
    tracking.add_argument(
        "--track-experiment",
        action="store_true",
        help="record the run: --plugins metadata,json_storage",
    )
    tracking.add_argument(
        "--plugins",
        action="append",
        default=[],
        metavar="NAME[,NAME...]",
        help="turn on built-in or installed plugins, or MODULE:ATTRIBUTE of this folder",
    )
    tracking.add_argument(
        "--no-plugin",
        action="append",
        default=[],
        metavar="NAME",
        help="block a plugin, wherever it is turned on",
    )
    tracking.add_argument(
        "--experiments-dir", metavar="DIR", help="where records go (default: experiments)"
    )
    tracking.add_argument(
        "--tag", action="append", default=[], metavar="KEY=VALUE", help="a label of the record"
    )
    tracking.add_argument("--notes", metavar="TEXT", help="a remark in the record")
    runs = p.add_argument_group("runs and benchmarks (these track, too)")
    runs.add_argument(
        "--n-seeds",
        type=_positive,
        metavar="N",
        help="independent runs, each with a seed of its own, as one study",
    )
    runs.add_argument("--jobs", type=_positive, metavar="N", help="runs side by side (default: 1)")
    runs.add_argument(
        "--executor",
        metavar="SPEC",
        help="where runs run: local (default), or that of an installed plugin, such as"
        " dask://HOST:PORT",
    )
    runs.add_argument("--resume", metavar="ID", help="run the runs that a study lacks")
    runs.add_argument(
        "--save-benchmark",
        action="store_true",
        help="make a benchmark of the runs; as many as the protocol asks for unless given",
    )
    runs.add_argument("--contributor", metavar="NAME", help="who submits the benchmark")
    runs.add_argument("--github", metavar="ACCOUNT", help="the contributor's GitHub account")
    runs.add_argument(
        "--benchmark-notes", metavar="TEXT", help="what the contributor says about it"
    )
    runs.add_argument(
        "--benchmarks-dir",
        metavar="DIR",
        help=f"where benchmarks go (default: {BENCHMARKS})",
    )
    runs.add_argument(
        "--yes", action="store_true", help="save a benchmark in spite of warnings, without asking"
    )
    output = p.add_argument_group("output")
    output.add_argument("--quiet", action="store_true", help="no progress, no summary")
    output.add_argument("--json", action="store_true", help="the record as JSON on standard output")
    output.add_argument(
        "--traceback", action="store_true", help="show where a simulation or plugin failed"
    )
    output.add_argument("--list-configs", action="store_true", help="the shipped configurations")
    output.add_argument(
        "--list-plugins", action="store_true", help="the plugins: version, kind, on or off"
    )
    output.add_argument(
        "--hooks",
        action="store_true",
        help="with --list-plugins: import each plugin, and list its hooks or what is wrong with it",
    )
    output.add_argument(
        "--new-plugin", metavar="NAME", help="write a package to begin a plugin with, here"
    )
    output.add_argument("--version", nargs=0, action=Version, help="print the version")
    return p


class _Runs(Action):
    """`--runs N`, as users of Quantum Nematode type it: N episodes, with a word that says so."""

    def __call__(self, parser: Any, namespace: Namespace, value: Any, option: Any = None) -> None:
        """Sets the number of episodes."""
        namespace.episodes = value
        print(f"{value} episodes (--runs is --episodes)", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs what the arguments say; returns the exit code."""
    p = parser()
    complete(p)
    args = p.parse_args(argv)
    if args.list_configs:
        return _list_configs(args.json)
    if args.new_plugin is not None:
        from qn_tracking.cli.new_plugin import main as new_plugin

        return new_plugin(args.new_plugin, args.json)
    names = _names(args.plugins, "--plugins")
    if args.track_experiment:
        from qn_tracking.tracking.installed import TRACKER

        names = [*TRACKER, *names]
    blocked = _names(args.no_plugin, "--no-plugin")
    if args.list_plugins:
        return _list_plugins(args, names, blocked)
    _check_together(args)
    if args.benchmarks_dir is None:
        args.benchmarks_dir = BENCHMARKS
    for name in ("notes", "contributor", "github", "benchmark_notes"):
        if (text := getattr(args, name)) is not None:
            setattr(args, name, storable(text))
    if args.config is None and args.resume is None:
        raise UsageError(
            "no configuration given", hint="qn-run --list-configs names some; --help tells more"
        )
    try:
        if _many(args):
            from qn_tracking.cli.study import main as run_study

            return run_study(args, names, blocked, _tags(args.tag))
        return _run(args, names, blocked)
    except Exception as error:
        if args.traceback:
            import traceback

            traceback.print_exception(error)
        raise


def _many(args: Namespace) -> bool:
    return bool(args.n_seeds or args.save_benchmark or args.resume is not None)


def _check_together(args: Namespace) -> None:
    """Raises UsageError for an option that would be without effect, or contradicts another."""
    if args.resume == "":
        raise UsageError("--resume: expected the id of a study")
    resumes = args.resume is not None
    if resumes and (args.config or args.n_seeds or args.save_benchmark):
        raise UsageError("--resume goes with no configuration and no --n-seeds: it knows its own")
    declared = {
        "--seed": args.seed,
        "--episodes": args.episodes,
        "--set": args.overrides,
        "--plugins": args.plugins,
        "--no-plugin": args.no_plugin,
        "--tag": args.tag,
        "--notes": args.notes,
        "--contributor": args.contributor,
        "--github": args.github,
        "--benchmark-notes": args.benchmark_notes,
    }
    for option, value in declared.items():
        if resumes and value not in (None, []):
            raise UsageError(f"{option} goes with no --resume: the study has declared it")
    said = {
        "--contributor": args.contributor,
        "--github": args.github,
        "--benchmark-notes": args.benchmark_notes,
        "--benchmarks-dir": args.benchmarks_dir,
        "--yes": args.yes or None,
    }
    for option, value in said.items():
        if value is not None and not args.save_benchmark and not resumes:
            raise UsageError(f"{option} goes with --save-benchmark")
    for option, value in {"--jobs": args.jobs, "--executor": args.executor}.items():
        if value and not _many(args):
            raise UsageError(f"{option} goes with --n-seeds")


def _run(args: Namespace, names: list[str], blocked: list[str]) -> int:
    from qn_tracking import config as configuration, ids
    from qn_tracking.builtin.progress import Progress
    from qn_tracking.tracking import runner
    from qn_tracking.tracking.manager import choose, make_manager, make_simulation, project
    from qn_tracking.tracking.recorder import Recorder, warn_on_stderr

    # Before anything imports a numeric library.
    runner.pin_numeric_threads()
    settings = project()
    config = configuration.load(args.config, args.overrides)
    wanted = choose(config, settings, names)
    manager = make_manager(wanted, blocked=blocked, config=config)
    simulation = make_simulation(config, manager)
    episodes = args.episodes or config.settings.get("episodes") or EPISODES
    given = config.settings.get("seed") if args.seed is None else args.seed
    seed = ids.new_seed() if given is None else given
    tags = _tags(args.tag)
    experiments = args.experiments_dir or settings.experiments_dir or "experiments"
    if args.dry_run:
        return _dry_run(
            args,
            config,
            simulation,
            [name for name in wanted if name not in blocked],
            episodes,
            given,
        )
    bar: Progress | None = None
    if not args.quiet and not args.json and "progress" not in (*wanted, *blocked):
        bar = Progress()
        manager.register(bar, name="progress")

    def warn(text: str) -> None:
        if bar is not None:
            bar.clear()
        warn_on_stderr(text)

    recorder = Recorder(
        config,
        manager=manager,
        subject=simulation.subject,
        seed=seed,
        episodes=episodes,
        tags=tags,
        notes=args.notes,
        experiments_dir=experiments,
        warn=warn,
    )
    with _signals(recorder, warn) as stop:
        try:
            runner.run_simulation(
                simulation, recorder, episodes=episodes, seed=seed, stop=lambda: bool(stop)
            )
        except KeyboardInterrupt:
            stop.append(signal.SIGINT)
            if recorder.experiment is None:
                raise
        except QnError:
            raise
        except Exception as error:
            if args.traceback:
                raise
            print(f"error: simulation: {printable(describe(error))}", file=sys.stderr)
            return 1
    experiment = recorder.experiment
    assert experiment is not None
    storage = manager.get_plugin("json_storage")
    path = None
    if storage is not None and storage.saved:
        path = _record_path(experiments, experiment.id)
    elif storage is not None:
        warn(f"no record was saved; the episodes are in {storage.journal}")
    if args.json:
        from qn_tracking.records.codec import plain

        print_json({"path": path, **plain(experiment)})
    elif not args.quiet:
        _summary(experiment, config, path)
    if stop:
        return 128 + stop[0]
    return 3 if any(f.plugin == "json_storage" for f in experiment.failures) else 0


def _record_path(experiments: str, id: str) -> str:
    from qn_tracking.store import paths

    return paths.record(experiments, id)


@contextmanager
def _signals(recorder: Recorder, warn: Any) -> Iterator[list[int]]:
    """The first signal ends the run after this episode, the second at once."""

    def handle(received: list[int]) -> None:
        busy = recorder.busy
        if len(received) == 1 and (busy is None or busy[1] < 1.0):
            warn(
                f"{signals.name(received[0])}: stopping after this episode (again to stop at once)"
            )
            return
        # If saving hangs, too: the journal is whole after every line, so leaving is safe.
        signal.signal(signal.SIGALRM, lambda *_: os._exit(128 + received[0]))
        signal.setitimer(signal.ITIMER_REAL, 0.8)
        raise KeyboardInterrupt

    with signals.hearing(handle) as received:
        try:
            yield received
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


# ---------------------------------------------------------------------------------------- arguments


def _names(given: Sequence[str], option: str) -> list[str]:
    names = [name.strip() for text in given for name in text.split(",")]
    if not all(names):
        raise UsageError(f"{option}: expected a name", hint="qn-run --list-plugins names them")
    return list(dict.fromkeys(names))


def _tags(given: Sequence[str]) -> dict[str, str]:
    tags = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise UsageError(f"--tag {text}: expected KEY=VALUE")
        if key in tags:
            raise UsageError(f"--tag {key}: given twice")
        tags[storable(key)] = storable(value)
    return tags


def _positive(text: str) -> int:
    return _whole(text, 1)


def _seed(text: str) -> int:
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    from argparse import ArgumentTypeError

    if not (text.isascii() and text.isdigit()) or not least <= int(text) < 2**53:
        raise ArgumentTypeError(f"expected a whole number from {least}, below 2**53, got {text!r}")
    return int(text)


# ----------------------------------------------------------------------------------------- printing


def _list_configs(as_json: bool) -> int:
    from qn_tracking.config import shipped
    from qn_tracking.render.text import rows

    found = {name: _about(path) for name, path in shipped().items()}
    if as_json:
        print_json([{"name": name, "about": about} for name, about in found.items()])
    else:
        sys.stdout.write(rows(found.items(), ""))
    return 0


def _about(path: str) -> str:
    with open(path, encoding="utf-8") as lines:
        return next(lines, "").lstrip("# ").rstrip()


def _list_plugins(args: Namespace, names: list[str], blocked: list[str]) -> int:
    from qn_tracking.tracking import installed

    if args.json or args.hooks or args.config is not None:
        return _import_plugins(args, names, blocked)
    from qn_tracking.project import settings

    path, table = settings()
    project = installed.requests(table.get("plugins"), path or "")
    rows = installed.rows({*project, *names}, blocked)
    _print_cells([("name", "version", "distribution", "kind", "state"), *rows])
    return 0


def _import_plugins(args: Namespace, names: list[str], blocked: list[str]) -> int:
    """Lists the plugins with their hooks, which are known only once they are imported."""
    from qn_tracking import config as configuration
    from qn_tracking.tracking.installed import requests
    from qn_tracking.tracking.manager import choose, list_plugins, project

    settings = project()
    if args.config is not None:
        wanted = choose(configuration.load(args.config, args.overrides), settings, names)
    else:
        wanted = {**settings.plugins, **requests(names, "--plugins")}
    found = list_plugins(wanted, blocked)
    if args.json:
        print_json(list(found))
        return 0
    table = [("name", "version", "distribution", "kind", "state", "hooks")]
    for row in found:
        state = "error" if row.error else "on" if row.on else "off"
        hooks = row.error or ", ".join(row.hooks)
        table.append((row.name, row.version or "-", row.distribution, row.kind, state, hooks))
    _print_cells(table)
    return 0


def _print_cells(table: Sequence[Sequence[str]]) -> None:
    widths = [max(len(printable(cell)) for cell in column) for column in zip(*table, strict=True)]
    for cells in table:
        padded = (f"{printable(cell):<{width}}" for cell, width in zip(cells, widths, strict=True))
        print("  ".join(padded).rstrip())


def _dry_run(
    args: Namespace,
    config: Config,
    simulation: Simulation,
    plugins: list[str],
    episodes: int,
    seed: int | None,
) -> int:
    about = {
        "config": config.label,
        "digest": config.digest,
        "environment": simulation.subject.environment,
        "brain": simulation.subject.brain,
        "family": simulation.subject.family,
        "episodes": episodes,
        "seed": seed,
        "plugins": plugins,
        "warnings": list(simulation.warnings),
    }
    if args.json:
        print_json(about)
        return 0
    from qn_tracking.render.text import rows
    from qn_tracking.tracking.recorder import warn_on_stderr

    for text in simulation.warnings:
        warn_on_stderr(text)
    shown = {
        **about,
        "seed": "random" if seed is None else seed,
        "plugins": ", ".join(plugins) or "none",
    }
    del shown["warnings"]
    sys.stdout.write("ok, nothing was run\n" + rows(shown.items()))
    return 0


def _summary(experiment: Experiment, config: Config, path: str | None) -> None:
    from qn_tracking.render.text import duration, rows, sparkline

    subject, results = experiment.subject, experiment.results
    about = " · ".join(
        part for part in (subject.environment, subject.brain, subject.family) if part
    )
    speed = experiment.steps_per_second
    wall = experiment.wall_seconds or 0.0
    done = f"{results.episodes} of {experiment.episodes} in {duration(wall)}"
    success = None
    if results.success_rate is not None and results.final_success_rate is not None:
        last = f"last {results.final_window}: {results.final_success_rate:.0%}"
        success = f"{results.success_rate:.0%}  ({last})"
    steps, reward = results.metrics.get("steps"), results.metrics.get("reward")
    others = [
        (name, f"{spread.mean:.4g}")
        for name, spread in results.metrics.items()
        if name not in ("steps", "reward")
    ]
    curve = None
    if len(results.curve) > 1:
        unicode = (sys.stdout.encoding or "").lower().startswith("utf")
        low, high = (0.0, 1.0) if results.curve_of == "success_rate" else (None, None)
        curve = f"{sparkline(results.curve, low, high, unicode=unicode)}  {results.curve_of}"
    lines: list[tuple[str, object]] = [
        ("status", None if experiment.status == "completed" else experiment.status),
        ("episodes", done + (f", {speed:,.0f} steps/s" if speed else "")),
        ("success", success),
        ("steps", None if steps is None else f"{steps.mean:.1f}"),
        ("reward", None if reward is None else f"{reward.mean:.3f}"),
        *others,
        ("ended", ", ".join(f"{k} {v}" for k, v in sorted(results.terminations.items())) or None),
        ("seed", experiment.seed),
    ]
    sys.stdout.write(f"{printable(config.label)}  {printable(about)}\n" + rows(lines))
    if curve:  # drawn by us, so not escaped
        sys.stdout.write(f"  {curve}\n")
    if path is not None:
        sys.stdout.write(f"saved {printable(path)}\n")
    sys.stdout.flush()


def entry() -> None:
    """The console script."""
    run(main)


if __name__ == "__main__":
    entry()
