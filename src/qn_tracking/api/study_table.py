"""The arms of a study in words: the columns of their table, and what they show in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qn_tracking.api.arms import Arms
from qn_tracking.errors import printable
from qn_tracking.inference.bands import Estimate
from qn_tracking.inference.rules import RULES
from qn_tracking.render.text import counted, duration, means, sparkline
from qn_tracking.store.fields import NAMES
from qn_tracking.studies.arms import ArmRow, StudyComparison, StudyTable
from qn_tracking.studies.comparison import RATES, interval_text, metric_text
from qn_tracking.studies.levels import said
from qn_tracking.studies.sentences import decided_by, explained

SPARK = 12
SENTENCES = 4
"""Of more comparisons than this those without a verdict are counted, all but the first ones."""
EFFECTS = 8
"""Main effects that are said, unless all are."""


class Cells:
    """A column: its title, its cells, and when a narrow terminal leaves it out."""

    def __init__(self, title: str, cells: list[str], *, drop: int = 0, right: bool = True) -> None:
        self.title = printable(title)
        self.cells = list(map(printable, cells))
        self.drop = drop
        self.right = right


def columns_of(
    table: StudyTable,
    baseline: str | None,
    more: Sequence[str] = (),
    *,
    endings: int | None = None,
    whole: bool = False,
    unicode: bool = True,
) -> list[Cells]:
    """The columns, of `more` metrics as well; with `whole` these have their intervals, too.

    At most so many `endings` have a column.
    """
    metric, rows = table.metric, table.rows
    others = [name for name in more if name != metric]
    implied = metric != "success_rate" and "success_rate" not in others
    if implied and any("success_rate" in row.means for row in rows):
        others.append("success_rate")

    def named(row: ArmRow) -> str:
        return row.name + (" *" if row.name == baseline else " +" if row.added else "")

    def runs(row: ArmRow) -> str:
        return f"{row.finished}" + (f"/{row.declared}" if row.finished < row.declared else "")

    def other(row: ArmRow, name: str) -> str:
        one = row.means.get(name)
        return _estimate(one, name) if whole else _centre(one, name)

    columns = [
        Cells("ARM", [named(row) for row in rows], right=False),
        Cells("RUNS", [runs(row) for row in rows]),
        Cells(_title(metric), [_estimate(row.mean, metric) for row in rows]),
        Cells("IQM", [_centre(row.iqm, metric) for row in rows], drop=5),
    ]
    for place, name in enumerate(others):
        columns.append(Cells(_title(name), [other(row, name) for row in rows], drop=6 + place))
    if any(row.reached is not None for row in rows):
        cells = ["" if row.reached is None else f"{row.reached}/{row.finished}" for row in rows]
        columns.append(Cells(f"{RULES.threshold:.0%}+", cells, drop=4))
    columns.append(Cells(f"TO {RULES.threshold:.0%}", [_time(row) for row in rows], drop=15))
    columns.append(Cells("PLATEAU", [_plateau(row) for row in rows], drop=3))
    for place, name in enumerate(table.endings[:endings]):
        cells = [f"{row.endings.get(name, 0):.0%}" if row.endings else "" for row in rows]
        columns.append(Cells(name.upper(), cells, drop=22 + place))
    costs = [row.means.get("wall_seconds") for row in rows]
    cells = ["" if one is None else duration(one.centre) for one in costs]
    columns.append(Cells("TIME", cells, drop=18))
    columns.append(Cells("CURVE", [_curve(row, unicode) for row in rows], drop=2, right=False))
    return [one for one in columns if not one.drop or any(one.cells)]


def _time(row: ArmRow) -> str:
    """Median episodes to the threshold; `-` where less than half of the runs reached it."""
    levels = row.levels
    if levels is None or not levels.timed:
        return ""
    return "-" if levels.to_threshold is None else f"{levels.to_threshold:.0f}"


def _plateau(row: ArmRow) -> str:
    """The level, and of how many of the runs: the others are not in it."""
    levels = row.levels
    if levels is None or not levels.counts.keys() - {"not assessed"}:
        return ""
    reached = f"({levels.counts.get('reached', 0)}/{levels.runs})"
    if levels.level is None:
        return f"- {reached}"
    return f"{metric_text(levels.level.centre, _rate(levels.of))} {reached}"


def _rate(name: str) -> str:
    return "success_rate" if name == "success" else name


def _title(metric: str) -> str:
    field = NAMES.get(metric)
    return field.title if field else metric.upper()


def _estimate(one: Estimate | None, metric: str) -> str:
    if one is None:
        return ""
    return metric_text(one.centre, metric) + interval_text(one.low, one.high, metric)


def _centre(one: Estimate | None, metric: str) -> str:
    return "" if one is None else metric_text(one.centre, metric)


def _curve(row: ArmRow, unicode: bool) -> str:
    low, high = (0.0, 1.0) if row.curve_of == "success_rate" else (None, None)
    points = means(row.curve, SPARK)
    return sparkline(points, low, high, unicode=unicode) if len(points) > 1 else ""


def remarks(table: StudyTable, *, lower: bool = False) -> Iterator[str]:
    """What the columns are, and which runs have not levelled off; `lower`: as the titles are."""
    window = f" (of the last {counted(table.window, 'episode')} of a run)" if table.window else ""
    if table.chosen:
        window = f" ({table.chosen} of a run, chosen)"
    less = ", less is better" if table.lower_is_better else ""
    interval = "95% interval by Gaffke's bound" if table.metric in RATES else "95% t-interval"
    yield f"{table.metric}{window}: mean over runs, {interval}{less}"
    levels = {row.name: row.levels for row in table.rows if row.levels is not None}
    columns: list[tuple[str, str]] = []
    of = {one.of for one in levels.values() if one.level is not None}
    if of:
        least = f" at {RULES.threshold:.0%} or more" if "success" in of else ""
        columns.append(("PLATEAU", f"mean of the runs that level off{least}, and how many do"))
    if any(one.timed for one in levels.values()):
        why = f"- if most were not {RULES.threshold_window} before their end"
        text = f"median episodes until runs have reached and keep it, {why}"
        columns.append((f"TO {RULES.threshold:.0%}", text))
    if columns:
        yield "; ".join(f"{name.lower() if lower else name}: {text}" for name, text in columns)
    yield from said(levels)
    yield from (f"note: {note}" for note in table.notes)


def conclusions(found: StudyComparison, *, all_pairs: bool = False) -> Iterator[str]:
    """What may be concluded, and by which test; a comparison begins with a dash."""
    for note in found.notes:
        yield f"note: {note}"
    contest = found.contest
    if contest is None:
        if len(found.arms) < 2 and not found.notes:
            yield "one arm: nothing to compare"
        return
    yield decided_by(contest, found.metric, found.arms)
    why = explained(contest.pairs if all_pairs else contest.shown)
    if why is not None:
        yield f"({why})"
    if all_pairs:
        yield from (f"- {text}" for text in found.all_sentences)
        return
    if len(contest.shown) < len(contest.decisions):
        yield f"those with {found.arms[contest.leader]}, the best mean (--all prints the others):"
    decided = sum(pair.winner is not None for pair, _ in found.shown)
    shown = found.sentences[: max(SENTENCES, decided + 1)] if len(found.shown) > SENTENCES else (
        found.sentences
    )  # fmt: skip
    yield from (f"- {text}" for text in shown)
    if len(shown) < len(found.sentences):
        yield f"- and {len(found.sentences) - len(shown)} more, not decided (--all prints them)"


def conventional(table: StudyTable, found: StudyComparison) -> Iterator[str]:
    """What a reviewer may ask for, and what decides nothing: other tests, the IQM's bootstrap."""
    from qn_tracking.inference.interval import bootstrap
    from qn_tracking.studies.sentences import other_tests

    pairs = [] if found.contest is None else found.contest.pairs
    lines = [text for pair in pairs if (text := other_tests(pair, found.arms)) is not None]
    if lines:
        yield "conventional, for comparison with other papers; each p stands alone, none decides:"
        yield from (f"- {text}" for text in lines)
    arms = {row.name: bootstrap(list(row.values.values())) for row in table.rows if row.values}
    shown = {name: one for name, one in arms.items() if one is not None}
    if shown:
        yield "IQM with its percentile bootstrap, conventional (too narrow for few runs):"
    for name, one in shown.items():
        span = interval_text(one.low, one.high, table.metric)
        yield f"- {name}: {metric_text(one.value, table.metric)}{span}"


def effects(study: Arms, table: StudyTable, *, all_pairs: bool = False) -> Iterator[str]:
    """The main effects of swept factors, one in a line."""
    found = study.effects(table)
    if not found:
        return
    rate = table.metric in RATES
    yield f"main effects, each over all other factors, seed by seed ({found[0].seeds}); no verdict:"
    shown = found if all_pairs else found[:EFFECTS]
    for one in shown:
        scale, unit = (100, " points") if rate else (1, "")
        text = f"- {one.factor} {one.level} against {one.against}: {scale * one.delta:+.3g}{unit}"
        if one.low is not None and one.high is not None:
            text += f" [{scale * one.low:.3g}, {scale * one.high:.3g}]"
        yield text
    if len(shown) < len(found):
        yield f"- and {len(found) - len(shown)} more (--all prints them)"
