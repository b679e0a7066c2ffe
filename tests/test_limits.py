"""Other devices, few descriptors, full and read-only disks: nothing is lost, one line says why."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import BIN, Program
from qn_tracking import Experiments, track
from qn_tracking.capture import Capture

# ------------------------------------------------------------------------------------ other devices

DEVICES = """
import errno, os
from os.path import abspath

def device(path):
    below = abspath(path).partition("/experiments/")[2].split("/")
    return below[0] if len(below) > 1 else ""

def across(do):
    def call(source, target, **how):
        if device(source) != device(target):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return do(source, target, **how)
    return call

os.rename, os.link = across(os.rename), across(os.link)
"""
"""Every folder below that of the experiments is a device of its own."""

SWEEP = """
import filecmp, shutil, sys
from qn_tracking.errors import QnError
from qn_tracking.store import trash

WRITES = {"open", "os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir", "os.utime"}

def forked(do, last=None):
    # Does it in another process, which is killed at its so many-th call of the file system.
    pid = os.fork()
    if pid == 0:
        left = [last]
        def hook(event, args):
            reads = event == "open" and not args[2] & (os.O_WRONLY | os.O_RDWR)
            if event in WRITES and not reads and left[0] is not None:
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)
        sys.addaudithook(hook)
        try:
            do()
        except QnError as error:
            print(error, flush=True)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def content(top, whole=True):
    # All files; unless it is the whole, without the copies that the same command would clear away.
    found = {}
    for folder, _, names in os.walk(top):
        if not whole:
            names = [name for name in names if ".moving" not in os.path.join(folder, name)]
        for name in names:
            with open(os.path.join(folder, name), "rb") as stream:
                found[os.path.relpath(os.path.join(folder, name), top)] = stream.read()
    return found

os.fsync = os.fstat  # nothing ends in a loss of power
id, *runs = sys.argv[1:]
there = "experiments"
do = {"rm": lambda: trash.remove(there, id), "restore": lambda: trash.restore(there, id)}
if runs:
    do = {
        "rm": lambda: trash.remove_study(there, id, runs),
        "restore": lambda: trash.restore_study(there, id),
    }

def check(begun, then):
    # Kills the one at every step, and does the other; returns how many steps there were.
    steps = 0
    while True:
        shutil.rmtree(there)
        shutil.copytree(states["restore" if begun == "rm" else "rm"], there)
        code = forked(do[begun], steps)
        assert code in (0, 9), (begun, steps)
        # It may have come to its end, or not yet begun, so that there is nothing left to do.
        ends = [states_of[then]] if forked(do[then]) == 0 else list(states_of.values())
        found = content(there, begun == then)
        if (begun, then) == ("restore", "rm"):  # the rest of what was restored is in the trash, too
            found, ends = set(found.values()), [set(end.values()) for end in ends]
        assert found in ends, (begun, then, steps)
        if code == 0:
            return steps
        steps += 1

shutil.copytree(there, "whole")
assert forked(do["rm"]) == 0
shutil.copytree(there, "gone")
states = {"restore": "whole", "rm": "gone"}
states_of = {name: content(folder) for name, folder in states.items()}
assert states_of["rm"] != states_of["restore"]
for begun in states:
    # Of a study whose runs are in the trash in part, the same command goes on.
    for then in [begun] if runs else states:
        assert check(begun, then) > 10, (begun, then)
