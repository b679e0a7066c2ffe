"""Steps per second of environment, brain and learning, beside what the original was recorded at.

    python tests/speed/simulation.py [--configs DIR] [--seconds S] [--json]

A report, never a test: it does not fail on timing.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

from qn_tracking import config as configuration
from qn_tracking.errors import QnError
from qn_tracking.tracking.manager import make_manager, make_simulation

# Configuration: (lowest, highest) steps per second recorded of the original on two cores with
# rendering off, and how many times the highest is to be reached, if that was agreed. Of its
# qmodular no speed is recorded: what stands there is that of its sibling modular.
RECORDED: dict[str, tuple[float, float, float | None]] = {
    "mlp_simple_medium": (1100, 1300, 35),
    "mlp_dynamic_small": (1080, 1080, 35),
    "mlp_dynamic_large": (71, 71, 100),
    "modular_simple_medium": (3, 6, 500),
    "qmodular_simple_medium": (3, 6, None),
    "qmlp_simple_medium": (577, 577, 10),
    "spiking_simple_medium": (32, 32, 50),
}


def measure(source: str, seconds: float) -> tuple[float, int]:
    """Steps per second over whole episodes of one run, for at least so long; their steps."""
    config = configuration.load(source)
    simulation = make_simulation(config, make_manager(config=config))
    episodes = simulation.episodes(1_000_000_000, seed=1)
    next(episodes)  # the first one pays for caches
    steps = 0
    start = perf_counter()
    while (elapsed := perf_counter() - start) < seconds:
        steps += next(episodes)["steps"]
    return steps / elapsed, steps


def rows(sources: dict[str, str], seconds: float) -> Iterator[dict[str, Any]]:
    """One row for each configuration; `problem` instead of a speed where it cannot be run."""
    for name, source in sources.items():
        row: dict[str, Any] = {"configuration": name}
        try:
            row["steps_per_second"], row["steps"] = measure(source, seconds)
        except QnError as error:
            row["problem"] = str(error)
        if name in RECORDED:
            low, high, target = RECORDED[name]
            row |= {"recorded": [low, high], "target_ratio": target}
            if "problem" not in row:
                row["ratio"] = row["steps_per_second"] / high
        yield row


def text(row: dict[str, Any]) -> str:
    """A row of the table."""
    name = f"{row['configuration']:32}"
    if "problem" in row:
        return f"{name} not run: {row['problem']}"
    line = f"{name} {row['steps_per_second']:10,.0f}"
    if "recorded" not in row:
        return line
    low, high = row["recorded"]
    recorded = f"{low:,}" if low == high else f"{low:,}-{high:,}"
    target = f"{row['target_ratio']:,}x" if row["target_ratio"] else "-"
    return f"{line} {recorded:>12} {row['ratio']:8,.0f}x {target:>9}"


def main() -> None:
    """Measure and print."""
    # NumPy is imported by the first simulation: one thread, as the runner pins it.
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--configs", type=Path, help="a folder of configurations; default: shipped")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each configuration")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    sources: dict[str, str] = configuration.shipped()
    if arguments.configs:
        sources = {path.stem: str(path) for path in sorted(arguments.configs.glob("*.yml"))}
    measured = rows(sources, arguments.seconds)
    if arguments.json:
        print(json.dumps(list(measured), indent=2))
        return
    heads = ("configuration", "steps/s here", "recorded", "ratio", "to reach")
    print("{:30} {:>12} {:>12} {:>9} {:>9}".format(*heads))
    for row in measured:
        print(text(row), flush=True)
    print("recorded: of the original, on 2 cores, not run here; ratio: to the highest recorded")
    print("no speed of the original's qmodular is recorded: that of its modular stands for it")


if __name__ == "__main__":
    main()
