"""What is written is there whole or not at all, and never over something else."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread
from zlib import crc32

import pytest

from conftest import Program, wait_until
from qn_tracking import Experiments, track
from qn_tracking.errors import StorageError
from qn_tracking.records.model import Episode, FrozenDict
from qn_tracking.store import write
from qn_tracking.store.arrival import Arrived
from qn_tracking.store.journal import Journal, line


def test_a_record_is_never_overwritten(project: Path) -> None:
    write.publish("a.json", b"one")
    with pytest.raises(StorageError, match=r"^a\.json: file exists \(EEXIST\)$"):
        write.publish("a.json", b"two")
    assert Path("a.json").read_bytes() == b"one"
    assert sorted(os.listdir()) == ["a.json", "gitconfig", "small.yml"]


def test_where_links_are_not_supported(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    write.publish("a.json", b"one")
    with pytest.raises(StorageError, match="EEXIST"):
        write.publish("a.json", b"two")
    assert Path("a.json").read_bytes() == b"one"
    assert sorted(os.listdir()) == ["a.json", "gitconfig", "small.yml"]


@pytest.mark.parametrize("call", ["write", "fsync"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_failure_leaves_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    def fail(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(StorageError, match=errno.errorcode[number]):
        write.publish("a.json", b"one")
    monkeypatch.undo()
    assert "a.json" not in os.listdir(project)
    assert not [name for name in os.listdir(project) if name.endswith(".tmp")]


@pytest.mark.parametrize(
    "number",
    [
        errno.EINVAL,
        errno.EBADF,
        errno.ENOTSUP,
        errno.ENOSYS,
        errno.EPERM,
        errno.EACCES,
        errno.EROFS,
    ],
)
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_a_file_system_that_cannot_sync_a_folder_is_no_failure_one_that_cannot_sync_a_file_is(
    project: Path, monkeypatch: pytest.MonkeyPatch, kind: str, number: int
) -> None:
    real = os.fsync

    def sync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode) == (kind == "folder"):
            raise OSError(number, os.strerror(number))
        real(fd)

    monkeypatch.setattr(os, "fsync", sync)
    if kind == "file":
        with pytest.raises(StorageError, match=errno.errorcode[number]):
            write.publish("a.json", b"one")
        assert not Path("a.json").exists()
        return
    said: list[str] = []
    with track({"a": 1}, seed=1, warn=said.append, blocked=("metadata",)) as run:
        run.episode(success=True)
    assert said == []
    experiments = Experiments("experiments")
    experiments.tag(run.id, {"seen": "yes"})
    experiments.export("out.tar.gz", [run.id], format="bundle")
    experiments.remove(run.id)
    experiments.restore(run.id)
    [arrived] = Experiments("elsewhere").import_("out.tar.gz")
    assert isinstance(arrived, Arrived)


def test_a_folder_whose_sync_fails_in_earnest_is_a_failure(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", sync)
    with pytest.raises(StorageError, match="EIO"):
        write.publish("a.json", b"one")


@pytest.mark.parametrize("threads", [True, False])
def test_a_record_gets_its_name_after_all_else_is_durable(
    project: Path, monkeypatch: pytest.MonkeyPatch, threads: bool
) -> None:
    done: list[str] = []
    real, link = os.fsync, os.link

    def sync(fd: int) -> None:
        real(fd)
        done.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "link", lambda a, b: (done.append("its name"), link(a, b)))
    if not threads:  # at the end of a program, or by a limit of the system
        monkeypatch.setattr(Thread, "start", raising(RuntimeError("can't start new thread")))
    with track({"a": 1}, blocked=("metadata",)) as run:
        run.episode(success=True)
        run.log({"loss": 0.5})
        with run.phase("evaluation"):
            run.episode(success=True)
        done.clear()
    before, after = done[: done.index("its name")], done[done.index("its name") + 1 :]
    assert {
        *("episodes.jsonl", "phases.jsonl", "series.jsonl", "config.yml", "run.json", "runs"),
        run.id,
    } < {*before}
    assert any(name.startswith(f".{run.id}") for name in before)
    assert after == ["experiments"]


def raising(error: Exception) -> Callable[..., None]:
    def refuse(*args: object) -> None:
        raise error

    return refuse


def test_of_what_is_made_durable_at_once_the_first_error_is_raised_when_all_is_over() -> None:
    done: list[int] = []
    calls: list[Callable[[], None]] = [
        lambda: done.append(1),
        raising(OSError(errno.EIO, "first")),
        raising(OSError(errno.EIO, "second")),
        lambda: (time.sleep(0.05), done.append(2))[1],
    ]
    with pytest.raises(OSError, match="first"):
        write.side_by_side(calls)
    assert sorted(done) == [1, 2]
    write.side_by_side([])


def test_short_writes_are_finished(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:3]))
    write.publish("a.json", b"0123456789")
    assert Path("a.json").read_bytes() == b"0123456789"


def episode(index: int) -> Episode:
    exact = b'{"index":%d,"reward":0.5}' % index
    return Episode(index=index, reward=0.5, exact=exact, timing=FrozenDict(at=1.5))  # type: ignore[arg-type]


def test_a_line_of_the_journal(project: Path) -> None:
    journal = Journal("j")
    journal.commit(line(episode(0)))
    journal.commit(line(episode(1)))
    journal.close()
    lines = Path("j").read_bytes().splitlines(keepends=True)
    for i, written in enumerate(lines):
        doc = json.loads(written)
        assert (doc["index"], doc["timing"], list(doc)[-1]) == (i, {"at": 1.5}, "crc")
        assert doc["crc"] == f"{crc32(written.rpartition(b',')[0]):08x}"


def test_the_lock_is_held_as_long_as_the_writer_lives(project: Path) -> None:
    journal = Journal("j")
    with Path("j").open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    pid = os.fork()
    if pid == 0:  # a forked copy that outlives the writer does not keep it
        os.execv("/bin/sleep", ["sleep", "30"])
    journal.close()
    try:
        with Path("j").open() as other:

            def free() -> bool:
                with suppress(BlockingIOError):
                    fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return True
                return False

            wait_until(free)  # the copy has come to run at all
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_a_line_that_does_not_fit_is_cut_off_and_the_run_goes_on(project: Path) -> None:
    said: list[str] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    run = track({"a": 1}, seed=1, warn=said.append, blocked=("metadata",)).start()
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        for i in range(50):
            run.episode(success=True, steps=i)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with pytest.raises(StorageError, match="EFBIG"):
        run.end()
    lost = [text for text in said if "EFBIG" in text]
    assert len(lost) == 1  # quarantined; what fails at the end is raised
    assert "json_storage" in lost[0]
    journal = project / "experiments" / "runs" / run.id / "episodes.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    assert 0 < len(lines) < 50
    assert all(line.endswith(b"}\n") and json.loads(line) for line in lines)
    record = json.loads((project / "experiments" / f"{run.id}.json").read_text())
    assert record["results"]["episodes"] == 50
    assert record["failures"][0]["plugin"] == "json_storage"


REMOVER = """
import os, shutil
from qn_tracking import hookimpl
class Sink:
    def __init__(self, what): self.what = what
    @hookimpl
    def episode_end(self, run, episode):
        if episode.index == 1:
            path = self.what.format(id=run.id)
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "what", ["experiments/runs/{id}", "experiments/runs", "experiments/runs/{id}/episodes.jsonl"]
)
@pytest.mark.parametrize("study", [False, True])
def test_episodes_whose_file_is_removed_in_mid_run_are_saved_elsewhere(
    project: Path, qn_run: Program, what: str, study: bool
) -> None:
    Path("remover.py").write_text(REMOVER)
    with Path("small.yml").open("a") as config:
        config.write(f"plugins: {{'remover:Sink': {{what: '{what}'}}}}\n")
    more = ("--n-seeds", "1") if study else ("--track-experiment",)
    done = qn_run("small.yml", "--episodes", "4", *more)
    assert done.returncode == 3, done.stderr
    (record,) = Path("experiments").glob("*.json")
    folder = Path("experiments/runs", record.stem).absolute()
    saved = Path(f"experiments/{record.stem}.saved").absolute()
    place = folder if folder.exists() else saved
    cause = f"was removed while the run went on (the episodes are in {place}/episodes.jsonl)"
    assert f"{folder}: {cause}" in done.stderr
    # Nothing is lost.
    folder.parent.mkdir(exist_ok=True)
    place.rename(folder)
    assert json.loads(record.read_text())["results"]["episodes"] == 4
    assert Experiments("experiments").check([record.stem]).findings == ()
    assert len(list(Experiments("experiments").episodes(record.stem))) == 4


