"""`qn-exp` beyond the list: show, tags, trash, crashed runs, fsck."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conftest import command, without_locks
from qn_tracking import Experiments, Subject, track
from qn_tracking.cli import exp
from qn_tracking.errors import QnError, StorageError
from qn_tracking.records.model import Episode, Experiment
from qn_tracking.store import labels, read, unfinished

Call = Callable[..., "tuple[int, str, str]"]
PROGRAM = [sys.executable, "-m", "qn_tracking.cli.exp"]
EPISODES = 600  # more than two chunks of the tally

CHILD = """
import os, sys, time
from qn_tracking import Subject, track
how = sys.argv[1]
with track({"brain": {"name": "mlp"}}, seed=5, tags={"a": "b"}, notes="n", episodes=600,
        subject=Subject(environment="static", brain="mlp", family="classical")) as run:
    print(run.id, flush=True)
    for i in range(600):
        if how == "wait" and i == 300:
            print("half", flush=True)
            time.sleep(600)
        run.episode(success=i % 7 == 0, termination="food" if i % 7 == 0 else "starved",
                    steps=i % 50, reward=0.1 * i, counts={"foods": i % 3}, loss=1 / (i + 1))
    if how != "end":
        if how == "facts":
            import psutil
            git = psutil.Process().children()
            while any(one.status() != psutil.STATUS_ZOMBIE for one in git):
                time.sleep(0.02)
        os.kill(os.getpid(), 9)
"""


def make(folder: Path, seed: int = 1, episodes: int = 6, **options: Any) -> Experiment:
    """A real run, without metadata."""
    run = track(
        {"brain": {"name": "mlp", "config": {"gamma": 0.9}}},
        seed=seed,
        blocked=("metadata",),
        experiments_dir=folder,
        subject=Subject(environment="static", brain="mlp", family="classical"),
        **options,
    )
    with run:
        for i in range(episodes):
            run.episode(success=i % 2 == 0, steps=i, reward=0.5 * seed * i, loss=0.1 * i)
    assert run.experiment is not None
    return run.experiment


@pytest.fixture
def store(project: Path) -> Path:
    return project / "experiments"


@pytest.fixture
def qn_exp(capfd: pytest.CaptureFixture[str]) -> Call:
    """`qn-exp` in this process: exit code, output, errors."""

    def call(*args: str) -> tuple[int, str, str]:
        capfd.readouterr()
        try:
            code = exp.main(args)
        except QnError as error:
            print(f"error: {error}", file=sys.stderr)
            code = error.exit_code
        sys.stdout.flush()
        out, err = capfd.readouterr()
        return code, out, err

    return call


def child(store: Path, how: str) -> str:
    """The id of a run in another process that has ended, or was killed."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, how], cwd=store.parent, capture_output=True, text=True
    )
    return done.stdout.split()[0]


def statuses(qn_exp: Call) -> dict[str, str]:
    code, out, err = qn_exp("list", "--json", "--limit", "0")
    assert code == 0, err
    return {doc["id"]: doc["status"] for doc in json.loads(out)["experiments"]}


# --------------------------------------------------------------------------------- which one, show


def test_references(store: Path, qn_exp: Call) -> None:
    first, second = make(store, 1), make(store, 2)
    shutil.copy(store / f"{first.id}.json", store / "abcd.json")
    text = (store / "abcd.json").read_text().replace(first.id, "abcd")
    (store / "abcd.json").write_text(text)
    for reference, expected in (
        (second.id, second.id),
        ("@1", second.id),
        ("ab", "abcd"),
        (second.id[:-3], second.id),
    ):
        code, out, _ = qn_exp("show", "--json", reference)
        assert code == 0
        assert json.loads(out)["id"] == expected
    code, _, err = qn_exp("show", "20")
    assert code == 2
    assert first.id in err
    assert second.id in err
    code, _, err = qn_exp("show", second.id[:-1] + "!")
    assert code == 2
    for wrong in ("../x", "a/b", "-x", "a\nb", "x" * 300, "@0", "@x", "@", "@4", "nope", ""):
        try:
            code, _, err = qn_exp("show", "--", wrong)
        except SystemExit as stop:  # pragma: no cover
            code, err = int(str(stop.code)), "\n"
        assert (code, err.count("\n")) == (2, 1), wrong
    code, _, err = qn_exp("show", second.id[:-4] + "zzzz")
    assert second.id in err


