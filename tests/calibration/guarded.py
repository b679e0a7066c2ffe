"""How often the figures of guarded inference are wrong, beside those of other methods.

    python tests/calibration/guarded.py [--scale F] [--only NAME ...] [--docs]

Everything is simulated, so the truth is known. The shares are stored in `guarded.json`; `--docs`
only writes the tables of docs/statistics.md from them. A scale of 1 takes some minutes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy
from attrs import evolve

from qn_tracking.inference import bounded
from qn_tracking.inference.bounded import gaffke, iqm_interval, weighted_below
from qn_tracking.inference.guard import half_run_welch, run_weight
from qn_tracking.inference.interval import trimmed
from qn_tracking.inference.proportion import clopper_pearson, wilson
from qn_tracking.inference.rank import guarded_ranks
from qn_tracking.inference.replication import _reach, exchangeable
from qn_tracking.inference.rules import RULES

HERE = Path(__file__).parent
STORED = HERE / "guarded.json"
DOCS = HERE.parent.parent / "docs" / "statistics.md"
EPISODES, SIZES, TAIL, LEVEL, THRESHOLD = 20, (10, 20, 50), 0.025, 0.05, 0.8
GUARDED = evolve(RULES, inference="guarded")

Kind = Callable[[Any, tuple[int, ...]], Any]
"""From a generator and a shape to the final rates of runs."""


# ----------------------------------------------------------------------------------- kinds of brains


def skilled(mean: float, sd: float, sticky: float = 0.0) -> Kind:
    """True rates of runs vary as Beta; `sticky` is how often an episode repeats the one before."""

    def draw(rng: Any, shape: tuple[int, ...]) -> Any:
        skill = np.full(shape, mean)
        if sd:
            size = mean * (1 - mean) / sd**2 - 1
            skill = rng.beta(mean * size, (1 - mean) * size, shape)
        if not sticky:
            return rng.binomial(EPISODES, skill) / EPISODES
        now = rng.random(shape) < skill
        total = now.astype(int)
        for _ in range(EPISODES - 1):
            now = np.where(rng.random(shape) < sticky, now, rng.random(shape) < skill)
            total += now
        return total / EPISODES

    return draw


def mixed(share: float, few: Kind, rest: Kind) -> Kind:
    """A share of the runs is of one kind."""
    return lambda rng, shape: np.where(rng.random(shape) < share, few(rng, shape), rest(rng, shape))


FAILED, PERFECT = skilled(0.0, 0), skilled(1.0, 0)
KINDS: dict[str, Kind] = {
    **{
        f"mean {mean:g}, sd {sd:g}": skilled(mean, sd)
        for mean in (0.7, 0.9, 0.98)
        for sd in (0, 0.06, 0.12)
    },
    "mean 0.05, sd 0.06": skilled(0.05, 0.06),
    "mean 0.5, sd 0.28 (any rate alike)": skilled(0.5, 12**-0.5),
    "5% of runs fail completely, else 0.95, sd 0.06": mixed(0.05, FAILED, skilled(0.95, 0.06)),
    "5% fail completely, else perfect": mixed(0.05, FAILED, PERFECT),
    "20% fail completely, else 0.95": mixed(0.2, FAILED, skilled(0.95, 0.03)),
    "two modes, 30% at 0.2, 70% at 0.95": mixed(0.3, skilled(0.2, 0.06), skilled(0.95, 0.03)),
    "half at 0.5, half perfect": mixed(0.5, skilled(0.5, 0.06), PERFECT),
    "mean 0.9, sd 0.06, dependent episodes": skilled(0.9, 0.06, sticky=0.8),
    "all perfect": PERFECT,
}


def truth(kind: Kind) -> tuple[float, float, float]:
    """Mean, interquartile mean and share at the threshold, of a million runs."""
    values = np.sort(kind(np.random.default_rng(1), (1_000_000,)))
    quarter = len(values) // 4
    middle = values[quarter:-quarter].mean()
    return float(values.mean()), float(middle), float((values >= THRESHOLD - 1e-9).mean())


# ---------------------------------------------------------------------------------------- intervals


def of_mean(x: Any, mean: float, others: bool) -> dict[str, Any]:
    """Whether each interval of a sample's mean holds it; one row a sample. `others` take longer."""
    n = x.shape[1]
    centre, sd = x.mean(axis=1), x.std(axis=1, ddof=1)
    half = scipy.stats.t.ppf(1 - TAIL, n - 1) * sd / np.sqrt(n)
    successes = np.rint(x.sum(axis=1) * EPISODES).astype(int)
    pooled = np.array([wilson(int(k), n * EPISODES) for k in successes])
    student = np.where(sd == 0, _inside(pooled, mean), abs(centre - mean) <= half + 1e-12)
    sides = [
        [_below((0.0, *row), mean) >= TAIL, _below((0.0, *(1 - row)), 1 - mean) >= TAIL]
        for row in x
    ]
    found = {
        "Gaffke": np.all(sides, axis=1),
        "t (pooled Wilson if sd 0), protocol 1": student,
        "Wilson, pooled": _inside(pooled, mean),
    }
    if not others:
        return found
    bernstein = np.sqrt(2 * sd**2 * np.log(2 / TAIL) / n) + 7 * np.log(2 / TAIL) / (3 * (n - 1))
    rng = np.random.default_rng(7)
    counts = rng.multinomial(n, np.full(n, 1 / n), 2_000) / n
    quantiles = np.quantile(counts @ x.T, (TAIL, 1 - TAIL), axis=0).T
    weights = rng.standard_gamma([0.75, *[1.0] * n], (4_000, n + 1))
    weights /= weights.sum(axis=1, keepdims=True)
    narrow = [weights @ np.column_stack((np.full(len(x), end), x)).T for end in (0, 1)]
    return found | {
        "Gaffke, w = 3/4": (np.quantile(narrow[0], TAIL, axis=0) <= mean + 1e-12)
        & (np.quantile(narrow[1], 1 - TAIL, axis=0) >= mean - 1e-12),
        "bootstrap": _inside(quantiles, mean),
        "empirical Bernstein": abs(centre - mean) <= bernstein,
        "betting": _bets(x, mean),
    }


