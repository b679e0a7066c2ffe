"""A study of several arms: the table of its arms, and what may be concluded."""

from __future__ import annotations

import csv
import json
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import evolve

from conftest import Program
from qn_tracking import Experiments, Study
from qn_tracking.api.arms import Arms
from qn_tracking.api.study_table import conventional, remarks
from qn_tracking.cli import study_print
from qn_tracking.errors import UsageError
from qn_tracking.records.model import Membership
from qn_tracking.store.studies import run_id
from qn_tracking.studies.arms import Side, compare, table
from qn_tracking.studies.comparison import PRIMARY
from qn_tracking.studies.declare import arm_named
from qn_tracking.studies.levels import levels
from qn_tracking.studies.plan import make_plan
from qn_tracking.tracking.manager import make_manager, make_simulation
from qn_tracking.tracking.recorder import Recorder

LR = "brain.config.learning_rate"
SHORT = "learning_rate"


def finish(study: Study, episodes: Callable[[str, Random], Mapping[str, Any]], *, skip: set[int] = frozenset()) -> None:  # type: ignore[assignment]  # fmt: skip
    """Records every run of a study, each episode as the function says, from the name of the arm."""
    record = study.record
    for index in set(range(record.every_run)) - skip:
        arm, seed = record.arm_of(index), record.seed_of(index)
        chance = Random(f"{arm.name} {seed}")
        recorder = Recorder(
            arm.config,
            manager=make_manager({"json_storage": {}}),
            subject=arm.subject,
            seed=seed,
            episodes=record.episodes,
            experiments_dir="experiments",
            command=(),
            id=run_id(study.id, index, 0),
            study=Membership(id=study.id, index=index, attempt=0),
            warn=lambda _: None,
        )
        with recorder:
            for _ in range(record.episodes):
                recorder.episode(**episodes(arm.name, chance))


def rates(*values: float) -> Callable[[str, Random], Mapping[str, Any]]:
    """Episodes that succeed so often, in the order of the learning rates 0.1, 0.2, …"""

    def episode(arm: str, chance: Random) -> Mapping[str, Any]:
        place = round(float(arm.partition("=")[2]) * 10) - 1
        success = chance.random() < values[place]
        reward = values[place] + chance.random()
        return {
            "success": success, "termination": "goal" if success else "lost", "reward": reward
        }  # fmt: skip

    return episode


def declared(arms: int, seeds: int, **options: Any) -> Study:
    sweep = {LR: [round(0.1 * (i + 1), 1) for i in range(arms)]}
    return Study.declare(
        "small.yml", sweep=sweep, seeds=range(seeds), episodes=20, name="lr", **options
    )


def test_what_failed_is_named_and_in_no_figure(project: Path) -> None:
    study = declared(2, 4)

    def episode(arm: str, chance: Random) -> Mapping[str, Any]:
        if arm.endswith("2"):
            raise RuntimeError("it fails")
        return {"success": True, "termination": "goal", "reward": 1.0}

    with pytest.raises(RuntimeError, match="it fails"):
        finish(study, episode)
    table = study.table()
    failed = sum(row.counts.get("failed", 0) for row in table.rows)
    assert failed == 1
    assert sum(len(row.values) for row in table.rows) == sum(row.finished for row in table.rows)
    notes = study.concluded(table).notes
    assert "1 failed" in notes[0]
    assert "what failed is in no figure, and need not have failed by chance" in notes


def test_a_metric_that_no_run_has_is_perhaps_another_one(project: Path) -> None:
    study = declared(2, 2)
    finish(study, rates(0.2, 0.5))
    (note,) = (one for one in study.compare("rewar").notes if "no finished run" in one)
    assert note.endswith("(did you mean reward?)")


@pytest.mark.parametrize(
    ("metric", "hint"), [("los", "did you mean loss?"), ("quality", "known: final_success_rate, ")]
)
def test_a_metric_that_no_run_can_have_is_not_declared(
    project: Path, metric: str, hint: str
) -> None:
    with pytest.raises(UsageError, match=f"metric: no run will have '{metric}' .{hint}"):
        declared(2, 2, metric=metric)


