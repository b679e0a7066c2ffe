"""What it costs to read where a run comes from, in repositories of several sizes.

    python tests/speed/capture.py [--json] [--repeat N] [--files 1000,20000]

CPU milliseconds of this process and of the git processes that it starts, and wall milliseconds for
which the start and the end hold up the loop: of the first run of a process and of a further one. A
run is one episode of 20 ms. Every figure is the median over several processes of this invocation.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

RUNS = """
import json, resource, sys, time
from qn_tracking import track
own = sys.argv[1]
def cpu():
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in spent)
def work():
    time.sleep(0.02)
def once():
    before, began = cpu(), time.perf_counter()
    run = track({"a": 1}, experiments_dir=own, warn=lambda text: None).start()
    started = time.perf_counter()
    work()
    run.episode(success=True)
    done = time.perf_counter()
    run.end()
    ended = time.perf_counter()
    assert run.experiment.facts["metadata"]["git"]["dirty"] is (sys.argv[2] == "dirty")
    spent = (cpu() - before, started - began, ended - done)
    return dict(zip(("cpu", "start", "end"), (1000 * one for one in spent)))
first = once()
further = [once() for _ in range(5)]
print(json.dumps([first, sorted(further, key=lambda one: one["cpu"])[2]]))
"""


def repository(folder: Path, files: int) -> None:
    """A repository of so many files in folders of a hundred, committed."""
    for number in range(files):
        place = folder / f"folder{number // 100}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"file{number}.py").write_text(f"value = {number}\n" * 40)
    git = ["git", "-c", "user.name=speed", "-c", "user.email=speed@example.org"]
    subprocess.run([*git, "init", "-q", "."], cwd=folder, check=True)
    subprocess.run([*git, "add", "."], cwd=folder, check=True)
    subprocess.run([*git, "commit", "-qm", "all"], cwd=folder, check=True)
    # Files as old as the index are read again by every status; a day of work is not like that.
    for file in folder.glob("folder*/*.py"):
        os.utime(file, (1_700_000_000, 1_700_000_000))
    subprocess.run([*git, "status"], cwd=folder, check=True, capture_output=True)


def measure(files: Sequence[int], repeat: int) -> list[dict[str, object]]:
    """A row for each size, clean and dirty, first and further."""
    rows: list[dict[str, object]] = []
    for number in files:
        with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory() as own:
            folder = Path(place)
            repository(folder, number)
            for state in ("clean", "dirty"):
                if state == "dirty":
                    for file in list(folder.glob("folder0/*.py"))[:10]:
                        file.write_text("changed = True\n")
                found = [_once(folder, own, state) for _ in range(repeat + 1)][1:]
                for which, name in enumerate(("first", "further")):
                    figures = {
                        key: statistics.median(one[which][key] for one in found)
                        for key in ("cpu", "start", "end")
                    }
                    rows.append({"files": number, "state": state, "run": name, **figures})
    return rows


def _once(folder: Path, own: str, state: str) -> list[dict[str, float]]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHONDONTWRITE")}
    done = subprocess.run(
        [sys.executable, "-c", RUNS, own, state],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[dict[str, float]] = json.loads(done.stdout)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--files", default="1000,20000")
    args = parser.parse_args(argv)
    rows = measure([int(one) for one in args.files.split(",")], args.repeat)
    if args.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'files':>7} {'state':6} {'run':8} {'cpu ms':>8} {'start ms':>9} {'end ms':>7}")
    for row in rows:
        print(
            f"{row['files']:>7} {row['state']:6} {row['run']:8} {row['cpu']:8.1f}"
            f" {row['start']:9.1f} {row['end']:7.1f}"
        )
    print("to reach: CPU 35 of a first run and 12 of a further one at 1,000 files; end 25")


if __name__ == "__main__":
    main()
