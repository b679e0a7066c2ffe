"""What a study can show, and what it has shown, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from qn_tracking.inference.arms import SAYS, ArmPair, Contest, Test
from qn_tracking.inference.multiplicity import Correction
from qn_tracking.inference.permutation import smallest_p
from qn_tracking.inference.planning import Design, enough_runs
from qn_tracking.inference.rules import RULES, p_text
from qn_tracking.render.text import counted

TESTS: Mapping[Test, str] = {
    "brunner-munzel": "permuted Brunner-Munzel",
    "half-run welch": "half-run Welch",
    "guarded paired": "guarded paired",
}
OTHERS: Mapping[str, str] = {"welch": "Welch p", **{name: f"{t} p" for name, t in TESTS.items()}}
ASKS: Mapping[Test, str] = {
    "brunner-munzel": "does a run of one arm usually beat a run of the other",
    "half-run welch": "is one arm better on average",
    "guarded paired": "is one arm better on average, seed by seed",
}
CORRECTIONS: Mapping[Correction, str] = {
    "holm": "Holm",
    "benjamini-hochberg": "Benjamini-Hochberg",
}


def comparisons(count: int, baseline: str | None) -> str:
    """The family, in words."""
    pairs = "each arm with each other" if baseline is None else f"each arm with {baseline}"
    return f"{counted(count, 'comparison')}, {pairs}"


def can_show(
    design: Design, *, baseline: str | None, with_baseline: Design, rate: bool = True
) -> Iterator[str]:
    """Whether a design can conclude anything, and how large a difference has to be.

    Of what is no rate it is said in standard deviations: the order of runs knows no other unit.
    """
    if not design.concludes:
        asked = counted(design.comparisons, "comparison")
        few = "1 run an arm is" if design.runs == 1 else f"{design.runs} runs an arm are"
        smallest = p_text(design.smallest_adjusted)
        cause = f"the smallest p after Holm is {smallest}, and less than {RULES.alpha:g} is needed"
        if design.smallest_adjusted < RULES.alpha:
            cause = f"a verdict takes {RULES.min_runs}"
        yield f"nothing: {few} too few for {asked} ({cause})"
        hint = f"{design.enough} runs an arm could conclude something"
        if baseline is None and with_baseline.concludes:
            hint += f"; so could {design.runs}, if the arms are compared with one (--baseline ARM)"
        yield hint
        return
    if design.shows is None:
        most = "than a rate can have" if rate else "than ten standard deviations of the runs"
        yield f"only larger differences {most}, four times in five"
    elif rate:
        paired = design.decides == "guarded paired"
        vary = "the differences, seed by seed," if paired else "the runs of an arm"
        yield (
            f"a difference of {design.shows:.2f} in a rate, four times in five"
            f" (if {vary} have a standard deviation of {design.sd:g})"
        )
    else:
        spread = "standard deviations of the runs of an arm"
        yield f"a difference of {design.shows / design.sd:.1f} {spread}, four times in five"
    yield f"the smallest p after Holm: {p_text(design.smallest_adjusted)}"


def too_few(contest: Contest, looks: int) -> str | None:
    """That so few runs cannot have a verdict in this family, whatever they are; None if they can.

    Only the test of order has such a limit: those of means decide from 20 runs on.
    """
    if contest.decides != "brunner-munzel":
        return None
    rules, several = contest.rules, len(contest.decisions)
    of_all = (several if contest.correction == "holm" else 1) * looks
    runs = max(min(one.n, one.m) for one in contest.decisions)
    enough = enough_runs(of_all)
    if runs < rules.min_runs:
        return f"too few runs for a verdict: {enough} an arm are needed"
    smallest = of_all * min(smallest_p(one.n, one.m) for one in contest.decisions)
    if smallest < rules.alpha:
        return None
    return (
        f"too few runs for a verdict: of {runs} an arm, the smallest p of"
        f" {counted(several, 'comparison')} is {p_text(min(1.0, smallest))} after"
        f" {CORRECTIONS[contest.correction]}, and less than {rules.alpha:g} is needed;"
        f" {enough} an arm could have one"
    )


def verdict(
    pair: ArmPair, names: Sequence[str], contest: Contest, *, rate: bool, needed: int | None
) -> str:
    """What a comparison says: the better one and why, or why not and what would decide."""
    first, second = pair.first, pair.second
    ahead = pair.delta
    if pair.winner == second or (pair.winner is None and second == _front(contest)):
        first, second, ahead = second, first, -ahead
    turned = first != pair.first
    low, high = pair.low, pair.high
    if turned and low is not None and high is not None:
        low, high = -high, -low
    chance = pair.improvement
    share = (chance.value, chance.low, chance.high)
    if turned:
        share = (1 - chance.value, 1 - chance.high, 1 - chance.low)
    p = "no p" if pair.adjusted_p is None else f"p {p_text(pair.adjusted_p)}"
    facts = (
        f"{p}, {_difference(ahead, low, high, rate)},"
        f" P(improvement) {share[0]:.0%} [{share[1]:.0%}, {share[2]:.0%}]"
    )
    if pair.winner is not None:
        return f"{names[first]} {SAYS[pair.decides]} {names[second]}: {facts}"
    reasons = [text for text in pair.reasons if not text.startswith("not significant")]
    more = "" if not reasons else f"; {'; '.join(reasons)}"
    if needed is not None:
        more += f"; about {_about(needed):,} runs an arm would decide"
    return f"{names[first]} against {names[second]}, not decided: {facts}{more}"


def _front(contest: Contest) -> int | None:
    """The arm that a sentence without a verdict begins with, where there is a choice."""
    return contest.leader if contest.baseline is None else None


def _about(number: int) -> int:
    """Two digits of it: it is no more exact."""
    return int(float(f"{number:.2g}"))


def _difference(delta: float, low: float | None, high: float | None, rate: bool) -> str:
    if rate:
        points = f"{100 * delta:+.1f} points"
        if low is None or high is None:
            return points
        return f"{points} [{100 * max(low, -1.0):.0f}, {100 * min(high, 1.0):.0f}]"
    return (
        f"{delta:+.4g}" if low is None or high is None else f"{delta:+.4g} [{low:.4g}, {high:.4g}]"
    )


def explained(pairs: Iterable[ArmPair]) -> str | None:
    """Why an arm beats another one though the interval of their difference has 0 in it."""
    for pair in pairs:
        bounds = pair.low is not None and pair.high is not None and pair.low <= 0 <= pair.high
        if pair.winner is not None and pair.decides == "brunner-munzel" and bounds:
            return (
                "the test is of the order of the runs; an interval is of the difference of means,"
                " which takes more runs to show"
            )
    return None


def other_tests(pair: ArmPair, names: Sequence[str]) -> str | None:
    """The p of the tests of a pair that do not decide, and its effect; None if it has neither."""
    said = [
        f"{OTHERS[name]} {p_text(p)}"
        for name in OTHERS
        if name != pair.decides and (p := pair.tests.get(name)) is not None
    ]
    if pair.hedges_g is not None:
        said.append(f"Hedges' g {pair.hedges_g:.2f}")
    return f"{names[pair.first]} against {names[pair.second]}: {', '.join(said)}" if said else None


def decided_by(contest: Contest, metric: str, names: Sequence[str]) -> str:
    """The family and the test, in one line."""
    baseline = None if contest.baseline is None else names[contest.baseline]
    return (
        f"{comparisons(len(contest.decisions), baseline)}: {TESTS[contest.decides]} test of"
        f" {metric}, p after {CORRECTIONS[contest.correction]}"
    )
