"""A run that was interrupted, or has crashed, goes on under its id."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any
from zlib import crc32

import orjson
import pytest

from conftest import BIN, Program, command, wait_until
from qn_tracking import Experiment, Experiments, Recorder, track
from qn_tracking.api.run import Run
from qn_tracking.errors import QnError, StorageError, UsageError
from qn_tracking.store import lives
from qn_tracking.tracking.emit import storage_of
from qn_tracking.tracking.installed import TRACKER
from test_docs import DOCS, block

LOOPS = (DOCS / "loops.md").read_text(encoding="utf-8")

FOLDER = Path("experiments")


def quiet(text: str) -> None:
    """Takes a warning and says nothing."""


def new(**options: Any) -> Recorder:
    return track({"a": 1}, seed=1, episodes=10, warn=quiet, **options)


def begin(**options: Any) -> Recorder:
    return new(**options).start()


def go(run: Recorder, to: int) -> None:
    """The loop of a script: the same episode at the same number, whatever came before."""
    for i in range(run.done, to):
        run.log({"loss": 1 / (i + 1)})
        run.episode(success=i > 1, steps=i, reward=i * 1.1, loss=0.1 * i)
        if i % 2:
            run.episode(success=True, phase="evaluation")


def interrupted(to: int = 4, **options: Any) -> str:
    run = begin(**options)
    go(run, to)
    run.end("interrupted")
    return run.id


def killed(to: int = 4, **options: Any) -> str:
    """What a kill leaves of a run: the same folder, no record, and no lock."""
    run = begin(**options)
    go(run, to)
    die(run)
    return run.id


def die(run: Recorder) -> None:
    """Ends a run as a kill does: its files are closed, and nothing else happens."""
    storage = storage_of(run._manager)
    for file in storage._files:
        file.close()


def finished(id: str) -> Experiment:
    run = begin(resume=id)
    go(run, 10)
    run.end()
    return Experiments(FOLDER).get(id)


def faults() -> list[str]:
    return [str(one) for one in Experiments(FOLDER).check().findings]


def same(one: Experiment, other: Experiment) -> bool:
    """Whether two runs have the same episodes and series, to the last bit."""
    names = ("results", "digests", "phases", "series")
    return all(getattr(one, name) == getattr(other, name) for name in names)


@pytest.mark.parametrize(
    ("end", "counts", "status"),
    [(interrupted, (0, 1, 4), "interrupted"), (killed, (1, 4, 9), "crashed")],
)
def test_a_run_goes_on_as_if_it_had_never_ended(
    project: Path, end: Callable[[int], str], counts: Sequence[int], status: str
) -> None:
    whole = begin()
    go(whole, 10)
    whole.end()
    assert whole.experiment is not None
    for count in counts:
        id = end(count)
        record = finished(id)
        assert (record.id, record.status) == (id, "completed")
        assert same(record, whole.experiment)
        (life,) = record.lives
        assert (life.episodes, life.status) == (count, status)
        assert record.started <= life.ended <= life.resumed <= record.ended
        assert life.seconds <= (record.wall_seconds or 0)
    assert faults() == []
    points = Experiments(FOLDER).series(id).columns()
    assert points["step"] == list(range(10))
    assert points["at"] == sorted(points["at"])


def test_every_life_keeps_its_record_and_its_texts(project: Path) -> None:
    id = interrupted(2)
    first = (FOLDER / f"{id}.json").read_bytes()
    packages = (FOLDER / "runs" / id / "packages.txt").read_bytes()
    run = begin(resume="@1")
    assert (run.id, run.seed, run.done) == (id, 1, 2)
    assert not (FOLDER / f"{id}.json").exists()
    assert Experiments(FOLDER).find(status="running").ids == [id]
    go(run, 3)
    run.end("interrupted")
    record = finished(id)
    assert [life.episodes for life in record.lives] == [2, 3]
    place = FOLDER / "runs" / id / "lives"
    assert (place / "1.json").read_bytes() == first
    assert (place / "1.packages.txt").read_bytes() == packages
    assert json.loads((place / "2.json").read_bytes())["results"]["episodes"] == 3
    shown = command("qn-exp", "show", id).stdout
    count = len(json.loads(first)["warnings"]) + len(
        json.loads((place / "2.json").read_bytes())["warnings"]
    )
    assert count
    assert f"warning  {count} more of earlier lives (runs/{id}/lives)\n" in shown
    assert re.search(r"life 1 +interrupted after 2 episodes, .*; resumed \S+ later", shown)
    assert "life 2" in shown
    (place / "1.json").write_bytes(first + b" ")
    assert faults() == [f"{place}/1.json: is not what the record names by digest"]


def test_a_check_compares_each_life_with_the_run(project: Path) -> None:
    """Also where the digests were changed with what they are of."""
    id = interrupted(4)
    finished(id)
    record, place = FOLDER / f"{id}.json", FOLDER / "runs" / id / "lives"
    path, doc = place / "1.json", json.loads(record.read_bytes())
    life = json.loads(path.read_bytes())

    def changed(**fields: Any) -> list[str]:
        path.write_bytes(json.dumps({**life, **fields}).encode())
        doc["lives"][0]["sha256"] = sha256(path.read_bytes()).hexdigest()
        record.write_text(json.dumps(doc))
        return faults()

    said = f"{path}: is not what the record says of it"
    assert changed() == []
    assert changed(id="20260101T000000Z-00000000") == [said]
    assert changed(status="completed") == [said]
    assert changed(results={**life["results"], "episodes": 3}) == [said]
    assert changed(results=None) == [said]
    other = {**life["digests"], "exact": sha256(b"").hexdigest()}
    assert changed(digests=other) == [f"{path}: the first 4 episodes of the run are others"]
    doc["lives"][0]["episodes"] = -4
    assert changed() == [said]


@pytest.mark.parametrize(
    ("put", "cause"),
    [
        (lambda path: path.symlink_to("/etc/hostname"), "is a link, not a file"),
        (os.mkfifo, "is a FIFO, not a file"),
        (lambda path: path.mkdir(), "is a directory, not a file"),
        (lambda path: path.write_bytes(b" " * ((64 << 20) + 1)), "larger than 64 MiB"),
    ],
)
def test_what_stands_in_the_place_of_a_life_is_a_finding(
    project: Path, put: Callable[[Path], None], cause: str
) -> None:
    """A check goes on with all else."""
    id = interrupted()
    finished(id)
    path = FOLDER / "runs" / id / "lives/1.json"
    path.unlink()
    put(path)
    assert faults() == [f"{path}: {cause}"]
    os.rename(path.parent, "away")
    path.parent.symlink_to("away")
    assert faults() == [f"{path.parent}: is a link, not a folder"]


def test_a_list_knows_at_once_that_a_crashed_run_goes_on(project: Path) -> None:
    id, store = killed(), Experiments(FOLDER)
    assert store.find(status="crashed").ids == [id]
    with new(resume=id):
        assert store.find(status="running").ids == [id]
    assert store.find(status="completed").ids == [id]


def test_a_second_life_that_is_killed_is_recovered_with_the_first(project: Path) -> None:
    id = interrupted(2)
    killed(5, resume=id)
    assert "life 1" in command("qn-exp", "show", id).stdout
    assert command("qn-exp", "recover", id).returncode == 0
    record = Experiments(FOLDER).get(id)
    assert (record.status, record.results.episodes, len(record.lives)) == ("crashed", 5, 1)
    assert record.lives[0].resumed <= record.ended
    assert record.lives[0].seconds <= (record.wall_seconds or 0)
    assert faults() == []


def test_artifacts_of_earlier_lives_are_still_there(project: Path) -> None:
    Path("weights.pt").write_bytes(b"0.1")
    run = begin()
    run.log_artifact("weights.pt")
    go(run, 3)
    run.end("interrupted")
    again = begin(resume=run.id)
    assert Path(again.use_artifact(run.id, "weights.pt")).read_bytes() == b"0.1"
    Path("weights.pt").write_bytes(b"0.2")
    again.log_artifact("weights.pt")
    again.end()
    record = Experiments(FOLDER).get(run.id)
    assert [(one.name, one.source) for one in record.artifacts] == [("weights.pt", None)] * 2
    assert Path(track({}).start().use_artifact(run.id, "weights.pt")).read_bytes() == b"0.2"


def test_a_line_that_a_kill_has_torn_is_cut_off(project: Path) -> None:
    id = killed(4)
    for name in ("episodes.jsonl", "phases.jsonl", "series.jsonl"):
        with open(FOLDER / "runs" / id / name, "ab") as file:
            file.write(b'{"half')
    record = finished(id)
    assert record.results.episodes == 10
    assert faults() == []


def test_only_one_of_two_goes_on(project: Path) -> None:
    id = interrupted()
    first, second, third = (new(resume=id) for _ in range(3))
    with first, pytest.raises(UsageError, match="is still running"):
        second.start()
    with pytest.raises(UsageError, match="another process has gone on with it"):
        third.start()
    assert Experiments(FOLDER).get(id).status == "completed"
    assert faults() == []


def test_a_run_that_is_alive_is_not_resumed(project: Path) -> None:
    with new() as run:
        go(run, 2)
        with pytest.raises(UsageError, match=f"{run.id}: is still running") as caught:
            begin(resume=run.id)
        assert caught.value.exit_code == 2
    assert run.experiment is not None
    assert run.experiment.status == "completed"


def test_a_run_of_another_host_is_resumed_once_it_is_said_to_be_dead(project: Path) -> None:
    id = killed()
    about = FOLDER / "runs" / id / "run.json"
    about.write_text(about.read_text().replace(os.uname().nodename, "another"))
    said = f"was started on another and may be running there (if it is not: qn-exp recover {id} --f"
    with pytest.raises(UsageError, match=re.escape(said)):
        new(resume=id)
    assert command("qn-exp", "recover", id, "--force").returncode == 0
    assert finished(id).status == "completed"
    assert json.loads(about.read_text())["host"] == os.uname().nodename


def test_without_locks_one_of_two_goes_on_as_well(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    id = interrupted()
    monkeypatch.setattr("fcntl.flock", refuse)
    first, second = (new(resume=id) for _ in range(2))
    with first:
        with pytest.raises(UsageError, match="another process has gone on with it"):
            second.start()
        assert Experiments(FOLDER).document(id)["status"] == "unknown"
    assert len(Experiments(FOLDER).get(id).lives) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seed": 2}, "seed: the run has 1, and not 2"),
        ({"episodes": 20}, "episodes: the run has 10, and not 20"),
        ({"notes": "new"}, "notes: the run has None, and not 'new'"),
        ({"tags": {"lr": "2"}}, "tags.lr: the run has '1', and not '2'"),
        ({"config": {"a": 2}}, "config.a: the run has 1, and not 2"),
        ({"config": {"a": 1, "b": None}}, None),
        ({"config": {"a": 1, "resume": "ID"}}, None),
        ({"id": "another"}, "resume: this run has an id"),
        ({"plugins": (), "blocked": ["json_storage"]}, "resume needs json_storage"),
    ],
)
def test_what_goes_on_must_be_what_began(
    project: Path, options: dict[str, Any], said: str | None
) -> None:
    id = interrupted(tags={"lr": "1"})
    config = options.pop("config", {"a": 1})
    config = {key: id if value == "ID" else value for key, value in config.items()}
    before = (FOLDER / f"{id}.json").read_bytes()
    if said is None:
        run = track(config, resume=id, warn=quiet, **options)
        assert (run.seed, run.run.episodes, run.run.tags) == (1, 10, {"lr": "1"})
        assert run.run.config.data == {"a": 1}
        return
    with pytest.raises(UsageError, match=re.escape(said)):
        track(config, resume=id, warn=quiet, **options)
    assert (FOLDER / f"{id}.json").read_bytes() == before


@pytest.mark.parametrize("given", [True, 5, Path("a")])
def test_what_goes_on_is_named_by_a_text(given: Any) -> None:
    with pytest.raises(UsageError, match="resume: expected the id of a run, got "):
        track({}, resume=given)


def test_a_run_that_is_whole_or_not_our_own_is_not_resumed(project: Path) -> None:
    with new() as whole:
        go(whole, 10)
    with pytest.raises(UsageError, match="is completed: only a run that was interrupted"):
        begin(resume=whole.id)
    with suppress(RuntimeError), new() as failed:
        raise RuntimeError("boom")
    with pytest.raises(UsageError, match="is failed"):
        begin(resume=failed.id)
    with pytest.raises(UsageError, match="no "):
        begin(resume="20200101T000000Z-00000000")
    with pytest.raises(UsageError, match="is not an id"):
        begin(resume="../up")
    id = interrupted()
    assert command("qn-exp", "export", id, "--format", "bundle", "-o", "b.zip").returncode == 0
    with pytest.raises(UsageError, match="is in a bundle"):
        begin(resume=id)
    shutil.rmtree(FOLDER)
    assert command("qn-exp", "import", "b.zip").returncode == 0
    with pytest.raises(UsageError, match="is in a bundle"):
        begin(resume=id)


def test_a_run_that_came_by_git_has_no_episodes_here(project: Path) -> None:
    id = interrupted()
    shutil.rmtree(FOLDER / "runs")
    with pytest.raises(StorageError, match=r"episodes.jsonl: is not here \(git does not carry it"):
        begin(resume=id)


def test_episodes_that_are_not_those_of_the_record_are_refused(project: Path) -> None:
    id = interrupted()
    journal = FOLDER / "runs" / id / "episodes.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(StorageError, match="its episodes are not those that its record says"):
        begin(resume=id)


def test_earlier_lives_travel_in_a_bundle(project: Path) -> None:
    id = interrupted()
    finished(id)
    kept = {path.name: path.read_bytes() for path in (FOLDER / "runs" / id / "lives").iterdir()}
    done = command("qn-exp", "export", id, "--format", "bundle", "-o", "b.zip")
    assert (done.returncode, done.stderr) == (0, "")
    shutil.rmtree(FOLDER)
    assert command("qn-exp", "import", "b.zip").returncode == 0
    there = {path.name: path.read_bytes() for path in (FOLDER / "runs" / id / "lives").iterdir()}
    assert there == kept
    assert faults() == []
    with zipfile.ZipFile("b.zip", "a") as bundle:
        for name in ("1.py", "1.evil.py", "2.PTH", "notes.json", "0.txt", "2.json"):
            bundle.writestr(f"runs/{id}/lives/{name}", "evil")
    shutil.rmtree(FOLDER)
    done = command("qn-exp", "import", "b.zip")
    assert (done.returncode, "left out: not a file of a run" in done.stderr) == (0, True)
    assert {path.name for path in (FOLDER / "runs" / id / "lives").iterdir()} == {*kept}


def test_a_bundle_brings_so_many_files_of_a_life(project: Path) -> None:
    id = interrupted()
    finished(id)
    assert command("qn-exp", "export", id, "--format", "bundle", "-o", "b.zip").returncode == 0
    with zipfile.ZipFile("b.zip", "a") as bundle:
        for number in range(300):
            bundle.writestr(f"runs/{id}/lives/1.x{number}", "evil")
    shutil.rmtree(FOLDER)
    done = command("qn-exp", "import", "b.zip")
    assert done.returncode == 0
    assert done.stderr.count("left out: not a file of a run") == 1
    assert len(list((FOLDER / "runs" / id / "lives").iterdir())) == 64


@contextmanager
def dying(module: Any, name: str, number: int, error: type[BaseException]) -> Iterator[list[int]]:
    """Within it, the n-th call of a function fails instead."""
    called, real = [0], getattr(module, name)

    def fake(*args: Any, **how: Any) -> Any:
        called[0] += 1
        if called[0] == number:
            raise error(28, os.strerror(28)) if error is OSError else error
        return real(*args, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, fake)
        yield called


@pytest.mark.parametrize(
    "name", ["mkdir", "link", "rename", "replace", pytest.param("fsync", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("error", [OSError, SystemExit])
def test_wherever_the_beginning_of_a_life_fails_the_run_can_go_on(
    project: Path, name: str, error: type[BaseException]
) -> None:
    """A full disk is an OSError; what a kill leaves is shown by an exception that nothing undoes
    but the closing of files.
    """
    number = struck = 0
    while True:
        number += 1
        id = interrupted(3)
        with dying(lives.os, name, number, error) as called:  # type: ignore[attr-defined]
            run = new(resume=id)
            try:
                run.start()
            except (QnError, SystemExit):
                struck += 1
            else:
                die(run)
        if called[0] < number:
            break
        rows = {row["id"]: row["status"] for row in Experiments(FOLDER).find().rows()}
        assert rows[id] in ("interrupted", "crashed"), (name, number)
        assert finished(id).results.episodes == 10
        assert all("tmp" in text for text in faults()), (name, number)
    # Where a link is refused, a copy takes its place.
    assert struck > 0 or (name, error) == ("link", OSError)


@pytest.mark.parametrize("past", [interrupted, killed])
def test_a_plugin_that_cannot_start_leaves_the_run_as_it_was(
    project: Path, past: Callable[[], str]
) -> None:
    module = f"refuses_{past.__name__}"
    (project / f"{module}.py").write_text(
        "from qn_tracking import hookimpl\n\n"
        "class Sink:\n"
        "    starts_after_storage = True\n\n"
        "    @hookimpl\n"
        "    def run_start(self):\n"
        '        raise OSError(28, "No space left on device")\n'
    )
    id = past()
    with pytest.raises(QnError, match="No space left"):
        new(resume=id, plugins=[*TRACKER, f"{module}:Sink"]).start()
    status = "interrupted" if past is interrupted else "crashed"
    left = Experiments(FOLDER).get(id)
    assert (left.status, left.results.episodes) == (status, 4)
    assert left.error is not None
    assert "No space left" in left.error.message
    assert faults() == []
    assert finished(id).results.episodes == 10


# --------------------------------------------------------------------- runs of a configuration

EVALUATED = ("--evaluate-every", "4", "--evaluate-episodes", "3")


def cut_short(after: int, *options: str) -> str:
    """A run of the built-in simulation of 12 episodes that was stopped after so many of all."""
    run = Run("small.yml", episodes=12, seed=5, plugins=TRACKER, **_evaluation(options))
    left = iter(range(after - 1))
    return run.execute(stop=lambda: next(left, None) is None, warn=quiet).id


def _evaluation(options: Sequence[str]) -> dict[str, Any]:
    return {"evaluate_every": 4, "evaluate_episodes": 3} if options else {}


@pytest.mark.parametrize("options", [(), EVALUATED])
def test_a_run_of_a_configuration_goes_on_to_the_same_end(
    qn_run: Program, options: tuple[str, ...]
) -> None:
    done = qn_run("small.yml", "--episodes", "12", "--seed", "5", "--track-experiment", *options)
    assert done.returncode == 0
    store = Experiments(FOLDER)
    whole = store.get("@1")
    for after in (1, 4, 6):  # the sixth is one of the first evaluation
        id = cut_short(after, *options)
        assert store.get(id).status == "interrupted"
        again = command("qn-run", "--resume", id, process=False)
        assert again.returncode == 0, again.stderr
        assert "what it has is run again first, and compared" in again.stderr
        record = store.get(id)
        assert (record.status, len(record.lives)) == ("completed", 1)
        assert same(record, whole)
        assert (record.cost, record.config) == (whole.cost, whole.config)
    assert faults() == []


def test_what_runs_otherwise_now_is_left_as_it_is(project: Path) -> None:
    id = cut_short(5)
    journal = FOLDER / "runs" / id / "episodes.jsonl"
    lines = [json.loads(line) for line in journal.read_bytes().splitlines()]
    lines[3]["steps"] += 1  # as another version of the simulation would have run it
    for one in lines:
        del one["crc"]
    data = [orjson.dumps(one)[:-1] for one in lines]
    journal.write_bytes(b"".join(b'%b,"crc":"%08x"}\n' % (one, crc32(one)) for one in data))
    (FOLDER / f"{id}.json").unlink()
    done = command("qn-run", "--resume", id, process=False)
    steps = lines[3]["steps"]
    assert done.returncode == 4
    said = f"error: {id}: episode 3: steps: recorded {steps}, but run again it is {steps - 1} (by"
    assert said in done.stderr
    assert Experiments(FOLDER).get(id).status == "crashed"


def test_options_of_a_study_and_runs_of_scripts_are_refused(project: Path) -> None:
    id = cut_short(2)
    for option in (("--jobs", "2"), ("--contributor", "A")):
        done = command("qn-run", "--resume", id, *option, process=False)
        assert (done.returncode, "error: " + option[0] in done.stderr) == (2, True)
    loop = interrupted()
    done = command("qn-run", "--resume", loop, process=False)
    assert done.returncode == 4
    assert f"error: {loop}: was recorded by a script" in done.stderr
    assert f'track(…, resume="{loop}")' in done.stderr
    with new() as alive:
        done = command("qn-run", "--resume", alive.id, process=False)
        assert (done.returncode, "is still running" in done.stderr) == (2, True)
    dry = command("qn-run", "--resume", id, "--dry-run", process=False)
    assert (dry.returncode, Experiments(FOLDER).get(id).status) == (0, "interrupted")
    assert dry.stdout.splitlines()[1].split() == ["resumes", id]


def test_the_example_of_the_documents(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(block(LOOPS, "tested: resume.py"), {})
    assert capsys.readouterr().out == "10\n"


# ------------------------------------------------------------------------------- real processes

SCRIPT = """
import os, sys, time
from qn_tracking import track
resume = sys.argv[1] if len(sys.argv) > 1 else None
with track({"a": 1, "resume": resume}, seed=1, episodes=400, resume=resume) as run:
    for i in range(run.done, 400):
        while i == 300 and not os.path.exists("go"):
            time.sleep(0.01)
        run.log({"loss": 1 / (i + 1)})
        if i % 10 == 0:
            run.episode(success=True, phase="evaluation")
        run.episode(success=i > 1, steps=i, reward=i * 1.1)  # the last of a turn: `done` counts it
        time.sleep(0.001)
