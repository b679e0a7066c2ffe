"""Runs side by side: declared first, the same whatever the number of workers, resumable."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from conftest import BIN, Program, command, wait_until, without_locks
from qn_tracking import Study
from qn_tracking.errors import UnsupportedError
from qn_tracking.ids import run_seed
from qn_tracking.repository import user_name

QN_RUN = str(BIN / "qn-run")


def records(folder: str = "experiments") -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(Path(folder).glob("*.json"))]


def study(folder: str = "experiments") -> dict[str, Any]:
    (path,) = Path(folder).glob("studies/*/study.json")
    return json.loads(path.read_text())  # type: ignore[no-any-return]


WRONG = {
    "too few seeds": ({"seeds": slice(0, 1)}, "seeds: 1 of them for 2 runs"),
    "no seeds": ({"seeds": slice(0, 0)}, "seeds: 0 of them, expected 1 to 999"),
    "equal seeds": ({"seeds": [7, 7], "seed": None}, "seeds: 7 is given twice"),
    "an impossible seed": (
        {"seeds": [7, -1], "seed": None},
        "seeds: expected a whole number from 0, below 2**53, got -1",
    ),
    "a foreign seed": (
        {"seeds": [7, 8]},
        "seeds[0]: 7 does not derive from the seed and the configuration of the study",
    ),
    "a seed that is text": ({"seeds": ["7", "8"]}, "seeds[0]: expected a whole number, got '7'"),
    "another id": ({"id": "other"}, "id: 'other' is not the name of the study"),
    "no episodes": ({"episodes": 0}, "episodes: expected 1 or more, got 0"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_study_file_that_contradicts_itself_is_one_line(
    project: Path, qn_run: Program, wrong: str
) -> None:
    made = Study.declare("small.yml", n_seeds=2, episodes=3)
    path = Path(f"experiments/studies/{made.id}/study.json")
    doc = json.loads(path.read_text())
    changes, cause = WRONG[wrong]
    for key, value in changes.items():
        doc[key] = doc[key][value] if isinstance(value, slice) else value
    assert command("qn-exp", "fsck").returncode == 0
    path.write_text(json.dumps(doc))
    done = qn_run("--resume", made.id)
    assert (done.returncode, done.stderr) == (3, f"error: {path}: {cause}\n")
    checked = command("qn-exp", "fsck")
    assert (checked.returncode, f"fault: {path}: {cause}\n" in checked.stdout) == (1, True)


@pytest.mark.slow
def test_results_do_not_depend_on_the_workers(project: Path, qn_run: Program) -> None:
    args = ("small.yml", "--n-seeds", "4", "--episodes", "20", "--seed", "1", "--tag", "a=b")
    digests = []
    for jobs in ("1", "3"):
        done = qn_run(*args, "--jobs", jobs, "--experiments-dir", f"e{jobs}")
        assert done.returncode == 0, done.stderr
        found = records(f"e{jobs}")
        assert [one["study"]["index"] for one in found] == [0, 1, 2, 3]
        assert len({one["seed"] for one in found}) == 4
        assert {one["tags"]["a"] for one in found} == {"b"}
        assert {one["facts"]["metadata"]["resources"]["jobs"] for one in found} == {int(jobs)}
        digests.append([one["digests"] for one in found])
    assert digests[0] == digests[1]
    declared = study("e1")
    assert declared["seeds"] == [one["seed"] for one in records("e1")]
    # One run alone gives what it gave among the others.
    seed = str(declared["seeds"][2])
    alone = json.loads(qn_run("small.yml", "--episodes", "20", "--seed", seed, "--json").stdout)
    assert alone["digests"] == digests[0][2]


def test_seeds_derive_from_configuration_study_and_index() -> None:
    seeds = {run_seed(d, s, i) for d in ("a", "b") for s in (1, 2) for i in range(50)}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**53 for seed in seeds)
    assert run_seed("a", 1, 0) == run_seed("a", 1, 0)


def test_json_tells_every_run(qn_run: Program) -> None:
    done = qn_run("small.yml", "--n-seeds", "2", "--episodes", "5", "--json")
    doc = json.loads(done.stdout)
    assert [one["status"] for one in doc["runs"]] == ["completed", "completed"]
    assert doc["finished"] == 2


CRASH = """
import os, signal
from pathlib import Path
from qn_tracking import hookimpl
class Sink:
    def __init__(self, index, times):
        self.index, self.times = index, times
    @hookimpl
    def run_start(self, run): self.me = run.study.index == self.index
    @hookimpl
    def episode_end(self, episode):
        if self.me and episode.index == 3:
            crashes = len(list(Path(".").glob("crashed*")))
            if crashes < self.times:
                Path(f"crashed{crashes}").touch()
                os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("times", "code"), [(1, 0), (2, 1)])
