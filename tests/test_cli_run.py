"""`qn-run` as its users meet it: the real program, real signals, real files."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from conftest import BIN, Program, wait_until
from qn_tracking.cli.command import run

QN_RUN = str(BIN / "qn-run")


def records(folder: str = "experiments") -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(Path(folder).glob("*.json"))]


def journal(folder: str = "experiments") -> list[dict[str, Any]]:
    (path,) = Path(folder).glob("runs/*/episodes.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_tracked_run_is_a_record_and_a_journal_and_the_same_again(qn_run: Program) -> None:
    args = ("small.yml", "--episodes", "50", "--seed", "7", "--track-experiment")
    first = qn_run(*args, "--tag", "a=b", "--notes", "[/nope] \x1b[31m", "--experiments-dir", "one")
    assert first.returncode == 0, first.stderr
    assert "\nsaved one/" in first.stdout
    (one,) = records("one")
    assert (one["status"], one["seed"], one["episodes"], one["results"]["episodes"]) == (
        "completed",
        7,
        50,
        50,
    )
    assert (one["tags"], one["notes"]) == ({"a": "b"}, "[/nope] \x1b[31m")
    assert one["subject"]["family"] == "classical"
    assert len(journal("one")) == 50
    folder = Path("one/runs") / one["id"]
    assert (folder / "config.yml").read_text() == Path("small.yml").read_text()
    assert not list(Path("one").rglob("*.tmp"))
    second = qn_run(
        *args, "--experiments-dir", "two", env={"PYTHONHASHSEED": "5", "TZ": "Asia/Tokyo"}
    )
    assert second.returncode == 0
    assert records("two")[0]["digests"] == one["digests"]
    untracked = qn_run("small.yml", "--episodes", "50", "--seed", "7", "--json")
    assert json.loads(untracked.stdout)["digests"] == one["digests"]
    other = qn_run("small.yml", "--episodes", "50", "--seed", "8", "--json")
    assert json.loads(other.stdout)["digests"] != one["digests"]


def test_without_the_flags_nothing_is_written(project: Path, qn_run: Program) -> None:
    done = qn_run("small.yml", "--episodes", "3")
    assert done.returncode == 0
    assert "saved" not in done.stdout
    assert sorted(os.listdir(project)) == ["gitconfig", "small.yml"]


def test_a_random_seed_is_recorded_and_reproduces(qn_run: Program) -> None:
    first = json.loads(qn_run("small.yml", "--episodes", "5", "--json").stdout)
    again = qn_run("small.yml", "--episodes", "5", "--json", "--seed", str(first["seed"]))
    assert json.loads(again.stdout)["digests"] == first["digests"]
    other = json.loads(qn_run("small.yml", "--episodes", "5", "--json").stdout)
    assert other["seed"] != first["seed"]


def test_settings_in_the_configuration(qn_run: Program) -> None:
    with Path("small.yml").open("a") as config:
        config.write("seed: 11\nruns: 3\n")
    doc = json.loads(qn_run("small.yml", "--json").stdout)
    assert (doc["seed"], doc["episodes"], doc["results"]["episodes"]) == (11, 3, 3)
    over = json.loads(qn_run("small.yml", "--json", "--episodes", "2", "--seed", "0").stdout)
    assert (over["seed"], over["episodes"]) == (0, 2)


def test_a_file_that_is_edited_during_the_run_is_recorded_as_it_was_read(qn_run: Program) -> None:
    Path("edit.py").write_text(
        "import os\nfrom qn_tracking import hookimpl\nclass Sink:\n  @hookimpl\n"
        "  def run_start(self, run): os.truncate('small.yml', 5)\n"
    )
    before = Path("small.yml").read_bytes()
    done = qn_run("small.yml", "--episodes", "2", "--plugins", "edit:Sink", "--track-experiment")
    assert done.returncode == 0, done.stderr
    assert Path("small.yml").read_bytes() != before
    (record,) = records()
    assert record["config"]["sha256"] == sha256(before).hexdigest()
    assert (Path("experiments/runs") / record["id"] / "config.yml").read_bytes() == before


def test_an_override_is_recorded(qn_run: Program) -> None:
    doc = json.loads(
        qn_run("small.yml", "--episodes", "1", "--json", "--set", "brain.config.gamma=0.5").stdout
    )
    assert doc["config"]["overrides"] == {"brain.config.gamma": 0.5}
    assert doc["config"]["data"]["brain"]["config"]["gamma"] == 0.5


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nope.yml"], "nope.yml: no such file or directory"),
        (["."], ".: is a directory, not a file"),
        (["small.yml", "--sed", "7"], "unknown option --sed (did you mean --seed?)"),
        (["small.yml", "--run", "7"], "unknown option --run (did you mean --runs?)"),
        (["small.yml", "extra"], "2 configurations need --seeds or --n-seeds"),
        ([], "no configuration given"),
        (["small.yml", "--episodes", "0"], "expected a whole number from 1"),
        (["small.yml", "--episodes", "x"], "expected a whole number from 1"),
        (["small.yml", "--seed", "-1"], "--seed"),
        (["small.yml", "--seed", "1e3"], "expected a whole number from 0"),
        (["small.yml", "--seed", str(2**53)], f"from 0, below 2**53, got '{2**53}'"),
        (["--resume", ""], "--resume: expected the id of a study"),
        (["small.yml", "--resume", ""], "--resume: expected the id of a study"),
        (["small.yml", "--jobs", "2"], "--jobs needs --n-seeds or --seeds"),
        (["small.yml", "--contributor", "Ada"], "--contributor needs --save-benchmark"),
        (["small.yml", "--github", "ada"], "--github needs --save-benchmark"),
        (["small.yml", "--benchmark-notes", ""], "--benchmark-notes needs --save-benchmark"),
        (["small.yml", "--benchmarks-dir", "b"], "--benchmarks-dir needs --save-benchmark"),
        (["small.yml", "--yes"], "--yes needs --save-benchmark"),
        (["small.yml", "--n-seeds", "2", "--yes"], "--yes needs --save-benchmark"),
        (["--resume", "x", "--contributor", "A"], "--contributor cannot be combined with --resume"),
        (["--resume", "x", "--github", "a"], "--github cannot be combined with --resume"),
        (["--resume", "x", "--yes", "--benchmarks-dir", "b"], "no study 'x'"),
        (["small.yml", "--plugins", ""], "--plugins: expected a name"),
        (["small.yml", "--plugins", "a,,b"], "--plugins: expected a name"),
        (["small.yml", "--plugins", "nope"], "plugin nope: unknown plugin"),
        (["small.yml", "--tag", "x"], "--tag x: expected KEY=VALUE"),
        (
            ["small.yml", "--set", "max_steps=no"],
            "small.yml: max_steps: expected a whole number, got 'no'",
        ),
        (["small.yml", "--set", "max_steps=.nan"], "max_steps"),
        (["small.yml", "--set", "sed=3"], "unknown key 'sed' (did you mean seed?)"),
        (["small.yml", "--set", "simulation=foo"], "simulation: unknown simulation 'foo'"),
        (["small.yml", "--set", "simulation=5"], "simulation: expected text, got 5"),
        (["small.yml", "--no-plugin", "metdata"], "unknown plugin (did you mean metadata?)"),
        (["small.yml", "--set", "brain.config.gama=3"], "did you mean gamma?"),
        (["small.yml", "--set", "brain.name=nope"], "brain.name: unknown brain 'nope'"),
        (["small.yml", "--set", "environment.static.grid_size=4"], "environment.static.grid_size"),
        (["small.yml", "--set", "brain.config.hidden_dim=true"], "brain.config.hidden_dim"),
        (["small.yml", "--set", "max_steps=-3"], "max_steps"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    project: Path, qn_run: Program, args: list[str], said: str
) -> None:
    for more in ([], ["--track-experiment"]):
        done = qn_run(*args, *more)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert said in done.stderr
    assert sorted(os.listdir(project)) == ["gitconfig", "small.yml"]


BENCHMARK = ("small.yml", "--save-benchmark", "--benchmark-notes", "n")


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["--contributor", "A", "--github", "a b"], 2, "--github: is no account name"),
        (["--contributor", "A", "--github", ""], 2, "--github: is no account name"),
        (["--contributor", "A", "--benchmark-notes", "x" * 9999], 2, "--benchmark-notes: longer"),
        (["--contributor", "x" * 999], 2, "--contributor: longer"),
        (["--contributor", "A", "--benchmarks-dir", "/proc/x"], 3, "/proc/x/static_maze/classical"),
        (["--contributor", "A", "--benchmarks-dir", "small.yml"], 3, "not a directory (ENOTDIR)"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_what_keeps_a_benchmark_from_being_saved_is_said_before_it_runs(
    project: Path, qn_run: Program, args: list[str], code: int, said: str, more: list[str]
) -> None:
    done = qn_run(*BENCHMARK, *args, *more)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
    assert said in done.stderr
    assert sorted(os.listdir(project)) == ["gitconfig", "small.yml"]


@pytest.mark.slow
def test_the_first_benchmark_of_a_folder_keeps_its_caches_out_of_git(
    project: Path, qn_run: Program, git: Callable[..., str]
) -> None:
    git("init", "-q")
    save = (*BENCHMARK, "--contributor", "A", "--episodes", "50", "--jobs", "2", "--quiet", "--yes")
    done = qn_run(*save, "--seed", "1")
    assert done.returncode == 0, done.stderr
    assert "/.cache*\n/.verify/\n" in Path("benchmarks/.gitignore").read_text()
    for command in (["leaderboard"], ["validate"]):
        done = subprocess.run([BIN / "qn-bench", *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    Path("benchmarks/.verify/x").mkdir(parents=True)
    Path("benchmarks/.verify/x/y.json").write_text("{}")
    git("add", "benchmarks")
    assert list(Path("benchmarks").glob(".cache*"))
    (submission,) = Path("benchmarks/static_maze/classical").iterdir()
    assert git("ls-files").splitlines() == ["benchmarks/.gitignore", str(submission)]
    # A folder that holds submissions is somebody's already, with rules of its own.
    Path("benchmarks/.gitignore").unlink()
    assert qn_run(*save, "--seed", "2").returncode == 0
    assert not Path("benchmarks/.gitignore").exists()


def test_a_secret_is_in_no_file_of_a_run(project: Path, qn_run: Program) -> None:
    secret = "ghp_abcdefghijklmnopqrstuvwxyz0123456789"
    done = qn_run(
        "small.yml", "--episodes", "1", "--track-experiment", "--notes", f"{secret} password=x",
        "--tag", f"a=x_{secret}", "--tag", f"token={secret}=y",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    files = [path for path in Path("experiments").rglob("*") if path.is_file()]
    assert len(files) > 3
    for path in files:
        assert secret.encode() not in path.read_bytes(), path
    assert secret not in done.stdout + done.stderr


def test_a_plugin_named_twice_is_loaded_once(qn_run: Program) -> None:
    done = qn_run(
        "small.yml",
        "--episodes",
        "2",
        "--plugins",
        "json_storage,json_storage",
        "--plugins",
        "json_storage",
    )
    assert done.returncode == 0, done.stderr
    assert len(journal()) == 2


def test_dry_run_checks_everything_and_runs_nothing(project: Path, qn_run: Program) -> None:
    done = qn_run("small.yml", "--dry-run", "--track-experiment", "--json")
    assert done.returncode == 0
    doc = json.loads(done.stdout)
    assert (doc["episodes"], doc["seed"], doc["plugins"]) == (
        50,
        None,
        ["metadata", "json_storage"],
    )
    assert sorted(os.listdir(project)) == ["gitconfig", "small.yml"]
    assert qn_run("small.yml", "--dry-run", "--set", "brain.config.gamma=high").returncode == 2


def test_lists(qn_run: Program) -> None:
    configs = json.loads(qn_run("--list-configs", "--json").stdout)
    assert "mlp_dynamic_small" in [config["name"] for config in configs]
    assert all(config["about"] for config in configs)
    plugins = {row["name"]: row for row in json.loads(qn_run("--list-plugins", "--json").stdout)}
    assert plugins["json_storage"]["hooks"] == [
        "artifact_added",
        "episode_end",
        "episodes_end",
        "metrics_logged",
        "run_end",
        "run_start",
    ]
    assert plugins["nematode"]["on"] is True
    text = qn_run("--list-plugins", "--track-experiment").stdout
    assert [line.split()[4] for line in text.splitlines() if line.startswith("metadata")] == ["on"]


def test_help_has_examples_and_version_a_number(qn_run: Program) -> None:
    assert "examples:" in qn_run("--help").stdout
    assert qn_run("--version").stdout.startswith("qn-run 0.")


@pytest.mark.parametrize("name", ["mlp_dynamic_small", "modular_simple_medium"])
def test_shipped_configurations_run(qn_run: Program, name: str) -> None:
    done = qn_run(name, "--episodes", "2", "--seed", "1", "--track-experiment")
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------------------------ plugins

SINK = """\
from qn_tracking import hookimpl