"""


def started(*args: str) -> subprocess.Popen[str]:
    """The loop in a process of its own, which ends once there is a file `go`."""
    Path("loop.py").write_text(SCRIPT)
    null = subprocess.DEVNULL
    return subprocess.Popen([sys.executable, "loop.py", *args], stderr=null, text=True)


def status(id: str) -> str:
    return str(Experiments(FOLDER).document(id)["status"])


@pytest.fixture(name="dead")
def _dead(project: Path) -> str:
    """A run whose process was killed."""
    process = started()
    wait_until(lambda: list(FOLDER.glob("runs/*/series.jsonl")), process)
    process.kill()
    process.wait()
    return next(FOLDER.glob("runs/*")).name


@pytest.mark.slow
def test_kill_9_at_any_moment_and_go_on(dead: str) -> None:
    for wait in (0.2, 0.35, 0.5, 0.65, 0.8, 0.25, 0.4, 0.3):  # it takes as long to begin
        process = started(dead)
        time.sleep(wait)
        process.kill()
        process.wait()
        # A program that it was about to start may hold its lock for a moment.
        wait_until(lambda: status(dead) in ("crashed", "interrupted"))
    process = started(dead)
    wait_until(lambda: status(dead) == "running", process)
    refused = subprocess.run(
        [sys.executable, "loop.py", dead], capture_output=True, text=True, check=False
    )
    assert f"{dead}: is still running" in refused.stderr
    Path("go").touch()
    assert process.wait() == 0
    assert started().wait() == 0
    record = Experiments(FOLDER).get(dead)
    (whole,) = (id for id in Experiments(FOLDER).find().ids if id != dead)
    assert record.status == "completed"
    assert 1 <= len(record.lives) <= 9
    other = Experiments(FOLDER).get(whole)
    assert (record.results, record.digests.exact) == (other.results, other.digests.exact)
    # A turn that was cut off begins anew: what it had logged and evaluated is there twice.
    losses, others = (Experiments(FOLDER).series(id).columns()["value"] for id in (dead, whole))
    assert list(dict.fromkeys(losses)) == others
    assert 0 <= len(losses) - len(others) <= 9
    assert 0 <= record.phases["evaluation"].results.episodes - 40 <= 9
    assert faults() == []


@pytest.mark.slow
def test_a_simulation_that_was_killed_goes_on(qn_run: Program) -> None:
    arguments = ["small.yml", "--episodes", "300", "--seed", "5", "--track-experiment", "--quiet"]
    assert qn_run(*arguments).returncode == 0
    whole = Experiments(FOLDER).get("@1")
    process = subprocess.Popen([str(BIN / "qn-run"), *arguments])
    wait_until(lambda: len(list(FOLDER.glob("runs/*/episodes.jsonl"))) == 2, process)
    process.kill()
    process.wait()
    (id,) = (path.name for path in FOLDER.glob("runs/*") if path.name != whole.id)
    done = qn_run("--resume", id)
    assert done.returncode == 0, done.stderr
    assert same(Experiments(FOLDER).get(id), whole)
    assert faults() == []


@pytest.mark.slow
def test_of_two_processes_at_once_one_goes_on(dead: str) -> None:
    Path("go").touch()
    both = [started(dead) for _ in range(3)]
    assert sorted(one.wait() for one in both) == [0, 1, 1]
    record = Experiments(FOLDER).get(dead)
    assert (record.status, len(record.lives)) == ("completed", 1)
    assert faults() == []
