"""Where the arms of a study are expected: ranges in a file, and which arms have left them.

The file has the name of the study, and below `arms`, for each arm, `METRIC: [LOW, HIGH]`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from math import isfinite, sqrt
from typing import Any

from attrs import field, frozen

from qn_tracking.errors import ConfigError, UsageError, did_you_mean, short
from qn_tracking.inference.bounded import gaffke
from qn_tracking.inference.interval import t_quantile
from qn_tracking.inference.rules import RULES
from qn_tracking.inference.sample import mean_sd
from qn_tracking.render.text import counted
from qn_tracking.studies.arms import ArmRow, StudyTable
from qn_tracking.studies.comparison import RATES

Range = tuple[float, float]
Ranges = Mapping[str, Mapping[str, Range]]
"""For each arm and metric, between which values its mean is expected."""

DIGITS = 6
HEAD = """\
# Between which values the mean of each arm is expected. `qn-exp check STUDY --expect` reads this,
# and with --update writes it from the runs of the study.
"""


@frozen(kw_only=True)
class Expectation:
    """One range, and what the study has: the mean over `finished` of `declared` runs, or None.

    `sentence` says what is wrong, and is None if the mean is in the range.
    """

    arm: str
    metric: str
    low: float
    high: float
    mean: float | None
    finished: int
    declared: int
    sentence: str | None


@frozen(kw_only=True)
class Checked:
    """The outcome of a check: every range with what was found, and arms that have none."""

    study: str
    found: tuple[Expectation, ...]
    unexpected: tuple[str, ...] = field(default=())

    @property
    def left(self) -> tuple[Expectation, ...]:
        """Those that are not in their ranges, or that nothing can be said of."""
        return tuple(one for one in self.found if one.sentence is not None)

    @property
    def summary(self) -> str:
        """All of it in one line."""
        arms = dict.fromkeys(one.arm for one in self.found)
        left = dict.fromkeys(one.arm for one in self.left)
        metrics = ", ".join(dict.fromkeys(one.metric for one in self.found))
        if left:
            return f"{len(left)} of {counted(len(arms), 'arm')} not as expected ({metrics})"
        ranges = "is in its range" if len(arms) == 1 else "are in their ranges"
        return f"{counted(len(arms), 'arm')} {ranges} ({metrics})"


def check(study: str, tables: Sequence[StudyTable], ranges: Ranges) -> Checked:
    """Each range against the table of its metric."""
    rows = {table.metric: {row.name: row for row in table.rows} for table in tables}
    found = []
    for arm, metrics in ranges.items():
        for metric, (low, high) in metrics.items():
            row = rows[metric].get(arm)
            mean = row.mean.centre if row is not None and row.mean is not None else None
            found.append(
                Expectation(
                    arm=arm,
                    metric=metric,
                    low=low,
                    high=high,
                    mean=mean,
                    finished=0 if row is None else row.finished,
                    declared=0 if row is None else row.declared,
                    sentence=_sentence(arm, metric, (low, high), row, [*rows[metric]]),
                )
            )
    names = dict.fromkeys(name for table in tables for name in table.order)
    return Checked(
        study=study, found=tuple(found), unexpected=tuple(n for n in names if n not in ranges)
    )


def _sentence(
    arm: str, metric: str, wanted: Range, row: ArmRow | None, known: Sequence[str]
) -> str | None:
    low, high = wanted
    span = f"{_text(low, metric)} to {_text(high, metric)}"
    if row is None:
        hint = did_you_mean(arm, known)
        return f"{arm}: no such arm in the study{f' ({hint})' if hint else ''}"
    some = f"{row.finished} of {counted(row.declared, 'run')}"
    if not row.finished:
        return f"{arm}: {some} finished: not checked"
    if row.mean is None:
        return f"{arm}: no finished run has {metric}: not checked ({some} finished)"
    mean = row.mean.centre
    if low <= mean <= high:
        return None
    side = "below" if mean < low else "above"
    return f"{arm}: {metric} {_text(mean, metric)} is {side} {span} (the mean of {some})"


def _text(value: float, metric: str) -> str:
    return f"{value:.1%}" if metric in RATES else f"{value:.5g}"


# ------------------------------------------------------------------------------------------ ranges


def ranges_of(tables: Sequence[StudyTable]) -> tuple[dict[str, dict[str, Range]], list[str]]:
    """The ranges of the arms that have two runs or more, and what there is to say of the others."""
    ranges: dict[str, dict[str, Range]] = {name: {} for name in tables[0].order}
    without = []
    for table in tables:
        for row in table.rows:
            values = list(row.values.values())
            if len(values) < 2:
                some = counted(len(values), "finished run")
                without.append(f"{row.name}: {some} of {table.metric}: a range takes two")
            else:
                ranges[row.name][table.metric] = expected_range(values, table.metric in RATES)
    return {name: some for name, some in ranges.items() if some}, without


def expected_range(values: Sequence[float], rate: bool) -> Range:
    """Where the mean of as many further runs is, 95 times in 100 if nothing has changed.

    The t-interval of the mean is widened by √2, since the mean of the further runs varies as
    much as this one: m ± t·s·√(1/n + 1/n) (the prediction interval of a mean, Hahn 1970). Of a rate
    it is at least Gaffke's interval of the mean, and within 0 to 1. Runs of another metric that
    do not differ have their value alone. Rounded outward to six digits.
    """
    mean, sd = mean_sd(values)
    n = len(values)
    half = t_quantile(RULES.confidence, n - 1) * sd * sqrt(2 / n) if sd else 0.0
    low, high = mean - half, mean + half
    if rate and all(0 <= value <= 1 for value in values):
        sure = gaffke(values)
        low, high = max(0.0, min(low, sure.low)), min(1.0, max(high, sure.high))
    return _down(low), -_down(-high)


def _down(value: float) -> float:
    """Rounded to six digits, downward."""
    from decimal import ROUND_FLOOR, Context

    return float(Context(prec=DIGITS, rounding=ROUND_FLOOR).create_decimal(value))


# -------------------------------------------------------------------------------------------- file


def load(path: str | os.PathLike[str]) -> dict[str, dict[str, Range]]:
    """The ranges of a file. Raises ConfigError naming the field that is wrong."""
    from qn_tracking.files import load as read
    from qn_tracking.yaml_core import parse

    name = os.fspath(path)
    try:
        text = read(name, error=ConfigError)[0].decode("utf-8-sig")
    except FileNotFoundError:
        hint = "--update writes it from the study"
        raise ConfigError("no such file", file=name, hint=hint) from None
    except UnicodeDecodeError:
        raise ConfigError("not UTF-8", file=name) from None
    data = parse(text, name)
    if not isinstance(data, dict) or not isinstance(data.get("arms"), dict) or not data["arms"]:
        raise ConfigError("expected ranges of arms, by name", file=name, field="arms")
    for key in data:
        if key not in ("study", "arms"):
            raise ConfigError("is not known here", file=name, field=str(key), hint="study, arms")
    ranges: dict[str, dict[str, Range]] = {}
    for arm, metrics in data["arms"].items():
        if not isinstance(metrics, dict) or not metrics:
            raise ConfigError("expected METRIC: [LOW, HIGH]", file=name, field=f"arms.{arm}")
        ranges[str(arm)] = {
            str(metric): _range(value, name, f"arms.{arm}.{metric}")
            for metric, value in metrics.items()
        }
    return ranges


def _range(value: Any, file: str, field: str) -> Range:
    numbers = value if isinstance(value, list) else []
    good = len(numbers) == 2 and all(type(n) in (int, float) and isfinite(n) for n in numbers)
    if not good or numbers[0] > numbers[1]:
        shown = short(repr(value), 40)
        raise ConfigError(f"expected [LOW, HIGH], got {shown}", file=file, field=field)
    return float(numbers[0]), float(numbers[1])


def save(path: str | os.PathLike[str], study: str, ranges: Ranges) -> None:
    """Writes ranges into a file, in place of the one that is there.

    Raises UsageError for none, or a path that is no file; StorageError.
    """
    from qn_tracking.store.transfer import check_output
    from qn_tracking.store.write import published

    quoted = partial(json.dumps, ensure_ascii=False)
    name = os.fspath(path)
    if not ranges:
        raise UsageError("no arm has two finished runs: no ranges to write", file=study)
    check_output(name, replace=True)
    lines = [f"study: {quoted(study)}", "arms:"]
    for arm, metrics in ranges.items():
        lines.append(f"  {quoted(arm)}:")
        lines += [f"    {quoted(m)}: [{low!r}, {high!r}]" for m, (low, high) in metrics.items()]
    with published(name, replace=True) as stream:
        stream.write((HEAD + "\n".join(lines) + "\n").encode())