def _below(values: Any, t: float) -> float:
    """Rounding must not put a truth outside of an interval that ends there."""
    return max(weighted_below(values, t + 1e-12), weighted_below(values, t - 1e-12))


def _inside(limits: Any, value: float) -> Any:
    return (limits[:, 0] <= value + 1e-12) & (value - 1e-12 <= limits[:, 1])


def _bets(x: Any, mean: float) -> Any:
    """Whether the hedged capital stays below 40 (Waudby-Smith, Ramdas 2024, theorem 3)."""
    n = x.shape[1]
    steps = np.arange(1, n + 1)
    so_far = (0.5 + np.cumsum(x, axis=1)) / (steps + 1)
    spread = (0.25 + np.cumsum((x - so_far) ** 2, axis=1)) / (steps + 1)
    before = np.column_stack((np.full(len(x), 0.25), spread[:, :-1]))
    bet = np.sqrt(2 * np.log(2 / LEVEL) / (n * before))
    up = np.minimum(bet, 0.5 / mean) if mean else bet
    down = np.minimum(bet, 0.5 / (1 - mean)) if mean < 1 else bet
    rise = np.cumprod(1 + up * (x - mean), axis=1)[:, -1]
    fall = np.cumprod(1 - down * (x - mean), axis=1)[:, -1]
    return np.maximum(rise, fall) / 2 < 1 / LEVEL