def test_a_worker_that_dies_costs_its_run_one_more_try(
    qn_run: Program, times: int, code: int
) -> None:
    Path("crash.py").write_text(CRASH)
    with Path("small.yml").open("a") as config:
        config.write(f"plugins: {{'crash:Sink': {{index: 1, times: {times}}}}}\n")
    done = qn_run("small.yml", "--n-seeds", "4", "--episodes", "10", "--jobs", "2", "--seed", "3")
    assert done.returncode == code, done.stderr
    assert "run 1: its worker died; once more, by itself" in done.stderr
    found = {one["study"]["index"]: one for one in records() if one["status"] == "completed"}
    assert sorted(found) == ([0, 1, 2, 3] if times == 1 else [0, 2, 3])
    if times == 1:
        assert found[1]["study"]["attempt"] == 1
        return
    assert "run 1: the worker died, twice" in done.stderr
    again = qn_run("--resume", study()["id"])
    assert again.returncode == 0, again.stderr
    done_now = [one["study"]["index"] for one in records() if one["status"] == "completed"]
    assert sorted(done_now) == [0, 1, 2, 3]


SECRETS = """
from types import SimpleNamespace
from qn_tracking import Subject, hookimpl
class Maker:
    @hookimpl
    def make_simulation(self, config):
        assert config.data["api_key"] == "swordfish"
        about = Subject(environment="e", brain="b", packages=("secrets_of",))
        return SimpleNamespace(subject=about, warnings=(), episodes=lambda n, seed: [{"steps": seed}] * n)
class Sink:
    def __init__(self, password): assert password == "hunter2"
    @hookimpl
    def run_start(self): pass
"""


@pytest.mark.slow
def test_a_study_with_secrets_goes_on_from_its_file_or_from_what_is_given(
    project: Path, qn_run: Program
) -> None:
    Path("secrets_of.py").write_text(SECRETS)
    text = "api_key: swordfish\nplugins: {'secrets_of:Maker': {}, 'secrets_of:Sink': {password: hunter2}}\n"
    Path("s.yml").write_text(text)
    made = Study.declare(
        "s.yml", n_seeds=2, episodes=3, seed=1, tags={"token": "abc"}, notes="password='abc'"
    )
    stored = Path(f"experiments/studies/{made.id}/study.json").read_text()
    assert not any(secret in stored for secret in ("swordfish", "hunter2", "abc"))
    done = qn_run("--resume", made.id)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("warning: s.yml: api_key: is taken for a secret and not stored") == 1
    other = Study.declare("s.yml", n_seeds=1, episodes=3, seed=2)
    Path("s.yml").write_text("api_key: other\n")
    done = qn_run("--resume", other.id)
    assert done.returncode == 4
    assert "its configuration held secrets, which are not stored" in done.stderr
    Path("same.yml").write_text(text)
    assert Study.load(other.id, config="same.yml").resume(jobs=1).finished == 1
    with pytest.raises(UnsupportedError, match="is of another configuration"):
        Study.load(other.id, config="s.yml").resume()


