"""Forgeries made by ourselves: which level catches each, and what none can catch."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, strategies as st

import forgeries
import qn_tracking
from conftest import SMALL, version_1
from forgeries import COMMITS, NOTHING, RECORDS, RULES, RUNS, Forgery, Record
from qn_tracking import Leaderboard, hookimpl
from qn_tracking.api.board import validators
from qn_tracking.benchmark import crossing, files, verify
from qn_tracking.benchmark.crossing import imprint_of
from qn_tracking.benchmark.protocol import rulebook
from qn_tracking.errors import QnError, UsageError
from qn_tracking.records.codec import plain
from qn_tracking.records.model import Digests
from qn_tracking.records.submission import Checked, Columns, Verification

GIT = ("git", "-c", "user.name=T", "-c", "user.email=t@example.org")
PROGRAM = "from qn_tracking.cli.run import entry; entry()"


def commit(place: Path, text: str) -> str:
    subprocess.run([*GIT, "add", "."], cwd=place, check=True)
    subprocess.run([*GIT, "commit", "-qm", text], cwd=place, check=True)
    return subprocess.check_output([*GIT, "rev-parse", "HEAD"], cwd=place, text=True).strip()


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A project with an honest submission by Ada, and the hashes of its first two commits."""
    place = tmp_path_factory.mktemp("honest")
    subprocess.run([*GIT, "init", "-q", "--template=", "-b", "main", str(place)], check=True)
    (place / "small.yml").write_text(SMALL)
    (place / ".gitignore").write_text("__pycache__/\n/experiments/\n/benchmarks/.*\n")
    hashes = {"first": commit(place, "no code yet")}
    source, here = Path(qn_tracking.__file__).parent, place / "src/qn_tracking"
    shutil.copytree(source, here, ignore=shutil.ignore_patterns("__pycache__"))
    world = here / "nematode/world.py"
    text = world.read_text()
    world.write_text(text + "# older\n")
    hashes["older"] = commit(place, "older code")
    world.write_text(text)
    commit(place, "code")
    version_1(place)  # where any task is ranked
    subprocess.run(
        [sys.executable, "-c", PROGRAM, "small.yml", "--seed", "1", "--save-benchmark",
         "--benchmark-notes", "x", "--episodes", "50", "--jobs", "2", "--contributor", "Ada"],
        cwd=place, env={**os.environ, "PYTHONPATH": str(place / "src")}, check=True,
        capture_output=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    commit(place, "submission")
    subprocess.run([*GIT, "gc", "-q"], cwd=place, check=True)  # few files are soon copied
    return place, hashes


@pytest.fixture
def project(
    honest: tuple[Path, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A copy of it, to stand in."""
    place = tmp_path / "project"
    shutil.copytree(
        honest[0], place, ignore=shutil.ignore_patterns("experiments", "src", ".cache*")
    )
    monkeypatch.chdir(place)
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    return place


def ada() -> Path:
    (path,) = Path("benchmarks/static_maze/classical").glob("2*.json")
    return path


def forge(one: Forgery, hashes: dict[str, str]) -> Path:
    """Writes the forged file, over the honest one or beside it."""
    path = ada()
    doc = json.loads(path.read_text())
    one.edit(doc)
    text = json.dumps(doc)
    for name, value in hashes.items():
        text = text.replace("{" + name + "}", value)
    if one.place is not None:
        path = Path("benchmarks", one.place.format(id=path.stem))
        path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def errors(board: Leaderboard) -> dict[str, list[str]]:
    """The errors of `validate` by file."""
    return {
        os.path.normpath(report.path): [
            f"{one.field}: {one.message}" for one in report.findings if one.level == "error"
        ]
        for report in board.validate()
        if not report.valid
    }


def ranked(board: Leaderboard) -> set[str]:
    """The files that are on the leaderboard."""
    return {os.path.join("benchmarks", row.entry.path) for row in board.entries()}


def cases(group: list[Any]) -> Callable[..., Any]:
    return pytest.mark.parametrize("one", group, ids=[one.what for one in group])


def quiet() -> Leaderboard:
    return Leaderboard(warn=lambda text: None)


# -------------------------------------------------------------------------------------- submissions


@cases(RULES)
def test_the_rules_refuse_it(
    honest: tuple[Path, dict[str, str]], project: Path, one: Forgery
) -> None:
    path = forge(one, honest[1])
    found = errors(quiet())
    assert any(one.said in text for text in found.get(str(path), [])), found


@pytest.mark.slow
@cases(RULES)
def test_what_the_rules_refuse_is_refused_everywhere(
    honest: tuple[Path, dict[str, str]], project: Path, one: Forgery
) -> None:
    path, board = forge(one, honest[1]), quiet()
    found = errors(board)
    assert ranked(board).isdisjoint({str(path)})
    # What is refused is refused whichever question is asked, and from a cache, too.
    assert ranked(board).isdisjoint(found)
    try:
        report = board.verify(str(path))
    except QnError:
        return  # it cannot even be read
    assert report.outcome in ("mismatch", "refused")


@cases(COMMITS)
def test_its_commit_contradicts_it(
    honest: tuple[Path, dict[str, str]], project: Path, one: Forgery
) -> None:
    path, board = forge(one, honest[1]), quiet()
    assert errors(board) == {}
    report = board.verify(str(path))
    assert report.outcome in ("mismatch", "refused")
    assert any(one.said in reason for reason in report.reasons), report.reasons


@pytest.mark.slow
@cases(RUNS)
def test_only_another_execution_contradicts_it(
    honest: tuple[Path, dict[str, str]], project: Path, one: Forgery
) -> None:
    path, board = forge(one, honest[1]), quiet()
    assert errors(board) == {}
    assert board.verify(str(path)).outcome == "verified"
    report = board.verify(str(path), repeat=True, sample=1, present_code=True, verifier="Bob")
    assert report.outcome == "mismatch"
    assert any(one.said in reason for reason in report.reasons), report.reasons
    (row,) = board.entries()
    assert "disputed" in row.status


@cases(NOTHING)
def test_nothing_contradicts_it(
    honest: tuple[Path, dict[str, str]], project: Path, one: Forgery
) -> None:
    before = imprint_of(files.load(str(ada())).submission)
    path, board = forge(one, honest[1]), quiet()
    assert errors(board) == {}
    assert ranked(board) == {str(path)}
    assert board.verify(str(path)).outcome == "verified"
    # Whoever runs it again gets these episodes.
    assert imprint_of(files.load(str(path)).submission) == before


def test_an_honest_one_stands_beside_a_forged_one_that_is_wrong_by_itself(project: Path) -> None:
    path, doc = ada(), json.loads(ada().read_text())
    doc.update(id=forgeries.COPY, aggregates={})
    (path.parent / f"{forgeries.COPY}.json").write_text(json.dumps(doc))
    assert ranked(quiet()) == {str(path)}


def test_a_copy_is_in_no_comparison_and_not_submitted(project: Path) -> None:
    doc = json.loads(ada().read_text())
    doc["id"] = forgeries.COPY
    copy = ada().parent / f"{forgeries.COPY}.json"
    original = ada().stem
    copy.write_text(json.dumps(doc))
    with pytest.raises(UsageError, match="no such submission"):
        quiet().compare(original, forgeries.COPY)
    quiet().regenerate()
    assert forgeries.COPY not in Path("BENCHMARKS.md").read_text()
    # The same file somewhere else is no copy of itself.
    copy.unlink()
    other = Path(ada().name)
    shutil.copy(ada(), other)
    (report,) = quiet().validate([str(other)])
    assert report.valid, report.findings
    doc["id"] = "another"
    Path("another.json").write_text(json.dumps(doc))
    (report,) = quiet().validate(["another.json"])
    assert "10 are those of" in report.findings[0].message


def test_an_id_of_two_files_names_both(project: Path) -> None:
    other = Path("benchmarks/dynamic_small/classical", ada().name)
    other.parent.mkdir(parents=True)
    shutil.copy(ada(), other)
    with pytest.raises(UsageError, match="is the id of two files"):
        quiet().stored(ada().stem)


def test_a_validator_that_looks_at_others_is_asked_each_time(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its findings are of more than the file, and so no cache has them."""
    asked: list[int] = []

    class Curious:
        @hookimpl
        def check_benchmark(self, benchmark: Any, others: Any) -> tuple[Any, ...]:
            asked.append(len(others))
            return ()

    def with_curious(config: Any) -> Any:
        manager = validators(config)
        manager.register(Curious(), name="curious")
        return manager

    monkeypatch.setattr("qn_tracking.api.leaderboard.validators", with_curious)
    for _ in range(2):
        assert len(quiet().entries()) == 1
    assert asked == [0, 0]


columns = st.builds(
    lambda steps: Columns(
        seed=(None,) * len(steps),
        success=tuple(step < 8 for step in steps),
        termination=("x",) * len(steps),
        steps=tuple(steps),
        reward=(0.0,) * len(steps),
    ),
    st.lists(st.integers(0, 9), max_size=40),
)


@given(columns)
def test_the_information_in_a_run_is_what_its_outcomes_leave_open(of: Columns) -> None:
    found = crossing.bits(of)
    assert -1e-9 <= found <= len(of.steps) * math.log2(max(len(set(of.steps)), 1)) + 1e-9
    assert (abs(found) < 1e-9) is (len(set(of.steps)) <= 1)


@given(st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4), max_size=6))
def test_the_index_finds_exactly_what_two_files_share(runs: list[list[str]]) -> None:
    index = crossing.Index()
    imprints = [
        {"id": f"i{n}", "protocol": 2, "config": "c", "seeds": [0] * len(own), "exact": own,
         "outcome": [None] * len(own)}
        for n, own in enumerate(runs)
    ]  # fmt: skip
    for n, imprint in enumerate(imprints):
        index.add(f"f{n}", imprint)
    for n, imprint in enumerate(imprints):
        others = {key for m, own in enumerate(runs) if m != n for key in own}
        found = index.findings(f"f{n}", imprint)
        assert bool(found) is bool(others & set(runs[n]))
        assert {rule for rule, _, _ in found} <= {"duplicate"}


# ------------------------------------------------------------------------------------ verifications


def verification(**fields: Any) -> dict[str, Any]:
    """An honest verification of Ada's submission by Bob: all runs again, ten new ones."""
    stored = files.load(str(ada()))
    submission = stored.submission
    protocol = rulebook("benchmarks").version(submission.protocol)
    again = [
        Checked(index=i, seed=run.seed, digests=run.digests, agreement="exact")
        for i, run in enumerate(submission.runs)
    ]
    fresh = [
        Checked(
            seed=1000 + i,
            digests=Digests(exact=f"{i:064x}", outcome=f"{i:064x}"),
            successes=20 - i % 3,
            episodes=20,
        )
        for i in range(10)
    ]
    record = Verification(
        id="20300101T000000Z-11111111",
        submission=submission.id,
        sha256=stored.sha256,
        protocol=1,
        level="replicate",
        outcome="verified",
        verifier="Bob",
        created=submission.created.replace("Z", "1Z"),
        present=True,
        isolation="installed code",
        code=tuple({"name": c["name"], "digest": c["digest"]} for c in submission.code),
        runs=(*again, *fresh),
        replication=verify.replication(submission, fresh, protocol),
    )
    return {**plain(record), **fields}


def write(doc: dict[str, Any]) -> Path:
    path = Path("benchmarks/verifications", doc["submission"], f"{doc['id']}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(doc))
    return path


def repeated(*indexes: int, **fields: Any) -> dict[str, Any]:
    """A verification of some runs only."""
    doc = verification(level="repeat", replication=None)
    doc["runs"] = [one for one in doc["runs"] if one["index"] in indexes]
    return {**doc, **fields}


def disputing(**fields: Any) -> dict[str, Any]:
    """A verification in which a run differs."""
    doc = repeated(0, outcome="mismatch", reasons=["runs[0]: episode 0: steps"])
    doc["runs"][0].update(agreement="none", difference="episode 0: steps: submitted 5, now 6",
                          digests={"exact": "e" * 64, "outcome": "f" * 64})  # fmt: skip
    return {**doc, **fields}


def status(board: Leaderboard | None = None) -> tuple[str, ...]:
    (row,) = (board or quiet()).entries()
    return tuple(row.status)


def test_an_honest_verification_counts(project: Path) -> None:
    write(verification())
    assert errors(quiet()) == {}
    assert status() == ("verified",)


@cases(RECORDS)
def test_a_forged_verification_counts_for_nothing(project: Path, one: Record) -> None:
    doc = verification()
    one.edit(doc)
    path = write(doc)
    (found,) = errors(quiet()).items()
    assert found[0] == str(path)
    assert any(text.startswith(f"{one.said}") for text in found[1]), found


@pytest.mark.slow
@cases(RECORDS)
def test_a_forged_verification_counts_for_nothing_everywhere(project: Path, one: Record) -> None:
    doc = verification()
    one.edit(doc)
    path = write(doc)
    assert status() == ()
    (report,) = quiet().validate([str(path)])
    assert not report.valid


def test_seconds_of_a_verification_may_be_any(project: Path) -> None:
    """Their mean is a number, however large they are."""
    doc = verification()
    for one in doc["runs"]:
        one["cpu_seconds"] = 1.7e308
    write(doc)
    quiet().regenerate()
    assert status() == ("verified",)


def test_a_forged_verification_of_nothing_is_named(project: Path) -> None:
    path = write(verification(submission="20300101T000000Z-22222222"))
    assert errors(quiet())[str(path)] == ["submission: there is no such submission"]


def test_a_verification_that_copies_the_digests_is_believed(project: Path) -> None:
    """Named in docs/verify.md: who did not execute anything can say so only to who asks."""
    write(repeated(0, 1))
    assert errors(quiet()) == {}
    assert status() == ("verified 2 of 10 runs",)


@pytest.mark.parametrize(
    ("share", "indexes", "expected"),
    [
        (0.0, [(0,)], "verified 1 of 10 runs"),
        (0.2, [(0,)], "sampled 1 of 10 runs"),
        (0.2, [(0,), (0,)], "sampled 1 of 10 runs"),
        (0.2, [(0,), (5,)], "verified 2 of 10 runs"),
        (1.0, [range(9)], "sampled 9 of 10 runs"),
        (1.0, [range(9), (9,)], "verified"),
    ],
)
def test_verified_needs_the_share_of_the_protocol(
    project: Path, share: float, indexes: list[Any], expected: str
) -> None:
    rules = Path("benchmarks/protocol.yml")
    text = rules.read_text().replace(
        "  - version: 1\n", f"  - version: 1\n    verified_share: {share}\n"
    )
    rules.write_text(text)
    for number, some in enumerate(indexes):
        write(repeated(*some, id=f"r{number}", verifier=f"V{number}"))
    assert status() == (expected,)
    assert len(quiet().entries(verified=True)) == (expected.startswith("verified"))


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ({"verifier": "ADA"}, "self-checked"),
        ({"verifier": "\u0410\u0501\u0430"}, "self-checked"),  # all Cyrillic, and looks like Ada
        ({"verifier": "Ad\u00e1"}, "self-checked"),
        ({"verifier": "Bob", "github": "ada"}, "self-checked"),
        ({"verifier": "Bob"}, "verified"),
    ],
)  # fmt: skip
def test_who_looks_like_the_contributor_is_the_contributor(
    project: Path, by: dict[str, str], expected: str
) -> None:
    write(verification(**by))
    assert status() == (expected,)


