"""What a protocol of guarded inference makes of submissions: figures, ranks, comparisons."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import attrs
import pytest

from qn_tracking import Leaderboard
from qn_tracking.benchmark import aggregate, files, places, verify
from qn_tracking.benchmark.entries import Entry, entry_of
from qn_tracking.benchmark.protocol import Protocol, rulebook
from qn_tracking.benchmark.ranking import rank
from qn_tracking.benchmark.survey import Survey
from qn_tracking.benchmark.versus import compare_entries
from qn_tracking.errors import ConfigError, UsageError
from qn_tracking.inference.bounded import gaffke, iqm_interval
from qn_tracking.inference.guard import half_run_welch
from qn_tracking.inference.interval import t_interval
from qn_tracking.inference.proportion import clopper_pearson, highest_shown, runs_to_show
from qn_tracking.records.codec import document, plain
from qn_tracking.records.submission import Submission
from qn_tracking.render.board import conventional, limits, middle, working

ROOT = Path(__file__).parent.parent
STORED = [
    one for one in sorted(ROOT.glob("benchmarks/*/*/2*.json")) if "verifications" not in one.parts
]
STUDENT = rulebook(str(ROOT / "benchmarks")).version(1)
GUARDED = attrs.evolve(STUDENT, inference="guarded", version=2)


@pytest.fixture(scope="module")
def submissions() -> list[Submission]:
    every = [files.load(str(path)).submission for path in STORED]
    return [one for one in every if one.protocol == STUDENT.version]


def entry(submission: Submission, protocol: Protocol, success: Any = None) -> Entry:
    """Its entry under a protocol; `success` gives a run's share of episodes that succeed."""
    if success is not None:
        draw = random.Random(submission.id)
        runs = []
        for i, run in enumerate(submission.runs):
            share = success(i)
            flags = tuple(draw.random() < share for _ in run.episodes.success)
            runs.append(attrs.evolve(run, episodes=attrs.evolve(run.episodes, success=flags)))
        submission = attrs.evolve(submission, runs=tuple(runs))
    stored = files.Stored(
        path=str(ROOT / "benchmarks" / f"{submission.id}.json"),
        sha256=submission.id,
        submission=submission,
    )
    return entry_of(stored, protocol, (), str(ROOT / "benchmarks"), [1])


def survey(folder: Path) -> Survey:
    """Nothing but a cache to rank with."""
    found = Survey(str(folder))
    found.rules, found.version = "test", 2
    return found


# ---------------------------------------------------------------------------------------- the figures


def test_a_row_says_how_good_a_run_is_how_often_one_fails_and_the_mean(
    submissions: list[Submission],
) -> None:
    for submission in submissions:
        found = entry(submission, GUARDED)
        values = found.values["success_rate"]
        figures = found.aggregates["success_rate"]
        mean, middle, student = gaffke(values), iqm_interval(values), t_interval(values)
        assert figures["method"] == "gaffke"
        assert (figures["low"], figures["high"]) == (mean.low, mean.high)
        assert (figures["iqm_low"], figures["iqm_high"]) == (middle.low, middle.high)
        assert figures["iqm_low"] <= figures["iqm"] <= figures["iqm_high"]
        # Conventional, beside it.
        assert (figures["t_low"], figures["t_high"]) == (
            (student.low, student.high) if student else (None, None)
        )
        share = found.aggregates["threshold_share"]
        reached = sum(value >= 0.8 - 1e-9 for value in values)
        assert (share["reached"], share["runs"], share["threshold"]) == (reached, len(values), 0.8)
        assert (share["low"], share["high"]) == clopper_pearson(reached, len(values))


def test_the_point_figures_do_not_depend_on_the_inference(submissions: list[Submission]) -> None:
    for submission in submissions[:3]:
        student, guarded = (entry(submission, one).aggregates for one in (STUDENT, GUARDED))
        assert set(guarded) - set(student) == {"threshold_share"}
        for name in ("success_rate", "sample_efficiency", "path_efficiency", "reward", "steps"):
            for field in ("n", "mean", "sd", "iqm", "worst"):
                assert guarded[name][field] == student[name][field]
            assert set(student[name]) == {
                "n", "mean", "sd", "low", "high", "pooled", "iqm", "worst"
            }  # fmt: skip
        assert guarded["reward"]["method"] == "t"
        assert guarded["reward"]["iqm_low"] is None