@pytest.mark.parametrize("config", ["mlp_dynamic_small", "modular_simple_medium"])
def test_any_metric_that_a_run_has_can_be_declared(config: str) -> None:
    plan = make_plan(config)
    (episode,) = make_simulation(plan.config, plan.manager).episodes(1, 1)
    for metric in (*episode["metrics"], *episode["counts"], "steps", "wall_seconds"):
        assert Study.plan(config, n_seeds=1, metric=metric).metric == metric


def test_a_study_whose_file_is_broken_is_named_by_its_file(project: Path, qn_exp: Program) -> None:
    study = declared(2, 2)
    finish(study, rates(0.2, 0.5))
    path = Path("experiments/studies") / study.id / "study.json"
    whole = path.read_text()
    path.write_text(whole[:300])
    for words in (("show", "lr"), ("compare", "lr"), ("check", "lr", "--expect", "no.yml")):
        done = qn_exp(*words)
        assert (done.returncode, done.stderr.count("\n")) == (3, 1)
        assert done.stderr.startswith(f"error: {path}: truncated")
    path.write_text("")
    done = qn_exp("show", "lr")
    assert done.stderr == f"error: no experiment 'lr' (cannot be read: {path})\n"
    # It can be removed by its id, and comes back with its runs.
    assert qn_exp("rm", study.id).stdout == f"removed to experiments/.trash/{study.id}\n"
    assert Experiments().find().ids == []
    assert qn_exp("restore", study.id).returncode == 0
    assert len(Experiments().find().ids) == 4
    path.write_text(whole)
    done = qn_exp("check", "lrr", "--expect", "no.yml")
    assert done.stderr == "error: no study 'lrr' (did you mean lr?)\n"


def test_a_row_for_each_arm_the_best_first(project: Path) -> None:
    study = declared(3, 4)
    finish(study, rates(0.2, 1.0, 0.6), skip={0})
    table = study.table()
    assert [row.name for row in table.rows] == [f"{SHORT}={rate}" for rate in (0.2, 0.3, 0.1)]
    first, second, last = table.rows
    assert (table.metric, table.window) == ("final_success_rate", 20)
    assert first.endings == {"goal": 1.0}
    assert first.mean
    # Runs that do not differ are no proof: as exact as for four successes of four.
    assert first.mean.centre == 1.0
    assert first.mean.low == pytest.approx(0.025 ** (1 / 4))
    assert set(first.values) == {0, 1, 2, 3}
    assert set(second.endings) == {"goal", "lost"}
    assert second.mean
    assert second.mean.low is not None
    assert second.mean.low < second.mean.centre
    assert (last.finished, last.counts) == (3, {"completed": 3, "missing": 1})
    assert set(last.values) == {1, 2, 3}
    assert len(first.curve) > 1
    assert [row.name for row in study.table("reward").rows][-1] == f"{SHORT}=0.1"


def test_all_pairs_are_the_family_and_those_with_the_leader_are_shown(project: Path) -> None:
    study = declared(5, 5)
    finish(study, rates(0.0, 0.0, 1.0, 0.0, 0.0))
    found = study.compare()
    assert found.contest
    assert len(found.contest.pairs) == 10
    assert len(found.sentences) == 4
    assert found.contest.decides == "brunner-munzel"
    # The smallest p of 5 against 5, ten times, is above .05, though it is 100% against 0%.
    assert all("not decided: p 0.079" in text for text in found.sentences)
    assert all("about 6 runs an arm would decide" in text for text in found.sentences)
    assert found.notes == (
        "too few runs for a verdict: of 5 an arm, the smallest p of 10 comparisons is 0.079 after"
        " Holm, and less than 0.05 is needed; 6 an arm could have one",
    )
    # A baseline that is chosen now is not what the study was to show.
    asked = study.compare(baseline="0.3")
    assert asked.contest
    assert asked.contest.decisions[0].winner is not None
    assert asked.notes[0].startswith("the baseline is not as declared")


