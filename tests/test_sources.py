"""`qn-exp diff --code`: the source of two runs side by side, in real repositories."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from conftest import Program
from qn_tracking import Experiments, UnsupportedError, track

Git = Callable[..., str]


@pytest.fixture
def repository(project: Path, git: Git, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a module that the running program has imported."""
    (project / ".gitignore").write_text("gitconfig\nsmall.yml\n")
    (project / "agent.py").write_text("GAMMA = 0.9\nSTEPS = 5\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    imported(monkeypatch, project / "agent.py")
    return project


def imported(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """As if the program had imported a file."""
    monkeypatch.setitem(__import__("sys").modules, path.stem, SimpleNamespace(__file__=str(path)))


def run(**options: Any) -> str:
    with track({"lr": 0.1}, seed=1, warn=lambda text: None, **options) as recorder:
        recorder.episode(success=True)
    return recorder.id


def commit(git: Git, path: Path, text: str, subject: str) -> str:
    path.write_text(text)
    git("add", "-A")
    git("commit", "-qm", subject)
    return git("rev-parse", "HEAD")


def test_one_changed_line_is_shown_with_its_commit(
    repository: Path, git: Git, qn_exp: Program
) -> None:
    one = run()
    commit(git, repository / "agent.py", "GAMMA = 0.95\nSTEPS = 5\n", "more patience")
    two = run()
    done = qn_exp("diff", "--code", one, two)
    assert done.returncode == 0, done.stderr
    changed = [line for line in done.stdout.splitlines() if line[:1] in "+-"]
    assert changed == ["--- a/agent.py", "+++ b/agent.py", "-GAMMA = 0.9", "+GAMMA = 0.95"]
    assert "more patience" in done.stderr
    assert "1 file, +1 -1 lines" in done.stderr
    assert qn_exp("diff", "--code", "--stat", one, two).stdout == "agent.py  +1 -1\n"
    assert qn_exp("diff", "--code", "--exit-code", two, one).returncode == 1
    assert qn_exp("diff", "--code", "--exit-code", two, two).returncode == 0
    found = json.loads(qn_exp("diff", "--code", "--json", one, two).stdout)
    assert (found["ahead"], found["same"]) == ([0, 1], False)
    assert found["files"] == [{"path": "agent.py", "added": 1, "removed": 1}]


def test_compare_begins_with_what_changed(repository: Path, git: Git, qn_exp: Program) -> None:
    one = run()
    commit(git, repository / "agent.py", "GAMMA = 0.95\nSTEPS = 5\n", "more patience")
    with track({"lr": 0.2}, seed=1, warn=lambda text: None) as second:
        second.episode(success=True)
    lines = qn_exp("compare", one, second.id).stdout.splitlines()
    at = lines.index("what changed")
    assert lines[at + 1].split() == ["config", "lr", "0.1", "->", "0.2"]
    assert lines[at + 2].endswith("1 file, +1 -1 lines")
    found = json.loads(qn_exp("compare", one, second.id, "--json").stdout)
    assert list(found["changed"]) == ["config", "code"]


def test_what_no_commit_has_is_part_of_the_source(
    repository: Path, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = run()
    (repository / "agent.py").write_text("GAMMA = 0.9\nSTEPS = 6\n")
    (repository / "new model.py").write_text("LAYERS = 2")
    imported(monkeypatch, repository / "new model.py")
    two = run()
    git("checkout", "-q", ".")
    (repository / "new model.py").unlink()
    found = Experiments("experiments").diff_code(one, two)
    assert {(file.path, file.added, file.removed) for file in found.files} == {
        ("agent.py", 1, 1),
        ("new model.py", 1, 0),
    }
    assert (found.commits[0], found.missing) == (found.commits[1], ())
    # Back again, and nothing of it was left in the repository.
    assert Experiments("experiments").diff_code(two, one).files[0].removed == 1
    assert git("status", "--porcelain") == "?? experiments/"
    assert git("count-objects").startswith("4 objects")


def test_what_is_missing_is_said_in_one_line(repository: Path, git: Git, qn_exp: Program) -> None:
    one = run()
    (repository / "agent.py").write_text("GAMMA = 0.5\n")
    two = run()
    shutil.rmtree(f"experiments/runs/{two}")  # as git brings it
    done = qn_exp("diff", "--code", one, two)
    assert (done.returncode, done.stdout) == (0, "")
    assert f"warning: {two}: its uncommitted.patch is not here" in done.stderr
    path = Path(f"experiments/{two}.json")
    path.write_text(path.read_text().replace(git("rev-parse", "HEAD"), "a" * 40))
    done = qn_exp("diff", "--code", one, two)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith(f"error: {two}: commit aaaaaaaaaaaa does not exist here (")
    with pytest.raises(UnsupportedError, match="does not exist here"):
        Experiments("experiments").diff_code(two, one)


def changed_patch(id: str, patch: bytes) -> None:
    """As a stranger's record may come, with any patch that it names."""
    record, file = Path(f"experiments/{id}.json"), f"experiments/runs/{id}/uncommitted.patch"
    before = sha256(Path(file).read_bytes()).hexdigest()
    Path(file).write_bytes(patch)
    record.write_text(record.read_text().replace(before, sha256(patch).hexdigest()))


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        (b"+x\n" * (3 << 20), "9,437,184 bytes are more than 8 MiB"),
        (
            b"diff --git a/z b/z\nnew file mode 100644\nGIT binary patch\nliteral 9999999999\nx\n",
            "its files have more than 64 MiB",
        ),
    ],
    ids=["long", "bomb"],
)
def test_a_patch_that_is_too_large_is_left_out(
    patch: bytes, said: str, repository: Path, git: Git, qn_exp: Program
) -> None:
    one = run()
    (repository / "agent.py").write_text("GAMMA = 0.5\n")
    two = run()
    changed_patch(two, patch)
    done = qn_exp("diff", "--code", one, two)
    assert (done.returncode, done.stdout) == (0, "")
    assert f"warning: {two}: its uncommitted.patch is left out: {said}\n" in done.stderr


def test_a_diff_that_is_too_long_is_cut(
    repository: Path, git: Git, qn_exp: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qn_tracking.reproduce.sources.MOST_BYTES", 300)
    one = run()
    commit(git, repository / "agent.py", "GAMMA = 0.5\n" * 99, "more")
    found = Experiments("experiments").diff_code(one, run())
    assert len("\n".join(found.lines)) <= 300
    assert found.files[0].added == 99
    assert [text for text in found.missing if "its end is left out" in text]


def test_what_turns_text_around_is_an_escape_in_json(
    repository: Path, git: Git, qn_exp: Program
) -> None:
    one = run()
    text = "GAMMA = 0.5  # \u202eevil\x9b\u200b \N{SNAKE}é\x7f\n"
    commit(git, repository / "agent.py", text, "turned")
    two = run()
    for json_option in ([], ["--json"]):
        done = qn_exp("diff", "--code", one, two, *json_option)
        assert not set("\u202e\x9b\u200b\x7f") & set(done.stdout)
        assert "\\u202eevil" in done.stdout
        assert "\N{SNAKE}é" in done.stdout
    assert f"+{text[:-1]}" in json.loads(done.stdout)["diff"]


def test_what_the_repository_configures_is_not_run(
    repository: Path, git: Git, qn_exp: Program
) -> None:
    one = run()
    commit(git, repository / "agent.py", "GAMMA = 0.95\n", "second")
    mark = repository / "executed"
    (repository / ".gitattributes").write_text("*.py diff=evil filter=evil\n")
    for key in ("diff.evil.textconv", "diff.evil.command", "diff.external", "filter.evil.clean"):
        git("config", key, f"touch {mark}; cat")
    two = run()
    assert "+GAMMA = 0.95" in qn_exp("diff", "--code", one, two).stdout
    assert not mark.exists()


def test_a_submodule_is_looked_into_where_it_is_checked_out(
    repository: Path, git: Git, qn_exp: Program
) -> None:
    library = repository / "library"
    library.mkdir()
    git("init", "-q", cwd=library)
    (library / "net.py").write_text("WIDTH = 8\n")
    git("add", ".", cwd=library)
    git("commit", "-qm", "net", cwd=library)
    git("add", ".")
    git("commit", "-qm", "with a library")
    one = run()
    (library / "net.py").write_text("WIDTH = 16\n")
    git("commit", "-qam", "wider", cwd=library)
    git("commit", "-qam", "the wider library")
    two = run()
    done = qn_exp("diff", "--code", one, two)
    assert "+Subproject commit" in done.stdout
    assert {"--- a/library/net.py", "-WIDTH = 8", "+WIDTH = 16"} <= set(done.stdout.splitlines())
    assert qn_exp("diff", "--code", "--stat", one, two).stdout == "library\nlibrary/net.py  +1 -1\n"
    shutil.rmtree(library / ".git")
    done = qn_exp("diff", "--code", one, two)
    assert "warning: submodule library: " in done.stderr
    assert "+Subproject commit" in done.stdout


def test_code_outside_of_git_is_compared_by_what_was_kept(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported(monkeypatch, project / "alone.py")
    ids = []
    for text in ("A = 1\n", "A = 1\nB = 2\n"):
        (project / "alone.py").write_text(text)
        ids.append(run())
    found = Experiments("experiments").diff_code(*ids)
    assert found.commits == (None, None)
    assert [(file.path, file.added, file.removed) for file in found.files] == [("alone.py", 1, 0)]