def test_show(store: Path, qn_exp: Call) -> None:
    made = make(store, episodes=40, tags={"k": "v\x1b[31m"}, notes="why")
    code, out, err = qn_exp("show", made.id)
    assert (code, err) == (0, "")
    for text in (
        "completed",
        "success",
        "50.0%",
        "brain.config.gamma",
        "0.9",
        "v\\x1b[31m",
        "why",
        "┤",
    ):
        assert text in out
    assert f"experiments/runs/{made.id}/episodes.jsonl" in out
    assert "\x1b" not in out
    doc = json.loads(qn_exp("show", made.id, "--json")[1])
    stored = json.loads((store / f"{made.id}.json").read_text())
    assert {key: doc[key] for key in stored} == stored
    assert doc["path"] == f"experiments/{made.id}.json"
    assert doc["folder"] == f"experiments/runs/{made.id}"


def test_show_config_is_the_exact_text(project: Path, store: Path, qn_exp: Call) -> None:
    config = project / "my.yml"
    text = b"# a comment, \xc3\xa9\r\nbrain: {name:   mlp}\n"
    config.write_bytes(text)
    with track(config, seed=1, blocked=("metadata",)) as run:
        run.episode(success=True)
    done = subprocess.run([*PROGRAM, "show", "--config", run.id], capture_output=True, check=True)
    assert done.stdout == text
    kept = store / "runs" / run.id / "config.yml"
    kept.write_bytes(b"brain: {name: other}\n")
    code, out, _ = qn_exp("show", "--config", run.id)
    assert (code, out) == (3, "")
    shutil.rmtree(store / "runs")
    assert qn_exp("show", "--config", run.id)[0] == 4


def test_show_config_of_hostile_text_commands_no_terminal(store: Path, qn_exp: Call) -> None:
    made = make(store)
    text = b"a: 1\r\n# \x1b]0;x\x07 \xc2\x9b2J \xe2\x80\xae\t\xc3\xa9\rb\n"
    (store / "runs" / made.id / "config.yml").write_bytes(text)
    record = store / f"{made.id}.json"
    doc = json.loads(record.read_text())
    digest = hashlib.sha256(text).hexdigest()
    doc["attachments"] = [{"name": "config.yml", "size": len(text), "sha256": digest}]
    record.write_text(json.dumps(doc))
    program = [*PROGRAM, "show", "--config", made.id]
    # A pipe gets what YAML can hold as it is, a terminal what can be seen.
    piped = subprocess.run(program, capture_output=True, check=True).stdout
    shown = b"# \\x1b]0;x\\x07 \\x9b2J "
    assert piped == b"a: 1\r\n" + shown + b"\xe2\x80\xae\t\xc3\xa9\\rb\n"
    master, slave = pty.openpty()
    env = {**os.environ, "PYTHONUTF8": "1"}
    done = subprocess.run(program, stdout=slave, stderr=subprocess.PIPE, env=env)
    os.close(slave)
    assert (done.returncode, done.stderr) == (0, b"")
    with open(master, "rb", buffering=0) as terminal:
        seen = terminal.read(4096)
    assert seen.replace(b"\r\n", b"\n") == b"a: 1\n" + shown + b"\\u202e\t\xc3\xa9\\rb\n"


def test_show_of_a_record_with_nothing_in_it(store: Path, qn_exp: Call) -> None:
    made = make(store, episodes=0)
    code, out, _ = qn_exp("show", made.id)
    assert code == 0
    assert "no data" in out


