"""Pure functions over episodes. Memory does not grow with their number, but for one byte each.

Nor with the number of different names and terminations: those beyond a bound are counted together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from itertools import chain
from math import ceil, fsum, isfinite, nan, sqrt
from sys import float_info
from typing import TYPE_CHECKING, Any

import orjson

from qn_tracking.inference.proportion import final_counts
from qn_tracking.records.limits import MAX_NAME, MAX_NAMES, MAX_TEXT
from qn_tracking.records.model import (
    MAX_INT,
    Digests,
    Episode,
    Experiment,
    FrozenDict,
    Measure,
    Phase,
    Results,
    RunInfo,
    Spread,
)

if TYPE_CHECKING:
    from qn_tracking.records.batch import Batch

CHUNK = 256
CURVE_POINTS = 40
COMPUTED = frozenset(("success_rate", "final_success_rate", "steps", "reward"))
"""Metrics that are computed here: a host's own of such a name is `metrics.steps`, for instance."""
GROUPS = ("counts", "metrics")
OTHERS = "(others)"
"""What terminations are counted as beyond the number of those that are counted each."""
_HALF = float_info.max / 2


class Tally:
    """Summary and digests of a stream of episodes, taken in chunks."""

    def __init__(self, warn: Callable[[str], None] = lambda text: None) -> None:
        self._warn = warn
        self._bounded: set[str] = set()
        self._chunk: list[Episode] = []
        self._episodes = 0
        self._steps = 0
        self._outcomes = bytearray()
        self._terminations: dict[str, int] = {}
        self._series: dict[str, Moments] = {}
        self._rewards = _Curve()
        self._exact = sha256()
        self._outcome = sha256()

    @classmethod
    def of(cls, episodes: Iterable[Episode]) -> Tally:
        """Of all these episodes."""
        tally = cls()
        for episode in episodes:
            tally.add(episode)
        return tally

    def add(self, episode: Episode) -> None:
        """One more episode, the next in order."""
        self._chunk.append(episode)
        if len(self._chunk) >= CHUNK:
            self._flush()

    def extend(self, batch: Batch) -> None:
        """The next episodes in order. The chunks are the same as those of single ones, and so is
        the last digit of every mean.
        """
        begin, size = 0, len(batch)
        if self._chunk:
            begin = min(CHUNK - len(self._chunk), size)
            for episode in batch[:begin]:
                self.add(episode)
        while size - begin >= CHUNK:
            self._take(batch, begin, begin + CHUNK)
            begin += CHUNK
        for episode in batch[begin:]:
            self.add(episode)

    def _take(self, batch: Batch, begin: int, end: int) -> None:
        """A whole chunk of a batch, which has no NaN and no infinity."""

        def cut(column: Sequence[Any] | None) -> Sequence[Any]:
            return [one for one in column[begin:end] if one is not None] if column else ()

        successes = batch.success[begin:end] if batch.success else [None] * (end - begin)
        self._summarise(
            exact=b"\n".join([*batch.exact[begin:end], b""]),
            outcome=b"".join(batch.outcomes[begin:end]),
            successes=successes,
            terminations=cut(batch.termination),
            steps=cut(batch.steps),
            rewards=cut(batch.reward),
            groups=[
                [(name, column[begin:end]) for name, column in group.items()]
                for group in (batch.counts, batch.metrics)
            ],
            rows=[(batch.counts, batch.metrics)],
        )

    @property
    def count(self) -> int:
        """How many there are so far."""
        return self._episodes + len(self._chunk)

    def _flush(self) -> None:
        chunk, self._chunk = self._chunk, []
        self._summarise(
            exact=b"\n".join([*[e.exact for e in chunk], b""]),
            outcome=_outcomes(chunk),
            successes=[e.success for e in chunk],
            terminations=[e.termination for e in chunk if e.termination is not None],
            steps=[e.steps for e in chunk if e.steps is not None],
            rewards=[e.reward for e in chunk if e.reward is not None],
            groups=[_columns([e.counts for e in chunk]), _columns([e.metrics for e in chunk])],
            rows=((e.counts, e.metrics) for e in chunk),
        )

    def _summarise(
        self,
        *,
        exact: bytes,
        outcome: bytes,
        successes: Sequence[bool | None],
        terminations: Sequence[str],
        steps: Sequence[int],
        rewards: Sequence[float],
        groups: Sequence[Iterable[tuple[str, Sequence[float]]]],
        rows: Iterable[Sequence[Iterable[str]]],
    ) -> None:
        self._episodes += len(successes)
        self._exact.update(exact)
        self._outcome.update(outcome)
        self._outcomes.extend([2 if flag is None else flag for flag in successes])
        for end in terminations:
            self._end(end)
        self._steps += sum(steps)
        self._add("steps", steps)
        self._add("reward", rewards)
        self._rewards.extend(rewards)
        columns = [
            (_own(name, key), column)
            for name, group in zip(GROUPS, groups, strict=True)
            for key, column in group
        ]
        if len({*self._series, *(own for own, _ in columns)}) > MAX_NAMES:
            self._choose(rows)
        for own, column in columns:
            self._add(own, column)

    def _choose(self, rows: Iterable[Sequence[Iterable[str]]]) -> None:
        """Opens the names that still fit, of an episode at a time.

        The journal sorts names, and is read in other portions: neither may decide which ones fit.
        """
        for row in rows:
            room = MAX_NAMES - len(self._series)
            if room <= 0:
                return
            named = {
                _own(name, key) for name, keys in zip(GROUPS, row, strict=True) for key in keys
            }
            new = sorted(key for key in named - self._series.keys() if len(key) <= MAX_NAME)
            self._series.update((key, Moments()) for key in new[:room])

    def _end(self, text: str) -> None:
        counts = self._terminations
        if text not in counts and (len(counts) >= MAX_NAMES or len(text) > MAX_TEXT):
            self._say_once(f"different terminations; the others are counted as {OTHERS}")
            text = OTHERS
        counts[text] = counts.get(text, 0) + 1

    def _add(self, key: str, values: Sequence[float]) -> None:
        if not values:
            return
        series = self._series.get(key)
        if series is None:
            full = len(self._series) >= MAX_NAMES or len(key) > MAX_NAME
            if full and key not in COMPUTED:
                self._say_once("names of metrics, or too long ones; the others have no summary")
                return
            series = self._series[key] = Moments()
        series.extend(values)

    def _say_once(self, what: str) -> None:
        if what not in self._bounded:
            self._bounded.add(what)
            self._warn(f"more than {MAX_NAMES:,} {what}")

    def digests(self) -> Digests:
        """Of the episodes so far."""
        self._flush()
        return Digests(exact=self._exact.hexdigest(), outcome=self._outcome.hexdigest())

    def phase(self) -> Phase:
        """Both, of a phase beside the main one."""
        return Phase(results=self.results(), digests=self.digests())

    def results(self) -> Results:
        """Of the episodes so far."""
        self._flush()
        known = [flag for flag in self._outcomes if flag != 2]
        final = final_counts(known)
        spreads = {key: series.spread() for key, series in self._series.items()}
        steps, reward = spreads.pop("steps", None), spreads.pop("reward", None)
        curve = _means(known, CURVE_POINTS) if known else self._rewards.points()
        return Results(
            episodes=self._episodes,
            success_rate=sum(known) / len(known) if known else None,
            final_success_rate=final[0] / final[1] if final else None,
            final_window=final[1] if final else None,
            # Each was accepted; a sum that no record can hold exactly is not invented.
            total_steps=self._steps if steps and self._steps <= MAX_INT else None,
            avg_steps=steps.mean if steps else None,
            avg_reward=reward.mean if reward else None,
            terminations=self._terminations,
            metrics=FrozenDict(
                {k: v for k, v in (("steps", steps), ("reward", reward)) if v} | spreads
            ),
            curve=tuple(Measure(point) for point in curve),
            curve_of=("success_rate" if known else "reward") if curve else None,
        )


