"""Benchmarks: made of runs, checkable by rules, never trusted."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, strategies as st

from conftest import BIN, SMALL, Program, command, version_1
from qn_tracking import config as configuration, hookimpl
from qn_tracking.api.board import validators
from qn_tracking.benchmark import aggregate, files, validation
from qn_tracking.benchmark.category import categorize
from qn_tracking.benchmark.protocol import rulebook
from qn_tracking.errors import ConfigError, UsageError
from qn_tracking.records import stats
from qn_tracking.records.codec import canonical
from qn_tracking.records.model import Config, Episode, FrozenDict
from qn_tracking.render.board import BEGIN, END, cell, splice

QN_BENCH = str(BIN / "qn-bench")
HOSTILE = "</td>|\\1 [x](javascript:1) @all <!-- /qn:leaderboard -->"


@pytest.fixture(scope="module")
def submitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two submissions of ten small runs, made by the real program."""
    place = tmp_path_factory.mktemp("submitted")
    (place / "small.yml").write_text(SMALL)
    version_1(place)
    subprocess.run(["git", "init", "-q", str(place)], check=True)
    for seed, name in (("1", "Ada"), ("2", HOSTILE)):
        if seed == "2":
            time.sleep(1.1)  # ids of one second are in no order
        subprocess.run(
            [str(BIN / "qn-run"), "small.yml", "--episodes", "50", "--seed", seed, "--jobs", "2",
             "--save-benchmark", "--contributor", name, "--benchmark-notes", "[/nope] `x`"],
            cwd=place, check=True, capture_output=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    return place


@pytest.fixture
def board(submitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to stand in."""
    place = tmp_path / "board"
    shutil.copytree(submitted, place)
    monkeypatch.chdir(place)
    return place


def entries() -> list[Path]:
    return sorted(Path("benchmarks/static_maze/classical").glob("2*.json"))


def bench(*args: str) -> subprocess.CompletedProcess[str]:
    return command("qn-bench", *args)


def change(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    doc = json.loads(path.read_text())
    edit(doc)
    path.write_text(json.dumps(doc))


# ------------------------------------------------------------------------------------------ judging


def test_what_the_program_submits_is_valid(board: Path) -> None:
    done = bench("validate", "benchmarks", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [one["valid"] for one in report] == [True, True]
    rules = {finding["rule"] for one in report for finding in one["findings"]}
    assert "source" in rules  # the configuration was never committed


def set_at(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    def edit(doc: Any) -> None:
        for key in path[:-1]:
            doc = doc[key]
        doc[path[-1]] = value(doc[path[-1]]) if callable(value) else value

    return edit


CHEATS = [
    (set_at("aggregates", "success_rate", "mean", value=1.0), "aggregates.success_rate.mean"),
    (set_at("aggregates", "path_efficiency", "iqm", value=0.99), "aggregates.path_efficiency.iqm"),
    (set_at("aggregates", "runs", value=11), "aggregates.runs"),
    (
        set_at("runs", 3, "episodes", "success", 7, value=lambda flag: not flag),
        "runs[3].digests",
    ),
    (set_at("runs", 2, "episodes", "reward", 0, value=1e9), "runs[2].digests.exact"),
    (set_at("runs", 2, "episodes", "reward", 0, value="NaN"), "runs[2].episodes.reward[0]"),
    (
        set_at("runs", 2, "episodes", "metrics", "path_efficiency", 0, value=7.5),
        "runs[2].episodes.metrics.path_efficiency",
    ),
    (set_at("runs", 0, "seed", value=12), "runs[0].seed"),
    (set_at("runs", value=lambda all: [*all[:-1], all[0]]), "runs[9]"),
    (set_at("runs", value=lambda all: all[:9]), "runs"),
    (
        set_at("runs", 0, "episodes", "steps", value=lambda all: all[:-1]),
        "runs[0].episodes",
    ),
    (set_at("runs", value=49), "runs"),
    (set_at("category", "environment", value="dynamic_large"), "category"),
    (set_at("category", "environment", value="../x"), "category"),
    (set_at("category", "family", value="quantum"), "category"),
    (set_at("config", "data", "max_steps", value=31), "config.data"),
    (set_at("text", value=lambda text: text.replace("30", "31")), "config.digest"),
    (set_at("protocol", value=99), "protocol"),
    (set_at("contribution", "contributor", value=" "), "contribution.contributor"),
    (set_at("contribution", "contributor", value="x" * 101), "contribution.contributor"),
    (set_at("contribution", "github", value="a/b"), "contribution.github"),
    (set_at("study", "finished", value=9), "study.finished"),
    (set_at("id", value="other"), "id"),
    (set_at("subject", "brain", value="superbrain"), "subject.brain"),
    (set_at("subject", "packages", value=["os"]), "subject.packages"),
    (set_at("subject", "environment", value="x" * 10_000), "subject.environment"),
    (set_at("code", value=[]), "code"),
    (set_at("code", 0, "name", value="../.."), "code"),
    (set_at("code", 0, "digest", value="0"), "code[0].digest"),
    (set_at("created", value="yesterday"), "created"),
    (set_at("source", "commit", value="--help"), "source.commit"),
    (set_at("source", "remote", value="javascript:alert(1)"), "source.remote"),
    (set_at("source", "remote", value="https://u:p@x/y"), "source.remote"),
    (set_at("source", "dirty", value="no"), "source.dirty"),
    (set_at("packages", value="x; rm"), "packages"),
    (set_at("runs", 0, "id", value="../../x"), "runs[0].id"),
    (
        set_at("runs", value=lambda all: [{**all[0], "id": all[1]["id"]}, *all[1:]]),
        "runs[1].id",
    ),
    (set_at("runs", 0, "started", value="x"), "runs[0].started"),
    (set_at("runs", 0, "jobs", value=0), "runs[0].jobs"),
    (set_at("study", "id", value="--help"), "study.id"),
]


@pytest.mark.parametrize(("edit", "field"), CHEATS, ids=[field for _, field in CHEATS])
def test_a_submission_made_to_cheat_is_refused_by_field(
    board: Path, edit: Callable[[dict[str, Any]], None], field: str
) -> None:
    change(entries()[0], edit)
    done = bench("validate")
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert any(f": {field}" in line for line in errors), errors


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (
            set_at("aggregates", "success_rate", "mean", value="NaN"),
            "aggregates.success_rate.mean",
        ),
        (set_at("runs", 0, "seed", value=1.5), "runs[0].seed"),
        (set_at("aggregates", "success_rate", "mean", value=10**400), "beyond 2**53"),
        (set_at("runs", 0, "episodes", "reward", 0, value=10**309), "beyond 2**53"),
        (set_at("runs", 0, "episodes", "steps", 0, value=2**70), "steps[0]"),
        (set_at("system", "cpus", value=2**70), "system.cpus"),
        (set_at("surprise", value=1), "unknown key"),
        (set_at("schema", value=3), "schema"),
    ],
)
def test_what_is_not_a_submission_at_all(
    board: Path, edit: Callable[[dict[str, Any]], None], said: str
) -> None:
    change(entries()[0], edit)
    done = bench("validate")
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_copy_under_another_id_is_a_duplicate(board: Path) -> None:
    doc = json.loads(entries()[0].read_text())
    doc["id"] = "20300101T000000Z-00000000"
    Path(entries()[0].parent / f"{doc['id']}.json").write_text(json.dumps(doc))
    done = bench("validate")
    assert done.returncode == 1
    assert "[duplicate]" in done.stderr
    assert "[seeds]" in done.stderr


def test_a_claim_of_being_verified_is_ignored_and_reported(board: Path) -> None:
    change(entries()[0], set_at("verified", value=True))
    done = bench("validate")
    assert done.returncode == 0
    assert "verified: a submission cannot say of itself" in done.stdout


def test_runs_that_were_declared_and_are_missing_show(board: Path) -> None:
    def edit(doc: dict[str, Any]) -> None:
        doc["study"] |= {"runs": 12, "failed": 1, "aborted": 1}

    change(entries()[0], edit)
    done = bench("validate")
    assert done.returncode == 0
    assert "12 runs were declared: 10 finished, 1 failed, 1 aborted" in done.stdout
    assert "10 of 12 declared" in bench("leaderboard", "--json").stdout


@pytest.mark.parametrize("said", ["raise SystemExit(0)", "return (3,)", "return None"])
def test_a_judge_that_crashes_passes_nobody(board: Path, said: str) -> None:
    scope: dict[str, Any] = {"hookimpl": hookimpl}
    exec(f"class Judge:\n  @hookimpl\n  def check_benchmark(self): {said}\n", scope)

    def make_manager(config: Config) -> Any:
        manager = validators(config)
        manager.register(scope["Judge"](), name="crashing")
        return manager

    benchmark = files.load(str(entries()[0])).submission
    sound = validation.validate(benchmark, (), book=rulebook(), make_manager=validators)
    assert validation.passes(sound)
    found = validation.validate(benchmark, (), book=rulebook(), make_manager=make_manager)
    assert not validation.passes(found)
    assert "plugin crashing raised" in found[0].message


# --------------------------------------------------------------------------------------- submitting


def test_the_protocol_refuses_before_anything_runs(project: Path, qn_run: Program) -> None:
    for args, said in (
        (["--n-seeds", "9"], "--n-seeds 9: a submission needs at least 10"),
        (["--episodes", "49"], "--episodes 49: a submission needs at least 50"),
        ([], "--save-benchmark needs --contributor"),
        (["--contributor", " ", "--benchmark-notes", "x"], "--contributor: expected a name"),
        (["--contributor", "A", "--benchmark-notes", "x", "--no-plugin", "metadata"], "metadata"),
    ):
        done = qn_run("small.yml", "--save-benchmark", *args)
        assert done.returncode == 2
        assert said in done.stderr
        assert sorted(path.name for path in project.iterdir()) == ["gitconfig", "small.yml"]


@pytest.mark.slow
def test_the_same_seeds_again_are_refused(board: Path) -> None:
    done = subprocess.run(
        [str(BIN / "qn-run"), "small.yml", "--episodes", "50", "--seed", "1", "--save-benchmark",
         "--contributor", "B", "--benchmark-notes", "x"],
        capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 1
    assert "[seeds]" in done.stderr
    assert "nothing was saved" in done.stderr
    assert len(entries()) == 2


def test_tracked_experiments_can_be_submitted_later(board: Path) -> None:
    for path in entries():
        path.unlink()
    (study, *_) = sorted(Path("experiments/studies").glob("*/study.json"))
    done = bench("submit", study.parent.name, "--contributor", "Ada", "--yes")
    assert done.returncode == 0, done.stderr
    assert len(entries()) == 1
    entries()[0].unlink()
    ids = [p.stem for p in sorted(Path("experiments").glob(f"{study.parent.name}.*.json"))]
    done = bench("submit", *ids, "--contributor", "Ada", "--json")
    assert done.returncode == 0, done.stderr
    doc = json.loads(done.stdout)
    assert doc["valid"]
    assert "declared" in {finding["rule"] for finding in doc["findings"]}
    entries()[0].unlink()
    done = bench("submit", *ids[:9], "--contributor", "Ada")
    assert done.returncode == 1
    assert not entries()
    assert bench("submit", "nope", "--contributor", "Ada").returncode == 2


# ------------------------------------------------------------------------------------------ ranking


def test_the_leaderboard_recomputes_what_it_shows(board: Path) -> None:
    doc = json.loads(bench("leaderboard", "static_maze/classical", "--json").stdout)
    (category,) = doc
    assert [row["rank_low"] for row in category["rows"]] == [1, 1]
    assert [row["rank_high"] for row in category["rows"]] == [2, 2]
    means = [row["entry"]["aggregates"]["success_rate"]["mean"] for row in category["rows"]]
    assert means == sorted(means, reverse=True)
    for path in entries():
        rates = []
        for run in json.loads(path.read_text())["runs"]:
            flags = run["episodes"]["success"]
            rates.append(sum(flags[-20:]) / 20)
        assert any(abs(mean - sum(rates) / 10) < 1e-12 for mean in means)


def test_one_that_is_not_valid_is_left_out_with_a_warning(board: Path) -> None:
    assert bench("leaderboard").stderr == ""
    change(entries()[0], set_at("runs", 3, "episodes", "success", 7, value=lambda f: not f))
    Path(entries()[1].parent / "broken.json").write_text("{")
    done = bench("leaderboard", "--json")
    assert done.returncode == 0
    assert "is not valid, left out" in done.stderr
    assert "broken.json" in done.stderr
    assert sum(len(one["rows"]) for one in json.loads(done.stdout)) == 1
    change(entries()[0], set_at("aggregates", "success_rate", "mean", value=10**400))
    for name in ("leaderboard", "list", "regenerate", "outdated"):
        assert "Traceback" not in bench(name).stderr


ELSEWHERE = """
import random
from qn_tracking import Subject, hookimpl
from qn_tracking.records.submission import Category
class Coins:
    @hookimpl
    def make_simulation(self, config):
        return Made()
    @hookimpl
    def categorize(self, config):
        return Category(environment="coins", family="classical")
class Made:
    warnings = ()
    subject = Subject(
        environment="coins", brain="none", family="classical", packages=("coins.toss",)
    )
    def episodes(self, count, seed):
        draw = random.Random(seed).random
        for _ in range(count):
            yield {"success": draw() < 0.9, "steps": 1}
"""


def tossed(*args: str) -> subprocess.CompletedProcess[str]:
    """A study of ten runs by the package in `site`."""
    return subprocess.run(
        [str(BIN / "qn-run"), "coins.yml", "--n-seeds", "10", "--episodes", "50", "--save-benchmark",
         "--benchmark-notes", "tossed", *args],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.path.abspath("site")},
    )  # fmt: skip


@pytest.fixture(scope="module")
def with_coins(submitted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the submissions with one of a simulation whose package is in `site`."""
    place = tmp_path_factory.mktemp("coins") / "board"
    shutil.copytree(submitted, place)
    info = place / "site/qn_coins-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: qn-coins\nVersion: 1.0\n")
    entries = "[qn_tracking]\nsimulation.coins = coins.toss:Coins\n"
    (info / "entry_points.txt").write_text(entries)
    package = place / "site/coins"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "toss.py").write_text(ELSEWHERE)
    (place / "coins.yml").write_text("simulation: coins\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        done = tossed("--contributor", "Ada")
    assert done.returncode == 0, done.stderr
    return place


@pytest.fixture
def coins(with_coins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its submission, in a copy to stand in, where the package is not installed any more."""
    place = tmp_path / "board"
    shutil.copytree(with_coins, place)
    monkeypatch.chdir(place)
    (path,) = Path("benchmarks/coins/classical").glob("2*.json")
    return path


def again(**replaced: str) -> subprocess.CompletedProcess[str]:
    """The same study by a simulation that is otherwise."""
    text = ELSEWHERE
    part = {
        "category": 'Category(environment="coins", family="classical")',
        "steps": '"steps": 1',
    }
    for old, new in replaced.items():
        assert part[old] in text
        text = text.replace(part[old], new)
    Path("site/coins/toss.py").write_text(text)
    return tossed("--contributor", "Bob", "--seed", "5")


@pytest.mark.slow
@pytest.mark.parametrize("category", ["{}['x']", '("coins", "classical")'])
def test_a_provider_that_cannot_tell_its_category_spoils_its_own_only(
    coins: Path, monkeypatch: pytest.MonkeyPatch, category: str
) -> None:
    done = again(category=category)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "coins.yml: categorize: " in done.stderr
    monkeypatch.setenv("PYTHONPATH", os.path.abspath("site"))
    assert bench("validate").returncode == 1
    done = bench("leaderboard", "--json")
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert sum(len(one["rows"]) for one in json.loads(done.stdout)) == 2


@pytest.mark.slow
def test_a_provider_that_gives_no_subject_spoils_its_own_only(
    coins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = ELSEWHERE.replace("subject = Subject(", "subject = dict(")
    Path("site/coins/toss.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", os.path.abspath("site"))
    done = bench("validate")
    assert done.returncode == 1
    assert done.stderr == f"error: {coins}: make_simulation: no Subject, but dict [validator]\n"
    assert "2 valid, 1 not" in done.stdout


@pytest.mark.slow
def test_runs_with_numbers_that_are_not_finite_are_no_benchmark(coins: Path) -> None:
    done = again(steps='"steps": 1, "reward": float("nan")')
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: no submission can be made of these")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_runs_that_fail_are_said_to_be_no_benchmark(coins: Path) -> None:
    done = again(steps='"steps": 1 if draw() < 0.99 else {}["x"]')
    assert done.returncode == 1
    assert re.search(r"error: no benchmark is saved: \d+ of 10 runs are not fin", done.stderr)


def test_pages_are_written_all_or_none(board: Path) -> None:
    Path("README.md").write_bytes(PAGE.encode())
    Path("BENCHMARKS.md").write_text("no marker")
    done = bench("regenerate")
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "BENCHMARKS.md" in done.stderr
    assert f"put a line {BEGIN} and a line {END}" in done.stderr
    assert Path("README.md").read_bytes() == PAGE.encode()


@pytest.mark.slow
def test_one_that_needs_what_is_not_installed_waits_until_it_is(
    coins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("README.md", "BENCHMARKS.md"):
        Path(name).write_bytes(PAGE.encode())
    said = "code: needs coins, not installed here"
    for _ in range(2):
        done = bench("leaderboard", "--json")
        assert (done.returncode, done.stderr.count("\n")) == (0, 1)
        assert f"{coins}: cannot be checked here, left out: {said}" in done.stderr
        assert coins.stem not in done.stdout
    done = bench("validate")
    assert (done.returncode, done.stderr) == (4, f"error: {coins}: {said} [installed]\n")
    assert "2 valid, 0 not; 2 with warnings; 1 cannot be checked here" in done.stdout
    done = bench("verify", str(coins))
    assert done.returncode == 4
    assert "mismatch" not in done.stdout
    done = bench("regenerate")
    assert (done.returncode, said in done.stderr) == (4, True)
    assert Path("README.md").read_bytes() == PAGE.encode()
    # What was said of it is not kept: once it is installed, it is checkable.
    monkeypatch.setenv("PYTHONPATH", str(Path("site").resolve()))
    done = bench("leaderboard", "coins/classical")
    assert (done.returncode, done.stderr) == (0, "")
    assert "coins/classical\n" in done.stdout
    assert bench("validate").returncode == 0
    assert bench("regenerate").returncode == 0
    assert "coins" in Path("README.md").read_text()


def test_a_package_that_is_not_there_excuses_nothing_else(coins: Path) -> None:
    change(coins, set_at("aggregates", "success_rate", "mean", value=0.99))
    done = bench("validate", str(coins))
    assert done.returncode == 1
    assert "needs coins, not installed here [installed]" in done.stderr
    assert "aggregates.success_rate.mean: " in done.stderr
    assert "0 valid, 1 not; 0 with warnings" in done.stdout
    assert "coins" in bench("leaderboard").stderr.partition("is not valid, left out: ")[2]
    assert bench("regenerate").returncode == 0  # it is left out, as any other that is not valid


@pytest.mark.parametrize("name", ["evil_pkg", "", ".x", "a/b", "x\0y", None, 7, "distutils"])
def test_who_names_a_package_that_nobody_needs_is_not_believed(board: Path, name: Any) -> None:
    path = entries()[0]
    change(path, set_at("aggregates", "success_rate", "mean", value=0.999))
    change(path, set_at("code", value=lambda code: [*code, {**code[0], "name": name}]))
    done = bench("validate", str(path))
    assert done.returncode == 1
    assert "installed]" not in done.stderr
    assert "aggregates.success_rate.mean: " in done.stderr or "[schema]" in done.stderr


def test_what_is_not_valid_for_ever_is_judged_once(board: Path) -> None:
    change(entries()[0], set_at("runs", 3, "episodes", "success", 7, value=lambda f: not f))
    change(entries()[1], set_at("category", "family", value="quantum"))
    first = bench("leaderboard").stderr
    assert first.count("is not valid, left out") == 2
    (kept,) = cached()["entries"]  # the other may be right where another version is installed
    assert kept.endswith(entries()[0].name)
    assert bench("leaderboard").stderr == first


def test_empty_categories_tell_the_command_that_fills_them(board: Path) -> None:
    text = bench("leaderboard").stdout
    assert "qn-run modular_dynamic_small --save-benchmark --contributor NAME" in text
    assert bench("leaderboard", "static_maz").returncode == 2


def test_a_configuration_of_no_category() -> None:
    config = configuration.from_mapping({"x": 1})
    with pytest.raises(ConfigError, match="no provider knows the category"):
        categorize(config, rulebook().now, validators(config))


def test_commands_on_entries(board: Path) -> None:
    names = [path.stem for path in entries()]
    listed = json.loads(bench("list", "--json").stdout)
    assert sorted(one["id"] for one in listed) == names
    shown = json.loads(bench("show", names[0], "--json").stdout)
    assert shown["submission"]["id"] == names[0]
    assert shown["command"] == "qn-run small.yml --n-seeds 10 --episodes 50 --seed 1"
    resampled = shown["iqm_bootstrap"]
    assert resampled["value"] == shown["submission"]["aggregates"]["success_rate"]["iqm"]
    assert resampled["low"] <= resampled["value"] <= resampled["high"]
    assert "] bootstrap, too narrow with 10 runs\n" in bench("show", names[0]).stdout
    assert bench("show", names[0], "--config").stdout == SMALL
    assert "runs" in bench("show", names[0]).stdout
    assert bench("show", "2").returncode == 2
    mine = json.loads(bench("contributor", "ada", "--json").stdout)
    assert [one["id"] for one in mine["submissions"]] == [names[0]]
    assert bench("contributor", "nobody").returncode == 2
    told = json.loads(bench("compare", *names, "--json").stdout)
    assert "No conclusion at this sample size" in told["sentence"]
    assert told["verdict"]["better"] is False
    assert round(told["detectable_effect"], 2) == 1.32
    assert bench("compare", names[0], names[0]).returncode == 2
    done = bench("compare", "--quantum-vs-classical", "static_maze")
    assert (done.returncode, "no quantum entry" in done.stderr) == (2, True)
    assert "advantage" not in bench("compare", *names).stdout


# -------------------------------------------------------------------------------------------- pages

PAGE = f"# Title\r\n\nbefore `\\1`\n{BEGIN}\nold\n{END}\r\nafter, no line end"


def test_pages_are_written_between_markers_and_twice_is_once(board: Path) -> None:
    for name in ("README.md", "BENCHMARKS.md"):
        Path(name).write_bytes(PAGE.encode())
    assert bench("regenerate", "--check").returncode == 1
    assert Path("README.md").read_bytes() == PAGE.encode()
    assert bench("regenerate").returncode == 0
    text = Path("README.md").read_bytes().decode()
    head, tail = PAGE.split("\nold\n")
    assert text.startswith(head)
    assert text.endswith(tail)
    assert bench("regenerate", "--check").returncode == 0
    assert bench("regenerate").returncode == 0
    assert Path("README.md").read_bytes().decode() == text
    rows = [line for line in text.splitlines() if line.startswith("| static_maze classical | 1")]
    assert len(rows) == 2
    assert all(row.count("|") == 10 for row in rows)
    for name in ("README.md", "BENCHMARKS.md"):
        page = Path(name).read_text()
        for bad in ("</td>", "javascript:", "@all", "](javascript", "[/nope]"):
            assert bad not in page
        assert page.count(END) == 1


@pytest.mark.parametrize("page", ["", BEGIN, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}"])
def test_a_page_without_its_markers_is_not_touched(board: Path, page: str) -> None:
    Path("README.md").write_text(page)
    Path("BENCHMARKS.md").write_text(PAGE)
    done = bench("regenerate")
    assert done.returncode == 3
    assert "README.md: " in done.stderr
    assert Path("README.md").read_text() == page


@given(st.text(), st.text(), st.text())
def test_splicing_touches_nothing_else(before: str, block: str, after: str) -> None:
    page = f"{before}{BEGIN}x{END}{after}"
    if page.count(BEGIN) == page.count(END) == 1 and BEGIN not in block and END not in block:
        spliced = splice(page, block, "f")
        assert spliced == f"{before}{BEGIN}\n{block}{END}{after}"
        assert splice(spliced, block, "f") == spliced


@given(st.text(st.characters(codec="utf-8")))
def test_a_cell_is_one_cell_of_plain_text(text: str) -> None:
    safe = cell(text)
    assert not set(safe) & set("|`<>[]()*@\n\r\x1b")
    assert BEGIN not in safe
    assert END not in safe


# ------------------------------------------------------------------------------------- recomputing


@given(
    st.lists(
        st.builds(
            dict,
            success=st.none() | st.booleans(),
            steps=st.none() | st.integers(0, 500),
            reward=st.none() | st.floats(-1e6, 1e6),
            termination=st.none() | st.text(max_size=5),
            counts=st.dictionaries(st.sampled_from("ab"), st.integers(0, 9), max_size=2),
            metrics=st.dictionaries(st.sampled_from("xy"), st.floats(-1, 1), max_size=2),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_columns_give_back_the_digests_of_the_journal(rows: list[dict[str, Any]]) -> None:
    tally = stats.Tally()
    episodes = []
    for i, row in enumerate(rows):
        fields = {**row, "counts": FrozenDict(row["counts"]), "metrics": FrozenDict(row["metrics"])}
        exact = canonical({"index": i, "seed": None, **row})
        episodes.append(Episode(index=i, exact=exact, **fields))
        tally.add(episodes[-1])
    assert aggregate.digests(aggregate.columns(episodes)) == tally.digests()


def test_protocols() -> None:
    book = rulebook()
    assert (book.now.minimum_runs, book.now.minimum_episodes) == (10, 50)
    with pytest.raises(UsageError, match="no protocol version 7"):
        book.version(7)


def test_a_protocol_that_is_wrong_is_named(tmp_path: Path) -> None:
    text = (Path(rulebook.__code__.co_filename).parent / "protocol.yml").read_text()
    for old, new, said in (
        ("alpha: 0.05", "alpha: 5", "versions[0].alpha: must be between 0 and 1"),
        (f"current: {rulebook().current}", "current: 7", "current: no version 7"),
        ("margin: 0.02", "margni: 0.02", "did you mean margin?"),
    ):
        folder = tmp_path / new.replace(": ", "")
        folder.mkdir()
        (folder / "protocol.yml").write_text(text.replace(old, new))
        with pytest.raises(ConfigError) as caught:
            rulebook(str(folder))
        assert said in str(caught.value)


@pytest.mark.slow
def test_the_cache_may_hold_anything_and_the_board_stays_the_same(board: Path) -> None:
    cache = board / "benchmarks" / ".cache.json"
    cache.unlink(missing_ok=True)

    def look() -> str:
        done = subprocess.run([QN_BENCH, "leaderboard", "--json"], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    fresh = look()
    assert json.loads(fresh)
    whole = cache.read_text()
    assert look() == fresh
    assert cache.read_text() == whole
    kept = json.loads(whole)
    for spoil in (
        lambda one: one.pop("source"),
        lambda one: one.update(aggregates=None),
        lambda one: one.update(category=["dynamic_small"]),
        lambda one: one["aggregates"].pop("success_rate"),
        lambda one: one.update(values=7),
    ):
        doc = json.loads(whole)
        for one in doc["entries"].values():
            spoil(one["entry"])
        assert doc != kept
        cache.write_text(json.dumps(doc))
        assert look() == fresh
    for spoil_all in (
        lambda doc: doc.update(entries=[], ranks=7, verifications="x", rules=None),
        lambda doc: doc.update(entries=dict.fromkeys(doc["entries"], 7)),
        lambda doc: doc.update(ranks={key: [] for key in doc["ranks"]}),
        lambda doc: doc.update(ranks={key: {**r, "ranks": 7} for key, r in doc["ranks"].items()}),
        lambda doc: [rank["ranks"].pop() for rank in doc["ranks"].values()],
        lambda doc: [rank["ranks"][0].pop("low") for rank in doc["ranks"].values()],
    ):
        doc = json.loads(whole)
        spoil_all(doc)
        assert doc != kept
        cache.write_text(json.dumps(doc))
        pairs = board / "benchmarks" / ".cache-pairs.json"
        pairs.write_text(json.dumps({"version": doc["version"], "pairs": [1]}))
        assert look() == fresh
    cache.write_bytes(b"\xff{")
    assert look() == fresh


def rows_of(folder: str = "benchmarks", *args: str) -> Any:
    done = bench("leaderboard", "--json", "--benchmarks-dir", folder, *args)
    assert done.returncode == 0, done.stderr
    return [
        (row["entry"]["id"], row["rank_low"], row["rank_high"])
        for category in json.loads(done.stdout)
        for row in category["rows"]
    ]


def cached(name: str = ".cache.json") -> Any:
    return json.loads(Path("benchmarks", name).read_text())


def test_ranks_of_somebody_elses_disk_are_not_believed(board: Path) -> None:
    fresh = rows_of()
    assert [row[1:] for row in fresh] == [(1, 2), (1, 2)]
    doc = cached()
    for ranking in doc["ranks"].values():
        ranks = ranking["ranks"] if isinstance(ranking, dict) else ranking
        ranks[0].update(low=2, high=2, better=[fresh[1][0]])
        ranks[1].update(low=1, high=1, worse=[fresh[0][0]])
    Path("benchmarks/.cache.json").write_text(json.dumps(doc))
    # As a checkout makes it: the same bytes in other files.
    shutil.copytree("benchmarks", "cloned")
    assert rows_of("cloned") == fresh


@pytest.mark.parametrize(
    ("name", "code"), [("new/2.json", 0), (".cache.json", 1), ("new/.x/2.json", 1)]
)
def test_the_workflow_takes_no_hidden_file(tmp_path: Path, name: str, code: int) -> None:
    workflow = Path(__file__).parent.parent / ".github/workflows/benchmarks.yml"
    steps = yaml.safe_load(workflow.read_text())["jobs"]["integrity"]["steps"]
    (step,) = [step for step in steps if "Only new files" in step.get("name", "")]
    for place in ("base", "head"):
        (tmp_path / place / "benchmarks").mkdir(parents=True)
        (tmp_path / place / "benchmarks" / "protocol.yml").write_text("x")
    for args in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        who = ["-c", "user.name=T", "-c", "user.email=t@example.org"]
        subprocess.run(["git", *who, *args], cwd=tmp_path / "base", check=True)
    new = tmp_path / "head" / "benchmarks" / name
    new.parent.mkdir(parents=True, exist_ok=True)
    new.write_text("{}")
    done = subprocess.run(
        ["bash", "-e", "-c", step["run"]], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert ("begins with a point" in done.stdout) is bool(code)


def test_rules_that_change_under_one_number_are_noticed(board: Path) -> None:
    assert len(rows_of()) == 2
    rules = Path("benchmarks/protocol.yml")
    before = set(cached()["ranks"])
    rules.write_text(rules.read_text().replace("margin: 0.02", "margin: 0.3"))
    assert len(rows_of()) == 2
    assert not before & set(list(cached()["ranks"])[-1:])
    # What was claimed by other rules is not what is recomputed.
    rules.write_text(rules.read_text().replace("final_episodes: 20", "final_episodes: 30"))
    assert rows_of() == []


def test_the_cache_keeps_what_is_asked_for_and_not_what_is_gone(board: Path) -> None:
    rows_of()
    rows_of("benchmarks", "--metric", "reward")
    rows_of("benchmarks", "--brain", "nothing")
    before = cached()
    assert len(before["ranks"]) == 2
    assert sum(map(len, cached(".cache-pairs.json")["pairs"].values())) == 2
    for args in ((), ("--metric", "reward"), ("static_maze/quantum",)):
        rows_of("benchmarks", *args)
    assert cached() == before
    doc = json.loads(entries()[0].read_text())
    for number in range(12):  # each is another text, and so another ranking
        entries()[0].write_text(json.dumps(doc) + "\n" * number)
        rows_of()
    assert len(cached()["ranks"]) == 1
    assert sum(map(len, cached(".cache-pairs.json")["pairs"].values())) == 1
    entries()[0].unlink()
    assert len(rows_of()) == 1
    assert len(cached()["ranks"]) == 1
    assert not any(cached(".cache-pairs.json")["pairs"].values())
