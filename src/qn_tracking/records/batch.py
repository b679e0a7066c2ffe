"""Many episodes that ended at once, as columns: what a vector of environments gives.

Imported at the first `Recorder.episodes` of a run. An `Episode` of the batch is made when a sink
asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import orjson

from qn_tracking.records.model import EMPTY, Episode, FrozenDict, Measure, of_phase


class Batch(Sequence[Episode]):
    """Episodes in order, as a sequence and as columns; a column is None if no episode has it.

    `first` is the index of the first one, `at` the seconds since the start, of all of them. `exact`
    are their canonical JSON texts, `outcomes` what the outcome digest is of. `counts`, `metrics`
    and `timing` are columns by name.
    """

    def __init__(
        self,
        size: int,
        *,
        first: int,
        at: float,
        columns: Mapping[str, Sequence[Any] | None],
        counts: Mapping[str, Sequence[int]],
        metrics: Mapping[str, Sequence[float]],
        timing: Mapping[str, Sequence[float]],
        phase: str | None = None,
        after: int | None = None,
    ) -> None:
        self.size, self.first, self.at = size, first, at
        self.success, self.termination = columns.get("success"), columns.get("termination")
        self.steps, self.reward, self.seed = (columns.get(k) for k in ("steps", "reward", "seed"))
        self.counts, self.metrics, self.timing = counts, metrics, timing
        self.phase, self.after = phase, after
        self.exact, self.outcomes = self._texts()
        self._made: tuple[Episode, ...] | None = None

    def _texts(self) -> tuple[list[bytes], list[bytes]]:
        """The same bytes as of single episodes, made from the JSON of whole columns; and those that
        the outcome digest is of.
        """
        n = self.size
        index = _json(range(self.first, self.first + n))
        success, end = _words(self.success, n), _words(self.termination, n)
        reward, seed, steps = (_json(one, n) for one in (self.reward, self.seed, self.steps))
        counts, count_columns = _mapping(self.counts)
        metrics, metric_columns = _mapping(self.metrics)
        phase = b""
        after = b""
        if self.phase is not None:
            after = b'"after":%d,' % (self.after or 0)
            phase = _quoted(self.phase).join((b'"phase":', b","))
        form = (
            b'{%b"counts":%b,"index":%%b,"metrics":%b,%b"reward":%%b,"seed":%%b,"steps":%%b,'
            b'"success":%%b,"termination":%%b}' % (after, counts, metrics, phase)
        )
        columns = (*count_columns, index, *metric_columns, reward, seed, steps, success, end)
        exact = [form % row for row in zip(*columns, strict=True)]
        form = b"[%%b,%%b,%%b,%%b,%b]\n" % counts
        columns = (index, success, end, steps, *count_columns)
        return exact, [form % row for row in zip(*columns, strict=True)]

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Episode]:
        return iter(self._all())

    @overload
    def __getitem__(self, place: int) -> Episode: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Episode, ...]: ...
    def __getitem__(self, place: int | slice) -> Episode | tuple[Episode, ...]:
        if self._made is None and isinstance(place, slice):
            return tuple(self._one(i) for i in range(*place.indices(self.size)))
        return self._all()[place]

    def _all(self) -> tuple[Episode, ...]:
        if self._made is None:
            self._made = tuple(self._one(i) for i in range(self.size))
        return self._made

    def _one(self, i: int) -> Episode:
        reward = None if self.reward is None else self.reward[i]
        episode = Episode(
            index=self.first + i,
            seed=None if self.seed is None else self.seed[i],
            success=None if self.success is None else self.success[i],
            termination=None if self.termination is None else self.termination[i],
            steps=None if self.steps is None else self.steps[i],
            reward=None if reward is None else Measure(reward),
            counts=_row(self.counts, i),
            metrics=_row(self.metrics, i),
            timing=FrozenDict(
                {name: column[i] for name, column in self.timing.items()}, at=self.at
            ),
            exact=self.exact[i],
        )
        if self.phase is None:
            return episode
        return of_phase(episode, self.phase, self.after or 0)


def _json(values: Sequence[Any] | None, size: int = 0) -> Sequence[bytes]:
    """The JSON of each of these numbers."""
    if values is None:
        return (b"null",) * size
    return orjson.dumps([*values])[1:-1].split(b",")


def _words(values: Sequence[Any] | None, size: int) -> Sequence[bytes]:
    """The JSON of each of these values, of which few are different."""
    if values is None:
        return (b"null",) * size
    texts = {value: orjson.dumps(value) for value in {*values}}
    return [texts[value] for value in values]


def _mapping(columns: Mapping[str, Sequence[Any]]) -> tuple[bytes, list[Sequence[bytes]]]:
    """The form of a mapping with these names, and the JSON of the values."""
    names = sorted(columns, key=str.encode)
    form = b",".join([_quoted(name) + b":%b" for name in names])
    return b"{%b}" % form, [_json(columns[name]) for name in names]


def _quoted(text: str) -> bytes:
    return orjson.dumps(text).replace(b"%", b"%%")


def _row(columns: Mapping[str, Sequence[Any]], i: int) -> Mapping[str, Any]:
    if not columns:
        return EMPTY
    return FrozenDict({name: column[i] for name, column in columns.items()})
