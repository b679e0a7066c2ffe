"""`qn-exp compare` and `diff`: what differs, and what may be concluded from it."""

from __future__ import annotations

import sys

from qn_tracking.cli.options import add_choice, conditions, experiments
from qn_tracking.cli.output import (
    print_plain,
    print_table,
    print_wrapped,
    unicode_out,
    warn,
)
from qn_tracking.cli.parser import Parser, flag, valued
from qn_tracking.cli.study_print import add_options, options_given
from qn_tracking.errors import UsageError, printable
from qn_tracking.studies.comparison import interval_text, metric_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Mapping, Sequence
    from typing import Any

    from qn_tracking.api.reports import RunComparison
    from qn_tracking.studies.comparison import Difference
    from qn_tracking.studies.groups import GroupComparison, Pair, Sample

    Sections = Mapping[str, tuple[Difference, ...]]

LONGEST = 60
"""Characters of a cell, where no terminal asks for fewer."""

COMPARE = """Two single runs support no conclusion about their configurations, however many episodes
they have, because runs of the same configuration differ too. Compare groups of runs instead.

examples:
  qn-exp compare @1 @2                             every difference between two runs
  qn-exp compare --by config --tag sweep=gamma     is one configuration better?
  qn-exp compare --by config --last 100 --format markdown
  qn-exp compare lr                                the arms of the study lr, as qn-exp show lr

--by takes {}, or any stored field.
"""


DIFF = """examples:
  qn-exp diff @2 @1                                the texts of their configurations
  qn-exp diff @2 @1 --resolved                     what ran, with overrides
  qn-exp diff @2 @1 --code --stat                  the files of code that differ
"""


def arguments(parser: Parser, command: str) -> None:
    if command == "compare":
        from qn_tracking.store.groups import GROUPS

        parser.epilog = COMPARE.format(", ".join(GROUPS))
        parser.renamed = {"--runs": "--ungrouped"}
        add_choice(parser)
        add_options(parser)
        valued(parser, "--by", "FIELD", "runs with the same value of FIELD form a group")
        valued(parser, "--phase", "NAME", "compare the episodes of a phase, such as evaluation")
        flag(parser, "--ungrouped", "keep every run separate")
        flag(parser, "--all", "also list fields that are the same")
        return
    parser.epilog = DIFF
    valued(parser, "first", "ID", "an id, its beginning, or @1 for the latest")
    valued(parser, "second", "ID", "another one")
    flag(parser, "--resolved", "compare what ran, with overrides applied, instead of the files")
    flag(parser, "--code", "compare the source that ran: commits, uncommitted changes, submodules")
    flag(parser, "--stat", "with --code: the files, no lines")
    flag(parser, "--exit-code", "exit with 1 if they differ (default: 0, like git diff)")


def run(args: Namespace) -> int:
    if args.command == "diff":
        return _diff(args)
    from qn_tracking.api.reports import RunComparison

    store = experiments(args)
    alone = len(args.ids) == 1 and args.by is None and not args.ungrouped
    study = store.study(args.ids[0]) if alone else None
    if study is not None and args.phase is not None:
        raise UsageError("--phase needs runs, not a study", hint="give the ids of its runs")
    if study is not None:
        from qn_tracking.cli.study_print import print_study

        print_study(study, args)
        return 0
    found = store.compare(
        args.ids, by=args.by, ungrouped=args.ungrouped, phase=args.phase, **conditions(args)
    )
    if args.phase is not None and not args.json:
        print(f"phase {printable(args.phase)}")
    if isinstance(found, RunComparison):
        for option in options_given(args):
            raise UsageError(f"{option} needs groups", hint="--by FIELD, or the id of a study")
        _runs(args, found)
    else:
        _groups(args, found, store.folder)
    return 0


# -------------------------------------------------------------------------------------- single runs


