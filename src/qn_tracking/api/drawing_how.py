"""What is to be drawn of which groups of runs, and the words that a picture says of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from qn_tracking.errors import UsageError, printable
from qn_tracking.inference import bands
from qn_tracking.records.limits import MAIN_PHASE
from qn_tracking.render.text import counted
from qn_tracking.studies.arms import mean_of
from qn_tracking.studies.comparison import PRIMARY, RATES

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


def metric_of(how: How) -> tuple[str, bool]:
    """What the metric of a whole run is called, and whether it is a share."""
    metric = PRIMARY if how.metric == "success" else how.metric
    return metric.replace("_", " ") if metric in RATES else metric, metric in RATES


def title_of(what: str, groups: Sequence[Group], how: How) -> str:
    what = what[:1].upper() + what[1:]
    if len(how.phases) == 1 and how.phases[0] != MAIN_PHASE:
        what = f"{what} in {printable(how.phases[0])}"
    if len(groups) == 1:
        return f"{what}, {groups[0].name}"
    return f"{what} by {'configuration' if how.by == 'config' else how.by}"


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


def interval_of(sizes: Sequence[int], how: How, banded: bool, what: str) -> str:
    if max(sizes) == 1:
        return "no interval: it takes several runs"
    if not banded:
        return "no interval: the runs do not differ"
    if what == "band":
        return f"band: {INTERVALS[how.statistic]} over runs, pointwise"
    bounded = how.statistic == "mean" and metric_of(how)[1]
    return f"{what}: {GAFFKE if bounded else INTERVALS[how.statistic]} over runs"


def estimate_of(values: Sequence[float], how: How) -> bands.Estimate:
    """The metric of whole runs, with the interval that the table of a study has."""
    if how.statistic != "mean" or len(values) < 2:
        return bands.estimate(values, how.statistic)
    return mean_of(PRIMARY if how.metric == "success" else how.metric, values)


def left_out_of(left_out: Mapping[str, str]) -> str:
    return f"left out: {reasons(left_out)}" if left_out else ""


def reasons(left_out: Mapping[str, str]) -> str:
    causes = Counter(left_out.values())
    return ", ".join(f"{counted(n, 'run')} ({cause})" for cause, n in causes.items()) or "none"


def sentence(parts: Sequence[str]) -> str:
    text = "; ".join(part for part in parts if part)
    return f"{text[:1].upper()}{text[1:]}."


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


def known_metrics(groups: Sequence[Group]) -> str:
    """The metrics that there are."""
    names: dict[str, None] = {}
    for group in groups:
        results = group.docs[0].get("results") or {}
        rate = {} if results.get("success_rate") is None else {"success": None}
        names |= {**rate, **dict.fromkeys(results.get("metrics") or {})}
        names |= dict.fromkeys(group.docs[0].get("series") or {})
    return f"metrics: {', '.join(list(names)[:12])}" if names else "qn-exp show ID shows a run"
