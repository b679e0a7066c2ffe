"""Where a run came from: whatever state git is in, the run goes on and the record says it."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from conftest import command, wait_until
from qn_tracking import Experiment, Experiments, Recorder, hookimpl, make_manager, track
from qn_tracking.builtin.json_storage import JsonStorage
from qn_tracking.errors import PluginError
from qn_tracking.program import NUMERIC

Git = Callable[..., str]


@pytest.fixture
def repository(project: Path, git: Git) -> Path:
    """A repository with one commit that holds `small.yml`."""
    git("init", "-q", ".")
    (project / ".gitignore").write_text("gitconfig\n")
    git("add", ".")
    git("commit", "-qm", "first")
    return project


def run(config: Any = "small.yml", **options: Any) -> Experiment:
    said: list[str] = []
    with track(config, seed=1, warn=said.append, **options) as recorder:
        recorder.episode(success=True)
    assert recorder.experiment is not None
    assert not recorder.experiment.failures
    return recorder.experiment


def facts(config: Any = "small.yml") -> tuple[Any, tuple[str, ...]]:
    experiment = run(config)
    return experiment.facts["metadata"]["git"], experiment.warnings


def test_a_clean_commit(repository: Path, git: Git) -> None:
    git("remote", "add", "origin", "https://me:hunter2@example.org/r.git?token=x")
    found, warnings = facts()
    assert warnings == ()
    assert found["commit"] == git("rev-parse", "HEAD")
    assert (found["branch"], found["dirty"], found["untracked"]) == ("main", False, ())
    assert found["remote"] == "https://example.org/r.git"
    assert (found["config_file"], found["config_tracked"]) == ("small.yml", True)
    assert "patch" not in found
    # Its own output is there now, and still nothing is dirty.
    again, _ = facts()
    assert (again["dirty"], again["untracked"]) == (False, ())


def test_changes_are_kept_as_a_patch_that_applies(repository: Path, git: Git) -> None:
    config = repository / "small.yml"
    config.write_bytes(config.read_bytes() + b"# caf\xe9\n".replace(b"\xe9", "é".encode()))
    (repository / "latin.txt").write_bytes(b"caf\xe9\n")
    (repository / "gone.txt").write_text("x")
    git("add", "latin.txt", "gone.txt")
    (repository / "gone.txt").unlink()
    (repository / "new.txt").write_text("x")
    experiment = run()
    found = experiment.facts["metadata"]["git"]
    assert (found["dirty"], found["untracked"]) == (True, ("new.txt",))
    assert found["patch_redacted"] is False
    patch = repository / "experiments" / "runs" / experiment.id / "uncommitted.patch"
    assert found["patch"]["size"] == patch.stat().st_size
    git("clone", "-q", ".", "elsewhere")
    git("apply", "--check", str(patch), cwd=repository / "elsewhere")
    git("apply", str(patch), cwd=repository / "elsewhere")
    assert (repository / "elsewhere" / "latin.txt").read_bytes() == b"caf\xe9\n"
    assert (repository / "elsewhere" / "small.yml").read_bytes() == config.read_bytes()


def test_untracked_files_alone_are_not_dirty(repository: Path) -> None:
    (repository / "näw.txt").write_text("x")
    found, _ = facts()
    assert (found["dirty"], found["untracked"]) == (False, ("näw.txt",))


def test_a_secret_in_the_patch_is_taken_out_and_said(repository: Path) -> None:
    with (repository / "small.yml").open("a") as config:
        config.write('# password = "hunter2"\n')
    experiment = run()
    assert experiment.facts["metadata"]["git"]["patch_redacted"] is True
    for path in (repository / "experiments").rglob("*"):
        assert path.is_dir() or b"hunter2" not in path.read_bytes()


def test_no_repository(project: Path) -> None:
    found, warnings = facts()
    assert found is None
    assert len(warnings) == 1
    assert "no repository" in warnings[0]


def test_a_configuration_from_elsewhere_runs_in_the_repository_that_one_stands_in(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, git: Git
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "small.yml"
    outside.write_text((repository / "small.yml").read_text())
    with track(str(outside)) as recorder:
        recorder.episode()
    assert recorder.experiment is not None
    found = recorder.experiment.facts["metadata"]["git"]
    assert found["commit"] == git("rev-parse", "HEAD")
    assert "config_file" not in found
    assert found["config_tracked"] is False
    assert recorder.experiment.warnings == ()


@pytest.mark.parametrize("hashes", ["sha1", "sha256"])
def test_no_commits(project: Path, git: Git, hashes: str) -> None:
    git("init", "-q", f"--object-format={hashes}", ".")
    git("add", "small.yml")
    found, warnings = facts()
    assert (found["commit"], found["branch"], found["dirty"]) == (None, "main", True)
    assert found["patch"]["size"] > 0
    assert warnings == ()


def test_a_detached_head(repository: Path, git: Git) -> None:
    git("checkout", "-q", "--detach")
    found, warnings = facts()
    assert (found["branch"], len(found["commit"])) == (None, 40)
    assert warnings == ()


def test_a_bare_repository(project: Path, git: Git) -> None:
    git("init", "-q", "--bare", "bare.git")
    shutil.copy("small.yml", "bare.git/small.yml")
    found, _ = facts("bare.git/small.yml")
    assert (found["commit"], found["dirty"]) == (None, None)


def test_a_submodule_and_a_worktree_have_their_own_commit(repository: Path, git: Git) -> None:
    git("worktree", "add", "-q", "-b", "side", "../side")
    side = repository.parent / "side"
    (side / "x").write_text("x")
    git("add", "x", cwd=side)
    git("commit", "-qm", "side", cwd=side)
    found, _ = facts(str(side / "small.yml"))
    assert (found["branch"], found["commit"]) == ("side", git("rev-parse", "HEAD", cwd=side))
    git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(side), "sub")
    git("commit", "-qm", "sub")
    assert facts()[0]["dirty"] is False
    (repository / "sub" / "x").write_text("changed")
    found, warnings = facts()
    assert found["dirty"] is True
    assert warnings == ("git: changes inside of submodules are not in the patch: sub",)
    found, _ = facts("sub/small.yml")
    assert found["commit"] == git("rev-parse", "HEAD", cwd=side)
    shutil.rmtree(side)


def test_git_is_not_there(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (repository / "empty").mkdir()
    monkeypatch.setenv("PATH", str(repository / "empty"))
    found, warnings = facts()
    assert found is None
    assert len(warnings) == 1
    assert "not installed" in warnings[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a folder to somebody else")
def test_a_directory_that_git_refuses(repository: Path) -> None:
    before = (repository / "gitconfig").read_text()
    for path in (repository, *repository.rglob("*")):
        os.lchown(path, 1234, 1234)
    found, warnings = facts()
    assert found is None
    assert "dubious ownership" in warnings[0]
    assert (repository / "gitconfig").read_text() == before


@pytest.mark.parametrize("damage", ["objects", "index", "config", "HEAD"])
def test_a_damaged_repository_is_warned_of(repository: Path, damage: str) -> None:
    place = repository / ".git" / damage
    if place.is_dir():
        shutil.rmtree(place)
        place.mkdir()
    else:
        place.chmod(0o644)
        place.write_bytes(b"\0broken")
    found, warnings = facts()
    assert warnings
    assert found is None or found["commit"] is None or found["dirty"] == "unknown"


def test_a_stale_lock_is_no_hindrance(repository: Path) -> None:
    (repository / ".git" / "index.lock").write_text("")
    found, warnings = facts()
    assert (found["dirty"], warnings) == (False, ())
    assert (repository / ".git" / "index.lock").exists()


def test_nothing_of_the_repository_is_written(repository: Path) -> None:
    """A git that was killed while it writes the index leaves a lock, which stops the user's."""
    for name in ("small.yml", ".gitignore"):
        os.utime(
            name, (1_000_000_000, 1_000_000_000)
        )  # as if changed: git would note that it is not
    Path("small.yml").write_text(Path("small.yml").read_text() + "\n")
    kept = {path: path.stat() for path in Path(".git").rglob("*")}
    assert facts()[0]["dirty"] is True
    now = {path: path.stat() for path in Path(".git").rglob("*")}
    assert {path for path in now if now[path].st_mtime_ns != kept[path].st_mtime_ns} == set()
    assert now.keys() == kept.keys()