def _runs(args: Namespace, found: RunComparison) -> None:
    from qn_tracking.studies.comparison import about, letters

    if args.json:
        ids = found.ids
        print_plain(
            {
                "experiments": [about(doc) for doc in found.runs],
                "identical": [[ids[i] for i in places] for places in found.identical],
                "same_outcome": [[ids[i] for i in places] for places in found.same_outcome],
                "packages_by": found.packages_by,
                "changed": found.changed,
                "differences": _plain_sections(found.differences, args.all),
                "metrics": [metric.plain() for metric in found.metrics],
                "better": None,
                "conclusion": found.conclusion,
            }
        )
        return
    _heading([about(doc) for doc in found.runs])
    if found.changed:
        print("\nwhat changed")
        for name, text in found.changed.items():
            print_wrapped(f"  {name:<9} {printable(text)}")
        if found.identical or found.same_outcome:
            print()
    for places in found.identical:
        digest = found.runs[places[0]]["digests"]["exact"]
        print_wrapped(
            f"{letters(places)} are identical, every number of every episode: {digest[:12]}"
        )
    for places in found.same_outcome:
        print_wrapped(
            f"{letters(places)} have the same outcome: they differ in rewards or metrics only"
        )
    if found.packages_by == "digest" and found.differences["packages"]:
        warn("the list of packages is not here for all: only its digest is compared")
    _print_sections(found.differences, len(found.runs), args.all)
    rows = []
    for metric in found.metrics:
        name = metric.name
        cells = [
            ""
            if value is None
            else metric_text(value.value, name) + interval_text(value.low, value.high, name)
            for value in metric.values
        ]
        delta = ""
        if metric.delta is not None:
            delta = metric_text(metric.delta, name, signed=True)
            delta += interval_text(metric.low, metric.high, name, least=-1.0)
        rows.append([printable(name), *cells, delta])
    print_wrapped("\nmetrics (intervals are of these episodes, not of other runs)")
    print_table(_columns("METRIC", len(found.runs), ("B - A", 1)), rows)
    print_wrapped(found.conclusion)


def _heading(abouts: Sequence[dict[str, Any]]) -> None:
    from qn_tracking.studies.comparison import letters

    separator = " · " if unicode_out() else ", "
    for i, about in enumerate(abouts):
        words = [about["config"], about["brain"], about["environment"], about["status"]]
        if about["seed"] is not None:
            words.append(f"seed {about['seed']}")
        if about["origin"]:
            words.append(f"from {about['origin']}")
        text = separator.join(printable(word) for word in words if word)
        print_wrapped(f"{letters([i])}  {about['id']}  {text}")
        for note in about["origin_notes"]:
            print_wrapped(f"   {printable(note)}")


# ------------------------------------------------------------------------------------------- groups


def _groups(args: Namespace, found: GroupComparison, folder: str) -> None:
    from qn_tracking.api.gathered import of_groups
    from qn_tracking.cli.study_print import plain_study, print_study, shown_by
    from qn_tracking.studies.comparison import about

    study = of_groups(found, folder)
    if args.json or args.format == "json":
        plain = plain_study(study, *shown_by(study, args))
        print_plain(
            {
                "by": found.by,
                "groups": [
                    {"name": group.name, "runs": [about(doc) for doc in group.runs]}
                    for group in found.groups
                ],
                "left_out": [{"id": id, "cause": cause} for id, cause in found.left_out],
                "mixed_code": [group.name for group in found.groups if group.mixed_code],
                "differences": _plain_sections(found.differences, args.all),
                "metrics": _plain_summary(found),
                "better": found.better,
                "conclusion": found.conclusion,
                **{name: plain[name] for name in ("compared", "arms", "comparisons", "notes")},
            }
        )
        return
    _warn_left_out(found.left_out)
    for group in found.groups:
        if group.mixed_code:
            warn(f"{group.name}: its runs ran different code")
    print_study(study, args)
    if args.format != "text":
        return
    if not args.all:
        _print_what_differs(found)
        return
    print()
    _print_legend(found)
    _print_everything(args, found)


MOST_IDS = 3
"""Of more runs that are left out for one cause, so many are named."""


