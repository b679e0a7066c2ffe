"""The leaderboard from Python: metrics, stored submissions, projects, pages."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from conftest import Program, version_1
from qn_tracking import Leaderboard
from qn_tracking.api.board import validators
from qn_tracking.benchmark import aggregate, files, metrics, verifications
from qn_tracking.benchmark.metrics import Metric
from qn_tracking.benchmark.protocol import rulebook
from qn_tracking.benchmark.validation import validate
from qn_tracking.errors import ConfigError, UsageError
from qn_tracking.records.codec import document
from qn_tracking.render.board import BEGIN, END

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden"
BEFORE = json.loads((GOLDEN / "leaderboard.json").read_text())
"""The figures of the eleven submissions as they were published under version 1 of the schema."""


@pytest.fixture
def eleven(project: Path) -> Path:
    """A copy of the submissions of this repository, in a project with the rules of their time."""
    known = {row["id"] for row in BEFORE}

    def later(folder: str, names: list[str]) -> list[str]:
        """Entries of protocol 2, and the folders with what verifies them."""
        if Path(folder).name in known:
            return []
        return [name for name in names if name[:1] in ("2", ".") and Path(name).stem not in known]

    shutil.copytree(ROOT / "benchmarks", "benchmarks", ignore=later)
    version_1(project)
    return project


@pytest.fixture
def few(eleven: Path) -> Path:
    """Only those of one task, where it does not matter which: each takes its time to be checked."""
    for place in Path("benchmarks").iterdir():
        if place.is_dir() and place.name not in ("dynamic_small", "verifications"):
            shutil.rmtree(place)
    return eleven


# ------------------------------------------------------------------------------- stored submissions


def test_a_first_reading_says_how_far_it_is(few: Path) -> None:
    said: list[tuple[int, int]] = []
    for _ in range(2):  # the second time nothing is read
        Leaderboard(progress=lambda *counts: said.append(counts)).boards()
    total = len([*few.glob("benchmarks/dynamic_small/**/*.json")])
    assert said == [(done, total) for done in range(total + 1)]


@pytest.mark.parametrize(
    ("given", "near"),
    [("dynamic_smal", "dynamic_small"), ("dynamic_smal/quantum", "dynamic_small/quantum")],
)
def test_a_mistyped_category_is_answered_with_one_of_its_kind(
    few: Path, given: str, near: str
) -> None:
    with pytest.raises(UsageError, match=f"no category {given} .did you mean {near}.."):
        Leaderboard().boards(given)


@pytest.mark.parametrize("command", ["leaderboard", "list"])
def test_a_folder_that_was_named_and_is_not_there_is_no_empty_board(
    project: Path, qn_bench: Program, command: str
) -> None:
    done = qn_bench(command, "--benchmarks-dir", "typo", process=False)
    assert (done.returncode, done.stderr) == (3, "error: typo: no such folder\n")


def test_ids_figures_and_ranks_are_what_they_were(eleven: Path) -> None:
    board = Leaderboard()
    found = []
    for name, one in board.boards().items():
        for row in one.rows:
            final = row.entry.aggregates["success_rate"]
            found.append(
                {
                    "id": row.entry.id,
                    "category": name,
                    "brain": row.entry.brain,
                    "rank_low": row.rank_low,
                    "rank_high": row.rank_high,
                    **{key: round(final[key] * 100, 1) for key in ("mean", "low", "high")},
                    "pooled": final["pooled"],
                }
            )
    assert found == BEFORE
    assert all(report.valid for report in board.validate())
    # From the cache as well, which nothing but this folder has filled.
    assert [row.entry.id for row in board.entries()] == [one["id"] for one in BEFORE]


@pytest.mark.parametrize("version", [1, 2])
def test_a_stored_submission_is_read(tmp_path: Path, version: int) -> None:
    path = tmp_path / "20261123T184558Z-8d6a153d.json"
    path.write_bytes((GOLDEN / f"submission-v{version}.json").read_bytes())
    stored = files.load(str(path))
    submission = stored.submission
    assert (submission.episodes, len(submission.runs)) == (3, 2)
    assert (submission.aggregates["runs"], submission.study and submission.study.runs) == (20, 20)
    assert document(submission) == (GOLDEN / "submission-v2.json").read_bytes()


@pytest.mark.parametrize("version", [1, 2])
def test_a_stored_verification_is_read(tmp_path: Path, version: int) -> None:
    doc = json.loads((GOLDEN / f"verification-v{version}.json").read_text())
    path = tmp_path / doc["submission"] / f"{doc['id']}.json"
    path.parent.mkdir()
    path.write_bytes((GOLDEN / f"verification-v{version}.json").read_bytes())
    record, _ = verifications.load(str(path))
    assert len(record.runs) == 2
    assert record.replication is not None
    assert record.replication.runs == 20
    assert document(record) == (GOLDEN / "verification-v2.json").read_bytes()


def test_a_protocol_of_the_first_form_is_read(tmp_path: Path) -> None:
    (tmp_path / "protocol.yml").write_bytes((GOLDEN / "protocol-v1.yml").read_bytes())
    assert rulebook(str(tmp_path)).versions == (rulebook().version(1),)


# ------------------------------------------------------------------------------------------ metrics


def longest(run: Any, rules: Any) -> float:
    return float(max(run.episodes.steps))


@pytest.mark.slow
def test_a_metric_is_added_in_one_place(
    eleven: Path, qn_bench: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = Leaderboard().entries("static_maze/quantum")
    added = Metric("longest", "longest episode", longest, higher_is_better=False, column="longest")
    monkeypatch.setitem(metrics.METRICS, added.name, added)
    assert all(report.valid for report in Leaderboard().validate())
    rows = Leaderboard().entries("static_maze/quantum", metric="longest")
    assert {row.entry.id for row in rows} == {row.entry.id for row in entries}
    assert rows[0].entry.mean("longest") < rows[1].entry.mean("longest")  # fewer is better
    assert rows[0].rank_low == 1
    done = qn_bench("leaderboard", "static_maze", "--metric", "longest")
    assert done.returncode == 0, done.stderr
    assert "by longest episode" in done.stdout
    assert "longest  " in qn_bench("leaderboard", "static_maze").stdout.splitlines()[3]
    assert "\n  longest episode " in qn_bench("show", rows[0].entry.id).stdout
    compared = Leaderboard().compare(*(row.entry.id for row in rows), metric="longest")
    assert compared.verdict.winner in ("first", None)
    assert qn_bench("regenerate").returncode == 0
    assert "| longest episode |" in Path("BENCHMARKS.md").read_text()


@pytest.mark.parametrize("unknown", [1, 30, None])
def test_success_is_known_of_all_episodes_or_of_none(unknown: int | None) -> None:
    """Rates are over the episodes that have a success value: leaving it out could hide failures."""
    (path,) = (ROOT / "benchmarks/dynamic_small/quantum").glob("20261123*.json")
    book = rulebook()
    made = files.load(str(path)).submission
    runs = []
    for run in made.runs:
        flags = run.episodes.success
        known = flags[:0] if unknown is None else flags[:-unknown]
        success = known + (None,) * (len(flags) - len(known))
        episodes = evolve(run.episodes, success=success)
        runs.append(evolve(run, episodes=episodes, digests=aggregate.digests(episodes)))
    figures = aggregate.aggregate(runs, book.version(made.protocol))
    changed = evolve(made, runs=tuple(runs), aggregates=figures)
    findings = validate(changed, (), book=book, make_manager=validators)
    errors = [(one.rule, one.field) for one in findings if one.level == "error"]
    if unknown is None:
        assert errors == []
        assert figures["success_rate"]["mean"] == 0
        assert "low-success" in {one.rule for one in findings}
    else:
        first = len(made.runs[0].episodes.success) - unknown
        assert errors == [("success", f"runs[0].episodes.success[{first}]")]


def test_what_is_claimed_is_checked_and_nothing_else(eleven: Path) -> None:
    (path,) = Path("benchmarks/dynamic_small/quantum").glob("20261123*.json")
    doc = json.loads(path.read_text())

    def findings() -> list[tuple[str, str | None]]:
        path.write_text(json.dumps(doc))
        (report,) = Leaderboard().validate([str(path)])
        return [(one.level, one.field) for one in report.findings if one.rule == "aggregate"]

    del doc["aggregates"]["stability"]
    assert findings() == []
    doc["aggregates"]["tomorrow"] = {"mean": 1.0}
    assert findings() == [("warning", "aggregates.tomorrow")]
    doc["aggregates"]["reward"]["mean"] += 0.5
    assert ("error", "aggregates.reward.mean") in findings()
    del doc["aggregates"]["success_rate"]
    assert ("error", "aggregates.success_rate") in findings()


def test_a_metric_that_does_not_exist(eleven: Path) -> None:
    with pytest.raises(UsageError, match="did you mean reward"):
        Leaderboard().entries(metric="rewards")
    with pytest.raises(UsageError, match="no metric steps"):  # it is shown, but ranks nothing
        Leaderboard().entries(metric="steps")


# ----------------------------------------------------------------------------------------- projects


@pytest.fixture
def finished(project: Path, qn_run: Program) -> Path:
    """A study of ten runs in a folder that pyproject.toml names."""
    Path("pyproject.toml").write_text('[tool.qn-tracking]\nexperiments_dir = "elsewhere"\n')
    done = qn_run("small.yml", "--episodes", "50", "--n-seeds", "10", "--seed", "1", "--quiet")
    assert done.returncode == 0, done.stderr
    return project


def test_submit_reads_the_experiments_of_the_project(finished: Path, qn_bench: Program) -> None:
    (study,) = Path("elsewhere/studies").iterdir()
    done = qn_bench("submit", study.name, "--contributor", "Ada", "--yes")
    assert done.returncode == 0, done.stderr
    assert len(Leaderboard().submissions()) == 1


def test_pages_that_do_not_exist_are_made(few: Path, qn_bench: Program) -> None:
    assert qn_bench("regenerate", "--check").returncode == 1
    assert not Path("README.md").exists()
    done = qn_bench("regenerate")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "README.md created\nBENCHMARKS.md created\n"
    for name in ("README.md", "BENCHMARKS.md"):
        text = Path(name).read_text()
        assert (text.count(BEGIN), text.count(END)) == (1, 1)
    assert qn_bench("regenerate", "--check").returncode == 0


def test_a_page_without_markers_explains_them(few: Path, qn_bench: Program) -> None:
    Path("README.md").write_text("# Mine\n")
    done = qn_bench("regenerate")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert f"put a line {BEGIN} and a line {END} where" in done.stderr
    assert not Path("BENCHMARKS.md").exists()


def test_empty_boards_are_of_this_project_only(project: Path) -> None:
    for path in Path().glob("*.yml"):
        path.unlink()
    # A project that has nothing yet may try what comes along.
    assert "dynamic_small/quantum" in Leaderboard().boards()
    Path("own.yml").write_text("simulation: theirs\n")
    assert Leaderboard().boards() == {}
    Path("small.yml").write_text(
        (ROOT / "src/qn_tracking/configs/mlp_simple_medium.yml").read_text()
    )
    boards = Leaderboard().boards()
    assert boards["static_maze/classical"].config == "small.yml"
    assert "dynamic_small/quantum" in boards


def test_a_protocol_that_is_not_utf8(project: Path, qn_bench: Program) -> None:
    Path("benchmarks").mkdir()
    Path("benchmarks/protocol.yml").write_bytes("version: 1 # größer".encode("latin-1"))
    with pytest.raises(ConfigError, match="UTF-8"):
        Leaderboard().rules()
    for command in ("leaderboard", "list", "validate"):
        done = qn_bench(command)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "protocol.yml: encoding is not UTF-8" in done.stderr


# ------------------------------------------------------------------------------------ the cached path


def test_an_unchanged_board_imports_nothing_heavy(few: Path) -> None:
    Leaderboard().entries()
    heavy = ["attr", "cattrs", "numpy", "scipy", "pluggy", "yaml", "orjson"]
    program = (
        "import sys\nfrom qn_tracking.cli.bench import main\n"
        "assert main(['leaderboard']) == main(['list']) == 0\n"
        f"print(sorted(set({heavy}) & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "[]\n")


def test_a_board_that_has_changed_is_read_again(few: Path) -> None:
    board = Leaderboard()
    count = len(board.entries())
    assert count > 1
    (path,) = Path("benchmarks/dynamic_small/quantum").glob("20261123*.json")
    text = path.read_text()
    path.unlink()
    assert len(board.entries()) == count - 1
    path.write_text(text)
    assert len(board.entries()) == count
    shutil.rmtree(f"benchmarks/verifications/{path.stem}")
    assert board.get(path.stem).verification is None


# -------------------------------------------------------------------------------------------- words

WORM = re.compile(r"small_grid|medium_grid|foods?|\bgrids?\b|maze|worm", re.IGNORECASE)
FOREIGN = (
    *("store/foreign.py", "api/drawing_curves.py"),
    *(f"render/{name}.py" for name in ("page", "picture", "picture_parts")),
)
"""What reads the files of another program has its words; pictures have grids, of lines."""


def test_the_core_does_not_know_the_worm() -> None:
    source = ROOT / "src" / "qn_tracking"
    found = [
        f"{path.relative_to(source)}:{number}: {line.strip()}"
        for path in sorted(source.rglob("*.py"))
        if path.relative_to(source).parts[0] not in ("nematode", "nematode_view")
        and str(path.relative_to(source)) not in FOREIGN
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if WORM.search(line)
    ]
    assert found == []
