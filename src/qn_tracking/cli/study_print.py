"""What commands print of a study: its arms as a table, and what may be concluded."""

from __future__ import annotations

import sys

from qn_tracking.cli.output import (
    interval_text,
    metric_text,
    print_plain,
    print_table,
    print_wrapped,
    unicode_out,
)
from qn_tracking.errors import UsageError, printable
from qn_tracking.render.table import Column
from qn_tracking.render.text import means, sparkline, width
from qn_tracking.store.fields import NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator, Sequence
    from typing import Any

    from qn_tracking.api.arms import Arms, StudyLine
    from qn_tracking.api.experiments import Experiments
    from qn_tracking.inference.bands import Estimate
    from qn_tracking.store.filters import Conditions
    from qn_tracking.studies.arms import ArmRow, StudyComparison, StudyTable

FORMATS = ("text", "markdown", "csv", "json")
SPARK = 12
LONGEST = 40
"""Characters of the name of an arm that a narrow terminal shows."""
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
    group.add_argument("--format", choices=FORMATS, default="text", help="the format of the table")


def options_given(args: Namespace) -> list[str]:
    """Those of `add_options` that were given."""
    given = {
        "--metric": args.metric,
        "--baseline": args.baseline,
        "--correction": args.correction != "holm",
        "--format": args.format != "text",
    }
    return [name for name, value in given.items() if value]


def print_study(study: Arms, args: Namespace | None = None) -> None:
    """Prints the table and the sentences, in the format that the arguments say."""
    names = args.metric if args else []
    table = study.table(*names[:1])
    found = study.concluded(
        table,
        baseline=args.baseline if args else None,
        correction="benjamini-hochberg" if args and args.correction == "fdr_bh" else "holm",
    )
    form = "text" if args is None else "json" if args.json else args.format
    if form == "json":
        print_plain(_plain(study, table, found))
    elif form == "csv":
        _csv(table)
    elif form == "markdown":
        _markdown(study, table, found, names[1:])
    else:
        _text(study, table, found, names[1:], all_pairs=bool(args and getattr(args, "all", False)))


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
    for line in ([f"tags: {tags}"] if tags else []) + notes:
        print_wrapped(printable(line))
    titles, rows = _cells(study, table, more, endings=ENDINGS)
    first = len(titles) - 1 - len(table.endings[:ENDINGS])  # of the columns of endings
    named = max(width(row[0]) for row in rows)
    columns = [Column(titles[0], least=min(named, LONGEST)), Column(titles[1], right=True)]
    for place, title in enumerate(titles[2:-1], 2):
        ends = place >= first
        drop = 0 if place == 2 else place + (20 if ends else 2)
        columns.append(Column(title, right=True, least=8 if ends else None, drop=drop))
    columns.append(Column(titles[-1], drop=2))
    print_table(columns, rows)
    window = f" (of the last {table.window} episodes of a run)" if table.window else ""
    print_wrapped(f"{table.metric}{window}: mean over runs, 95% t-interval")
    for line in _conclusions(found, all_pairs=all_pairs):
        print_wrapped(printable(line))


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
    if len(contest.shown) < len(contest.pairs) and not all_pairs:
        yield f"those with the best mean, {found.arms[contest.leader]} (--all prints the others):"
    yield from (f"- {text}" for text in found.all_sentences if all_pairs)
    yield from (f"- {text}" for text in found.sentences if not all_pairs)


def _cells(
    study: Arms, table: StudyTable, more: Sequence[str], *, endings: int
) -> tuple[list[str], list[list[str]]]:
    """Titles and cells: arm, runs, the metric, its IQM, other metrics, endings, curve."""
    metric = table.metric
    others = [name for name in more if name != metric]
    if metric != "success_rate" and "success_rate" not in others:
        others += ["success_rate"] if any("success_rate" in r.means for r in table.rows) else []
    ends = table.endings[:endings]
    titles = ["ARM", "RUNS", _title(metric), "IQM", *map(_title, others)]
    titles += [name.upper() for name in ends]
    rows = []
    for row in table.rows:
        mark = " *" if row.name == study.baseline else ""
        runs = f"{row.finished}" + (f"/{row.declared}" if row.finished < row.declared else "")
        cells = [printable(row.name) + mark, runs, _estimate(row.mean, metric)]
        cells.append("" if row.iqm is None else metric_text(row.iqm.centre, metric))
        cells += [_centre(row.means.get(name), name) for name in others]
        cells += [f"{row.endings.get(name, 0):.0%}" if row.endings else "" for name in ends]
        rows.append([*cells, _curve(row)])
    return [*map(printable, titles), "CURVE"], rows


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


