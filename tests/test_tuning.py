"""Settings are chosen on seeds of their own: a submission says which, and its runs have others."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conftest import SMALL
from qn_tracking import Experiments, Leaderboard
from qn_tracking.api.study import Study
from qn_tracking.errors import UsageError
from qn_tracking.records.submission import Contribution, Tuning
from qn_tracking.render.board import BEGIN, END, cell
from test_division import refused, with_rules

TUNED = ["--contributor", "Ada", "--benchmark-notes", "tuned", "--yes", "--quiet"]


@pytest.fixture
def rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study of the learning rate, in a folder where the small task is ranked; it has not run."""
    monkeypatch.chdir(tmp_path)
    Path("small.yml").write_text(SMALL)
    with_rules(Path("benchmarks"), 9)
    study = Study.plan(
        "small.yml",
        sweep={"brain.config.learning_rate": [0.01, 0.02]},
        seeds=range(901, 904),
        name="rate",
        command=["test"],
    )
    study.save()
    return study


def submitted(*chosen: Tuning, seed: int = 1) -> Any:
    by = Contribution(contributor="Ada", tuning=chosen)
    study = Study.plan("small.yml", contribution=by, seed=seed, command=["test"])
    study.run(warn=lambda _: None)
    return study.submit(warn=lambda _: None)


def change(path: str, **values: Any) -> Path:
    doc = json.loads(Path(path).read_text())
    doc["contribution"]["tuning"][0].update(values)
    Path(path).write_text(json.dumps(doc))
    return Path(path)


def test_a_submission_names_the_studies_it_was_tuned_by(qn_run: Any, rate: Study) -> None:
    done = qn_run(
        *("small.yml", "--set", "brain.config.learning_rate=0.02", "--seed", "1"),
        *("--save-benchmark", "--tuned-by", "rate", "--tuned-by", "7-8,11", *TUNED),
    )
    assert done.returncode == 0, done.stderr
    (entry,) = Leaderboard().submissions()
    submission = Leaderboard().stored(entry.id).submission
    of_rate = Tuning(study=rate.id, digest=rate.record.digest, seeds=(901, 902, 903))
    assert submission.contribution.tuning == (of_rate, Tuning(seeds=(7, 8, 11)))
    # It is declared before the first run, with what else the contributor says.
    (own,) = [one for one in Experiments("experiments").studies() if one.id != rate.id]
    assert isinstance(own, Study)
    assert own.record.contribution == submission.contribution


def test_it_is_shown_where_the_notes_are(qn_bench: Any, rate: Study) -> None:
    made = submitted(rate.tuning, Tuning(seeds=(7,)))
    assert made.saved, made.findings
    words = f"study {rate.id}, 3 other seeds; 1 other seed"
    lines = qn_bench("show", made.submission.id).stdout.splitlines()
    assert [line.partition("chosen by")[2].strip() for line in lines if "chosen by" in line] == [
        words
    ]
    Path("README.md").write_text(f"{BEGIN}\n{END}\n")
    assert qn_bench("regenerate").returncode == 0
    assert f"- settings chosen by: {cell(words)}\n" in Path("BENCHMARKS.md").read_text()


@pytest.mark.usefixtures("rate")
def test_one_that_says_nothing_is_stored_as_before() -> None:
    made = submitted()
    doc = json.loads(Path(made.path).read_text())
    assert list(doc["contribution"]) == ["contributor", "github", "notes"]
    assert Leaderboard().stored(made.submission.id).submission.contribution.tuning == ()


def test_the_same_seed_for_both_is_refused_before_hours_of_runs(qn_run: Any, rate: Study) -> None:
    common = ("small.yml", "--seed", "5", "--episodes", "50", "--quiet")
    first = ("--n-seeds", "2", "--sweep", "brain.config.gamma=0.9,0.99", "--name", "gamma")
    assert qn_run(*common, *first).returncode == 0
    done = qn_run(*common, "--save-benchmark", "--tuned-by", "gamma", *TUNED)
    assert done.returncode == 2
    assert done.stderr == (
        "error: --tuned-by: 2 of the 10 seeds are some that the settings were chosen on"
        " (another --seed gives other seeds)\n"
    )
    assert [one.name for one in Experiments("experiments").studies()] == ["gamma", rate.name]


