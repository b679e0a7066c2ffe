"""Series: what a run logs between its episodes, each name on an axis of its own.

Imported at the first `Recorder.log` of a run. Memory does not grow with the number of calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from math import isfinite
from typing import Any

import orjson

from qn_tracking.records.limits import MAX_EPISODE, MAX_NAME, MAX_NAMES, not_finite
from qn_tracking.records.model import EMPTY, FrozenDict, Logged, Measure, SeriesSummary
from qn_tracking.records.stats import CHUNK, Moments, mean

CURVE_POINTS = 200


def logged(
    step: int,
    episode: int,
    at: float,
    values: Mapping[str, float],
    texts: Mapping[str, str] = EMPTY,
) -> Logged:
    """One call of `log`, with its canonical JSON; NaN and infinities are text there.

    `texts` are what values are exactly that no float can be, by name.

    Raises ValueError for a name that is not valid Unicode, and for more than a line can hold.
    """
    fields: dict[str, Any] = {"episode": episode, "step": step, "values": values}
    try:
        if not all(map(isfinite, values.values())):
            stored = {k: v if isfinite(v) else not_finite(v) for k, v in values.items()}
            fields["values"] = stored
        if texts:
            fields["values"] = {**fields["values"], **texts}
        exact = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
    except TypeError:
        raise ValueError("log: a name is not valid Unicode") from None
    if len(exact) > MAX_EPISODE:
        raise ValueError(f"log: more than {MAX_EPISODE >> 20} MiB at once")
    return Logged(step=step, episode=episode, at=at, values=FrozenDict(values), exact=exact)


class SeriesTally:
    """Summaries and digest of a stream of calls of `log`, taken in chunks."""

    def __init__(self, warn: Callable[[str], None] = lambda text: None) -> None:
        self._chunk: list[Logged] = []
        self._names: dict[str, _Summary] = {}
        self._exact = sha256()
        self._warn = warn
        self._many = False

    def add(self, one: Logged) -> None:
        """One more call, the next in order."""
        self._chunk.append(one)
        if len(self._chunk) >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        chunk, self._chunk = self._chunk, []
        self._exact.update(b"".join([one.exact + b"\n" for one in chunk]))
        # In the order of first appearance, whatever the hash seed.
        names = dict.fromkeys([name for one in chunk for name in one.values])
        if not names.keys() <= self._names.keys():
            self._open(chunk)
        for name in names:
            if name in self._names:
                points = [(one.step, one.values[name]) for one in chunk if name in one.values]
                self._names[name].extend(points)

    def _open(self, chunk: Sequence[Logged]) -> None:
        """Begins the series of new names, of a call at a time."""
        for one in chunk:
            new = [name for name in one.values if name not in self._names]
            fit = [name for name in new if len(name) <= MAX_NAME]
            if len(self._names) + len(fit) > MAX_NAMES:
                # The file sorts the names of a call: which ones fit must not depend on their order.
                fit = sorted(fit)[: MAX_NAMES - len(self._names)]
            self._names.update((name, _Summary()) for name in fit)
            if len(fit) < len(new) and not self._many:
                self._many = True
                text = f"more than {MAX_NAMES:,} names, or one of more than {MAX_NAME:,} characters"
                self._warn(f"log: {text}; further ones have no summary")

    def last_step(self, name: str) -> int | None:
        """The step of the last value of a series; None if it has none, or no summary."""
        for one in reversed(self._chunk):
            if name in one.values:
                return one.step
        known = self._names.get(name)
        return None if known is None else known.last_step

    def digest(self) -> str:
        """SHA-256 over the calls so far: names, values, steps and episodes, and not the clock."""
        self._flush()
        return self._exact.hexdigest()

    def summaries(self) -> Mapping[str, SeriesSummary]:
        """Of the calls so far, by name."""
        self._flush()
        return FrozenDict({name: one.summary() for name, one in self._names.items()})


class _Summary:
    """Figures of one series, and its curve: full, it joins neighbours."""

    def __init__(self) -> None:
        self._moments = Moments()
        self._first = self._last = (0, 0.0)
        self._width = 1
        self._bins: list[tuple[int, float]] = []
        self._open: list[tuple[int, float]] = []

    def extend(self, points: Sequence[tuple[int, float]]) -> None:
        if not self._moments.n:
            self._first = points[0]
        self._last = points[-1]
        self._moments.extend([value for _, value in points])
        begin = 0
        while begin < len(points):
            end = begin + self._width - len(self._open)
            self._open += points[begin:end]
            begin = end
            if len(self._open) == self._width:
                self._bins.append(_joined(self._open))
                self._open = []
                if len(self._bins) == CURVE_POINTS:
                    # A mean of means: all are of equally many values.
                    pairs = zip(self._bins[::2], self._bins[1::2], strict=True)
                    self._bins = [_joined(pair) for pair in pairs]
                    self._width *= 2

    @property
    def last_step(self) -> int:
        """The step of the last value."""
        return self._last[0]

    def summary(self) -> SeriesSummary:
        spread = self._moments.spread()
        bins = [*self._bins, _joined(self._open)] if self._open else self._bins
        return SeriesSummary(
            n=self._moments.n,
            first_step=self._first[0],
            last_step=self._last[0],
            last=Measure(self._last[1]),
            mean=spread.mean,
            sd=spread.sd,
            min=spread.min,
            max=spread.max,
            steps=tuple(step for step, _ in bins),
            curve=tuple(Measure(value) for _, value in bins),
        )


def _joined(points: Sequence[tuple[int, float]]) -> tuple[int, float]:
    """The last step of a stretch, and its mean."""
    return points[-1][0], mean([value for _, value in points])