# ----------------------------------------------------------------------------------------- disputes

LATER = "2026-12-31T00:00:00Z"


def later(**fields: Any) -> dict[str, Any]:
    created = verification()["created"].replace("1Z", "2Z")
    return repeated(0, id="r2", created=created, **fields)


@pytest.mark.parametrize(
    ("by", "lifted"),
    [
        ({"verifier": "Bob"}, True),
        ({"verifier": " bob"}, True),
        ({"verifier": "B\u00f3b"}, False),
        ({"verifier": "Bob", "github": "bob"}, False),
        ({"verifier": "Ada"}, False),
        ({"verifier": "Cy"}, False),
    ],
)
def test_a_dispute_is_lifted_by_its_author_only(
    project: Path, by: dict[str, str], lifted: bool
) -> None:
    write(disputing(id="r1"))
    assert status() == ("disputed",)
    write(later(**by))
    assert status() == (("verified 1 of 10 runs",) if lifted else ("disputed",))


needs_keys = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs ssh-keygen")


def key(name: str) -> str:
    """A new key; the line of a file of allowed signers."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", name], check=True)
    public = " ".join(Path(f"{name}.pub").read_text().split()[:2])
    return f'{name}@example.org namespaces="qn-tracking" {public}\n'


@needs_keys
def test_a_signed_dispute_is_lifted_by_the_same_key_only(project: Path) -> None:
    board = quiet()
    for name in ("bob", "eve"):
        key(name)
    board.sign(str(write(disputing(id="r1"))), "bob")
    path = write(later())
    assert status() == ("disputed",)  # the name alone is a claim
    board.sign(str(path), "eve")
    assert status() == ("disputed",)
    Path("benchmarks/signatures/r2.sig").unlink()
    board.sign(str(path), "bob")
    assert status() == ("verified 1 of 10 runs",)


@needs_keys
def test_a_name_that_has_a_key_must_use_it(project: Path) -> None:
    key("bob")
    quiet().sign(str(write(repeated(3, id="r0"))), "bob")
    write(disputing(id="r1"))
    write(later())
    assert status() == ("disputed",)


@needs_keys
def test_a_maintainer_lifts_a_dispute_by_a_signature(project: Path) -> None:
    write(disputing(id="r1"))
    path = write(later(verifier="Mo"))
    allowed = key("mo")
    quiet().sign(str(path), "mo")
    assert status() == ("disputed",)
    Path("benchmarks/maintainers").write_text(allowed)
    assert status() == ("verified 1 of 10 runs",)
    assert errors(quiet()) == {}


@needs_keys
@pytest.mark.parametrize("of", ["submission", "verification"])
def test_a_signature_is_of_one_file_and_not_of_all_with_its_id(project: Path, of: str) -> None:
    """A verification that takes the id of what a maintainer signed is not signed by that."""
    Path("benchmarks/maintainers").write_text(key("mo"))
    write(disputing(id="r1"))
    if of == "submission":
        quiet().sign(ada().stem, "mo")
        id = ada().stem
    else:
        signed = write(repeated(1, id="r2", verifier="Mo"))
        quiet().sign(str(signed), "mo")
        signed.unlink()  # of another submission, for instance
        id = signed.stem
    write({**later(verifier="Mo"), "id": id})
    assert status() == ("disputed",)
    assert errors(quiet())


@needs_keys
def test_who_signs_by_the_name_of_another_lifts_nothing(project: Path) -> None:
    board = quiet()
    for name in ("bob", "eve"):
        key(name)
    board.sign(str(write(repeated(3, id="r0"))), "bob")
    write(disputing(id="r1"))
    board.sign(str(write(later())), "eve")
    assert status() == ("disputed",)


@pytest.mark.parametrize("what", ["a folder", "a link", "a FIFO", "too large"])
def test_a_signature_that_is_no_file_hides_nothing(project: Path, what: str) -> None:
    """Neither the dispute that it is of, nor the rest of the board."""
    write(disputing(id="r1"))
    folder = Path("benchmarks/signatures")
    folder.mkdir()
    for id in ("r1", ada().stem):
        path = folder / f"{id}.sig"
        match what:
            case "a folder":
                path.mkdir()
            case "a link":
                path.symlink_to(ada().resolve())
            case "a FIFO":
                os.mkfifo(path)
            case _:
                path.write_bytes(bytes((1 << 20) + 1))
    assert status() == ("disputed",)
    assert len(errors(quiet())) == 2


@needs_keys
@pytest.mark.parametrize("what", ["a link", "a FIFO"])
def test_maintainers_are_listed_in_a_file_of_this_folder(project: Path, what: str) -> None:
    write(disputing(id="r1"))
    Path("list").write_text(key("mo"))
    quiet().sign(str(write(later(verifier="Mo"))), "mo")
    path = Path("benchmarks/maintainers")
    if what == "a FIFO":
        os.mkfifo(path)
    else:
        path.symlink_to(Path("list").resolve())
    said: list[str] = []
    assert status(Leaderboard(warn=said.append)) == ("disputed",)
    assert any(f"benchmarks/maintainers: is {what}" in text for text in said)


@needs_keys
def test_who_is_who_is_by_key(project: Path) -> None:
    board = quiet()
    key("ada")
    board.sign(ada().stem, "ada")
    path = write(verification())
    assert status() == ("verified",)
    board.sign(str(path), "ada")
    assert status() == ("self-checked",)
    found = errors(board)
    assert list(found) == [f"benchmarks/signatures/{path.stem}.sig"] or len(found) == 2
    assert all("the key signed for another name" in text for one in found.values() for text in one)


@needs_keys
@pytest.mark.parametrize("how", ["other text", "no record"])
def test_a_signature_of_something_else_is_refused(project: Path, how: str) -> None:
    key("bob")
    path = write(verification())
    quiet().sign(str(path), "bob")
    if how == "other text":
        path.write_text(path.read_text() + "\n")
    else:
        path.unlink()
    (found,) = errors(quiet()).values()
    assert "of another text" in found[0] or "no such submission or verification" in found[0]


# -------------------------------------------------------------------------------------------- pages


@pytest.mark.parametrize(
    ("field", "text", "never"),
    [
        ("contributor", "evil@example.org", "&#64;e"),
        ("notes", "xmpp:evil@example.org/x", "&#64;e"),
        ("notes", "see https://example.org and www.example.org", "://"),
        ("notes", "[x](https://example.org) <b> @all", "]("),
        ("remote", "https://example.org/a/b", "](https"),
        ("remote", "https://github.com/a/b/c", "](https"),
        ("remote", "https://github.com.example.org/a/b", "](https"),
        ("remote", "git@github.com:a/b", "](https"),
    ],
)
def test_nothing_of_a_contributor_becomes_a_link(
    project: Path, field: str, text: str, never: str
) -> None:
    path, doc = ada(), json.loads(ada().read_text())
    doc["source" if field == "remote" else "contribution"][field] = text
    path.write_text(json.dumps(doc))
    assert errors(quiet()) == {}
    quiet().regenerate()
    for page in ("README.md", "BENCHMARKS.md"):
        lines = [one for one in Path(page).read_text().splitlines() if "BENCHMARKS.md" not in one]
        assert not [line for line in lines if never in line]


@pytest.mark.parametrize("host", ["github.com", "gitlab.com", "codeberg.org"])
def test_a_remote_of_a_known_form_is_a_link(project: Path, host: str) -> None:
    path, doc = ada(), json.loads(ada().read_text())
    doc["source"]["remote"] = f"https://{host}/a/b.git"
    path.write_text(json.dumps(doc))
    quiet().regenerate()
    assert f"](https://{host}/a/b/" in Path("BENCHMARKS.md").read_text()


# --------------------------------------------------------------------------------------------- CI

WORKFLOW = Path(__file__).parent.parent / ".github/workflows/benchmarks.yml"


def step(name: str) -> str:
    steps = yaml.safe_load(WORKFLOW.read_text())["jobs"]["integrity"]["steps"]
    (found,) = [one["run"] for one in steps if name in one.get("name", "")]
    return str(found)


@pytest.mark.parametrize(
    ("file", "asked", "code"),
    [
        ("e/f/2.json", "verify ./benchmarks/e/f/2.json --no-record --main-branch main", 0),
        ("verifications/2/1.json", "validate ./benchmarks/verifications/2/1.json", 0),
        ("signatures/2.sig", "", 0),
        ("maintainers", "", 1),
        ("run.sh", "", 1),
    ],
)
def test_the_workflow_checks_each_new_file(
    tmp_path: Path, file: str, asked: str, code: int
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    subprocess.run(["git", "init", "-q", "."], cwd=base, check=True)
    path = base / "benchmarks" / file
    path.parent.mkdir(parents=True)
    path.write_text("x")
    log, program = tmp_path / "log", tmp_path / "qn-bench"
    log.touch()
    program.write_text(f'#!/bin/sh\necho "$@" >> {log}\n')
    program.chmod(0o755)
    done = subprocess.run(
        ["bash", "-e", "-c", step("Each new file")], cwd=base, capture_output=True, text=True,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "BASE_REF": "main"},
    )  # fmt: skip
    assert (done.returncode, log.read_text().strip()) == (code, asked), done.stdout


def test_the_workflow_believes_no_keys_and_no_rules_of_a_stranger(tmp_path: Path) -> None:
    for place in ("base", "head"):
        (tmp_path / place / "benchmarks").mkdir(parents=True)
        (tmp_path / place / "benchmarks" / "protocol.yml").write_text(place)
    (tmp_path / "head/benchmarks/maintainers").write_text("mine")
    subprocess.run(["git", "init", "-q", "."], cwd=tmp_path / "base", check=True)
    commit(tmp_path / "base", "rules")
    run = ["bash", "-e", "-c", step("Only new files")]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "base/benchmarks/protocol.yml").read_text() == "base"
    assert not (tmp_path / "base/benchmarks/maintainers").exists()


# --------------------------------------------------------------------------------------------- docs


def test_there_are_many_kinds() -> None:
    kinds = [one.what for one in (*RULES, *COMMITS, *RUNS, *NOTHING)]
    assert len(set(kinds)) == len(kinds) >= 60
    assert len({one.what for one in RECORDS}) >= 30


def test_the_table_in_the_docs_is_up_to_date() -> None:
    assert forgeries.PAGE.read_text(encoding="utf-8") == forgeries.page()
    for one in NOTHING:
        assert one.what in forgeries.PAGE.read_text(encoding="utf-8")
