"""What differs between experiments, and what may be said of their metrics; pure functions.

Experiments come as plain data, as their files hold them. The run is the unit: of two single
runs nothing is concluded, whatever their episodes say.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

from attrs import evolve, frozen

from qn_tracking.inference import interval
from qn_tracking.inference.pair import (
    Comparison,
    Verdict,
    compare,
    hedges_g,
    holm,
    probability_of_improvement,
    verdict,
    welch,
)
from qn_tracking.inference.rules import RULES, Rules
from qn_tracking.inference.sample import mean_sd
from qn_tracking.records.provenance import PLUGIN, facts_of, provenance

Doc = Mapping[str, Any]


class _Absent:
    """A field that an experiment does not have, which is not the same as null."""

    def __repr__(self) -> str:
        return "absent"


ABSENT = _Absent()

PRIMARY = "final_success_rate"
RATES = (PRIMARY, "success_rate")
HIGHER = frozenset((*RATES, "reward", "path_efficiency", "distance_efficiency", "foods_collected"))
"""Metrics of which more is better; of any other only the difference is told."""
MOST_PAIRS = 10
"""Of more pairs of groups than this only the primary metric is compared."""


# ------------------------------------------------------------------------------------- differences


@frozen(kw_only=True)
class Difference:
    """A field and its value in each experiment, `ABSENT` where it has none."""

    field: str
    values: tuple[Any, ...]

    @property
    def same(self) -> bool:
        """Whether all have it, and the same."""
        return len({_key(value) for value in self.values}) == 1


def _key(value: Any) -> Hashable:
    """Equal for equal JSON: 1 is 1.0, but neither is true."""
    if isinstance(value, Mapping):
        return ("mapping", frozenset((name, _key(item)) for name, item in value.items()))
    if isinstance(value, (list, tuple)):
        return ("list", tuple(map(_key, value)))
    if isinstance(value, bool):
        return ("bool", value)
    return ("", value)


def leaves(value: Any, name: str = "") -> dict[str, Any]:
    """Every field inside, by its name with dots; lists of plain values stay whole."""
    out: dict[str, Any] = {}
    if isinstance(value, Mapping) and (value or not name):
        for key, item in value.items():
            shown = key if key and "." not in key else f'"{key}"'
            out.update(leaves(item, f"{name}.{shown}" if name else shown))
    elif isinstance(value, (list, tuple)) and any(isinstance(v, (Mapping, list)) for v in value):
        for i, item in enumerate(value):
            out.update(leaves(item, f"{name}[{i}]"))
    else:
        out[name] = value
    return out


def differences(sides: Sequence[Mapping[str, Any]]) -> tuple[Difference, ...]:
    """Every field that any side has, in the order of first appearance."""
    names = dict.fromkeys(name for side in sides for name in side)
    return tuple(
        Difference(field=name, values=tuple(side.get(name, ABSENT) for side in sides))
        for name in names
    )


def sections(
    docs: Sequence[Doc], packages: Sequence[Mapping[str, Any] | None]
) -> dict[str, tuple[Difference, ...]]:
    """Every field that may explain a difference of results, by what it is about.

    `packages` are versions by name where the list is here; where one is not, only the digests of
    the lists are compared.
    """
    installed = [one for one in packages if one is not None]
    if len(installed) < len(docs):
        installed = [
            {key: value for key, value in _section(doc, "packages").items() if key != "list"}
            for doc in docs
        ]
    return {
        "run": differences([_run(doc) for doc in docs]),
        "configuration": _without_file(differences([_configuration(doc) for doc in docs])),
        "code": differences([_code(doc) for doc in docs]),
        "packages": differences(installed),
        "system": differences([leaves(_section(doc, "system")) for doc in docs]),
        "facts": differences([_facts(doc) for doc in docs]),
    }


def _run(doc: Doc) -> dict[str, Any]:
    subject = leaves(doc.get("subject") or {})
    return {
        "status": doc.get("status"),
        "seed": doc.get("seed"),
        "episodes": doc.get("episodes"),
        **subject,
    }


def _configuration(doc: Doc) -> dict[str, Any]:
    config = doc.get("config") or {}
    file = {"(file)": config.get("label"), _FILE: config.get("sha256")}
    settings = config.get("settings")
    return {
        **leaves(config.get("data") or {}),
        **(leaves(settings, "(settings)") if settings else {}),
        **{name: value for name, value in file.items() if value},
    }


def _without_file(rows: tuple[Difference, ...]) -> tuple[Difference, ...]:
    """That the files differ says nothing more where what they mean differs."""
    if any(not row.same for row in rows if row.field != _FILE):
        return tuple(row for row in rows if row.field != _FILE)
    return rows


_FILE = "(file sha256)"


def _section(doc: Doc, name: str) -> Mapping[str, Any]:
    """A section of the facts of provenance, with every field that it holds."""
    section = facts_of(doc).get(name)
    return section if isinstance(section, Mapping) else {}


def _code(doc: Doc) -> dict[str, Any]:
    git = _section(doc, "git")
    out = leaves({"git": git}) if git else {}
    for package in facts_of(doc).get("code") or ():
        if isinstance(package, Mapping):
            name = str(package.get("name"))
            rest = {key: value for key, value in package.items() if key != "name"}
            out.update(leaves(rest, name))
    return out


def _facts(doc: Doc) -> dict[str, Any]:
    facts = doc.get("facts") or {}
    return leaves({name: said for name, said in facts.items() if name != PLUGIN})


def parse_packages(text: str) -> dict[str, str]:
    """Versions by name, from a list of `name==version` lines."""
    pairs = (line.partition("==") for line in text.splitlines() if line.strip())
    return {name.strip(): version.strip() for name, _, version in pairs}


def alike(docs: Sequence[Doc], kind: str) -> list[list[int]]:
    """Which experiments share a digest (`exact` or `outcome`): their places, two or more."""
    found: dict[str, list[int]] = {}
    for i, doc in enumerate(docs):
        digest = (doc.get("digests") or {}).get(kind)
        if digest:
            found.setdefault(digest, []).append(i)
    return [places for places in found.values() if len(places) > 1]


# ----------------------------------------------------------------------------------------- metrics


@frozen(kw_only=True)
class Value:
    """A metric of one experiment; for a rate, what its episodes count to, with Wilson's interval.

    The interval speaks of this run's episodes only.
    """

    value: float
    successes: int | None = None
    episodes: int | None = None
    low: float | None = None
    high: float | None = None


@frozen(kw_only=True)
class Metric:
    """A metric of each experiment, None where it has none; of two, second − first.

    `low` and `high` are Newcombe's, for the rates of two runs: of their episodes, and not of
    what another run would do.
    """

    name: str
    values: tuple[Value | None, ...]
    delta: float | None = None
    low: float | None = None
    high: float | None = None


def values_of(doc: Doc) -> dict[str, float]:
    """Every metric of an experiment: rates, means over episodes, and what it cost."""
    results = doc.get("results") or {}
    resources = provenance(doc).resources
    means = {name: spread.get("mean") for name, spread in (results.get("metrics") or {}).items()}
    found = {
        PRIMARY: results.get(PRIMARY),
        "success_rate": results.get("success_rate"),
        "reward": results.get("avg_reward"),
        "steps": results.get("avg_steps"),
        **{name: mean for name, mean in means.items() if name not in ("steps", "reward")},
        "episodes": results.get("episodes"),
        "wall_seconds": doc.get("wall_seconds"),
        "steps_per_second": doc.get("steps_per_second"),
        "cpu_seconds": resources.cpu_seconds,
        "peak_memory_bytes": resources.peak_memory_bytes,
    }
    return {name: float(value) for name, value in found.items() if _number(value)}


def _number(value: Any) -> bool:
    return value in ("NaN", "Infinity", "-Infinity") or type(value) in (int, float)


def metrics(docs: Sequence[Doc]) -> tuple[Metric, ...]:
    """Every metric of single experiments, side by side."""
    found = [values_of(doc) for doc in docs]
    out = []
    for name in dict.fromkeys(name for one in found for name in one):
        values = tuple(
            _value(doc, name, one[name]) if name in one else None
            for doc, one in zip(docs, found, strict=True)
        )
        metric = Metric(name=name, values=values)
        out.append(_delta(metric) if len(docs) == 2 else metric)
    return tuple(out)


def _value(doc: Doc, name: str, value: float) -> Value:
    results = doc.get("results") or {}
    total = results.get("final_window") if name == PRIMARY else results.get("episodes")
    if name not in RATES or type(total) is not int or total < 1 or several_runs(doc):
        return Value(value=value)
    successes = round(value * total)
    # Where some episodes neither succeed nor fail, the rate is not over all of them.
    if abs(value * total - successes) > 1e-6 or not 0 <= successes <= total:
        return Value(value=value)
    bounds = interval.wilson(successes, total)
    return Value(value=value, successes=successes, episodes=total, low=bounds.low, high=bounds.high)


def several_runs(doc: Doc) -> bool:
    """Whether it is the sum of several runs, which another program may put into one record."""
    original = (doc.get("origin") or {}).get("original") or {}
    return "sessions" in original


def _delta(metric: Metric) -> Metric:
    first, second = metric.values
    if first is None or second is None:
        return metric
    delta = second.value - first.value
    metric = evolve(metric, delta=delta if isfinite(delta) else None)
    if first.successes is None or second.successes is None:
        return metric
    bounds = interval.newcombe(
        second.successes, second.episodes or 0, first.successes, first.episodes or 0
    )
    return evolve(metric, low=bounds.low, high=bounds.high)


# ------------------------------------------------------------------------------------------ groups


@frozen(kw_only=True)
class Sample:
    """A metric over the runs of a group: `low` and `high` are the t-interval of the mean, or,
    where no run differs, Wilson's of the pooled count (`pooled`).
    """

    values: tuple[float, ...]
    mean: float
    low: float | None = None
    high: float | None = None
    pooled: bool = False


@frozen(kw_only=True)
class Pair:
    """A metric of two groups, by their places; `comparison.delta` is second − first.

    `verdict` is None for a metric of which nobody knows whether more is better.
    """

    metric: str
    first: int
    second: int
    comparison: Comparison
    adjusted_p: float | None = None
    verdict: Verdict | None = None
    family: int = 1


@frozen(kw_only=True)
class Summary:
    """What groups of runs say, metric by metric."""

    samples: Mapping[str, tuple[Sample | None, ...]]
    pairs: tuple[Pair, ...]


def summarise(groups: Sequence[Sequence[Doc]], rules: Rules = RULES) -> Summary:
    """Means, intervals, and every pair of groups.

    The primary metric was fixed in advance: its family are the pairs of groups. Every other metric
    that may be called better is in one family with all others and all pairs.
    """
    found = [[values_of(doc) for doc in group] for group in groups]
    names = dict.fromkeys(name for group in found for one in group for name in one)
    samples = {
        name: tuple(_sample(name, docs, values) for docs, values in zip(groups, found, strict=True))
        for name in names
    }
    pairs = []
    places = [(i, j) for j in range(len(groups)) for i in range(j)]
    others = [name for name in names if name in HIGHER and name != PRIMARY]
    for name, sides in samples.items():
        family = len(places) * (1 if name == PRIMARY else max(len(others), 1))
        # The margin is one of rates.
        own = rules if name in RATES else evolve(rules, margin=0.0)
        if len(places) > MOST_PAIRS and name != PRIMARY:
            continue
        for i, j in places:
            one, other = sides[i], sides[j]
            if one is None or other is None:
                continue
            if name in HIGHER:
                result = compare(other.values, one.values, family=family, rules=own)
            else:
                result = _untested(other.values, one.values, own)
            pairs.append(Pair(metric=name, first=i, second=j, comparison=result, family=family))
    judged = _judge([p for p in pairs if p.metric == PRIMARY], rules)
    judged += _judge([p for p in pairs if p.metric in HIGHER and p.metric != PRIMARY], rules)
    by_place = {(p.metric, p.first, p.second): p for p in judged}
    return Summary(
        samples=samples,
        pairs=tuple(by_place.get((p.metric, p.first, p.second), p) for p in pairs),
    )


def _sample(name: str, docs: Sequence[Doc], found: Sequence[Mapping[str, float]]) -> Sample | None:
    """None unless every run has the metric, and finite."""
    if not all(name in one and isfinite(one[name]) and abs(one[name]) < 1e300 for one in found):
        return None
    values = tuple(one[name] for one in found)
    mean, sd = mean_sd(values)
    bounds = interval.t_interval(values)
    if bounds is not None:
        return Sample(values=values, mean=mean, low=bounds.low, high=bounds.high)
    rates = [_value(doc, name, value) for doc, value in zip(docs, values, strict=True)]
    if sd == 0 and name in RATES and all(rate.episodes for rate in rates):
        bounds = interval.wilson(
            sum(rate.successes or 0 for rate in rates), sum(rate.episodes or 0 for rate in rates)
        )
        return Sample(values=values, mean=mean, low=bounds.low, high=bounds.high, pooled=True)
    return Sample(values=values, mean=mean)


def _untested(x: Sequence[float], y: Sequence[float], rules: Rules) -> Comparison:
    """A pair of which nothing is concluded: the test, which takes time, is spared."""
    return Comparison(
        n=len(x),
        m=len(y),
        delta=mean_sd(x)[0] - mean_sd(y)[0],
        welch=welch(x, y, rules=rules),
        permutation=None,
        hedges_g=hedges_g(x, y),
        improvement=probability_of_improvement(x, y),
    )


def _judge(pairs: Sequence[Pair], rules: Rules) -> list[Pair]:
    known = [p for p in pairs if p.comparison.permutation is not None]
    adjusted = holm([p.comparison.permutation.p for p in known if p.comparison.permutation])
    ps = {id(p): value for p, value in zip(known, adjusted, strict=True)}
    out = []
    for pair in pairs:
        own = rules if pair.metric in RATES else evolve(rules, margin=0.0)
        p = ps.get(id(pair))
        said = verdict(pair.comparison, adjusted_p=p, rules=own)
        out.append(evolve(pair, adjusted_p=p, verdict=said))
    return out


def winner(pair: Pair) -> int | None:
    """The place of the group that may be called better, or None."""
    if pair.verdict is None or not pair.verdict.better:
        return None
    # What is compared is second − first.
    return pair.second if pair.verdict.winner == "first" else pair.first


def split(keys: Iterable[Hashable]) -> list[list[int]]:
    """Places by key, in the order of first appearance."""
    found: dict[Hashable, list[int]] = {}
    for i, key in enumerate(keys):
        found.setdefault(key, []).append(i)
    return list(found.values())


def repeats(docs: Sequence[Doc]) -> list[int]:
    """Places of runs that repeat an earlier one: the same digest, or configuration and seed."""
    out = []
    seen: set[tuple[str, Any, Any]] = set()
    for i, doc in enumerate(docs):
        exact = (doc.get("digests") or {}).get("exact")
        marks: set[tuple[str, Any, Any]] = {("digest", exact, None)} if exact else set()
        if doc.get("seed") is not None:
            marks.add(("seed", (doc.get("config") or {}).get("digest"), doc["seed"]))
        if marks & seen:
            out.append(i)
        seen |= marks
    return out