def test_stats(store: Path, qn_exp: Call) -> None:
    make(store, 1), make(store, 2, episodes=4)
    (store / "bad.json").write_bytes(b"{")
    code, out, _ = qn_exp("stats", "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["experiments"], found["episodes"], found["unreadable"]) == (2, 10, 1)
    assert found["status"] == {"completed": 2}
    assert found["bytes"]["records"] > 0
    assert found["bytes"]["runs"] > 0
    assert "experiments" in qn_exp("stats")[1]


def test_show_stays_readable_whatever_a_record_holds(store: Path, qn_exp: Call) -> None:
    made = make(store)
    path = store / f"{made.id}.json"
    doc = json.loads(path.read_text())
    doc["facts"] = {"metadata": {"git": {"untracked": [f"folder/file-{i}" for i in range(200)]}}}
    doc["config"]["data"] = {"layers": list(range(5_000)), "prompt": "p" * 9_000}
    doc["results"]["terminations"] = {f"end {i}": i + 1 for i in range(1_000)}
    doc["warnings"] = ["w" * 9_000] * 300
    doc["error"] = {"type": "ValueError", "message": "m" * 90_000, "traceback": ""}
    path.write_text(json.dumps(doc))
    shown = qn_exp("show", "@1")[1]
    assert max(map(len, shown.splitlines())) < 2_100
    assert len(shown) < 60_000
    assert re.search(r"folder/file-0, folder/file-1, .*folder/file-\d+ and 1\d\d more\n", shown)
    assert "end 999 1000, end 998 999, " in shown
    assert "warning  and 280 more (--json has all)\n" in shown
    assert json.loads(qn_exp("show", "@1", "--json")[1])["facts"] == doc["facts"]


# ------------------------------------------------------------------------------------------ labels


def test_tags_and_notes_are_added_without_their_secrets(store: Path, qn_exp: Call) -> None:
    token = "ghp_" + "a1B2" * 9
    made = make(store)
    assert qn_exp("tag", "@1", "api_key=swordfish", f"see={token}", "start_token=<s>")[0] == 0
    assert qn_exp("note", "@1", f"with {token}, password='swordfish'")[0] == 0
    texts = [path.read_text() for path in (store / "labels" / made.id).iterdir()]
    assert not [text for text in texts if token in text or "swordfish" in text]
    tags = {"api_key": "[redacted]", "see": "[redacted]", "start_token": "<s>"}
    assert labels.read(str(store), made.id)["tags"] == tags


def test_tags_and_notes_are_added_beside_the_record(store: Path, qn_exp: Call) -> None:
    made = make(store, tags={"a": "1"})
    record = (store / f"{made.id}.json").read_bytes()
    assert qn_exp("tag", "@1", "a=2", "b=x y")[0] == 0
    assert qn_exp("note", "@1", "a remark")[0] == 0
    doc = json.loads(qn_exp("list", "--json", "--tag", "a=2", "--where", "notes ~ remark")[1])
    (listed,) = doc["experiments"]
    assert listed["labels"]["tags"] == {"a": "2", "b": "x y"}
    assert listed["tags"] == {"a": "1"}
    assert (store / f"{made.id}.json").read_bytes() == record
    assert "a remark" in qn_exp("show", "@1")[1]
    assert qn_exp("tag", "@1", "--remove", "b")[0] == 0
    assert qn_exp("list", "--tag", "b")[1].endswith("no matching experiments\n")
    assert qn_exp("tag", "@1", "--remove", "b")[0] == 2
    for wrong in (["@1"], ["@1", "x"], ["@1", "=x"], ["@1", "x=1", "x=2"]):
        assert qn_exp("tag", *wrong)[0] == 2
    # As another machine's would arrive: the row shown tells at once.
    label = next(p for p in (store / "labels" / made.id).iterdir() if '"a": "2"' in p.read_text())
    label.write_text(label.read_text().replace('"a": "2"', '"a": "3"'))
    assert "a=3" in qn_exp("list")[1]
    label.write_text("{")
    code, out, err = qn_exp("list")
    assert (code, err.count("\n")) == (0, 1)
    assert f"{label.name}: truncated" in err
    assert made.id in out
    assert len(json.loads(qn_exp("list", "--json", "--where", "notes ~ remark")[1])["experiments"])
    assert qn_exp("fsck")[0] == 1


def test_labels_of_an_experiment_whose_texts_are_not_here(store: Path, qn_exp: Call) -> None:
    made = make(store)
    shutil.rmtree(store / "runs")
    assert qn_exp("tag", made.id, "x=1")[0] == 0
    assert statuses(qn_exp) == {made.id: "completed"}
    assert qn_exp("fsck")[0] == 0


def test_two_who_label_at_once_lose_nothing(store: Path) -> None:
    made = make(store)
    code = (
        "import sys; from qn_tracking.store import labels\n"
        "for i in range(40): labels.change('experiments', sys.argv[1],"
        " lambda found: found['tags'].update({f'{sys.argv[2]}{i}': 'x'}))"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code, made.id, name], cwd=store.parent)
        for name in "ab"
    ]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    assert len(labels.read(str(store), made.id)["tags"]) == 80
    files = os.listdir(store / "labels" / made.id)
    assert len(files) == 80
    assert not [name for name in files if not name.endswith(".json")]