@pytest.mark.parametrize(("second", "explained"), [(0.85, True), (0.0, False)])
def test_an_interval_that_says_less_than_the_verdict_is_explained(
    project: Path, qn_exp: Program, second: float, explained: bool
) -> None:
    study = declared(2, 6)
    finish(study, rates(1.0, second))
    (pair, _), *_ = study.compare().shown
    assert pair.winner is not None
    assert pair.low is not None
    assert (pair.low < 0) == explained
    assert ("(the test is of the order of the runs; " in qn_exp("show", "lr").stdout) == explained


def test_what_a_design_can_show_is_said_in_the_unit_of_the_metric() -> None:
    def said(runs: int, metric: str) -> tuple[str, ...]:
        study = Study.plan(
            "mlp_dynamic_small",
            sweep={"brain.config.learning_rate": [0.1, 0.2]},
            seeds=range(runs),
            metric=metric,
        )
        return study.can_show()

    assert "(if the differences, seed by seed, have a standard" in said(20, "final_success_rate")[0]
    first, second = said(6, "final_success_rate")
    assert first.startswith("a difference of 0.24 in a rate, four times in five (if the runs of an")
    assert second == "the smallest p after Holm: 0.0022"
    assert said(6, "reward")[0] == (
        "a difference of 2.0 standard deviations of the runs of an arm, four times in five"
    )
    # Four against four may have p .029, and have no verdict all the same.
    assert said(4, "reward")[0] == (
        "nothing: 4 runs an arm are too few for 1 comparison (a verdict takes 5)"
    )


@pytest.mark.parametrize(
    ("state", "skip", "says"),
    [
        ("finished", set[int](), f"{SHORT}=0.2 usually beats {SHORT}=0.1"),
        (
            "not finished",
            {0},
            f"not finished: qn-run --resume lr; so far {SHORT}=0.2 usually beats",
        ),
    ],
)
def test_a_study_that_lacks_runs_says_how_it_goes_on(
    project: Path, qn_exp: Program, state: str, skip: set[int], says: str
) -> None:
    study = declared(2, 7)
    finish(study, rates(0.0, 1.0), skip=skip)
    line = study.line()
    assert line.state == state
    assert line.says.startswith(says)
    assert says in qn_exp("list", "--studies").stdout
    shown = qn_exp("show", "lr").stdout
    assert ("go on with: qn-run --resume lr" in shown) == bool(skip)


def test_arms_with_the_same_numbers_are_said(project: Path) -> None:
    study = declared(3, 6)
    finish(study, lambda arm, chance: {"reward": float(chance.randrange(9))})
    first, second, third = study.sides()
    again = evolve(first, name="again")
    (note,) = compare(table([first, second, third, again], "reward")).notes
    assert note == (
        "the same numbers in every run, so perhaps what they differ in has no effect:"
        f" {SHORT}=0.1, again"
    )
    # Where no run differs from another one, it is no sign of that.
    equal = [evolve(side, docs=side.docs[:1] * 2) for side in (first, again)]
    assert not any("same numbers" in one for one in compare(table(equal, "reward")).notes)


def test_a_curve_of_numbers_that_cannot_be_added_has_no_level() -> None:
    assert levels([{"reward": [1e308] * 120}], "reward") is None


def test_values_that_some_runs_lack_are_said(project: Path) -> None:
    study = declared(2, 6)
    finish(study, lambda arm, chance: {"reward": float("nan") if arm[-1] == "1" else 1.0})
    docs = study.sides()
    assert study.compare("reward").notes[-1] == f"no finished run has reward: {SHORT}=0.1"
    first, second = docs
    mixed = evolve(second, docs=(*first.docs[:1], *second.docs[1:]))
    (note,) = compare(table([evolve(second, name="all"), mixed], "reward")).notes
    assert note == (
        f"finished runs without reward, or not finite, in no figure: {SHORT}=0.2 (1 of 6)"
    )


def test_comparisons_that_would_take_for_ever_are_not_made(monkeypatch: Any) -> None:
    monkeypatch.setattr("qn_tracking.studies.arms.MOST_CELLS", 100_000)
    sides = [
        Side(
            name=name,
            docs=tuple(
                {"status": "completed", "seed": i, "results": {"avg_reward": more + i}}
                for i in range(15)
            ),
            declared=15,
        )
        for name, more in (("a", 1.0), ("b", 2.0), ("c", 3.0))
    ]
    found = compare(table(sides, "reward"))
    assert found.contest is None
    assert found.notes == (
        "3 comparisons by permutation would take too long: compare with one arm, by --baseline",
    )


