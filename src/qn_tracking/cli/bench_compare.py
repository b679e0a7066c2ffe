"""`qn-bench compare`: whether one submission is better than another, in words and numbers."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from qn_tracking.benchmark.aggregate import rules_of
from qn_tracking.benchmark.ranking import METRICS, PRIMARY, Summary
from qn_tracking.cli.bench import pick, survey
from qn_tracking.cli.bench_board import boards
from qn_tracking.cli.command import print_json
from qn_tracking.errors import UsageError, printable
from qn_tracking.inference.pair import compare, detectable_effect, runs_needed, verdict
from qn_tracking.inference.permutation import smallest_p
from qn_tracking.records.codec import plain
from qn_tracking.render.board import estimate
from qn_tracking.render.text import rows


def arguments(parser: ArgumentParser, command: str) -> None:
    """The options of `compare`."""
    parser.add_argument("ids", nargs="*", metavar="ID", help="two submissions of one environment")
    parser.add_argument(
        "--quantum-vs-classical",
        metavar="ENV",
        help="the first-ranked of each side of an environment, dynamic_small for instance",
    )
    parser.add_argument("--metric", choices=METRICS, default=PRIMARY, help=f"default: {PRIMARY}")


def run(args: Namespace) -> int:
    """Compares, and says what can be said."""
    entries, book, cache = survey(args)
    protocol = book.now
    if args.quantum_vs_classical is not None:
        if args.ids:
            raise UsageError("--quantum-vs-classical goes with no ID")
        found = boards(entries, protocol, cache, args.metric)
        sides = [
            next(
                (
                    rows[0].entry
                    for category, rows in found
                    if rows and (category.environment, category.family) == (wanted, family)
                ),
                None,
            )
            for wanted in [args.quantum_vs_classical]
            for family in ("quantum", "classical")
        ]
        if None in sides:
            lacking = ("quantum", "classical")[sides.index(None)]
            raise UsageError(f"no {lacking} entry in {args.quantum_vs_classical}")
        first, second = [side for side in sides if side is not None]
    else:
        if len(args.ids) != 2:
            raise UsageError("expected two submissions, or --quantum-vs-classical ENV")
        first, second = (pick(entries, text) for text in args.ids)
        if first.id == second.id:
            raise UsageError(f"{first.id} is both of them")
    cache.save()
    if first.category.environment != second.category.environment:
        raise UsageError(
            f"{first.category.environment} and {second.category.environment} are not one task",
            hint="compare submissions of one environment",
        )
    for side in (first, second):
        if args.metric not in side.values:
            raise UsageError(f"{side.id} has no {METRICS[args.metric]}")
    rules = rules_of(protocol)
    pair = compare(first.values[args.metric], second.values[args.metric], rules=rules)
    said = verdict(pair, rules=rules)
    needed = None if said.better else runs_needed(pair.hedges_g, rules=rules)
    more = None if needed is None else max(0, needed - min(pair.n, pair.m))
    fewer = min(pair.n, pair.m)
    enough = fewer >= rules.min_runs and smallest_p(fewer, fewer) < rules.alpha
    detectable = detectable_effect(fewer, rules=rules) if enough else None
    doubt = pair.welch is not None and pair.welch.low <= 0 <= pair.welch.high
    sentence = _sentence(args, first, second, said, more, doubt)
    if args.json:
        print_json(
            {
                "metric": args.metric,
                "first": first,
                "second": second,
                "comparison": pair,
                "verdict": said,
                "runs_needed": needed,
                "detectable_effect": detectable,
                "sentence": sentence,
            }
        )
        return 0
    test = pair.permutation
    figures: list[tuple[str, Any]] = [
        ("first", _side(first, args.metric)),
        ("second", _side(second, args.metric)),
        (
            "Δ",
            f"{pair.delta:+.3f}"
            + (f" [{pair.welch.low:+.3f}, {pair.welch.high:+.3f}]" if pair.welch else ""),
        ),
        ("p, permutation", None if test is None else f"{test.p:.4g}"),
        ("p, Welch", None if pair.welch is None else f"{pair.welch.p:.4g}"),
        ("Hedges' g", None if pair.hedges_g is None else f"{pair.hedges_g:+.2f}"),
        (
            "detectable g",
            detectable
            and f"{detectable:.2f} (seen by {fewer} runs a side {rules.power:.0%} of the time)",
        ),
        ("P(first better)", f"{pair.improvement:.2f}"),
    ]
    print(f"{METRICS[args.metric]}, protocol version {protocol.version}")
    print(rows(figures), end="")
    print(sentence)
    return 0


def _side(entry: Summary, metric: str) -> str:
    is_rate = metric in ("success_rate", "sample_efficiency")
    figure = estimate(plain(getattr(entry.aggregates, metric)), rate=is_rate)
    return f"{figure}  {entry.category}  {entry.brain}  {entry.id}"


def _sentence(
    args: Namespace, first: Summary, second: Summary, said: Any, more: int | None, doubt: bool
) -> str:
    if said.better:
        winner, loser = (first, second) if said.winner == "first" else (second, first)
        text = f"{printable(winner.brain)} is better than {printable(loser.brain)}"
        if args.quantum_vs_classical is not None:
            text += f": a {winner.category.family} advantage in {first.category.environment}"
        text = f"{text} ({winner.id})."
        if doubt:
            text += " Welch's interval contains 0, though: take it with care, or run more runs."
        return text
    text = f"No conclusion at this sample size: {'; '.join(said.reasons)}."
    if more:
        text += f" If the effect is what it looks like, about {more} more runs a side would tell."
    return text
