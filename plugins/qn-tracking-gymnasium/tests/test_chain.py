"""From a configuration to a verified entry of the leaderboard, by the installed programs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

Program = Callable[..., "subprocess.CompletedProcess[str]"]

CONFIG = """\
environment: {type: gymnasium, id: FrozenLake-v1, kwargs: {is_slippery: false}, max_steps: 30}
brain:
  name: qlearning
  config: {alpha: {initial: 1.0}, epsilon: {initial: 1.0, decay: 0.95}, initial_value: 1.0}
"""


def git(*args: str) -> str:
    return subprocess.run(["git", *args], check=True, capture_output=True, text=True).stdout.strip()


def checked(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_benchmark_of_a_configuration_of_ones_own(program: Program) -> None:
    git("init", "-q", "-b", "main", ".")
    Path("lake.yml").write_text(CONFIG)
    git("add", ".")
    git("commit", "-qm", "a lake")
    checked(
        program(
            "qn-run", "lake.yml", "--n-seeds", "10", "--episodes", "60", "--jobs", "2", "--seed", "1",
            "--save-benchmark", "--contributor", "Ada", "--benchmark-notes", "a lake",
        )
    )  # fmt: skip
    (path,) = Path("benchmarks").glob("*/*/*.json")
    submission = json.loads(path.read_text())
    assert path.parent.parent.name.startswith("frozenlake-v1-steps30-")
    assert submission["subject"] == {
        "environment": "FrozenLake-v1",
        "brain": "qlearning",
        "family": "classical",
        "device": "cpu",
        "backend": None,
        "packages": ["qn_tracking_gymnasium"],
    }
    assert submission["code"][0]["name"] == "qn_tracking_gymnasium"
    assert len(submission["code"][0]["digest"]) == 64
    assert submission["source"]["commit"] == git("rev-parse", "HEAD")

    assert "1 valid, 0 not" in checked(program("qn-bench", "validate"))
    board: list[Any] = json.loads(checked(program("qn-bench", "leaderboard", "--json")))
    # No category has this task, so there is nothing to be ranked with.
    (found,) = [one["open"] for one in board if one["open"]]
    assert [one["entry"]["id"] for one in found] == [path.stem]

    assert checked(program("qn-exp", "rerun", "@1")).startswith("identical: every number of 60")
    done = program("qn-bench", "verify", path.stem, "--repeat", "--sample", "2", "--present-code")
    assert "2 of 10 runs: 2 bit-exact" in checked(done)


def test_a_benchmark_that_names_another_task_is_refused(program: Program) -> None:
    """A category is what the configuration makes of it, not where a file lies."""
    checked(
        program(
            "qn-run", "cartpole_random", "--save-benchmark", "--episodes", "50", "--seed", "1", "--yes",
            "--contributor", "Ada", "--benchmark-notes", "x", "--jobs", "2",
        )
    )  # fmt: skip
    (path,) = Path("benchmarks").glob("cartpole-v1/classical/*.json")
    submission = json.loads(path.read_text())
    submission["subject"]["environment"] = "CartPole-v0"
    path.write_text(json.dumps(submission))
    done = program("qn-bench", "validate")
    assert done.returncode == 1
    assert "is 'CartPole-v0', its configuration gives 'CartPole-v1'" in done.stdout + done.stderr


def test_a_run_does_not_depend_on_its_neighbours(program: Program) -> None:
    found = []
    for jobs in ("1", "2"):
        args = ("cartpole_qlearning", "--n-seeds", "3", "--episodes", "20", "--seed", "4")
        checked(program("qn-run", *args, "--jobs", jobs, "--experiments-dir", jobs))
        records = [json.loads(one.read_text()) for one in sorted(Path(jobs).glob("*.json"))]
        found.append([(one["seed"], one["digests"]) for one in records])
    assert found[0] == found[1]
    assert len({seed for seed, _ in found[0]}) == 3
