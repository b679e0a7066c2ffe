"""A submission put to the test: what each level finds, what it never runs, what is written down."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from attrs import evolve

import qn_tracking
from conftest import BIN, SMALL, command, version_1
from qn_tracking import Leaderboard
from qn_tracking.benchmark import aggregate, checkpoint, files, source, verifications, verify
from qn_tracking.benchmark.protocol import rulebook
from qn_tracking.errors import UnsupportedError, UsageError
from qn_tracking.records.codec import document
from qn_tracking.records.model import Episode, FrozenDict
from qn_tracking.records.submission import Checked, Contribution, Submission, Verification
from qn_tracking.reproduce import sandbox

ROOT = Path(__file__).parent.parent
GIT = (
    "git",
    "-c",
    "user.name=T",
    "-c",
    "user.email=t@example.org",
    "-c",
    "core.hooksPath=/dev/null",
)
# The code that is in the folder, as an editable installation of a clone would be.
PROGRAM = "from qn_tracking.cli.{0} import entry; entry()"
# Without bubblewrap such code is refused, unless that is wanted.
TRUST = ("--trust",) if sandbox.missing() is None else ("--trust", "--no-sandbox")
PLUGIN = "plugins: {'evil:Sink': }\n"
EVIL = """\
from qn_tracking import hookimpl
open(r'{0}', 'w').close()
class Sink:
    @hookimpl
    def run_end(self): pass
"""


def program(place: Path, name: str, *args: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(place / "src")}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(name), *args],
        cwd=place, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def commit(place: Path, text: str) -> str:
    subprocess.run([*GIT, "add", "."], cwd=place, check=True)
    subprocess.run([*GIT, "commit", "-qm", text], cwd=place, check=True)
    return subprocess.check_output([*GIT, "rev-parse", "HEAD"], cwd=place, text=True).strip()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of a project: its source, and a submission by Ada."""
    place = tmp_path_factory.mktemp("made")
    subprocess.run([*GIT, "init", "-q", "-b", "main", str(place)], check=True)
    source = Path(qn_tracking.__file__).parent
    shutil.copytree(source, place / "src/qn_tracking", ignore=shutil.ignore_patterns("__pycache__"))
    (place / "small.yml").write_text(SMALL)
    (place / "plugged.yml").write_text(SMALL.replace("max_steps: 30", "max_steps: 31") + PLUGIN)
    (place / ".gitignore").write_text("__pycache__/\n/experiments/\n/benchmarks/.*\n/evil.py\n")
    version_1(place)
    commit(place, "code")
    benchmark = ("--save-benchmark", "--benchmark-notes", "x", "--episodes", "50", "--jobs", "2")
    done = program(place, "run", "small.yml", "--seed", "1", *benchmark, "--contributor", "Ada")
    assert done.returncode == 0, done.stderr
    commit(place, "submission")
    subprocess.run([*GIT, "gc", "-q"], cwd=place, check=True)  # few files are soon copied
    return place