# ----------------------------------------------------------------------------------------- studies


def print_studies(store: Experiments, args: Namespace, stated: Conditions) -> None:
    """Prints an index of the studies, with what each has shown."""
    if not args.studies:
        raise UsageError("--format needs --studies", hint="qn-exp list --studies --format markdown")
    given = [name for name, value in stated.items() if value not in (None, []) and name != "tag"]
    if given or args.columns or args.sort:
        option = given[0].replace("_", "-") if given else "columns" if args.columns else "sort"
        raise UsageError(f"--{option} is for runs", hint="leave --studies out")
    found = store.studies(tag=stated.get("tag") or ())
    shown = [study.line() for study in found[: args.limit or None]]
    if args.json:
        from attrs import asdict

        print_plain({"experiments_dir": store.folder, "studies": [asdict(one) for one in shown]})
        return
    if args.format == "markdown":
        print(_line(["study", "question", "declared", "arms", "runs", "metric", "what it shows"]))
        print(_line(["---"] * 3 + ["---:"] * 2 + ["---"] * 2))
        for one in shown:
            day = one.created[:10] if one.declared else f"{one.created[:10]}, gathered afterwards"
            cells = [one.name or one.id, one.question or "", day, str(one.arms), _done(one)]
            print(_line(_cell(printable(cell)) for cell in (*cells, one.metric, one.verdict)))
        return
    count = "1 study" if len(found) == 1 else f"{len(found):,} studies"
    print(f"{count} in {printable(store.folder)}")
    columns = [
        Column("STUDY"),
        Column("CREATED (UTC)", drop=3),
        Column("KIND", drop=4),
        Column("ARMS", right=True),
        Column("RUNS", right=True),
        Column("METRIC", drop=2),
        Column("VERDICT", least=20),
    ]
    rows = [
        [
            one.name or one.id,
            one.created[:16].replace("T", " "),
            "declared" if one.declared else "gathered",
            str(one.arms),
            _done(one),
            one.metric,
            one.verdict,
        ]
        for one in shown
    ]
    if rows:
        print_table(columns, [list(map(printable, row)) for row in rows])
    if len(shown) < len(found):
        print("more: --limit N, or 0 for all")


def _done(one: StudyLine) -> str:
    return f"{one.finished}" if one.finished == one.runs else f"{one.finished}/{one.runs}"


# ----------------------------------------------------------------------------------- other formats


def _markdown(study: Arms, table: StudyTable, found: StudyComparison, more: Sequence[str]) -> None:
    titles, rows = _cells(study, table, more, endings=len(table.endings))
    print(f"**{_cell(_head(study))}**\n")
    if study.question:
        print(_cell(printable(study.question)) + "\n")
    print(_line(title.lower().replace("_", " ") for title in titles))
    print(_line("---" if place in (0, len(titles) - 1) else "---:" for place in range(len(titles))))
    for row in rows:
        print(_line(map(_cell, row)))
    print()
    for line in _conclusions(found):
        text = _cell(printable(line.removeprefix("- ")))
        print(f"- {text}" if line.startswith("- ") else f"{text}\n")


def _cell(text: str) -> str:
    """Text that Markdown takes as it is."""
    for char in "\\|*_<[`":
        text = text.replace(char, f"\\{char}")
    return text


def _line(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"


def _csv(table: StudyTable) -> None:
    import csv

    names = sorted({name for row in table.rows for name in row.means if name != table.metric})
    ends = [f"ended_{name}" for name in table.endings]
    head = ["arm", "runs", "declared", table.metric, "low", "high", "iqm", *names, *ends]
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
        out.writerow([name, row.finished, row.declared, *bounds, centre, *others, *shares])


def _plain(study: Arms, table: StudyTable, found: StudyComparison) -> dict[str, Any]:
    from attrs import evolve

    from qn_tracking.records.codec import plain

    about = ("name", "question", "declared", "baseline", "metric", "test")
    contest = found.contest
    comparisons = [] if contest is None else [
        {
            **plain(pair),
            "first": found.arms[pair.first],
            "second": found.arms[pair.second],
            "winner": None if pair.winner is None else found.arms[pair.winner],
            "shown": pair in contest.shown,
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
        "compared": {"metric": table.metric, "lower_is_better": table.lower_is_better},
        "arms": [
            plain(evolve(row, values={str(seed): v for seed, v in row.values.items()}))  # type: ignore[misc]
            for row in table.rows
        ],
        "correction": None if contest is None else contest.correction,
        "comparisons": comparisons,
        "notes": list(found.notes),
    }
