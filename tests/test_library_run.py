"""Runs and studies from Python, without a command."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import Program
from qn_tracking import (
    ConfigError,
    Recorder,
    Study,
    UnsupportedError,
    UsageError,
    make_manager,
    run,
    track,
)
from qn_tracking.builtin.progress import Progress
from qn_tracking.records.codec import plain
from qn_tracking.records.submission import Contribution
from qn_tracking.render.progress import Display, bar, time_left
from qn_tracking.studies.execute import StudyProgress
from qn_tracking.tracking.emit import storage_of


def silent(text: str) -> None:
    """Takes a warning."""


# ---------------------------------------------------------------------------------------------- run


def test_a_run_returns_its_record_and_stores_it(project: Path) -> None:
    record = run("small.yml", episodes=4, seed=3, tags={"a": "b"}, warn=silent)
    assert (record.status, record.results.episodes, record.seed) == ("completed", 4, 3)
    stored = json.loads(Path(f"experiments/{record.id}.json").read_text())
    assert stored["tags"] == {"a": "b"}
    assert stored["digests"]["exact"] == record.digests.exact  # type: ignore[union-attr]


def test_a_run_that_is_not_tracked_writes_nothing(project: Path) -> None:
    before = sorted(project.rglob("*"))
    assert run("small.yml", episodes=2, track=False, warn=silent).results.episodes == 2
    assert sorted(project.rglob("*")) == before


def test_a_run_is_stopped_after_its_episode(project: Path) -> None:
    record = run("small.yml", episodes=9, stop=lambda: True, warn=silent)
    assert (record.status, record.results.episodes) == ("interrupted", 1)


@pytest.mark.parametrize("episodes", [0, -1])
def test_no_episodes_are_not_the_default(project: Path, episodes: int) -> None:
    with pytest.raises(UsageError, match="episodes: expected 1 or more, got"):
        run("small.yml", episodes=episodes)
    with pytest.raises(UsageError, match="episodes: expected 1 or more, got"):
        Study.plan("small.yml", n_seeds=2, episodes=episodes)
    assert not Path("experiments").exists()


@pytest.mark.parametrize("jobs", [0, -1])
def test_a_study_needs_a_job(project: Path, jobs: int) -> None:
    study = Study.plan("small.yml", n_seeds=2, episodes=1)
    with pytest.raises(UsageError, match="jobs: expected 1 or more"):
        study.run(jobs=jobs)
    assert not Path("experiments").exists()


def test_a_study_of_nothing_is_a_usage_error(project: Path) -> None:
    with pytest.raises(UsageError, match="expected a configuration"):
        Study.plan([], n_seeds=2)


def test_a_run_is_checked_before_anything_is_written(project: Path) -> None:
    before = sorted(project.rglob("*"))
    with pytest.raises(ConfigError, match="gamma"):
        run("small.yml", overrides=["brain.config.gamma=high"])
    assert sorted(project.rglob("*")) == before


# -------------------------------------------------------------------------------------------- study


@pytest.fixture
def study(project: Path) -> Study:
    """A study of two runs that has been declared."""
    return Study.declare("small.yml", seeds=[42, 7], episodes=3, tags={"sweep": "x"})


def test_a_study_is_written_before_its_first_run(study: Study) -> None:
    assert Path(f"experiments/studies/{study.id}/study.json").is_file()
    again = Study.load(study.id)
    assert plain(again.record) == plain(study.record)
    assert again.record.seeds == (42, 7)
    assert again.record.seed is None
    assert [state.status for state in again.runs()] == ["missing", "missing"]
    assert again.results() == ()


def test_a_plan_writes_nothing_until_it_runs(project: Path) -> None:
    before = sorted(project.rglob("*"))
    study = Study.plan("small.yml", n_seeds=3, seed=5)
    assert study.about["runs"] == 3
    assert study.about["plugins"] == ["metadata", "json_storage"]
    assert sorted(project.rglob("*")) == before


@pytest.mark.slow
def test_a_study_runs_and_is_resumed(study: Study) -> None:
    seen: list[StudyProgress] = []
    began: list[str] = []
    first = study.run(
        jobs=1,
        progress=seen.append,
        stop=lambda: True,
        warn=silent,
        started=lambda: began.append(""),
    )
    assert first.stopped
    assert began == [""]
    assert (seen[0].runs, seen[0].total, seen[0].finished) == (2, 6, 0)
    outcome = Study.load(study.id).resume(jobs=2, warn=silent)
    assert outcome.finished == 2
    assert not outcome.stopped
    assert [one.seed for one in study.results()] == [42, 7]
    assert study.summary().counts == {"completed": 2}
    assert len(study.summary().final) == 2
    alone = run("small.yml", episodes=3, seed=42, warn=silent)
    assert alone.digests == study.results()[0].digests


UNGUARDED = """
from qn_tracking import Study

