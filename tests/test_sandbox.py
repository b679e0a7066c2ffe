"""The sandbox: nothing gets out, what it hands out is checked, and without it nothing is run."""

from __future__ import annotations

import io
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from qn_tracking.errors import UnsupportedError
from qn_tracking.reproduce import sandbox, syscalls

SCRIPT = Path(__file__).parent / "slow" / "ways_out.py"
LIMITS = sandbox.Limits(output=1000, files=3)


def stream(*files: tuple[object, object, bytes]) -> io.BytesIO:
    """What the first program in a sandbox writes for these files: names, sizes and contents."""
    lines = (
        json.dumps({"name": name, "size": size}).encode() + b"\n" + data
        for name, size, data in files
    )
    return io.BytesIO(b"".join(lines))


def test_files_that_are_handed_out_are_there_afterwards(tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text("ours")
    handed = stream(("config.yml", 6, b"theirs"), ("a/b/c", 2, b"\n{"), ("a/d", 0, b""))
    sandbox.receive(handed, str(tmp_path), {"config.yml"}, LIMITS)
    found = {
        str(p.relative_to(tmp_path)): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()
    }
    assert found == {"config.yml": b"ours", "a/b/c": b"\n{", "a/d": b""}


@pytest.mark.parametrize(
    ("files", "cause"),
    [
        ([("../out", 1, b"x")], "cannot be read"),
        ([("a/../../out", 1, b"x")], "cannot be read"),
        ([("/tmp/out", 1, b"x")], "cannot be read"),
        ([("a//b", 1, b"x")], "cannot be read"),
        ([("a\0b", 1, b"x")], "cannot be read"),
        ([("a/b/c/d/e/f/g", 1, b"x")], "cannot be read"),
        ([(["a"], 1, b"x")], "cannot be read"),
        ([("a", -1, b"x")], "cannot be read"),
        ([("a", True, b"x")], "cannot be read"),
        ([("a", "1", b"x")], "cannot be read"),
        ([("a", None, b"")], "has left a link, 'a'"),
        ([("a", 1001, bytes(1001))], "left more than"),
        ([("a", 600, bytes(600)), ("b", 600, bytes(600))], "left more than"),
        ([(str(n), 0, b"") for n in range(4)], "left more than"),
        ([("a", 100, b"short")], "left more than"),
        ([("a", 1, b"x"), ("a", 1, b"y")], "exists"),
        ([("a", 1, b"x"), ("a/b", 1, b"y")], "what the run has left"),
        ([("x" * 300, 1, b"x")], "what the run has left"),
    ],
)
def test_what_no_run_leaves_is_refused(
    tmp_path: Path, files: list[tuple[object, object, bytes]], cause: str
) -> None:
    folder = tmp_path / "a" / "run"
    folder.mkdir(parents=True)
    with pytest.raises(UnsupportedError, match=f"(?i){cause}"):
        sandbox.receive(stream(*files), str(folder), set(), LIMITS)
    assert not list(tmp_path.rglob("out"))


@given(data=st.binary(max_size=200))
def test_any_other_stream_is_refused(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("run")
    with pytest.raises(UnsupportedError):
        sandbox.receive(io.BytesIO(b"x" + data), str(folder), set(), LIMITS)
    assert list(folder.iterdir()) == []


@pytest.fixture
def forgotten() -> Iterator[None]:
    """What is known about the sandbox of this machine is looked up again, here and afterwards."""
    sandbox.missing.cache_clear()
    yield
    sandbox.missing.cache_clear()


@pytest.mark.parametrize(
    ("program", "cause"),
    [
        (None, r"bubblewrap \(bwrap\) is not installed"),
        ("echo 'bwrap: No permissions to create new namespace' >&2; exit 1", "No permissions to"),
        ("echo 'bwrap: Unknown option --size' >&2; exit 1", "Unknown option --size"),
        ("exit 9", "does not work here: 9"),
    ],
)
def test_without_a_sandbox_code_that_needs_one_is_refused_in_a_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    forgotten: None,
    program: str | None,
    cause: str,
) -> None:
    if not syscalls.known():
        pytest.skip("the processor is named first")
    if program is not None:
        (tmp_path / "bwrap").write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnsupportedError, match=f"^no sandbox: .*{cause}.*--no-sandbox runs it"):
        sandbox.require()
    assert sandbox.program() is None


def test_a_processor_without_a_filter_has_no_sandbox(
    monkeypatch: pytest.MonkeyPatch, forgotten: None
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(UnsupportedError, match="no filter of system calls for this processor"):
        sandbox.require()


def _can_run(user: str) -> bool:
    """Whether a user can run the Python of these tests, and import what it imports."""
    if user not in {one.pw_name for one in pwd.getpwall()}:
        return False
    done = subprocess.run(
        [sys.executable, "-c", "import numpy, qn_tracking"], user=user, group=None, extra_groups=[],
        capture_output=True,
    )  # fmt: skip
    return done.returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(sandbox.program() is None, reason="bubblewrap is not here, or not allowed")
@pytest.mark.parametrize("user", [None, "nobody"])
def test_there_is_no_way_out(user: str | None) -> None:
    try:
        able = user is None or (os.geteuid() == 0 and _can_run(user))
    except OSError:
        able = False
    if not able:
        pytest.skip(f"{user} cannot run this Python, or only root can become another user")
    more = [] if user is None else ["--user", user]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--json", *more], capture_output=True, text=True
    )
    found = json.loads(done.stdout)
    assert {name: how for name, how in found.items() if how} == {}, done.stderr
    assert len(found) >= 30