def test_perfect_runs_have_an_interval_that_is_not_of_their_episodes(
    submissions: list[Submission],
) -> None:
    perfect = entry(submissions[0], GUARDED, lambda i: 1.0).aggregates
    runs = perfect["runs"]
    assert perfect["success_rate"]["pooled"] is False
    assert perfect["success_rate"]["low"] == pytest.approx(0.025 ** (1 / runs))
    assert perfect["threshold_share"]["low"] == pytest.approx(0.025 ** (1 / runs))


def test_figures_are_computed_again_to_the_same_digits(submissions: list[Submission]) -> None:
    for submission in submissions[:2]:
        once = plain(aggregate.aggregate(submission.runs, GUARDED))
        assert plain(aggregate.aggregate(submission.runs, GUARDED)) == once


def test_the_figures_in_words(submissions: list[Submission]) -> None:
    figures = entry(submissions[0], GUARDED, lambda i: 1.0).aggregates
    runs = figures["runs"]
    low = 100 * highest_shown(runs)
    assert working(figures["threshold_share"]) == f"{runs}/{runs} [{low:.1f}, 100.0]"
    assert middle(figures["success_rate"]).startswith("100.0% [")
    assert conventional(figures["success_rate"]) is None
    assert f"begins at {low:.1f}% at most" in limits(runs)
    assert f"95% needs {runs_to_show(0.95)}" in limits(runs)
    assert "needs" not in limits(runs_to_show(0.95))
    student = entry(submissions[0], STUDENT).aggregates
    assert middle(student["success_rate"]) == f"{student['success_rate']['iqm']:.1%}"
    assert working(student.get("threshold_share")) == "–"


# -------------------------------------------------------------------------------- ranks, comparisons


def test_ranks_of_a_guarded_protocol_need_no_pairs(
    submissions: list[Submission], tmp_path: Path
) -> None:
    board = survey(tmp_path)
    found = [entry(one, GUARDED) for one in submissions]
    rows = rank(found, board, version=2)
    assert {row.entry.id for row in rows} == {one.id for one in submissions}
    means = [row.entry.mean("success_rate") for row in rows]
    assert means == sorted(means, reverse=True)
    assert all(row.rank_low <= place <= row.rank_high for place, row in enumerate(rows, 1))
    board.cache.save()
    assert not (tmp_path / ".cache-pairs.json").exists()
    # From the cache, and not mixed up with those of another protocol.
    again = rank(found, board, version=2)
    assert [row.plain() for row in again] == [row.plain() for row in rows]
    student = rank([entry(one, STUDENT) for one in submissions], board, version=1)
    assert [row.worse for row in student] != [row.worse for row in rows]


def test_ranks_by_a_metric_without_a_range_are_by_the_order_of_runs(
    submissions: list[Submission], tmp_path: Path
) -> None:
    rows = rank([entry(one, GUARDED) for one in submissions[:4]], survey(tmp_path), "reward",
                version=2)  # fmt: skip
    assert len(rows) == 4
    assert all(row.rank_low <= place <= row.rank_high for place, row in enumerate(rows, 1))


def pair_of(submissions: list[Submission], good: float, bad: float) -> tuple[Entry, Entry]:
    one, other = [one for one in submissions if one.category.environment == "static_maze"][:2]
    return entry(one, GUARDED, lambda i: good), entry(other, GUARDED, lambda i: bad)


def test_better_is_said_of_means_by_the_half_run_test(submissions: list[Submission]) -> None:
    good, bad = pair_of(submissions, 0.98, 0.4)
    found = compare_entries(good, bad, GUARDED)
    expected = half_run_welch(good.values["success_rate"], bad.values["success_rate"])
    assert found.comparison.guarded == expected
    assert found.comparison.permutation is None
    assert found.comparison.welch is not None
    assert found.verdict.winner == "first"
    names = [f"{one.brain} ({one.id})" for one in (good, bad)]
    assert found.sentence == " is better on average than ".join(names) + "."
    assert compare_entries(bad, good, GUARDED).verdict.winner == "second"
    assert "usually beats" in compare_entries(good, bad, GUARDED, "reward").sentence or (
        "No conclusion" in compare_entries(good, bad, GUARDED, "reward").sentence
    )