@pytest.mark.usefixtures("rate")
def test_runs_of_the_study_that_chose_are_no_submission(qn_bench: Any) -> None:
    study = Study.declare("small.yml", n_seeds=10, seed=3, episodes=50, name="own")
    study.run(warn=lambda _: None)
    done = qn_bench("submit", "own", "--tuned-by", "own", *TUNED[:-1])
    assert done.returncode == 1
    assert "contribution.tuning[0].seeds: 10 of the 10 seeds are some that" in done.stderr
    assert not [*Path("benchmarks").glob("*/*/*.json")]
    assert qn_bench("submit", "own", "--tuned-by", "1-3", *TUNED[:-1]).returncode == 0


def test_what_is_declared_is_checked(rate: Study) -> None:
    made = submitted(rate.tuning)
    own = made.submission.runs[0].seed
    for values, field in (
        ({"study": "../x"}, "study"),
        ({"digest": "x"}, "digest"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [1, 1]}, "seeds"),
        ({"seeds": [-1]}, "seeds"),
        ({"seeds": [1, own]}, "seeds"),
    ):
        whole = Path(made.path).read_text()
        found = refused(change(made.path, **values))
        assert found == {("tuning", f"contribution.tuning[0].{field}")}, values
        Path(made.path).write_text(whole)
    assert refused(Path(made.path)) == set()


@pytest.mark.parametrize("text", ["unknown", "3-1", "", "../x", "1,1"])
@pytest.mark.usefixtures("rate")
def test_what_is_neither_a_study_nor_seeds_is_one_line(qn_run: Any, text: str) -> None:
    done = qn_run("small.yml", "--save-benchmark", "--tuned-by", text, *TUNED)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: --tuned-by: {text!r} is no study, and no list of seeds")
    assert done.stderr.count("\n") == 1


@pytest.mark.usefixtures("rate")
def test_runs_that_were_gathered_are_named_by_their_seeds(qn_run: Any) -> None:
    store = Experiments("experiments")
    Study.declare("small.yml", seeds=[1, 2], episodes=1).run(warn=lambda _: None)
    store.gather(store.find(), by="config", name="afterwards")
    done = qn_run("small.yml", "--save-benchmark", "--tuned-by", "afterwards", *TUNED)
    assert done.returncode == 2
    assert "afterwards was gathered from runs, not declared (give the seeds" in done.stderr


@pytest.mark.usefixtures("rate")
def test_it_belongs_to_a_submission(qn_run: Any) -> None:
    done = qn_run("small.yml", "--tuned-by", "1-3")
    assert (done.returncode, "--tuned-by needs --save-benchmark" in done.stderr) == (2, True)


@pytest.mark.usefixtures("rate")
def test_the_library_refuses_it_by_its_own_name() -> None:
    plan = partial(Study.plan, "small.yml", seed=1, command=["test"])
    seeds = plan(contribution=Contribution(contributor="Ada")).record.seeds
    by = Contribution(contributor="Ada", tuning=(Tuning(seeds=seeds[3:4]),))
    with pytest.raises(UsageError, match="1 of the 10 seeds is one that") as caught:
        plan(contribution=by)
    assert caught.value.field == "tuned_by"


@pytest.mark.usefixtures("rate")
def test_seeds_that_are_added_later_are_none_of_it() -> None:
    by = Contribution(contributor="Ada", tuning=(Tuning(seeds=(7, 8)),))
    study = Study.plan("small.yml", contribution=by, seed=1, command=["test"])
    with pytest.raises(UsageError, match="1 of the 2 seeds is one that") as caught:
        study.extend(seeds=[6, 7])
    assert caught.value.field == "seeds"
    assert study.record.extended == 0
    study.extend(seeds=[5, 6])
    assert study.record.extended == 1