# ------------------------------------------------------------------------------------------- trash


def test_the_trash_overwrites_nothing(store: Path, qn_exp: Call) -> None:
    id = make(store).id
    texts = []
    for i in range(4):
        path = store / f"{id}.json"
        if not path.exists():
            shutil.copy(store.parent / "kept.json", path)
        shutil.copy(path, store.parent / "kept.json")
        path.write_text(path.read_text() + "\n" * i)
        texts.append(path.read_text())
        assert qn_exp("rm", id)[0] == 0
        if i == 2:  # the slots are 1, 2, 3; without the second, the next is 4 all the same
            shutil.rmtree(store / ".trash" / f"{id}~2")
    kept = [path.read_text() for path in sorted((store / ".trash").glob("*/record.json"))]
    assert sorted(kept) == sorted([texts[0], texts[2], texts[3]])
    assert qn_exp("restore", id)[0] == 0
    assert (store / f"{id}.json").read_text() == texts[3]


def test_a_study_and_a_mistyped_id_are_explained(store: Path, qn_exp: Call) -> None:
    id = make(store).id
    (store / "studies" / "20261126T000000Z-abcdabcd").mkdir(parents=True)
    code, _, err = qn_exp("show", "20261126T000000Z-abcdabcd")
    assert (code, err.count("\n")) == (2, 1)
    assert "is a study" in err
    wrong = id[:-3] + ("0" if id[-3] != "0" else "1") + id[-2:]
    assert f"did you mean {id}?" in qn_exp("show", wrong)[2]
    assert qn_exp("gather", id, "--name", "rate")[0] == 0
    assert qn_exp("plot", "rates")[2] == "error: no experiment 'rates' (did you mean rate?)\n"


def test_no_two_results_of_one_name_are_shown(store: Path, qn_exp: Call) -> None:
    out = qn_exp("show", make(store).id)[1]
    results = out[out.index("results\n") : out.index("over the run")].splitlines()[1:]
    names = [line[2 : line.index("  ", 3)] for line in results if line.startswith("  ")]
    assert {"total steps", "steps"} <= set(names)
    assert len(names) == len(set(names))


def test_rm_and_restore(store: Path, qn_exp: Call) -> None:
    first, second = make(store, 1), make(store, 2)
    before = {
        p.relative_to(store): p.read_bytes()
        for p in store.rglob("*")
        if p.suffix in (".json", ".jsonl")
    }
    code, _, _ = qn_exp("rm", first.id, second.id)
    assert code == 0
    assert statuses(qn_exp) == {}
    assert sorted(json.loads(qn_exp("restore", "--json")[1])["trash"]) == sorted(
        (first.id, second.id)
    )
    code, _, err = qn_exp("show", first.id)
    assert code == 2
    assert f"qn-exp restore {first.id}" in err
    assert qn_exp("restore", first.id, second.id)[0] == 0
    after = {
        p.relative_to(store): p.read_bytes()
        for p in store.rglob("*")
        if p.suffix in (".json", ".jsonl")
    }
    assert after == before
    assert qn_exp("restore")[1] == "the trash is empty\n"
    assert qn_exp("restore", "nope")[0] == 2
    assert qn_exp("fsck")[0] == 0


def test_restore_overwrites_nothing(store: Path, qn_exp: Call) -> None:
    made = make(store)
    record = store / f"{made.id}.json"
    kept = record.read_bytes()
    qn_exp("rm", made.id)
    record.write_bytes(kept + b"\n")
    code, _, err = qn_exp("restore", made.id)
    assert (code, err.count("\n")) == (3, 1)
    assert record.read_bytes() == kept + b"\n"
    qn_exp("rm", made.id)  # the second of that id in the trash
    assert qn_exp("restore", made.id)[0] == 0
    assert record.read_bytes() == kept + b"\n"


