"""What a study can show, and what it has shown, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from qn_tracking.inference.arms import Test
from qn_tracking.inference.planning import Design
from qn_tracking.inference.rules import RULES
from qn_tracking.render.text import counted

TESTS: Mapping[Test, str] = {
    "brunner-munzel": "permuted Brunner-Munzel",
    "half-run welch": "half-run Welch",
    "guarded paired": "guarded paired",
}
ASKS: Mapping[Test, str] = {
    "brunner-munzel": "does a run of one arm usually beat a run of the other",
    "half-run welch": "is one arm better on average",
    "guarded paired": "is one arm better on average, seed by seed",
}


def comparisons(count: int, baseline: str | None) -> str:
    """The family, in words."""
    pairs = "each arm with each other" if baseline is None else f"each arm with {baseline}"
    return f"{counted(count, 'comparison')}, {pairs}"


def can_show(design: Design, *, baseline: str | None, with_baseline: Design) -> Iterator[str]:
    """Whether a design can conclude anything, and how large a difference has to be."""
    if not design.concludes:
        asked = counted(design.comparisons, "comparison")
        yield (
            f"nothing: {design.runs} runs an arm are too few for {asked}"
            f" (the smallest p after Holm is {design.smallest_adjusted:.2g},"
            f" and less than {RULES.alpha:g} is needed)"
        )
        hint = f"{design.enough} runs an arm could conclude something"
        if baseline is None and with_baseline.concludes:
            hint += f"; so could {design.runs}, if the arms are compared with one (--baseline ARM)"
        yield hint
    elif design.shows is None:
        yield "only larger differences than a rate can have, four times in five"
    else:
        yield (
            f"a difference of {design.shows:.2f} in a rate, four times in five"
            f" (if the runs of an arm have a standard deviation of {design.sd:g})"
        )
