"""A study is a thing, whether it was declared or gathered; groups are ranked by their means."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Program
from qn_tracking import Experiments, Study, track
from qn_tracking.api.fold import folded
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


def test_many_runs_that_repeat_others_are_one_warning(make: Make, qn_exp: Program) -> None:
    for _ in range(2):
        make(0.1, range(3), 0.5)
        make(0.2, range(2), 0.5)
    done = qn_exp("compare", "--by", "config")
    assert done.stderr.count("warning: 5 runs are left out: repeats a run") == 1
    assert done.stderr.count("\n") == 1
    assert len(said(qn_exp("compare", "--by", "config", "--json"))["left_out"]) == 5


def test_a_run_that_was_tried_again_counts_once_in_a_list() -> None:
    rows = [
        {"id": f"20260101T000000Z-00000000.s00{end}", "status": status}
        for end, status in (("1.r1", "completed"), ("0", "completed"), ("1", "interrupted"))
    ]
    ((row, count),) = folded(rows, lambda study: ("lr", 2))
    assert (row["id"], row["status"], count) == ("lr", "completed", "2")


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
    said_of = "TO 80%: median episodes until runs have reached and keep it, - if most were not 20"
    assert said_of in " ".join(page.split())  # of 40 episodes
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
        (["gather", "--by", "rat"], "--by: no stored field rat (near: rate"),
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


# ------------------------------------------------------------------------------------ one row each


def rows_of(done: Any) -> list[list[str]]:
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()[2:]]


def test_a_list_has_one_row_for_a_study(make: Make, qn_exp: Program, qn_run: Program) -> None:
    (alone,) = make(0.1, range(1), 0.5)
    done = qn_run("small.yml", "--sweep", "brain.config.learning_rate=0.1,0.2", "--seeds", "1-3",
                  "--episodes", "3", "--name", "lr")  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, last = rows_of(qn_exp("list"))
    assert (first[0], first[1], last[0]) == ("lr", "6", alone)
    assert "completed" in first
    assert "6" in first
    flat = rows_of(qn_exp("list", "--flat"))
    assert len(flat) == 7
    assert [row[0] for row in rows_of(qn_exp("list", "--columns", "id"))] == [r[0] for r in flat]
    # Everything else counts runs, as before.
    doc = said(qn_exp("list", "--json"))
    assert len(doc["experiments"]) == doc["total"] == 7
    compared = repr(Experiments().compare(by="config", where="config.label is not null"))
    assert len(compared) < 1000
    assert compared.startswith("<GroupComparison of ")
    few = qn_exp("list", "--limit", "2")
    assert few.stdout.startswith("newest 2 of 7 experiments")
    assert few.stdout.endswith(
        "more: --limit counts runs, 0 for all; --studies lists the studies\n"
    )
    flat = qn_exp("list", "--limit", "2", "--flat")
    assert flat.stdout.endswith("more: --limit N, or 0 for all\n")
    assert [row[:2] for row in rows_of(few)][:1] == [["lr", "6"]]  # the limit cuts no study
    assert [row[:2] for row in rows_of(qn_exp("list", "--seed", "1"))] == [["lr", "2/6"]]
    assert said(qn_exp("show", "@1", "--json"))["id"].endswith(".s005")


@pytest.fixture
def lr(project: Path, qn_run: Program) -> str:
    """The id of a declared study of two arms and three seeds."""
    done = qn_run("small.yml", "--sweep", "brain.config.learning_rate=0.1,0.2", "--seeds", "1-3",
                  "--episodes", "3", "--name", "lr", "--tag", "of=mine")  # fmt: skip
    assert done.returncode == 0, done.stderr
    study = Experiments().study("lr")
    assert study is not None
    return study.id


def test_an_index_of_studies_with_what_they_have_shown(
    make: Make, lr: str, qn_exp: Program
) -> None:
    make(0.1, range(6), 0.05)
    make(0.2, range(6), 0.95)
    qn_exp("gather", "--where", "kind = x", "--name", "rates", "--question", "which | rate?")
    newest, oldest = (line.split() for line in qn_exp("list", "--studies").stdout.splitlines()[2:])
    assert (newest[0], oldest[0]) == ("rates", "lr")
    assert "gathered" in newest
    assert "declared" in oldest
    assert " ".join(newest).endswith("2 12 final_success_rate rate=0.2 usually beats rate=0.1")
    assert "not decided" in " ".join(oldest)
    page = qn_exp("list", "--studies", "--format", "markdown").stdout.splitlines()
    assert page[0].startswith("| study | question | declared | arms | runs |")
    assert len(page) == 4
    assert "which \\| rate?" in page[2]
    assert "gathered afterwards" in page[2]
    doc = said(qn_exp("list", "--studies", "--json", "--tag", "of=mine"))
    assert [one["id"] for one in doc["studies"]] == [lr]
    assert doc["studies"][0]["finished"] == doc["studies"][0]["runs"] == 6
    for wrong in (["--studies", "--seed", "1"], ["--format", "markdown"]):
        assert qn_exp("list", *wrong).returncode == 2


def test_a_study_has_tags_and_notes_of_its_own(lr: str, qn_exp: Program) -> None:
    assert said(qn_exp("tag", "lr", "checked=yes", "--json"))["id"] == lr
    assert qn_exp("note", lr, "looks odd").returncode == 0
    page = qn_exp("show", "lr").stdout
    assert "tags: of=mine checked=yes" in page
    assert "looks odd" in page
    found = said(qn_exp("list", "--studies", "--tag", "checked=yes", "--json"))
    assert [one["id"] for one in found["studies"]] == [lr]
    assert said(qn_exp("list", "--tag", "checked=yes", "--json"))["experiments"] == []
    assert qn_exp("tag", "lr", "--remove", "checked").returncode == 0
    assert Experiments().studies(tag="checked") == []


def test_a_study_goes_to_the_trash_with_its_runs_and_comes_back(lr: str, qn_exp: Program) -> None:
    before = qn_exp("show", "lr").stdout
    assert said(qn_exp("rm", "lr", "--json"))["removed"][0]["id"] == lr
    assert Experiments().studies() == []
    assert said(qn_exp("list", "--json"))["total"] == 0
    assert qn_exp("restore").stdout.split() == [lr]
    assert qn_exp("show", lr).returncode == 2
    assert qn_exp("restore", "lr").returncode == 0
    assert qn_exp("show", "lr").stdout == before
    assert Experiments().trash() == []


def test_an_interrupted_removal_of_a_study_is_finished_by_the_same_command(
    lr: str, qn_exp: Program
) -> None:
    runs = Experiments().ids("lr")
    qn_exp("rm", *runs[:2])
    assert qn_exp("rm", "lr").returncode == 0
    assert qn_exp("restore", *runs[:2]).returncode == 0
    assert qn_exp("restore", "lr").returncode == 0
    assert Experiments().ids("lr") == runs
    assert Experiments().trash() == []


def test_the_runs_of_a_gathered_study_stay(make: Make, qn_exp: Program) -> None:
    ids = make(0.1, range(2), 0.5)
    store = Experiments()
    store.gather(name="mine")
    store.remove("mine")
    assert sorted(store.find().ids) == sorted(ids)
    assert store.study("mine") is None
    store.restore("mine")
    assert sorted(store.ids("mine")) == sorted(ids)


def test_a_study_is_taken_wherever_runs_are(lr: str, qn_exp: Program, tmp_path: Path) -> None:
    assert qn_exp("export", "lr", "--format", "csv").stdout.count("\n") == 7
    assert said(qn_exp("export", "lr", "--format", "bundle", "-o", "lr.zip", "--json"))["path"]
    plot = qn_exp("plot", "lr")
    assert plot.returncode == 0, plot.stderr
    assert "learning_rate=0.2" in plot.stdout


# ------------------------------------------------------------------------------------------ ranked


def test_groups_are_ranked_by_their_means_and_not_by_their_luckiest_run(
    make: Make, qn_exp: Program
) -> None:
    (lucky,) = make(0.3, range(50, 51), 1.0)
    make(0.1, range(10), 0.5)
    make(0.2, range(10), 0.9)
    make(0.3, range(9), 0.1)
    (part,) = Experiments().rank()
    assert [row.name for row in part.rows] == ["rate=0.2", "rate=0.1", "rate=0.3"]
    assert part.verdict.startswith("rate=0.2 usually beats rate=0.1: p ")
    assert part.ranks == {"rate=0.2": (1, 1), "rate=0.1": (2, 2), "rate=0.3": (3, 3)}
    text = qn_exp("best").stdout
    assert text.splitlines()[3].split()[:4] == ["RANK", "CONFIG", "RUNS", "MEAN"]
    assert text.splitlines()[4].split()[:3] == ["1", "rate=0.2", "10"]
    assert lucky in qn_exp("best", "--single").stdout
    (group, *_) = said(qn_exp("best", "--json"))["parts"][0]["groups"]
    assert group["mean"]["low"] < group["mean"]["centre"] < group["mean"]["high"]


def test_where_the_first_is_not_better_than_the_second_it_is_said(
    make: Make, qn_exp: Program
) -> None:
    make(0.1, range(6), 0.5)
    make(0.2, range(6), 0.55)
    (part,) = Experiments().rank()
    assert part.verdict.startswith("the first is not shown to be better than the second: ")
    assert set(part.ranks.values()) == {(1, 2)}
    assert "1-2" in qn_exp("best").stdout


def test_within_parts_and_by_what_is_lowest(make: Make, qn_exp: Program) -> None:
    for rate, chance, side in ((0.1, 0.2, "left"), (0.2, 0.8, "left"), (0.3, 0.5, "right")):
        make(rate, range(5), chance, tags={"side": side})
    left, right = Experiments().rank("loss", within="tags.side")
    assert [row.name for row in left.rows] == ["rate=0.2", "rate=0.1"]  # a loss: less is better
    assert (right.name, right.verdict) == ("right", "one group: nothing to rank")
    highest = said(qn_exp("best", "--metric", "loss", "--within", "all", "--highest", "--json"))
    assert [g["name"] for g in highest["parts"][0]["groups"]] == [
        "rate=0.1",
        "rate=0.3",
        "rate=0.2",
    ]
    assert len(Experiments().rank(by="tags.side", within="all")[0].rows) == 2
    assert [part.name for part in Experiments().rank(tag="side=right")] == ["no category"]


def test_the_question_of_before_is_hinted_at(make: Make, qn_exp: Program) -> None:
    make(0.1, range(2), 0.5)
    for args, hint in (
        (["--by", "category"], "--within category ranks configurations within each category"),
        (["--single", "--by", "brain"], "--single --within brain"),
        (["--by", "nothing"], "no stored field"),
    ):
        done = qn_exp("best", *args)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert hint in done.stderr


def test_a_study_can_be_ranked_and_a_run_counts_once(make: Make, lr: str, qn_exp: Program) -> None:
    make(0.1, range(2), 0.5)
    make(0.1, range(2), 0.5)
    found = said(qn_exp("best", "lr", "--json"))
    names = [group["name"] for part in found["parts"] for group in part["groups"]]
    assert sorted(names) == ["learning_rate=0.1", "learning_rate=0.2"]
    assert len(Experiments().rank(where="kind = x").repeats) == 2


# ------------------------------------------------------------------------- other numbers of episodes


def test_runs_with_other_numbers_of_episodes_are_named_wherever_they_are_put_together(
    make: Make, qn_exp: Program
) -> None:
    made = make(0.1, range(3), 0.5, episodes=30)
    made += make(0.1, range(3, 5), 0.5, episodes=60)
    made += make(0.2, range(3), 0.9, episodes=60)
    note = (
        "not all runs have the same number of episodes: 30 (3 of rate=0.1)"
        " or 60 (3 of rate=0.2, 2 of rate=0.1)"
    )
    study = Experiments().gather(name="lengths")
    for args in (["compare", *made], ["compare", "--by", "rate"], ["show", study.name], ["best"]):
        text = " ".join(qn_exp(*args).stdout.split())
        assert text.count("note: not all runs have the same number of episodes: 30 (3 of ") == 1
    assert note in said(qn_exp("compare", *made, "--json"))["notes"]
    assert note in said(qn_exp("show", study.name, "--json"))["notes"]
    assert note in said(qn_exp("best", "--json"))["parts"][0]["notes"]
    arms = said(qn_exp("show", study.name, "--json"))["arms"]
    assert {arm["name"]: arm["episodes"] for arm in arms} == {
        "rate=0.1": {"30": 3, "60": 2},
        "rate=0.2": {"60": 3},
    }
    assert note in Experiments().report(study.name).html()
    assert note in Experiments().report(made).html()
    assert note in qn_exp("show", study.name, "--format", "markdown").stdout


def test_of_many_numbers_of_episodes_the_range_is_named(make: Make) -> None:
    for place in range(6):
        make(0.1, range(place, place + 1), 0.5, episodes=40 + place)
        make(0.2, range(place, place + 1), 0.9, episodes=40)
    found = Experiments().compare(by="config")
    assert "not all runs have the same number of episodes: 40 to 45" in found.comparison.notes  # type: ignore[union-attr]


def test_runs_with_one_number_of_episodes_need_no_note(make: Make) -> None:
    make(0.1, range(6), 0.5)
    make(0.2, range(6), 0.9)
    assert Experiments().compare(by="config").comparison.notes == ()  # type: ignore[union-attr]


# ----------------------------------------------------------------------------- windows and plateaus


def learn(rate: float, seed: int, episodes: int, chance: Callable[[int], float]) -> str:
    """Records a run whose chance of success depends on the episode."""
    dice = random.Random(f"{rate} {seed} {episodes}")
    with track({"rate": rate}, seed=seed, blocked=["metadata"], warn=lambda text: None) as run:
        for i in range(episodes):
            won = dice.random() < chance(i)
            run.episode(success=won, reward=float(i), steps=1)
    return run.id


def test_a_window_is_chosen_by_episodes_or_by_their_share(project: Path, qn_exp: Program) -> None:
    for rate in (0.1, 0.2):
        for seed in range(3):
            learn(rate, seed, 50, lambda i: float(i >= 40))
    study = Experiments().gather(name="late")
    usual = study.table()
    assert (usual.window, usual.chosen) == (20, None)
    assert {row.mean.centre for row in usual.rows if row.mean} == {0.5}
    last = study.table(last=10)
    assert (last.window, last.chosen) == (10, "last 10 episodes")
    assert {row.mean.centre for row in last.rows if row.mean} == {1.0}
    assert {row.means["success_rate"].centre for row in last.rows} == {0.2}
    tail = study.table("reward", tail=0.5)
    assert {row.mean.centre for row in tail.rows if row.mean} == {37.0}  # of 25 … 49
    text = qn_exp("show", "late", "--last", "10").stdout
    assert "final_success_rate (last 10 episodes of a run, chosen)" in text
    assert (
        "(last 50% of episodes of a run, chosen)" in qn_exp("show", "late", "--tail", ".5").stdout
    )
    doc = said(qn_exp("compare", "--by", "config", "--last", "10", "--json"))
    assert doc["compared"]["window"] == "last 10 episodes"
    assert [arm["mean"]["centre"] for arm in doc["arms"]] == [1.0, 1.0]
    assert "runs have fewer episodes than 60: of these all are taken" in (
        " ".join(qn_exp("show", "late", "--last", "60").stdout.split())
    )
    done = qn_exp("compare", "--by", "nothing")
    assert done.stderr.startswith("error: --by: no stored field nothing")
    for wrong in (["--last", "0"], ["--tail", "1.5"], ["--last", "3", "--tail", ".5"]):
        done = qn_exp("show", "late", *wrong)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr


def test_names_of_ours_in_counts_and_metrics_replace_nothing(
    project: Path, qn_exp: Program
) -> None:
    """Neither in a window, nor where a curve is looked at."""
    for rate in (0.1, 0.2):
        for seed in range(2):
            with track({"rate": rate}, seed=seed, blocked=["metadata"]) as run:
                for i in range(60):
                    run.episode(
                        success=i % 10 < 10 * rate,
                        steps=7,
                        reward=rate,
                        counts={"steps": 900, "reward": 900, "episodes": 900},
                        metrics={"success": 900.0, "final_success_rate": 900.0},
                    )
    doc = said(qn_exp("compare", "--by", "rate", "--json"))
    assert [round(arm["mean"]["centre"], 3) for arm in doc["arms"]] == [0.2, 0.1]
    assert Experiments().convergence(run.id) == Experiments().convergence(run.id, "success")
    study = Experiments().gather(by="rate", name="names")
    for metric, means in {
        "final_success_rate": [0.1, 0.2],
        "reward": [0.1, 0.2],
        "steps": [7, 7],
        "counts.steps": [900, 900],
        "metrics.success": [900, 900],
    }.items():
        rows = study.table(metric, last=30).rows
        assert sorted(round(row.mean.centre, 3) for row in rows if row.mean) == means, metric
    shown = qn_exp("show", run.id).stdout
    results = shown[shown.index("results\n") : shown.index("configuration\n")].splitlines()
    names = [line.split("  ")[1] for line in results if line.startswith("  ") and line[2] != " "]
    assert {"episodes", "metrics.episodes", "success", "metrics.success"} <= {*names}
    assert len(names) == len({*names})


@pytest.mark.parametrize("by", ["rate", "config.rate", "config.data.rate"])
def test_a_field_of_the_configuration_by_each_of_its_names(
    make: Make, qn_exp: Program, by: str
) -> None:
    make(0.1, range(3), 0.2)
    make(0.2, range(3), 0.9)
    for command in ("compare", "best"):
        done = qn_exp(command, "--by", by)
        assert "0.2 " in done.stdout, done.stderr
        assert "no rate" not in done.stdout
    assert {*Experiments().gather(by=by).arm_names} == {"0.1", "0.2"}


def test_one_is_not_several(project: Path, qn_run: Program, qn_exp: Program) -> None:
    """Of episodes, runs, files and seeds."""
    done = qn_run("small.yml", "--sweep", "brain.config.gamma=0.5,0.6", "--n-seeds", "1",
                  "--runs", "1", "--name", "one")  # fmt: skip
    assert done.stderr.startswith("1 episode (--runs is --episodes)\n")
    folder = Path("weights")
    folder.mkdir()
    (folder / "a").write_text("1")
    id = Study.load("one").results()[0].id
    Experiments().attach(id, "weights")
    several = re.compile(r"(?<![\d.,])1 (episodes|runs|files|seeds|arms|experiments)\b")
    for words in (("show", "one"), ("show", "one", "--last", "1"), ("show", id), ("list",),
                  ("compare", "--by", "config"), ("rerun", id), ("stats",), ("fsck",)):  # fmt: skip
        done = qn_exp(*words)
        assert not several.findall(done.stdout + done.stderr), (words, done.stdout)
    assert not several.findall(repr(Experiments().compare(by="config")))


def test_a_window_needs_the_episodes(project: Path, qn_exp: Program) -> None:
    for seed in range(2):
        learn(0.1, seed, 50, lambda i: 0.5)
        id = learn(0.2, seed, 50, lambda i: 0.5)
    Path(f"experiments/runs/{id}/episodes.jsonl").unlink()
    done = qn_exp("compare", "--by", "config", "--last", "10")
    assert (done.returncode, done.stderr) == (
        3, f"error: {id}: its episodes are not here (git carries records, bundles carry all)\n"
    )  # fmt: skip
    assert qn_exp("compare", "--by", "config").returncode == 0


def test_runs_that_have_not_levelled_off_are_named_and_not_in_the_plateau(
    project: Path, qn_exp: Program
) -> None:
    for seed in range(3):
        learn(0.1, seed, 400, lambda i: 0.97 if i > 100 else 0.1)
    climbing = learn(0.1, 3, 400, lambda i: i / 400)
    learn(0.2, 0, 400, lambda i: 0.3)
    good, low = Experiments().gather(by="rate", name="rates").table().rows
    assert good.levels is not None
    assert low.levels is not None
    assert good.levels.counts == {"reached": 3, "still climbing": 1}
    assert good.levels.level is not None
    assert good.levels.level.centre > 0.94  # of the three alone; the mean of all is below
    assert good.levels.extend_to is not None
    assert good.levels.extend_to > 400
    assert (low.levels.counts, low.levels.level) == ({"never reached": 1}, None)
    assert low.levels.below == pytest.approx(0.3, abs=0.1)
    text = qn_exp("show", "rates").stdout
    assert "(3/4)" in text
    assert f"still climbing: 0.1 (1 of 4 runs: extend to about {good.levels.extend_to:,}" in text
    assert f"level below 80%: 0.2 (1 of 1 runs, at {low.levels.below:.0%})" in text
    assert "still climbing: extend to about" in qn_exp("show", climbing).stdout
    found = Experiments().convergence(climbing)
    assert found is not None
    assert (found[0], found[1].state) == ("success", "still climbing")


def test_of_a_loss_less_is_better_and_its_plateau_has_its_sign(project: Path) -> None:
    dice = random.Random(1)
    for seed in range(3):
        with track({"rate": 1}, seed=seed, blocked=["metadata"], warn=lambda text: None) as run:
            for i in range(300):
                run.episode(loss=5.0 * 0.9**i + dice.random())
    (row,) = Experiments().gather(by="rate", save=False).table("loss").rows
    assert row.levels is not None
    assert row.levels.level is not None
    assert row.levels.level.centre == pytest.approx(0.5, abs=0.1)


def test_latex_and_several_metrics(make: Make, qn_exp: Program) -> None:
    make(0.1, range(5), 0.3)
    make(0.2, range(5), 0.8)
    page = qn_exp("compare", "--by", "config", "--format", "latex", "--metric", "reward",
                  "--metric", "steps").stdout  # fmt: skip
    table = [line for line in page.splitlines() if not line.startswith("%")]
    assert table[0].startswith("\\begin{tabular}{lrrr")
    assert table[2].startswith("arm & runs & reward & iqm & steps & success & 80\\%+")
    assert len(table) == 8
    assert all(line.endswith(" \\\\") for line in (table[2], *table[4:6]))
    assert "[" in table[4].split(" & ")[4]  # each metric has its interval
    assert "% rate=0.2 usually beats" in page.replace("% - ", "% ")


def test_groups_are_compared_in_one_short_table(make: Make, qn_exp: Program) -> None:
    for place in range(9):
        make(place / 10, range(5), 0.1 + place / 10)
    done = qn_exp("compare", "--by", "config", env={"COLUMNS": "100"})
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
    assert lines[0].startswith("not declared · 9 groups by config, 45 runs")
    assert lines[2].split()[:2] == ["rate=0.8", "5"]
    page = qn_exp("compare", "--by", "config", "--format", "markdown").stdout
    assert sum(line.startswith("| rate=") for line in page.splitlines()) == 9


def test_every_run_of_a_study_is_run_again(project: Path, qn_exp: Program, qn_run: Program) -> None:
    done = qn_run("small.yml", "--sweep", "brain.config.learning_rate=0.1,0.2", "--seeds", "1",
                  "--episodes", "3", "--name", "lr")  # fmt: skip
    assert done.returncode == 0, done.stderr
    done = qn_exp("rerun", "lr")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "identical for 2 of 2 runs"
    doc = said(qn_exp("rerun", "lr", "--json"))
    assert (doc["outcomes"], doc["failed"]) == ({"identical": 2}, [])
    assert len(Experiments().ids("lr")) == 2