def test_with_a_baseline_fewer_comparisons_are_decided(project: Path) -> None:
    study = declared(5, 5, baseline="0.3")
    finish(study, rates(0.0, 0.0, 1.0, 0.0, 0.0))
    found = study.compare()
    assert found.contest
    assert len(found.contest.pairs) == 4
    beaten = f"{SHORT}=0.3 usually beats {SHORT}="
    assert all(text.startswith(beaten) and "p 0.032" in text for text in found.sentences)
    assert "+100.0 points" in found.sentences[0]
    assert "P(improvement) 100%" in found.sentences[0]


def test_from_20_runs_on_the_means_are_compared_seed_by_seed(project: Path) -> None:
    study = declared(2, 20)
    finish(study, rates(0.3, 0.9))
    (sentence,) = study.compare().sentences
    assert sentence.startswith(f"{SHORT}=0.2 is better on average than {SHORT}=0.1: p ")


def test_arms_that_are_equal_are_not_decided(project: Path) -> None:
    study = declared(2, 6)
    finish(study, rates(0.5, 0.5))
    (sentence,) = study.compare().sentences
    assert "not decided" in sentence
    assert "better" not in sentence
    assert "beats" not in sentence


def test_what_is_not_as_declared_is_said(project: Path) -> None:
    study = declared(3, 3, baseline="0.1")
    found = study.compare()
    assert found.sentences == ()
    assert found.notes == ("0 of 9 runs are finished (9 missing): this is so far only",)
    finish(study, rates(0.0, 0.9, 1.0), skip={1, 4, 5, 7})
    found = study.compare()
    assert found.arms == (f"{SHORT}=0.1", f"{SHORT}=0.3")
    assert found.notes == (
        "5 of 9 runs are finished (4 missing): this is so far only",
        f"no finished run has final_success_rate: {SHORT}=0.2",
        "too few runs for a verdict: 5 an arm are needed",
    )
    assert "fewer than 5 runs (2 against 3)" in found.sentences[0]
    with pytest.raises(UsageError, match="no such arm"):
        study.compare(baseline="0.7")


def test_without_success_the_reward_is_compared(project: Path) -> None:
    study = declared(2, 6)
    finish(study, lambda arm, chance: {"reward": chance.random() + float(arm[-3:]) * 100})
    found = study.compare()
    assert found.metric == "reward"
    assert "reward is not the metric that was declared" in found.notes[0]
    assert found.sentences[0].startswith(f"{SHORT}=0.2 usually beats {SHORT}=0.1: p 0.0022, +")


def test_of_some_metrics_less_is_better(project: Path) -> None:
    study = declared(2, 6, metric="steps")
    finish(study, lambda arm, chance: {"steps": chance.randrange(3) + int(float(arm[-3:]) * 100)})
    assert study.table().rows[0].name == f"{SHORT}=0.1"
    (sentence,) = study.compare().sentences
    assert sentence.startswith(f"{SHORT}=0.1 usually beats {SHORT}=0.2: p 0.0022, -")


# ------------------------------------------------------------------------------------------ command


def test_the_table_is_short(project: Path, qn_exp: Program) -> None:
    study = declared(9, 5, question="which rate is best?")
    finish(study, rates(*(i / 8 for i in range(9))))
    done = qn_exp("show", "lr", env={"COLUMNS": "100"})
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
    assert lines[0].startswith(f"lr ({study.id}) · 9 arms x 5 seeds · 20 episodes each")
    assert lines[1] == "which rate is best?"
    assert lines[2].split() == [
        "ARM", "RUNS", "FINAL", "IQM", "SUCCESS", "80%+", "LOST", "GOAL", "TIME", "CURVE"
    ]  # fmt: skip
    assert lines[3].split()[:2] == [f"{SHORT}=0.9", "5"]
    assert "36 comparisons, each arm with each other" in done.stdout
    # Of those without a verdict all but the first four are counted.
    assert sum(line.startswith("- ") for line in lines) == 5
    assert "- and 4 more, not decided (--all prints them)" in lines
    everything = qn_exp("show", "lr", "--all").stdout.splitlines()
    conventional = everything.index(
        "conventional, for comparison with other papers; each p stands alone, none decides:"
    )
    assert sum(line.startswith("- ") for line in everything[:conventional]) == 36
    assert sum(" against " in line for line in everything[conventional:]) == 36
    assert "conventional" not in done.stdout


