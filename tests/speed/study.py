"""What a second worker gains a study, beside what it gains the simulation alone on this machine.

    python tests/speed/study.py [--json] [--arms 4] [--n-seeds 25] [--episodes 20]
    python tests/speed/study.py --arms 100 --n-seeds 100
    python tests/speed/study.py --scale [--arms 100] [--n-seeds 100]

The baseline are the same runs of the same simulation without any tracking, in one process and in
two at the same time. Then the study with one job and with two. All of it by wall time, and by the
CPU time of every process that took part. On a machine that is busy with other work only CPU times
say something.

With `--scale` a study of many runs that simulate next to nothing: what a run costs beyond its
simulation, how long the study is shown, and how much memory all of that takes; it is killed in the
middle and resumed.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time, sleep

QN_RUN, QN_EXP = (str(Path(sys.executable).parent / name) for name in ("qn-run", "qn-exp"))
RATE = "brain.config.learning_rate"
SHORT = ("--episodes", "20", "--set", "max_steps=5")
CONFIG = "mlp_dynamic_small"
GOALS = {
    "share of the gain": "   at least 0.9",
    "a run beyond its simulation, CPU ms": "   at most 15",
    "overhead of a run, CPU ms": "   at most 15",
    "show, CPU s": "   at most 2",
    "compare, CPU s": "   at most 5",
}


@dataclass
class Spent:
    """Wall seconds; CPU seconds of the command, and of all that it started; its peak MB."""

    wall: float
    own: float
    cpu: float
    peak: float


def spent(folder: str, *commands: Sequence[str], kill_at: int | None = None) -> Spent:
    """What commands that run at the same time take; killed at so many records."""
    began = looked = perf_counter()
    running = {
        (process := subprocess.Popen(one, cwd=folder, stdout=subprocess.DEVNULL)).pid: process
        for one in commands
    }
    wall = own = cpu = peak = 0.0
    while True:
        for pid in running:
            peak = max(peak, peak_of(pid))
        try:
            # Workers whose parent has ended are ours: see `adopt`.
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return Spent(wall, own, cpu, peak)
        if not pid:
            sleep(0.02)
            if kill_at is not None and perf_counter() - looked > 0.5:
                looked = perf_counter()
                if len(list(Path(folder, "experiments").glob("*.json"))) >= kill_at:
                    for one in running:
                        os.kill(one, signal.SIGKILL)
            continue
        cpu += usage.ru_utime + usage.ru_stime
        if running.pop(pid, None) is not None:
            own += usage.ru_utime + usage.ru_stime
            wall = perf_counter() - began
            if status and kill_at is None:
                raise SystemExit(f"{commands} ended with {status}")


def peak_of(pid: int) -> float:
    """The peak memory of a process in MB. That of `wait4` begins with the memory of this script."""
    with suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        return int(found[1]) / 1000 if found else 0.0
    return 0.0


def adopt() -> None:
    """Makes this process the parent of workers whose own has ended (PR_SET_CHILD_SUBREAPER)."""
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)


def bare(arms: int, seeds: int, episodes: int, first: int, step: int) -> None:
    """Every so many of the runs of a study, simulated in this process and not recorded."""
    from qn_tracking import Study
    from qn_tracking.tracking.manager import make_simulation

    study = Study.plan(CONFIG, sweep={RATE: rates(arms)}, n_seeds=seeds, seed=1, episodes=episodes)
    plans, record = study._planned(), study.record
    for index in range(first, record.runs, step):
        plan = plans[record.place_of(index)]
        simulation = make_simulation(plan.config, plan.manager)
        for _ in simulation.episodes(episodes, record.seed_of(index)):
            pass


def rates(arms: int) -> str:
    """The values that are swept."""
    return f"geomspace(1e-4,1e-1,{arms})"


def measure(arms: int, seeds: int, episodes: int) -> dict[str, float]:
    """The figures."""
    runs, size = arms * seeds, ["--n-seeds", str(seeds), "--episodes", str(episodes)]
    alone = [sys.executable, __file__, "--bare", "--arms", str(arms), *size]
    study = [QN_RUN, CONFIG, "--sweep", f"{RATE}={rates(arms)}", *size, "--seed", "1", "--quiet"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "init", "-q", folder], check=True)
        one = spent(folder, [*alone, "--part", "0", "1"])
        two = spent(folder, [*alone, "--part", "0", "2"], [*alone, "--part", "1", "2"])
        job = spent(folder, [*study, "--jobs", "1"])
        jobs = spent(folder, [*study, "--jobs", "2"])
    gains = {"simulation alone": one.wall / two.wall, "study": job.wall / jobs.wall}
    return {
        "runs": runs,
        **{
            f"{name}, {kind}": value
            for name, found in {
                "simulation alone, 1 process": one,
                "simulation alone, 2 processes": two,
                "study, 1 job": job,
                "study, 2 jobs": jobs,
            }.items()
            for kind, value in (("wall s", found.wall), ("CPU s", found.cpu))
        },
        **{f"gain of two, {name}": gain for name, gain in gains.items()},
        "processors that two processes had": two.cpu / two.wall,
        "share of the gain": gains["study"] / gains["simulation alone"],
        "2 processes / study of 2 jobs, wall": two.wall / jobs.wall,
        "2 processes / study of 2 jobs, CPU": two.cpu / jobs.cpu,
        "a run beyond its simulation, CPU ms": 1000 * (jobs.cpu - two.cpu) / runs,
    }


def overhead(folder: str, runs: int = 60) -> Iterator[float]:
    """CPU milliseconds of a run in a worker, without those of its simulation alone."""
    from attrs import evolve

    from qn_tracking import Study
    from qn_tracking.store import studies
    from qn_tracking.studies import execute
    from qn_tracking.tracking import pool
    from qn_tracking.tracking.manager import make_simulation

    study = Study.declare(
        "mlp_dynamic_small", n_seeds=runs, episodes=20, seed=1, overrides=["max_steps=5"],
        experiments_dir=f"{folder}/one",
    )  # fmt: skip
    plans = study._planned()
    states = studies.states(study.experiments_dir, study.record)
    snapshot = execute._snapshot(study.record, plans[0])
    for task in execute._tasks(study.record, plans, states, print):
        began = process_time()
        for _ in make_simulation(task.config, plans[0].manager).episodes(20, task.seed):
            pass
        between = process_time()
        pool.run_task(evolve(task, snapshot=snapshot, jobs=1))
        yield 1000 * (process_time() - between - (between - began))


def scale(arms: int, seeds: int) -> dict[str, float]:
    """The figures of a study of many runs."""
    runs = arms * seeds
    study = [CONFIG, "--sweep", f"{RATE}={rates(arms)}", "--n-seeds", str(seeds), *SHORT]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["git", "init", "-q", folder], check=True)
        found = {"overhead of a run, CPU ms": statistics.median(overhead(folder))}
        more = ["--jobs", "2", "--name", "scale", "--quiet"]
        first = spent(folder, [QN_RUN, *study, *more], kill_at=runs // 2)
        again = spent(folder, [QN_RUN, "--resume", "scale", "--jobs", "2", "--quiet"])
        found["a run, wall ms, two workers"] = 1000 * (first.wall + again.wall) / runs
        found["a run, CPU ms of all processes"] = 1000 * (first.cpu + again.cpu) / runs
        found["qn-run, CPU ms a run"] = 1000 * (first.own + again.own) / runs
        found["qn-run, peak MB"] = max(first.peak, again.peak)
        for name, command in {
            # Without a baseline: all pairs of arms are tested.
            "show, first": ["show", "scale"],
            "show": ["show", "scale"],
            "compare": ["compare", "scale", "--baseline", "learning_rate=0.0001"],
        }.items():
            it = spent(folder, [QN_EXP, *command])
            found |= {f"{name}, s": it.wall, f"{name}, CPU s": it.cpu, f"{name}, peak MB": it.peak}
        shown = subprocess.run(
            [QN_EXP, "show", "scale", "--json"], cwd=folder, capture_output=True, check=True
        )
        found["finished"] = json.loads(shown.stdout)["finished"]
    return found


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--scale", action="store_true")
    parser.add_argument("--arms", type=int)
    parser.add_argument("--n-seeds", type=int)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--bare", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.bare:
        bare(args.arms, args.n_seeds, args.episodes, *args.part)
        return
    adopt()
    if args.scale:
        figures = scale(args.arms or 100, args.n_seeds or 100)
    else:
        figures = measure(args.arms or 4, args.n_seeds or 25, args.episodes)
    if args.json:
        print(json.dumps(figures, indent=2))
        return
    if figures.get("processors that two processes had", 2.0) < 1.5:
        print("this machine was busy with other work: wall times, and the gains, say nothing")
    for name, value in figures.items():
        print(f"{name:40} {value:10.2f}" + GOALS.get(name, ""))


if __name__ == "__main__":
    main()
