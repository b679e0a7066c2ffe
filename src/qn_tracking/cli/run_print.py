"""What `qn-run` prints: lists, what a dry run would run, and what came of a run or a study."""

from __future__ import annotations

import shlex
import sys

from qn_tracking.cli.output import print_json, print_rows, unicode_out, warn
from qn_tracking.errors import printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Sequence
    from typing import Any

    from qn_tracking.api.study import Study
    from qn_tracking.records.model import Experiment, Subject
    from qn_tracking.studies.execute import StudySummary


def list_configs(as_json: bool) -> int:
    """Prints the shipped configurations, each with its first line."""
    from qn_tracking.config import shipped

    found = {name: _about(path) for name, path in shipped().items()}
    if as_json:
        print_json([{"name": name, "about": about} for name, about in found.items()])
    else:
        print_rows(found.items(), "")
    return 0


def _about(path: str) -> str:
    with open(path, encoding="utf-8") as lines:
        return next(lines, "").lstrip("# ").rstrip()


def list_plugins(args: Namespace) -> int:
    """Prints the plugins; imports them only for their hooks."""
    from qn_tracking.tracking import installed

    if args.json or args.hooks or args.config:
        return _import_plugins(args)
    from qn_tracking.project import settings

    path, table = settings()
    project = installed.requests(table.get("plugins"), path or "")
    rows = installed.rows({*project, *args.plugins}, args.no_plugin)
    _print_aligned(("name", "version", "distribution", "kind", "state"), rows)
    return 0


def _import_plugins(args: Namespace) -> int:
    """Lists the plugins with their hooks, which are known only once they are imported."""
    from qn_tracking import config as configuration
    from qn_tracking.records.model import Config
    from qn_tracking.tracking.manager import list_plugins
    from qn_tracking.tracking.wanted import choose, project, unasked

    config = configuration.load(args.config[0], args.overrides) if args.config else Config(label="")
    settings = project()
    found = list_plugins(
        choose(config, settings, args.plugins),
        args.no_plugin,
        tuple(unasked(config, settings, args.plugins)),
    )
    if args.json:
        print_json(list(found))
        return 0
    rows = []
    for row in found:
        state = "error" if row.error else "on" if row.on else "off"
        hooks = row.error or ("not imported" if row.unchecked else ", ".join(row.hooks))
        rows.append((row.name, row.version or "-", row.distribution, row.kind, state, hooks))
    _print_aligned(("name", "version", "distribution", "kind", "state", "hooks"), rows)
    return 0


