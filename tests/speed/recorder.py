"""What tracking costs, beside what was recorded of other trackers on the same work.

    python tests/speed/recorder.py [--json] [--repeat N]

Every figure is the median of several runs in this invocation. The peers' figures are recorded ones,
of another day on a similar machine: the order and the ratios count, not the absolute times.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from time import perf_counter

CONFIG = {f"section{i}": {f"key{j}": i * j / 7 for j in range(5)} for i in range(5)}
METRICS = ("loss", "entropy", "kl", "value", "grad_norm", "lr")

LOOP = f"""
import sys, time
t = time.perf_counter
def work():  # fixed, about 0.3 ms: a loop that watches the clock would hide what tracking takes
    for i in range(15000): pass
metrics = {{name: 0.1 + i for i, name in enumerate({METRICS})}}
config = {CONFIG}
"""
BARE = LOOP + "for i in range(1000): work()\n"
TRACKED = (
    LOOP
    + """
from qn_tracking import track
with track(config, seed=1) as run:
    for i in range(1000):
        work()
        run.episode(success=i % 2 == 0, steps=i, reward=0.5 * i, **metrics)
"""
)

# The first run warms up; the second is timed, as the next one of a study would be.
IN_PROCESS = (
    LOOP
    + """
import json, statistics
t0 = t()
from qn_tracking import hookimpl, make_manager, Recorder, track
t1 = t()
run = track(config, seed=1)
run.start()
t2 = t()
run.episode(success=True, steps=1, reward=1.0, **metrics)
time.sleep(0.4)
run.end()

class Idle:
    @hookimpl
    def episode_end(self, episode): pass

manager = make_manager(("metadata", "json_storage"))
for i in range(int(sys.argv[1])):
    manager.register(Idle(), name=f"idle{i}")
t3 = t()
run = Recorder(config, manager=manager, seed=1, experiments_dir="experiments")
run.start()
t4 = t()
time.sleep(0.4)  # the loop of a real run; git is read meanwhile

