"""What a run prints is kept on request, and shown as before: `track(capture_output=True)`."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from conftest import Program, wait_until
from qn_tracking import Experiments, Recorder, UnsupportedError, track
from qn_tracking.store import output

SECRET = "AKIA" + "IOSFODNN7EXAMPLE"


def tracked(**options: Any) -> Recorder:
    return track({"rate": 0.1}, capture_output=True, warn=lambda text: None, **options)


def script(text: str, *words: str, **how: Any) -> subprocess.CompletedProcess[str]:
    """A program that has `run`, a run whose output is kept."""
    head = "import os, signal, subprocess, sys, time\nfrom qn_tracking import track\n"
    Path("train.py").write_text(head + text)
    return subprocess.run(
        [sys.executable, "train.py", *words], text=True, timeout=300, **{"stdout": -1, **how}
    )


def only() -> str:
    (run,) = Experiments("experiments").find()
    return Experiments("experiments").output(run.id)


def test_what_the_process_and_its_children_print_is_kept_and_shown(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with tracked() as run:
        os.write(1, b"of a library\n")
        subprocess.run(["sh", "-c", "echo of a child; echo an error >&2"], check=True)
        run.episode(success=True)
    os.write(1, b"after the run\n")
    shown = capfd.readouterr()
    assert shown.out == "of a library\nof a child\nafter the run\n"
    assert shown.err == "an error\n"
    kept = Experiments("experiments").output(run.id)
    assert sorted(kept.splitlines()) == ["an error", "of a child", "of a library"]


def test_each_life_of_a_run_has_its_own_output(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = tracked(seed=1).start()
    first.episode(success=True)
    os.write(1, b"before\n")
    first.end("interrupted")
    with tracked(seed=1, resume=first.id) as again:
        again.episode(success=True)
        os.write(1, b"after\n")
    store = Experiments("experiments")
    assert store.output(again.id) == "after\n"
    lives = Path("experiments/runs", first.id, "lives")
    assert (lives / "1.output.txt").read_text() == "before\n"
    assert store.check().findings == ()
    with tracked(seed=2) as other:
        other.episode(success=True)
    assert store.output(other.id) == ""


def test_secrets_are_not_kept(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with tracked() as run:
        os.write(1, f"key {SECRET}\n".encode())
    assert SECRET in capfd.readouterr().out
    assert Experiments("experiments").output(run.id) == "key [redacted]\n"


def test_the_record_names_it_by_digest_and_fsck_checks_it(project: Path, qn_exp: Program) -> None:
    with tracked() as run:
        os.write(1, b"\x1b[31mred\x1b[0m \x07 bell\n")
    shown = qn_exp("show", run.id, "--output").stdout
    assert shown == "red \\x07 bell\n"
    assert json.loads(qn_exp("show", run.id, "--output", "--json").stdout)["text"] == (
        "red \x07 bell\n"
    )
    assert "output.txt" in qn_exp("show", run.id).stdout
    assert qn_exp("fsck").returncode == 0
    with open(f"experiments/runs/{run.id}/output.txt", "a") as stream:
        stream.write("changed\n")
    assert "output.txt: attachments[1].sha256: is not what" in qn_exp("fsck").stdout


def test_a_bundle_carries_it(project: Path, qn_exp: Program) -> None:
    with tracked() as run:
        os.write(1, b"hello\n")
    assert qn_exp("export", run.id, "--format", "bundle", "-o", "one.zip").returncode == 0
    assert qn_exp("import", "one.zip", "--experiments-dir", "other").returncode == 0
    assert Experiments("other").output(run.id) == "hello\n"


def test_without_the_request_nothing_is_kept(project: Path, qn_exp: Program) -> None:
    with track({"rate": 0.1}, warn=lambda text: None) as run:
        os.write(1, b"hello\n")
    with pytest.raises(UnsupportedError, match="no output is kept"):
        Experiments("experiments").output(run.id)
    said = qn_exp("show", run.id, "--output")
    assert said.returncode == UnsupportedError.exit_code
    assert "capture_output=True" in said.stderr


def test_without_a_folder_to_keep_it_in_there_is_a_warning(project: Path) -> None:
    with tracked(blocked=["json_storage"]) as run:
        pass
    assert "capture_output: no plugin stores this run; nothing is kept" in run.warnings


@pytest.mark.parametrize("first", [0, 1])
def test_two_runs_at_once_both_keep_it(
    project: Path, capfd: pytest.CaptureFixture[str], first: int
) -> None:
    runs = [tracked().start()]
    os.write(1, b"one\n")
    runs.append(tracked().start())
    os.write(1, b"both\n")
    runs.pop(first).end()
    os.write(1, b"the other\n")
    (other,) = runs
    other.end()
    os.write(1, b"none\n")
    assert capfd.readouterr().out == "one\nboth\nthe other\nnone\n"
    said = Experiments("experiments").output(other.id)
    assert said == ("both\n" if first == 0 else "one\nboth\n") + "the other\n"


def test_an_error_in_the_run_gives_the_descriptors_back(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ZeroDivisionError), tracked() as run:
        os.write(2, b"before\n")
        raise ZeroDivisionError
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "before\nafter\n"
    assert Experiments("experiments").output(run.id) == "before\n"


def test_a_run_that_prints_somewhere_else_from_now_on_is_whole(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with tracked() as run:
        os.write(1, b"here\n")
        kept = [os.dup(1), os.dup(2)]
        with open(os.devnull, "wb") as null:
            for fd, saved in zip((1, 2), kept, strict=True):
                os.dup2(null.fileno(), fd)
                os.close(saved)
        os.write(1, b"there\n")
    assert run.experiment is not None
    assert "output.txt" in [one.name for one in run.experiment.attachments]
    assert Experiments("experiments").output(run.id) == "here\n"


def test_a_forked_copy_ends_nothing(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with tracked() as run:
        if not (child := os.fork()):
            run.end()
            os.write(1, b"of the copy\n")
            os._exit(0)
        os.waitpid(child, 0)
        os.write(1, b"of the run\n")
    assert Experiments("experiments").output(run.id) == "of the copy\nof the run\n"
    assert capfd.readouterr().out == "of the copy\nof the run\n"


def test_a_child_that_prints_on_is_no_reason_to_wait(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with tracked() as run:
        child = subprocess.Popen(["sh", "-c", "echo begun; read x; echo ended"], stdin=-1)
        wait_until(lambda: Experiments("experiments").output(run.id) == "begun\n")
    assert child.poll() is None
    assert Experiments("experiments").output(run.id) == "begun\n"
    child.communicate(b"\n")
    # By its size: to read what was captured also empties it, and another process still writes.
    wait_until(lambda: os.fstat(1).st_size == len("begun\nended\n"))
    assert capfd.readouterr().out == "begun\nended\n"


# ------------------------------------------------------------------------------------------ programs


@pytest.mark.slow
def test_what_was_printed_before_a_kill_is_kept(project: Path) -> None:
    done = script(
        "run = track({}, capture_output=True).start()\n"
        "print('printed'); print('half', end='', flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == "printed\nhalf"
    (kept,) = Path("experiments/runs").glob("*/output.txt")
    wait_until(lambda: kept.read_text() == "printed\nhalf")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "code"), [("sys.exit(3)", 3), ("raise ValueError('no')", 1), ("pass", 0)]
)
def test_a_program_that_ends_without_end_keeps_it(project: Path, how: str, code: int) -> None:
    done = script(
        f"run = track({{}}, capture_output=True).start(at_exit=True)\nprint('x')\n{how}\n"
    )
    assert (done.returncode, done.stdout) == (code, "x\n")
    assert only().startswith("x\n")


@pytest.mark.slow
def test_a_terminal_stays_one_and_a_progress_bar_is_kept_as_it_ends(project: Path) -> None:
    master, slave = pty.openpty()
    done = script(
        "with track({}, capture_output=True) as run:\n"
        "    assert sys.stdout.isatty() and sys.stderr.isatty()\n"
        "    for i in range(5):\n"
        "        print(f'\\r{i * 25}%', end='', file=sys.stderr, flush=True)\n"
        "    print(file=sys.stderr)\n"
        "    print('done')\n",
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    shown = b""
    while b"done" not in shown:
        shown += os.read(master, 1000)
    os.close(master)
    assert done.returncode == 0
    assert b"\r0%\r25%\r50%\r75%\r100%\r\ndone" in shown
    assert only() == "100%\ndone\n"


@pytest.mark.slow
def test_a_reader_that_goes_away_ends_a_program_as_before(project: Path) -> None:
    text = "with track({}, capture_output=True) as run:\n    while True:\n        print('line')\n"
    script("")
    Path("train.py").write_text(Path("train.py").read_text() + text)
    done = subprocess.run(
        f"{sys.executable} train.py | head -1",
        shell=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout == "line\n"
    assert "BrokenPipeError" in done.stderr
    assert only().startswith("line\nline\n")


@pytest.mark.slow
def test_a_study_keeps_what_its_scripts_print_whether_they_ask_or_not(
    qn_run: Program, project: Path
) -> None:
    Path("train.py").write_text(
        "from qn_tracking import track\n"
        "with track({}, capture_output=True) as run:\n"
        "    print('seed', run.seed)\n"
        "    run.episode(success=True)\n"
        "print('after the run')\n"
    )
    done = qn_run("--seeds", "5", "--quiet", "--", sys.executable, "train.py")
    assert done.returncode == 0, done.stderr
    said = [line for line in only().splitlines() if not line.startswith("warning: git")]
    assert said == ["seed 5", "after the run"]


@pytest.mark.slow
def test_qn_run_keeps_it_and_refuses_it_for_studies(qn_run: Program, qn_exp: Program) -> None:
    options = ("mlp_dynamic_small", "--episodes", "2", "--seed", "1", "--track-experiment")
    Path("talk.py").write_text(
        "from qn_tracking import hookimpl\n"
        "class Talk:\n"
        "    @hookimpl\n"
        "    def episode_end(self, episode):\n"
        "        print('episode', episode.index)\n"
    )
    done = qn_run(*options, "--plugins", "talk:Talk", "--capture-output", "--quiet", process=True)
    assert (done.returncode, done.stdout) == (0, "episode 0\nepisode 1\n"), done.stderr
    assert qn_exp("show", "@1", "--output").stdout == done.stdout
    refused = qn_run("mlp_dynamic_small", "--n-seeds", "2", "--capture-output")
    assert refused.returncode == 2
    assert "--capture-output cannot be combined with a study" in refused.stderr


# ------------------------------------------------------------------------------------------ the file


@given(st.lists(st.binary(max_size=20).map(lambda one: one.replace(b"a", b"\n"))))
def test_lines_do_not_depend_on_the_pieces_that_they_come_in(pieces: list[bytes]) -> None:
    one, other = output.Channel(), output.Channel()
    whole = b"".join(pieces)
    at_once = one.lines(whole) + one.rest()
    assert b"".join(map(other.lines, pieces)) + other.rest() == at_once
    if b"\r" not in whole:
        assert at_once == whole


def test_of_a_long_output_begin_and_end_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "MOST", 1000)
    made = output.Output(str(tmp_path / "output.txt"))
    lines = [b"%09d\n" % n for n in range(1000)]
    for line in lines:
        made.add(line)
        assert (tmp_path / "output.txt").stat().st_size <= 2100
    made.close()
    text = (tmp_path / "output.txt").read_bytes()
    whole = b"".join(lines)
    assert text == whole[:500] + b"\n[9000 bytes are left out]\n" + whole[-500:]
