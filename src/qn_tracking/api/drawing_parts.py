"""What is to be drawn of which groups of runs, and the words that a picture says of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import frozen

from qn_tracking.api.picture import Picture
from qn_tracking.config import MAPPING
from qn_tracking.errors import UsageError, printable, short
from qn_tracking.inference import bands
from qn_tracking.inference.sample import LARGEST
from qn_tracking.records.limits import MAIN_PHASE
from qn_tracking.render.picture import Line
from qn_tracking.render.picture_parts import Spec, Words, number
from qn_tracking.render.text import counted
from qn_tracking.studies.arms import mean_of
from qn_tracking.studies.comparison import COMPUTED, PRIMARY, RATES, values_of

KINDS = ("curve", "final", "profile", "improvement", "cost", "heat", "parallel", "endings")
X = {"episode": "episode", "step": "steps", "time": "seconds"}
INTERVALS = {"mean": "95% t-interval of the mean", "iqm": "95% interval of Yuen"}
GAFFKE = "95% interval of the mean by Gaffke's bound"


@frozen(kw_only=True)
class Group:
    """Runs that share a value, as plain data."""

    name: str
    docs: Sequence[Mapping[str, Any]]


@frozen(kw_only=True)
class How:
    """What is to be drawn."""

    metric: str = "success"
    by: str = "config"
    kind: str = "curve"
    x: str = "episode"
    statistic: str = "mean"
    smooth: int | None = None
    runs: bool = False
    dark: bool = False
    phases: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        known = (("kind", KINDS), ("x", [*X]), ("statistic", [*bands.STATISTICS]))
        for name, values in known:
            value = getattr(self, name)
            if value not in values:
                hint = f"known: {', '.join(values)}"
                raise UsageError(f"unknown {name} {value!r}", file=f"--{name}", hint=hint)
        if self.smooth is not None and (type(self.smooth) is not int or self.smooth < 1):
            raise UsageError(
                f"expected a whole number from 1, got {self.smooth!r}", file="--smooth"
            )


@frozen(kw_only=True)
class Drawing:
    """Groups and how they are drawn; `left_out` gets the reasons why runs are not in the picture.

    `field` is the metric of a whole run, `metric` what it is called, `percent` whether it is a
    share.
    """

    groups: Sequence[Group]
    how: How
    left_out: dict[str, str]

    @property
    def field(self) -> str:
        return PRIMARY if self.how.metric == "success" else self.how.metric

    @property
    def percent(self) -> bool:
        return self.field in RATES

    @property
    def metric(self) -> str:
        return self.field.replace("_", " ") if self.percent else self.field

    def value(self, doc: Mapping[str, Any]) -> float | None:
        """The metric of a run; one without it, or whose is not finite, is left out."""
        value = values_of(doc).get(self.field)
        if value is None:
            self.left_out[doc["id"]] = f"has no {self.field}"
        elif abs(value) <= LARGEST:
            return value
        else:
            self.left_out[doc["id"]] = f"its {self.field} is not finite"
        return None

    def values(self) -> list[tuple[str, list[float]]]:
        """The metric of each run, by group. Raises UsageError if no run has it."""
        found = []
        for group in self.groups:
            if values := [v for doc in group.docs if (v := self.value(doc)) is not None]:
                found.append((group.name, values))
        if not found:
            raise self.nothing()
        return found

    def nothing(self) -> UsageError:
        """That no run is drawn, with the metrics that there are."""
        names: dict[str, None] = {}
        for group in self.groups:
            results = group.docs[0].get("results") or {}
            rate = {} if results.get("success_rate") is None else {"success": None}
            names |= {**rate, **dict.fromkeys(results.get("metrics") or {})}
            names |= dict.fromkeys(group.docs[0].get("series") or {})
        known = f"metrics: {', '.join(list(names)[:12])}" if names else "qn-exp show ID shows a run"
        return UsageError(f"no run to draw: {reasons(self.left_out)}", hint=known)

    def estimate(self, values: Sequence[float]) -> bands.Estimate:
        """The metric of whole runs, with the interval that the table of a study has."""
        if self.how.statistic != "mean" or len(values) < 2:
            return bands.estimate(values, self.how.statistic)
        return mean_of(self.field, values)

    def title(self, what: str) -> str:
        """What is drawn of what."""
        if len(self.how.phases) == 1 and self.how.phases[0] != MAIN_PHASE:
            what = f"{what} in {printable(self.how.phases[0])}"
        if len(self.groups) == 1:
            unnamed = self.how.by == "config" and self.groups[0].name == MAPPING
            return what if unnamed else f"{what}, {self.groups[0].name}"
        return f"{what} by {'configuration' if self.how.by == 'config' else self.how.by}"

    def interval(self, found: Iterable[bands.Estimate | None], what: str) -> str:
        """What interval the lines or the bands are, and why some or all have none."""
        known = [one for one in found if one is not None]
        several = [one for one in known if one.n > 1]
        if not several:
            return "no interval: it takes several runs"
        agree = "all" if self.how.statistic == "mean" else "the middle"
        if all(one.low is None for one in several):
            return f"no interval: {agree} runs agree, which is no certainty"
        none = [f"where {agree} runs agree, which is no certainty"]
        none = none if any(one.low is None for one in several) else []
        none += ["of a single run"] if len(several) < len(known) else []
        more = f" (none {' or '.join(reversed(none))})" if none else ""
        if what == "band":
            return f"band: {INTERVALS[self.how.statistic]} over runs, pointwise{more}"
        bounded = self.how.statistic == "mean" and self.percent
        return f"{what}: {GAFFKE if bounded else INTERVALS[self.how.statistic]} over runs{more}"

    def words(self, title: str, caption: Sequence[str], **axes: Any) -> Words:
        """The texts of the picture; the caption ends with what was left out."""
        return Words(title=title, caption=captioned(caption, self.left_out), **axes)

    def picture(
        self, spec: Spec, titles: list[str], table: list[list[str]], **more: Any
    ) -> Picture:
        """The picture with its table."""
        return Picture(spec, titles, table, left_out=self.left_out, **more)


def heading(metric: str) -> str:
    """A metric at the start of a title: the name of one that is not ours stays as it is."""
    ours = metric in COMPUTED or metric.replace(" ", "_") in RATES
    return f"{metric[:1].upper()}{metric[1:]}" if ours else metric


def captioned(parts: Sequence[str], left_out: Mapping[str, str]) -> str:
    """One sentence of all parts, and of what was left out."""
    more = f"left out: {reasons(left_out)}" if left_out else ""
    text = "; ".join(part for part in (*parts, more) if part)
    return f"{text[:1].upper()}{text[1:]}."


def coinciding(lines: Sequence[Line]) -> str:
    """Which lines hide each other, since they are one; empty if none do."""
    alike: dict[tuple[Any, ...], list[str]] = {}
    for line in lines:
        points = tuple(map(number, (*line.x, *line.y)))
        alike.setdefault(points, []).append(line.name)
    found = [" and ".join(names) for names in alike.values() if len(names) > 1]
    return f"the same line: {short(', '.join(found), 200)}" if found else ""


def with_counts(sized: Sequence[tuple[str, int]]) -> list[str]:
    """The names, with how many runs each has if they have not all the same."""
    same = len({count for _, count in sized}) == 1
    return [printable(name) if same else f"{printable(name)} (n = {n})" for name, n in sized]


def sizes_of(sizes: Sequence[int]) -> str:
    low, high = min(sizes), max(sizes)
    each = " each" if len(sizes) > 1 else ""
    return f"{counted(low, 'run')}{each}" if low == high else f"{low} to {high:,} runs each"


def of_runs(sizes: Sequence[int], statistic: str) -> str:
    if max(sizes) == 1:
        return "One run" if len(sizes) == 1 else "One run each"
    same = statistic == "iqm" and max(sizes) < 4
    name = "Interquartile mean (below 4 runs the mean)" if same else bands.STATISTICS[statistic]
    return f"{name[:1].upper()}{name[1:]} of {sizes_of(sizes)}"


def reasons(left_out: Mapping[str, str]) -> str:
    causes = Counter(left_out.values())
    return ", ".join(f"{counted(n, 'run')} ({cause})" for cause, n in causes.items()) or "none"


def clipped(value: float | None, percent: bool) -> float | None:
    """What of it a share can reach."""
    return value if value is None or not percent else min(max(value, 0.0), 1.0)


def shown(value: float, percent: bool) -> str:
    return f"{value:.1%}" if percent else f"{value:.4g}"


def range_of(low: float | None, high: float | None, percent: bool) -> str:
    if low is None or high is None:
        return "–"
    low, high = clipped(low, percent) or 0.0, clipped(high, percent) or 0.0
    return f"{shown(low, percent)} to {shown(high, percent)}"