print("once")
study = Study.declare("small.yml", n_seeds=3, episodes=2, name="once")
print(study.run(jobs=2).finished, "__file__" in globals(), __spec__ is None)
"""
IN_A_THREAD = """
from concurrent.futures import ThreadPoolExecutor
from qn_tracking import Study

def runs(name):
    return Study.declare("small.yml", n_seeds=1, episodes=2, name=name).run(jobs=2).finished

if True:
    print("once")
    print(sum(ThreadPoolExecutor(3).map(runs, "abc")), bool(__file__), __spec__ is None)
"""
HALF_GUARDED = """
from qn_tracking import Study

print("once")
study = Study.declare("small.yml", n_seeds=3, episodes=2, name="once")
if __name__ == "__main__":
    print(study.run(jobs=2).finished, bool(__file__), __spec__ is None)
"""


GUARDED = """
import os
from pathlib import Path
from qn_tracking import Study

Path(f"imported-{os.getpid()}").touch()

def main():
    study = Study.declare("small.yml", n_seeds=3, episodes=2, name="once")
    print(study.run(jobs=2).finished)

"""


@pytest.mark.parametrize(
    ("start", "imports"),
    [
        ('if __name__ == "__main__":\n    main()', True),
        ('if "__main__" != __name__:\n    pass\nelse:\n    main()', True),
        ("main()", False),
        ('if __name__ == "__main__":\n    pass\nmain()', False),
    ],
)
def test_a_script_with_a_guard_is_imported_by_the_processes_of_the_runs(
    project: Path, start: str, imports: bool
) -> None:
    Path("script.py").write_text(GUARDED + start)
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr
    assert (len(list(Path().glob("imported-*"))) > 1) == imports
    assert len(list(Path("experiments/studies").iterdir())) == 1


@pytest.mark.parametrize(
    ("script", "how", "studies"),
    [
        (UNGUARDED, ["script.py"], 1),
        (UNGUARDED, ["-m", "script"], 1),
        (UNGUARDED, ["-c", UNGUARDED], 1),
        (UNGUARDED, ["-"], 1),
        (HALF_GUARDED, ["script.py"], 1),
        (IN_A_THREAD, ["script.py"], 3),
    ],
    ids=["file", "module", "command", "pipe", "half guarded", "threads"],
)
def test_a_script_needs_no_guard(project: Path, script: str, how: list[str], studies: int) -> None:
    Path("script.py").write_text(script)
    with open("script.py", "rb") as stream:
        done = subprocess.run([sys.executable, *how], stdin=stream, capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    named = how[0] != "-c"
    assert done.stdout == f"once\n3 {named} {how[0] != '-m'}\n"
    assert len(list(Path("experiments/studies").iterdir())) == studies


def test_a_study_that_is_run_already_is_refused(study: Study) -> None:
    code = (
        "import sys; from qn_tracking.store import studies\n"
        "with studies.locked('experiments', sys.argv[1]): print(flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, study.id], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout
    other.stdout.readline()
    with pytest.raises(UnsupportedError, match="another process"):
        study.run(warn=silent)
    other.communicate()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seeds": []}, "seeds: 0 of them"),
        ({"seeds": [1, 2, 1]}, "seeds: 1 is given twice"),
        ({"seeds": [-1]}, "seeds: expected a whole number"),
        ({"seeds": [True]}, "seeds: expected a whole number"),
        ({"seeds": 2}, "seeds: expected a sequence, got 2; n_seeds is their number"),
        ({"seeds": [1], "n_seeds": 1}, "seeds: cannot be combined"),
        ({"seeds": [1], "seed": 1}, "seeds: cannot be combined"),
        ({"seeds": [1], "contribution": Contribution(contributor="Ada")}, "needs derived seeds"),
        ({"n_seeds": 0}, "n_seeds: 0: expected 1 to 999"),
        ({"n_seeds": 1000}, "n_seeds: 1000: expected 1 to 999"),
    ],
)
def test_seeds_that_cannot_be(project: Path, options: dict[str, Any], said: str) -> None:
    before = sorted(project.rglob("*"))
    with pytest.raises(UsageError, match=said):
        Study.declare("small.yml", **options)
    assert sorted(project.rglob("*")) == before


def test_a_study_that_does_not_exist(project: Path) -> None:
    with pytest.raises(UsageError, match="no study 'nope'"):
        Study.load("nope")


# ------------------------------------------------------------------------------------------ command


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("1,2,1", "1 is given twice"),
        ("3-1", "expected a range upward"),
        ("3-", "expected seeds such as 42-49,60, got '3-'"),
        ("1-2000", "at most 999"),
        ("0-600,601-1200", "at most 999"),
        ("x", "expected a whole number"),
        ("", "expected seeds such as 42-49,60"),
        ("1,", "expected seeds such as 42-49,60"),
        ("-5", "seeds"),
    ],
)
def test_a_list_of_seeds_that_makes_no_sense(qn_run: Program, given: str, said: str) -> None:
    done = qn_run("small.yml", "--seeds", given)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "args", [["--n-seeds", "2"], ["--seed", "1"], ["--save-benchmark"], ["--resume", "x"]]
)
def test_seeds_are_not_combined_with_what_derives_them(qn_run: Program, args: list[str]) -> None:
    done = qn_run("small.yml", "--seeds", "1", *args)
    assert done.returncode == 2
    assert "cannot be combined with" in done.stderr


def test_exactly_these_seeds(qn_run: Program) -> None:
    done = qn_run("small.yml", "--seeds", "42-44,60", "--dry-run", "--json")
    assert json.loads(done.stdout)["seeds"] == [42, 43, 44, 60]
    assert "42, 43, 44, 60" in qn_run("small.yml", "--seeds", "42-44,60", "--dry-run").stdout


@pytest.mark.parametrize("quiet", [[], ["--quiet"], ["--json"]])
def test_runs_is_understood_as_episodes(qn_run: Program, quiet: list[str]) -> None:
    done = qn_run("small.yml", "--runs", "2", "--track-experiment", *quiet)
    assert done.returncode == 0
    said = "2 episodes (--runs is --episodes)"
    assert (said in done.stderr) == (not quiet)
    (path,) = Path("experiments").glob("*.json")
    assert json.loads(path.read_text())["results"]["episodes"] == 2
    assert "cannot be combined" in qn_run("small.yml", "--runs", "2", "--episodes", "2").stderr
    assert "(it is --n-seeds now)" in qn_run("small.yml", "--sessions", "2").stderr


def test_runs_was_the_word_for_the_episodes_of_a_recorder(project: Path) -> None:
    for make in (
        lambda **more: track({}, **more),
        lambda **more: Recorder({}, manager=make_manager(), **more),
    ):
        assert make(runs=5).run.episodes == 5
        with pytest.raises(UsageError, match="the former name of episodes"):
            make(runs=5, episodes=5)


@pytest.mark.parametrize("args", [[], ["--n-seeds", "2"]])
def test_a_dry_run_lists_only_the_plugins_that_are_on(qn_run: Program, args: list[str]) -> None:
    options = ("small.yml", "--dry-run", "--track-experiment", "--no-plugin", "metadata", *args)
    assert json.loads(qn_run(*options, "--json").stdout)["plugins"] == ["json_storage"]
    assert "metadata" not in qn_run(*options).stdout


@pytest.mark.parametrize(
    ("override", "meant"),
    [
        ("hidden_dim=9", "brain.config.hidden_dim"),
        ("brain.hidden_dim=9", "brain.config.hidden_dim"),
        ("grid_size=9", "environment.static.grid_size"),
        ("grid_sizes=9", "environment.static.grid_size"),
        ("brain.Hidden_dim=9", "brain.config.hidden_dim"),
        ("brain.config.hiden_dim=9", "brain.config.hidden_dim"),
    ],
)
def test_an_override_of_a_nested_field(qn_run: Program, override: str, meant: str) -> None:
    done = qn_run("small.yml", "--set", override)
    assert done.returncode == 2
    assert f"(did you mean {meant}?)" in done.stderr


def test_an_override_of_a_section_that_is_called_the_same(qn_run: Program) -> None:
    done = qn_run("mlp_dynamic_small", "--set", "learning_rate=0.9")
    assert done.returncode == 2
    assert "(did you mean brain.config.learning_rate?)" in done.stderr


# ------------------------------------------------------------------------------ storage and display

STORE = """
import json
from qn_tracking import hookimpl