def test_where_all_experiments_are_removed_in_mid_run_the_episodes_are_beside_them(
    project: Path, qn_run: Program
) -> None:
    Path("remover.py").write_text(REMOVER)
    with Path("small.yml").open("a") as config:
        config.write("plugins: {'remover:Sink': {what: experiments}}\n")
    done = qn_run("small.yml", "--episodes", "4", "--track-experiment")
    assert done.returncode == 3
    (saved,) = Path().absolute().glob("*.saved/episodes.jsonl")
    assert saved.read_text().count("\n") == 4
    assert f"(ENOENT; the episodes are in {saved})" in done.stderr


@pytest.mark.parametrize("name", ["", "episodes.jsonl", "series.jsonl"])
def test_a_series_is_saved_with_the_episodes(project: Path, name: str) -> None:
    run = track("small.yml", seed=1).start()
    folder = Path("experiments/runs", run.id)
    run.log({"loss": 0.5})
    run.episode(success=True)
    (folder / name).unlink() if name else shutil.rmtree(folder)
    with pytest.raises(StorageError, match="was removed while the run went on"):
        run.end()
    if not name:
        Path(f"experiments/{run.id}.saved").rename(folder)
    assert Experiments("experiments").check([run.id]).findings == ()
    assert (folder / "series.jsonl").read_text().count("\n") == 1
    assert not list(Path("experiments").glob("*.saved"))