"""


def on_other_devices(program: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", f"{DEVICES}\n{program}", *args], capture_output=True, text=True
    )


def recorded() -> str:
    with track({"a": 1}, seed=1, warn=lambda text: None) as run:
        run.log({"loss": 0.5}, step=1)
        run.episode(reward=1.0)
    return run.id


def a_study(qn_run: Program) -> str:
    done = qn_run("small.yml", "--n-seeds", "2", "--episodes", "2", "--track-experiment")
    assert done.returncode == 0, done.stderr
    (id,) = os.listdir("experiments/studies")
    return id


def test_rm_and_restore_across_devices_lose_nothing_by_a_kill(project: Path) -> None:
    done = on_other_devices(SWEEP, recorded())
    assert done.returncode == 0, done.stdout + done.stderr


def test_so_do_those_of_a_study(project: Path, qn_run: Program) -> None:
    id = a_study(qn_run)
    done = on_other_devices(SWEEP, id, *sorted(os.listdir("experiments/runs")))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_study_goes_to_the_trash_of_another_device_and_back(
    project: Path, qn_run: Program, qn_exp: Program
) -> None:
    id = a_study(qn_run)
    before = {path: path.read_bytes() for path in Path("experiments").rglob("*.json*")}
    Path("sitecustomize.py").write_text(DEVICES)
    elsewhere = {"PYTHONPATH": str(project)}
    done = qn_exp("rm", id, env=elsewhere)
    assert (done.returncode, done.stderr) == (0, "")
    assert not list(Path("experiments/runs").iterdir())
    done = qn_exp("restore", id, env=elsewhere)
    assert (done.returncode, done.stderr) == (0, "")
    assert {path: path.read_bytes() for path in Path("experiments").rglob("*.json*")} == before
    assert os.listdir("experiments/.trash") == []


def test_an_import_and_gc_work_across_devices(
    project: Path, qn_run: Program, qn_exp: Program
) -> None:
    id = a_study(qn_run)
    assert qn_exp("export", id, "--format", "bundle", "-o", "all.zip").returncode == 0
    os.rename("experiments", "theirs")
    Path("sitecustomize.py").write_text(DEVICES)
    elsewhere = {"PYTHONPATH": str(project)}
    for source in ("all.zip", "theirs"):
        done = qn_exp("import", source, env=elsewhere)
        assert (done.returncode, done.stderr) == (0, "")
        assert os.listdir("experiments/studies") == [id]
        assert qn_exp("fsck").returncode == 0
        assert qn_exp("rm", id, env=elsewhere).returncode == 0
        assert qn_exp("gc", "--older-than", "0d", "--force", env=elsewhere).returncode == 0


def test_a_run_is_resumed_across_devices(project: Path) -> None:
    with track({"a": 1}, seed=1, episodes=2, warn=lambda text: None) as run:
        run.episode(reward=1.0)
        run.end("interrupted")
    program = """
import sys
from qn_tracking import track
with track({"a": 1}, seed=1, episodes=2, resume=sys.argv[1]) as run:
    run.episode(reward=2.0)
"""
    lives = Path("experiments", "runs", run.id, "lives")
    # The record of the first life was copied, and then the process was killed.
    lives.mkdir()
    (lives / "1.json").write_bytes(Path("experiments", f"{run.id}.json").read_bytes())
    done = on_other_devices(program, run.id)
    assert done.returncode == 0, done.stderr
    store = Experiments()
    assert (store.get(run.id).status, len(store.get(run.id).lives)) == ("completed", 1)
    assert store.check().findings == ()


# ---------------------------------------------------------------------------------- few descriptors

LEAKING = """
import resource, sys
from qn_tracking import track
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
held = []
with track({"a": 1}, seed=1) as run:
    for i in range(1000):
        run.log({"loss": 1.0}, step=i)
        run.episode(reward=1.0)
        held.append(open(sys.executable, "rb"))
"""


def test_a_program_that_has_used_up_all_descriptors_has_its_record(project: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LEAKING], capture_output=True, text=True)
    assert done.returncode == 1
    assert "OSError: [Errno 24]" in done.stderr.splitlines()[-1]
    (run,) = Experiments().find()
    record = Experiments().get(run.id)
    assert record.status == "failed"
    assert record.results.episodes > 50
    assert Experiments().check().findings == ()


@pytest.mark.parametrize("most", [8, 12, 16, 24])
def test_whatever_the_limit_of_descriptors_the_episodes_are_kept(
    project: Path, qn_exp: Program, most: int
) -> None:
    limited = f'ulimit -n {most}; exec "$0" "$@" >out 2>err'
    words = ["small.yml", "--episodes", "3", "--seed", "1", "--track-experiment"]
    code = subprocess.run(["bash", "-c", limited, BIN / "qn-run", *words]).returncode
    err = Path("err").read_text()
    assert "Traceback" not in err
    assert f"warning: `ulimit -n` is {most}: " in err
    # 1: the simulation itself had too few; 3: the storage.
    assert code in (0, 1, 3), err
    assert code == 0 or err.splitlines()[-1].startswith("error: ")
    if code == 3:
        assert f"`ulimit -n` is {most} (EMFILE; the episodes are in " in err.splitlines()[-1]
        assert qn_exp("recover", "--all").returncode == 0
    (run,) = Experiments().find()
    assert code == 1 or run.results.episodes == 3
    assert Experiments().check().findings == ()
    for command in ("list", "show @1", "fsck", "export @1 --format csv", "rm @1"):
        limited = f'ulimit -n {most}; exec "$0" {command} >out 2>err'
        assert subprocess.run(["bash", "-c", limited, BIN / "qn-exp"]).returncode == 0, command


# --------------------------------------------------------------------------- full and read-only disks


def test_what_is_read_at_the_start_needs_no_folder_of_its_own(
    project: Path, tmp_path: Path
) -> None:
    """The disk may be full by then."""
    found = Capture((), place=".", run_folder=str(tmp_path / "not" / "there"))
    assert {"git", "system"} <= set(found.keys)
    result = found.result(60)
    assert result["system"]["python"]
    (kept,) = [text for text in result["warnings"] if "not kept while it runs" in text]
    assert kept.endswith("no such file or directory")


FULL = """
import errno, os
real, left = os.open, [{left}]

