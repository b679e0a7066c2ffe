"""Where two runs begin to differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from attrs import frozen

from qn_tracking.records import codec
from qn_tracking.records.model import Episode


@frozen(kw_only=True)
class Divergence:
    """The first episode, and the first field of it, in which two runs differ.

    `field` is dotted, such as `metrics.loss`; where one run has ended before the other, it is
    `episode`. `present` is whether each of the two has a value; a missing one is None.
    """

    episode: int
    field: str
    first: Any
    second: Any
    present: tuple[bool, bool] = (True, True)


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


def _fields(episode: Episode) -> dict[str, Any]:
    return {
        **{name: getattr(episode, name) for name in _FIELDS},
        **{f"counts.{name}": episode.counts[name] for name in sorted(episode.counts)},
        **{f"metrics.{name}": episode.metrics[name] for name in sorted(episode.metrics)},
    }