@pytest.mark.parametrize("name", ["config.yml", "run.json"])
def test_a_text_of_the_run_that_is_removed_in_mid_run_costs_nothing(
    project: Path, name: str
) -> None:
    with track("small.yml", seed=1) as run:
        run.episode(success=True)
        Path(f"experiments/runs/{run.id}/{name}").unlink()
    assert Experiments("experiments").check([run.id]).faults == 0
    assert Experiments("experiments").config_text(run.id) == Path("small.yml").read_bytes()


def test_a_folder_that_cannot_be_written_is_said_before_the_first_episode(project: Path) -> None:
    Path("experiments").mkdir(mode=0o500)
    program = "from qn_tracking import track\ntrack({'a': 1}).start()\nprint('started')"
    # root may write everywhere, unless it gives up that privilege
    prefix = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []
    done = subprocess.run([*prefix, sys.executable, "-c", program], capture_output=True, text=True)
    assert "permission denied (EACCES)" in done.stderr
    assert done.stdout == ""
    Path("experiments").chmod(0o700)


def test_a_file_in_the_place_of_the_folder(project: Path) -> None:
    Path("experiments").write_text("")
    with pytest.raises(StorageError, match=r"experiments.*ENOTDIR|not a directory"):
        track({"a": 1}).start()


def test_a_refused_start_leaves_nothing(project: Path) -> None:
    Path("mysink.py").write_text(
        "from qn_tracking import hookimpl\nclass Sink:\n"
        "  @hookimpl\n  def run_start(self, run): raise OSError('no server')\n"
    )
    program = "from qn_tracking import track\ntrack({'a': 1}, plugins=['mysink:Sink']).start()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert "plugin mysink:Sink: run_start: OSError: no server" in done.stderr
    assert not Path("experiments").exists()


def test_a_file_that_could_not_get_its_name_leaves_none(tmp_path: Path) -> None:
    """Another program cleans up meanwhile: an empty record would hold the name."""
    path = tmp_path / "record.json"
    with pytest.raises(StorageError), write.published(str(path)) as stream:
        stream.write(b"{}")
        for other in tmp_path.iterdir():
            other.unlink()
    assert [*tmp_path.iterdir()] == []
