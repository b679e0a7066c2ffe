"""How often the verdicts on the arms of a study, and on the curve of a run, are wrong.

    python tests/calibration/arms.py [--studies N] [--only NAME]

Everything is simulated, so every verdict can be checked. It prints the tables of
docs/statistics.md.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy
from attrs import evolve

from qn_tracking.inference import arms as inference
from qn_tracking.inference.arms import ENOUGH_RUNS, Arm, contest, deciding_test
from qn_tracking.inference.convergence import convergence
from qn_tracking.inference.guard import half_run_welch
from qn_tracking.inference.rules import RULES
from qn_tracking.inference.superiority import improvement
from qn_tracking.studies.arms import Side, compare, table
from qn_tracking.studies.comparison import PRIMARY

Draw = Callable[[Any, Any], Any]
"""From uniform numbers, one a run and the same for a seed, to the rates of the runs."""
EPISODES = 20
QUICK = evolve(RULES, resamples=999, draws=1, exact_limit=20_000)
UNUSED = evolve(QUICK, resamples=99)
"""Where Brunner–Munzel does not decide."""


def beta(mean: float, sd: float) -> Draw:
    """Runs whose true rates vary, and the chance of their last episodes."""
    size = mean * (1 - mean) / sd**2 - 1
    a, b = mean * size, (1 - mean) * size
    return lambda u, rng: rng.binomial(EPISODES, scipy.stats.beta.ppf(u, a, b)) / EPISODES


def failing(share: float, draw: Draw) -> Draw:
    """Some runs fail completely."""
    return lambda u, rng: np.where(u < share, 0.0, draw((u - share).clip(0) / (1 - share), rng))


STEADY, ERRATIC = beta(0.8, 0.06), beta(0.8, 0.2)
CELLS: dict[str, list[Draw]] = {
    "mean .8, sd .06": [STEADY] * 5,
    "mean .8, sd .2": [ERRATIC] * 5,
    "mean .95, sd .06": [beta(0.95, 0.06)] * 5,
    "mean .5, sd .12": [beta(0.5, 0.12)] * 5,
    "a run of 20 fails, else .95": [failing(0.05, beta(0.95, 0.06))] * 5,
    "mean .8, sd .06 and .2 mixed": [STEADY, ERRATIC, STEADY, ERRATIC, STEADY],
}


def uniforms(arms: int, runs: int, correlation: float, rng: Any) -> Any:
    """One number a run; those of a seed are correlated between arms."""
    seeds = rng.standard_normal(runs) * correlation**0.5
    return scipy.stats.norm.cdf(
        seeds + rng.standard_normal((arms, runs)) * (1 - correlation) ** 0.5
    )


def verdicts(
    draws: list[Draw], runs: int, correlation: float | None, baseline: int | None, studies: int
) -> Iterator[bool]:
    """Whether each study of equal arms has any verdict; no correlation: its seeds are disjoint."""
    rng = np.random.default_rng(runs)
    rules = QUICK if runs < ENOUGH_RUNS else UNUSED
    for _ in range(studies):
        u = uniforms(len(draws), runs, correlation or 0.0, rng)
        arms = [
            Arm(
                name=str(i),
                values=draw(one, rng).tolist(),
                seeds=tuple(range(runs)) if correlation is not None else None,
            )
            for i, (draw, one) in enumerate(zip(draws, u, strict=True))
        ]
        found = contest(arms, baseline=baseline, rules=rules)
        yield any(pair.winner is not None for pair in found.decisions)


def wrong_verdicts(studies: int) -> None:
    """Five equal arms: the share of studies in which any is called better than another."""
    kinds = [
        (f"{runs}, {name}{', baseline' if baseline == 0 else ''}", runs, correlation, baseline)
        for runs in (10, 20)
        for baseline in (None, 0)
        for name, correlation in (("disjoint", None), ("shared", 0.7))
    ]
    print("| five equal arms | " + " | ".join(kind[0] for kind in kinds) + " |")
    print("|---" * (len(kinds) + 1) + "|")
    for name, draws in CELLS.items():
        shares = [np.mean([*verdicts(draws, *kind[1:], studies)]) for kind in kinds]
        print(f"| {name} | " + " | ".join(f"{share:.3f}" for share in shares) + " |", flush=True)


def sentences(values: Any, *, shared: bool) -> list[str]:
    """The verdicts that `qn-exp show` would print of a study of these rates: rows are arms."""
    first = 0 if shared else len(values[0])
    sides = [
        Side(
            name=f"arm {place}",
            declared=len(rates),
            docs=tuple(
                {"status": "completed", "seed": seed, "results": {PRIMARY: float(rate)}}
                for seed, rate in enumerate(rates, place * first)
            ),
        )
        for place, rates in enumerate(values)
    ]
    test = deciding_test(len(values[0]), shared_seeds=shared)
    found = compare(table(sides, PRIMARY), test=test)
    return [text for text in found.all_sentences if "not decided" not in text]


def null_studies(studies: int) -> None:
    """Five equal arms of 20 runs: the share of studies of which any sentence is a verdict."""
    inference.ALL_TESTS = 0  # what permutes, and does not decide here, takes long
    print("| five equal arms of 20 | disjoint seeds | shared seeds, correlated by .7 |")
    print("|---|---|---|")
    for name, draws in CELLS.items():
        shares = []
        for shared in (False, True):
            rng = np.random.default_rng(20)
            said = 0
            for _ in range(studies):
                u = uniforms(len(draws), 20, 0.7 if shared else 0.0, rng)
                values = [draw(one, rng) for draw, one in zip(draws, u, strict=True)]
                said += bool(sentences(values, shared=shared))
            shares.append(said / studies)
        print(f"| {name} | " + " | ".join(f"{share:.3f}" for share in shares) + " |", flush=True)


def hidden_difference(studies: int) -> None:
    """A gap of .12, sd of the 30 seeds .2, of the differences .02: who sees it."""
    rng = np.random.default_rng(30)
    seen = {True: 0, False: 0}
    for _ in range(studies):
        seeds = rng.normal(0.55, 0.2, 30)
        noise = rng.normal(0, 0.02 / 2**0.5, (2, 30))
        values = np.clip([seeds + noise[0], seeds - 0.12 + noise[1]], 0, 1)
        for shared in seen:
            seen[shared] += bool(sentences(values, shared=shared))
    print("| 30 seeds, gap .12 | share of studies with a verdict |")
    print("|---|---|")
    print(f"| shared, guarded paired | {seen[True] / studies:.3f} |")
    print(f"| the same runs, half-run Welch | {seen[False] / studies:.3f} |")


def coverage(studies: int) -> None:
    """Of the intervals of a difference and of the probability of improvement."""
    print("| two arms | runs | difference of means | usually beats |")
    print("|---|---|---|---|")
    pairs = {
        "both .8, sd .06": (STEADY, STEADY),
        ".95 and .8, sd .06": (beta(0.95, 0.06), STEADY),
        ".8, sd .06 and .2": (STEADY, ERRATIC),
        ".95, a run of 20 fails, and .8": (failing(0.05, beta(0.95, 0.06)), STEADY),
    }
    for name, (first, second) in pairs.items():
        for runs in (5, 10, 20, 50):
            rng = np.random.default_rng(runs)
            many = [draw(rng.random(200_000), rng) for draw in (first, second)]
            gap = many[0].mean() - many[1].mean()
            beats = np.mean(many[0] > many[1]) + np.mean(many[0] == many[1]) / 2
            inside = np.zeros(2)
            for _ in range(studies):
                x, y = (draw(rng.random(runs), rng).tolist() for draw in (first, second))
                delta, better = half_run_welch(x, y), improvement(x, y)
                inside += (delta.low <= gap <= delta.high, better.low <= beats <= better.high)
            shares = " | ".join(f"{one:.3f}" for one in inside / studies)
            print(f"| {name} | {runs} | {shares} |", flush=True)


CURVES: dict[str, Callable[[Any], Any]] = {
    "level at .1": lambda u: 0.1 + 0 * u,
    "level at .8": lambda u: 0.8 + 0 * u,
    "rises to .9 by .3": lambda u: 0.1 + 0.8 * np.clip(u / 0.3, 0, 1),
    "rises to .9 by .5": lambda u: 0.1 + 0.8 * np.clip(u / 0.5, 0, 1),
    "nears .9, time constant .2": lambda u: 0.9 - 0.8 * np.exp(-u / 0.2),
    "climbs from 0 to .9": lambda u: 0.9 * u,
    "climbs from .1 to .6": lambda u: 0.1 + 0.5 * u,
    "climbs late, .6 to the end": lambda u: 0.1 + 0.8 * np.clip((u - 0.6) / 0.6, 0, 1),
    "falls in the second half": lambda u: 0.9 - 0.6 * np.clip((u - 0.5) / 0.5, 0, 1),
}
STATES = ("reached", "still climbing", "falling", "inconclusive")


def curves(studies: int) -> None:
    """What is said of single runs; their chance of success drifts by .08, over ten episodes."""
    from scipy.signal import lfilter

    keep = np.exp(-0.1)
    print("| curve | episodes | " + " | ".join(STATES) + " | onset, median | extend to |")
    print("|---" * (len(STATES) + 4) + "|")
    for name, chance in CURVES.items():
        for episodes in (100, 200, 500, 1000, 2000):
            rng = np.random.default_rng(episodes)
            u = (np.arange(episodes) + 0.5) / episodes
            states: Counter[str] = Counter()
            onsets, lengths = [], []
            for _ in range(studies):
                noise = rng.standard_normal(episodes + 100) * (1 - keep**2) ** 0.5
                drift = 0.08 * lfilter([1], [1, -keep], noise)[100:]
                found = convergence((rng.random(episodes) < chance(u) + drift).astype(float))
                states[found.state] += 1
                onsets += [found.onset] if found.onset is not None else []
                lengths += [found.extend_to] if found.extend_to is not None else []
            shares = " | ".join(f"{states[state] / studies:.2f}" for state in STATES)
            ends = [f"{np.median(one):.0f}" if one else "" for one in (onsets, lengths)]
            print(f"| {name} | {episodes} | {shares} | {' | '.join(ends)} |", flush=True)


TABLES = {
    "verdicts": wrong_verdicts,
    "null": null_studies,
    "hidden": hidden_difference,
    "coverage": coverage,
    "curves": curves,
}


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--only", choices=TABLES)
    args = parser.parse_args()
    for name, made in TABLES.items():
        if args.only in (None, name):
            print(f"\n{made.__doc__}\n")
            made(args.studies)


if __name__ == "__main__":
    main()