class Sink:
    @hookimpl
    def run_start(self, run): self.write("start")
    @hookimpl
    def episode_end(self, episode): self.write(f"episode {episode.index}")
    @hookimpl
    def run_end(self, experiment): self.write("end")
    def write(self, text): print(text, file=open("heard.txt", "a"))
"""


def test_a_plugin_of_ten_lines_hears_everything(qn_run: Program) -> None:
    Path("mysink.py").write_text(SINK)
    done = qn_run("small.yml", "--episodes", "50", "--plugins", "mysink:Sink", process=True)
    assert done.returncode == 0, done.stderr
    heard = Path("heard.txt").read_text().splitlines()
    assert heard == ["start", *(f"episode {i}" for i in range(50)), "end"]


@pytest.mark.parametrize("error", ["RuntimeError('boom')", "SystemExit(0)"])
def test_one_that_raises_costs_neither_the_run_nor_the_record(qn_run: Program, error: str) -> None:
    Path("bad.py").write_text(
        "from qn_tracking import hookimpl\nclass Sink:\n"
        f"  @hookimpl\n  def episode_end(self, episode): raise {error}\n"
    )
    done = qn_run(
        "small.yml", "--episodes", "5", "--plugins", "bad:Sink", "--track-experiment", "--quiet"
    )
    assert done.returncode == 0
    assert done.stderr.count("plugin bad:Sink: episode_end") == 1
    (record,) = records()
    assert record["results"]["episodes"] == 5
    assert [f["plugin"] for f in record["failures"]] == ["bad:Sink"]
    assert len(journal()) == 5


@pytest.mark.parametrize(("hook", "left"), [("run_start", 0), ("run_end", 1)])
def test_one_that_raises_at_start_or_end_is_exit_1(qn_run: Program, hook: str, left: int) -> None:
    argument = "experiment" if hook == "run_end" else "run"
    Path("bad.py").write_text(
        "from qn_tracking import hookimpl\nclass Sink:\n"
        f"  @hookimpl\n  def {hook}(self, {argument}): raise SystemExit(0)\n"
    )
    done = qn_run("small.yml", "--episodes", "5", "--plugins", "bad:Sink", "--track-experiment")
    assert done.returncode == 1
    assert "plugin bad:Sink" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(records()) == left


def test_a_slow_plugin_is_named_with_its_share(qn_run: Program) -> None:
    Path("slow.py").write_text(
        "from qn_tracking import hookimpl\nimport time\nclass Sink:\n"
        "  @hookimpl\n  def episode_end(self, episode): time.sleep(0.05)\n"
    )
    done = qn_run("small.yml", "--episodes", "5", "--plugins", "slow:Sink")
    assert re.search(r"warning: plugin slow:Sink took \d+% of the run\n", done.stderr)
    assert done.stderr.count("slow:Sink") == 1
    many = qn_run("small.yml", "--episodes", "5", "--n-seeds", "2", "--plugins", "slow:Sink")
    assert re.search(r"slow plugins .*\bslow:Sink \d+%", many.stdout)


def test_a_simulation_that_raises(qn_run: Program) -> None:
    Path("bad.py").write_text("""
