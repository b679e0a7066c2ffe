"""Further runs of a process: git prints the changes again only if they may have changed."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import wait_until
from qn_tracking import capture, track, uncommitted

Git = Callable[..., str]
SHIM = """#!/bin/sh
printf '%s\\n' "$*" >> '{log}'
exec '{git}' "$@"
"""


@pytest.fixture
def repository(project: Path, git: Git, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with two files and changes; what is asked of git is in `asked`."""
    monkeypatch.setattr(capture, "_PATIENCE", 60.0)  # the machine may be slow
    monkeypatch.setattr(uncommitted, "_last", None)
    git("init", "-q", ".")
    Path("code").mkdir()
    Path("code/a.py").write_text("a = 1\n")
    Path("code/b.py").write_text("b = 1\n")
    git("add", "code")
    git("commit", "-qm", "first")
    Path("shim").mkdir()
    shim = Path("shim/git")
    shim.write_text(SHIM.format(log=project / "shim" / "asked", git=shutil.which("git")))
    shim.chmod(0o755)
    Path(".git/info/exclude").write_text("shim\nexperiments\n*.yml\ngitconfig\n")
    monkeypatch.setenv("PATH", f"{project / 'shim'}{os.pathsep}{os.environ['PATH']}")
    return project


def patch_of_a_run() -> tuple[str | None, bool]:
    """The uncommitted changes in the record of a new run, and whether git was asked for them."""
    asked = Path("shim/asked")
    asked.unlink(missing_ok=True)
    with track({"a": 1}, seed=1, warn=lambda text: None) as run:
        run.episode(success=True)
    file = Path("experiments/runs", run.id, "uncommitted.patch")
    said = file.read_text() if file.exists() else None
    return said, " diff " in asked.read_text()


def settle() -> None:
    """Waits until no file is so new that it could be changed again in the same instant."""

    def old() -> bool:
        bound = time.time_ns() - uncommitted.RACY_NANOSECONDS
        found = [os.lstat(path) for path in Path("code").iterdir()]
        return all(max(one.st_ctime_ns, one.st_mtime_ns) < bound for one in found)

    wait_until(old)


def expected(git: Git) -> str:
    return git("diff", "HEAD", "--binary", "--full-index", "--no-renames")


def edit_in_place(git: Git) -> None:
    Path("code/a.py").write_text("a = 3\n")


def edit_and_put_the_time_back(git: Git) -> None:
    about = os.stat("code/a.py")
    Path("code/a.py").write_text("a = 3\n")
    os.utime("code/a.py", ns=(about.st_atime_ns, about.st_mtime_ns))


def put_another_file_there(git: Git) -> None:
    Path("code/c.py").write_text("a = 3\n")
    os.replace("code/c.py", "code/a.py")


def remove(git: Git) -> None:
    Path("code/a.py").unlink()


def take_back(git: Git) -> None:
    git("checkout", "-q", "code/a.py")


def change_another(git: Git) -> None:
    Path("code/b.py").write_text("b = 2\n")


def make_it_a_link(git: Git) -> None:
    Path("code/a.py").unlink()
    Path("code/a.py").symlink_to("b.py")


def make_it_a_program(git: Git) -> None:
    Path("code/a.py").chmod(0o755)


def add_a_new_one(git: Git) -> None:
    Path("code/c.py").write_text("c = 1\n")
    git("add", "code/c.py")


def commit_it(git: Git) -> None:
    git("commit", "-qam", "second")
    Path("code/b.py").write_text("b = 2\n")


def make_a_commit_of_the_same_tree(git: Git) -> None:
    git("commit", "-q", "--allow-empty", "-m", "second")


CHANGES = (
    edit_in_place, edit_and_put_the_time_back, put_another_file_there, remove, take_back,
    change_another, make_it_a_link, make_it_a_program, add_a_new_one, commit_it,
    make_a_commit_of_the_same_tree,
)  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda one: one.__name__)
def test_what_changes_between_two_runs_is_seen(
    repository: Path, git: Git, change: Callable[[Git], None]
) -> None:
    Path("code/a.py").write_text("a = 2\n")
    settle()
    first, _ = patch_of_a_run()
    assert first is not None
    assert "+a = 2\n" in first
    change(git)
    settle()
    now = expected(git)
    said, _ = patch_of_a_run()
    assert (said or "").strip() == now
    assert (said is None) == (change is take_back)


def test_the_changes_of_the_run_before_are_not_printed_again(repository: Path) -> None:
    Path("code/a.py").write_text("a = 2\n")
    settle()
    first, asked = patch_of_a_run()
    assert first is not None
    assert asked
    again, asked = patch_of_a_run()
    assert again == first
    assert not asked


def test_where_nothing_is_changed_no_changes_are_printed(repository: Path) -> None:
    assert patch_of_a_run() == (None, False)


def test_a_file_of_this_instant_is_printed_again(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uncommitted, "RACY_NANOSECONDS", 10**12)
    Path("code/a.py").write_text("a = 2\n")
    assert patch_of_a_run()[1]
    assert patch_of_a_run()[1]


def test_a_submodule_is_printed_again(repository: Path, git: Git) -> None:
    git("clone", "-q", ".", "inner")
    git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "./inner", "code/inner")
    git("commit", "-qam", "with a submodule")
    inner = repository / "code" / "inner"
    said: list[Any] = []
    for text in ("one", "two"):
        git("commit", "-q", "--allow-empty", "-m", text, cwd=inner)
        settle()
        patch, asked = patch_of_a_run()
        assert asked
        said.append(patch)
        assert git("rev-parse", "HEAD", cwd=inner) in said[-1]
    assert said[0] != said[1]
