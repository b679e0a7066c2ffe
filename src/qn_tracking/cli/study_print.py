"""What commands print of a study: its arms as a table, and what may be concluded."""

from __future__ import annotations

import sys

from qn_tracking.cli.options import positive, share
from qn_tracking.cli.output import (
    print_plain,
    print_table,
    print_wrapped,
    unicode_out,
)
from qn_tracking.cli.parser import many, valued
from qn_tracking.errors import UsageError, did_you_mean, printable
from qn_tracking.render.table import Column
from qn_tracking.render.text import width

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence
    from typing import Any

    from qn_tracking.api.arms import Arms
    from qn_tracking.studies.arms import StudyComparison, StudyTable

FORMATS = ("text", "markdown", "latex", "csv", "json")
LONGEST = 40
"""Characters of the name of an arm that a narrow terminal shows."""
ENDINGS = 4
"""At most so many ways to end have a column in a text."""


def add_options(parser: ArgumentParser) -> None:
    """Adds the options of commands that print a study."""
    group = parser.add_argument_group("studies")
    many(
        group,
        "--metric",
        "NAME",
        "compare by this metric instead of the declared one; given again: a column more",
    )
    valued(group, "--baseline", "ARM", "compare the other arms of the study with this one")
    group.add_argument(
        "--correction",
        choices=("holm", "fdr_bh"),
        default="holm",
        help="for several comparisons: Holm (default) or Benjamini-Hochberg",
    )
    window = group.add_mutually_exclusive_group()
    valued(
        window,
        "--last",
        "N",
        "the last N episodes of a run are the final ones (default: as the protocol says)",
        type=positive,
    )
    valued(window, "--tail", "R", "so is this share of its episodes", type=share)
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


def shown_by(study: Arms, args: Namespace | None) -> tuple[StudyTable, StudyComparison]:
    """The table and the comparison that the arguments ask for."""
    if args is None:
        table = study.table()
        return table, study.concluded(table)
    table = study.table(*args.metric[:1], last=args.last, tail=args.tail)
    _check_metrics(table, args.metric)
    correction = "benjamini-hochberg" if args.correction == "fdr_bh" else "holm"
    return table, study.concluded(table, baseline=args.baseline, correction=correction)  # type: ignore[arg-type]


def _check_metrics(table: StudyTable, asked: Sequence[str]) -> None:
    """Raises UsageError for a metric that was asked for and that no finished run has."""
    known = {name: None for row in table.rows for name in row.means}
    for name in asked:
        if known and name not in known:
            hint = did_you_mean(name, known) or f"known: {', '.join(known)}"
            raise UsageError(f"no finished run has {name!r}", file="--metric", hint=hint)


def print_study(study: Arms, args: Namespace | None = None) -> None:
    """Prints the table and the sentences, in the format that the arguments say."""
    table, found = shown_by(study, args)
    more = args.metric[1:] if args else []
    form = "text" if args is None else "json" if args.json else args.format
    every = bool(args and getattr(args, "all", False))
    if form == "json":
        print_plain(plain_study(study, table, found))
    elif form == "csv":
        _csv(table)
    elif form in ("markdown", "latex"):
        written = _markdown if form == "markdown" else _latex
        written(study, table, more, _said(study, table, found, all_pairs=every, lower=True))
    else:
        _text(study, table, more, _said(study, table, found, all_pairs=every))
        if args is not None and study.state(table) == "not finished":
            print_wrapped(f"go on with: qn-run --resume {printable(study.name or study.id)}")


def _said(
    study: Arms,
    table: StudyTable,
    found: StudyComparison,
    *,
    all_pairs: bool,
    lower: bool = False,
) -> tuple[str, ...]:
    """What is said below the table; a sentence of a list begins with a dash."""
    from qn_tracking.api.study_table import conclusions, conventional, effects, remarks

    return (
        *remarks(table, lower=lower),
        *conclusions(found, all_pairs=all_pairs),
        *effects(study, table, all_pairs=all_pairs),
        *(conventional(table, found) if all_pairs else ()),
    )