class Store:
    stores = True
    saved, journal = False, "mine.jsonl"

    def __init__(self, broken=False):
        self.broken = broken

    @hookimpl
    def run_start(self, run):
        self.path = f"{run.experiments_dir}.mine.json"

    @hookimpl
    def episode_end(self, episode):
        if self.broken:
            raise OSError("full")

    @hookimpl
    def run_end(self, experiment):
        with open(self.path, "w") as out:
            json.dump({"id": experiment.id}, out)
        self.saved = True
"""


def test_a_plugin_of_ones_own_may_store_the_record(qn_run: Program) -> None:
    Path("store.py").write_text(STORE)
    done = qn_run("small.yml", "--episodes", "2", "--plugins", "store:Store")
    assert done.returncode == 0, done.stderr
    assert "experiments.mine.json\n" in done.stdout
    assert Path("experiments.mine.json").exists()
    Path("broken.yml").write_text(
        Path("small.yml").read_text() + "plugins: {'store:Store': {broken: true}}\n"
    )
    done = qn_run("broken.yml", "--episodes", "2", "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["failures"] == [
        {"plugin": "store:Store", "hook": "episode_end", "error": "OSError: full", "storage": True}
    ]


def test_the_storage_is_found_by_what_it_does() -> None:
    assert storage_of(make_manager()) is None
    assert storage_of(make_manager(["progress"])) is None
    manager = make_manager(["metadata", "json_storage"])
    assert storage_of(manager) is manager.get_plugin("json_storage")


class Still:
    """A clock that has not moved."""

    def time(self) -> float:
        return 0.0

    def perf_counter(self) -> float:
        return 7.0


def test_a_clock_that_has_not_moved_divides_by_nothing(project: Path) -> None:
    with Recorder({}, manager=make_manager(), clock=Still()) as recorder:
        recorder.episode(steps=5)
    assert recorder.experiment is not None
    assert recorder.experiment.steps_per_second is None
    assert time_left(0.0, 0, 5) is None
    assert time_left(0.0, 1, 5) == "0.0s left"
    assert bar(0, 0) == "[" + 20 * "-" + "]"
    assert Progress().line(0, 0.0) == "0 episodes"


def test_no_plugin_is_busy_after_an_interrupt(project: Path) -> None:
    class Slow:
        from qn_tracking import hookimpl

        @hookimpl
        def episode_end(self) -> None:
            raise KeyboardInterrupt

    manager = make_manager()
    manager.register(Slow(), name="slow")
    recorder = Recorder({}, manager=manager).start()
    with pytest.raises(KeyboardInterrupt):
        recorder.episode()
    assert recorder.busy is None


def test_a_display_draws_on_a_terminal_and_prints_plain_lines_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminal:
        def __init__(self, live: bool) -> None:
            self.live, self.text = live, ""

        def isatty(self) -> bool:
            return self.live

        def write(self, text: str) -> None:
            self.text += text

        def flush(self) -> None: ...

    now = [0.0]
    monkeypatch.setattr("qn_tracking.render.progress.perf_counter", lambda: now[0])
    monkeypatch.setenv("TERM", "xterm")
    terminal, file = Terminal(True), Terminal(False)
    with Display(terminal) as live, Display(file) as plain:  # type: ignore[arg-type]
        for number in range(25):
            live(f"{number}")
            plain(lambda number=number: f"{number}")  # type: ignore[misc]
            now[0] += 1.0
    assert terminal.text == "".join(f"\r\x1b[K{number}" for number in range(25)) + "\r\x1b[K"
    assert file.text == "10\n20\n"
    with Display(terminal, silent=True) as quiet:  # type: ignore[arg-type]
        quiet("nothing")
    assert "nothing" not in terminal.text
