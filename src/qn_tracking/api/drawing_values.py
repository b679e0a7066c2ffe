"""Pictures of one value for each run: how they are spread, and how often one is above another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median

from qn_tracking.api.drawing_parts import (
    Drawing,
    captioned,
    clipped,
    coinciding,
    heading,
    of_runs,
    range_of,
    reasons,
    shown,
    sizes_of,
    with_counts,
)
from qn_tracking.api.picture import Picture
from qn_tracking.errors import UsageError, printable
from qn_tracking.inference import bands
from qn_tracking.inference.sample import mean_sd
from qn_tracking.inference.superiority import improvement
from qn_tracking.records.model import EMPTY
from qn_tracking.render import picture
from qn_tracking.render.picture import Line, Row, Words
from qn_tracking.render.picture_parts import distinct
from qn_tracking.studies.comparison import letters

POINTS = 200
"""Of a profile."""
PAIRS = 10
"""Of more groups than this not every pair is shown."""
SHORT_NAME = 18
"""Characters of a name that a pair of names has space for; longer ones get letters."""
KINDS_OF_ENDING = 6
"""The most frequent ones; the others are one."""


def draw_final(drawing: Drawing) -> Picture:
    found = drawing.values()
    metric, percent = drawing.metric, drawing.percent
    names = with_counts([(name, len(values)) for name, values in found])
    rows, table, every = [], [], []
    for name, (_, values) in zip(names, found, strict=True):
        one = drawing.estimate(values)
        every.append(one)
        low, high = clipped(one.low, percent), clipped(one.high, percent)
        points = values if len(values) > 1 else []
        rows.append(Row(name=name, value=one.centre, low=low, high=high, points=points))
        interval = range_of(low, high, percent)
        table.append([name, str(one.n), shown(one.centre, percent), interval])
    sizes = [len(values) for _, values in found]
    caption = [
        f"dot: {of_runs(sizes, drawing.how.statistic).lower()}; {drawing.interval(every, 'line')}",
        "ticks: single runs" if max(sizes) > 1 else "",
    ]
    words = drawing.words(drawing.title(heading(metric)), caption, x=metric, percent=percent)
    spec = picture.rows(rows, words, dark=drawing.how.dark)
    titles = ["group", "runs", drawing.how.statistic, "95% interval"]
    return drawing.picture(spec, titles, table, percent=percent)


def draw_profile(drawing: Drawing) -> Picture:
    """Which share of the runs of a group is above a value."""
    found = drawing.values()
    metric, percent = drawing.metric, drawing.percent
    title = drawing.title(f"Performance profile of {metric}")
    return profile_of(
        found, metric, title, percent, dark=drawing.how.dark, left_out=drawing.left_out
    )


def profile_of(
    found: Sequence[tuple[str, list[float]]],
    metric: str,
    title: str,
    percent: bool,
    *,
    dark: bool = False,
    left_out: Mapping[str, str] = EMPTY,
) -> Picture:
    """The same of values by name."""
    names = with_counts([(name, len(values)) for name, values in found])
    known = sorted({value for _, values in found for value in values})
    if len(known) > POINTS:
        known = [known[i * (len(known) - 1) // (POINTS - 1)] for i in range(POINTS)]
    margin = (known[-1] - known[0]) / 50 or abs(known[0]) / 50 or 0.5
    ends = (0.0, 1.0) if percent else (known[0] - margin, known[-1] + margin)
    places = sorted({*known, *ends})
    even = [ends[0] + (ends[1] - ends[0]) * i / 60 for i in range(61)]
    sizes = [len(values) for _, values in found]
    lines, table, curves = [], [], []
    for name, (_, values) in zip(names, found, strict=True):
        shares = bands.profile(values, places)
        y: list[float | None] = [one.share for one in shares]
        band = len(values) > 1
        low = [one.low for one in shares] if band else []
        high = [one.high for one in shares] if band else []
        lines.append(Line(name=name, x=places, y=y, low=low, high=high))
        curves.append((name, [one.share for one in bands.profile(values, even)]))
        table.append([name, str(len(values)), shown(median(values), percent)])
    words = Words(
        title=title,
        caption=captioned(
            [
                f"share of the runs that are above a value; {sizes_of(sizes)}",
                "band: Wilson's 95% interval over runs, pointwise"
                if max(sizes) > 1
                else "no interval: it takes several runs",
                coinciding(lines),
            ],
            left_out,
        ),
        x=metric,
        y="share of runs above",
        percent=True,
        percent_x=percent,
    )
    spec = picture.lines(lines, words, dark=dark, steps=True)
    titles = ["group", "runs", "median"]
    return Picture(spec, titles, table, curves=curves, percent=True, left_out=dict(left_out))


def draw_improvement(drawing: Drawing) -> Picture:
    found = drawing.values()
    metric = drawing.metric
    if len(found) < 2:
        cause = f"one group to compare: all have the same {drawing.how.by}"
        raise UsageError(cause, hint="--by takes another field")
    names = with_counts([(name, len(values)) for name, values in found])
    pairs = [(i, j) for i in range(len(found)) for j in range(i + 1, len(found))]
    key = ""
    short = names
    if len(found) > PAIRS:
        best = max(range(len(found)), key=lambda i: mean_sd(found[i][1])[0])
        pairs = [(best, j) for j in range(len(found)) if j != best]
        short = ["A" if i == best else name for i, name in enumerate(names)]
        key = f"A: {names[best]}, picked for its highest mean, so it looks too good"
    elif max(map(len, names)) > SHORT_NAME:
        short = [letters([i]) for i in range(len(names))]
        key = "; ".join(f"{one}: {name}" for one, name in zip(short, names, strict=True))
    rows, table = [], []
    for i, j in pairs:
        x, y = found[i][1], found[j][1]
        one = improvement(x, y)
        name = f"{short[i]} > {short[j]}"
        rows.append(Row(name=name, value=one.value, low=one.low, high=one.high))
        table.append([name, shown(one.value, True), range_of(one.low, one.high, True)])
    caption = [
        f"how often a run of the first group has a higher {metric} than one of the second"
        " (ties half)",
        f"{sizes_of([len(values) for _, values in found])}; line: Newcombe's 95% interval over"
        " runs",
        key,
    ]
    words = drawing.words(
        drawing.title("Probability of improvement"), caption, x=f"P(higher {metric})", percent=True
    )
    spec = picture.rows(rows, words, dark=drawing.how.dark, middle=0.5)
    return drawing.picture(spec, ["pair", "probability", "95% interval"], table)


def draw_endings(drawing: Drawing) -> Picture:
    found: list[tuple[str, int, Counter[str]]] = []
    for group in drawing.groups:
        counts: Counter[str] = Counter()
        runs = 0
        for doc in group.docs:
            ends = (doc.get("results") or {}).get("terminations") or {}
            if ends:
                counts.update(ends)
                runs += 1
            else:
                drawing.left_out[doc["id"]] = "does not say how its episodes ended"
        if counts:
            found.append((group.name, runs, counts))
    if not found:
        raise UsageError(f"no run to draw: {reasons(drawing.left_out)}")
    whole = sum((counts for _, _, counts in found), Counter())
    kinds = sorted(whole, key=lambda kind: (-whole[kind], kind))
    names = distinct(with_counts([(name, runs) for name, runs, _ in found]))
    shares, table = {}, []
    for name, (_, runs, counts) in zip(names, found, strict=True):
        total = sum(counts.values())
        parts = {kind: counts[kind] / total for kind in kinds[:KINDS_OF_ENDING]}
        if len(kinds) > KINDS_OF_ENDING:
            parts["others"] = sum(counts[kind] for kind in kinds[KINDS_OF_ENDING:]) / total
        shares[name] = parts
        table.append([name, str(runs), f"{total:,}", *(shown(v, True) for v in parts.values())])
    caption = [
        f"how the episodes ended; {sizes_of([runs for _, runs, _ in found])}, all their episodes",
    ]
    words = drawing.words(drawing.title("Endings"), caption, x="share of episodes", percent=True)
    titles = ["group", "runs", "episodes", *map(printable, next(iter(shares.values())))]
    spec = picture.stacked(shares, words, dark=drawing.how.dark)
    return drawing.picture(spec, titles, table)