def _print_aligned(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from qn_tracking.cli.output import print_table
    from qn_tracking.render.table import Column

    print_table(
        [Column(title, least=len(title)) for title in titles],
        [list(map(printable, row)) for row in rows],
    )


def dry_run(about: dict[str, Any], as_json: bool) -> int:
    """Prints what would run; returns the exit code."""
    if as_json:
        print_json(about)
        return 0
    from qn_tracking.render.text import duration

    for text in about.pop("warnings"):
        warn(text)
    seeds = ", ".join(map(str, about.pop("seeds", ()))) or "random"
    about["seed"] = seeds if about["seed"] is None else about["seed"]
    about["plugins"] = ", ".join(about["plugins"]) or "none"
    if (seconds := about.pop("expected_seconds", None)) is not None:
        about["time"] = f"about {duration(seconds)}, from past runs"
    _warn_unchecked(about.pop("unchecked", ()))
    lines = list(about.items())
    differs = about.get("differs") or ()
    place = next((at for at, (name, _) in enumerate(lines) if name == "differs"), len(lines))
    lines[place : place + 1] = [("" if n else "differs", text) for n, text in enumerate(differs)]
    print("ok, nothing was run")
    print_rows(lines)
    return 0


def _warn_unchecked(names: Sequence[str]) -> None:
    """Says which code of this folder a dry run has not imported."""
    if names:
        listed = ",".join(names)
        warn(f"unchecked code of this folder: {listed} (--plugins {listed} imports it)")


def study_dry_run(study: Study, jobs: int, as_json: bool, *, drawn: bool) -> int:
    """Prints the arms and the runs of a study, and what they can show; returns the exit code.

    Seeds that were `drawn` at random for it will be others when it runs.
    """
    seconds = study.expected_seconds(jobs)
    about = {**study.about, "expected_seconds": seconds}
    script, arms = study.record.script, len(study.record.every_arm)
    if as_json or (arms == 1 and script is None):
        return dry_run(about, as_json)
    from qn_tracking.render.table import columns_of
    from qn_tracking.render.text import counted, duration, rows
    from qn_tracking.studies.sentences import ASKS, TESTS, comparisons

    for text in about["warnings"]:
        warn(text)
    _warn_unchecked(study.unchecked)
    record, design = study.record, study.design
    seeds = len(record.seeds)
    done = sum(state.status in ("completed", "pruned") for state in study.runs())
    runs = f"{counted(arms, 'arm')} x {counted(seeds, 'seed')} = {record.every_run:,}"
    some = ", ".join(map(str, record.seeds[:12])) + (", …" if seeds > 12 else "")
    some = "drawn at the start (--seed N draws the same ones again)" if drawn else some
    lines: list[tuple[str, object]] = [
        ("question", record.question),
        ("runs", runs + (f", {record.every_run - done:,} to run" if done else "")),
        ("looks", f"every p is multiplied by {study.looks}" if study.looks > 1 else None),
        ("episodes", record.episodes),
        ("time", None if seconds is None else f"about {duration(seconds)}, from past runs"),
        ("command", None if script is None else shlex.join(script)),
        ("seeds", some if unicode_out() else some.replace("…", "...")),
    ]
    if design is not None:
        asks = f"{TESTS[design.decides]} test of {record.metric}: {ASKS[design.decides]}?"
        lines.append(("asked", comparisons(design.comparisons, record.baseline)))
        lines.append(("decides", asks))
    for place, text in enumerate(study.can_show()):
        lines.append(("" if place else "can show", text))
    shown = rows(lines, columns=columns_of())
    sys.stdout.write(f"ok, nothing was run: {printable(record.name or 'a study')}\n{shown}")
    sys.stdout.write("arms\n")
    print_rows([(arm.name, (arm.config.digest or "")[:8]) for arm in record.every_arm])
    return 0


def summary(experiment: Experiment, path: str | None) -> None:
    """Prints what came of a run, and where its record is."""
    from qn_tracking.render.table import columns_of
    from qn_tracking.render.text import duration, rows, sparkline

    results = experiment.results
    speed = experiment.steps_per_second
    wall = experiment.wall_seconds or 0.0
    done = f"{results.episodes} of {experiment.episodes} in {duration(wall)}"
    success = None
    if results.success_rate is not None and results.final_success_rate is not None:
        last = f"last {results.final_window}: {results.final_success_rate:.0%}"
        success = f"{results.success_rate:.0%}  ({last})"
    steps, reward = results.metrics.get("steps"), results.metrics.get("reward")
    curve = None
    if len(results.curve) > 1:
        low, high = (0.0, 1.0) if results.curve_of == "success_rate" else (None, None)
        curve = f"{sparkline(results.curve, low, high, unicode=unicode_out())}  {results.curve_of}"
    lines: list[tuple[str, object]] = [
        ("status", None if experiment.status == "completed" else experiment.status),
        ("episodes", done + (f", {speed:,.0f} steps/s" if speed else "")),
        ("success", success),
        ("steps", None if steps is None else f"{steps.mean:.1f}"),
        ("reward", None if reward is None else f"{reward.mean:.3f}"),
        ("ended", ", ".join(f"{k} {v}" for k, v in sorted(results.terminations.items())) or None),
        ("seed", experiment.seed),
    ]
    taken = {name for name, _ in lines}
    lines[-2:-2] = [
        (f"metrics.{name}" if name in taken else name, f"{spread.mean:.4g}")
        for name, spread in results.metrics.items()
        if name not in ("steps", "reward")
    ]
    sys.stdout.write(
        _title(experiment.config.label, experiment.subject) + rows(lines, columns=columns_of())
    )
    if curve:  # drawn by us, so not escaped
        sys.stdout.write(f"  {curve}\n")
    if path is not None:
        sys.stdout.write(f"saved {printable(path)}\n")
    sys.stdout.flush()


def study_summary(study: Study, found: StudySummary, seconds: float) -> None:
    """Prints what came of a study."""
    from qn_tracking.render.table import columns_of
    from qn_tracking.render.text import duration, rows

    record, final = study.record, found.final
    counts = ", ".join(f"{n} {status}" for status, n in found.counts.items())
    success = None
    if final:
        runs = f"runs from {min(final):.0%} to {max(final):.0%}"
        success = f"mean {sum(final) / len(final):.1%}, {runs}"
    lines: list[tuple[str, object]] = [
        ("study", f"{record.name} ({study.id})" if record.name else study.id),
        ("runs", counts),
        (
            "episodes",
            f"{record.episodes} each, in {duration(seconds)}" if record.episodes else None,
        ),
        ("time", None if record.episodes else duration(seconds)),
        ("final success", success if len(record.arms) == 1 else None),
        ("seed", record.seed),
        ("slow plugins", ", ".join(f"{name} {share:.0%}" for name, share in found.slow) or None),
    ]
    arm = record.arms[0]
    one = len(record.arms) == 1
    title = _title(arm.config.label, arm.subject) if one else f"{len(record.arms)} arms\n"
    sys.stdout.write(title + rows(lines, columns=columns_of()))
    sys.stdout.flush()


def _title(label: str, subject: Subject) -> str:
    about = " · ".join(filter(None, (subject.environment, subject.brain, subject.family)))
    return f"{printable(label)}  {printable(about)}\n"