def test_a_file_name_that_is_not_utf8(repository: Path) -> None:
    Path(os.fsdecode(bytes(repository) + b"/caf\xe9.txt")).write_text("x")
    found, _ = facts()
    assert found["untracked"] == ("caf\\xe9.txt",)


def test_nothing_that_the_repository_names_is_run(repository: Path, git: Git) -> None:
    trap = repository / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {repository / 'sprung'}\n")
    trap.chmod(trap.stat().st_mode | stat.S_IXUSR)
    (repository / ".gitattributes").write_text("* diff=trap filter=trap\n")
    git("add", ".")
    git("commit", "-qm", "traps")
    keys = ("core.fsmonitor", "diff.external", "diff.trap.textconv", "diff.trap.command")
    for key in (*keys, "filter.trap.clean", "filter.trap.smudge", "filter.trap.process"):
        git("config", key, str(trap))
    git("config", "diff.orderFile", str(repository / "no such file"))  # an error of git diff
    hooks = repository / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    shutil.copy(trap, hooks / "post-index-change")
    with (repository / "small.yml").open("a") as config:
        config.write("# changed\n")
    (repository / "sprung").unlink(missing_ok=True)
    found, _ = facts()
    assert found["dirty"] is True
    assert not (repository / "sprung").exists()


def submodule(git: Git, parent: Path, name: str) -> Path:
    """A new repository of one file, in a folder of another one, committed there."""
    place = parent / name
    git("init", "-q", str(place))
    (place / "file").write_text("1\n")
    (place / ".gitattributes").write_text("* filter=evil\n")
    git("add", ".", cwd=place)
    git("commit", "-qm", "first", cwd=place)
    git("-c", "advice.addEmbeddedRepo=false", "add", name, cwd=parent)
    git("commit", "-qm", name, cwd=parent)
    return place