def sealed(
    run: RunInfo, results: Results, phases: Mapping[str, Phase], seconds: float, **more: Any
) -> Experiment:
    """The record of a run that is over: what was known before it, its summary, and `more`."""
    steps = sum(one.total_steps or 0 for one in (results, *(p.results for p in phases.values())))
    known = ("id", "started", "seed", "episodes", "subject", "tags", "notes", "config", "command")
    return Experiment(
        **{name: getattr(run, name) for name in (*known, "study", "lives")},
        wall_seconds=seconds,
        # A coarse clock may not have moved.
        steps_per_second=steps / seconds if steps and seconds > 0 else None,
        results=results,
        phases=phases,
        **more,
    )


def _own(group: str, key: str) -> str:
    """The name of a count or a metric in the summary."""
    return f"{group}.{key}" if key in COMPUTED else key


def _columns(group: Sequence[Mapping[str, float]]) -> Iterable[tuple[str, Sequence[float]]]:
    """The values by name, in the order of first appearance, whatever the hash seed."""
    if not any(group):
        return ()
    first = group[0]
    if {*map(len, group)} == {len(first)}:  # as in most loops
        with suppress(KeyError):
            return [(key, [values[key] for values in group]) for key in first]
    names = dict.fromkeys(chain.from_iterable(group))
    return ((key, [values[key] for values in group if key in values]) for key in names)