@pytest.mark.parametrize("command", ["rm", "restore"])
def test_an_interrupted_move_is_finished_by_the_same_command(
    store: Path, qn_exp: Call, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    made = make(store)
    if command == "restore":
        qn_exp("rm", made.id)

    class Kill(BaseException):
        pass

    calls = 0

    def interrupted(*_: object) -> None:
        raise Kill

    monkeypatch.setattr("qn_tracking.store.trash._synced", interrupted)
    with pytest.raises(Kill):
        qn_exp(command, made.id)
    monkeypatch.undo()
    monkeypatch.chdir(store.parent)
    assert statuses(qn_exp) == {made.id: "completed"}, calls  # never taken for a crash
    assert qn_exp(command, made.id)[0] == 0
    assert bool(statuses(qn_exp)) is (command == "restore")
    if command == "restore":
        assert qn_exp("fsck")[0] == 0
        assert os.listdir(store / ".trash") == []


# ------------------------------------------------------------------------------------ crashed runs


def test_a_killed_run_is_crashed_at_once_and_recovered_whole(store: Path, qn_exp: Call) -> None:
    whole, killed = child(store, "end"), child(store, "facts")
    assert statuses(qn_exp) == {killed: "crashed", whole: "completed"}
    (listed, _) = json.loads(qn_exp("list", "--json")[1])["experiments"]
    record = json.loads((store / f"{whole}.json").read_text())
    assert listed["path"] is None
    assert listed["tags"] == {"a": "b"}
    for key in ("episodes", "success_rate", "total_steps", "avg_steps", "curve_of"):
        assert listed["results"][key] == record["results"][key]
    assert listed["results"]["avg_reward"] == pytest.approx(record["results"]["avg_reward"])
    assert "600" in qn_exp("list", "--status", "crashed", "--where", "results.avg_steps > 20")[1]
    shown = json.loads(qn_exp("show", killed, "--json")[1])
    assert shown["digests"] == record["digests"]
    assert shown["results"] == record["results"]
    code, out, _ = qn_exp("fsck")
    assert code == 0
    assert f"qn-exp recover {killed}" in out
    code, out, err = qn_exp("recover", "--all")
    assert (code, out) == (0, f"recovered 600 episodes: experiments/{killed}.json\n")
    made = json.loads((store / f"{killed}.json").read_text())
    for key in (
        "digests",
        "results",
        "config",
        "tags",
        "notes",
        "seed",
        "episodes",
        "subject",
        "schema",
    ):
        assert made[key] == record[key], key
    assert made["status"] == "crashed"
    assert made["facts"]["metadata"]["system"] == record["facts"]["metadata"]["system"]
    assert [a["name"] for a in made["attachments"]] == [a["name"] for a in record["attachments"]]
    assert not (store / "runs" / killed / ".capture").exists()
    assert statuses(qn_exp)[killed] == "crashed"
    assert qn_exp("fsck")[0] == 0
    code, _, err = qn_exp("recover", killed)
    assert code == 2
    assert "has a record already" in err
    assert qn_exp("recover", "--all")[1] == "no run has crashed\n"


def test_a_torn_last_line_is_dropped_and_a_bad_one_in_the_middle_is_not(
    store: Path, qn_exp: Call
) -> None:
    killed = child(store, "now")
    journal = store / "runs" / killed / "episodes.jsonl"
    whole = journal.read_bytes()
    lines = whole.splitlines(keepends=True)
    journal.write_bytes(
        b"".join(lines[:10])
        + lines[10].replace(b'"steps":10', b'"steps":11')
        + b"".join(lines[11:])
    )
    code, _, err = qn_exp("recover", killed)
    assert code == 3
    assert "line 11: checksum does not match" in err
    assert not (store / f"{killed}.json").exists()
    code, out, _ = qn_exp("fsck")
    assert code == 1
    assert "line 11" in out
    journal.write_bytes(b"".join(lines[:10]) + b"".join(lines[11:]))
    assert "line 11: expected episode 10, got 11" in qn_exp("recover", killed)[2]
    journal.write_bytes(whole[:-20])
    assert json.loads(qn_exp("list", "--json")[1])["experiments"][0]["results"]["episodes"] == 599
    code, out, err = qn_exp("recover", killed)
    assert code == 0
    assert "torn last line" in err
    assert "recovered 599 episodes" in out
    record = json.loads((store / f"{killed}.json").read_text())
    assert any("torn" in text for text in record["warnings"])
    assert qn_exp("fsck")[0] == 0


def test_a_running_one_is_running_and_can_be_followed(store: Path, qn_exp: Call) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, "wait"], cwd=store.parent, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    id = process.stdout.readline().strip()
    assert process.stdout.readline() == "half\n"
    try:
        assert statuses(qn_exp) == {id: "running"}
        assert "300/600" in qn_exp("list")[1]
        for command in ("recover", "rm"):
            code, _, err = qn_exp(command, id)
            assert code == 2
            assert "still running" in err
        assert qn_exp("recover", "--all")[1] == "no run has crashed\n"
        assert qn_exp("fsck")[0] == 0
        tail = subprocess.Popen(
            [*PROGRAM, "tail", id, "--last", "2"],
            cwd=store.parent,
            stdout=subprocess.PIPE,
            text=True,
        )
        time.sleep(0.5)
        assert tail.poll() is None
        process.send_signal(signal.SIGINT)
        process.wait(timeout=300)
        out, _ = tail.communicate(timeout=300)
        assert out.splitlines()[0].split()[0] == "298"
        assert out.splitlines()[-1] == "— interrupted, 300 episodes"
        assert statuses(qn_exp) == {id: "interrupted"}
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_tail_of_one_that_is_over(store: Path, qn_exp: Call) -> None:
    made = make(store, episodes=30)
    out = qn_exp("tail", made.id)[1].splitlines()
    assert len(out) == 11
    assert out[-1] == "— completed, 30 episodes"
    lines = [
        json.loads(line) for line in qn_exp("tail", made.id, "-n", "0", "--json")[1].splitlines()
    ]
    assert [line["index"] for line in lines] == list(range(30))
    for last in (1, 2, 29, 30, 31, 10**9):
        out = qn_exp("tail", made.id, "-n", str(last), "--json")[1].splitlines()
        assert [json.loads(line) for line in out] == lines[-last:]
    shutil.rmtree(store / "runs")
    assert qn_exp("tail", made.id)[0] == 4