def test_formats(project: Path, qn_exp: Program) -> None:
    study = declared(2, 5, baseline="0.1")
    finish(study, rates(0.0, 1.0))
    rows = list(csv.DictReader(qn_exp("show", "lr", "--format", "csv").stdout.splitlines()))
    assert [(row["arm"], row["final_success_rate"]) for row in rows] == [
        (f"{SHORT}=0.2", "1.0"), (f"{SHORT}=0.1", "0.0")
    ]  # fmt: skip
    assert [row["ended_goal"] for row in rows] == ["1.0", "0"]
    page = qn_exp("show", study.id, "--format", "markdown").stdout
    assert "| arm | runs | final | iqm | success | 80%+ | goal | lost | time | curve |" in page
    assert f"- {SHORT.replace('_', chr(92) + '_')}=0.2 usually beats" in page
    finish(Study.declare("small.yml", sweep={LR: [0.1, 0.2, 0.3]}, seeds=range(5), episodes=20,
                         name="three"), rates(0.0, 0.5, 1.0))  # fmt: skip
    for form, mark, pairs in (("markdown", "- ", 2), ("latex", "% - ", 2), ("latex", "% - ", 3)):
        every = ["--all"] if pairs == 3 else []
        lines = qn_exp("show", "three", "--format", form, *every).stdout.splitlines()
        texts = [line for line in lines if line.startswith(mark)]
        verdicts = [line for line in texts if "usually beats" in line or "not decided" in line]
        assert len(verdicts) == pairs
        assert (len(texts) > pairs) == bool(every)  # what is conventional is for who asks for all
    for how in (("--json",), ("--format", "json")):
        doc = json.loads(qn_exp("show", "lr", *how).stdout)
        assert (doc["study"], doc["runs"], doc["finished"]) == (study.id, 10, 10)
        (pair,) = doc["comparisons"]
        assert (pair["winner"], pair["second"]) == (f"{SHORT}=0.2", f"{SHORT}=0.1")
        assert pair["sentence"] in study.compare().sentences
        assert list(doc["arms"][0]["values"]) == ["0", "1", "2", "3", "4"]
    other = json.loads(qn_exp("show", "lr", "--metric", "reward", "--json").stdout)
    assert other["compared"]["metric"] == "reward"


TO_80 = "80%: median episodes until runs have reached and keep it, - if most were not 20 before"


def test_what_columns_are_is_said_in_the_words_of_their_titles(
    project: Path, qn_exp: Program
) -> None:
    study = declared(2, 5)
    made = levels([{"success": [False] * 20 + [True] * 380}, {"success": [True, False] * 200}], "")
    assert made is not None
    assert dict(made.counts) == {"reached": 1, "never reached": 1}
    finish(study, rates(0.0, 1.0))
    shown = study.table()
    shown = evolve(shown, rows=tuple(evolve(row, levels=made) for row in shown.rows))
    plateau = "mean of the runs that level off at 80% or more, and how many do"
    upper, lower = ([*remarks(shown, lower=is_lower)][1] for is_lower in (False, True))
    assert upper.startswith(f"PLATEAU: {plateau}; TO {TO_80}")
    assert lower.startswith(f"plateau: {plateau}; to {TO_80}")
    title = qn_exp("show", "lr", "--format", "markdown").stdout
    assert " plateau " not in title  # of 20 episodes none is looked at