from qn_tracking import hookimpl, Subject
class Bad:
    warnings = ()
    subject = Subject(environment="bad")
    def episodes(self, count, seed):
        yield {"success": True}
        yield {"success": True}
        raise RuntimeError("out of food\\nreally")
class Sink:
    @hookimpl
    def make_simulation(self, config): return Bad()
""")
    done = qn_run(
        "small.yml", "--episodes", "5", "--plugins", "bad:Sink", "--track-experiment", "--quiet"
    )
    assert done.returncode == 1
    assert "error: simulation: RuntimeError: out of food\\nreally" in done.stderr
    assert "Traceback" not in done.stderr
    (record,) = records()
    assert (record["status"], record["results"]["episodes"]) == ("failed", 2)
    assert record["error"]["type"] == "RuntimeError"
    assert "in episodes" in record["error"]["traceback"]


WRONG = """
from qn_tracking import hookimpl, Subject
class Made:
    warnings = ()
    subject = Subject(environment="toy", family="classical")
    def episodes(self, count, seed):
        for _ in range(count): yield {"success": True}
class Sink:
    @hookimpl
    def make_simulation(self, config):
        made = Made()
        CHANGE
        return made
"""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("made = 'text'", "subject: expected a Subject, got NoneType"),
        ("made.subject = {'environment': 'toy'}", "subject: expected a Subject, got dict"),
        ("made.subject = Subject(environment=5)", "subject.environment: expected text, got int"),
        ("made.subject = Subject(packages='toy')", "subject.packages: expected a tuple of texts"),
        ("made.warnings = 'look out'", "warnings: expected a tuple of texts, got str"),
        ("made.episodes = None", "episodes: expected a method, got NoneType"),
    ],
)
def test_what_is_no_simulation_is_not_run(qn_run: Program, change: str, said: str) -> None:
    Path("wrong.py").write_text(WRONG.replace("CHANGE", change))
    for more in ((), ("--n-seeds", "2")):
        done = qn_run("small.yml", "--plugins", "wrong:Sink", "--track-experiment", *more)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert done.stderr.startswith(f"error: small.yml: make_simulation: {said}")
    assert records() == []


def test_a_simulation_that_goes_on_has_failed(qn_run: Program) -> None:
    text = WRONG.replace("range(count)", "range(count + 1)").replace("CHANGE", "pass")
    Path("wrong.py").write_text(text)
    args = ("--episodes", "5", "--plugins", "wrong:Sink", "--track-experiment")
    done = qn_run("small.yml", *args)
    assert done.returncode == 1
    assert "the simulation went on after 5 episodes" in done.stderr
    (record,) = records()
    assert (record["status"], record["results"]["episodes"]) == ("failed", 5)


# ------------------------------------------------------------------------------------------ signals


def endless(*more: str) -> subprocess.Popen[str]:
    """A run that goes on until it is stopped; ready once some episodes are in its journal."""
    process = subprocess.Popen(
        [QN_RUN, "small.yml", "--episodes", "1000000", "--track-experiment", "--quiet", *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(
        lambda: any(
            path.stat().st_size > 2000 for path in Path("experiments").glob("runs/*/episodes.jsonl")
        ),
        process,
    )
    return process


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_the_run_after_the_episode(project: Path, number: int, code: int) -> None:
    process = endless()
    process.send_signal(number)
    _, said = process.communicate(timeout=300)
    assert process.returncode == code
    assert "stopping after this episode" in said
    (record,) = records()
    assert record["status"] == "interrupted"
    assert record["results"]["episodes"] == len(journal()) > 5


def test_a_second_one_ends_it_at_once(project: Path) -> None:
    Path("hang.py").write_text(
        "from qn_tracking import hookimpl\nimport time\nclass Sink:\n"
        "  @hookimpl\n  def episode_end(self, episode):\n"
        "    if episode.index == 20: time.sleep(600)\n"
    )
    process = endless("--plugins", "hang:Sink")
    (lines,) = Path("experiments").glob("runs/*/episodes.jsonl")
    wait_until(lambda: lines.read_bytes().count(b"\n") == 21, process)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    # A plugin that has been busy for a while by then is not waited for in the first place.
    if "stopping after this episode" in process.stderr.readline():
        process.send_signal(signal.SIGINT)
    process.communicate(timeout=300)  # of 600 that it would sleep
    assert process.returncode == 130
    assert [line["index"] for line in journal()] == list(range(21))
    for record in records():  # none, if the disk is too slow for "at once"
        assert (record["status"], record["results"]["episodes"]) == ("interrupted", 21)


def test_a_plugin_that_hangs_even_at_the_end_cannot_keep_us(project: Path) -> None:
    Path("hang.py").write_text(
        "from qn_tracking import hookimpl\nimport time\nclass Sink:\n"
        "  @hookimpl\n  def run_end(self, experiment):\n"
        "    while True:\n      try: time.sleep(600)\n      except BaseException: pass\n"
    )
    process = endless("--plugins", "hang:Sink")
    process.send_signal(signal.SIGINT)
    wait_until(lambda: list(Path("experiments").glob("*.json")))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=300)
    assert process.returncode == 130
    (record,) = records()  # the storage heard the end first
    assert record["results"]["episodes"] == len(journal())


@pytest.mark.slow
def test_a_plugin_that_hangs_is_named(project: Path) -> None:
    Path("hang.py").write_text(
        "from qn_tracking import hookimpl\nfrom qn_tracking.tracking import runner\nimport time\n"
        "runner.HANG_SECONDS = 0.5\nclass Sink:\n"
        "  @hookimpl\n  def episode_end(self, episode): time.sleep(3)\n"
    )
    done = subprocess.run(
        [QN_RUN, "small.yml", "--episodes", "1", "--quiet", "--plugins", "hang:Sink"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0
    assert "plugin hang:Sink has been busy for" in done.stderr


def test_a_kill_loses_no_episode_that_was_acknowledged(project: Path) -> None:
    Path("ack.py").write_text(
        "from qn_tracking import hookimpl\nimport os\nclass Sink:\n"
        "  @hookimpl\n  def episode_end(self, episode): os.write(1, b'%d\\n' % episode.index)\n"
    )
    process = endless("--plugins", "ack:Sink")
    process.kill()
    said, _ = process.communicate(timeout=300)
    last = int(said.rpartition("\n")[0].splitlines()[-1])
    assert records() == []
    text = next(Path("experiments").glob("runs/*/episodes.jsonl")).read_text()
    kept = [json.loads(line)["index"] for line in text.splitlines() if line.endswith("}")]
    assert kept == list(range(len(kept)))
    assert kept[-1] >= last


def test_output_that_nobody_reads_any_more(project: Path) -> None:
    command = f"{QN_RUN} small.yml --episodes 2 --json | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""


def test_a_terminal_of_the_poorest_kind(qn_run: Program) -> None:
    env = {
        "LC_ALL": "C",
        "LANG": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "COLUMNS": "20",
    }
    Path("käse.yml").write_text(Path("small.yml").read_text())
    done = qn_run("käse.yml", "--episodes", "3", env=env, process=True)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    done.stdout.encode("ascii")


@pytest.mark.slow
def test_sixteen_at_once(project: Path) -> None:
    args = [QN_RUN, "small.yml", "--episodes", "3", "--track-experiment", "--quiet"]
    processes = [subprocess.Popen(args, stderr=subprocess.PIPE, text=True) for _ in range(16)]
    for process in processes:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    assert len({record["id"] for record in records()}) == 16


def test_progress_is_plain_lines_without_a_terminal_and_a_bar_on_one(project: Path) -> None:
    import pty

    master, slave = pty.openpty()
    process = subprocess.Popen(
        [QN_RUN, "mlp_dynamic_small", "--episodes", "60", "--seed", "1"],
        stdout=subprocess.DEVNULL, stderr=slave,
    )  # fmt: skip
    os.close(slave)
    seen = b""
    while True:
        try:
            block = os.read(master, 65536)
        except OSError:
            break
        if not block:
            break
        seen += block
    os.close(master)
    assert process.wait(timeout=300) == 0
    assert b"/60  success" in seen
    assert b"left" in seen


def test_the_module_can_be_run_without_the_script(project: Path) -> None:
    program = "from qn_tracking.cli.run import entry; entry()"
    done = subprocess.run(
        [sys.executable, "-c", program, "nope.yml"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def there(folder: str) -> list[Path]:
    return [*Path(folder).glob("runs/*/episodes.jsonl")]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_saved_is_said_only_of_what_is_saved(project: Path) -> None:
    for pause in (0.2, 0.9, 1.6):  # of the two seconds that its end takes
        process = subprocess.Popen(
            ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync", "-e",
             "inject=fsync:delay_enter=300000", QN_RUN, "small.yml", "--episodes", "3", "--seed", "1",
             "--track-experiment", "--experiments-dir", str(pause)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        wait_until(partial(there, str(pause)), process)
        time.sleep(pause)
        for _ in range(2):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.2)
        said, _ = process.communicate(timeout=300)
        for line in said.splitlines():
            if line.startswith("saved "):
                assert Path(line.removeprefix("saved ")).exists()


@pytest.mark.parametrize("where", ["episode_end", "run_end"])
def test_an_interrupt_without_a_signal_is_no_success(qn_run: Program, where: str) -> None:
    Path("ki.py").write_text(
        "from qn_tracking import hookimpl\nclass Sink:\n"
        f"  @hookimpl\n  def {where}(self): raise KeyboardInterrupt\n"
    )
    done = qn_run("small.yml", "--episodes", "3", "--plugins", "ki:Sink", "--track-experiment")
    assert done.returncode == 130
    assert len(records()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("error", ["KeyboardInterrupt", "ValueError"])
def test_ctrl_c_while_the_program_is_imported_says_nothing(error: str) -> None:
    code = f"import sys; sys.argv = ['qn-exp']; import qn_tracking.cli; raise {error}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert ("Traceback" in done.stderr) == (error == "ValueError")


def test_a_provider_or_a_simulation_cannot_end_the_program(qn_run: Program) -> None:
    Path("bad.py").write_text("""