def test_tail_reads_the_end_of_a_journal_alone(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with track({}, experiments_dir=store, warn=lambda text: None) as run:
        for i in range(3000):
            run.episode(steps=i, termination='"index":7,"metrics":{')
    lines: list[Episode] = []
    made = read.Lines._episode

    def counted(self: read.Lines, line: bytes) -> Episode:
        lines.append(made(self, line))
        return lines[-1]

    monkeypatch.setattr(read.Lines, "_episode", counted)
    shown = [one for one in Experiments(store).tail(run.id, last=5) if one is not None]
    assert [one.steps for one in shown] == [2995, 2996, 2997, 2998, 2999]
    assert shown == lines
    # A line that is damaged is named, wherever the reading began.
    journal = store / "runs" / run.id / "episodes.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"steps":2997', b'"steps":2998'))
    with pytest.raises(StorageError, match="line 2998: checksum"):
        list(Experiments(store).tail(run.id, last=5))


def test_of_a_large_journal_without_a_record_only_the_end_is_read(
    store: Path, qn_exp: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = child(store, "now")
    assert "success" in qn_exp("show", killed)[1]
    monkeypatch.setattr(unfinished, "GLANCE", 1000)
    code, out, err = qn_exp("show", killed)
    assert code == 0
    assert "episodes  600" in out
    assert "summed up when the run has a record" in err
    assert qn_exp("recover", killed)[0] == 0
    code, out, err = qn_exp("show", killed)
    assert (code, err) == (0, "")
    assert "success" in out


def test_a_run_of_another_host_is_unknown(store: Path, qn_exp: Call) -> None:
    killed = child(store, "now")
    about = store / "runs" / killed / "run.json"
    host = os.uname().nodename
    about.write_text(about.read_text().replace(f'"host": "{host}"', '"host": "elsewhere"'))
    assert statuses(qn_exp) == {killed: "unknown"}
    for name in ("recover", "rm"):
        code, _, err = qn_exp(name, killed)
        assert code == 2
        assert "elsewhere" in err
    assert qn_exp("recover", killed, "--force")[0] == 0
    assert statuses(qn_exp) == {killed: "crashed"}


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM, errno.EREMOTEIO])
def test_without_locks_a_run_is_unknown_until_its_record_is_there(store: Path, number: int) -> None:
    env = without_locks(number)

    def call(*args: str, **how: Any) -> tuple[int, str, str]:
        done = command("qn-exp", *args, **{"env": env, **how})
        return done.returncode, done.stdout, done.stderr

    run = ("small.yml", "--episodes", "2", "--track-experiment")
    done = command("qn-run", *run, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("has no locks") == 1
    (record,) = store.glob("*.json")
    assert "has no locks" in json.loads(record.read_text())["warnings"][0]
    assert call("tag", record.stem, "a=b")[0] == 0
    assert call("export", record.stem, "--format", "bundle", "-o", "b.tar.gz")[0] == 0
    assert call("import", "b.tar.gz", "--experiments-dir", "copy")[0] == 0

    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, "wait"],
        cwd=store.parent,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    id = process.stdout.readline().strip()
    assert process.stdout.readline() == "half\n"
    try:
        for _ in ("alive", "dead"):
            # To a process that sees locks, that of the run is free: it is not dead for that.
            for seeing in (env, {}):
                asked = partial(call, env=seeing)
                assert statuses(asked)[id] == "unknown"
                assert '"status": "unknown"' in asked("show", id, "--json")[1]
                assert asked("recover", "--all")[:2] == (0, "no run has crashed\n")
                code, _, err = asked("recover", id)
                cause = "may be running: its file system has no locks (--force if it is not)"
                assert (code, err) == (2, f"error: {id}: {cause}\n")
                assert [asked(name, id)[0] for name in ("rm", "rerun", "fsck")] == [2, 4, 0]
            process.kill()
            process.wait()
    finally:
        process.kill()
        process.communicate()
    code, out, _ = call("recover", id, "--force")
    assert (code, out) == (0, f"recovered 300 episodes: experiments/{id}.json\n")
    assert statuses(call)[id] == "crashed"


