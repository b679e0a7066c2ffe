"""What differs between experiments, and their metrics side by side; pure functions.

Experiments come as plain data, as their files hold them. Two single runs support no conclusion,
whatever their episodes are: see `groups`. Nothing heavy is imported here, for two runs are compared
faster than NumPy is imported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite

from qn_tracking.errors import UsageError, short
from qn_tracking.inference import proportion
from qn_tracking.records.facts import METADATA, metadata, section
from qn_tracking.records.limits import MAIN_PHASE, NOT_FINITE, not_finite

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence
    from typing import Any

    Doc = Mapping[str, Any]


class _Absent:
    """A field that an experiment does not have, which is not the same as null."""

    def __repr__(self) -> str:
        return "absent"


ABSENT = _Absent()

PRIMARY = "final_success_rate"
RATES = (PRIMARY, "success_rate")
COMPUTED = {
    PRIMARY: PRIMARY,
    "success_rate": "success_rate",
    "reward": "avg_reward",
    "steps": "avg_steps",
}
"""What is computed of any run, by its name as a metric, and its field in the results."""
COSTS = ("episodes", "wall_seconds", "steps_per_second", "cpu_seconds", "peak_memory_bytes")
"""What is measured of any run."""
_LOWER = ("wall_seconds", "cpu_seconds", "peak_memory_bytes", "steps")
_LOWER_WORDS = ("loss", "error", "regret", "cost")


def lower_is_better(metric: str) -> bool:
    """Whether less of a metric is better: of what a run costs, and of any loss, error, regret."""
    name = metric.removeprefix("results.").removeprefix("avg_").removesuffix(".mean")
    last = name.rpartition(".")[2]
    return last in _LOWER or last.rpartition("_")[2] in _LOWER_WORDS


# ------------------------------------------------------------------------------------- differences


class Difference:
    """A field and its value in each experiment, `ABSENT` where it has none."""

    __slots__ = ("field", "values")

    def __init__(self, *, field: str, values: tuple[Any, ...]) -> None:
        self.field = field
        self.values = values

    def __repr__(self) -> str:
        return f"Difference(field={self.field!r}, values={self.values!r})"

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


def of_phase(doc: Doc, phase: str) -> dict[str, Any]:
    """The experiment as if the episodes of a phase were all of it; `main` is the main phase.

    Raises UsageError if it has no phase of this name.
    """
    found = doc.get("phases") or {}
    if phase not in found:
        if phase == MAIN_PHASE:
            return {**doc, "phases": {}, "series": {}}
        known = ", ".join([*found][:12])
        hint = f"phases: {known}" if known else "it has the main phase only"
        raise UsageError(f"has no phase {phase!r}", file=doc["id"], hint=hint)
    own = {name: found[phase].get(name) for name in ("results", "digests")}
    return {**doc, **own, "phase": phase, "phases": {}, "series": {}}


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
            {key: value for key, value in section(doc, "packages").items() if key != "list"}
            for doc in docs
        ]
    return {
        "run": differences([_run(doc) for doc in docs]),
        "configuration": _without_file(differences([_configuration(doc) for doc in docs])),
        "code": differences([_code(doc) for doc in docs]),
        "packages": differences(installed),
        "system": differences([leaves(section(doc, "system")) for doc in docs]),
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


def _code(doc: Doc) -> dict[str, Any]:
    git = section(doc, "git")
    out = leaves({"git": git}) if git else {}
    for holder, field in (("script", "added"), ("cells", "text")):
        kept = section(doc, holder).get(field)
        if isinstance(kept, Mapping):
            out[f"{holder}.{field}.sha256"] = kept.get("sha256")
    for package in metadata(doc).get("code") or ():
        if isinstance(package, Mapping):
            name = str(package.get("name"))
            rest = {key: value for key, value in package.items() if key != "name"}
            out.update(leaves(rest, name))
    return out


EXPLAINING = ("commit", "dirty", "digest", "version", "distribution", ".sha256")
"""The facts about code that may explain another result, by the end of their names."""
PARTS = {"run": "run", "configuration": "config", "packages": "packages", "system": "machine"}


def code_differs(sections: Mapping[str, Sequence[Difference]]) -> bool:
    """Whether a fact about the code differs that may explain another result."""
    return any(not row.same and row.field.endswith(EXPLAINING) for row in sections["code"])


def what_changed(
    sections: Mapping[str, Sequence[Difference]], code: str | None = None
) -> dict[str, str]:
    """What differs in a line each for run, config, code, packages and machine, where it does.

    `code` is what is known of the source; without it, the facts that differ are named.
    """
    found = {title: _in_short(sections[name], 3) for name, title in PARTS.items()}
    rows = [row for row in sections["code"] if row.field.endswith(EXPLAINING)]
    found["code"] = code or _in_short(rows, 3, values=False)
    order = ("run", "config", "code", "packages", "machine")
    return {title: found[title] for title in order if found[title]}


def _in_short(rows: Sequence[Difference], most: int, *, values: bool = True) -> str:
    differing = [row for row in rows if not row.same]
    shown = [
        f"{row.field} {' -> '.join(map(_value, row.values))}" if values else row.field
        for row in differing[:most]
    ]
    more = len(differing) - most
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _value(value: Any) -> str:
    if value is ABSENT or value is None:
        return "none"
    return short(value if isinstance(value, str) and value else json.dumps(value), 24)


def _facts(doc: Doc) -> dict[str, Any]:
    facts = doc.get("facts") or {}
    return leaves({name: said for name, said in facts.items() if name != METADATA})


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


class Value:
    """A metric of one experiment; for a rate, what its episodes count to, with Wilson's interval.

    The interval is about this run's episodes only.
    """

    __slots__ = ("episodes", "high", "low", "successes", "value")

    def __init__(
        self,
        *,
        value: float,
        successes: int | None = None,
        episodes: int | None = None,
        low: float | None = None,
        high: float | None = None,
    ) -> None:
        self.value = value
        self.successes = successes
        self.episodes = episodes
        self.low = low
        self.high = high


class Metric:
    """A metric of each experiment, None where it has none; of two, second − first.

    `low` and `high` are Newcombe's, for the rates of two runs: of their episodes, and not of
    what another run would do.
    """

    __slots__ = ("delta", "high", "low", "name", "values")

    def __init__(self, *, name: str, values: tuple[Value | None, ...]) -> None:
        self.name = name
        self.values = values
        self.delta: float | None = None
        self.low: float | None = None
        self.high: float | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON data; what is not finite is text."""

        def number(value: float | None) -> float | str | None:
            return value if value is None or isfinite(value) else not_finite(value)

        return {
            "metric": self.name,
            "values": [
                None
                if one is None
                else {
                    "value": number(one.value),
                    "successes": one.successes,
                    "episodes": one.episodes,
                    "low": one.low,
                    "high": one.high,
                }
                for one in self.values
            ],
            "delta": self.delta,
            "low": self.low,
            "high": self.high,
        }