def of_middle(x: Any, middle: float, others: bool) -> dict[str, Any]:
    """The same of the interquartile mean."""
    n = x.shape[1]
    ordered = np.sort(x, axis=1)
    cut = trimmed(n, RULES)
    kept = ordered[:, cut : n - cut]
    centre = kept.mean(axis=1)
    drawn = ordered.clip(kept[:, :1], kept[:, -1:])
    size = n - 2 * cut
    error = np.sqrt(((drawn - drawn.mean(axis=1, keepdims=True)) ** 2).sum(axis=1))
    error /= np.sqrt(size * (size - 1))
    half = scipy.stats.t.ppf(1 - TAIL, size - 1) * error
    with_ends = np.column_stack((np.zeros(len(x)), ordered, np.ones(len(x))))
    ends = bounded._shares(n, 0.25)
    found = {
        "Dirichlet, half a run at each end": _around(ends @ with_ends.T, centre, middle),
        "Yuen": abs(centre - middle) <= half + 1e-12,
    }
    if not others:
        return found
    rng = np.random.default_rng(7)
    plain = rng.standard_gamma(1.0, (4_000, n))
    reached = np.clip(np.cumsum(plain, axis=1) / plain.sum(axis=1, keepdims=True), 0.25, 0.75)
    shares = np.diff(reached, axis=1, prepend=0.25) * 2
    picked = np.sort(rng.integers(n, size=(1_000, n)), axis=1)[:, cut : n - cut]
    return found | {
        "Dirichlet, without ends": _around(shares @ ordered.T, centre, middle),
        "bootstrap": _around(
            np.array([row[picked].mean(axis=1) for row in ordered]).T, centre, middle
        ),
    }


def _around(drawn: Any, centre: Any, value: float) -> Any:
    """Whether percentiles of draws, one column a sample, hold the value; they hold the centre."""
    below = (drawn <= value + 1e-12).mean(axis=0) >= TAIL
    above = (drawn >= value - 1e-12).mean(axis=0) >= TAIL
    return (below | (centre <= value + 1e-12)) & (above | (centre >= value - 1e-12))


def of_share(x: Any, share: float, others: bool) -> dict[str, Any]:
    """The same of the share of runs that reach the threshold."""
    n = x.shape[1]
    counts = (x >= THRESHOLD - 1e-9).sum(axis=1)
    table = {
        "Clopper–Pearson": [clopper_pearson(k, n) for k in range(n + 1)],
        "Wilson": [wilson(k, n) for k in range(n + 1)],
        "Jeffreys": [
            (
                float(scipy.stats.beta.ppf(TAIL, k + 0.5, n - k + 0.5)) if k else 0.0,
                float(scipy.stats.beta.ppf(1 - TAIL, k + 0.5, n - k + 0.5)) if k < n else 1.0,
            )
            for k in range(n + 1)
        ],
    }
    found = {name: _inside(np.array(limits)[counts], share) for name, limits in table.items()}
    return found if others else {"Clopper–Pearson": found["Clopper–Pearson"]}


NAMES = {"mean": "mean", "iqm": "IQM", "share": "share of runs"}
FEW = 500
"""Samples of methods that are not ours."""
FIGURES = {"mean": of_mean, "iqm": of_middle, "share": of_share}


def coverage(scale: float) -> dict[str, Any]:
    """How often nominal 95% intervals hold the truth; and how wide ours are."""
    found: dict[str, Any] = {}
    samples = max(100, int(2_000 * scale))
    for name, kind in KINDS.items():
        true = dict(zip(FIGURES, truth(kind), strict=True))
        for n in SIZES:
            rng = np.random.default_rng(n)
            x = kind(rng, (samples, n))
            for figure, function in FIGURES.items():
                parts: dict[str, list[Any]] = {}
                for at in range(0, samples, 250):
                    inside_of = function(x[at : at + 250], true[figure], at < FEW)
                    for method, inside in inside_of.items():
                        parts.setdefault(method, []).append(inside)
                for method, inside in parts.items():
                    share = float(np.mean(np.concatenate(inside)))
                    row = found.setdefault(figure, {}).setdefault(method, {})
                    row.setdefault(name, {})[str(n)] = round(share, 4)
            some = x[:100].tolist()
            widths = {
                "mean": [(lambda one: one.high - one.low)(gaffke(row)) for row in some],
                "iqm": [(lambda one: one.high - one.low)(iqm_interval(row)) for row in some],
                "share": [
                    high - low
                    for low, high in (
                        clopper_pearson(sum(v >= THRESHOLD - 1e-9 for v in row), n) for row in some
                    )
                ],
            }
            for figure, wide in widths.items():
                row = found.setdefault("width", {}).setdefault(figure, {}).setdefault(name, {})
                row[str(n)] = round(float(np.mean(wide)), 4)
    return found


