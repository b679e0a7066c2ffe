"""How long `qn-exp list` takes with 10 and with 100,000 experiments, beside what others need.

    python tests/speed/list.py [--json] [--count N] [--repeat N] [--folder DIR]

Times are medians of whole processes of this invocation, and ratios are of one invocation, too. The
peers' figures were recorded on another day on a similar machine: they are marked so.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from time import perf_counter

import orjson

from qn_tracking.records.codec import document

SMALL = 10
ENV = {k: v for k, v in os.environ.items() if not k.startswith("PYTHONDONTWRITE")}
ENTRY = "from qn_tracking.cli.exp import entry; entry()"
FILTERS = {
    "list": (),
    "min-success-rate": ("--min-success-rate", "0.8"),
    "rare seed": ("--seed", "77"),
    "family and status": ("--family", "quantum", "--status", "completed"),
    "where": ("--where", "results.metrics.loss.mean > 1 and brain.config.gamma = 0.99"),
    "where, nothing fits": ("--where", "brain.config.gamma = 123"),
    "sort success": ("--sort", "success"),
}
PEERS = (
    # name, Python 1k / 10k ms, command line 1k / 10k s, filters on a metric
    ("exptrack 2.1", "4.5 / 29", "0.46 / 4.3", "no"),
    ("Sacred", "48 / 307", "none", "-"),
    ("Trackio", "639 / 6,981", "0.57 / 0.66", "raw SQL"),
    ("goodseed", "763 / 6,376", "0.53 / 4.8", "no"),
    ("MLflow SQLite", "991 / 4,021", "4.9 / 5.5", "no"),
    ("MLflow files", "1,902 / -", "5.1 / -", "no"),
    ("Quantum Nematode's own tool", "71 / 1,190", "3.2 / 4.5", "success rate only"),
)

TEMPLATE = """
import json, os, sys
from qn_tracking import track, Subject
with track({"environment": {"type": "dynamic", "dynamic": {"grid_size": 50, "foods": 10,
        "gradient": 1.5}}, "brain": {"name": "mlp", "config": {"gamma": 0.99, "hidden_dim": 64,
        "layers": 2, "entropy": 1e-3, "learning_rate": {"initial": 1e-3, "decay": 0.99}}},
        "max_steps": 500, "body_length": 6, "reward": {"food": 2.0, "step": -0.05}},
        seed=1, episodes=40,
        subject=Subject(environment="dynamic", brain="mlp", family="classical")) as run:
    for i in range(40):
        run.episode(success=i % 3 == 0, termination="food" if i % 3 == 0 else "starved", steps=i,
            reward=0.5 * i, counts={"foods": i}, loss=0.1 * i, entropy=0.2, distance=1.5 * i)