def outcome_of(episode: Episode) -> bytes:
    """What the outcome digest is of, as JSON."""
    return outcome_line(*_outcome(episode))


def outcome_line(*fields: Any) -> bytes:
    """The same of the fields: index, success, termination, steps and counts."""
    return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)


def _outcome(episode: Episode) -> list[Any]:
    return [episode.index, episode.success, episode.termination, episode.steps, episode.counts]


def _outcomes(chunk: Sequence[Episode]) -> bytes:
    """What the outcome digest is of, a line for each."""
    rows = orjson.dumps([_outcome(one) for one in chunk], option=orjson.OPT_SORT_KEYS)
    if rows.count(b"],[") == len(chunk) - 1:  # none in a text
        return b"%b\n" % rows[1:-1].replace(b"],[", b"]\n[")
    return b"".join([outcome_of(episode) + b"\n" for episode in chunk])


class Moments:
    """Count, mean, variance and extremes, merged chunk by chunk (Chan, Golub, LeVeque 1979).

    One NaN or infinity makes the mean what it makes of a sum, and the variance absent; the
    extremes pass over NaN.
    """

    def __init__(self) -> None:
        self.n = 0
        self.mean = 0.0
        self.squares = 0.0
        self.least = self.most = nan

    def extend(self, values: Sequence[float]) -> None:
        n = len(values)
        middle = mean(values)
        squares = _squares(values, middle)
        if self.n:
            total = self.n + n
            delta = middle - self.mean
            # Weighted so that two large numbers of one sign do not overflow.
            merged = self.mean * (self.n / total) + middle * (n / total)
            self.squares += squares + delta * delta * (self.n * n / total)
            self.mean = merged
        else:
            self.mean, self.squares = middle, squares
        self.n += n
        if middle != middle:
            values = [value for value in values if value == value]
        if values:
            least, most = min(values), max(values)
            self.least = least if self.least != self.least else min(self.least, least)
            self.most = most if self.most != self.most else max(self.most, most)

    def spread(self) -> Spread:
        sd = sqrt(self.squares / (self.n - 1)) if self.n > 1 and isfinite(self.squares) else None
        return Spread(
            n=self.n,
            mean=Measure(self.mean),
            sd=None if sd is None else Measure(sd),
            min=Measure(float(self.least)),
            max=Measure(float(self.most)),
        )


def mean(values: Sequence[float]) -> float:
    """The mean; of finite numbers a finite one, also where their sum overflows."""
    n = len(values)
    try:
        return fsum(values) / n
    except OverflowError:
        half = fsum([value / n / 2 for value in values])
        return max(-_HALF, min(_HALF, half)) * 2
    except ValueError:  # infinities of both signs
        return nan


def _squares(values: Sequence[float], middle: float) -> float:
    try:
        return fsum([(value - middle) * (value - middle) for value in values])
    except (OverflowError, ValueError):
        return nan


class _Curve:
    """Means over equal stretches of a stream of unknown length: full, it joins neighbours."""

    def __init__(self) -> None:
        self.width = 1
        self.bins: list[float] = []
        self.open: list[float] = []

    def extend(self, values: Sequence[float]) -> None:
        begin = 0
        while begin < len(values):
            end = begin + self.width - len(self.open)
            self.open += values[begin:end]
            begin = end
            if len(self.open) == self.width:
                self.bins.append(mean(self.open))
                self.open = []
                if len(self.bins) == 2 * CURVE_POINTS:
                    pairs = zip(self.bins[::2], self.bins[1::2], strict=True)
                    self.bins = [a / 2 + b / 2 for a, b in pairs]
                    self.width *= 2

    def points(self) -> list[float]:
        bins = self.bins + ([mean(self.open)] if self.open else [])
        return _means(bins, CURVE_POINTS)


def _means(values: list[float] | list[int], points: int) -> list[float]:
    """At most `points` means over equal stretches of the values."""
    n = len(values)
    if n <= points:
        return [float(value) for value in values]
    width = ceil(n / points)
    return [mean([float(v) for v in values[i : i + width]]) for i in range(0, n, width)]