def test_what_cannot_be_concluded_is_said_with_the_runs_that_could(
    submissions: list[Submission],
) -> None:
    good, bad = pair_of(submissions, 0.9, 0.85)
    found = compare_entries(good, bad, GUARDED)
    assert not found.verdict.better
    assert found.runs_needed is not None
    assert f"about {found.runs_needed} runs a side" in found.sentence
    assert found.detectable_difference is not None
    assert found.detectable_difference > abs(found.comparison.delta)
    assert {"detectable_difference", "picked"} <= set(found.plain())


def test_the_first_of_many_is_corrected_for_being_picked(submissions: list[Submission]) -> None:
    good, bad = pair_of(submissions, 0.98, 0.4)
    alone = compare_entries(good, bad, GUARDED, families=True)
    picked = compare_entries(good, bad, GUARDED, families=True, picked=(12, 1))
    assert "advantage in static_maze" in alone.sentence
    assert "first of 12 entries" in picked.sentence
    assert alone.verdict.p is not None
    assert picked.verdict.p is not None
    assert picked.verdict.p > 12 * alone.verdict.p
    assert compare_entries(good, bad, GUARDED, picked=(1, 12)).verdict.p == alone.verdict.p


def test_a_student_protocol_compares_as_before(submissions: list[Submission]) -> None:
    one, other = [one for one in submissions if one.category.environment == "static_maze"][:2]
    found = compare_entries(entry(one, STUDENT), entry(other, STUDENT), STUDENT, picked=(5, 5))
    assert found.comparison.permutation is not None
    assert found.comparison.guarded is None
    assert found.verdict.p == found.comparison.permutation.p
    assert "detectable_difference" not in found.plain()


# -------------------------------------------------------------------------------------- the protocol


def written(folder: Path, inference: str) -> str:
    shutil.copytree(ROOT / "benchmarks", folder, ignore=lambda *_: ["static_maze"])
    path = Path(places.protocol_file(str(folder)))
    text = path.read_text(encoding="utf-8")
    first, rest = text.split("  - version: 2\n")
    first = first.replace("    alpha:", f"    inference: {inference}\n    alpha:")
    path.write_text(first + "  - version: 2\n" + rest, encoding="utf-8")
    return str(folder)


def test_a_protocol_names_its_inference(tmp_path: Path) -> None:
    assert STUDENT.inference == "student"
    assert aggregate.rules_of(STUDENT).inference == "student"
    book = rulebook(written(tmp_path / "guarded", "guarded"))
    assert book.version(1).inference == "guarded"
    assert aggregate.rules_of(book.version(1)).inference == "guarded"
    with pytest.raises(ConfigError, match="inference"):
        rulebook(written(tmp_path / "other", "bayesian"))


@pytest.mark.slow
def test_a_claim_made_under_one_inference_is_no_claim_under_the_other(tmp_path: Path) -> None:
    folder = written(tmp_path / "guarded", "guarded")
    every = Leaderboard(folder).validate()
    # Those of version 1: its inference is what was changed.
    reports = [one for one in every if "/20261123T" in one.path and "verifications" not in one.path]
    assert reports
    for report in reports:
        fields = {one.field for one in report.findings if one.level == "error"}
        assert "aggregates.success_rate.low" in fields


def test_a_replication_needs_as_many_fresh_runs(submissions: list[Submission]) -> None:
    submission = submissions[0]
    runs = len(submission.runs)
    assert verify.fresh_runs(submission, None, GUARDED) == max(runs, verify.FRESH)
    assert verify.fresh_runs(submission, None, STUDENT) == verify.FRESH
    assert verify.fresh_runs(submission, 1, STUDENT) == 1
    with pytest.raises(UsageError, match=f"at least {runs}"):
        verify.fresh_runs(submission, runs - 1, GUARDED)


def test_a_replication_record_is_of_one_form(submissions: list[Submission]) -> None:
    submission = submissions[0]
    fresh = [
        verify.check(submission, None, 1, aggregate.episodes(run.episodes), GUARDED)
        for run in submission.runs
    ]
    found = verify.replication(submission, fresh, GUARDED)
    assert found.accepted
    assert found.fresh_mean == found.mean
    assert found.bound <= found.mean
    assert found.false_alarm <= 0.06
    assert b'"bound"' in document(found)