@pytest.mark.slow
@pytest.mark.parametrize("key", ["clean", "process"])
@pytest.mark.parametrize("inner", [False, True])
def test_nothing_that_a_submodule_names_is_run(
    repository: Path, git: Git, key: str, inner: bool
) -> None:
    sprung = repository.parent / f"{repository.name}-sprung"
    trap = repository.parent / f"{repository.name}-trap"
    trap.write_text(f"#!/bin/sh\ntouch {sprung}\ncat\n")
    trap.chmod(0o755)
    sub = submodule(git, repository, "sub")
    if inner:
        place = submodule(git, sub, "ïnner")
        git("commit", "-qam", "inner")
    else:
        place = sub
    git("config", f"filter.evil.{key}", str(trap), cwd=place)
    git("config", "filter.evil.required", "true", cwd=place)
    (place / "file").write_text("2\n")
    found, warnings = facts()
    assert not sprung.exists()
    said = "git: changes inside of submodules are not in the patch: sub"
    assert (found["dirty"], warnings) == (True, (said,))
    assert found["patch"]["size"] > 0
    (place / "file").write_text("1\n")
    assert facts()[0]["dirty"] is False
    assert not sprung.exists()


@pytest.mark.slow
def test_a_submodule_that_cannot_be_read_is_not_looked_into(repository: Path, git: Git) -> None:
    sub = submodule(git, repository, "sub")
    (sub / ".git" / "index").write_bytes(b"broken")
    (sub / "file").write_text("2\n")
    found, warnings = facts()
    assert (found["dirty"], len(warnings)) == ("unknown", 1)
    assert "git: submodules are not looked into: sub: " in warnings[0]
    with (repository / "small.yml").open("a") as config:
        config.write("# changed\n")
    found, warnings = facts()
    assert (found["dirty"], len(warnings)) == (True, 1)
    assert found["patch"]["size"] > 0