def full(path, flags, mode=0o777, **how):
    below = "/experiments" in os.path.abspath(os.fsdecode(path))
    if below and flags & (os.O_CREAT | os.O_WRONLY | os.O_RDWR):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.{error}, os.strerror(errno.{error}), path)
    return real(path, flags, mode, **how)

os.open = full
"""
"""The disk is full, or was made read-only, once so many files were opened to be written."""


@pytest.mark.parametrize("error", ["ENOSPC", "EROFS"])
def test_a_run_on_a_disk_that_takes_nothing_more_keeps_what_it_has(
    project: Path, qn_run: Program, qn_exp: Program, error: str
) -> None:
    for left in range(40):
        Path("sitecustomize.py").write_text(FULL.format(left=left, error=error))
        there = ("--experiments-dir", f"experiments{left}")
        words = ("small.yml", "--episodes", "3", "--seed", "1", "--track-experiment", *there)
        done = qn_run(*words, env={"PYTHONPATH": str(project)})
        assert "Traceback" not in done.stderr
        assert "internal" not in done.stderr
        if done.returncode == 0:
            break
        assert done.returncode == 3, (left, done.stderr)
        assert done.stderr.splitlines()[-1].startswith("error: ")
        assert f"({error}" in done.stderr.splitlines()[-1]
        # What was said to be there is.
        if "; the episodes are in " in done.stderr:
            assert qn_exp("recover", "--all", *there).returncode == 0
            (run,) = Experiments(there[1]).find()
            assert run.results.episodes == 3
    assert 5 < left < 39


@pytest.mark.parametrize("error", ["ENOSPC", "EROFS"])
def test_commands_on_a_disk_that_takes_nothing_say_so_in_a_line(
    project: Path, qn_exp: Program, error: str
) -> None:
    for _ in range(2):
        recorded()
    Path("sitecustomize.py").write_text(FULL.format(left=0, error=error))
    env = {"PYTHONPATH": str(project)}
    reading = ("list", "list", "show @1", "compare @1 @2", "stats", "fsck", "tail @1", "best", "gc")
    for command in (
        *reading,
        "export @1 --format csv",
        "plot @1 --metric reward",
        "list --studies",
        "restore",
    ):
        done = qn_exp(*command.split(), env=env)
        assert done.returncode == 0, (command, done.stderr)
        assert done.stdout
    for command in ("tag @1 a=b", "note @1 text", "attach @1 small.yml", "gather @1 --name x"):
        done = qn_exp(*command.split(), env=env)
        assert done.returncode == 3, (command, done.stderr)
        assert done.stderr.splitlines()[-1].endswith(f"({error})")
        assert "Traceback" not in done.stderr
    assert Experiments().check().findings == ()


def test_what_a_program_has_opened_is_not_closed_at_the_end(project: Path) -> None:
    """One that closes what it knows nothing of, as daemons do, gets the same numbers again."""

    def null_devices() -> set[int]:
        numbers = map(int, os.listdir("/proc/self/fd"))
        return {fd for fd in numbers if os.path.realpath(f"/proc/self/fd/{fd}") == os.devnull}

    before = null_devices()
    run = track({}, seed=1, warn=lambda text: None).start()
    kept = sorted(null_devices() - before)
    assert kept
    for fd in kept:
        os.close(fd)
    own = [os.open(project / f"own{fd}", os.O_CREAT | os.O_WRONLY) for fd in kept]
    assert set(own) & set(kept)
    run.end()
    for fd in own:
        os.write(fd, b"mine")
        os.close(fd)