import orjson, os
own = os.open("plain.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def plain(**fields):
    os.write(own, orjson.dumps(fields) + b"\\n")
bare = []
for i in range(5000):
    began = t()
    plain(success=i % 2 == 0, steps=i, reward=0.5 * i, **metrics)
    bare.append((t() - began) * 1e6)
each = []
for i in range(5000):
    began = t()
    run.episode(success=i % 2 == 0, steps=i, reward=0.5 * i, **metrics)
    each.append((t() - began) * 1e6)
t5 = t()
run.end()
t6 = t()
print(json.dumps({
    "import_ms": (t1 - t0) * 1e3,
    "first_start_ms": (t2 - t1) * 1e3,
    "start_ms": (t4 - t3) * 1e3,
    "episode_us_median": statistics.median(each),
    "episode_us_mean": statistics.mean(each),
    "episode_ratio": statistics.median(each) / statistics.median(bare),
    "episode_us_p99": sorted(each)[-50],
    "end_ms": (t6 - t5) * 1e3,
}))
"""
)

MEMORY = """
import resource, sys
from qn_tracking import track
with track({"a": 1}, seed=1) as run:
    for i in range(int(sys.argv[1])):
        run.episode(success=True, steps=i, reward=0.5 * i, loss=0.25 * i)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""

SERIES = (
    LOOP
    + """
import json
from qn_tracking import Experiments, track
import pandas
t = time.process_time
values = {f"value{i}": 0.1 * i for i in range(8)}
with track({"a": 1}, seed=1) as run:
    t0 = t()
    for i in range(125_000):
        run.log(values)
    t1 = t()
    for i in range(125_000):
        run.episode(success=i % 2 == 0, steps=i, reward=0.5 * i, **metrics)
    t2 = t()
with track({"a": 1}, seed=1) as one:
    for i in range(1_000_000):
        one.log({"loss": 0.1 * i})
store, read = Experiments("experiments"), []
store.series(run.id, ["none"]).to_pandas()
for id in (run.id, one.id):
    t3 = t()
    assert len(store.series(id).to_pandas()) == 1_000_000
    read.append(t() - t3)
print(json.dumps({
    "log_ratio": (t1 - t0) / (t2 - t1),
    "million_of_eight_cpu_s": read[0],
    "million_of_one_cpu_s": read[1],
}))
"""
)

PEERS = (
    ("exptrack 2.1", "66-73", "22-35", "1.6", "1 of 500"),
    ("goodseed 0.4", "106-123", "6-7", "2.0", "500 of 500"),
    ("Sacred 0.8.7, files", "11-15, in memory", "29-41", "2.3", "0 of 500"),
    ("Trackio 0.43", "16-21, queued", "30-35", "3.2", "0 of 500"),
    ("tensorboardX", "480", "5-7", "3.6", "475-495 of 500"),
    ("W&B 0.31, offline", "115-374", "7-9", "5.5", "475-495 of 500"),
    ("MLflow 3.17, files", "887-922", "2", "10.3", "500 of 500"),
)


def run(code: str, folder: str, *args: str) -> tuple[float, float, str]:
    """Wall seconds, CPU seconds and output of a Python program, and of what it starts."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHONDONTWRITE")}
    began, before = perf_counter(), _cpu()
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    return perf_counter() - began, _cpu() - before, done.stdout


def _cpu() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def measure(repeat: int) -> dict[str, float]:
    """All figures, each a median over `repeat` runs in a fresh git repository."""
    with tempfile.TemporaryDirectory() as folder:
        git = ["git", "-c", "user.name=speed", "-c", "user.email=speed@example.org"]
        subprocess.run([*git, "init", "-q", folder], check=True)
        subprocess.run([*git, "-C", folder, "commit", "-q", "--allow-empty", "-m", "0"], check=True)
        run(TRACKED, folder)  # writes the byte code
        pairs = [(run(BARE, folder), run(TRACKED, folder)) for _ in range(repeat)]
        inside = [json.loads(run(IN_PROCESS, folder, "0")[2]) for _ in range(repeat)]
        idle = [json.loads(run(IN_PROCESS, folder, "10")[2]) for _ in range(repeat)]
        logged = [json.loads(run(SERIES, folder)[2]) for _ in range(repeat)]
        small, large = (float(run(MEMORY, folder, n)[2]) for n in ("1000", "100000"))
    median = statistics.median
    figures = {key: median(one[key] for one in inside) for key in inside[0]}
    more = median(one["episode_us_median"] for one in idle) - figures["episode_us_median"]
    return {
        **figures,
        "idle_sink_us": more / 10,
        "bare_process_ms": median(bare[0] for bare, _ in pairs) * 1e3,
        "tracked_process_ms": median(tracked[0] for _, tracked in pairs) * 1e3,
        "process_ratio": median(tracked[0] / bare[0] for bare, tracked in pairs),
        "process_cpu_ratio": median(tracked[1] / bare[1] for bare, tracked in pairs),
        "memory_1000_mb": small,
        "memory_100000_mb": large,
        **{key: median(one[key] for one in logged) for key in logged[0]},
    }


TARGETS = {
    "import_ms": 45,
    "start_ms": 5,
    "episode_ratio": 2.7,
    "episode_us_median": 10,
    "end_ms": 15,
    "idle_sink_us": 1,
    "process_ratio": 1.35,
    "process_cpu_ratio": 1.55,
    "log_ratio": 1.0,
    "million_of_eight_cpu_s": 1.0,
    "million_of_one_cpu_s": 1.0,
}


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeat", type=int, default=5)
    args = parser.parse_args(argv)
    figures = measure(args.repeat)
    if args.json:
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        target = f"   to reach: {TARGETS[name]}" if name in TARGETS else ""
        print(f"{name:22} {value:10.2f}{target}")
    more = figures["memory_100000_mb"] - figures["memory_1000_mb"]
    print(f"{'memory_growth_mb':22} {more:10.2f}   to reach: 30")
    print("\nrecorded of others: us per episode, ms at the end, x bare loop, after kill -9")
    for peer in PEERS:
        print("  {:22} {:18} {:8} {:6} {}".format(*peer))


if __name__ == "__main__":
    main()