def test_what_a_run_left_that_died_too_early(
    store: Path, qn_exp: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(store)
    for name, files in (
        ("nothing", {}),
        ("torn", {"run.json": b'{"id": "to', "episodes.jsonl": b""}),
    ):
        folder = store / "runs" / name
        folder.mkdir()
        for file, data in files.items():
            (folder / file).write_bytes(data)
    assert set(statuses(qn_exp).values()) == {"completed", "running"}  # it may be starting
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 10)
    code, _, err = qn_exp("list")
    assert code == 0
    assert "runs/torn/run.json: truncated" in err
    assert qn_exp("recover", "torn")[0] == 3
    assert qn_exp("rm", "torn")[0] == 0
    assert "torn" not in qn_exp("list")[2]


# -------------------------------------------------------------------------------------------- fsck


def _replaced(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert data.count(old) >= 1, old
    path.write_bytes(data.replace(old, new, 1))


FAULTS: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "metric": (
        lambda record, folder: _replaced(record, b'"avg_reward": 1.25', b'"avg_reward": 9.25'),
        "results.avg_reward: 9.25, but its episodes give 1.25",
    ),
    "rate": (
        lambda record, folder: _replaced(record, b'"success_rate": 0.5', b'"success_rate": 7.5'),
        "results.success_rate: 7.5 is no share",
    ),
    "spread": (
        lambda record, folder: _replaced(record, b'"max": 5', b'"max": 6'),
        "results.metrics.steps.max: 6.0, but its episodes give 5.0",
    ),
    "digest": (
        lambda record, folder: _replaced(record, b'"exact": "', b'"exact": "0'),
        "digests.exact: 0",
    ),
    "config": (
        lambda record, folder: _replaced(record, b'"gamma": 0.9', b'"gamma": 0.8'),
        "config.digest: the configuration has another digest",
    ),
    "unknown field": (
        lambda record, folder: _replaced(record, b'"seed": 1', b'"sed": 1'),
        "unknown key 'sed' (did you mean seed?)",
    ),
    "type": (
        lambda record, folder: _replaced(record, b'"episodes": null', b'"episodes": 1.5'),
        "episodes: expected",
    ),
    "status": (
        lambda record, folder: _replaced(record, b'"completed"', b'"great"'),
        "status: expected one of",
    ),
    "text": (
        lambda record, folder: _replaced(folder / "config.yml", b"0.9", b"0.8"),
        "attachments[0].sha256: is not what the record names",
    ),
    "no text": (lambda record, folder: (folder / "config.yml").unlink(), "config.yml: missing"),
    "no journal": (lambda record, folder: (folder / "episodes.jsonl").unlink(), "jsonl: missing"),
    "episode": (
        lambda record, folder: _replaced(folder / "episodes.jsonl", b'"steps":3', b'"steps":4'),
        "episodes.jsonl: line 4: checksum does not match",
    ),
    "torn": (
        lambda record, folder: (
            (folder / "episodes.jsonl").write_bytes((folder / "episodes.jsonl").read_bytes()[:-5])
            and None
        ),
        "torn last line",
    ),
    "id": (
        lambda record, folder: _replaced(record, b'"id": "', b'"id": "x'),
        "id: ",
    ),
    "outside": (
        lambda record, folder: _replaced(record, b'"name": "config.yml"', b'"name": "../x"'),
        "attachments[0].name",
    ),
    "labels with a key of no meaning": (
        lambda record, folder: (
            (folder / "labels.json").write_text('{"schema": 1, "tgas": {}}') and None
        ),
        "labels.json: unknown key 'tgas'",
    ),
    "labels": (
        lambda record, folder: (
            (folder / "labels.json").write_text('{"schema": 1, "tags": 3}') and None
        ),
        "labels.json: tags: expected a mapping",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fsck_finds_every_fault_and_names_the_field(store: Path, qn_exp: Call, fault: str) -> None:
    made, other = make(store), make(store, seed=2)
    assert qn_exp("fsck") == (0, "no faults in 2 records, 2 journals, 12 episodes\n", "")
    damage, told = FAULTS[fault]
    damage(store / f"{made.id}.json", store / "runs" / made.id)
    code, out, _ = qn_exp("fsck")
    assert code == 1
    assert told in out
    assert other.id not in out
    report = json.loads(qn_exp("fsck", "--json")[1])
    assert report["faults"] == len([f for f in report["findings"] if f["level"] == "fault"]) > 0
    if fault not in ("unknown field", "type", "id"):
        assert qn_exp("fsck", made.id)[0] == 1
    assert qn_exp("fsck", other.id)[0] == 0


def test_fsck_of_labels_without_a_record(store: Path, qn_exp: Call) -> None:
    made = make(store)
    assert qn_exp("tag", made.id, "a=b")[0] == 0
    (store / f"{made.id}.json").unlink()
    folder = store / "runs" / made.id
    for path in folder.iterdir():
        if path.name != "labels.json":
            path.unlink()
    assert qn_exp("fsck")[0] == 0
    (folder / "labels.json").write_text("[")
    code, out, _ = qn_exp("fsck")
    assert (
        code,
        out.splitlines()[0].startswith(f"fault: {store.name}/runs/{made.id}/labels.json"),
    ) == (1, True)


def test_fsck_of_records_without_their_texts(store: Path, qn_exp: Call) -> None:
    make(store)
    shutil.rmtree(store / "runs")
    assert qn_exp("fsck") == (0, "no faults in 1 record, 0 journals, 0 episodes\n", "")


# ---------------------------------------------------------------------------------------- commands


def test_help_and_mistakes(project: Path, qn_exp: Call) -> None:
    code, out, _ = qn_exp("--help")
    assert code == 0
    assert all(f"  {name} " in out for name in exp.COMMANDS)
    for wrong in (
        [],
        ["lits"],
        ["--json"],
        ["list", "--jsno"],
        ["show"],
        ["recover"],
        ["list", "x"],
    ):
        code, _, err = qn_exp(*wrong)
        assert (code, err.count("\n")) == (2, 1), wrong
    assert "did you mean list?" in qn_exp("lits")[2]
    for name in ("stats", "fsck", "recover"):
        args = ["--all"] if name == "recover" else []
        assert qn_exp(name, *args)[0] == 3  # no such folder


@pytest.mark.parametrize("command", exp.COMMANDS)
def test_every_command_has_json_and_a_folder(
    command: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        exp.main([command, "--help"])
    assert stop.value.code == 0
    out = capfd.readouterr().out
    assert "--json" in out
    assert "--experiments-dir" in out


@pytest.mark.slow
def test_sixteen_starts_at_once(store: Path, qn_exp: Call) -> None:
    code = (
        "from qn_tracking import track\n"
        "with track({'a': 1}, seed=1, blocked=('metadata',)) as run: run.episode(success=True)"
    )
    started = [subprocess.Popen([sys.executable, "-c", code], cwd=store.parent) for _ in range(16)]
    listing = [statuses(qn_exp) for _ in range(3) if store.exists()]
    assert [process.wait(timeout=300) for process in started] == [0] * 16
    assert not {s for found in listing for s in found.values()} - {"running", "completed"}
    assert list(statuses(qn_exp).values()) == ["completed"] * 16
    assert qn_exp("fsck")[0] == 0
