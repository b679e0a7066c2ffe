"""The built-in validator: whether a submission agrees with its own episodes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from statistics import median
from typing import Any

from qn_tracking import config as configuration, ids
from qn_tracking.benchmark import aggregate, files, tuning
from qn_tracking.benchmark.crossing import BITS, bits, rough_digest
from qn_tracking.benchmark.division import undeclared
from qn_tracking.benchmark.metrics import METRICS, PRIMARY
from qn_tracking.benchmark.protocol import Protocol
from qn_tracking.errors import QnError, printable
from qn_tracking.ids import HASH, ID
from qn_tracking.inference.sample import mean_sd
from qn_tracking.records.codec import structure
from qn_tracking.records.submission import (
    Finding,
    Run,
    Submission,
    a_warning as _warning,
    an_error as _error,
)
from qn_tracking.tracking.hookspecs import hookimpl

_TIME = re.compile(
    r"20\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])T[0-2]\d:[0-5]\d:[0-5]\d(?:\.\d+)?Z"
)
_REMOTE = re.compile(
    r"(?:https?|ssh|git)://[^\s@:]+(?::\d+)?/[^\s@?]*|[\w.-]+@[\w.-]+:[^\s]+|ssh://[^\s?]+"
)


class BenchmarkValidation:
    """Applies every rule, so that a contributor sees all mistakes at once."""

    @hookimpl
    def check_benchmark(
        self, benchmark: Submission, rules: Mapping[str, Any]
    ) -> tuple[Finding, ...]:
        protocol = structure(rules, Protocol, file="protocol")
        return tuple(_findings(benchmark, protocol))


def _findings(submission: Submission, protocol: Protocol) -> Iterator[Finding]:
    yield from _form(submission)
    yield from _clock(submission)
    yield from files.check_contribution(submission.contribution, protocol)
    yield from _size(submission, protocol)
    yield from _configuration(submission)
    yield from _seeds(submission, protocol)
    yield from _duplicates(submission)
    broken = list(_columns(submission))
    yield from broken
    yield from _success(submission)
    yield from _source(submission)
    yield from _digests(submission)
    # Of columns that are broken no figure can be recomputed.
    if not broken and submission.runs:
        yield from _aggregates(submission, protocol)
        yield from _unusual(submission, protocol)


def _form(submission: Submission) -> Iterator[Finding]:
    """Texts that are shown, linked or looked up must be what they are called."""
    source, study = submission.source, submission.study
    forms: list[tuple[str, object, re.Pattern[str]]] = [
        ("id", submission.id, ID),
        ("created", submission.created, _TIME),
        ("source.commit", source.commit, HASH),
        ("source.remote", source.remote, _REMOTE),
        ("packages", submission.packages, HASH),
        ("study.id", study.id if study else None, ID),
    ]
    for i, code in enumerate(submission.code):
        forms += [(f"code[{i}].{key}", code.get(key), HASH) for key in ("digest", "commit")]
    seen: set[str] = set()
    for i, run in enumerate(submission.runs):
        forms.append((f"runs[{i}].id", run.id, ID))
        forms.append((f"runs[{i}].started", run.started, _TIME))
        if run.id in seen:
            yield _error("form", "is that of another run", f"runs[{i}].id")
        seen.add(run.id)
        if run.jobs is not None and run.jobs < 1:
            yield _error("form", "is below 1", f"runs[{i}].jobs")
    for field, value, pattern in forms:
        if value is None:
            continue
        if not (isinstance(value, str) and pattern.fullmatch(value)):
            yield _error("form", "is not of its form", field)
        elif pattern is _TIME and not _is_time(value):
            yield _error("form", "is no time of the calendar", field)
    for field, name in (
        ("config.label", submission.config.label),
        ("source.config_file", source.config_file),
    ):
        if name is not None and (name.startswith("-") or printable(name) != name):
            yield _error("form", "is not the name of a file", field)
    if source.dirty not in (None, True, False, "unknown"):
        yield _error("form", "is neither true nor false", "source.dirty")


def _is_time(text: str) -> bool:
    try:
        ids.microseconds(text)
    except ValueError:
        return False
    return True


def _clock(submission: Submission) -> Iterator[Finding]:
    """A submission of the future could not be disputed today: what is before it is not of it."""
    with suppress(ValueError):
        if ids.is_ahead(submission.created):
            yield _error("clock", "is in the future", "created")


def _size(submission: Submission, protocol: Protocol) -> Iterator[Finding]:
    n = len(submission.runs)
    if n < protocol.minimum_runs:
        yield _error("runs", f"{n}, at least {protocol.minimum_runs} are needed", "runs")
    if submission.episodes < protocol.minimum_episodes:
        yield _error(
            "episodes",
            f"{submission.episodes}, at least {protocol.minimum_episodes} are needed",
            "episodes",
        )
    for i, run in enumerate(submission.runs):
        found = len(run.episodes.success)
        if found != submission.episodes:
            yield _error(
                "episodes", f"{found}, declared are {submission.episodes}", f"runs[{i}].episodes"
            )
    declared = submission.study
    if declared is None:
        yield _warning("declared", "no study: the number of runs was not declared before", "study")
        return
    if declared.finished != n or min(declared.failed, declared.aborted) < 0:
        yield _error("declared", f"{declared.finished} finished, {n} are here", "study.finished")
    if declared.finished + declared.failed + declared.aborted != declared.runs:
        yield _error("declared", "finished, failed and aborted do not add up", "study.runs")
    elif declared.finished < declared.runs:
        yield _warning(
            "declared",
            f"{declared.runs} runs were declared: {declared.finished} finished, "
            f"{declared.failed} failed, {declared.aborted} aborted",
            "study",
        )


def _configuration(submission: Submission) -> Iterator[Finding]:
    config = submission.config
    try:
        again = configuration.from_text(submission.text, config.label, config.overrides)
    except QnError as error:
        yield _error("configuration", f"cannot be read: {error.cause}", "text")
        return
    if again.digest != config.digest:
        yield _error("configuration", "is not what its text and overrides make", "config.digest")
    if again.data != config.data:
        yield _error("configuration", "is not what its text and overrides make", "config.data")


def _seeds(submission: Submission, protocol: Protocol) -> Iterator[Finding]:
    seen: dict[int, int] = {}
    for i, run in enumerate(submission.runs):
        if run.seed in seen:
            yield _error("seeds", f"the seed of run {seen[run.seed]} again", f"runs[{i}].seed")
        seen.setdefault(run.seed, i)
    if submission.study is not None:
        for i in undeclared(submission, protocol)[:1]:
            yield _error("seeds", "is not one that the study declared", f"runs[{i}].seed")
    chosen = submission.contribution.tuning
    for message, where in tuning.problems(chosen, [run.seed for run in submission.runs]):
        yield _error("tuning", message, f"contribution.tuning{where}")


def _duplicates(submission: Submission) -> Iterator[Finding]:
    """A run that is there twice, also where the last digits of its numbers were changed."""
    seen: dict[str, int] = {}
    for i, run in enumerate(submission.runs):
        keys = {run.digests.exact}
        if len(aggregate.lengths(run.episodes)) == 1 and bits(run.episodes) >= BITS:
            keys.add(rough_digest(run.episodes))
        again = [seen[key] for key in keys if key in seen]
        if again:
            yield _error("duplicate", f"run {min(again)} again", f"runs[{i}]")
        for key in keys:
            seen.setdefault(key, i)


def _columns(submission: Submission) -> Iterator[Finding]:
    for i, run in enumerate(submission.runs):
        where = f"runs[{i}].episodes"
        if len(aggregate.lengths(run.episodes)) != 1:
            yield _error("columns", "are not of one length", where)
            continue
        if not run.episodes.success:
            yield _error("episodes", "none", where)
        for name, column in _numbers(run):
            for at, value in enumerate(column):
                if value is not None and not math.isfinite(value):
                    yield _error("finite", "is not a finite number", f"{where}.{name}[{at}]")
                    break
        numbers = dict(_numbers(run))
        for metric in METRICS.values():
            for read in metric.columns:
                name = read if read in numbers else f"metrics.{read}"
                if not _within(numbers.get(name, ()), metric.range):
                    low, high = metric.range or (0, 0)
                    yield _error("range", f"is not in {low:g} to {high:g}", f"{where}.{name}")
        if any(value is not None and value < 0 for value in run.episodes.steps):
            yield _error("range", "is below 0", f"{where}.steps")
        for name in ("wall_seconds", "cpu_seconds", "steps_per_second", "peak_memory_bytes"):
            value = getattr(run, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                yield _error("range", "is below 0 or not finite", f"runs[{i}].{name}")
        for name, number in run.cost.items():
            if number < 0:
                yield _error("range", "is below 0", f"runs[{i}].cost.{name}")


def _success(submission: Submission) -> Iterator[Finding]:
    """All episodes say whether they succeeded, or none does: otherwise failures could be hidden,
    since rates are over the episodes that do.
    """
    unknown = [
        (i, at)
        for i, run in enumerate(submission.runs)
        for at, flag in enumerate(run.episodes.success)
        if flag is None
    ]
    total = sum(len(run.episodes.success) for run in submission.runs)
    if 0 < len(unknown) < total:
        i, at = unknown[0]
        where = f"runs[{i}].episodes.success[{at}]"
        yield _error("success", f"no value, in {len(unknown)} of {total} episodes", where)


def _within(column: Sequence[float | None], range: tuple[float, float] | None) -> bool:
    return range is None or all(value is None or range[0] <= value <= range[1] for value in column)


def _numbers(run: Run) -> Iterator[tuple[str, Sequence[float | None]]]:
    episodes = run.episodes
    yield "reward", episodes.reward
    for group in ("counts", "metrics"):
        for name, column in getattr(episodes, group).items():
            yield f"{group}.{name}", column


def _source(submission: Submission) -> Iterator[Finding]:
    source = submission.source
    if source.commit is None:
        yield _warning("source", "no commit is known", "source.commit")
    if source.dirty:
        yield _warning("source", "not all that ran was committed", "source.dirty")
    if source.config_tracked is False:
        yield _warning("source", "the configuration is not in git", "source.config_tracked")
    for i, code in enumerate(submission.code):
        if code.get("digest") is None and code.get("name") in submission.subject.packages:
            # Its own code has a digest: that it is not said contradicts the submission.
            yield _error("code", "is missing", f"code[{i}].digest")
        if code.get("dirty"):
            yield _warning(
                "source", f"{code.get('name')} was not all committed", f"code[{i}].dirty"
            )


def _digests(submission: Submission) -> Iterator[Finding]:
    for i, run in enumerate(submission.runs):
        if len(aggregate.lengths(run.episodes)) != 1:
            continue
        found = aggregate.digests(run.episodes)
        for name in ("exact", "outcome"):
            if getattr(found, name) != getattr(run.digests, name):
                yield _error("digest", "is not that of its episodes", f"runs[{i}].digests.{name}")


def _aggregates(submission: Submission, protocol: Protocol) -> Iterator[Finding]:
    """Every claim must be what the episodes give; a metric that is not claimed is no error."""
    claims = submission.aggregates
    computed = aggregate.aggregate(submission.runs, protocol)
    for name in ("runs", "episodes", PRIMARY):
        if claims.get(name) is None:
            yield _error("aggregate", "is missing", f"aggregates.{name}")
    for name, claim in claims.items():
        where = f"aggregates.{name}"
        if name not in computed:
            yield _warning("aggregate", "is not known here, and was not checked", where)
            continue
        for field, claimed, found in _differences(where, claim, computed[name]):
            yield _error("aggregate", f"is {claimed}, its episodes give {found}", field)


def _differences(field: str, claimed: Any, found: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(claimed, Mapping) and isinstance(found, Mapping):
        for name in dict.fromkeys([*claimed, *found]):
            yield from _differences(f"{field}.{name}", claimed.get(name), found.get(name))
    elif type(claimed) in (int, float) and type(found) in (int, float):
        if not math.isclose(claimed, found, rel_tol=1e-9, abs_tol=1e-12):
            yield field, claimed, found
    elif claimed != found or isinstance(claimed, bool) is not isinstance(found, bool):
        yield field, claimed, found


def _unusual(submission: Submission, protocol: Protocol) -> Iterator[Finding]:
    rules = aggregate.rules_of(protocol)
    final = [rate.value for rate in aggregate.final_rates(submission.runs, rules)]
    deviation = mean_sd(final)[1]
    if sum(final) / len(final) < protocol.low_success:
        yield _warning("low-success", f"below {protocol.low_success:.0%}", f"aggregates.{PRIMARY}")
    if deviation > protocol.unusual_spread:
        yield _warning("spread", f"runs differ by {deviation:.2f} (sd)", f"aggregates.{PRIMARY}")
    middle = median(final)
    # The median absolute deviation, scaled to a normal's sd; at least one episode of K.
    scale = max(1.4826 * median(abs(value - middle) for value in final), 0.05)
    for i, value in enumerate(final):
        if abs(value - middle) > protocol.outlier_deviations * scale:
            yield _warning("outlier", f"{value:.0%}, the median is {middle:.0%}", f"runs[{i}]")
