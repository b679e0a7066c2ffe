"""What a second worker gains a study, beside what this machine gives two busy processes.

    python tests/speed/study.py [--json] [--repeat N] [--n-seeds N]

All in one run, in turns, so that the machine's moods meet everyone: medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

QN_RUN = str(Path(sys.executable).parent / "qn-run")
BUSY = "x = 0\nfor i in range(30_000_000): x += i"


def timed(*commands: Sequence[str], folder: str) -> float:
    """Wall seconds of commands that run at the same time."""
    began = perf_counter()
    running = [subprocess.Popen(command, cwd=folder) for command in commands]
    for process in running:
        if process.wait():
            raise SystemExit(f"{process.args} exited {process.returncode}")
    return perf_counter() - began


def measure(repeat: int, runs: int) -> dict[str, float]:
    """The figures."""
    busy = [sys.executable, "-c", BUSY]
    found: dict[str, list[float]] = {name: [] for name in ("busy 1", "busy 2", "jobs 1", "jobs 2")}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "init", "-q", folder], check=True)
        study = [QN_RUN, "mlp_dynamic_small", "--n-seeds", str(runs), "--episodes", "50"]
        for i in range(repeat):
            found["busy 1"].append(timed(busy, folder=folder))
            found["busy 2"].append(timed(busy, busy, folder=folder))
            for jobs in ("1", "2"):
                more = ["--seed", str(i), "--jobs", jobs, "--quiet"]
                found[f"jobs {jobs}"].append(timed([*study, *more], folder=folder))
    seconds = {name: statistics.median(values) for name, values in found.items()}
    machine = statistics.median(
        2 * one / two for one, two in zip(found["busy 1"], found["busy 2"], strict=True)
    )
    ours = statistics.median(
        one / two for one, two in zip(found["jobs 1"], found["jobs 2"], strict=True)
    )
    return {
        **seconds,
        "gain of the machine": machine,
        "gain of a study": ours,
        "share": ours / machine,
    }


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--n-seeds", type=int, default=10)
    args = parser.parse_args()
    figures = measure(args.repeat, args.runs)
    if args.json:
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        print(f"{name:22} {value:8.2f}" + ("   to reach: 0.9" if name == "share" else ""))


if __name__ == "__main__":
    main()
