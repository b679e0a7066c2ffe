"""Arms of a study against each other: one declared test decides, all else is only shown.

Which test decides depends on the declared design alone, never on the values. Below 20 runs an arm
only "usually beats" can be shown; from 20 on "better on average", if the metric's range is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Literal

from attrs import asdict, evolve, field, frozen

from qn_tracking.inference.bounded import Range
from qn_tracking.inference.guard import guarded_paired, half_run_welch
from qn_tracking.inference.multiplicity import Correction, adjust, family
from qn_tracking.inference.pair import hedges_g, probability_of_improvement, welch
from qn_tracking.inference.permutation import draws_for, smallest_p
from qn_tracking.inference.rules import RULES, Rules, p_text
from qn_tracking.inference.sample import checked, mean_sd
from qn_tracking.inference.superiority import (
    Improvement,
    brunner_munzel,
    improvement,
)

Test = Literal["brunner-munzel", "half-run welch", "guarded paired"]
SAYS: Mapping[Test, str] = {
    "brunner-munzel": "usually beats",
    "half-run welch": "is better on average than",
    "guarded paired": "is better on average than",
}
"""What the first arm does to the second where a test decides for it."""
SAY: Mapping[Test, str] = {
    "brunner-munzel": "usually beat",
    "half-run welch": "are better on average than",
    "guarded paired": "are better on average than",
}
"""The same of several arms."""
ALL_TESTS = 10
"""Of more comparisons than this, one that permutes is made only where it decides: it takes long."""
ENOUGH_RUNS = 20
"""Runs an arm from which on a test of means decides."""


@frozen(kw_only=True)
class Arm:
    """The values of an arm, one a run; `seeds` are theirs, in that order, where they are known."""

    name: str
    values: tuple[float, ...] = field(converter=tuple)
    seeds: tuple[int, ...] | None = None

    def __attrs_post_init__(self) -> None:
        # As floats, once: whole numbers among them would be looked at again for each pair.
        object.__setattr__(self, "values", checked(self.values, self.name))
        if self.seeds is not None and len(self.seeds) != len(self.values):
            raise ValueError(f"{self.name}: expected one seed a value")
        if self.seeds is not None and len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"{self.name}: expected each seed once")


@frozen(kw_only=True)
class Decision:
    """What is decided of two arms, by their places, first − second.

    `p` is that of the test that decides, `adjusted_p` over the family. `pairs` is how many seeds
    the arms share; where the paired test decides, `delta` is of these alone. `winner` is a place,
    or None with every reason in words.
    """

    first: int
    second: int
    n: int
    m: int
    pairs: int
    delta: float
    decides: Test
    p: float | None
    adjusted_p: float | None = None
    winner: int | None = None
    reasons: tuple[str, ...] = ()


@frozen(kw_only=True)
class ArmPair(Decision):
    """A decision, and all else that is said of two arms.

    `low` and `high` are the interval of `delta` by `method` (the guarded tests, or `welch` where
    the metric has no known range), None where it would say nothing. `tests` has the p of each test
    that applies, `welch` among them, as it is. `smallest` is the smallest p that the test can
    attain.
    """

    low: float | None
    high: float | None
    method: str
    hedges_g: float | None
    improvement: Improvement
    tests: Mapping[str, float]
    smallest: float


@frozen(kw_only=True)
class Contest:
    """Every comparison that was asked for. `leader` is the place of the best mean.

    Without a baseline all pairs are one family; those with the leader are what to show first. What
    is decided of each pair is in `decisions`; the rest of `pairs` is worked out once it is asked
    for, since a hundred arms have thousands.
    """

    decides: Test
    correction: Correction
    baseline: int | None
    leader: int
    decisions: tuple[Decision, ...]
    arms: tuple[Arm, ...]
    bounds: Range | None
    lower_is_better: bool
    rules: Rules

    @cached_property
    def pairs(self) -> tuple[ArmPair, ...]:
        """All pairs, in the order of `decisions`."""
        return tuple(map(self.pair, self.decisions))

    def is_shown(self, one: Decision) -> bool:
        """Whether a pair is with the baseline, or with the leader."""
        return self.baseline is not None or self.leader in (one.first, one.second)

    @cached_property
    def shown(self) -> tuple[ArmPair, ...]:
        """All pairs with a baseline, else those of the leader."""
        return tuple(self.pair(one) for one in self.decisions if self.is_shown(one))

    def pair(self, one: Decision) -> ArmPair:
        """All that is said of the two arms of a decision."""
        return compare_arms(
            self.arms[one.first],
            self.arms[one.second],
            test=self.decides,
            bounds=self.bounds,
            lower_is_better=self.lower_is_better,
            family=len(self.decisions),
            decided=one,
            rules=self.rules,
        )


def deciding_test(runs: int, *, shared_seeds: bool, bounded: bool = True) -> Test:
    """Which test decides for so many declared runs an arm; stored before there is a value.

    `bounded`: the range of the metric is known.
    """
    if runs < ENOUGH_RUNS or not bounded:
        return "brunner-munzel"
    return "guarded paired" if shared_seeds else "half-run welch"


def contest(
    arms: Sequence[Arm],
    *,
    baseline: int | None = None,
    bounds: Range | None = (0.0, 1.0),
    lower_is_better: bool = False,
    test: Test | None = None,
    correction: Correction = "holm",
    looks: int = 1,
    rules: Rules = RULES,
) -> Contest:
    """Compares arms, with the baseline or all pairs, and says which are better.

    `bounds` are what the metric can be, None if that is not known. `test` is what the study
    declared; without one it follows from the runs there are. `looks` is how often it is tested,
    with runs added after a look: each p is multiplied by it, since p of one look is exceeded too
    often by several (Armitage, McPherson, Rowe 1969). Raises ValueError for fewer than two arms,
    values out of bounds, or a test of means without bounds.
    """
    places = family(len(arms), baseline)
    if test is None:
        test = deciding_test(
            min(len(arm.values) for arm in arms),
            shared_seeds=all(_same_seeds(arms[i], arms[j]) for i, j in places),
            bounded=bounds is not None,
        )
    if bounds is None and test != "brunner-munzel":
        raise ValueError(f"{test}: needs the range of the metric")
    for arm in arms:
        _check_bounds(arm, bounds)
    found = [
        _decision(arms[i], arms[j], (i, j), test, bounds=bounds, family=len(places), rules=rules)
        for i, j in places
    ]
    adjusted = adjust([1.0 if one.p is None else one.p for one in found], correction)
    means = [mean_sd(arm.values)[0] for arm in arms]
    best = min(means) if lower_is_better else max(means)
    return Contest(
        decides=test,
        correction=correction,
        baseline=baseline,
        leader=means.index(best),
        decisions=tuple(
            _decided(
                one,
                None if one.p is None else min(1.0, p * looks),
                arms,
                lower_is_better=lower_is_better,
                margin=rules.margin * (bounds[1] - bounds[0]) if bounds else 0.0,
                rules=rules,
            )
            for one, p in zip(found, adjusted, strict=True)
        ),
        arms=tuple(arms),
        bounds=bounds,
        lower_is_better=lower_is_better,
        rules=rules,
    )


def _check_bounds(arm: Arm, bounds: Range | None) -> None:
    if bounds and not bounds[0] <= min(arm.values) <= max(arm.values) <= bounds[1]:
        raise ValueError(f"{arm.name}: expected {bounds[0]:g} to {bounds[1]:g}")


def _decision(
    first: Arm,
    second: Arm,
    places: tuple[int, int],
    test: Test,
    *,
    bounds: Range | None,
    family: int,
    rules: Rules,
) -> Decision:
    """The p of the test that decides, before those of the family are known."""
    x, y = first.values, second.values
    pairs = _paired(first, second)
    delta, p = mean_sd(x)[0] - mean_sd(y)[0], None
    if test == "guarded paired" and bounds and len(pairs) >= 2:
        paired = guarded_paired(*zip(*pairs, strict=True), bounds=bounds, rules=rules)
        delta, p = paired.delta, paired.p
    elif min(len(x), len(y)) > 1:
        if test == "half-run welch" and bounds:
            p = half_run_welch(x, y, bounds=bounds, rules=rules).p
        elif test == "brunner-munzel":
            p = brunner_munzel(x, y, family=family, rules=rules).p
    return Decision(
        first=places[0],
        second=places[1],
        n=len(x),
        m=len(y),
        pairs=len(pairs),
        delta=delta,
        decides=test,
        p=p,
    )


def compare_arms(
    first: Arm,
    second: Arm,
    *,
    test: Test,
    bounds: Range | None = (0.0, 1.0),
    lower_is_better: bool = False,
    family: int = 1,
    decided: Decision | None = None,
    rules: Rules = RULES,
) -> ArmPair:
    """All that is said of two arms; `improvement` is of the better end.

    `family` is the number of comparisons: it sets only how many arrangements are drawn where not
    all can be looked at. What was `decided` before is not worked out again; without it the two
    stand alone, and nothing is. Raises ValueError for a value out of bounds.
    """
    for arm in (first, second):
        _check_bounds(arm, bounds)
    if decided is None:
        places = (0, 1)
        decided = _decision(first, second, places, test, bounds=bounds, family=family, rules=rules)
    x, y = first.values, second.values
    n, m = len(x), len(y)
    tests: dict[str, float] = {}
    low, high, method = None, None, "none"
    if min(n, m) > 1:
        if test == "brunner-munzel" and decided.p is not None:
            tests["brunner-munzel"] = decided.p
        elif family <= ALL_TESTS:
            tests["brunner-munzel"] = brunner_munzel(x, y, family=family, rules=rules).p
        if plain := welch(x, y, rules=rules):
            tests["welch"] = plain.p
            low, high, method = plain.low, plain.high, "welch"
        if bounds:
            guarded = half_run_welch(x, y, bounds=bounds, rules=rules)
            tests["half-run welch"] = guarded.p
            low, high, method = guarded.low, guarded.high, "half-run welch"
    pairs = _paired(first, second)
    if bounds and len(pairs) >= 2:
        one, other = zip(*pairs, strict=True)
        paired = guarded_paired(one, other, bounds=bounds, rules=rules)
        tests["guarded paired"] = paired.p
        if test == "guarded paired":
            low, high, method = paired.low, paired.high, test
    up = improvement(y, x, rules=rules) if lower_is_better else improvement(x, y, rules=rules)
    draws = draws_for(n, m, family=family, rules=rules)
    return ArmPair(
        **asdict(decided, recurse=False),
        low=low,
        high=high,
        method=method,
        hedges_g=hedges_g(x, y),
        improvement=up,
        tests=tests,
        smallest=smallest_p(n, m, draws=draws) if test == "brunner-munzel" else 0.0,
    )


def _paired(first: Arm, second: Arm) -> list[tuple[float, float]]:
    """The values of the seeds that both arms ran."""
    if first.seeds is None or second.seeds is None:
        return []
    if first.seeds == second.seeds:
        return list(zip(first.values, second.values, strict=True))
    others = dict(zip(second.seeds, second.values, strict=True))
    both = zip(first.seeds, first.values, strict=True)
    return [(value, others[seed]) for seed, value in both if seed in others]


def _same_seeds(first: Arm, second: Arm) -> bool:
    return first.seeds is not None and set(first.seeds) == set(second.seeds or ())


def _decided(
    pair: Decision,
    p: float | None,
    arms: Sequence[Arm],
    *,
    lower_is_better: bool,
    margin: float,
    rules: Rules,
) -> Decision:
    """The pair with its adjusted p, and who wins, or why no one does."""
    usual = pair.decides == "brunner-munzel"
    reasons = []
    if pair.decides == "guarded paired" and pair.pairs < rules.min_runs:
        reasons.append(f"fewer than {rules.min_runs} seeds that both ran ({pair.pairs})")
    elif min(pair.n, pair.m) < rules.min_runs:
        reasons.append(f"fewer than {rules.min_runs} runs ({pair.n} against {pair.m})")
    if p is None:
        reasons += [] if reasons else [f"no {pair.decides} test of these runs"]
    elif not p < rules.alpha:
        reasons.append(f"not significant (p = {p_text(p)})")
    if not usual and abs(pair.delta) < margin - 1e-12:
        reasons.append(f"difference within the margin ({abs(pair.delta):.3g} < {margin:.3g})")
    if reasons:
        return evolve(pair, adjusted_p=p, reasons=tuple(reasons))
    ahead = -pair.delta if lower_is_better else pair.delta
    if usual:
        x, y = arms[pair.first].values, arms[pair.second].values
        sides = (y, x) if lower_is_better else (x, y)
        ahead = probability_of_improvement(*sides) - 0.5
    if ahead == 0:
        return evolve(pair, adjusted_p=p, reasons=("no difference",))
    return evolve(pair, adjusted_p=p, winner=pair.first if ahead > 0 else pair.second)