@pytest.fixture
def repo(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to stand in."""
    place = tmp_path / "repo"
    shutil.copytree(made, place, ignore=shutil.ignore_patterns("experiments", ".cache*"))
    monkeypatch.chdir(place)
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    (tmp_path / "gitconfig").write_text("[user]\n\tname = Tess\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    return place


@pytest.fixture
def best_of_many(repo: Path) -> None:
    """A submission by Mallory of the best 10 of 50 seeds."""
    place = repo
    done = program(place, "run", "small.yml", "--seed", "2", "--n-seeds", "50", "--episodes", "50",
                   "--jobs", "2", "--quiet", "--experiments-dir", "experiments/many")  # fmt: skip
    assert done.returncode == 0, done.stderr
    records = [json.loads(p.read_text()) for p in (place / "experiments/many").glob("*.json")]
    records.sort(key=lambda one: -one["results"]["final_success_rate"])
    best = [one["id"] for one in records[:10]]
    done = program(place, "bench", "submit", *best, "--contributor", "Mallory", "--yes",
                   "--experiments-dir", "experiments/many")  # fmt: skip
    assert done.returncode == 0, done.stderr
    commit(place, "best of many")


def entry(by: str = "Ada") -> Path:
    for path in Path("benchmarks").glob("static_maze/*/*.json"):
        if json.loads(path.read_text())["contribution"]["contributor"] == by:
            return path
    raise AssertionError(by)


def bench(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return command("qn-bench", *args, env=env)


def change(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    doc = json.loads(path.read_text())
    edit(doc)
    path.write_text(json.dumps(doc))


def records(id: str) -> list[dict[str, Any]]:
    found = sorted(Path("benchmarks/verifications", id).glob("*.json"))
    return [json.loads(path.read_text()) for path in found]


def statuses(*args: str) -> dict[str, list[str]]:
    done = bench("leaderboard", "static_maze/classical", "--json", *args)
    assert done.stderr == ""
    return {r["entry"]["id"]: r["status"] for one in json.loads(done.stdout) for r in one["rows"]}


def touched(repo: Path) -> list[str]:
    told = subprocess.check_output(["git", "status", "--porcelain"], cwd=repo, text=True)
    return told.split("\n")[:-1]


# ------------------------------------------------------------------------------------------- levels


def test_integrity_runs_nothing_and_writes_nothing(repo: Path) -> None:
    done = bench("verify", entry().stem)
    assert (done.returncode, done.stderr) == (0, "")
    assert "verified, level integrity" in done.stdout
    assert touched(repo) == []
    assert not Path("benchmarks/.verify").exists()


@pytest.mark.slow
def test_repeating_at_the_commit_earns_the_mark(repo: Path) -> None:
    path, witness = entry(), repo.parent / "hooked"
    before = path.read_bytes()
    hook = Path(".git/hooks/post-checkout")
    hook.write_text(f"#!/bin/sh\ntouch {witness}\n")
    hook.chmod(0o755)
    assert bench("verify", path.stem, "--repeat").returncode == 4
    done = bench("verify", path.stem, "--repeat", "--sample", "2", *TRUST)
    assert done.returncode == 0, done.stderr
    assert "2 of 10 runs: 2 bit-exact" in done.stdout
    said = "isolated by bubblewrap" if len(TRUST) == 1 else "warning: no isolation"
    assert said in done.stderr
    assert not witness.exists()
    assert path.read_bytes() == before
    (record,) = records(path.stem)
    assert (record["outcome"], record["level"], record["verifier"]) == (
        "verified",
        "repeat",
        "Tess",
    )
    assert record["commit"] == json.loads(before)["source"]["commit"]
    assert len(record["runs"]) == 2
    assert {one["agreement"] for one in record["runs"]} == {"exact"}
    assert touched(repo) == ["?? benchmarks/verifications/"]
    trees = subprocess.check_output(["git", "worktree", "list"], text=True)
    assert len(trees.splitlines()) == 1
    assert not list(Path("benchmarks/.verify").glob("*.json"))
    assert statuses()[path.stem] == ["verified 2 of 10 runs"]
    assert list(statuses("--verified")) == [path.stem]
    assert "Their claim: not signed" in bench("show", path.stem).stdout
    # Another text than the one that was verified.
    path.write_bytes(before + b"\n")
    assert statuses()[path.stem] == []
    assert statuses("--verified") == {}


@pytest.mark.slow
def test_the_best_of_many_seeds_repeat_and_do_not_replicate(repo: Path, best_of_many: None) -> None:
    path = entry("Mallory")
    options = ("--present-code", "--jobs", "2")
    done = bench("verify", path.stem, "--repeat", *options, "--json")
    assert done.returncode == 0, done.stderr
    assert {one["agreement"] for one in json.loads(done.stdout)["runs"]} == {"exact"}
    assert "verified" in statuses()[path.stem]
    done = bench("verify", path.stem, "--replicate", "--sample", "1", "-m", "10", *options)
    assert done.returncode == 1, done.stdout
    assert "10 runs of fresh seeds" in done.stderr
    assert "false alarm" in done.stdout
    assert "power" in done.stdout
    assert records(path.stem)[-1]["replication"]["accepted"] is False
    assert "disputed" in statuses()[path.stem]
    assert statuses("--verified") == {}
    fresh = [one["seed"] for one in records(path.stem)[-1]["runs"] if one["index"] is None]
    assert len(set(fresh)) == 10


@pytest.mark.slow
def test_who_verifies_their_own_submission_checks_themselves(repo: Path) -> None:
    done = bench("verify", entry().stem, "--repeat", "--sample", "1", "--present-code",
                 "--verifier", "ADA ")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "self-checked" in done.stdout
    assert statuses()[entry().stem] == ["self-checked 1 of 10 runs"]


def test_from_python_it_returns_what_the_command_prints(repo: Path) -> None:
    leaderboard = Leaderboard()
    report = leaderboard.verify(entry().stem)
    assert (report.outcome, report.level, report.errors, report.record) == (
        "verified", "integrity", (), None,
    )  # fmt: skip
    assert report.source is not None
    plan = leaderboard.verify(entry().stem, replicate=True, sample=2, fresh=3, dry_run=True)
    assert plan.outcome == "planned"
    assert plan.plan is not None
    assert (len(plan.plan.repeat), len(plan.plan.fresh)) == (2, 3)
    steps: list[tuple[int, int]] = []
    same = leaderboard.verify(
        entry().stem,
        repeat=True,
        sample=1,
        present_code=True,
        progress=lambda *step: steps.append(step),
    )
    assert same.outcome == "verified", same.reasons
    assert steps == [(0, 1), (1, 1)]
    assert [one.agreement for one in same.runs] == ["exact"]
    assert same.own is False
    assert same.record is not None
    stopped = leaderboard.verify(entry().stem, repeat=True, present_code=True, stop=lambda: True)
    assert stopped.outcome == "interrupted"
    with pytest.raises(UsageError, match="cannot be combined"):
        leaderboard.verify(entry().stem, repeat=True, trust=True, renew=True)


def test_only_runs_of_this_folder_and_of_these_versions_are_done(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A branch may bring a checkpoint in which all runs are done, and agree; and what was refused
    for its versions is run again with those that the submission was made with.
    """
    done: list[tuple[int, int]] = []

    def first_step(runs: int) -> tuple[int, int]:
        done.clear()
        report = Leaderboard().verify(
            entry().stem,
            repeat=True,
            sample=4,
            present_code=True,
            record=False,
            progress=lambda *now: done.append(now),
            stop=lambda: len(done) > runs,
        )
        assert report.outcome == "interrupted"
        return done[0]

    assert first_step(1) == (0, 4)
    some = done[-1]
    assert some[0] > 0
    assert first_step(0) == some  # it goes on where it was
    other = repo.parent / "other"
    (other / "numpy-0.1.dist-info").mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.syspath_prepend(str(other))
        assert first_step(1) == (0, 4)
    assert first_step(0) == (0, 4)
    shutil.copytree(repo, repo.parent / "branch")
    os.chdir(repo.parent / "branch")
    assert first_step(0) == (0, 4)


def flip(doc: dict[str, Any]) -> None:
    flags = doc["runs"][3]["episodes"]["success"]
    flags[7] = not flags[7]


def test_an_edited_episode_is_named(repo: Path) -> None:
    path = entry()
    change(path, flip)
    done = bench("verify", path.stem)
    assert done.returncode == 1
    assert "runs[3].digests.exact: is not that of its episodes [digest]" in done.stderr
    done = bench("verify", path.stem, "--repeat", "--present-code")
    assert done.returncode == 1
    assert "runs[3]: episode 7: success: submitted" in done.stderr
    assert "1 of 10 runs: 1 differ" in done.stdout
    assert records(path.stem) == []


def rewrite(path: Path, **others: Any) -> None:
    """Another episode, with digests and claims that fit it."""
    change(path, flip)
    benchmark = files.load(str(path)).submission
    runs = tuple(evolve(one, digests=aggregate.digests(one.episodes)) for one in benchmark.runs)
    claims = aggregate.aggregate(runs, rulebook().version(1))
    path.write_bytes(document(evolve(benchmark, runs=runs, aggregates=claims, **others)))


def test_a_submission_names_the_versions_that_it_was_made_with(repo: Path) -> None:
    path = entry()
    assert json.loads(path.read_text())["versions"]["numpy"] == version("numpy")
    row = next(line for line in bench("show", path.stem).stdout.splitlines() if "made with" in line)
    assert f"Python {platform.python_version()}, numpy {version('numpy')}" in row


OTHER = {"system": {"python": "3.99.1"}, "versions": {"numpy": "0.1", "evil": "1"}}


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ("system", "it was made with Python 3.99.1, here 3."),
        pytest.param("versions", "it was made with numpy 0.1, here ", marks=pytest.mark.slow),
    ],
)
def test_other_episodes_with_other_versions_are_no_evidence(
    repo: Path, other: str, said: str
) -> None:
    path = entry()
    rewrite(path, **{other: OTHER[other]})
    done = bench("verify", path.stem, "--repeat", "--present-code", "--jobs", "2")
    assert (done.returncode, done.stdout.split("\n")[0]) == (
        4,
        f"{path.stem}: refused, level repeat",
    )
    assert f"runs[3]: episode 7: success: submitted True, now False; {said}" in done.stderr
    assert "(run it with the versions that it was made with)" in done.stderr
    assert "evil" not in done.stderr
    assert records(path.stem) == []