# ------------------------------------------------------------------------------------------ better


def half_run(x: Any, y: Any, weight: float | None = None, family: int = 1) -> Any:
    """The p of the half-run Welch test for each row; weight 0 is Welch's own, None is ours."""
    n, m = x.shape[1], y.shape[1]
    of = {n: run_weight(n, m, family), m: run_weight(m, n, family)}

    def side(values: Any, end: float) -> tuple[Any, Any, float]:
        extra = of[values.shape[1]] if weight is None else weight
        size = values.shape[1] + extra
        mean = (values.sum(axis=1) + extra * end) / size
        squares = ((values - mean[:, None]) ** 2).sum(axis=1) + extra * (end - mean) ** 2
        return mean, squares / (size * (size - 1)), size - 1

    tails = []
    for one, other in ((x, y), (y, x)):
        (mx, ex, dx), (my, ey, dy) = side(one, 0.0), side(other, 1.0)
        error = ex + ey
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(error > 0, ex / error, 1.0)
            df = 1 / (share**2 / dx + (1 - share) ** 2 / dy)
            t = np.where(error > 0, (my - mx) / np.sqrt(error), np.where(mx > my, -np.inf, 0))
        tails.append(scipy.special.stdtr(df, t))
    return np.minimum(1.0, 2 * np.minimum(*tails))


