"""Where the runs of an arm level off, and which of them do not; pure functions.

The level is the mean over the runs that have reached it. A run that still climbs, falls, or cannot
be decided is counted and named, and never in that mean.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from statistics import median
from typing import Any

from attrs import frozen

from qn_tracking.inference.bands import Estimate, estimate
from qn_tracking.inference.convergence import Convergence, State, convergence
from qn_tracking.inference.rules import RULES
from qn_tracking.inference.run import time_to_threshold
from qn_tracking.inference.sample import LARGEST
from qn_tracking.studies.comparison import RATES, lower_is_better

STATES: tuple[State, ...] = (
    "reached", "still climbing", "falling", "never reached", "inconclusive", "not assessed"
)  # fmt: skip


@frozen(kw_only=True)
class Levels:
    """What the curves of an arm say: `counts` has how many runs are in which state.

    `level` is the mean level of the runs that reached one, `onset` the median episode at which
    they did. `below` is that of those that are level below the threshold. `extend_to` is how many
    episodes the climbing runs need, at most. `to_threshold` is the median number of episodes until
    the threshold was reached and kept, None if less than half of the `timed` runs did.
    """

    of: str
    counts: Mapping[State, int]
    level: Estimate | None
    onset: float | None
    below: float | None
    extend_to: int | None
    to_threshold: float | None
    timed: int

    @property
    def runs(self) -> int:
        """How many runs were looked at."""
        return sum(self.counts.values())


def run_level(
    columns: Mapping[str, Sequence[Any]], metric: str = "success"
) -> tuple[str, Convergence] | None:
    """The metric of a run that was looked at, and its convergence; None without its values.

    A rate, and what the episodes do not have, is looked at by success, else by the reward.
    """
    name = metric if metric not in RATES and metric in columns else "success"
    values = _numbers(columns.get(name) or ())
    if not values and name == "success":
        name, values = "reward", _numbers(columns.get("reward") or ())
    if not values:
        return None
    if name == "success":
        return name, convergence(values, target=RULES.threshold)
    if lower_is_better(name):
        return name, convergence([-value for value in values], bounds=None)
    return name, convergence(values, bounds=None)


def _numbers(values: Sequence[Any]) -> list[float]:
    known = [float(value) for value in values if value is not None]
    return known if all(abs(value) <= LARGEST for value in known) else []


def levels(runs: Sequence[Mapping[str, Sequence[Any]]], metric: str) -> Levels | None:
    """Of the episodes of each run of an arm; None if there is nothing to look at."""
    looked = [pair for columns in runs if (pair := run_level(columns, metric)) is not None]
    if not looked:
        return None
    name = looked[0][0]
    sign = -1.0 if name != "success" and lower_is_better(name) else 1.0
    found: list[Convergence] = [one for of, one in looked if of == name]
    states = [one.state for one in found]
    reached = [one for one in found if one.state == "reached"]
    below = [one.level for one in found if one.state == "never reached" and one.level is not None]
    flags = [[v for v in c.get("success") or () if v is not None] for c in runs]
    times = [time for some in flags if some and (time := time_to_threshold(some)) is not None]
    middle = None
    if times:
        middle = median(time.episodes if time.reached else float("inf") for time in times)
    return Levels(
        of=name,
        counts={state: states.count(state) for state in STATES if state in states},
        level=estimate([sign * (one.level or 0.0) for one in reached]) if reached else None,
        onset=median(one.onset or 0 for one in reached) if reached else None,
        below=sum(below) / len(below) if below else None,
        extend_to=max((one.extend_to for one in found if one.extend_to), default=None),
        to_threshold=None if middle is None or not isfinite(middle) else middle,
        timed=len(times),
    )


def said(arms_of: Mapping[str, Levels]) -> Iterator[str]:
    """What arms have not reached, in sentences; one for each state that a run is in."""
    for state in STATES[1:5]:
        arms = []
        for name, one in arms_of.items():
            number = one.counts.get(state, 0)
            if not number:
                continue
            more = ""
            if state == "still climbing" and one.extend_to:
                more = f": extend to about {one.extend_to:,} episodes"
            elif state == "never reached" and one.below is not None:
                more = f", at {one.below:.0%}"
            arms.append(f"{name} ({number} of {one.runs} runs{more})")
        if arms:
            title = {
                "never reached": f"level below {RULES.threshold:.0%}",
                "inconclusive": "not shown to be level, nor to climb",
            }.get(state, state)
            yield f"{title}: {'; '.join(arms)}"


def sentence(one: Convergence, of: str) -> str:
    """What the curve of one run says."""
    sign = -1.0 if of != "success" and lower_is_better(of) else 1.0
    level = ""
    if one.level is not None:
        level = f"{one.level:.0%}" if of == "success" else f"{sign * one.level:.4g}"
    since = f" since about episode {one.onset:,}" if one.onset else ""
    return {
        "reached": f"level at {level}{since}",
        "never reached": f"level at {level}{since}: {RULES.threshold:.0%} was never reached",
        "still climbing": f"still climbing: extend to about {one.extend_to or 0:,} episodes",
        "falling": "falling at the end",
        "inconclusive": "not shown to be level, nor to climb",
        "not assessed": f"not assessed: fewer than {RULES.plateau_episodes} episodes",
    }[one.state]