@pytest.mark.slow
def test_equal_episodes_with_other_versions_verify(repo: Path) -> None:
    path = entry()
    change(path, lambda doc: doc.update(OTHER))
    done = bench("verify", path.stem, "--repeat", "--present-code", "--jobs", "2")
    assert done.returncode == 0, done.stderr
    assert [one["outcome"] for one in records(path.stem)] == ["verified"]


@pytest.mark.slow
@pytest.mark.parametrize("python", [None, "", "x", "three.twelve"])
def test_a_version_that_is_none_excuses_nothing(repo: Path, python: str | None) -> None:
    path = entry()
    rewrite(path, system={"python": python})
    done = bench("verify", path.stem, "--repeat", "--present-code", "--jobs", "2")
    assert done.returncode == 1
    assert records(path.stem)[0]["outcome"] == "mismatch"


@pytest.mark.slow
def test_whoever_edits_the_digests_as_well_is_found_by_repeating(repo: Path) -> None:
    path = entry()
    rewrite(path)
    assert bench("verify", path.stem).returncode == 0
    done = bench("verify", path.stem, "--repeat", "--present-code", "--jobs", "2", "--json")
    assert done.returncode == 1
    doc = json.loads(done.stdout)
    assert doc["reasons"][0].startswith("runs[3]: episode 7: success: submitted")
    assert records(path.stem)[0]["outcome"] == "mismatch"
    assert statuses()[path.stem] == ["disputed"]


