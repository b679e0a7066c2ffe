"""`qn-bench leaderboard` with many submissions, as a ratio to its own time with ten.

    python tests/speed/leaderboard.py [--entries N] [--repeat N] [--json]

The submissions are made up, but valid. The first look judges them all and compares every pair; from
then on, files and ranks are cached, and that is what is timed. With 1,000 entries in eight
categories the first look compares 62,000 pairs and takes its minutes.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from attrs import evolve

from qn_tracking import config as configuration
from qn_tracking.api.board import validators
from qn_tracking.benchmark import aggregate, files
from qn_tracking.benchmark.category import categorize
from qn_tracking.benchmark.protocol import rulebook
from qn_tracking.benchmark.task import task_digest, task_of
from qn_tracking.ids import run_seed
from qn_tracking.records.submission import Columns, Contribution, Run, StudyResult, Submission
from qn_tracking.tracking.manager import make_simulation

TASKS = ("simple_medium", "dynamic_small", "dynamic_medium", "dynamic_large")
QN_BENCH = str(Path(sys.executable).parent / "qn-bench")


def made_up(name: str, number: int) -> Submission:
    """A valid submission of a shipped configuration whose runs never ran, in the closed division:
    50 runs of 100 episodes.
    """
    draw = random.Random(number)
    config = configuration.load(name)
    manager = validators(config)
    task = task_of(config, manager)
    protocol = rulebook().now
    study = StudyResult(
        id=f"study-{number}", runs=50, seed=number, finished=50, failed=0, aborted=0
    )
    skill = draw.uniform(0.4, 0.95)
    runs = []
    for i in range(study.runs):
        success = tuple(draw.random() < skill for _ in range(100))
        episodes = Columns(
            seed=(None,) * len(success),
            success=success,
            termination=("goal_reached",) * len(success),
            steps=tuple(draw.randrange(10, 300) for _ in success),
            reward=tuple(draw.gauss(5, 2) for _ in success),
            metrics={"path_efficiency": tuple(draw.random() for _ in success)},
        )
        found = aggregate.digests(episodes)
        runs.append(
            Run(
                id=f"s{i}",
                seed=run_seed(task_digest(task), study.seed, i),
                started="2026-01-01T00:00:00Z",
                digests=found,
                wall_seconds=1.0,
                episodes=episodes,
            )
        )
    subject = make_simulation(config, manager).subject
    return Submission(
        id=f"20260101T000000Z-{number:08x}",
        protocol=protocol.version,
        created="2026-01-01T00:00:00Z",
        category=categorize(config, protocol, manager),
        contribution=Contribution(contributor=f"Somebody {number % 40}"),
        subject=subject,
        code=tuple({"name": package, "digest": "0" * 64} for package in subject.packages),
        config=evolve(config, settings={}),
        text=config.text,
        task=task,
        study=study,
        episodes=len(runs[0].episodes.success),
        aggregates=aggregate.aggregate(runs, protocol),
        runs=tuple(runs),
    )


def look(folder: str) -> float:
    """Seconds of one whole process."""
    began = perf_counter()
    subprocess.run([QN_BENCH, "leaderboard"], cwd=folder, check=True, capture_output=True)
    return perf_counter() - began


def measure(entries: int, repeat: int) -> dict[str, float]:
    """First look and the median of later ones."""
    names = [f"{brain}_{task}" for brain in ("mlp", "modular") for task in TASKS]
    with tempfile.TemporaryDirectory() as folder:
        for i in range(entries):
            files.save(f"{folder}/benchmarks", made_up(names[i % len(names)], i))
        first = look(folder)
        told = [QN_BENCH, "leaderboard", "--json"]
        done = subprocess.run(told, cwd=folder, check=True, capture_output=True, text=True)
        ranked = sum(len(board["rows"]) for board in json.loads(done.stdout))
        if ranked != entries:
            raise SystemExit(f"{ranked} of {entries} are ranked: {done.stderr[:300]}")
        return {"first": first, "again": statistics.median(look(folder) for _ in range(repeat))}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=200)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    ten, many = measure(10, args.repeat), measure(args.entries, args.repeat)
    ratio = many["again"] / ten["again"]
    if args.json:
        print(json.dumps({"10": ten, str(args.entries): many, "ratio": ratio}, indent=2))
        return
    for n, found in ((10, ten), (args.entries, many)):
        print(f"{n:>6} entries: first look {found['first']:.2f} s, again {found['again']:.3f} s")
    print(f"ratio {ratio:.2f}   to reach: 2 with 1,000")


if __name__ == "__main__":
    main()