@pytest.mark.parametrize("text", ["0.00001", "1e-5", f"{SHORT}=0.000010", f"{SHORT}=1E-05"])
def test_an_arm_is_known_by_any_way_to_write_its_value(text: str) -> None:
    names = [f"{SHORT}=0.0001", f"{SHORT}=1e-05", f"{SHORT}=9007199254740993"]
    assert arm_named(names, text) == names[1]
    with pytest.raises(UsageError, match="no such arm"):
        arm_named(names, f"{SHORT}=9007199254740992")
    for other in ("nan", "inf", f"{SHORT}=", "=", "1e999999999"):
        with pytest.raises(UsageError):
            arm_named(names, other)


def test_other_tests_are_shown_on_request_and_agree_with_scipy(
    project: Path, qn_exp: Program
) -> None:
    scipy = pytest.importorskip("scipy.stats")
    study = declared(2, 8)
    finish(study, rates(0.4, 0.7))
    table, found = study.table(), study.compare()
    lines = [*conventional(table, found)]
    assert lines[0].startswith("conventional, ")
    values = {row.name: [*row.values.values()] for row in table.rows}
    (pair, _), *_ = found.shown
    sides = [values[found.arms[place]] for place in (pair.first, pair.second)]
    p = scipy.ttest_ind(*sides, equal_var=False).pvalue
    assert pair.tests["welch"] == pytest.approx(p)
    assert "permuted Brunner-Munzel" not in lines[1]  # it decides, and is said above
    assert "Welch p" in lines[1]
    assert "Hedges' g" in lines[1]
    assert [line.split(":")[0] for line in lines[3:]] == [f"- {row.name}" for row in table.rows]
    assert lines[1] not in qn_exp("show", "lr").stdout
    assert [*conventional(evolve(table, rows=()), evolve(found, contest=None))] == []


def test_names_are_text_in_every_format(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["[64, 64]", "*a_b%c", "d&e#f", "{g}|h", "i\\j~k^l", "$m<n>", "-o", "`x'"]
    docs = [{"status": "completed", "seed": i, "results": {PRIMARY: 0.5}} for i in range(2)]
    sides = [Side(name=name, docs=tuple(docs), declared=2) for name in names]
    monkeypatch.setattr(Arms, "sides", lambda self: sides)
    monkeypatch.setattr(Arms, "headline", ("names",))
    study = Arms()
    study.record = SimpleNamespace(id="", question="# a < b", metric=PRIMARY)
    made = study.table(episodes=False)
    how = Namespace(json=False, metric=[], last=None, tail=None, correction="holm", baseline=None)
    monkeypatch.setattr(study_print, "shown_by", lambda *_: (made, compare(made)))
    for form in ("latex", "markdown"):
        how.format = form
        study_print.print_study(study, how)
    said = capsys.readouterr().out
    begins = ("{}[64, 64]", "{}*a\\_b\\%c", "d\\&e\\#f", "\\{g\\}\\textbar{}h", "-o",
              "\\textasciigrave{}x\\textquotesingle{}")  # fmt: skip
    for begin in (*begins, "i\\textbackslash{}j\\textasciitilde{}k\\textasciicircum{}l"):
        assert f"\n{begin} & 2 & 50.0\\% [" in said
    assert "\n\\$m\\textless{}n\\textgreater{} & 2" in said
    for begin in (
        "\\[64, 64]",
        "\\*a\\_b%c",
        "d\\&e\\#f",
        "{g}\\|h",
        "i\\\\j\\~k^l",
        "\\$m\\<n\\>",
        "\\-o",
    ):
        assert f"\n| {begin} | 2 |" in said
    assert "\n\\# a \\< b\n" in said


def test_compare_shows_the_same(project: Path, qn_exp: Program) -> None:
    finish(declared(2, 5), rates(0.2, 0.9))
    assert qn_exp("compare", "lr").stdout == qn_exp("show", "lr").stdout
    grouped = qn_exp("compare", "lr", "--by", LR)
    assert grouped.returncode == 0, grouped.stderr
    run = Experiments().ids("lr")[0]
    done = qn_exp("show", run, "--baseline", "0.1")
    assert (done.returncode, done.stderr) == (
        2, f"error: --baseline needs a study ({run} is a run)\n"
    )  # fmt: skip