def test_the_plan_and_its_cost(repo: Path) -> None:
    path = entry()
    done = bench("verify", str(path), "--replicate", "--sample", "4", "--dry-run", "--json")
    doc = json.loads(done.stdout)
    assert (done.returncode, doc["outcome"]) == (0, "planned")
    assert (len(doc["plan"]["repeat"]), len(doc["plan"]["fresh"])) == (4, 10)
    cpu = [one["cpu_seconds"] for one in json.loads(path.read_text())["runs"]]
    assert doc["cpu_seconds"] == pytest.approx(sum(cpu) / 10 * 14)
    done = bench("verify", path.stem, "--repeat", "--dry-run")
    assert "which needs --trust" in done.stdout
    assert touched(repo) == []


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["../x"], "no such file"),
        (["nope"], "no such submission (the newest: "),
        (["benchmarks/static_maze"], "no such file"),
        (["2", "--sample", "3"], "--sample needs"),
        (["2", "-m", "3"], "-m needs"),
        (["2", "--repeat", "--jobs", "0"], "--jobs 0"),
        (["2", "--repeat", "--trust", "--present-code"], "not allowed with"),
    ],
)
def test_usage(repo: Path, args: list[str], said: str) -> None:
    if args[0].endswith("static_maze"):
        said = "one submission at a time"
        args = [args[0] + "/"]
    done = bench("verify", *args)
    assert done.returncode == 2
    assert said in done.stderr


# ------------------------------------------------------------------------------------ made to cheat


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("--upload-pack=touch evil", "is not of its form"),
        ("HEAD", "is not of its form"),
        ("abcdef0", "is not of its form"),
        (None, "no commit is recorded"),
    ],
)
def test_a_commit_that_is_none_is_refused(repo: Path, value: str | None, said: str) -> None:
    path = entry()
    change(path, lambda doc: doc["source"].update(commit=value))
    done = bench("verify", path.stem, "--repeat", *TRUST)
    assert done.returncode == 4, done.stderr
    assert f"source.commit: {said}" in done.stderr
    assert not Path("evil").exists()
    assert records(path.stem) == []