def values_of(doc: Doc) -> dict[str, float]:
    """Every metric of an experiment: rates, means over episodes, and what it cost."""
    results = doc.get("results") or {}
    resources = section(doc, "resources")
    means = {name: spread.get("mean") for name, spread in (results.get("metrics") or {}).items()}
    computed = {name: results.get(field) for name, field in COMPUTED.items()}
    costs = {
        "episodes": results.get("episodes"),
        "wall_seconds": doc.get("wall_seconds"),
        "steps_per_second": doc.get("steps_per_second"),
        "cpu_seconds": resources.get("cpu_seconds"),
        "peak_memory_bytes": resources.get("peak_memory_bytes"),
    }
    # A metric of the simulation never replaces one that is computed.
    found = {**computed, **{k: v for k, v in means.items() if k not in computed}, **costs}
    return {name: float(value) for name, value in found.items() if _number(value)}


def _number(value: Any) -> bool:
    return type(value) in (int, float) or value in NOT_FINITE


def metrics(docs: Sequence[Doc]) -> tuple[Metric, ...]:
    """Every metric of single experiments, side by side."""
    found = [values_of(doc) for doc in docs]
    out = []
    for name in dict.fromkeys(name for one in found for name in one):
        values = tuple(
            value_of(doc, name, one[name]) if name in one else None
            for doc, one in zip(docs, found, strict=True)
        )
        metric = Metric(name=name, values=values)
        if len(docs) == 2:
            _subtract(metric)
        out.append(metric)
    return tuple(out)