def _warn_left_out(left_out: Sequence[tuple[str, str]]) -> None:
    for cause in dict.fromkeys(cause for _, cause in left_out):
        ids = [id for id, other in left_out if other == cause]
        if len(ids) <= MOST_IDS:
            for id in ids:
                warn(f"{id} is left out: {cause}")
        else:
            some = ", ".join(ids[:MOST_IDS])
            warn(f"{len(ids):,} runs are left out: {cause} ({some}, …; --json names all)")


MOST_FIELDS, MOST_SIDES = 8, 3
"""Of more fields that differ, or of more groups, only names are printed unless all is asked for."""


def _print_what_differs(found: GroupComparison) -> None:
    sides = len(found.groups)
    differing = {
        name: tuple(row for row in rows if not row.same) for name, rows in found.differences.items()
    }
    if sides <= MOST_SIDES and sum(map(len, differing.values())) <= MOST_FIELDS:
        if any(differing.values()):
            print()
            _print_legend(found)
        _print_sections({k: rows for k, rows in differing.items() if rows}, sides, False)
        return
    for name, rows in differing.items():
        if rows:
            some = ", ".join(row.field for row in rows[:MOST_FIELDS])
            more = f" and {len(rows) - MOST_FIELDS} more" if len(rows) > MOST_FIELDS else ""
            print_wrapped(printable(f"{name} differs in {some}{more} (--all prints them)"))


def _print_legend(found: GroupComparison) -> None:
    from qn_tracking.render.text import counted
    from qn_tracking.studies.comparison import letters

    for i, group in enumerate(found.groups):
        some = ", ".join(doc["id"] for doc in group.runs[:3])
        more = ", …" if len(group.runs) > 3 else ""
        count = counted(len(group.runs), "run")
        print_wrapped(f"{letters([i])}  {printable(group.name)}  {count}: {some}{more}")


def _print_everything(args: Namespace, found: GroupComparison) -> None:
    _print_sections(found.differences, len(found.groups), args.all)
    rows = [
        [printable(name), *(_sample(one, name) for one in samples)]
        for name, samples in found.summary.samples.items()
    ]
    print_wrapped("\nmetrics: mean over runs, 95% interval")
    print_table(_columns("METRIC", len(found.groups)), rows)
    if found.summary.pairs:
        print_wrapped(
            "\ndifferences, conventional: Welch's interval, permutation p after Holm, Hedges' g,"
            " P(improvement)"
        )
        _print_pairs(found.summary.pairs)


def _sample(one: Sample | None, metric: str) -> str:
    if one is None:
        return ""
    pooled = " pooled" if one.pooled else ""
    return metric_text(one.mean, metric) + interval_text(one.low, one.high, metric) + pooled


def _print_pairs(pairs: Sequence[Pair]) -> None:
    """Without verdicts: what decides is the one comparison above."""
    from qn_tracking.inference.rules import p_text
    from qn_tracking.render.table import Column
    from qn_tracking.studies.comparison import letters

    rows = []
    for pair in pairs:
        name, found = pair.metric, pair.comparison
        low, high = (found.welch.low, found.welch.high) if found.welch else (None, None)
        delta = metric_text(found.delta, name, signed=True)
        rows.append(
            [
                printable(name),
                f"{letters([pair.second])} - {letters([pair.first])}",
                delta + interval_text(low, high, name, least=-1.0),
                "" if pair.adjusted_p is None else p_text(pair.adjusted_p),
                "" if found.hedges_g is None else f"{found.hedges_g:+.2f}",
                f"{found.improvement:.0%}",
            ]
        )
    columns = [
        Column("METRIC", least=12),
        Column("PAIR"),
        Column("DIFFERENCE"),
        Column("P", drop=2),
        Column("G", drop=4),
        Column("PI", drop=3),
    ]
    print_table(columns, rows)


def _plain_summary(found: GroupComparison) -> list[dict[str, Any]]:
    from qn_tracking.records.codec import plain

    names = found.names
    return [
        {
            "metric": name,
            "groups": [plain(sample) for sample in samples],
            "pairs": [
                {**plain(pair), "first": names[pair.first], "second": names[pair.second]}
                for pair in found.summary.pairs
                if pair.metric == name
            ],
        }
        for name, samples in found.summary.samples.items()
    ]


