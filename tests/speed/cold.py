"""Starts every command in a new process, and prints what that costs beside `python -c pass`.

    python tests/speed/cold.py [--rounds 15] [FILTER...]

The cost is CPU time, user and system, so that other programs on the machine count little. Modules
are compiled first, as pip leaves them: without bytecode, which PYTHONDONTWRITEBYTECODE prevents,
every figure is twice as large. Each round starts every command once, and `python -c pass` before
each. The figures are medians; a ratio is the median of the ratios of the rounds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median

BIN = Path(sys.executable).parent
ROOT = Path(__file__).resolve().parents[2]
LIMITS = {
    "qn-run --help": 4.0,
    "qn-exp --help": 4.0,
    "qn-bench --help": 4.0,
    "qn-run --version": None,
    "qn-run --list-plugins": 5.0,
    "qn-run --list-configs": None,
    "qn-exp list": 3.2,
    "qn-exp show @1": 5.5,
    "qn-exp best --single --metric reward": 5.5,
    "qn-exp compare @1 @2": 5.5,
    f"qn-bench leaderboard --benchmarks-dir {ROOT / 'benchmarks'}": 7.0,
    f"qn-bench list --benchmarks-dir {ROOT / 'benchmarks'}": 7.0,
}
"""Every command, and at most how many times `python -c pass` it may take."""


def seconds(*command: str, cwd: str) -> float:
    """The CPU time that a command takes in a process of its own."""
    before = getrusage(RUSAGE_CHILDREN)
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL)
    after = getrusage(RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("filters", nargs="*", metavar="FILTER", help="parts of commands")
    args = parser.parse_args()
    chosen = [
        line for line in LIMITS if not args.filters or any(part in line for part in args.filters)
    ]
    for name in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE"):
        os.environ.pop(name, None)
    with tempfile.TemporaryDirectory() as folder:
        for seed in "12":
            options = ("--episodes", "20", "--track-experiment", "--quiet", "--seed", seed)
            seconds(str(BIN / "qn-run"), "mlp_dynamic_small", *options, cwd=folder)
        times: dict[str, list[tuple[float, float]]] = {line: [] for line in chosen}
        for number in range(args.rounds + 1):
            for line in chosen:
                name, *rest = line.split()
                base = seconds(sys.executable, "-c", "pass", cwd=folder)
                spent = seconds(str(BIN / name), *rest, cwd=folder)
                if number:  # the first round fills the caches
                    times[line].append((base, spent))
    print(f"{'command':<40} {'pass':>8} {'command':>9} {'ratio':>6}  limit")
    for line, pairs in times.items():
        base, spent = (1000 * median(column) for column in zip(*pairs, strict=True))
        ratio = median(spent / base for base, spent in pairs)
        limit = LIMITS[line]
        shown = "" if limit is None else f"{limit}{'' if ratio <= limit else '  over'}"
        words = " ".join(line.split(" --benchmarks-dir ")[:1])
        print(f"{words:<40} {base:>5.1f} ms {spent:>6.1f} ms {ratio:>6.2f}  {shown}")


if __name__ == "__main__":
    main()
