"""Where two runs begin to differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import copysign, isclose
from typing import Any

from attrs import evolve, frozen

from qn_tracking.records import codec
from qn_tracking.records.model import Episode, Logged


@frozen(kw_only=True)
class Divergence:
    """The first episode, and the first field of it, in which two runs differ.

    `field` is dotted, such as `metrics.loss`; where one run has ended before the other, it is
    `episode`. `present` is whether each of the two has a value; a missing one is None. `phase` is
    that of the episode, None for the main one.
    """

    episode: int
    field: str
    first: Any
    second: Any
    present: tuple[bool, bool] = (True, True)
    phase: str | None = None


@frozen(kw_only=True)
class SeriesDivergence:
    """The first value of a series in which two runs differ, and its place, counted from 0.

    `field` is `value`, `step` or `episode`, or `point` where one series has ended before the other;
    `step` is that of the first run, or of the one that has the point.
    """

    point: int
    step: int
    field: str
    first: float | None
    second: float | None
    present: tuple[bool, bool] = (True, True)


ROUNDING = 1e-6
"""How far the last bits may grow over an episode: relative to the larger number, or absolute."""
_FIELDS = ("seed", "success", "termination", "steps", "reward")


def first_difference(first: Sequence[Episode], second: Sequence[Episode]) -> Divergence | None:
    """The first difference of two runs, or None if they are equal to the last bit. NaN is NaN."""
    for index, (one, other) in enumerate(zip(first, second, strict=False)):
        sides = _fields(one), _fields(other)
        for name in dict.fromkeys((*sides[0], *sides[1])):
            present = (name in sides[0], name in sides[1])
            a, b = sides[0].get(name), sides[1].get(name)
            # As they are written: 0.0 is not -0.0, 1 is not true.
            if present != (True, True) or codec.canonical(a) != codec.canonical(b):
                return Divergence(episode=index, field=name, first=a, second=b, present=present)
    if len(first) != len(second):
        index = min(len(first), len(second))
        longer = (index < len(first), index < len(second))
        return Divergence(episode=index, field="episode", first=None, second=None, present=longer)
    return None


def first_of_phases(first: Iterable[Episode], second: Iterable[Episode]) -> Divergence | None:
    """The first difference of the episodes of phases, of the first phase that has one."""
    sides = _by_phase(first), _by_phase(second)
    for name in dict.fromkeys((*sides[0], *sides[1])):
        found = first_difference(*(side.get(name, ()) for side in sides))
        if found is not None:
            return evolve(found, phase=name)
    return None


def _by_phase(episodes: Iterable[Episode]) -> dict[str | None, list[Episode]]:
    found: dict[str | None, list[Episode]] = {}
    for episode in episodes:
        found.setdefault(episode.phase, []).append(episode)
    return found


Point = tuple[int, int, float]


def of_series(
    first: Iterable[Logged], second: Iterable[Logged], *, beginning: bool = False
) -> Mapping[str, SeriesDivergence | None]:
    """The first difference of each series of two runs, by name; None for one that is the same.

    With `beginning`, what the second has beyond the end of the first is none.
    """
    sides = _points(first), _points(second)
    return {
        name: _first_point(sides[0].get(name, []), sides[1].get(name, []), beginning)
        for name in dict.fromkeys((*sides[0], *sides[1]))
        if not beginning or name in sides[0]
    }


def _points(calls: Iterable[Logged]) -> dict[str, list[Point]]:
    """Step, episode and value of every point, by name."""
    found: dict[str, list[Point]] = {}
    for call in calls:
        for name, value in call.values.items():
            found.setdefault(name, []).append((call.step, call.episode, value))
    return found


def _first_point(
    first: list[Point], second: list[Point], beginning: bool
) -> SeriesDivergence | None:
    for place, (one, other) in enumerate(zip(first, second, strict=False)):
        for n, field in enumerate(("step", "episode", "value")):
            if not _same(one[n], other[n]):
                return SeriesDivergence(
                    point=place, step=one[0], field=field, first=one[n], second=other[n]
                )
    place = min(len(first), len(second))
    if len(first) == len(second) or (beginning and len(second) > place):
        return None
    there = (first if len(first) > place else second)[place]
    return SeriesDivergence(
        point=place,
        step=there[0],
        field="point",
        first=None,
        second=None,
        present=(len(first) > place, len(second) > place),
    )


def _same(one: float, other: float) -> bool:
    if one == other:  # 0.0 is not -0.0
        return one != 0 or copysign(1, one) == copysign(1, other)
    return one != one and other != other


def close(first: float | None, second: float | None) -> bool:
    """Whether two numbers differ by rounding only, as between two machines. NaN is NaN, None is
    None.
    """
    if first is None or second is None or first == second:
        return first is second or first == second
    return isclose(first, second, rel_tol=ROUNDING, abs_tol=ROUNDING) or (
        first != first and second != second
    )


def _fields(episode: Episode) -> dict[str, Any]:
    return {
        **{name: getattr(episode, name) for name in _FIELDS},
        **({} if episode.phase is None else {"after": episode.after}),
        **{f"counts.{name}": episode.counts[name] for name in sorted(episode.counts)},
        **{f"metrics.{name}": episode.metrics[name] for name in sorted(episode.metrics)},
    }
