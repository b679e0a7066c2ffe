"""Runs of scripts in the open division: declared, submitted, checked, and run again."""

from __future__ import annotations

import itertools
import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, strategies as st

import qn_tracking
from conftest import Program as Command, command
from qn_tracking import Leaderboard, UsageError, program, track
from qn_tracking.benchmark.program import obstacles, program_of, script_of
from qn_tracking.records.provenance import Git as GitFacts, Provenance, Script
from qn_tracking.records.submission import Contribution
from qn_tracking.reproduce import sandbox

Git = Callable[..., str]
TRUST = ("--trust",) if sandbox.missing() is None else ("--trust", "--no-sandbox")
TASK = {"map": "4x4", "max_steps": 100, "success": "the goal is reached"}
ADA = Contribution(contributor="Ada")

TRAIN = """\
import argparse
import random

from qn_tracking import track

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int)
args = parser.parse_args()
task = {"map": "4x4", "max_steps": 100, "success": "the goal is reached"}
with track(
    {"epsilon": 0.1}, seed=args.seed, task=task, environment="FrozenLake-v1", brain="q-table"
) as run:
    chance = random.Random(run.seed)
    for n in range(50):
        run.episode(success=chance.random() < n / 40, steps=n, reward=chance.random())
"""


@pytest.fixture
def repository(project: Path, git: Git) -> Path:
    """A repository with a script on its main branch."""
    (project / ".gitignore").write_text("gitconfig\nsmall.yml\nexperiments/\n__pycache__/\n")
    (project / "scripts").mkdir()
    (project / "scripts/train.py").write_text(TRAIN)
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    return project


