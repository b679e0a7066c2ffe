"""What `qn-exp list --studies` prints: an index of studies, with what each has shown."""

from __future__ import annotations

from qn_tracking.cli.output import print_plain, print_table, print_wrapped
from qn_tracking.cli.study_print import cell, line
from qn_tracking.errors import UsageError, printable
from qn_tracking.render.table import Column, columns_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from qn_tracking.api.arms import StudyLine
    from qn_tracking.api.experiments import Experiments
    from qn_tracking.store.filters import Conditions


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
        print(line(["study", "question", "declared", "arms", "runs", "metric", "what it shows"]))
        print(line(["---"] * 3 + ["---:"] * 2 + ["---"] * 2))
        for one in shown:
            day = one.created[:10] if one.declared else f"{one.created[:10]}, gathered afterwards"
            cells = [one.name or one.id, one.question or "", day, str(one.arms), _done(one)]
            print(line(cell(printable(text)) for text in (*cells, one.metric, one.says)))
        return
    count = "1 study" if len(found) == 1 else f"{len(found):,} studies"
    print_wrapped(f"{count} in {printable(store.folder)}")
    # On a wide terminal what it shows is worth more than when it was made.
    least = 48 if (columns_of() or 80) >= 80 else 20
    columns = [
        Column("STUDY"),
        Column("CREATED (UTC)", drop=3),
        Column("KIND", drop=4),
        Column("ARMS", right=True),
        Column("RUNS", right=True),
        Column("METRIC", drop=2),
        Column("VERDICT", least=least),
    ]
    rows = [
        [
            one.name or one.id,
            one.created[:16].replace("T", " "),
            "declared" if one.declared else "gathered",
            str(one.arms),
            _done(one),
            one.metric,
            one.says,
        ]
        for one in shown
    ]
    if rows:
        print_table(columns, [list(map(printable, row)) for row in rows])
    if len(shown) < len(found):
        print_wrapped("more: --limit N, or 0 for all")


def _done(one: StudyLine) -> str:
    return f"{one.finished}" if one.finished == one.runs else f"{one.finished}/{one.runs}"