def value_of(doc: Doc, name: str, value: float) -> Value:
    results = doc.get("results") or {}
    total = results.get("final_window") if name == PRIMARY else results.get("episodes")
    if name not in RATES or type(total) is not int or total < 1 or several_runs(doc):
        return Value(value=value)
    if not isfinite(value):
        return Value(value=value)
    successes = round(value * total)
    # Where some episodes neither succeed nor fail, the rate is not over all of them.
    if abs(value * total - successes) > 1e-6 or not 0 <= successes <= total:
        return Value(value=value)
    low, high = proportion.wilson(successes, total)
    return Value(value=value, successes=successes, episodes=total, low=low, high=high)


def several_runs(doc: Doc) -> bool:
    """Whether it is the sum of several runs, which another program may put into one record."""
    original = (doc.get("origin") or {}).get("original") or {}
    return "sessions" in original


def _subtract(metric: Metric) -> None:
    """Sets the difference of two values, and its interval where both are rates."""
    first, second = metric.values
    if first is None or second is None:
        return
    delta = second.value - first.value
    metric.delta = delta if isfinite(delta) else None
    if first.successes is not None and second.successes is not None:
        metric.low, metric.high = proportion.newcombe(
            second.successes, second.episodes or 0, first.successes, first.episodes or 0
        )


def conclusion(docs: Sequence[Doc]) -> str:
    """What single runs support: nothing, and why."""
    identical = alike(docs, "exact")
    if identical and len(identical[0]) == len(docs):
        return "no conclusion to draw: it is the same run"
    if any(several_runs(doc) for doc in docs):
        return "no conclusion: the values of single runs are not in an imported submission"
    return f"no conclusion: one run each, but {proportion.MIN_RUNS} or more of each are needed"


def letters(places: Sequence[int]) -> str:
    """What groups or runs are called in text: A, B, …, and after Z numbers."""
    names = [chr(ord("A") + i) if i < 26 else f"#{i + 1}" for i in places]
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + f" and {names[-1]}"


def about(doc: Doc) -> dict[str, Any]:
    """The fields by which a run is known, as plain data."""
    subject, config = doc.get("subject") or {}, doc.get("config") or {}
    origin = doc.get("origin") or {}
    return {
        "id": doc["id"],
        "status": doc.get("status"),
        "started": doc.get("started"),
        "environment": subject.get("environment"),
        "brain": subject.get("brain"),
        "family": subject.get("family"),
        "config": config.get("label"),
        "config_digest": config.get("digest"),
        "seed": doc.get("seed"),
        "episodes": (doc.get("results") or {}).get("episodes"),
        "digests": doc.get("digests"),
        "origin": origin.get("format"),
        "origin_notes": origin.get("notes") or [],
    }


def config_digest(doc: Doc) -> str | None:
    """The digest of what ran."""
    digest: str | None = (doc.get("config") or {}).get("digest")
    return digest


# ------------------------------------------------------------------------------------------ as text


def metric_text(value: float, metric: str, *, signed: bool = False) -> str:
    """A value of a metric, or with `signed` a difference: of a rate in percent."""
    sign = "+" if signed else ""
    form = ".1%" if metric in RATES else ".4g" if signed else ".5g"
    return format(value, sign + form)


def interval_text(low: float | None, high: float | None, metric: str, least: float = 0.0) -> str:
    """An interval; of a rate, what of it can be reached: from `least` to 1."""
    if low is None or high is None:
        return ""
    if metric in RATES:
        return f" [{max(low, least):.0%}, {min(high, 1.0):.0%}]"
    return f" [{low:.4g}, {high:.4g}]"
