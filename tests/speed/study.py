"""What a second worker gains a study, beside what this machine gives two busy processes.

    python tests/speed/study.py [--json] [--repeat N] [--n-seeds N]
    python tests/speed/study.py --scale [--arms 100] [--n-seeds 100]

All in one run, in turns, so that the machine's moods meet everyone: medians. With `--scale` a study
of many runs that simulate next to nothing: what a run costs beyond its simulation, how long the
study is shown, and how much memory all of that takes; it is killed in the middle and resumed. CPU
seconds are those of the command alone, without its workers.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter, process_time, sleep

QN_RUN, QN_EXP = (str(Path(sys.executable).parent / name) for name in ("qn-run", "qn-exp"))
RATE = "brain.config.learning_rate"
SHORT = ("--episodes", "20", "--set", "max_steps=5")
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


def spent(folder: str, *command: str, kill_at: int | None = None) -> tuple[float, float, float]:
    """Wall and CPU seconds of a command, and its peak memory in MB; killed at so many records."""
    began = perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    while kill_at is not None and process.poll() is None:
        sleep(0.2)
        if len(list(Path(folder, "experiments").glob("*.json"))) >= kill_at:
            process.send_signal(signal.SIGKILL)
            break
    _, status, usage = os.wait4(process.pid, 0)
    if status and kill_at is None:
        raise SystemExit(f"{command} ended with {status}")
    cpu = usage.ru_utime + usage.ru_stime
    return perf_counter() - began, cpu, usage.ru_maxrss / 1024


def overhead(folder: str, runs: int = 60) -> Iterator[float]:
    """CPU milliseconds of a run in a worker, without those of its simulation alone."""
    from attrs import evolve

    from qn_tracking import Study
    from qn_tracking.store import studies
    from qn_tracking.studies import execute
    from qn_tracking.tracking import runner

    study = Study.declare(
        "mlp_dynamic_small", n_seeds=runs, episodes=20, seed=1, overrides=["max_steps=5"],
        experiments_dir=f"{folder}/one",
    )  # fmt: skip
    plans = study._planned()
    states = studies.states(study.experiments_dir, study.record)
    snapshot = execute._snapshot(study.record, plans[0])
    for task in execute._tasks(study.record, plans, states, print):
        began = process_time()
        for _ in runner.make_simulation(task.config, plans[0].manager).episodes(20, task.seed):
            pass
        between = process_time()
        runner.run_task(evolve(task, snapshot=snapshot, jobs=1))
        yield 1000 * (process_time() - between - (between - began))


def scale(arms: int, seeds: int) -> dict[str, float]:
    """The figures of a study of many runs."""
    rates, runs = f"geomspace(1e-4,1e-1,{arms})", arms * seeds
    study = ["mlp_dynamic_small", "--sweep", f"{RATE}={rates}", "--n-seeds", str(seeds), *SHORT]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "init", "-q", folder], check=True)
        found = {"overhead of a run, CPU ms": statistics.median(overhead(folder))}
        more = ["--jobs", "2", "--name", "scale", "--baseline", "learning_rate=0.0001", "--quiet"]
        first = spent(folder, QN_RUN, *study, *more, kill_at=runs // 2)
        again = spent(folder, QN_RUN, "--resume", "scale", "--jobs", "2", "--quiet")
        found["a run, wall ms, two workers"] = 1000 * (first[0] + again[0]) / runs
        found["qn-run, CPU ms a run"] = 1000 * (first[1] + again[1]) / runs
        found["qn-run, peak MB"] = max(first[2], again[2])
        for name, command in {
            "show, first": ["show", "scale"],
            "show": ["show", "scale"],
            "compare": ["compare", "scale", "--baseline", "learning_rate=0.0001"],
        }.items():
            wall, cpu, memory = spent(folder, QN_EXP, *command)
            found |= {f"{name}, s": wall, f"{name}, CPU s": cpu, f"{name}, peak MB": memory}
        shown = subprocess.run(
            [QN_EXP, "show", "scale", "--json"], cwd=folder, capture_output=True, check=True
        )
        found["finished"] = json.loads(shown.stdout)["finished"]
    return found


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--n-seeds", type=int)
    parser.add_argument("--scale", action="store_true")
    parser.add_argument("--arms", type=int, default=100)
    args = parser.parse_args()
    if args.scale:
        figures = scale(args.arms, args.n_seeds or 100)
    else:
        figures = measure(args.repeat, args.n_seeds or 10)
    if args.json:
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        print(f"{name:30} {value:10.2f}" + ("   to reach: 0.9" if name == "share" else ""))


if __name__ == "__main__":
    main()