@pytest.fixture
def runs(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Records runs in this process, as if the script were running in one of its own for each."""
    main = SimpleNamespace(__file__=str(repository / "scripts/train.py"), __spec__=None)

    def record(count: int = 10, episodes: int = 50, **options: Any) -> list[str]:
        ids = []
        monkeypatch.setitem(sys.modules, "__main__", main)  # type: ignore[arg-type]
        for seed in range(1, count + 1):
            words = ["python", "scripts/train.py", "--seed", str(seed)]
            monkeypatch.setattr(sys, "orig_argv", words)
            monkeypatch.setattr(program, "_RUNS", itertools.count())
            given = {"environment": "FrozenLake-v1", "brain": "q-table", "task": TASK, **options}
            with track({"epsilon": 0.1}, seed=seed, warn=lambda text: None, **given) as run:
                chance = random.Random(seed)
                for n in range(episodes):
                    run.episode(success=chance.random() < 0.8, steps=n, reward=n / seed)
            ids.append(run.id)
        return ids

    return record


def board() -> Leaderboard:
    return Leaderboard("benchmarks", warn=lambda text: None)


def test_runs_with_a_declared_task_are_in_the_open_division(
    repository: Path, runs: Callable[..., list[str]]
) -> None:
    made = board().submit(runs(), ADA)
    assert made.saved, made.findings
    assert str(made.submission.category) == "frozenlake-v1/script"
    assert made.submission.task == {"environment": "FrozenLake-v1", "simulation": "script", **TASK}
    assert made.submission.program is not None
    assert made.submission.program.arguments == ("--seed", "{seed}")
    assert [one["name"] for one in made.submission.code] == ["scripts.train"]
    assert str(made.division) == "open: the protocol has no task for frozenlake-v1"
    (report,) = board().validate()
    assert report.valid, report.findings
    (entry,) = board().submissions()
    assert (entry.id, entry.brain) == (made.submission.id, "q-table")
    found = board().verify(made.submission.id, record=False)
    assert (found.outcome, found.source and found.source.commit) == (
        "verified",
        made.submission.source.commit,
    )
    refused = board().verify(made.submission.id, repeat=True, present_code=True, record=False)
    assert refused.outcome == "refused"
    assert "in the code of its commit alone" in refused.reasons[0]


def test_a_script_never_gets_into_the_closed_division(
    repository: Path, runs: Callable[..., list[str]]
) -> None:
    """Not even by declaring, word for word, the task of one."""
    closed = board().rules().now.tasks["dynamic_small"]
    task = {**closed.task, "environment": "dynamic_small"}
    made = board().submit(runs(task=task, environment=""), ADA)
    assert made.valid, made.findings
    assert made.division is not None
    assert not made.division.closed
    nested = {"task": dict(closed.task)}
    ids = runs(task=None)
    path = Path(f"experiments/{ids[0]}.json")
    assert "task" not in json.loads(path.read_text())["config"]["data"]
    with pytest.raises(qn_tracking.QnError, match="no provider knows the category"):
        board().submit(ids, ADA)
    with track({"epsilon": 0.1, **nested}, seed=1, warn=lambda text: None) as run:
        run.episode(success=True)
    assert any("no provider knows the category" in text for text in board().missing([run.id]))


def test_what_others_could_not_run_is_not_valid(
    repository: Path, runs: Callable[..., list[str]]
) -> None:
    path = Path(board().submit(runs(), ADA).path)
    whole = path.read_text()
    edits: dict[str, Callable[[dict[str, Any]], Any]] = {
        "program": lambda doc: doc.pop("program"),
        "source": lambda doc: doc["source"].update(dirty=True),
        "code": lambda doc: doc["program"].update(name="scripts/other.py"),
        "task": lambda doc: doc.pop("task"),
    }
    for field, edit in edits.items():
        doc = json.loads(whole)
        edit(doc)
        path.write_text(json.dumps(doc))
        (report,) = board().validate()
        assert field in {one.field for one in report.findings if one.level == "error"}


def test_a_dry_run_says_all_that_is_missing_as_soon_as_a_run_has_begun(
    repository: Path, runs: Callable[..., list[str]], qn_bench: Command
) -> None:
    (repository / "scripts/train.py").write_text(TRAIN + "\n")
    with track({"epsilon": 0.1}, warn=lambda text: None) as run:
        done = qn_bench("submit", "@1", "--dry-run")
        assert done.returncode == 1
        said = done.stdout.splitlines()
        done = qn_bench("submit", "@1", "--dry-run", "--json")
        assert json.loads(done.stdout)["missing"] == said[:-1]
        run.episode(success=True)
    assert said[-1] == "nothing was saved"
    for cause in (
        f"{run.id}: has no seed",
        f"{run.id}: it ran with uncommitted changes",
        "runs: 1, at least 10 are needed",
        "episodes: 0, at least 50 are needed",
        "no provider knows the category of this configuration",
    ):
        assert any(line.startswith(cause) for line in said), (cause, said)
    (repository / "scripts/train.py").write_text(TRAIN)
    assert qn_bench("submit", *runs(), "--dry-run").stdout.startswith("nothing is missing")
    assert not Path("benchmarks").exists() or not list(Path("benchmarks").rglob("2*.json"))
    assert "needs --contributor" in qn_bench("submit", "@1").stderr
    assert qn_bench("submit", "nope", "--dry-run").returncode == 2


def test_what_is_missing_keeps_a_submission_out(
    repository: Path, runs: Callable[..., list[str]]
) -> None:
    (repository / "scripts/train.py").write_text(TRAIN + "\n")
    with pytest.raises(UsageError, match=r"uncommitted changes.*--dry-run"):
        board().submit(runs(), ADA)


# ---------------------------------------------------------------------------------- declarations


def test_a_declared_task_is_part_of_the_configuration(project: Path) -> None:
    with track("small.yml", task=TASK, environment="maze") as one:
        pass
    assert one.run.config.data["task"] == {"environment": "maze", **TASK}
    with track("small.yml", task={**TASK, "max_steps": 50}, environment="maze") as other:
        pass
    assert one.run.config.digest != other.run.config.digest
    with pytest.raises(UsageError, match="task: needs an environment"):
        track({}, task=TASK)
    with pytest.raises(UsageError, match="has such a field already"):
        track({"task": "x"}, task=TASK, environment="maze")


words = st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S")), max_size=8)


@given(st.lists(words, max_size=4), st.lists(st.integers(0, 99), min_size=2, unique=True), words)
def test_the_command_of_a_run_is_that_of_the_program_and_its_seed(
    literal: list[str], seeds: list[int], head: str
) -> None:
    commands = [(*literal, f"{head}{seed}", "--x") for seed in seeds]
    scripts = [Script(kind="script", name="a.py", arguments=one) for one in commands]
    made = program_of(scripts, seeds, None)
    assert [script_of(made, seed).arguments for seed in seeds] == commands
    assert script_of(made, 1234).arguments[-2] == f"{head}1234"


def test_commands_that_differ_in_more_than_the_seed_are_no_program() -> None:
    scripts = [Script(kind="script", name="a.py", arguments=(lr,)) for lr in ("0.1", "0.2")]
    with pytest.raises(UsageError, match=r"other arguments than their seeds: 0\.1, 0\.2"):
        program_of(scripts, [5, 6], None)
    with pytest.raises(UsageError, match="differently: folder"):
        program_of([Script(kind="script"), Script(kind="script", folder="x")], [1, 2], None)


@pytest.mark.parametrize(
    ("script", "git", "cause"),
    [
        ({"kind": "notebook"}, {}, "cannot be started again"),
        ({"arguments": ("[redacted]",)}, {}, "hold secrets"),
        ({"in_repository": False}, {}, "in no commit"),
        ({}, {"commit": None}, "in no commit"),
        ({}, {"dirty": "unknown"}, "uncommitted changes"),
        ({"added": {"file": "untracked.patch"}}, {}, "git does not have"),
    ],
)
def test_what_keeps_others_from_running_a_script(
    script: dict[str, Any], git: dict[str, Any], cause: str
) -> None:
    good = {"kind": "script", "name": "a.py", "in_repository": True}
    clean = {"commit": "a" * 40, "dirty": False}
    assert obstacles(Provenance(script=Script(**good), git=GitFacts(**clean))) == ()
    found = Provenance(script=Script(**{**good, **script}), git=GitFacts(**{**clean, **git}))
    assert [cause in text for text in obstacles(found)] == [True]


# ------------------------------------------------------------------------------------ run again


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(qn_tracking.__file__).parents[1]))


@pytest.mark.slow
def test_a_study_of_a_script_is_submitted_and_verified(
    repository: Path, git: Git, environment: None
) -> None:
    python = (sys.executable, "scripts/train.py", "--seed", "{seed}")
    done = command("qn-run", "--n-seeds", "10", "--seed", "5", "--name", "s", "--", *python)
    assert done.returncode == 0, done.stderr
    assert command("qn-bench", "submit", "s", "--dry-run").returncode == 0
    done = command("qn-bench", "submit", "s", "--contributor", "Ada", "--yes", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    id = json.loads(done.stdout)["submission"]["id"]
    options = ("--repeat", "--sample", "2", "--verifier", "Bob")
    assert "--trust" in command("qn-bench", "verify", id, *options).stderr
    done = command("qn-bench", "verify", id, *options, *TRUST)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(Path("benchmarks/verifications").rglob("*.json"))) == 1
    assert command("qn-bench", "validate").returncode == 0
    # Fresh seeds go to the same place of the command.
    done = command("qn-bench", "verify", id, "--replicate", "-m", "10", "--verifier", "Bob", *TRUST)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_numbers_that_the_script_does_not_give_are_a_mismatch(
    repository: Path, git: Git, runs: Callable[..., list[str]], environment: None
) -> None:
    made = board().submit(runs(), ADA)  # in this process, with other numbers than the script's
    assert made.saved
    done = command(
        "qn-bench", "verify", made.submission.id, "--repeat", "--sample", "1", "--verifier", "Bob",
        *TRUST, env=dict(os.environ),
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "episode 0: " in done.stderr
