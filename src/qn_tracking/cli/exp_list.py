"""`qn-exp list`: experiments, newest first."""

from __future__ import annotations

import os

from qn_tracking.cli.options import add_filters, conditions, experiments, names, up_to
from qn_tracking.cli.output import cells_of, columns_for, print_table, unicode_out, write_json
from qn_tracking.cli.parser import Parser, flag, valued
from qn_tracking.errors import printable
from qn_tracking.render.table import Column
from qn_tracking.store.fields import FIELDS, SORTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace
    from typing import Any

    from qn_tracking.api.selection import Selection

LIMIT = 20

EXAMPLES = f"""examples:
  qn-exp list --family quantum --min-success-rate 0.9 --since 7d
  qn-exp list --columns id,seed,brain.config.gamma,success_rate --sort success_rate
  qn-exp list --where "results.avg_reward > 3"

--where takes any stored field; fields of the configuration are named as in the configuration:
  --where "results.avg_reward > 3 and brain.config.gamma = 0.99"
  --where "not status in (failed, crashed) or facts.metadata.git.branch ~ 'exp/'"
  comparisons = != < <= > >=, ~ contains, in (...), is null, and, or, not, parentheses

--since and --until take 2026-01-31, 2026-01-31T12 or 2026-01-31T12:00 (UTC), or an age: 30m, 12h,
7d, 4w; the day, hour or minute that is given is included.

--columns takes {", ".join(field.name for field in FIELDS)};
a metric; a stored field; or all fields below one, such as config.brain.* or results.metrics.*.

--sort takes {", ".join(SORTS)}; or a stored field.
"""


FOLDED = "more: --limit counts runs, 0 for all; --studies lists the studies"


def arguments(parser: Parser, command: str) -> None:
    add_filters(parser.add_argument_group("filters"))
    valued(
        parser,
        "--sort",
        "FIELD[:asc]",
        "sort by FIELD, largest first; :asc for smallest first (default: newest first)",
    )
    valued(
        parser,
        "--limit",
        "N",
        "show N experiments, 0 for all (default: 20)",
        type=up_to(10**9),
        default=LIMIT,
    )
    valued(parser, "--columns", "NAME,…", "show these columns, in this order", type=names)
    flag(
        parser,
        "--flat",
        "a row for each run of a study, as with --sort and --columns (default: one for all)",
    )
    flag(
        parser, "--studies", "list studies, with what each has shown; of the filters, --tag applies"
    )
    parser.add_argument(
        "--format", choices=("text", "markdown"), help="markdown: the studies, for a document"
    )
    flag(parser, "--fresh", "read every file again, for files that were edited in place")


def run(args: Namespace) -> int:
    store = experiments(args)
    stated = conditions(args)
    if args.studies or args.format:
        from qn_tracking.cli.study_index import print_studies

        print_studies(store, args, stated)
        return 0
    if args.experiments_dir is None and not os.path.isdir(store.folder):
        if args.json:
            _print_json(store.folder, {}, [], False, 0, [])
        else:
            print(f"no experiments yet: there is no folder {printable(store.folder)}")
        return 0
    found = store.find(
        sort=args.sort, limit=args.limit, fresh=args.fresh, columns=args.columns or (), **stated
    )
    if args.json:
        rows = _rows(found) if args.columns else found.documents()
        _print_json(
            store.folder, found.filters.stated(), rows, found.more, found.total, found.problems
        )
        return 0
    print(_head(args, found))
    if not len(found):
        if found.filters.stated():
            print("no matching experiments")
        return 0
    columns = found.columns or [(field.name, field) for field in FIELDS if field.listed]
    more = "more: --limit N, or 0 for all"
    titles = columns_for(columns, keep=args.columns is not None)
    if args.flat or args.columns or args.sort:
        lines = [cells_of(columns, row) for row in found.cells()]
    else:
        titles.insert(1, Column("RUNS", right=True, drop=1))
        lines = []
        for row, runs in found.folded():
            first, *rest = cells_of(columns, row)
            lines.append([first, runs, *rest])
            more = FOLDED if runs else more
    print_table(titles, lines)
    if found.more:
        print(_clipped(more))
    return 0


def _rows(found: Selection) -> list[dict[str, Any]]:
    return [{name: row[name] for name, _ in found.columns} for row in found.cells()]


def _print_json(
    folder: str,
    stated: dict[str, Any],
    rows: list[dict[str, Any]],
    more: bool,
    total: int,
    problems: list[tuple[str, str]],
) -> None:
    """One object; each experiment is a line of its own, so that very many can be streamed."""
    import json

    def text(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    head = {"experiments_dir": folder, "filters": stated, "total": total, "more": more}
    write_json("{\n" + "".join(f"  {text(key)}: {text(value)},\n" for key, value in head.items()))
    faults = [{"id": name, "problem": problem} for name, problem in problems]
    write_json(f'  "problems": {text(faults)},\n  "experiments": [')
    for i, row in enumerate(rows):
        write_json(("," if i else "") + "\n    " + text(row))
    write_json(("\n  " if rows else "") + "]\n}\n")


def _head(args: Namespace, found: Selection) -> str:
    from qn_tracking.render.text import counted

    stated = found.filters.stated()
    place = printable(found.folder)
    if not stated:
        kind = "newest" if args.sort is None else "first"
        some = f"{kind} {len(found):,} of " if found.more else ""
        head = f"{some}{counted(found.total, 'experiment')} in {place}"
    else:
        more = " and more" if found.more else ""
        head = f"{len(found):,}{more} of {counted(found.total, 'experiment')} in {place}"
    parts = [head, *_echo(stated)]
    if args.sort is not None:
        parts.append(f"sort {printable(args.sort)}")
    return _clipped(" · ".join(parts) if unicode_out() else "; ".join(parts))


def _echo(stated: dict[str, Any]) -> list[str]:
    """The filters in words."""
    out = []
    for name, value in stated.items():
        if name == "dirty":
            out.append("dirty" if value else "clean")
        elif isinstance(value, list):
            joint = " and " if name in ("tag", "where") else " or "
            out.append(f"{name} {joint.join(printable(one) for one in value)}")
        else:
            out.append(f"{name} {printable(value)}")
    return out


def _clipped(line: str) -> str:
    from qn_tracking.render.table import columns_of
    from qn_tracking.render.text import clip

    wide = columns_of()
    return clip(line, wide) if wide else line