def test_names_that_are_not_utf8_cost_nothing(repository: Path, git: Git) -> None:
    subprocess.run([b"git", b"checkout", b"-q", b"-b", b"caf\xe9"], check=True)
    assert facts()[0]["branch"] == "caf\\xe9"
    place = os.fsencode(repository) + b"/d\xe9"
    os.mkdir(place)
    shutil.copy("small.yml", os.fsdecode(place) + "/c.yml")
    found, _ = facts(os.fsdecode(place) + "/c.yml")
    assert found["config_file"] == "d\\xe9/c.yml"


@pytest.mark.slow
def test_a_git_that_hangs_is_given_up(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "slow"
    slow.mkdir()
    real = shutil.which("git")
    (slow / "git").write_text(
        f'#!/bin/sh\ncase "$*" in *" status "*) exec sleep 600;; esac\nexec {real} "$@"\n'
    )
    (slow / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow}{os.pathsep}{os.environ['PATH']}")
    began = time.monotonic()
    found, warnings = facts()
    assert time.monotonic() - began < 600
    assert found["dirty"] == "unknown"
    assert len(found["commit"]) == 40
    assert any("took longer than 5 s" in text for text in warnings)


def test_git_variables_of_a_hook_do_not_lead_elsewhere(
    repository: Path, monkeypatch: pytest.MonkeyPatch, git: Git
) -> None:
    commit = git("rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    assert facts()[0]["commit"] == commit


def test_code_packages_and_machine(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A process of pytest-xdist has a main module without a file.
    monkeypatch.setattr(sys.modules["__main__"], "__file__", __file__, raising=False)
    experiment = run(config={"a": 1})
    found = experiment.facts["metadata"]
    assert found["system"]["python"] == sys.version.split()[0]
    assert found["system"]["memory_bytes"] > 1 << 20
    assert found["resources"]["peak_memory_bytes"] > 1 << 20
    folder = project / "experiments" / "runs" / experiment.id
    packages = (folder / "packages.txt").read_text()
    assert "\npytest==" in packages
    assert "\npluggy==" in packages
    assert found["packages"]["count"] == len(packages.splitlines())
    assert found["code"][0]["name"] == "__main__"
    assert len(found["code"][0]["digest"]) == 64
    for attachment in experiment.attachments:
        assert (folder / attachment.name).stat().st_size == attachment.size


def test_the_simulations_code_is_named_with_version_and_digest(project: Path) -> None:
    program = """
from qn_tracking import track, Subject
import qn_tracking.store
with track({"a": 1}, subject=Subject(packages=("qn_tracking.store",))) as run: run.episode()
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    (record,) = Path("experiments").glob("*.json")
    (code,) = json.loads(record.read_text())["facts"]["metadata"]["code"]
    assert (code["name"], code["distribution"]) == ("qn_tracking.store", "qn-tracking")
    assert code["version"]
    assert len(code["digest"]) == 64


@pytest.mark.parametrize("before", [True, False])
def test_a_run_that_is_killed_leaves_what_git_said(
    repository: Path, git: Git, before: bool
) -> None:
    git("remote", "add", "origin", "https://example.org/r.git")
    with (repository / "small.yml").open("a") as config:
        config.write("# changed\n")
    (repository / "new.txt").write_text("x")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(before)], capture_output=True)
    assert killed.returncode == -9, killed.stderr
    wait_until(lambda: not [one for one in processes("git") if str(repository) in one])
    (folder,) = (repository / "experiments" / "runs").iterdir()
    assert (folder / ".capture").stat().st_mode & 0o077 == 0
    experiment = Experiments("experiments").recover(folder.name)
    found = experiment.facts["metadata"]
    assert found["git"]["commit"] == git("rev-parse", "HEAD")
    assert (found["git"]["dirty"], found["git"]["untracked"]) == (True, ("new.txt",))
    assert (found["git"]["branch"], found["git"]["remote"]) == ("main", "https://example.org/r.git")
    assert b"# changed" in (folder / "uncommitted.patch").read_bytes()
    assert found["packages"]["count"] == len((folder / "packages.txt").read_text().splitlines())
    assert found["system"]["python"] == sys.version.split()[0]
    assert [text for text in experiment.warnings if "git" in text] == []
    assert not (folder / ".capture").exists()


def processes(name: str) -> list[str]:
    """The command lines of the programs of this name."""
    found = []
    for one in psutil.process_iter(["name", "cmdline"]):
        if one.info["name"] == name:
            found.append(" ".join(one.info["cmdline"] or ()))
    return found


KILLED = """
import os, sys
from qn_tracking import Recorder, make_manager
from qn_tracking.builtin.json_storage import JsonStorage
manager = make_manager(["metadata"] if sys.argv[1] == "True" else ())
manager.register(JsonStorage(), name="json_storage")
if sys.argv[1] != "True":
    from qn_tracking.builtin.metadata import Metadata
    manager.register(Metadata(), name="metadata")
run = Recorder("small.yml", manager=manager, seed=1, experiments_dir="experiments").start()
os.kill(os.getpid(), 9)
"""


def test_where_nothing_is_stored_nothing_is_written(repository: Path) -> None:
    recorder = Recorder(
        "small.yml", manager=make_manager(["metadata"]), experiments_dir="experiments"
    )
    before = {one.pid for one in psutil.Process().children()}
    recorder.start()
    experiment = recorder.end()
    assert experiment is not None
    assert experiment.facts["metadata"]["git"]["branch"] == "main"
    assert {one.pid for one in psutil.Process().children()} == before
    assert not Path("experiments").exists()


def test_an_edit_between_two_runs_of_one_process_is_seen(repository: Path, git: Git) -> None:
    def patch() -> str | None:
        experiment = run()
        assert experiment.facts["metadata"]["git"]["untracked"] == ()
        file = repository / "experiments" / "runs" / experiment.id / "uncommitted.patch"
        return file.read_text() if file.exists() else None

    text = (repository / "small.yml").read_text()
    assert patch() is None
    for word in ("one", "two"):  # of the same size: dirty before, and dirty again
        (repository / "small.yml").write_text(f"{text}# {word}\n")
        said = patch()
        assert said is not None
        assert f"+# {word}\n" in said
    git("commit", "-qam", "second")
    assert patch() is None
    assert facts()[0]["commit"] == git("rev-parse", "HEAD")


def test_what_changes_after_the_start_is_not_of_the_run(repository: Path) -> None:
    recorder = track("small.yml", seed=1, warn=lambda text: None).start()
    read = psutil.STATUS_ZOMBIE
    git = [one for one in psutil.Process().children() if one.name() == "git"]
    wait_until(lambda: all(not one.is_running() or one.status() == read for one in git))
    (repository / "small.yml").write_text("changed: later\n")
    recorder.end()
    assert recorder.experiment is not None
    assert recorder.experiment.facts["metadata"]["git"]["dirty"] is False


@pytest.mark.parametrize("stored", [True, False])
def test_a_host_that_reaps_its_children_loses_nothing(repository: Path, stored: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", REAPED, "json_storage" if stored else "progress"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "main 0\n"), done.stderr
    assert not list(Path("experiments").glob("runs/*/.capture"))


REAPED = """
import signal, sys
from qn_tracking import Recorder, make_manager
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
manager = make_manager(["metadata", sys.argv[1]])
with Recorder("small.yml", manager=manager, experiments_dir="experiments") as run: run.episode()
found = run.experiment
print(found.facts["metadata"]["git"]["branch"], len(found.failures))
"""


def test_a_run_that_is_refused_at_the_last_moment_leaves_no_facts(repository: Path) -> None:
    class Refuses:
        @hookimpl(trylast=True)
        def run_start(self) -> None:
            time.sleep(0.3)
            raise ValueError("no")

    before = {one.pid for one in psutil.Process().children()}
    for last in (True, False):
        manager = make_manager(["metadata"])
        for plugin in (JsonStorage(), Refuses())[:: 1 if last else -1]:
            manager.register(plugin, name=type(plugin).__name__)
        with pytest.raises(PluginError):
            Recorder("small.yml", manager=manager, experiments_dir="experiments").start()
        assert {one.pid for one in psutil.Process().children()} == before
    assert not list(Path("experiments").glob("runs/*/.capture"))


def closing(closed: tuple[int, ...]) -> Callable[[], None]:
    """What closes descriptors of a program that is about to start."""

    def close() -> None:
        for fd in closed:
            os.close(fd)

    return close


CLOSED = [closed for size in range(4) for closed in itertools.combinations(range(3), size)]


@pytest.mark.slow
@pytest.mark.parametrize("closed", CLOSED, ids=str)
def test_closed_standard_descriptors_change_nothing(
    repository: Path, git: Git, closed: tuple[int, ...]
) -> None:
    # Not through pipes: what a C library prints must not come to be in a file of the run either.
    Path("train.py").write_text(STARTED)
    git("add", "train.py")
    git("commit", "-qm", "else the record would hold its text")
    null = subprocess.DEVNULL
    program = [sys.executable, "train.py"]
    done = subprocess.run(program, preexec_fn=closing(closed), stdout=null, stderr=null)
    assert done.returncode == 0
    (path,) = Path("experiments").glob("*.json")
    record = json.loads(path.read_text())
    found = record["facts"]["metadata"]
    assert found["git"]["commit"] == git("rev-parse", "HEAD")
    assert all(found[name] for name in ("code", "packages", "system"))
    assert (record["warnings"], record["failures"]) == (["said"], [])
    files = [*Path("experiments").rglob("*.*"), Path("out.tar.gz")]
    assert not [file for file in files if file.is_file() and b"printed" in file.read_bytes()]
    assert Experiments("experiments").check().faults == 0


STARTED = """
import os
from qn_tracking import Experiments, track
with track("small.yml", seed=1, plugins=["progress"]) as run:
    journal = os.stat(f"experiments/runs/{run.id}/episodes.jsonl")
    assert not any(os.path.samestat(os.fstat(fd), journal) for fd in range(3))
    for fd in (1, 2):
        os.write(fd, b"printed")
    os.system("echo printed; echo printed >&2")
    run.warn("said")
    run.episode(success=True)
Experiments().export("out.tar.gz", [run.id], format="bundle")
"""


@pytest.mark.slow
def test_commands_run_with_closed_standard_descriptors(repository: Path) -> None:
    def call(name: str, *args: str, closed: tuple[int, ...]) -> subprocess.CompletedProcess[str]:
        return command(
            name, *args, process=True, preexec_fn=closing(closed), stdin=subprocess.DEVNULL
        )

    run = ("small.yml", "--episodes", "1", "--track-experiment")
    for closed in ((0, 1, 2), (2,)):
        assert call("qn-run", *run, closed=closed).returncode == 0
    records = [json.loads(path.read_text()) for path in Path("experiments").glob("*.json")]
    assert [bool(one["facts"]["metadata"]["git"]) for one in records] == [True, True]
    assert [one["warnings"] for one in records] == [[], []]
    Path("experiments/broken.json").write_text("{")  # a warning, which must not be in the output
    listed = call("qn-exp", "list", "--json", closed=(2,))
    assert (listed.returncode, len(json.loads(listed.stdout)["experiments"])) == (0, 2)
    submitted = ("small.yml", "--episodes", "50", "--save-benchmark")
    asked = call("qn-run", *submitted, closed=(0,))
    assert (asked.returncode, "no terminal to ask on" in asked.stderr) == (2, True), asked.stderr


@pytest.mark.parametrize("missing", [True, False])
def test_memory_without_a_name_is_not_needed(
    repository: Path, monkeypatch: pytest.MonkeyPatch, missing: bool
) -> None:
    def refuse(*args: object) -> int:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(sys, "platform", "linux")
    if missing:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    else:
        monkeypatch.setattr(os, "memfd_create", refuse, raising=False)
    found, warnings = facts()
    assert found["branch"] == "main"
    assert len(warnings) == 1
    assert warnings[0].startswith("memfd_create: ")


def test_where_no_file_can_be_made_the_run_goes_on(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "memfd_create", refuse, raising=False)
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    found, warnings = facts()
    assert found is None
    assert any(text.startswith("git: ") for text in warnings)


# -------------------------------------------------------------------------- a program of its own

PROGRAM = """\
import sys
sys.argv = sys.argv[:1]  # as Hydra does
import mine.net, tracked
from qn_tracking import track
for seed in (1, 2):
    with track({}, seed=seed) as run:
        run.episode(success=True)
"""


def test_how_a_script_was_started_and_its_code_that_git_lacks(repository: Path, git: Git) -> None:
    (repository / "scripts").mkdir()
    (repository / "scripts/train.py").write_text(PROGRAM)
    (repository / "scripts/tracked.py").write_text("")
    (repository / "lib/mine").mkdir(parents=True)
    (repository / "lib/mine/__init__.py").write_text("")
    (repository / "lib/mine/net.py").write_text("token = 'hf_" + "a1B2" * 8 + "'\nlast = 1")
    git("add", "scripts/tracked.py")
    git("commit", "-qm", "second")
    place = os.pathsep.join([str(repository / "lib"), *filter(None, sys.path)])
    command = [sys.executable, "-O", "../scripts/train.py", "--name", "x", "--password", "hunter2"]
    env = {name: text for name, text in os.environ.items() if name not in NUMERIC}
    env |= {"PYTHONPATH": place, "PYTHONHASHSEED": "0"}
    subprocess.run(command, check=True, cwd=repository / "lib", env=env, capture_output=True)
    found = Experiments(repository / "lib" / "experiments")
    docs = sorted((found.get(id) for id in found.find().ids), key=lambda one: one.seed or 0)
    scripts = [one.facts["metadata"]["script"] for one in docs]
    assert [one["run"] for one in scripts] == [0, 1]
    first = {**scripts[0]}
    assert first.pop("added")["file"] == "untracked.patch"
    assert first == {
        "kind": "script",
        "name": "scripts/train.py",
        "options": ("-O",),
        "arguments": ("--name", "x", "--password", "[redacted]"),
        "folder": "lib",
        "path": ("scripts", "lib"),
        "environment": {"PYTHONHASHSEED": "0"},
        "in_repository": True,
        "redacted": True,
        "run": 0,
    }
    patch = repository / "lib/experiments/runs" / docs[0].id / "untracked.patch"
    (repository / "there").mkdir()
    for name in ("scripts/train.py", "lib/mine/net.py", "lib/mine/__init__.py"):
        (repository / name).unlink()
    git("apply", str(patch))
    assert (repository / "scripts/train.py").read_text() == PROGRAM
    kept = (repository / "lib/mine/net.py").read_text()
    assert "hf_" not in kept
    assert kept.endswith("\nlast = 1")
    assert (repository / "lib/mine/__init__.py").read_text() == ""
    assert found.get(docs[0].id).warnings == ()


def test_the_cells_of_a_notebook_are_kept_without_secrets(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered = ["", "%load_ext x\nx = 1", "", "password = 'hunter2-hunter2'"]
    history = SimpleNamespace(input_hist_raw=entered)
    shell = SimpleNamespace(history_manager=history, kernel=None)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    with track({}, seed=1) as recorder:
        recorder.episode(success=True)
        entered.append("run.episode(success=True)")
    text = (project / f"experiments/runs/{recorder.id}/cells.py").read_text()
    assert text.startswith("# %% [1]\n%load_ext x\nx = 1\n\n# %% [3]\npassword = ")
    assert text.endswith("# %% [4]\nrun.episode(success=True)\n")
    assert "hunter2" not in text
    assert recorder.experiment is not None
    assert recorder.experiment.facts["metadata"]["script"]["kind"] == "notebook"
    assert recorder.experiment.facts["metadata"]["cells"]["redacted"] is True
    store = Experiments()
    store.export("b.zip", [recorder.id], format="bundle")
    Experiments("there").import_("b.zip")
    assert (project / f"there/runs/{recorder.id}/cells.py").read_text() == text