"""


def store(folder: str, count: int) -> str:
    """A folder of that many experiments, each different, written as records are."""
    experiments = os.path.join(folder, f"store{count}")
    shutil.rmtree(experiments, ignore_errors=True)
    with tempfile.TemporaryDirectory() as place:
        subprocess.run([sys.executable, "-c", TEMPLATE], cwd=place, check=True, env=ENV)
        found = os.path.join(place, "experiments")
        name = next(n for n in os.listdir(found) if n.endswith(".json"))
        with open(os.path.join(found, name), "rb") as stream:
            doc = orjson.loads(stream.read())
    os.makedirs(os.path.join(experiments, "runs"))
    rng = random.Random(7)
    for i in range(count):
        write(experiments, doc, i, rng)
    return experiments


def write(experiments: str, doc: dict, i: int, rng: random.Random) -> None:
    """One record more."""
    when = time.gmtime(1_700_000_000 + 97 * i)
    doc["id"] = f"{time.strftime('%Y%m%dT%H%M%SZ', when)}-{rng.getrandbits(32):08x}"
    doc["started"] = time.strftime("%Y-%m-%dT%H:%M:%S", when) + f".{i % 1_000_000:06d}Z"
    doc["seed"] = i
    doc["status"] = rng.choice(("completed", "completed", "completed", "failed"))
    doc["subject"]["family"] = rng.choice(("quantum", "classical"))
    results = doc["results"]
    results["success_rate"] = round(rng.random(), 4)
    results["avg_reward"] = rng.random() * 10
    results["curve"] = [rng.random() for _ in range(40)]
    doc["config"]["data"]["brain"]["config"]["gamma"] = rng.choice((0.9, 0.95, 0.99))
    with open(os.path.join(experiments, doc["id"] + ".json"), "wb") as stream:
        stream.write(document(doc))
    os.mkdir(os.path.join(experiments, "runs", doc["id"]))


def once(command: Sequence[str]) -> float:
    """Seconds of a process."""
    began = perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=ENV)
    return perf_counter() - began


def program(experiments: str, *options: str) -> list[str]:
    """The program as its console script runs it."""
    return [sys.executable, "-c", ENTRY, "list", "--experiments-dir", experiments, *options]


def measure(count: int, repeat: int, folder: str) -> dict[str, float]:
    """All figures; times in seconds."""
    figures: dict[str, float] = {}
    small, large = store(folder, SMALL), store(folder, count)
    time.sleep(2.1)  # a store that is being written at this moment is looked at more closely
    once(program(small))
    figures["first index"] = once(program(large))
    # A first --where makes an index; from then on it is there.
    where = FILTERS["where, nothing fits"]
    before = statistics.median(once(program(large)) for _ in range(5))
    figures["first --where, more than a list"] = once(program(large, *where)) - before
    for options in FILTERS.values():
        once(program(small, *options))
        once(program(large, *options))
    bare: list[float] = []
    ten: dict[str, list[float]] = {name: [] for name in FILTERS}
    all_: dict[str, list[float]] = {name: [] for name in FILTERS}
    for _ in range(repeat):  # in turns, so that a slow moment meets them all
        bare.append(once([sys.executable, "-c", "pass"]))
        for name, options in FILTERS.items():
            ten[name].append(once(program(small, *options)))
            all_[name].append(once(program(large, *options)))
    figures["python -c pass"] = statistics.median(bare)
    for name in FILTERS:
        figures[f"{name}: 10"] = statistics.median(ten[name])
        figures[f"{name}: {count}"] = statistics.median(all_[name])
    noticed = []
    rng = random.Random(8)
    found = next(n for n in os.listdir(large) if n.endswith(".json"))
    with open(os.path.join(large, found), "rb") as stream:
        doc = orjson.loads(stream.read())
    for i in range(3):
        write(large, doc, 10_000_000 + i, rng)
        noticed.append(once(program(large)))
        time.sleep(2.1)
        once(program(large))
    figures["noticing one new file"] = statistics.median(noticed)
    figures["--fresh"] = statistics.median(once(program(large, "--fresh")) for _ in range(3))
    return figures


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--folder", help="where the stores are made (default: a temporary folder)")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        figures = measure(args.count, args.repeat, folder)
    if args.json:
        print(json.dumps(figures, indent=2))
        return
    bare = figures["python -c pass"]
    print(f"{'python -c pass':34} {bare * 1e3:9.1f} ms")
    for name in FILTERS:
        small, large = figures[f"{name}: 10"], figures[f"{name}: {args.count}"]
        goal = "   to reach: 4" if name == "list" else ""
        print(
            f"{name + ', 10':34} {small * 1e3:9.1f} ms   {small / bare:5.2f} x python -c pass{goal}"
        )
        label = f"{name}, {args.count:,}"
        own = f"{large / small:5.2f} x at 10   to reach: 1.5"
        print(f"{label:34} {large * 1e3:9.1f} ms   {own}")
    for name, target in (
        ("first index", 30),
        ("first --where, more than a list", 0.3),
        ("noticing one new file", 0.6),
        ("--fresh", None),
    ):
        goal = f"   to reach: {target}" if target else ""
        print(f"{name:34} {figures[name]:9.2f} s {goal}")
    print(
        "\nrecorded of others, success rate >= 0.8 newest first: Python ms at 1k / 10k runs,"
        " command line s, filter on a metric"
    )
    for peer in PEERS:
        print("  {:28} {:14} {:14} {}".format(*peer))


if __name__ == "__main__":
    main()
