"""`qn-bench compare`: whether one submission is better than another, in words and numbers."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from qn_tracking.benchmark.entries import Entry
from qn_tracking.benchmark.metrics import METRICS, PRIMARY, ranked
from qn_tracking.benchmark.versus import EntryComparison
from qn_tracking.cli.options import leaderboard as of_folder
from qn_tracking.cli.output import print_json, print_rows, print_wrapped
from qn_tracking.cli.parser import valued
from qn_tracking.errors import UsageError, printable
from qn_tracking.inference.pair import Welch
from qn_tracking.inference.rules import p_text
from qn_tracking.render.board import estimate

EXAMPLES = """examples:
  qn-bench compare 20260131T12 20260201T09
  qn-bench compare --quantum-vs-classical dynamic_small
"""


def arguments(parser: ArgumentParser, command: str) -> None:
    valued(parser, "ids", "ID", "two submissions of the same environment", nargs="*")
    valued(
        parser,
        "--quantum-vs-classical",
        "ENV",
        "compare the first-ranked submission of each family, such as in dynamic_small",
    )
    parser.add_argument(
        "--metric",
        choices=ranked(),
        default=PRIMARY,
        help=f"compare this metric (default: {PRIMARY})",
    )


def run(args: Namespace) -> int:
    leaderboard = of_folder(args)
    if args.quantum_vs_classical is not None:
        if args.ids:
            raise UsageError("--quantum-vs-classical cannot be combined with ids")
        found = leaderboard.quantum_against_classical(args.quantum_vs_classical, metric=args.metric)
    elif len(args.ids) == 2:
        found = leaderboard.compare(*args.ids, metric=args.metric)
    else:
        raise UsageError("expected two submissions, or --quantum-vs-classical ENV")
    if args.json:
        print_json(found.plain())
    else:
        _print(found)
    return 0


def _print(found: EntryComparison) -> None:
    pair, metric = found.comparison, found.metric
    test, welch, detectable = pair.permutation, pair.welch, found.detectable_effect
    shown = pair.guarded or welch
    delta = f"{pair.delta:+.3f}"
    if shown is not None:
        delta += f" [{shown.low:+.3f}, {shown.high:+.3f}]"
    runs = min(pair.n, pair.m)
    figures = [
        ("first", _side(found.first, metric)),
        ("second", _side(found.second, metric)),
        ("Δ", delta),
        ("p, permutation", None if test is None else p_text(test.p)),
        ("p, half-run Welch", pair.guarded and f"{p_text(pair.guarded.p)}{_corrected(found)}"),
        ("p, Brunner–Munzel", pair.usual and f"{p_text(pair.usual.p)}{_corrected(found)}"),
        (
            "p, Welch",
            welch and p_text(welch.p) + (_conventional(welch) if pair.guarded else ""),
        ),
        ("Hedges' g", None if pair.hedges_g is None else f"{pair.hedges_g:+.2f}"),
        (
            "detectable g",
            detectable and f"{detectable:.2f} (seen by {runs} runs a side 80% of the time)",
        ),
        ("detectable Δ", _detectable(found, runs)),
        ("P(first better)", f"{pair.improvement:.2f}"),
    ]
    print_wrapped(f"{METRICS[metric].title}, protocol version {found.protocol}")
    print_rows(figures)
    for note in found.notes:
        print_wrapped(printable(note))
    print_wrapped(found.sentence)


def _detectable(found: EntryComparison, runs: int) -> str | None:
    if not (found.comparison.guarded or found.comparison.usual):
        return None
    if found.detectable_difference is None:
        return f"none: {runs} runs a side are too few"
    return f"{found.detectable_difference:.3g} (seen by {runs} runs a side 80% of the time)"


def _conventional(welch: Welch) -> str:
    return f", Δ [{welch.low:+.3f}, {welch.high:+.3f}]: conventional"


def _corrected(found: EntryComparison) -> str:
    p, test = found.verdict.p, found.comparison.p
    return "" if p is None or p == test else f", {p_text(p)} corrected for picking the first"


def _side(entry: Entry, metric: str) -> str:
    figure = estimate(entry.aggregates[metric], rate=METRICS[metric].format == "percent")
    return f"{figure}  {entry.board}  {entry.brain}  {entry.id}"