@pytest.mark.slow
def test_code_that_no_commit_of_the_main_branch_has_is_refused(repo: Path) -> None:
    path = entry()
    world = Path("src/qn_tracking/nematode/world.py")
    subprocess.run([*GIT, "checkout", "-qb", "side"], check=True)
    before = world.read_text()
    world.write_text(before + "\n# another world\n")
    other = commit(repo, "not merged")
    subprocess.run([*GIT, "checkout", "-q", "main"], check=True)
    # The commit is on no protected branch, but main has the same code: a squash merge.
    change(path, lambda doc: doc["source"].update(commit=other))
    done = bench("verify", path.stem, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["provenance"]["squashed"] is True
    assert bench("verify", path.stem, "--repeat", "--sample", "1", *TRUST).returncode == 0
    # And the code is there only.
    git = source.git_around("benchmarks")
    digest = source.contents(git, other, {"qn_tracking.nematode": ""})["qn_tracking.nematode"]
    change(path, lambda doc: doc["code"][0].update(digest=digest))
    done = bench("verify", path.stem, "--repeat", *TRUST)
    assert done.returncode == 4
    assert "is not a commit of main, and none there has the same code" in done.stderr
    assert bench("verify", path.stem, "--main-branch", "side").returncode == 0
    assert bench("verify", path.stem, "--main-branch", "--all").returncode == 2
    assert bench("verify", path.stem, "--main-branch", "nope").returncode == 4
    done = bench("verify", path.stem, "--repeat", "--present-code", "--main-branch", "side")
    assert done.returncode == 4
    assert "the installed code is not that of the submission" in done.stderr


def test_without_a_repository(repo: Path) -> None:
    shutil.rmtree(".git")
    done = bench("verify", entry().stem)
    assert done.returncode == 4
    assert "no repository" in done.stderr


@pytest.mark.slow
def test_a_plugin_of_its_own_is_not_loaded(repo: Path) -> None:
    witness = repo.parent / "witness"
    Path("evil.py").write_text(EVIL.format(witness))
    done = program(repo, "run", "plugged.yml", "--seed", "1", "--save-benchmark", "--episodes", "50",
                   "--contributor", "Eve", "--benchmark-notes", "x")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert witness.exists()
    witness.unlink()
    path = entry("Eve")
    assert "evil:Sink" in json.loads(path.read_text())["text"]
    for code in ("--trust", "--present-code"):
        done = bench("verify", path.stem, "--repeat", "--sample", "1", code, "--no-record")
        assert done.returncode == 0, done.stderr
    assert not witness.exists()


@pytest.mark.parametrize("code", [[], [{"name": "json"}], [{"name": "../x", "digest": "d"}]])
def test_code_that_is_not_told_is_not_run(repo: Path, code: list[dict[str, str]]) -> None:
    change(entry(), lambda doc: doc.update(code=code))
    done = bench("verify", entry().stem, "--repeat", "--sample", "1", *TRUST)
    assert done.returncode == 4
    assert all(": code" in line for line in done.stderr.splitlines())


def test_code_that_is_kept_silent_about(repo: Path) -> None:
    from qn_tracking.code import source_digest

    digest = source_digest(str(repo / "src/qn_tracking/ids.py"))
    change(entry(), lambda doc: doc.update(code=[{"name": "qn_tracking.ids", "digest": digest}]))
    done = bench("verify", entry().stem, "--repeat", "--sample", "1", "--present-code")
    assert done.returncode == 4
    assert "is not the code of its subject" in done.stderr


def test_a_claim_of_being_verified_earns_nothing(repo: Path) -> None:
    change(entry(), lambda doc: doc.update(verified=True))
    done = bench("verify", entry().stem)
    assert done.returncode == 0
    assert "cannot say of itself" in done.stdout
    assert statuses()[entry().stem] == []


# ------------------------------------------------------------------------------------------- status


def repeated(benchmark: Submission, *indexes: int) -> tuple[Checked, ...]:
    """Runs of a submission, as a verification that found them the same has them."""
    return tuple(
        Checked(
            index=index,
            seed=benchmark.runs[index].seed,
            digests=benchmark.runs[index].digests,
            agreement="exact",
        )
        for index in indexes
    )


def verification(benchmark: Submission, text: str, **fields: Any) -> Verification:
    given: dict[str, Any] = {
        "id": "r1",
        "submission": benchmark.id,
        "sha256": text,
        "protocol": 1,
        "level": "repeat",
        "outcome": "verified",
        "verifier": "Bob",
        "created": "2026-01-01",
        "commit": "0" * 40,
        "code": ({"name": "p", "digest": "d"},),
        "runs": repeated(benchmark, 0),
    }
    return Verification(**{**given, **fields})


@pytest.mark.parametrize(
    ("found", "mark"),
    [
        ([], None),
        ([{}], "verified"),
        ([{"verifier": " ADA "}], "self-checked"),
        ([{"verifier": "x", "github": "Ada"}], "self-checked"),
        ([{"sha256": "other"}], None),
        ([{"level": "integrity"}], None),
        ([{"outcome": "refused"}], None),
        ([{"protocol": 2}], "verified"),
        ([{"protocol": 0}], "outdated"),
        ([{"code": ({"name": "p", "digest": "older"},)}], "outdated"),
        ([{"code": ({"name": "gone", "digest": "d"},)}], "verified"),
        ([{"code": ()}], "outdated"),
        ([{"runs": ()}], None),
        ([{"protocol": 0}, {"created": "2020"}], "verified"),
        ([{"protocol": 0}, {"verifier": "Ada"}], "outdated"),
        ([{"outcome": "mismatch"}], "disputed"),
        ([{"outcome": "mismatch"}, {"verifier": "Cy"}], "disputed"),
        ([{"outcome": "mismatch"}, {"created": "2027"}], "verified"),
        ([{"outcome": "mismatch"}, {"created": "2027", "github": "bob"}], "disputed"),
        ([{"outcome": "mismatch", "level": "replicate"}, {"created": "2027"}], "disputed"),
    ],
)
def test_the_mark_of_an_entry(made: Path, found: list[dict[str, Any]], mark: str | None) -> None:
    (first, *_) = sorted((made / "benchmarks").glob("static_maze/*/*.json"))
    benchmark = files.load(str(first)).submission
    given = [verification(benchmark, "sha", **{"id": f"r{i}", **f}) for i, f in enumerate(found)]
    now = {"p": "d"}.get
    found_status = verifications.status(
        Contribution(contributor="Ada"), "sha", given, 1, now, total=10
    )
    assert (found_status and found_status.status) == mark


@pytest.mark.slow
def test_what_is_outdated_tells_what_renews_it(repo: Path) -> None:
    loaded = files.load(str(entry()))
    older = tuple({**one, "digest": "0" * 64} for one in loaded.submission.code)
    for name, code in (("r1", loaded.submission.code), ("r2", older)):
        record = verification(
            loaded.submission,
            loaded.sha256,
            id=name,
            code=code,
            created=loaded.submission.created,
            commit=None,
            present=True,
            isolation="renewed",
        )
        verifications.save("benchmarks", record)
        if name == "r1":
            assert bench("outdated").stdout == "no verification is out of date\n"
            assert statuses()[entry().stem] == ["verified 1 of 10 runs"]
            Path(f"benchmarks/verifications/{entry().stem}/r1.json").unlink()
    assert statuses()[entry().stem] == ["outdated"]
    done = bench("outdated", "--json")
    (one,) = json.loads(done.stdout)
    assert one["verification"]["why"] == ["qn_tracking.nematode has changed"]
    assert one["command"] == f"qn-bench verify {entry().stem} --repeat --present-code"
    assert one["command"] in bench("outdated").stdout


@pytest.mark.slow
@pytest.mark.parametrize("holds", [True, False])
def test_code_that_has_moved_on_renews_what_still_holds(
    repo: Path, tmp_path: Path, holds: bool
) -> None:
    id = entry().stem
    assert bench("verify", id, "--repeat", "--present-code").returncode == 0
    moved = tmp_path / "moved"
    shutil.copytree(Path(qn_tracking.__file__).parent, moved / "qn_tracking")
    world = moved / "qn_tracking/nematode/world.py"
    text = world.read_text()
    world.write_text(text + "# moved on\n" if holds else text.replace("tanh(", "0.9 * tanh(", 1))
    assert holds or world.read_text() != text
    env = {"PYTHONPATH": str(moved)}
    (one,) = json.loads(bench("outdated", "--json", **env).stdout)
    assert one["command"] == f"qn-bench verify {id} --repeat --renew"
    assert bench("verify", id, "--repeat", "--present-code", **env).returncode == 4
    done = bench("verify", id, "--repeat", "--renew", **env)
    board = json.loads(bench("leaderboard", "--json", **env).stdout)
    found = {row["entry"]["id"]: row["status"] for one in board for row in one["rows"]}
    if holds:
        assert done.returncode == 0, done.stderr
        assert "10 bit-exact" in done.stdout
        assert found[id] == ["verified"]
        assert records(id)[-1]["present"] is True
        assert bench("outdated", **env).stdout == "no verification is out of date\n"
    else:
        assert done.returncode == 1
        assert "the installed code gives other episodes; it stays outdated" in done.stderr
        # Nothing is held against the submission.
        assert found[id] == ["outdated"]
        assert len(records(id)) == 1


def test_a_verification_that_cannot_be_read_hides_nothing(repo: Path) -> None:
    folder = Path("benchmarks/verifications", entry().stem)
    folder.mkdir(parents=True)
    (folder / "broken.json").write_text("{")
    done = bench("leaderboard", "--json")
    assert done.returncode == 0
    assert "broken.json" in done.stderr
    assert bench("validate").returncode == 1


# ------------------------------------------------------------------------------------ by the parts


def episodes_of(benchmark: Submission, index: int) -> list[Episode]:
    of = benchmark.runs[index].episodes
    return [
        Episode(
            index=i,
            seed=of.seed[i],
            success=of.success[i],
            termination=of.termination[i],
            steps=of.steps[i],
            reward=of.reward[i],
            counts=FrozenDict({k: c[i] for k, c in of.counts.items() if c[i] is not None}),
            metrics=FrozenDict({k: c[i] for k, c in of.metrics.items() if c[i] is not None}),
        )
        for i in range(len(of.success))
    ]


@pytest.fixture(scope="module")
def benchmark(made: Path) -> Submission:
    (first, *_) = sorted((made / "benchmarks").glob("static_maze/*/*.json"))
    return files.load(str(first)).submission


def test_rounding_is_another_machine_and_a_figure_is_not(benchmark: Submission) -> None:
    told = episodes_of(benchmark, 0)
    same = verify.check(benchmark, 0, 1, told, rulebook().version(1))
    assert (same.agreement, same.difference) == ("exact", None)
    for factor, agreement in ((1 + 1e-12, "outcome"), (1.01, "none")):
        reward: Any = (told[4].reward or 0.0) * factor
        found = [*told[:4], evolve(told[4], reward=reward), *told[5:]]
        one = verify.check(benchmark, 0, 1, found, rulebook().version(1))
        assert one.agreement == agreement
        assert one.difference is not None
        assert one.difference.startswith("episode 4: reward: submitted")
        assert bool(verify.reasons(benchmark, [one], another_machine=True)) is (agreement == "none")
        assert verify.reasons(benchmark, [one], another_machine=False)
    short = verify.check(benchmark, 0, 1, told[:-1], rulebook().version(1))
    assert (short.agreement, short.difference) == (
        "none",
        "50 episodes were submitted, 49 came out",
    )


def test_what_was_interrupted_goes_on(benchmark: Submission, tmp_path: Path) -> None:
    plan = verify.make_plan(benchmark, repeat=True, sample=4, fresh=2)
    path = checkpoint.path_of(str(tmp_path), benchmark.id)
    ran: list[int] = []

    def run(seed: int) -> verify.Rerun:
        if len(ran) == stop:
            raise UnsupportedError("power cut")
        ran.append(seed)
        seeds = [one.seed for one in benchmark.runs]
        told = episodes_of(benchmark, seeds.index(seed) if seed in seeds else 0)
        return verify.Rerun(episodes=told, cpu_seconds=0.5)

    def execute(plan: checkpoint.Plan) -> checkpoint.Checkpoint:
        kept = checkpoint.resume(path, ("key",), plan)
        save = lambda now: checkpoint.save(path, now)  # noqa: E731
        protocol = rulebook().version(1)
        return verify.execute(benchmark, kept, run, protocol=protocol, jobs=1, finished=save)

    stop = 3
    with pytest.raises(UnsupportedError, match="power cut"):
        execute(plan)
    assert len(ran) == 3
    stop = 99
    # The plan is that of the beginning, though another one was drawn.
    kept = execute(verify.make_plan(benchmark, repeat=True, sample=4, fresh=2))
    assert kept.plan == plan
    assert sorted(ran) == sorted(one.seed for one in kept.done)
    assert len(set(ran)) == 6
    assert {one.cpu_seconds for one in kept.done} == {0.5}
    assert checkpoint.resume(path, ("another",), plan).done == ()
    with checkpoint.locked(path), pytest.raises(UsageError), checkpoint.locked(path):
        pass


@pytest.mark.slow
def test_a_signal_ends_after_the_runs_that_run(repo: Path) -> None:
    path = entry()
    command = [
        str(BIN / "qn-bench"),
        "verify",
        path.stem,
        "--replicate",
        "-m",
        "40",
        "--present-code",
    ]
    # Its standard error says that it runs; then some runs are done.
    kept = Path("benchmarks/.verify", f"{path.stem}.json")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as running:
        while not kept.exists() and running.poll() is None:
            time.sleep(0.02)
        running.send_signal(signal.SIGTERM)
        assert running.stderr is not None
        said = running.stderr.read().decode()
    assert running.returncode == 128 + signal.SIGTERM
    assert "the same command continues" in said
    done = len(json.loads(kept.read_text())["done"])
    assert 0 < done < 50
    assert touched(repo) == []


def test_a_sample_is_of_the_runs_and_fresh_seeds_are_not(benchmark: Submission) -> None:
    told = {one.seed for one in benchmark.runs}
    plans = [verify.make_plan(benchmark, repeat=True, sample=3, fresh=5) for _ in range(20)]
    assert len({plan.repeat for plan in plans}) > 5
    assert not {seed for plan in plans for seed in plan.fresh} & told
    with pytest.raises(UsageError, match="expected 1 to 10"):
        verify.make_plan(benchmark, repeat=True, sample=11, fresh=0)


def test_the_digest_of_a_package_in_a_commit_is_that_of_its_folder(repo: Path) -> None:
    from qn_tracking.code import source_digest

    git = source.git_around(".")
    head = git("rev-parse", "HEAD").strip()
    wanted = dict.fromkeys(("qn_tracking.nematode", "qn_tracking.ids", "nowhere"), "")
    assert source.contents(git, head, wanted) == {
        "qn_tracking.nematode": source_digest("src/qn_tracking/nematode"),
        "qn_tracking.ids": source_digest("src/qn_tracking/ids.py"),
    }
    found = source.trace(files.load(str(entry())).submission, git)
    assert found.roots == ("src",)


# --------------------------------------------------------------------------------------- signatures


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")
def test_signatures(repo: Path) -> None:
    for name in ("ada", "eve"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", name], check=True)
    public = Path("ada.pub").read_text().split()
    Path("allowed").write_text(f'ada@example.org namespaces="qn-tracking" {" ".join(public[:2])}\n')
    path = entry()
    check = ("--allowed-signers", "allowed")
    done = bench("verify", path.stem, *check)
    assert (done.returncode, "is not signed" in done.stderr) == (4, True)
    done = bench("sign", path.stem, "--key", "ada")
    assert done.returncode == 0, done.stderr
    assert Path(f"benchmarks/signatures/{path.stem}.sig").exists()
    done = bench("verify", path.stem, *check)
    assert done.returncode == 0, done.stderr
    assert "ada@example.org" in done.stdout
    assert "not checked (--allowed-signers)" in bench("show", path.stem).stdout
    assert "of ada@example.org" in bench("show", path.stem, *check).stdout
    assert bench("sign", path.stem, "--key", "ada").returncode == 3
    # Of another text.
    path.write_text(path.read_text() + "\n")
    done = bench("verify", path.stem, *check)
    assert (done.returncode, "of another text" in done.stderr) == (1, True)
    # By nobody who may.
    Path(f"benchmarks/signatures/{path.stem}.sig").unlink()
    assert bench("sign", path.stem, "--key", "eve").returncode == 0
    done = bench("verify", path.stem, *check)
    assert (done.returncode, "not signed by an allowed signer" in done.stderr) == (1, True)
    assert "does not hold" in bench("show", path.stem, *check).stdout
    assert bench("sign", path.stem, "--key", "nope").returncode == 4
    # A verification can be signed as well.
    loaded = files.load(str(path))
    record = verification(
        loaded.submission,
        loaded.sha256,
        code=loaded.submission.code,
        created=loaded.submission.created,
    )
    name = verifications.save("benchmarks", record)
    assert bench("sign", name, "--key", "ada").returncode == 0
    assert "Their claim: signature of ada@example.org" in bench("show", path.stem, *check).stdout


def test_without_ssh_keygen(repo: Path) -> None:
    git = Path(shutil.which("git") or "")
    (repo.parent / "bin").mkdir()
    (repo.parent / "bin/git").symlink_to(git)
    done = bench("sign", entry().stem, "--key", "x", PATH=str(repo.parent / "bin"))
    assert done.returncode == 4
    assert "ssh-keygen: is not installed" in done.stderr


# --------------------------------------------------------------------------------------------- CI


def test_the_workflow_may_only_read_and_takes_no_text_of_a_stranger() -> None:
    text = (ROOT / ".github/workflows/benchmarks.yml").read_text()
    doc = yaml.safe_load(text)
    triggers = doc[True]  # YAML 1.1 reads `on` so
    assert set(triggers) == {"pull_request"}
    assert doc["permissions"] == {"contents": "read"}
    for job in doc["jobs"].values():
        assert "permissions" not in job
        for step in job["steps"]:
            assert "${{" not in step.get("run", "")
            if "checkout" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False
    assert "--trust" not in text
    assert "secrets." not in text


def test_a_verification_reads_back(benchmark: Submission, tmp_path: Path) -> None:
    record = verification(benchmark, "s", reasons=("a",), system={"cpu": "x"})
    name = verifications.save(str(tmp_path), record)
    assert verifications.load(name)[0] == record
