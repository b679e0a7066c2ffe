"""What commands print of a study: its arms as a table, and what may be concluded."""

from __future__ import annotations

import sys

from qn_tracking.cli.options import positive, share
from qn_tracking.cli.output import (
    interval_text,
    metric_text,
    print_plain,
    print_table,
    print_wrapped,
    unicode_out,
)
from qn_tracking.errors import printable
from qn_tracking.render.table import Column
from qn_tracking.render.text import means, sparkline, width
from qn_tracking.store.fields import NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator, Sequence
    from typing import Any

    from qn_tracking.api.arms import Arms
    from qn_tracking.inference.bands import Estimate
    from qn_tracking.studies.arms import ArmRow, StudyComparison, StudyTable

FORMATS = ("text", "markdown", "latex", "csv", "json")
SPARK = 12
LONGEST = 40
"""Characters of the name of an arm that a narrow terminal shows."""
SENTENCES = 4
"""Of more comparisons than this those without a verdict are counted, all but the first ones."""
ENDINGS = 4
"""At most so many ways to end have a column in a text."""


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of commands that print a study."""
    group = parser.add_argument_group("studies")
    group.add_argument(
        "--metric",
        action="append",
        default=[],
        metavar="NAME",
        help="compare by this metric instead of the declared one; given again: a column more",
    )
    group.add_argument(
        "--baseline", metavar="ARM", help="compare the other arms of the study with this one"
    )
    group.add_argument(
        "--correction",
        choices=("holm", "fdr_bh"),
        default="holm",
        help="for several comparisons: Holm (default) or Benjamini-Hochberg",
    )
    window = group.add_mutually_exclusive_group()
    window.add_argument(
        "--last",
        type=positive,
        metavar="N",
        help="the last N episodes of a run are the final ones (default: as the protocol says)",
    )
    window.add_argument("--tail", type=share, metavar="R", help="so is this share of its episodes")
    group.add_argument("--format", choices=FORMATS, default="text", help="the format of the table")


def options_given(args: Namespace) -> list[str]:
    """Those of `add_options` that were given."""
    given = {
        "--metric": args.metric,
        "--baseline": args.baseline,
        "--correction": args.correction != "holm",
        "--last": args.last is not None,
        "--tail": args.tail is not None,
        "--format": args.format != "text",
    }
    return [name for name, value in given.items() if value]


EFFECTS = 8
"""Main effects that are printed without --all."""


def shown_by(study: Arms, args: Namespace | None) -> tuple[StudyTable, StudyComparison]:
    """The table and the comparison that the arguments ask for."""
    if args is None:
        table = study.table()
        return table, study.concluded(table)
    table = study.table(*args.metric[:1], last=args.last, tail=args.tail)
    correction = "benjamini-hochberg" if args.correction == "fdr_bh" else "holm"
    return table, study.concluded(table, baseline=args.baseline, correction=correction)  # type: ignore[arg-type]


def print_study(study: Arms, args: Namespace | None = None) -> None:
    """Prints the table and the sentences, in the format that the arguments say."""
    table, found = shown_by(study, args)
    more = args.metric[1:] if args else []
    form = "text" if args is None else "json" if args.json else args.format
    if form == "json":
        print_plain(plain_study(study, table, found))
    elif form == "csv":
        _csv(table)
    elif form in ("markdown", "latex"):
        (_markdown if form == "markdown" else _latex)(study, table, found, more)
    else:
        _text(study, table, found, more, all_pairs=bool(args and getattr(args, "all", False)))


# --------------------------------------------------------------------------------------------- text


def _text(
    study: Arms,
    table: StudyTable,
    found: StudyComparison,
    more: Sequence[str],
    *,
    all_pairs: bool,
) -> None:
    print_wrapped(_head(study))
    if study.question:
        print_wrapped(printable(study.question))
    labels = study.labels if study.id else {"tags": {}, "notes": []}
    tags = " ".join(f"{key}={value}" for key, value in (study.tags if study.id else {}).items())
    notes = [f"note {one['at'][:10]}: {one['text']}" for one in labels["notes"]]
    for text in ([f"tags: {tags}"] if tags else []) + notes:
        print_wrapped(printable(text))
    columns = _cells(study, table, more, endings=ENDINGS)
    named = max(width(cell) for cell in columns[0].cells)
    titles = [
        Column(
            one.title,
            least=min(named, LONGEST) if not place else 8 if one.drop > 20 else None,
            right=one.right,
            drop=one.drop,
        )
        for place, one in enumerate(columns)
    ]
    print_table(titles, list(zip(*(one.cells for one in columns), strict=True)))
    effects = _effects(study, table, all_pairs=all_pairs)
    for text in (*_remarks(table), *_conclusions(found, all_pairs=all_pairs), *effects):
        print_wrapped(printable(text))


def _remarks(table: StudyTable) -> Iterator[str]:
    """What the columns are, and which runs have not levelled off."""
    from qn_tracking.inference.rules import RULES
    from qn_tracking.studies.comparison import RATES
    from qn_tracking.studies.levels import said

    window = f" (of the last {table.window} episodes of a run)" if table.window else ""
    if table.chosen:
        window = f" ({table.chosen} of a run, chosen)"
    less = ", less is better" if table.lower_is_better else ""
    interval = "95% interval by Gaffke's bound" if table.metric in RATES else "95% t-interval"
    yield f"{table.metric}{window}: mean over runs, {interval}{less}"
    levels = {row.name: row.levels for row in table.rows if row.levels is not None}
    if any(one.level is not None for one in levels.values()):
        timed = any(one.timed for one in levels.values())
        after = f"; TO {RULES.threshold:.0%}: median episodes to reach it" if timed else ""
        yield f"PLATEAU: mean level of the runs that have one, and of how many{after}"
    yield from said(levels)
    yield from (f"note: {note}" for note in table.notes)


def _head(study: Arms) -> str:
    return (" · " if unicode_out() else ", ").join(map(printable, study.headline))


def _conclusions(found: StudyComparison, *, all_pairs: bool = False) -> Iterator[str]:
    from qn_tracking.studies.sentences import decided_by

    for note in found.notes:
        yield f"note: {note}"
    contest = found.contest
    if contest is None:
        if len(found.arms) < 2 and not found.notes:
            yield "one arm: nothing to compare"
        return
    yield decided_by(contest, found.metric, found.arms)
    if all_pairs:
        yield from (f"- {text}" for text in found.all_sentences)
        return
    if len(contest.shown) < len(contest.pairs):
        yield f"those with the best mean, {found.arms[contest.leader]} (--all prints the others):"
    decided = sum(pair.winner is not None for pair, _ in found.shown)
    shown = found.sentences[: max(SENTENCES, decided + 1)] if len(found.shown) > SENTENCES else (
        found.sentences
    )  # fmt: skip
    yield from (f"- {text}" for text in shown)
    if len(shown) < len(found.sentences):
        yield f"- and {len(found.sentences) - len(shown)} more, not decided (--all prints them)"


def _effects(study: Arms, table: StudyTable, *, all_pairs: bool) -> Iterator[str]:
    """The main effects of a grid, in words."""
    from qn_tracking.studies.comparison import RATES

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


class _Cells:
    """A column: its title, its cells, and when a narrow terminal leaves it out."""

    def __init__(self, title: str, cells: list[str], *, drop: int = 0, right: bool = True) -> None:
        self.title = printable(title)
        self.cells = list(map(printable, cells))
        self.drop = drop
        self.right = right


def _cells(
    study: Arms, table: StudyTable, more: Sequence[str], *, endings: int, whole: bool = False
) -> list[_Cells]:
    """The columns; with `whole` other metrics have their intervals, too."""
    from qn_tracking.inference.rules import RULES
    from qn_tracking.render.text import duration

    metric, rows = table.metric, table.rows
    others = [name for name in more if name != metric]
    implied = metric != "success_rate" and "success_rate" not in others
    if implied and any("success_rate" in row.means for row in rows):
        others.append("success_rate")

    def named(row: ArmRow) -> str:
        return row.name + (" *" if row.name == study.baseline else "")

    def runs(row: ArmRow) -> str:
        return f"{row.finished}" + (f"/{row.declared}" if row.finished < row.declared else "")

    def other(row: ArmRow, name: str) -> str:
        one = row.means.get(name)
        return _estimate(one, name) if whole else _centre(one, name)

    columns = [
        _Cells("ARM", [named(row) for row in rows], right=False),
        _Cells("RUNS", [runs(row) for row in rows]),
        _Cells(_title(metric), [_estimate(row.mean, metric) for row in rows]),
        _Cells("IQM", [_centre(row.iqm, metric) for row in rows], drop=5),
    ]
    for place, name in enumerate(others):
        columns.append(_Cells(_title(name), [other(row, name) for row in rows], drop=6 + place))
    if any(row.reached is not None for row in rows):
        cells = ["" if row.reached is None else f"{row.reached}/{row.finished}" for row in rows]
        columns.append(_Cells(f"{RULES.threshold:.0%}+", cells, drop=4))
    columns.append(_Cells(f"TO {RULES.threshold:.0%}", [_time(row) for row in rows], drop=15))
    columns.append(_Cells("PLATEAU", [_plateau(row) for row in rows], drop=3))
    for place, name in enumerate(table.endings[:endings]):
        cells = [f"{row.endings.get(name, 0):.0%}" if row.endings else "" for row in rows]
        columns.append(_Cells(name.upper(), cells, drop=22 + place))
    costs = [row.means.get("wall_seconds") for row in rows]
    cells = ["" if one is None else duration(one.centre) for one in costs]
    columns.append(_Cells("TIME", cells, drop=18))
    columns.append(_Cells("CURVE", [_curve(row) for row in rows], drop=2, right=False))
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


def _curve(row: ArmRow) -> str:
    low, high = (0.0, 1.0) if row.curve_of == "success_rate" else (None, None)
    points = means(row.curve, SPARK)
    return sparkline(points, low, high, unicode=unicode_out()) if len(points) > 1 else ""


# ----------------------------------------------------------------------------------- other formats


def _markdown(study: Arms, table: StudyTable, found: StudyComparison, more: Sequence[str]) -> None:
    columns = _cells(study, table, more, endings=len(table.endings), whole=True)
    print(f"**{cell(_head(study))}**\n")
    if study.question:
        print(cell(printable(study.question)) + "\n")
    print(line(cell(one.title.lower().replace("_", " ")) for one in columns))
    print(line("---:" if one.right else "---" for one in columns))
    for cells in zip(*(one.cells for one in columns), strict=True):
        print(line(map(cell, cells)))
    print()
    for said in (*_remarks(table), *_conclusions(found)):
        text = cell(printable(said.removeprefix("- ")))
        print(f"- {text}" if said.startswith("- ") else f"{text}\n")


def _latex(study: Arms, table: StudyTable, found: StudyComparison, more: Sequence[str]) -> None:
    """A table for the package booktabs; what else is said is in comments above it."""
    columns = _cells(study, table, more, endings=len(table.endings), whole=True)
    columns = [one for one in columns if one.title != "CURVE"]
    for text in (_head(study), *_remarks(table), *_conclusions(found)):
        print(f"% {printable(text)}")
    print("\\begin{tabular}{" + "".join("r" if one.right else "l" for one in columns) + "}")
    titles = [_tex(one.title.lower().replace("_", " ")) for one in columns]
    print(f"\\toprule\n{' & '.join(titles)} \\\\\n\\midrule")
    for cells in zip(*(one.cells for one in columns), strict=True):
        print(" & ".join(map(_tex, cells)) + " \\\\")
    print("\\bottomrule\n\\end{tabular}")


_TEX = {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"}


def _tex(text: str) -> str:
    """Text that LaTeX takes as it is."""
    return "".join(_TEX.get(char) or (f"\\{char}" if char in "&%$#_{}" else char) for char in text)


def cell(text: str) -> str:
    """Text that Markdown takes as it is."""
    for char in "\\|*_<[`":
        text = text.replace(char, f"\\{char}")
    return text


def line(cells: Any) -> str:
    """A row of a table in Markdown."""
    return "| " + " | ".join(cells) + " |"


def _csv(table: StudyTable) -> None:
    import csv

    names = sorted({name for row in table.rows for name in row.means if name != table.metric})
    ends = [f"ended_{name}" for name in table.endings]
    learned = ["reached", "episodes_to_threshold", "plateau", "plateau_runs"]
    head = ["arm", "runs", "declared", table.metric, "low", "high", "iqm", *learned, *names, *ends]
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(head)
    for row in table.rows:
        mean, iqm = row.mean, row.iqm
        bounds = (None, None, None) if mean is None else (mean.centre, mean.low, mean.high)
        # As `qn-exp export`: what a spreadsheet would read as a formula is text.
        name = f"'{row.name}" if row.name[:1] in "=+-@\t\r" else row.name
        others = [one.centre if (one := row.means.get(n)) else None for n in names]
        shares = [row.endings.get(n, 0) if row.endings else None for n in table.endings]
        centre = iqm.centre if iqm else None
        levels = row.levels
        level = None if levels is None or levels.level is None else levels.level.centre
        count = None if levels is None else levels.counts.get("reached", 0)
        after = None if levels is None else levels.to_threshold
        kept = [row.reached, after, level, count]
        out.writerow([name, row.finished, row.declared, *bounds, centre, *kept, *others, *shares])


def plain_study(study: Arms, table: StudyTable, found: StudyComparison) -> dict[str, Any]:
    from attrs import evolve

    from qn_tracking.records.codec import plain

    about = ("name", "question", "declared", "baseline", "metric", "test")
    contest = found.contest
    places = {(pair.first, pair.second) for pair, _ in found.shown}
    comparisons = [] if contest is None else [
        {
            **plain(pair),
            "first": found.arms[pair.first],
            "second": found.arms[pair.second],
            "winner": None if pair.winner is None else found.arms[pair.winner],
            "shown": (pair.first, pair.second) in places,
            "needed": needed,
            "sentence": sentence,
        }
        for pair, needed, sentence in zip(
            contest.pairs, found.needed, found.all_sentences, strict=True
        )
    ]  # fmt: skip
    return {
        "study": study.id,
        **{name: getattr(study, name) for name in about},
        **study.design_numbers,
        "finished": sum(row.finished for row in table.rows),
        "compared": {
            "metric": table.metric,
            "lower_is_better": table.lower_is_better,
            "window": table.chosen,
        },
        "arms": [
            plain(evolve(row, values={str(seed): v for seed, v in row.values.items()}))  # type: ignore[misc]
            for row in table.rows
        ],
        "correction": None if contest is None else contest.correction,
        "comparisons": comparisons,
        "effects": [plain(one) for one in study.effects(table)],
        "notes": [*table.notes, *found.notes],
    }
