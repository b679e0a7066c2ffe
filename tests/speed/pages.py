"""How long a site takes: of many submissions and studies, at first and where nothing has changed.

    python tests/speed/pages.py [--entries 200] [--studies 20] [--repeat N] [--json]
    python tests/speed/pages.py --keep DIR      keeps what was made up; DIR is used again if it exists

The submissions are made up, but valid, of 50 runs each; the studies are of runs that simulate next to nothing, of
five arms and 20 seeds. CPU seconds are those of the whole command, with its start. "submissions,
read" is the site without `.site.json`, where the caches of the submissions are warm. `ui` is the
time to its first answer, which has a page, and the CPU that it has spent until then.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

from leaderboard import TASKS, made_up

from qn_tracking.benchmark import files

QN_RUN, QN_EXP, QN_BENCH = (
    str(Path(sys.executable).parent / name) for name in ("qn-run", "qn-exp", "qn-bench")
)
RATES = "0.0001,0.0005,0.001,0.005,0.01"


def prepare(folder: str, entries: int, studies: int) -> None:
    """Makes up submissions, and executes studies; these are committed."""
    names = [f"{brain}_{task}" for brain in ("mlp", "modular") for task in TASKS]
    for i in range(entries):
        files.save(f"{folder}/benchmarks", made_up(names[i % len(names)], i))
    subprocess.run(["git", "init", "-q", folder], check=True)
    sweep = ["--sweep", f"brain.config.learning_rate={RATES}", "--n-seeds", "20"]
    short = ["--episodes", "20", "--set", "max_steps=5", "--jobs", "2", "--quiet"]
    for i in range(studies):
        asked = ["--name", f"study-{i}", "--seed", str(i)]
        command = [QN_RUN, "mlp_dynamic_small", *sweep, *short, *asked]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    if studies:
        who = ["-c", "user.name=Somebody", "-c", "user.email=somebody@example.org"]
        add = ["add", "-f", "experiments/studies"]
        subprocess.run(["git", *add], cwd=folder, check=True)
        subprocess.run(["git", *who, "commit", "-qm", "Studies"], cwd=folder, check=True)


def spent(folder: str, command: Sequence[str]) -> float:
    """CPU seconds of a command."""
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{command} ended with {status}")
    return usage.ru_utime + usage.ru_stime


def first_answer(folder: str) -> tuple[float, float]:
    """Wall seconds from the start of `qn-exp ui` to its first page, and its CPU seconds then."""
    command = [QN_EXP, "ui", "--no-browser", "--port", "0", "--json"]
    began = perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    lines = iter(process.stdout.readline, "}\n")
    address = urlsplit(json.loads("".join([*lines, "}"]))["url"])
    connection = HTTPConnection("127.0.0.1", address.port or 0)
    cookie = f"qn-ui-{address.port}={address.query.removeprefix('token=')}"
    connection.request("GET", "/", headers={"Cookie": cookie})
    answer = connection.getresponse()
    page = answer.read()
    wall = perf_counter() - began
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    process.send_signal(signal.SIGINT)
    process.wait()
    if answer.status != 200 or b"<main" not in page:
        raise SystemExit(f"no page: {answer.status}")
    return wall, cpu


def measure(folder: str, repeat: int) -> dict[str, float]:
    """The least of several times each."""
    site, more = [QN_BENCH, "site", "-o", "site"], ["--experiments"]
    found: dict[str, list[float]] = {}

    def forget(*names: str) -> None:
        for name in names:
            shutil.rmtree(f"{folder}/{name}", ignore_errors=True)

    for _ in range(repeat):
        forget("site")
        for path in Path(folder, "benchmarks").glob(".cache*"):
            path.unlink()
        found.setdefault("first, CPU s", []).append(spent(folder, site))
        found.setdefault("again, CPU s", []).append(spent(folder, site))
        forget("site")
        found.setdefault("submissions read, CPU s", []).append(spent(folder, site))
        found.setdefault("1,000 runs more, CPU s", []).append(spent(folder, site + more))
        found.setdefault("again with runs, CPU s", []).append(spent(folder, site + more))
        wall, cpu = first_answer(folder)
        found.setdefault("ui, wall s", []).append(wall)
        found.setdefault("ui, CPU s", []).append(cpu)
    return {name: min(values) for name, values in found.items()}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=200)
    parser.add_argument("--studies", type=int, default=20)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--keep", metavar="DIR")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = os.path.abspath(args.keep or scratch)
        if not os.path.isdir(f"{folder}/benchmarks"):
            prepare(folder, args.entries, args.studies)
        figures = measure(folder, args.repeat)
    if args.json:
        print(json.dumps(figures, indent=2))
        return
    for name, value in figures.items():
        print(f"{name:26} {value:8.2f}")
    print("to reach: first 40, again 3, ui 1")


if __name__ == "__main__":
    main()