def test_a_run_that_fails_is_reported_and_the_others_are_kept(qn_run: Program) -> None:
    Path("bad.py").write_text(
        "from qn_tracking import hookimpl\nclass Sink:\n  @hookimpl\n  def run_start(self, run):\n"
        "    if run.study.index == 1: raise RuntimeError('boom')\n"
    )
    done = qn_run("small.yml", "--n-seeds", "3", "--episodes", "5", "--plugins", "bad:Sink")
    assert done.returncode == 1
    assert "run 1: plugin bad:Sink: run_start: RuntimeError: boom" in done.stderr
    assert sorted(one["study"]["index"] for one in records()) == [0, 2]


SLOW = """
import os, time
from qn_tracking import hookimpl
class Sink:
    @hookimpl
    def episode_end(self, run, episode):
        time.sleep(0.02)
        while os.path.exists("hold"): time.sleep(0.02)
        while run.study.index > 1 and os.path.exists("last"): time.sleep(0.02)
"""


def slow_study() -> subprocess.Popen[str]:
    Path("slow.py").write_text(SLOW)
    process = subprocess.Popen(
        [QN_RUN, "small.yml", "--n-seeds", "4", "--episodes", "40", "--seed", "5", "--jobs", "2",
         "--plugins", "slow:Sink"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_until(lambda: len(list(Path("experiments").glob("*.json"))) >= 2, process)
    return process


def study_at_its_last_runs() -> subprocess.Popen[str]:
    """Two of four runs are completed, the others wait in an episode as long as there is `last`."""
    Path("last").touch()
    process = slow_study()
    journals = Path("experiments/runs")
    wait_until(
        lambda: sum(path.stat().st_size > 0 for path in journals.glob("*/*.jsonl")) == 4, process
    )
    return process


def listed(*args: str) -> bytes:
    return subprocess.run([BIN / "qn-exp", "list", *args], capture_output=True, check=True).stdout


def digests_of(folder: str) -> list[Any]:
    found = [one for one in records(folder) if one["status"] == "completed"]
    return [one["digests"] for one in sorted(found, key=lambda one: one["study"]["index"])]


def test_a_study_is_run_by_one_process(project: Path, qn_run: Program) -> None:
    process = slow_study()
    Path("hold").touch()
    done = qn_run("--resume", study()["id"])
    Path("hold").unlink()
    assert done.returncode == 4
    assert "is being run by another process" in done.stderr
    assert done.stderr.count("\n") == 1
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said


@pytest.mark.slow
@pytest.mark.parametrize("first", ["workers", "parent"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_every_process_of_a_job_starts_nothing_new(
    project: Path, qn_run: Program, number: int, first: str
) -> None:
    process = study_at_its_last_runs()
    children = psutil.Process(process.pid).children(recursive=True)
    for one in [*children, process] if first == "workers" else [process, *children]:
        one.send_signal(number)
    Path("last").unlink()
    _, said = process.communicate(timeout=300)
    assert process.returncode == 128 + number, said
    assert f"go on with: qn-run --resume {study()['id']}" in said
    assert not any(word in said for word in ("once more", "Traceback"))
    found = records()
    assert [one["status"] for one in found] == [*["completed"] * 2, *["interrupted"] * 2]
    assert {one["study"]["attempt"] for one in found} == {0}
    assert len(os.listdir("experiments/runs")) == 4
    assert qn_run("--resume", study()["id"]).returncode == 0


@pytest.mark.slow
def test_a_worker_that_another_process_stops_costs_its_run_one_more_try(
    project: Path,
) -> None:
    process = study_at_its_last_runs()
    parent = psutil.Process(process.pid)
    workers = [one for one in parent.children(recursive=True) if one.ppid() != parent.pid]
    for one in workers:
        one.send_signal(signal.SIGTERM)
    Path("last").unlink()
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "its worker was stopped; once more, by itself" in said
    assert [(one["study"]["index"], one["status"]) for one in records()] == [
        (0, "completed"), (1, "completed"), (2, "interrupted"), (2, "completed"),
        (3, "interrupted"), (3, "completed"),
    ]  # fmt: skip


@pytest.mark.slow
def test_without_locks_a_run_that_may_go_on_is_not_begun_again(
    project: Path, qn_run: Program
) -> None:
    env = without_locks(errno.ENOLCK)
    declare = ("small.yml", "--n-seeds", "2", "--episodes", "5")
    done = qn_run(*declare, env=env)
    assert (done.returncode, done.stderr.count("experiments has no locks")) == (0, 1)
    first, _ = sorted(Path("experiments").glob("*.json"))
    first.unlink()
    again = qn_run("--resume", study()["id"], env=env)
    assert again.returncode == 1
    hint = f"if it is not: qn-exp recover --force {first.stem}"
    assert f"run 0 may be running: its file system has no locks ({hint})" in again.stderr
    assert command("qn-exp", "recover", "--force", first.stem).returncode == 0
    assert qn_run("--resume", study()["id"], env=env).returncode == 0
    assert [one["study"]["attempt"] for one in records()] == [0, 1, 0]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_study_that_was_stopped_goes_on_where_it_was(
    project: Path, qn_run: Program, number: int
) -> None:
    process = slow_study()
    process.send_signal(number)
    _, said = process.communicate(timeout=300)
    assert process.returncode == (130 if number == signal.SIGINT else -9)
    kept = {one["id"] for one in records() if one["status"] == "completed"}
    assert len(kept) >= 2
    if number == signal.SIGINT:
        assert f"go on with: qn-run --resume {study()['id']}" in said
    # Workers of a parent that was killed end by themselves.
    wait_until(lambda: b'"experiments": []' in listed("--status", "running", "--json"))
    done = qn_run("--resume", study()["id"], "--jobs", "2")
    assert done.returncode == 0, done.stderr
    assert kept <= {one["id"] for one in records() if one["status"] == "completed"}
    whole = qn_run(
        "small.yml", "--n-seeds", "4", "--episodes", "40", "--seed", "5", "--experiments-dir", "w"
    )
    assert whole.returncode == 0
    assert digests_of("experiments") == digests_of("w")
    # There is nothing left to do, and nothing is done.
    before = sorted(os.listdir("experiments/runs"))
    assert qn_run("--resume", study()["id"]).returncode == 0
    assert sorted(os.listdir("experiments/runs")) == before


@pytest.mark.slow
def test_a_study_that_goes_on_is_recorded_as_of_the_repository_of_its_configuration(
    project: Path, qn_run: Program, git: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "other", "third"):
        (project / name).mkdir()
        git("init", "-q", name)
        (project / name / "my.yml").write_text(Path("small.yml").read_text())
        git("add", ".", cwd=project / name)
        git("commit", "-qm", name, cwd=project / name)
    monkeypatch.chdir("other")
    Path("bad.py").write_text(
        "import os\nfrom qn_tracking import hookimpl\nclass Sink:\n  @hookimpl\n"
        "  def run_start(self, run):\n    if run.study.index == 1 and 'BAD' in os.environ:\n"
        "      raise RuntimeError('boom')\n"
    )
    done = qn_run(
        "../one/my.yml", "--n-seeds", "2", "--episodes", "5", "--plugins", "bad:Sink",
        "--experiments-dir", str(project / "e"), env={"BAD": "1"}, process=True,
    )  # fmt: skip
    assert done.returncode == 1
    declared = study(str(project / "e"))
    shutil.copy("bad.py", project / "third")
    monkeypatch.chdir(project / "third")
    refused = qn_run("--resume", declared["id"], "--experiments-dir", "../e")
    assert refused.returncode == 2
    assert "bad:Sink: is code of this folder" in refused.stderr  # and the study is not in it
    again = qn_run("--resume", declared["id"], "--experiments-dir", "../e", "--plugins", "bad:Sink")
    assert again.returncode == 0, again.stderr
    found = [one for one in records(str(project / "e")) if one["status"] == "completed"]
    states = [one["facts"]["metadata"]["git"] for one in found]
    assert [state["commit"] for state in states] == [
        git("rev-parse", "HEAD", cwd=project / "one")
    ] * 2
    assert [state["config_file"] for state in states] == ["my.yml"] * 2
    assert declared["arms"][0]["config_file"] == "../one/my.yml"


@pytest.mark.slow
def test_a_study_of_before_that_or_whose_file_is_gone_goes_on(
    project: Path, qn_run: Program
) -> None:
    Path("gone.yml").write_text(Path("small.yml").read_text())
    for edit in ("gone", "before"):
        folder = f"e-{edit}"
        args = ("gone.yml", "--n-seeds", "1", "--episodes", "5", "--experiments-dir", folder)
        assert qn_run(*args).returncode == 0
        (declared,) = Path(folder).glob("studies/*/study.json")
        doc = json.loads(declared.read_text())
        for record in Path(folder).glob("*.json"):
            record.unlink()
            shutil.rmtree(Path(folder) / "runs" / record.stem)
        if edit == "before":
            del doc["arms"][0]["config_file"]
            declared.write_text(json.dumps(doc))
        else:
            doc["arms"][0]["config_file"] = "../nowhere/gone.yml"
            declared.write_text(json.dumps(doc))
        done = qn_run("--resume", doc["id"], "--experiments-dir", folder)
        assert done.returncode == 0, done.stderr
        assert [one["status"] for one in records(folder)] == ["completed"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--resume", "nope"], "no study 'nope'"),
        (["--resume", "../x"], "is not an id"),
        (["small.yml", "--resume", "x"], "--resume cannot be combined with a configuration"),
        (["--resume", "x", "--seed", "4"], "--seed cannot be combined with --resume"),
        (["--resume", "x", "--set", "a=1"], "--set cannot be combined with --resume"),
        (["small.yml", "--jobs", "2"], "--jobs needs --n-seeds or --seeds"),
        (["small.yml", "--n-seeds", "0"], "expected a whole number from 1"),
        (["small.yml", "--n-seeds", "1000"], "--n-seeds: 1000: expected 1 to 999"),
        (["nope.yml", "--n-seeds", "2"], "nope.yml: no such file"),
    ],
)
def test_what_makes_no_sense_writes_nothing(
    project: Path, qn_run: Program, args: list[str], said: str
) -> None:
    done = qn_run(*args)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert not Path("experiments").exists()


def test_a_configuration_with_secrets_cannot_go_on(qn_run: Program) -> None:
    with Path("small.yml").open("a") as config:
        config.write("plugins: {json_storage: , 'sink:Sink': {api_key: hunter2secret}}\n")
    Path("sink.py").write_text(
        "from qn_tracking import hookimpl\nclass Sink:\n"
        "  def __init__(self, api_key): assert api_key == 'hunter2secret'\n"
        "  @hookimpl\n  def episode_end(self): pass\n"
    )
    done = qn_run("small.yml", "--n-seeds", "2", "--episodes", "3")
    assert done.returncode == 0, done.stderr
    for path in Path("experiments").rglob("*"):
        assert path.is_dir() or b"hunter2" not in path.read_bytes()


def test_who_sits_here_as_git_knows_them(
    project: Path, git: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert user_name() == "T"
    git("init", "-q", ".")
    assert user_name() == "T"
    git("config", "user.name", "Ada [include]")
    assert user_name(str(project)) == "Ada [include]"
    git("config", "--unset", "user.name")
    (project / "gitconfig").write_text("[user\nbroken")
    assert user_name() == ""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(project / "nowhere"))
    monkeypatch.setenv("PATH", str(project / "nowhere"))
    assert user_name() == ""


def test_a_disk_that_is_full_is_said_by_the_exit_code(project: Path) -> None:
    import resource

    done = subprocess.run(
        [QN_RUN, "small.yml", "--n-seeds", "2", "--episodes", "400", "--jobs", "2"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)),
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "EFBIG" in done.stderr
    # Those runs ended, and what is lacking are lines of their journals.
    assert {one["status"] for one in records()} == {"completed"}