from qn_tracking import hookimpl, Subject
class Maker:
    @hookimpl
    def make_environment(self, config): raise SystemExit(0)
class Exits:
    warnings = ()
    subject = Subject()
    def episodes(self, count, seed):
        yield {"success": True}
        raise SystemExit(0)
class Sink:
    @hookimpl
    def make_simulation(self, config): return Exits()
""")
    done = qn_run("small.yml", "--plugins", "bad:Maker")
    assert done.returncode == 1
    assert "plugin bad:Maker: make_simulation: SystemExit" in done.stderr
    done = qn_run("small.yml", "--episodes", "4", "--plugins", "bad:Sink", "--track-experiment")
    assert done.returncode == 1
    assert "sys.exit(0) in the simulation" in done.stderr
    assert records()[0]["status"] == "failed"


@pytest.mark.slow
def test_what_is_ignored_stays_ignored(project: Path) -> None:
    process = endless()
    process.kill()
    process.communicate()
    started = subprocess.Popen(
        ["nohup", QN_RUN, "small.yml", "--episodes", "20000", "--quiet", "--track-experiment",
         "--experiments-dir", "other"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_until(lambda: list(Path("other").glob("runs/*/episodes.jsonl")))
    started.send_signal(signal.SIGHUP)
    assert started.wait(timeout=300) == 0


def test_stderr_that_nobody_reads(project: Path) -> None:
    command = (
        f"({QN_RUN} mlp_dynamic_small --episodes 3 --track-experiment; echo $? > code) 2>&1 | true"
    )
    subprocess.run(["bash", "-c", command], check=True)
    assert len(records()) == 1


def test_names_of_metrics_are_shown_escaped(qn_run: Program) -> None:
    Path("odd.py").write_text(r"""
