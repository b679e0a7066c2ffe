"""What a study on a Dask cluster costs beside one on processes of the same machine.

    python plugins/qn-tracking-dask/tests/speed.py [--repeat N] [--n-seeds N] [--episodes N]

Two workers, `--jobs 2` and the whole of `qn-run` in both; the cluster is there already. In turns,
so that the machine's moods meet both: medians. The workers' first study, in which they import
what they need, stands by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

BIN = Path(sys.executable).parent
CONFIG = "mlp_dynamic_small"


@contextmanager
def running(*command: str, folder: str) -> Iterator[None]:
    """A program of Dask, for as long as it is needed."""
    with open(os.devnull, "w") as null:
        process = subprocess.Popen(
            [str(BIN / "dask"), *command], cwd=folder, stdout=null, stderr=null
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait()


def timed(folder: str, *args: str) -> float:
    """Wall seconds of a study."""
    began = time.perf_counter()
    subprocess.run([str(BIN / "qn-run"), CONFIG, "--quiet", *args], cwd=folder, check=True)
    return time.perf_counter() - began


def measure(repeat: int, runs: int, episodes: int) -> dict[str, float]:
    """The figures: seconds, and the ratio of cluster and processes."""
    pairs = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as cluster:
        subprocess.run(["git", "init", "-q", folder], check=True)
        file = Path(folder, "scheduler.json")
        where = ("--scheduler-file", str(file))
        for command in (
            ("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", *where),
            *[("worker", *where, "--nthreads", "1", "--no-dashboard")] * 2,
        ):
            cluster.enter_context(running(*command, folder=folder))
            while not (file.exists() and file.read_text().endswith("}")):
                time.sleep(0.05)
        time.sleep(5)  # the workers
        for seed in range(repeat + 1):
            args = ("--n-seeds", str(runs), "--episodes", str(episodes), "--seed", str(seed))
            here = timed(folder, *args, "--jobs", "2")
            there = timed(folder, *args, "--jobs", "2", "--executor", f"dask://{file}")
            pairs.append((here, there))
    (here, there), *others = pairs
    return {
        "first study": there / here,
        "processes, s": statistics.median(here for here, _ in others),
        "cluster, s": statistics.median(there for _, there in others),
        "ratio": statistics.median(there / here for here, there in others),
    }


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--n-seeds", type=int, default=10)
    parser.add_argument("--episodes", type=int, default=50)
    args = parser.parse_args()
    figures = measure(args.repeat, args.runs, args.episodes)
    if args.json:
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        print(f"{name:16} {value:8.2f}" + ("   to reach: 1.3" if name == "ratio" else ""))


if __name__ == "__main__":
    main()
