"""A study is a thing, whether it was declared or gathered; groups are ranked by their means."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Program
from qn_tracking import Experiments, track
from qn_tracking.errors import UsageError

Make = Callable[..., list[str]]


@pytest.fixture
def make(project: Path) -> Make:
    """Records runs of a setting, one for each seed, whose episodes succeed so often."""

    def call(
        rate: float, seeds: range, chance: float, episodes: int = 40, **options: Any
    ) -> list[str]:
        ids = []
        for seed in seeds:
            dice = random.Random(f"{rate} {seed}")
            with track(
                {"rate": rate, "kind": "x"},
                seed=seed,
                blocked=["metadata"],
                warn=lambda text: None,
                **options,
            ) as run:
                for _ in range(episodes):
                    won = dice.random() < chance
                    run.episode(
                        success=won, steps=dice.randint(1, 9), reward=float(won), loss=1 - chance
                    )
                ids.append(run.id)
        return ids

    return call


def said(done: Any) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# ---------------------------------------------------------------------------------------- gathered


def test_runs_are_gathered_into_a_study_that_is_marked_so(make: Make, qn_exp: Program) -> None:
    slow, fast = make(0.1, range(6), 0.1), make(0.2, range(6), 0.95)
    done = qn_exp("gather", "--by", "config", "--name", "rates", "--question", "does it matter?")
    assert done.returncode == 0, done.stderr
    assert "gathered afterwards, not declared" in done.stdout
    study = Experiments().study("rates")
    assert study is not None
    assert not study.declared
    assert list(study.arm_names) == ["rate=0.1", "rate=0.2"]  # named by what differs
    assert sorted(study.run_ids()) == sorted(slow + fast)
    page = qn_exp("show", "rates").stdout
    assert page.splitlines()[0].startswith(f"rates ({study.id}) · gathered afterwards, not")
    assert "does it matter?" in page
    assert "rate=0.2 usually beats rate=0.1: p 0.0022" in page
    assert said(qn_exp("show", study.id, "--json"))["declared"] is False
    assert sorted(Experiments().ids("rates")) == sorted(slow + fast)


def test_a_gathered_study_counts_a_run_once_and_takes_any_field(
    make: Make, qn_exp: Program
) -> None:
    make(0.1, range(3), 0.5)
    make(0.1, range(3), 0.5)  # the same seeds again
    store = Experiments()
    found = store.gather(by="seed", save=False)
    assert [side.declared for side in found.sides()] == [1, 1, 1]
    assert store.studies() == []
    assert [row.declared for row in store.gather(by="kind", save=False).table().rows] == [3]


def test_a_name_is_taken_once(make: Make, qn_exp: Program) -> None:
    make(0.1, range(2), 0.5)
    store = Experiments()
    store.gather(name="mine")
    with pytest.raises(UsageError, match="mine is taken by the study"):
        store.gather(name="mine")
    for args, cause in (
        (["gather", "--tag", "none"], "no runs to gather"),
        (["gather", "--by", "rat"], "no stored field"),
        (["gather", "--name", "a/b"], "cannot be the name of a study"),
    ):
        done = qn_exp(*args)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert cause in done.stderr


def test_a_gathered_study_that_contradicts_itself_is_one_line(make: Make, qn_exp: Program) -> None:
    make(0.1, range(2), 0.5)
    study = Experiments().gather(name="mine")
    file = Path("experiments/studies") / study.id / "gathered.json"
    doc = json.loads(file.read_text())
    doc["arms"] += [{"name": "again", "runs": doc["arms"][0]["runs"]}]
    file.write_text(json.dumps(doc))
    done = qn_exp("show", study.id)
    assert (done.returncode, done.stderr) == (3, f"error: {file}: arms: a run is in two of them\n")
    assert "a run is in two of them" in qn_exp("fsck").stdout