# -------------------------------------------------------------------------------------- differences


def _columns(title: str, sides: int, *more: tuple[str, int]) -> list[Any]:
    from qn_tracking.render.table import Column
    from qn_tracking.studies.comparison import letters

    columns = [Column(title, least=12), *(Column(letters([i]), least=6) for i in range(sides))]
    return columns + [Column(name, least=6, drop=drop) for name, drop in more]


def _print_sections(sections: Sections, sides: int, everything: bool) -> None:
    for section, rows in sections.items():
        if not rows:
            continue
        shown = [row for row in rows if everything or not row.same]
        differ = sum(not row.same for row in rows)
        count = f"{differ} of {len(rows)} differ" if differ else f"all {len(rows)} the same"
        print_wrapped(f"\n{section}: {count}")
        if shown:
            cells = [[printable(row.field), *map(_text, row.values)] for row in shown]
            print_table(_columns("FIELD", sides), cells)


def _text(value: Any) -> str:
    """A value in a cell."""
    import json

    from qn_tracking.render.text import clip
    from qn_tracking.studies.comparison import ABSENT

    if value is ABSENT:
        return "-"
    if type(value) is str:
        return clip(printable(value), LONGEST) if value else '""'
    return clip(printable(json.dumps(value, ensure_ascii=False)), LONGEST)


def _plain_sections(sections: Sections, everything: bool) -> dict[str, list[dict[str, Any]]]:
    from qn_tracking.studies.comparison import ABSENT

    return {
        section: [
            {
                "field": row.field,
                "same": row.same,
                "values": [None if value is ABSENT else value for value in row.values],
                "present": [value is not ABSENT for value in row.values],
            }
            for row in rows
            if everything or not row.same
        ]
        for section, rows in sections.items()
    }


# --------------------------------------------------------------------------------------------- diff


def _diff(args: Namespace) -> int:
    if args.stat and not args.code:
        raise UsageError("--stat needs --code")
    if args.code:
        if args.resolved:
            raise UsageError("--code and --resolved together")
        return _diff_code(args)
    found = experiments(args).diff(args.first, args.second, resolved=args.resolved)
    code = int(not found.same and args.exit_code)
    if not args.resolved:
        for id in dict.fromkeys(found.without_text):
            warn(f"{id}: the text of its configuration is not here: what ran is compared")
    if found.only_overrides:
        _remark("the texts are the same, the overrides differ: this is what ran")
    if args.json:
        print_plain(
            {
                "ids": found.ids,
                "kind": found.kind,
                "same": found.same,
                "same_digest": found.same_digest,
                "overrides": found.overrides,
                "diff": found.lines,
            }
        )
        return code
    for line in found.lines:
        print(printable(line))
    if found.same:
        print(f"the {'configurations' if found.kind == 'resolved' else 'texts'} are the same")
    elif found.same_digest:
        _remark("what ran is the same: their configurations have one digest")
    elif found.kind == "text" and found.overrides[0] != found.overrides[1]:
        _remark("the overrides, which are not in the text, differ, too: --resolved shows what ran")
    return code


def _diff_code(args: Namespace) -> int:
    found = experiments(args).diff_code(args.first, args.second)
    for text in found.missing:
        warn(text)
    if args.json:
        from qn_tracking.records.codec import plain

        about = {**plain(found), "same": found.same, "summary": found.summary}
        about["diff"] = about.pop("lines")
        print_plain(about)
    elif args.stat:
        for one in found.files:
            lines = "" if one.added is None else f"  +{one.added} -{one.removed}"
            print(f"{printable(one.path)}{lines}")
    else:
        for line in found.lines:
            print(printable(line))
    if not args.json:
        for line in found.log:
            _remark(printable(line))
        more = sum(found.ahead) - len(found.log)
        _remark(f"{found.summary}" + (f"; {more} more commits" if more > 0 else ""))
    return int(not found.same and args.exit_code)


def _remark(text: str) -> None:
    """Beside the diff, which is for programs, too."""
    print(text, file=sys.stderr)
