"""Two submissions side by side: whether one is better, in numbers and in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import frozen

from qn_tracking.benchmark.aggregate import rules_of
from qn_tracking.benchmark.metrics import METRICS, PRIMARY
from qn_tracking.benchmark.ranking import oriented
from qn_tracking.errors import UsageError, printable
from qn_tracking.inference.pair import (
    Comparison,
    Verdict,
    compare,
    detectable_effect,
    runs_needed,
    verdict,
)
from qn_tracking.inference.permutation import smallest_p
from qn_tracking.inference.sample import mean_sd

if TYPE_CHECKING:
    from qn_tracking.benchmark.entries import Entry
    from qn_tracking.benchmark.protocol import Protocol
    from qn_tracking.inference.rules import Rules


@frozen(kw_only=True)
class EntryComparison:
    """What can be concluded of two entries by a version of the protocol; `sentence` is in words.

    `runs_needed` a side would show the effect, if it is what it looks like; None if there is a
    conclusion, or no effect. `detectable_effect` is the smallest effect, in standard deviations,
    that so many runs show with the usual power; under guarded inference `detectable_difference`
    is, in units of the metric. `picked` is of how many entries each is the first. `notes` say what
    differs beside the brains.
    """

    metric: str
    protocol: int
    first: Entry
    second: Entry
    comparison: Comparison
    verdict: Verdict
    runs_needed: int | None
    detectable_effect: float | None
    sentence: str
    detectable_difference: float | None = None
    picked: tuple[int, int] = (1, 1)
    notes: tuple[str, ...] = ()

    def plain(self) -> dict[str, Any]:
        """The comparison as JSON data, with records inside."""
        names = ["comparison", "verdict", "runs_needed", "detectable_effect", "sentence", "notes"]
        if self.comparison.guarded or self.comparison.usual:
            names += ["detectable_difference", "picked"]
        return {
            "metric": self.metric,
            "first": self.first.plain(),
            "second": self.second.plain(),
            **{name: getattr(self, name) for name in names},
        }


def comparable(first: Entry, second: Entry, metric: str) -> tuple[str, ...]:
    """What differs between two entries of one task beside the brains, a sentence each.

    Raises UsageError for entries of two protocols or two tasks, and for two training rewards where
    the metric is reward.
    """
    if first.category["environment"] != second.category["environment"]:
        return ()  # refused by the comparison itself
    if first.protocol != second.protocol:
        raise UsageError(
            f"{first.id} is of protocol version {first.protocol}, {second.id} of {second.protocol}",
            hint="each version has its own tasks and rules",
        )
    if first.division is None or second.division is None:
        return ()
    if first.task != second.task:
        one = first if first.division == "open" else second
        raise UsageError(
            f"{first.id} and {second.id} have two tasks", hint=f"{one.id}: {'; '.join(one.differs)}"
        )
    if metric == "reward" and first.reward != second.reward:
        raise UsageError("two training rewards cannot be compared by reward")
    return tuple(
        f"{side.id} is in the open division: {'; '.join(side.differs)}"
        for side in (first, second)
        if side.differs
    )


def compare_entries(
    first: Entry,
    second: Entry,
    protocol: Protocol,
    metric: str = PRIMARY,
    *,
    families: bool = False,
    picked: tuple[int, int] = (1, 1),
) -> EntryComparison:
    """Compares two entries of one environment.

    With `families` they stand for quantum and classical, each `picked` as the first of so many
    entries, which guarded inference corrects for. Raises UsageError for entries of two
    environments, the same entry twice, and one that lacks the metric.
    """
    if first.id == second.id:
        raise UsageError(f"{first.id} is both of them")
    if first.category["environment"] != second.category["environment"]:
        raise UsageError(
            f"{first.category['environment']} and {second.category['environment']} are two tasks",
            hint="compare submissions of one environment",
        )
    for side in (first, second):
        if metric not in side.values:
            raise UsageError(f"{side.id} has no {METRICS[metric].title}")
    rules = rules_of(protocol)
    if rules.inference == "guarded":
        return _guarded(first, second, protocol.version, metric, families, picked, rules)
    pair = compare(oriented(first, metric), oriented(second, metric), rules=rules)
    result = verdict(pair, rules=rules)
    needed = None if result.better else runs_needed(pair.hedges_g, rules=rules)
    more = max(0, (needed or 0) - min(pair.n, pair.m))
    likely = (
        ""
        if not more
        else (
            f" If the effect is as large as it looks, about {more} more runs a side would show it."
        )
    )
    sentence = _sentence(first, second, result, "is better than", families, likely)
    if result.better and pair.welch is not None and pair.welch.low <= 0 <= pair.welch.high:
        sentence += " But Welch's interval contains 0: treat this with care, or add runs."
    return EntryComparison(
        metric=metric,
        protocol=protocol.version,
        first=first,
        second=second,
        comparison=pair,
        verdict=result,
        runs_needed=needed,
        detectable_effect=_detectable(pair, rules),
        sentence=sentence,
    )


def _guarded(
    first: Entry,
    second: Entry,
    version: int,
    metric: str,
    families: bool,
    picked: tuple[int, int],
    rules: Rules,
) -> EntryComparison:
    from qn_tracking.inference.guarded import compare_guarded, picked_verdict, reach

    bounds = METRICS[metric].oriented_range
    x, y = oriented(first, metric), oriented(second, metric)
    tries = picked[0] if mean_sd(x)[0] > mean_sd(y)[0] else picked[1]
    pair = compare_guarded(x, y, bounds=bounds, family=tries, rules=rules)
    result = picked_verdict(pair, picked, bounds=bounds, rules=rules)
    shows = reach(x, y, bounds=bounds, tries=tries, rules=rules)
    needed = None if result.better else shows.needed
    likely = (
        ""
        if (needed or 0) <= min(pair.n, pair.m)
        else (
            f" If the difference is what it looks like, about {needed} runs a side would show it."
        )
    )
    says = "usually beats" if pair.usual else "is better on average than"
    sentence = _sentence(first, second, result, says, families, likely)
    if result.better and tries > 1:
        sentence += f" It was picked as the first of {tries} entries; p is corrected for that."
    return EntryComparison(
        metric=metric,
        protocol=version,
        first=first,
        second=second,
        comparison=pair,
        verdict=result,
        runs_needed=needed,
        detectable_effect=None,
        detectable_difference=shows.detectable,
        picked=picked,
        sentence=sentence,
    )


def _detectable(pair: Comparison, rules: Rules) -> float | None:
    fewer = min(pair.n, pair.m)
    if fewer < rules.min_runs or smallest_p(fewer, fewer) >= rules.alpha:
        return None
    return detectable_effect(fewer, rules=rules)


def _sentence(
    first: Entry, second: Entry, result: Verdict, says: str, families: bool, likely: str
) -> str:
    """The conclusion, or that there is none and what would `likely` show one."""
    if not result.better:
        return f"No conclusion at this sample size: {'; '.join(result.reasons)}.{likely}"
    winner, loser = (first, second) if result.winner == "first" else (second, first)
    sides = (f"{printable(one.brain)} ({one.id})" for one in (winner, loser))
    text = f" {says} ".join(sides)
    if families:
        family, environment = winner.category["family"], winner.category["environment"]
        text += f": a {family} advantage in {environment}"
    return f"{text}."