from qn_tracking import hookimpl, Subject
class Odd:
    warnings = ()
    subject = Subject(environment="\x1b[31m", brain="b\u202e")
    def episodes(self, count, seed):
        yield {"metrics": {"m\x1b[31m\n": 1.0}, "termination": "\x07"}
class Sink:
    @hookimpl
    def make_simulation(self, config): return Odd()
""")
    done = qn_run("small.yml", "--episodes", "1", "--plugins", "odd:Sink")
    assert done.returncode == 0
    assert not set(done.stdout) & {"\x1b", "\x07", "\u202e"}
    assert "m\\x1b[31m\\n" in done.stdout


def test_no_two_rows_of_a_summary_have_one_name(qn_run: Program) -> None:
    Path("odd.py").write_text("""
from qn_tracking import hookimpl, Subject
class Odd:
    warnings = ()
    subject = Subject(environment="e", brain="b")
    def episodes(self, count, seed):
        names = ("status", "episodes", "success", "ended", "seed", "speed")
        yield {"success": True, "metrics": dict.fromkeys(names, 7.0), "termination": "won"}
class Sink:
    @hookimpl
    def make_simulation(self, config): return Odd()
""")
    done = qn_run("small.yml", "--episodes", "1", "--plugins", "odd:Sink", "--seed", "3")
    rows = dict(line.split(maxsplit=1) for line in done.stdout.splitlines()[1:])
    assert len(rows) == len(done.stdout.splitlines()) - 1
    assert (rows["seed"], rows["metrics.seed"], rows["speed"]) == ("3", "7", "7")


def test_text_that_is_not_utf8(qn_run: Program) -> None:
    name = os.fsdecode(b"c\xe9.yml")
    Path(name).write_text(Path("small.yml").read_text())
    odd = os.fsdecode(b"\xff")
    done = qn_run(
        name,
        "--episodes",
        "1",
        "--quiet",
        "--track-experiment",
        "--notes",
        odd,
        "--tag",
        f"a={odd}",
    )
    assert done.returncode == 0, done.stderr
    assert records()[0]["notes"] == "\\udcff"
    more = ("--episodes", "1", "--quiet", "--n-seeds", "1", "--experiments-dir", "more")
    done = qn_run(name, *more, "--notes", odd, "--tag", f"{odd}={odd}")
    assert done.returncode == 0, done.stderr
    assert records("more")[0]["notes"] == "\\udcff"
    assert records("more")[0]["tags"] == {"\\udcff": "\\udcff"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "args", [["--version"], ["small.yml", "--episodes", "2"], ["--list-configs"]]
)
def test_a_stream_that_the_shell_has_closed(project: Path, args: list[str]) -> None:
    for stream in (1, 2):
        done = subprocess.run(
            [str(BIN / "qn-run"), *args],
            preexec_fn=lambda stream=stream: os.close(stream),
            stdout=None if stream == 1 else subprocess.PIPE,
            stderr=None if stream == 2 else subprocess.PIPE,
            text=True,
        )
        assert done.returncode == 0
        assert "Traceback" not in (done.stderr or "") + (done.stdout or "")


@pytest.mark.parametrize(
    "error", [TypeError, MemoryError, RecursionError, KeyError, AssertionError]
)
@pytest.mark.parametrize("name", ["run", "exp", "bench"])
def test_an_error_that_nothing_expected_is_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    error: type[Exception],
) -> None:
    def fail(argv: object) -> int:
        raise error("odd\nthing")

    monkeypatch.setattr(sys, "argv", [f"qn-{name}"])
    with pytest.raises(SystemExit) as ended:
        run(fail)
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: internal: {error.__name__}: ")
    assert said.count("\n") == 1
    monkeypatch.setenv("QN_TRACEBACK", "1")
    with pytest.raises(SystemExit):
        run(fail)
    assert "Traceback (most recent call last)" in capsys.readouterr().err
