"""How long it takes to rank entries under guarded inference, beyond reading them.

    python tests/speed/ranking.py [--entries N] [--runs N] [--json]

Each figure is of a new process, imports included: the ranks of one category of so many entries,
the same with one new entry in it, and the figures of a single entry that was read.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from time import perf_counter, process_time
from typing import Any

STEPS = ("rank all", "rank again", "one new", "figures of one entry")


def made_up(number: int, runs: int) -> Any:
    """An entry as the cache holds it, with as many values of a rate."""
    from qn_tracking.benchmark.entries import MAPPINGS, STORED, Entry

    draw = random.Random(number)
    skill = draw.uniform(0.5, 0.98)
    values = [sum(draw.random() < skill for _ in range(20)) / 20 for _ in range(runs)]
    data: dict[str, Any] = {name: {} if name in MAPPINGS else "" for name in STORED}
    data |= {
        "id": f"20260101T000000Z-{number:08x}",
        "sha256": f"{number:064x}",
        "protocol": 2,
        "category": {"environment": "made_up", "family": "classical"},
        "source": {"commit": None, "dirty": False},
        "contribution": {"contributor": "Somebody"},
        "study": None,
        "errors": [],
        "values": {"success_rate": values},
        "aggregates": {"runs": runs, "success_rate": {"mean": sum(values) / runs}},
    }
    return Entry(data, [number])


def step(name: str, folder: str, entries: int, runs: int) -> tuple[float, float]:
    """Seconds of one step, wall and CPU; the entries are there before it begins."""
    from attrs import evolve

    from qn_tracking.benchmark.protocol import rulebook
    from qn_tracking.benchmark.survey import Survey

    protocol = evolve(rulebook().now, version=2, inference="guarded")
    known = [made_up(i, runs) for i in range(entries + (name == "one new"))]
    if name == "figures of one entry":
        began, used = perf_counter(), process_time()
        from qn_tracking.inference.bounded import gaffke, iqm_interval
        from qn_tracking.inference.proportion import clopper_pearson

        gaffke(known[0].values["success_rate"])
        iqm_interval(known[0].values["success_rate"])
        clopper_pearson(runs - 1, runs)
        return perf_counter() - began, process_time() - used
    began, used = perf_counter(), process_time()
    from qn_tracking.benchmark.ranking import rank

    survey = Survey(folder)
    survey.rules, survey.version = "made up", 2
    for entry in known:
        survey.cache.entries[entry.id] = {"stamp": entry.stamp, "entry": entry.stored()}
    rows = rank(known, survey, protocol=protocol)
    survey.cache.save()
    if len(rows) != len(known):
        raise SystemExit(f"{len(rows)} of {len(known)} are ranked")
    return perf_counter() - began, process_time() - used


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=400)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        print(json.dumps(step(args.step, args.folder, args.entries, args.runs)))
        return
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in STEPS:
            again = [sys.executable, __file__, "--step", name, "--folder", folder]
            again += ["--entries", str(args.entries), "--runs", str(args.runs)]
            done = subprocess.run(again, check=True, capture_output=True, text=True)
            found[name] = json.loads(done.stdout)
    if args.json:
        print(json.dumps(found, indent=2))
        return
    for name, (wall, cpu) in found.items():
        print(f"{name:22} {wall:6.3f} s, {cpu:6.3f} s of CPU")
    print(f"to reach with 400: {STEPS[0]} 5 s, {STEPS[2]} 0.5 s")


if __name__ == "__main__":
    main()