def yuen_welch(x: Any, y: Any) -> Any:
    """The p of Yuen's test of two trimmed means, 20% off each end."""
    found = []
    for values in (x, y):
        ordered = np.sort(values, axis=1)
        n = ordered.shape[1]
        cut = n // 5
        kept = ordered[:, cut : n - cut]
        drawn = ordered.clip(kept[:, :1], kept[:, -1:])
        size = n - 2 * cut
        squares = ((drawn - drawn.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
        found.append((kept.mean(axis=1), squares / (size * (size - 1)), size - 1))
    (mx, ex, dx), (my, ey, dy) = found
    error = ex + ey
    with np.errstate(divide="ignore", invalid="ignore"):
        df = error**2 / (ex**2 / dx + ey**2 / dy)
        t = abs(mx - my) / np.sqrt(error)
        return np.where(error > 0, 2 * scipy.special.stdtr(np.maximum(df, 1), -t), mx == my)


def permuted_welch(x: Any, y: Any, arrangements: int = 399) -> Any:
    """The test of protocol 1, over some random arrangements."""
    pool = np.concatenate((x, y), axis=1)
    n, m = x.shape[1], y.shape[1]
    chosen = np.zeros((n + m, arrangements + 1))
    chosen[:n] = 1.0
    np.random.default_rng(0).permuted(chosen[:, 1:], axis=0, out=chosen[:, 1:])
    sums, squares = pool @ chosen, pool**2 @ chosen
    rest, rest2 = pool.sum(axis=1)[:, None] - sums, (pool**2).sum(axis=1)[:, None] - squares
    gap = (sums / n - rest / m) ** 2
    error = (squares - sums**2 / n) / (n * (n - 1)) + (rest2 - rest**2 / m) / (m * (m - 1))
    extreme = gap * error[:, :1] - gap[:, :1] * error >= -1e-12
    return extreme[:, 1:].mean(axis=1) * arrangements / (arrangements + 1) + 1 / (arrangements + 1)


TESTS: dict[str, Callable[[Any, Any], Any]] = {
    "half-run Welch": half_run,
    "the same, always half a run": lambda x, y: half_run(x, y, 0.5),
    "the same, a whole run": lambda x, y: half_run(x, y, 1.0),
    "Welch": lambda x, y: half_run(x, y, 0.0),
    "permuted Welch, protocol 1": permuted_welch,
    "Yuen–Welch": yuen_welch,
}

Pair = tuple[str, Kind, int, Kind, int]
"""A name, and two kinds of brains with their numbers of runs."""


def _fails(share: float, mean: float) -> Kind:
    """Some runs fail completely, so that the mean is as given."""
    return mixed(share, FAILED, skilled(mean / (1 - share), 0))


EQUAL: list[Pair] = [
    *(
        (f"both {mean:g}, sd {sd:g}, {n} v {n}", skilled(mean, sd), n, skilled(mean, sd), n)
        for mean in (0.7, 0.9, 0.98)
        for sd in (0.06, 0.12)
        for n in SIZES
    ),
    *(
        (f"0.9, sd 0.02 v {sd:g}, {n} v {m}", skilled(0.9, 0.02), n, skilled(0.9, sd), m)
        for sd, n, m in (
            (0.2, 20, 10), (0.2, 10, 20), (0.25, 10, 10), (0.25, 20, 20), (0.25, 50, 50), (0.2, 50, 20)
        )
    ),
]  # fmt: skip
POWER: list[Pair] = [
    (f"{low:g} v {high:g}, sd 0.06, {n} v {n}", skilled(low, 0.06), n, skilled(high, 0.06), n)
    for low, high in ((0.8, 0.95), (0.8, 0.9))
    for n in SIZES
]


SCANNED = (
    *((n, n) for n in (*SIZES, 100)),
    *((10, 20), (20, 10), (10, 50), (50, 10), (20, 50), (50, 20), (50, 200), (200, 50)),
)


def scan() -> Iterator[Pair]:
    """Pairs of equal means of many kinds and sizes."""
    for mean in (0.5, 0.7, 0.8, 0.9, 0.93, 0.95, 0.96, 0.98, 0.99):
        top = (mean * (1 - mean)) ** 0.5
        spread = {f"sd {sd:g}": skilled(mean, sd) for sd in (0.02, 0.06, 0.12, 0.25) if sd < top}
        spread["no spread"] = skilled(mean, 0)
        for share in (0.02, 0.05, 0.1, 0.2):
            if mean < 1 - share:
                spread[f"{share:.0%} fail"] = _fails(share, mean)
        spread["fails or is perfect"] = mixed(1 - mean, FAILED, PERFECT)
        names = list(spread)
        for i, one in enumerate(names):
            for other in names[i:]:
                for n, m in SCANNED:
                    name = f"{mean:g}: {one} v {other}, {n} v {m}"
                    yield name, spread[one], n, spread[other], m


def called(pair: Pair, samples: int, tests: Sequence[str], seed: int = 0) -> dict[str, float]:
    """How often each test calls one of two better: p and the margin."""
    _, one, n, other, m = pair
    rng = np.random.default_rng((seed, n, m))
    x, y = one(rng, (samples, n)), other(rng, (samples, m))
    apart = abs(x.mean(axis=1) - y.mean(axis=1)) >= RULES.margin - 1e-12
    found = {test: float(np.mean((TESTS[test](x, y) < LEVEL) & apart)) for test in tests}
    for row, row2 in zip(x[:5].tolist(), y[:5].tolist(), strict=True):  # ours is the one that ships
        ours = half_run(np.array([row]), np.array([row2]))[0]
        assert abs(half_run_welch(row, row2).p - ours) < 1e-9
    return {test: round(share, 4) for test, share in found.items()}


def better(scale: float) -> dict[str, Any]:
    """How often one of two is called better: of equal means wrongly, of unlike ones rightly."""
    samples = max(100, int(4_000 * scale))
    closed = [test for test in TESTS if not test.startswith("permuted")]
    first = [(called(pair, max(100, samples // 8), closed), pair) for pair in scan()]
    worst: dict[str, tuple[float, str]] = {}
    # The worst of thousands of cells are so partly by chance: they are simulated again.
    for test in closed:
        for _, pair in sorted(first, key=lambda cell: -cell[0][test])[:25]:
            share = called(pair, 2 * samples, [test], seed=1)[test]
            worst[test] = max(worst.get(test, (0.0, "")), (share, pair[0]))
    cells = len(first)
    return {
        "equal": {pair[0]: called(pair, samples, list(TESTS)) for pair in EQUAL},
        "power": {pair[0]: called(pair, samples, list(TESTS)) for pair in POWER},
        "scan": {test: {"worst": share, "where": where} for test, (share, where) in worst.items()},
        "cells": cells,
    }


# ------------------------------------------------------------------------------ ranks, picked entries


STEADY, ERRATIC = skilled(0.9, 0.02), skilled(0.9, 0.2)
RARE = mixed(0.1, FAILED, PERFECT)
RARER = mixed(0.08, FAILED, PERFECT)
FIELDS: dict[str, Callable[[int], list[Kind]]] = {
    "equal spreads": lambda k: [skilled(0.9, 0.06)] * k,
    "spreads 0.02 and 0.2 mixed": lambda k: [STEADY, ERRATIC] * (k // 2),
    "one erratic among steady": lambda k: [ERRATIC] + [STEADY] * (k - 1),
    "steady, erratic and 10% failing": lambda k: ([STEADY, ERRATIC, RARE] * k)[:k],
    "steady, and 8% failing, else perfect": lambda k: [skilled(0.92, 0), RARER] * (k // 2),
}


def ranks(scale: float) -> dict[str, Any]:
    """The share of rankings of equal entries with any entry above another."""
    samples = max(50, int(1_000 * scale))
    found: dict[str, Any] = {}
    for name, field in FIELDS.items():
        for k in (6, 12):
            for n in SIZES:
                rng = np.random.default_rng(n + k)
                groups = [kind(rng, (samples, n)) for kind in field(k)]
                ids = [str(i) for i in range(k)]
                wrong, plain = 0, 0
                for at in range(samples):
                    rows = [group[at].tolist() for group in groups]
                    wrong += any(rank.better for rank in guarded_ranks(ids, rows, rules=GUARDED))
                pairs = [(i, j) for i in range(k) for j in range(i + 1, k)]
                least = np.full((samples, k), 1.0)
                for i, j in pairs:
                    p = half_run(groups[i], groups[j], 0.0)
                    apart = abs(groups[i].mean(axis=1) - groups[j].mean(axis=1)) >= RULES.margin
                    for side in (i, j):
                        least[:, side] = np.minimum(least[:, side], np.where(apart, p, 1.0))
                plain = float(np.mean((least * (k - 1)).min(axis=1) < LEVEL))
                found.setdefault(f"{k} entries, {name}", {})[str(n)] = {
                    "half-run Welch": round(wrong / samples, 4),
                    "Welch": round(plain, 4),
                }
    return found


def picked(scale: float) -> dict[str, Any]:
    """The first of a entries against the first of b, all equal: how often one is called better."""
    samples = max(100, int(4_000 * scale))
    found: dict[str, Any] = {}
    for name, field in FIELDS.items():
        for a, b in ((6, 1), (12, 1), (12, 12), (1, 12)):
            for n in SIZES:
                rng = np.random.default_rng(n + 100 * a + b)
                kinds = field(12)
                firsts = []
                for of in (kinds[:a], kinds[-b:]):
                    groups = np.array([kind(rng, (samples, n)) for kind in of])
                    best = groups.mean(axis=2).argmax(axis=0)
                    firsts.append(groups[best, np.arange(samples)])
                x, y = firsts
                delta = x.mean(axis=1) - y.mean(axis=1)
                tries = np.where(delta > 0, a, b)
                row = {}
                apart = abs(delta) >= RULES.margin - 1e-12
                for test in ("half-run Welch", "Welch"):
                    row[test] = round(float(np.mean((TESTS[test](x, y) < LEVEL) & apart)), 4)
                p = np.where(delta > 0, half_run(x, y, family=a), half_run(x, y, family=b))
                row["corrected"] = round(float(np.mean((p * tries < LEVEL) & apart)), 4)
                found.setdefault(f"{a} v {b}, {name}", {})[str(n)] = row
    return found


# ------------------------------------------------------------------------------------- replication


def drawn_p(submitted: Any, fresh: Any, arrangements: int = 999) -> Any:
    """The p of `exchangeable` of each row, over random arrangements that all rows share."""
    n, m = submitted.shape[1], fresh.shape[1]
    chosen = np.zeros((n + m, arrangements))
    chosen[n:] = 1.0
    np.random.default_rng(0).permuted(chosen, axis=0, out=chosen)
    sums = np.concatenate((submitted, fresh), axis=1) @ chosen
    lower = (sums <= fresh.sum(axis=1, keepdims=True)).sum(axis=1)
    return (1 + lower) / (1 + arrangements)


def replication(scale: float) -> dict[str, Any]:
    """How often honest runs are accused, and the best n of 2n or 5n are found out."""
    samples, few = max(50, int(4_000 * scale)), max(10, int(150 * scale))
    found: dict[str, Any] = {}
    for name, kind in KINDS.items():
        for n in SIZES:
            rng = np.random.default_rng(n)
            tried = np.rint(kind(rng, (samples, 5 * n)) * EPISODES).astype(int)
            fresh = np.rint(kind(rng, (samples, n)) * EPISODES).astype(int)
            row = {}
            for what, of in (("honest", 1), ("best of 2n", 2), ("best of 5n", 5)):
                shown = np.sort(tried[:, : of * n], axis=1)[:, -n:]
                exact = [
                    exchangeable(old, new, LEVEL)
                    for old, new in zip(shown[:few].tolist(), fresh[:few].tolist(), strict=True)
                ]
                if of > 1:
                    accused = [
                        sum(new) < lowest
                        for new, (_, lowest) in zip(fresh[:few].tolist(), exact, strict=True)
                    ]
                    row[what] = round(float(np.mean(accused)), 4)
                    continue
                # Over some of the arrangements, which holds the same level: many samples are needed.
                p = drawn_p(shown, fresh)
                row[what] = round(float(np.mean(p <= LEVEL + 1e-9)), 4)
                assert max(abs(a - b) for a, (b, _) in zip(p[:few], exact, strict=True)) < 0.1
                p = (shown.sum(axis=1) + 1) / (n * EPISODES + 2)
                sd = np.maximum(
                    (shown / EPISODES).std(axis=1, ddof=1), np.sqrt(p * (1 - p) / EPISODES)
                )
                bound = shown.mean(axis=1) / EPISODES - _reach(n, n, RULES) * sd
                before = fresh.mean(axis=1) / EPISODES < bound
                row[f"{what}, protocol 1"] = round(float(np.mean(before)), 4)
            found.setdefault(name, {})[str(n)] = row
    return found


# --------------------------------------------------------------------------------------- the tables


def _share(value: float) -> str:
    return "1" if value == 1 else f"{value:.3f}".removeprefix("0")


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return (
        "".join(f"| {' | '.join(line)} |\n" for line in lines)
        .replace("| --- ", "|---")
        .replace("|--- |", "|---|")
    )


def _sizes(cells: dict[str, float]) -> str:
    return " / ".join(_share(cells[str(n)]) for n in SIZES)


def tables(stored: dict[str, Any]) -> dict[str, str]:
    """The tables of docs/statistics.md by name, of what is stored."""
    shown = stored["coverage"]
    ours = {figure: next(iter(shown[figure].values())) for figure in FIGURES}
    student = shown["mean"]["t (pooled Wilson if sd 0), protocol 1"]
    out = {
        "coverage": _table(
            ["runs", "mean: Gaffke", "mean: t", "IQM", "share of runs"],
            [
                [name, *(_sizes(of[name]) for of in (ours["mean"], student, ours["iqm"], ours["share"]))]
                for name in KINDS
            ],
        ),
        "width": _table(
            ["runs", "mean", "IQM", "share of runs"],
            [[name, *(_sizes(shown["width"][figure][name]) for figure in FIGURES)] for name in KINDS],
        ),
        "methods": _table(
            ["figure", "method", "lowest coverage, 10 / 20 / 50 runs"],
            [
                [NAMES[figure], method, _sizes({
                    str(n): min(cell[str(n)] for cell in cells.values()) for n in SIZES
                })]
                for figure in FIGURES
                for method, cells in shown[figure].items()
            ],
        ),
    }  # fmt: skip
    found = stored["better"]
    out["better"] = _table(
        ["test", "equal means: worst of the cells", f"worst of {found['cells']:,} cells",
         *(name.replace(", sd 0.06", "") for name in found["power"])],
        [
            [
                test,
                _share(max(cell[test] for cell in found["equal"].values())),
                _share(found["scan"][test]["worst"]) if test in found["scan"] else "",
                *(_share(cell[test]) for cell in found["power"].values()),
            ]
            for test in TESTS
        ],
    )  # fmt: skip
    out["ranks"] = _table(
        ["equal entries", "half-run Welch", "Welch"],
        [
            [name, *(_sizes({n: cell[test] for n, cell in cells.items()})
                     for test in ("half-run Welch", "Welch"))]
            for name, cells in stored["ranks"].items()
        ],
    )  # fmt: skip
    out["picked"] = _table(
        ["first against first, all equal", "corrected", "not corrected", "Welch, not corrected"],
        [
            [name, *(_sizes({n: cell[test] for n, cell in cells.items()})
                     for test in ("corrected", "half-run Welch", "Welch"))]
            for name, cells in stored["picked"].items()
        ],
    )  # fmt: skip
    out["replication"] = _table(
        ["runs", "honest, accused", "protocol 1", "best n of 2n", "best n of 5n"],
        [
            [name, *(_sizes({n: cell[what] for n, cell in cells.items()})
                     for what in ("honest", "honest, protocol 1", "best of 2n", "best of 5n"))]
            for name, cells in stored["replication"].items()
        ],
    )  # fmt: skip
    return out


def marked(name: str) -> tuple[str, str]:
    """What stands before and after a table in the document."""
    return f"<!-- calibration: {name} -->\n", "<!-- /calibration -->\n"


def spliced(page: str, stored: dict[str, Any]) -> str:
    """The document with its tables as they are stored. Raises ValueError for a missing marker."""
    for name, text in tables(stored).items():
        begin, end = marked(name)
        start = page.index(begin) + len(begin)
        page = page[:start] + text + page[page.index(end, start) :]
    return page


PARTS: dict[str, Callable[[float], dict[str, Any]]] = {
    "coverage": coverage,
    "better": better,
    "ranks": ranks,
    "picked": picked,
    "replication": replication,
}


def main() -> None:
    """Simulates, stores and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="times the number of samples")
    parser.add_argument("--only", choices=PARTS, nargs="*")
    parser.add_argument("--docs", action="store_true", help="simulate nothing")
    args = parser.parse_args()
    stored = json.loads(STORED.read_text()) if STORED.exists() else {}
    for name, part in PARTS.items():
        if not args.docs and (not args.only or name in args.only):
            stored[name] = part(args.scale)
            STORED.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n")
            print(f"{name}: done", flush=True)
    DOCS.write_text(spliced(DOCS.read_text(encoding="utf-8"), stored), encoding="utf-8")


if __name__ == "__main__":
    main()