# --------------------------------------------------------------------------------------------- text


def _text(study: Arms, table: StudyTable, more: Sequence[str], said: Sequence[str]) -> None:
    from qn_tracking.api.study_table import columns_of

    print_wrapped(_head(study))
    if study.question:
        print_wrapped(printable(study.question))
    labels = study.labels if study.id else {"tags": {}, "notes": []}
    tags = " ".join(f"{key}={value}" for key, value in (study.tags if study.id else {}).items())
    notes = [f"note {one['at'][:10]}: {one['text']}" for one in labels["notes"]]
    for text in ([f"tags: {tags}"] if tags else []) + notes:
        print_wrapped(printable(text))
    columns = columns_of(table, study.baseline, more, endings=ENDINGS, unicode=unicode_out())
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
    for text in said:
        print_wrapped(printable(text))


def _head(study: Arms) -> str:
    return (" · " if unicode_out() else ", ").join(map(printable, study.headline))


# ----------------------------------------------------------------------------------- other formats


def _markdown(study: Arms, table: StudyTable, more: Sequence[str], said: Sequence[str]) -> None:
    from qn_tracking.api.study_table import columns_of

    columns = columns_of(table, study.baseline, more, whole=True, unicode=unicode_out())
    print(f"**{cell(_head(study))}**\n")
    if study.question:
        print(cell(printable(study.question)) + "\n")
    print(line(cell(one.title.lower().replace("_", " ")) for one in columns))
    print(line("---:" if one.right else "---" for one in columns))
    for cells in zip(*(one.cells for one in columns), strict=True):
        print(line(map(cell, cells)))
    listed = False
    for text in said:
        shown = cell(printable(text.removeprefix("- ")))
        before, listed = listed, text.startswith("- ")
        print(f"- {shown}" if before and listed else f"\n- {shown}" if listed else f"\n{shown}")


def _latex(study: Arms, table: StudyTable, more: Sequence[str], said: Sequence[str]) -> None:
    """A table for the package booktabs; what else is said is in comments above it."""
    from qn_tracking.api.study_table import columns_of

    columns = columns_of(table, study.baseline, more, whole=True)
    columns = [one for one in columns if one.title != "CURVE"]
    for text in (_head(study), *said):
        print(f"% {printable(text)}")
    print("\\begin{tabular}{" + "".join("r" if one.right else "l" for one in columns) + "}")
    titles = [_tex(one.title.lower().replace("_", " ")) for one in columns]
    print(f"\\toprule\n{' & '.join(titles)} \\\\\n\\midrule")
    for cells in zip(*(one.cells for one in columns), strict=True):
        row = " & ".join(map(_tex, cells))
        # At the begin of a row LaTeX would take these for an argument of the row before.
        print(("{}" if row[:1] in "[*" else "") + row + " \\\\")
    print("\\bottomrule\n\\end{tabular}")


_TEX = {
    "\\": "\\textbackslash{}",
    "~": "\\textasciitilde{}",
    "^": "\\textasciicircum{}",
    "|": "\\textbar{}",
    "`": "\\textasciigrave{}",
    "'": "\\textquotesingle{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
}


def _tex(text: str) -> str:
    """Text that LaTeX takes as it is."""
    return "".join(_TEX.get(char) or (f"\\{char}" if char in "&%$#_{}" else char) for char in text)


def cell(text: str) -> str:
    """Text that Markdown takes as it is."""
    for char in "\\|*_<>[`$&~#":
        text = text.replace(char, f"\\{char}")
    return f"\\{text}" if text[:1] in ("-", "+", "=") else text  # a list or a heading, at the begin


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
            plain(
                evolve(
                    row,
                    values={str(seed): value for seed, value in row.values.items()},  # type: ignore[misc]
                    episodes={str(number): runs for number, runs in row.episodes.items()},  # type: ignore[misc]
                )
            )
            for row in table.rows
        ],
        "correction": None if contest is None else contest.correction,
        "comparisons": comparisons,
        "effects": [plain(one) for one in study.effects(table)],
        "notes": [*table.notes, *found.notes],
    }
