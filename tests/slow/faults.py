"""Injects a fault at every system call by which a command touches its files, and checks the folder.

    python tests/slow/faults.py TOOLS [--only NAME] [--modes kill,enospc,eio]

TOOLS is a folder with `crash_sweep.py` and `fsync_lint.py` (they need strace). The invariant: no
torn file, no lost acknowledged episode, no false "saved", no experiment that is nowhere.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from functools import partial
from pathlib import Path

BIN = Path(sys.executable).parent
RUN, EXP = str(BIN / "qn-run"), str(BIN / "qn-exp")
HERE = Path(__file__).resolve()
SMALL = (
    "{max_steps: 20, brain: {name: mlp, config: {hidden_dim: 4, num_hidden_layers: 1}},"
    " environment: {type: static, static: {grid_size: 6}}}"
)
ACK = """
import os
from qn_tracking import hookimpl
class Sink:
    @hookimpl
    def episode_end(self, episode): os.write(1, b"ack %d\\n" % episode.index)
"""
# What git reads comes and goes with its own timing; the storage is what is tested here.
TRACKED = [RUN, "small.yml", "--episodes", "3", "--seed", "1", "--plugins", "json_storage,ack:Sink"]
ONE = f"{' '.join(TRACKED)} --quiet > /dev/null"
CRASHED = f"{ONE}; rm experiments/*.json"
LISTED = f"{ONE}; {EXP} list > /dev/null"
ID = "@1"
RESUME = [RUN, "--resume", ID, "--quiet"]

# By these our own files are written. The index, which is a cache, has calls of its own; it is swept
# whole with `list`, and its files are too many to be swept again with every command.
OURS = "write,fsync,rename,renameat,renameat2,link,linkat,unlink,mkdir,mkdirat,ftruncate"

COMMANDS: dict[str, tuple[str, list[str]]] = {
    "run": ("true", TRACKED),
    "list": (ONE, [EXP, "list"]),
    "tag": (LISTED, [EXP, "tag", ID, "a=b"]),
    "note": (LISTED, [EXP, "note", ID, "text"]),
    "rm": (LISTED, [EXP, "rm", ID]),
    "restore": (
        f"{LISTED}; ls experiments/runs > id; {EXP} rm {ID} > /dev/null",
        ["sh", "-c", f'exec {EXP} restore "$(cat id)"'],
    ),
    "recover": (CRASHED, [EXP, "recover", "--all"]),
    "resume": (CRASHED, RESUME),
    "export": (LISTED, [EXP, "export", "--format", "csv", "-o", "out.csv", ID]),
    "bundle": (LISTED, [EXP, "export", "--format", "bundle", "-o", "out.zip", ID]),
    "import": (
        f"{LISTED}; {EXP} export --format bundle -o out.zip {ID} > /dev/null; rm -r experiments",
        [EXP, "import", "out.zip"],
    ),
}


def setup(shell: str) -> str:
    """The commands that prepare a folder."""
    return f"printf '%s' '{SMALL}' > small.yml; cat > ack.py <<'X'\n{ACK}X\n{shell}"


def problems(name: str) -> list[str]:
    """What is wrong with the folder we are in, after a fault."""
    said, wrong = os.environ.get("CMD_OUT", ""), []
    mode = os.environ.get("FAULT_MODE", "")
    errors = os.environ.get("CMD_ERR", "")
    if "Traceback" in errors:
        wrong.append(f"traceback: {errors[-200:]}")
    experiments = Path("experiments")
    records = list(experiments.glob("*.json"))
    for path in records:
        try:
            if json.loads(path.read_bytes())["id"] != path.stem:
                wrong.append(f"{path} has another id")
        except ValueError:
            wrong.append(f"{path} is torn")
    left = [str(p) for p in Path().rglob("*.tmp")]
    if mode in ("enospc", "eio") and left and os.environ.get("FAULT_CALL") != "unlink":
        wrong.append(f"left behind: {left}")
    for line in said.splitlines():
        if line.startswith("saved ") and not Path(line[6:].rpartition(" to ")[2]).exists():
            wrong.append(f"false: {line}")
    acknowledged = [int(line.split()[1]) for line in said.splitlines() if line.startswith("ack ")]
    if acknowledged and mode == "kill":
        journals = list(experiments.glob("runs/*/episodes.jsonl"))
        kept = [
            json.loads(line)["index"]
            for path in journals
            for line in path.read_text().splitlines(keepends=True)
            if line.endswith("\n")
        ]
        if not set(acknowledged) <= set(kept):
            wrong.append(f"acknowledged {acknowledged}, kept {kept}")
    for out in ("out.csv", "out.zip"):
        if name in ("export", "bundle") and os.environ.get("CMD_RC") == "0" and not _is(out, name):
            wrong.append(f"{out} was promised")
    if experiments.is_dir():
        listed = subprocess.run([EXP, "list", "--json"], capture_output=True, text=True)
        if listed.returncode or "Traceback" in listed.stderr:
            wrong.append(f"list: {listed.returncode} {listed.stderr[-200:]}")
        else:
            wrong += _nowhere(name, json.loads(listed.stdout), experiments)
    if name == "resume":
        again = subprocess.run(RESUME, capture_output=True, text=True)
        if again.returncode and "is completed" not in again.stderr:
            wrong.append(f"resume: {again.returncode} {again.stderr[-200:]}")
    return wrong


def _is(out: str, name: str) -> bool:
    return out.endswith("csv") != (name == "export") or Path(out).exists()


def _nowhere(name: str, listed: object, experiments: Path) -> list[str]:
    """Whether the one experiment is neither a record, nor a folder to recover, nor in the trash."""
    if name in ("run", "import"):
        return []
    records = list(experiments.glob("*.json"))
    trash = list(experiments.glob(".trash/**/*.json"))
    journals = list(experiments.rglob("episodes.jsonl"))
    if not (records or trash or (name in ("recover", "resume") and journals)):
        return ["the experiment is nowhere"]
    return [] if journals else ["the episodes are nowhere"]


def at_once() -> int:
    """How many sweeps: each of their commands waits for a disk and for its tracer."""
    cores = os.cpu_count() or 1
    return cores + min(cores, 4)


def ready(folder: str, prepare: str) -> None:
    """Makes the folder that a command starts from."""
    subprocess.run(setup(prepare), shell=True, cwd=folder, check=True)


def quicker(folder: str) -> dict[str, str]:
    """An environment whose `strace` stops a program at the calls it traces, and at no other, and
    whose log has each call in one line.
    """
    program = Path(folder, "strace")
    whole = [sys.executable, HERE.parent / "whole_calls.py", shutil.which("strace")]
    program.write_text(f'#!/bin/sh\nexec {" ".join(map(str, whole))} --seccomp-bpf "$@"\n')
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def sweep(
    title: str, command: list[str], made: Future[None], env: dict[str, str] | None
) -> tuple[str, int, str]:
    """The title, the exit code, and all that the sweep printed."""
    made.result()
    run = partial(
        subprocess.run, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    done = run(command)
    if done.returncode == 2:  # a fault struck something else: earlier calls varied
        done = run(command)
    return title, done.returncode, done.stdout


def main() -> int:
    """Sweeps, or with `--check NAME` checks the folder we are in."""
    if sys.argv[1:2] == ["--check"]:
        wrong = problems(sys.argv[2])
        print("; ".join(wrong))
        return bool(wrong)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tools")
    parser.add_argument("--only", action="append", choices=COMMANDS)
    parser.add_argument("--modes", default="kill,enospc,eio")
    args = parser.parse_args()
    args.tools = str(Path(args.tools).resolve())
    failed = []
    with ExitStack() as stack, ThreadPoolExecutor(at_once()) as pool:
        sweeps = []
        env = quicker(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in args.only or COMMANDS:
            prepare, command = COMMANDS[name]
            # Made once; every point starts from a copy.
            template = stack.enter_context(tempfile.TemporaryDirectory())
            made = pool.submit(partial(ready, template, prepare))
            for mode in args.modes.split(","):
                whole = [sys.executable, f"{args.tools}/crash_sweep.py", "--mode", mode]
                if name not in ("run", "list"):
                    whole += ["--calls", OURS if mode == "kill" else OURS.replace(",unlink", "")]
                check = f"{sys.executable} {HERE} --check {name}"
                whole += ["--setup", f"cp -a {template}/. .", "--check", check, "--", *command]
                # Its filter leaves no line of a call at which the program was killed.
                by = None if mode == "kill" else env
                sweeps.append(pool.submit(sweep, f"{name}, {mode}", whole, made, by))
        for ended in as_completed(sweeps):
            title, code, said = ended.result()
            print(f"-- {title}\n{said}", end="", flush=True)
            if code:
                failed.append(f"{title}: exit {code}")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(setup("true"), shell=True, cwd=folder, check=True)
        print("-- order of writes", flush=True)
        lint = [
            sys.executable,
            f"{args.tools}/fsync_lint.py",
            "--dir",
            "experiments",
            "--said",
            "saved",
        ]
        # Its tracer shows the beginning of each write, so each line has to be one.
        env = {**os.environ, "PYTHONUNBUFFERED": "1"}
        if subprocess.run([*lint, "--", *TRACKED], cwd=folder, env=env).returncode:
            failed.append("order of writes")
    for line in failed:
        print(f"FAILED {line}")
    print(f"{len(failed)} failed")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
