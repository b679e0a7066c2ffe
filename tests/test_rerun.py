"""`qn-exp rerun` and what it is made of, in a real repository that holds a copy of this program."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import time
import venv
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import qn_tracking
from conftest import BIN, Program, command
from qn_tracking import Experiments, Subject, track
from qn_tracking.errors import UnsupportedError, UsageError
from qn_tracking.records.divergence import first_difference
from qn_tracking.records.model import Episode, FrozenDict
from qn_tracking.reproduce import sandbox
from qn_tracking.reproduce.environment import environment
from qn_tracking.reproduce.worktree import check_commit, worktree

# Without bubblewrap such code is refused, unless that is wanted.
TRUST = ("--trust",) if sandbox.missing() is None else ("--trust", "--no-sandbox")

CHANGE = """

_step = StaticEnvironment.step


def _generous(self, action):
    strength, angle, reward, end = _step(self, action)
    return strength, angle, reward + (end == "goal_reached"), end


StaticEnvironment.step = _generous
"""

Git = Callable[..., str]
ROOT = Path(__file__).parent


@pytest.fixture
def repo(project: Path, git: Git, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with this program and a configuration, whose source comes first."""
    shutil.copytree(
        Path(qn_tracking.__file__).parent,
        project / "src" / "qn_tracking",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    (project / ".gitignore").write_text("__pycache__/\n/gitconfig\n/tmp/\n")
    (project / "tmp").mkdir()
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "first")
    monkeypatch.setenv("PYTHONPATH", str(project / "src"))
    monkeypatch.setenv("TMPDIR", str(project / "tmp"))
    return project


@pytest.fixture
def tidy(repo: Path, git: Git) -> Iterator[None]:
    """Nothing is left behind, whatever happened."""
    yield
    assert len(git("worktree", "list").splitlines()) == 1
    assert list((repo / "tmp").iterdir()) == []


def run_it(qn_run: Program, *args: str) -> str:
    """Tracks a run; returns its id."""
    done = qn_run("small.yml", "--seed", "7", "--track-experiment", "--json", *args)
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["id"])


def rerun(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return command("qn-exp", "rerun", *args, env=env)


def refused(done: subprocess.CompletedProcess[str], cause: str, code: int = 4) -> None:
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stdout == ""
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert cause in line


def record(id: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"experiments/{id}.json").read_bytes())
    return found


def edit(id: str, change: Callable[[dict[str, Any]], None]) -> None:
    """What a stranger may write into a record."""
    doc = record(id)
    change(doc)
    Path(f"experiments/{id}.json").write_text(json.dumps(doc))


def generous(repo: Path) -> None:
    with (repo / "src/qn_tracking/nematode/world.py").open("a") as out:
        out.write(CHANGE)


def lines(id: str) -> list[dict[str, Any]]:
    text = Path(f"experiments/runs/{id}/episodes.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


# ----------------------------------------------------------------------------------- the whole way


def test_from_python_it_returns_what_the_command_prints(project: Path, qn_run: Program) -> None:
    id = run_it(qn_run, "--episodes", "10")
    warnings: list[str] = []
    experiments = Experiments(warn=warnings.append)
    plan = experiments.rerun(id, dry_run=True)
    assert (plan.outcome, plan.id, plan.plan.planned, plan.plan.compared_by) == (
        "planned", None, 10, "episode",
    )  # fmt: skip
    again = experiments.rerun(id)
    assert (again.outcome, again.episodes, again.first_difference) == ("identical", 10, None)
    assert again.rerun_digests == again.digests
    assert again.id is not None
    assert experiments.get(again.id).origin is not None
    shutil.rmtree(f"experiments/runs/{id}")  # as git brings it
    assert experiments.rerun(id).plan.compared_by == "digest"
    assert rerun(id).stdout.startswith("identical: every number of 10 episodes")
    assert [text for text in warnings if "git" not in text] == []
    with pytest.raises(UsageError, match="env 'mine'"):
        experiments.rerun(id, env="mine")


def test_a_run_comes_out_again_until_the_code_changes(
    repo: Path, git: Git, qn_run: Program, tidy: None
) -> None:
    id = run_it(qn_run, "--episodes", "40", "--set", "brain.config.gamma=0.95")
    before = git("rev-parse", "HEAD")
    done = rerun("@1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("identical: every number of 40 episodes")
    again = done.stdout.split()[-1].removeprefix("experiments/").removesuffix(".json")
    doc = record(again)
    assert doc["origin"]["kind"] == "rerun"
    assert doc["origin"]["id"] == id
    assert doc["digests"] == record(id)["digests"]
    assert doc["config"] == record(id)["config"]

    generous(repo)
    git("commit", "-qam", "a kinder reward")
    done = rerun(id, "--json")
    assert done.returncode == 1, done.stderr
    said = json.loads(done.stdout)
    assert said["outcome"] == "different"
    pairs = list(zip(lines(id), lines(said["id"]), strict=True))
    first = next(i for i, (a, b) in enumerate(pairs) if a["reward"] != b["reward"])
    assert said["first_difference"]["episode"] == first
    assert said["first_difference"]["field"] == "reward"
    assert said["first_difference"]["second"] == said["first_difference"]["first"] + 1
    code = {row["field"]: row for row in said["differences"]["code"]}
    assert code["git.commit"]["origin"] == before
    assert code["git.commit"]["rerun"] == git("rev-parse", "HEAD")
    assert "qn_tracking.nematode.digest" in code
    assert said["differences"]["packages"] == said["differences"]["machine"] == []
    done = rerun(id, "--at-commit", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["outcome"] == "identical"
    assert said["how"] == [f"at commit {before}"]
    doc = record(said["id"])
    assert doc["facts"]["metadata"]["git"]["commit"] == before
    assert doc["facts"]["metadata"]["code"] == record(id)["facts"]["metadata"]["code"]
    assert doc["config"] == record(id)["config"]
    checked = subprocess.run([str(BIN / "qn-exp"), "fsck"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.slow
def test_what_was_not_committed_is_applied_with_trust_alone(
    repo: Path, git: Git, qn_run: Program, tidy: None
) -> None:
    generous(repo)
    id = run_it(qn_run, "--episodes", "10")
    commit = git("rev-parse", "HEAD")
    git("checkout", "-q", "src")
    done = rerun(id)
    assert done.returncode == 1
    assert ": reward: " in done.stdout
    assert "first at episode " in done.stdout
    assert "git.patch.sha256" in done.stdout
    assert commit not in done.stdout  # that is the same
    refused(rerun(id, "--at-commit"), "patch is code that no commit has (--trust")
    done = rerun(id, "--at-commit", *TRUST, PATH=f"{BIN}:/usr/bin:/bin")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("identical")
    assert ("warning: no isolation" in done.stderr) == (len(TRUST) == 2)


@pytest.mark.slow
@pytest.mark.skipif(sandbox.program() is None, reason="bubblewrap is not here, or not allowed")
def test_what_is_trusted_is_isolated(
    repo: Path, git: Git, qn_run: Program, monkeypatch: pytest.MonkeyPatch, tidy: None
) -> None:
    home = repo / "tmp" / "home"
    monkeypatch.setenv("HOME", str(home))
    mark = repo / "executed"
    with (repo / "src/qn_tracking/nematode/world.py").open("a") as out:
        out.write(
            "import os, socket\n"
            "def _attempt(do):\n"
            "    try:\n        do()\n    except OSError:\n        return\n"
            "    raise SystemExit('allowed')\n"
            "if os.path.basename(os.getcwd()).startswith('run-'):\n"
            f"    _attempt(lambda: open({str(ROOT / 'executed')!r}, 'a'))\n"
            f"    _attempt(lambda: open({str(mark)!r}, 'a'))\n"
            "    open('/tmp/mine', 'a').write('into a /tmp that is gone')\n"
            f"    _attempt(lambda: os.kill({os.getpid()}, 0))\n"
            f"    _attempt(lambda: os.stat({str(home / 'secret')!r}))\n"
            "    if 'QN_SECRET' in os.environ or len(socket.if_nameindex()) > 1:\n"
            "        raise SystemExit('seen')\n"
        )
    id = run_it(qn_run, "--episodes", "2")
    git("checkout", "-q", "src")
    home.mkdir()
    (home / "secret").write_text("x")
    done = rerun(id, "--at-commit", "--trust", "--json", QN_SECRET="x")
    shutil.rmtree(home)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["how"][-1] == "isolated"
    assert not mark.exists()


MINE = """\
import random
from qn_tracking import hookimpl
from qn_tracking.records.model import Subject


class Dice:
    subject = Subject(environment="dice", brain="luck", packages=("mine",))
    warnings = ()

    def episodes(self, count, seed):
        rng = random.Random(seed)
        for _ in range(count):
            yield {"success": rng.random() > 0.5, "steps": 1, "reward": rng.random()}


class Provider:
    @hookimpl
    def make_simulation(self, config):
        return Dice() if config.settings.get("simulation") == "dice" else None
"""
# Told where to look, says what of it can be read or written where it is run again.
PROBE = """\
import os

if os.path.basename(os.getcwd()).startswith("run-"):
    seen = [path for path in {hidden!r} if os.path.exists(path)]
    for path in {shown!r}:
        assert os.listdir(os.path.dirname(path)) and open(path).read(), path
        try:
            open(path, "a")
        except OSError:
            continue
        seen.append(path)
    if seen:
        raise SystemExit(f"allowed: {{seen}}")
"""
FINDER = """\
import sys
from importlib.util import spec_from_file_location

MAPPING = {mapping!r}


class Finder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return spec_from_file_location(name, MAPPING[name] + ".py") if name in MAPPING else None


sys.meta_path.append(Finder)
"""


class Editable:
    """A home with an environment in it, that has this program and a simulation as checkouts."""

    def __init__(self, home: Path, style: str) -> None:
        self.home, self.theirs = home, home / "theirs"
        self.python = home / "env" / "bin" / "python"
        self.program = home / "clone" / "src" / "qn_tracking"
        shutil.copytree(
            Path(qn_tracking.__file__).parent,
            self.program,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        self.code = self.theirs / ("src/mine/__init__.py" if style == "path" else "mine.py")
        self.code.parent.mkdir(parents=True)
        self.code.write_text(MINE)
        venv.create(home / "env", symlinks=True)
        (self.site,) = (home / "env").glob("lib/*/site-packages")
        installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
        relative = os.path.relpath(self.program.parent, self.site)
        path = [relative, *sorted(installed), str(home), "/", str(home / "gone")]
        if style == "path":
            path.append(str(self.code.parents[1]))
        else:
            mapping = {"mine": str(self.code.with_suffix(""))}
            (self.site / "__editable___mine_finder.py").write_text(FINDER.format(mapping=mapping))
            path.append("import __editable___mine_finder")
        (self.site / "all.pth").write_text("\n".join(path) + "\n")
        self.about = self.site / "mine-1.0.dist-info"
        self.about.mkdir()
        (self.about / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
        entry = "[qn_tracking]\nsimulation.dice = mine:Provider\n"
        (self.about / "entry_points.txt").write_text(entry)
        (self.theirs / "dice.yml").write_text("simulation: dice\n")
        (self.theirs / ".gitignore").write_text("__pycache__/\n/experiments/\nprivate.txt\n")

    def __call__(self, name: str, *args: str) -> subprocess.CompletedProcess[str]:
        program = f"from qn_tracking.cli.{name} import entry; entry()"
        return subprocess.run(
            [str(self.python), "-c", program, *args],
            cwd=self.theirs,
            capture_output=True,
            text=True,
            timeout=300,
        )


@pytest.fixture(params=["path", "table"])
def editable(
    project: Path, git: Git, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Editable:
    """With a package on the path, or a single module that an import hook has in a table."""
    made = Editable(project, request.param)
    monkeypatch.chdir(made.theirs)
    monkeypatch.setenv("HOME", str(project))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "first")
    return made


@pytest.mark.slow
@pytest.mark.skipif(sandbox.program() is None, reason="bubblewrap is not here, or not allowed")
def test_what_is_isolated_sees_what_is_installed_editable_and_nothing_beside(
    editable: Editable,
) -> None:
    hidden = [editable.home / ".private", editable.home / "module.py"]
    hidden += [editable.theirs / "private.txt", editable.code.parent.parent / "private.txt"]
    hidden += [editable.program.parent / "private.txt", editable.home / "clone" / "private.txt"]
    for path in hidden:
        path.write_text("x")
    shown = [editable.program / "records" / "model.py", editable.code]
    probe = PROBE.format(hidden=[*map(str, hidden)], shown=[*map(str, shown)])
    with editable.code.open("a") as out:
        out.write(probe)
    done = editable("run", "dice.yml", "--seed", "7", "--episodes", "5", "--track-experiment")
    assert done.returncode == 0, done.stderr
    # The way in which the probe says that it was allowed something.
    there = subprocess.run(
        [editable.python, "-c", "import mine"],
        cwd=tempfile.mkdtemp(prefix="run-", dir=editable.home),
        capture_output=True,
        text=True,
    )
    assert all(str(path) in there.stderr for path in (*hidden, *shown))
    done = editable("exp", "rerun", "@1", "--at-commit", "--trust", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["outcome"], said["how"][-1]) == ("identical", "isolated")


@pytest.mark.slow
def test_a_dry_run_says_what_a_rerun_would(editable: Editable) -> None:
    done = editable("run", "dice.yml", "--seed", "7", "--episodes", "5", "--track-experiment")
    assert done.returncode == 0, done.stderr
    assert editable("exp", "rerun", "@1", "--dry-run").stdout.startswith("ok, nothing was run\n")
    (editable.about / "entry_points.txt").unlink()
    dry, done = editable("exp", "rerun", "@1", "--dry-run"), editable("exp", "rerun", "@1")
    refused(done, "the present code cannot run it: dice.yml: simulation: unknown simulation")
    assert (dry.returncode, dry.stdout, dry.stderr) == (4, "", done.stderr)


@pytest.mark.slow
def test_the_record_alone_suffices(repo: Path, qn_run: Program) -> None:
    """As git brings it: without the folder of the run, and so without its episodes."""
    id = run_it(qn_run, "--episodes", "10")
    shutil.rmtree(f"experiments/runs/{id}")
    assert rerun(id).stdout.startswith("identical: every number of 10 episodes")
    generous(repo)
    done = rerun(id)
    assert done.returncode == 1
    assert "the episodes of the original are not here" in done.stdout


@pytest.mark.slow
def test_the_same_outcome_is_told_from_the_same_numbers(repo: Path, qn_run: Program) -> None:
    id = run_it(qn_run, "--episodes", "3", "--set", "brain.config.hidden_dim=4")
    place = repo / "src/qn_tracking/nematode/simulation.py"
    text = place.read_text()
    assert text.count('"reward": total,') == 1
    place.write_text(text.replace('"reward": total,', '"reward": total * (1 + 2**-50),'))
    done = rerun(id)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("same outcome: ")
    assert "first at episode 0: reward: " in done.stdout
    assert "qn_tracking.nematode.digest" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_of_a_run_that_broke_off_the_episodes_that_there_are(repo: Path, number: int) -> None:
    """One that was interrupted, and one that was killed and has no record at all."""
    command = [str(BIN / "qn-run"), "small.yml", "--seed", "1", "--episodes", "1000000"]
    child = subprocess.Popen([*command, "--track-experiment", "--quiet"])
    try:
        while not any(p.stat().st_size > 5000 for p in repo.glob("experiments/runs/*/*.jsonl")):
            assert child.poll() is None
            time.sleep(0.02)
        child.send_signal(number)
        child.wait(300)
    finally:
        child.kill()
    (folder,) = (repo / "experiments/runs").iterdir()
    count = len(lines(folder.name))
    done = rerun("@1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"identical: every number of {count} episodes")


@pytest.mark.slow
def test_a_dry_run_runs_nothing(repo: Path, git: Git, qn_run: Program, tidy: None) -> None:
    id = run_it(qn_run, "--episodes", "2")
    before = sorted(Path("experiments/runs").iterdir())
    done = rerun(id, "--at-commit", "--dry-run", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["commit"] == git("rev-parse", "HEAD")
    assert sorted(Path("experiments/runs").iterdir()) == before


# ------------------------------------------------------------------------------ what is not run


@pytest.mark.slow
def test_neither_hook_nor_filter_nor_monitor_is_run(
    repo: Path, git: Git, qn_run: Program, tidy: None
) -> None:
    (repo / ".gitattributes").write_text("*.md filter=evil\n*.yml filter=more\n")
    (repo / "a.md").write_text("a\n")
    git("add", "-A")
    git("commit", "-qm", "second")
    id = run_it(qn_run, "--episodes", "2")
    mark = repo / "executed"
    for name in ("post-checkout", "post-index-change", "reference-transaction", "post-commit"):
        hook = repo / ".git/hooks" / name
        hook.write_text(f"#!/bin/sh\necho {name} >> {mark}\n")
        hook.chmod(0o755)
    git("config", "filter.evil.smudge", f"sh -c 'echo smudge >> {mark}; cat'")
    git("config", "filter.evil.required", "true")
    (repo / ".git/more").write_text(f'[filter "more"]\n\tprocess = sh -c "echo more >> {mark}"\n')
    git("config", "include.path", str(repo / ".git/more"))
    git("config", "core.fsmonitor", f"sh -c 'echo monitor >> {mark}'")
    done = rerun(id, "--at-commit")
    assert done.returncode == 0, done.stderr
    assert not mark.exists()
    for name in ("filter.evil.smudge", "include.path", "core.fsmonitor"):
        git("config", "--unset", name)
    shutil.rmtree(repo / ".git/hooks")


@pytest.mark.slow
def test_a_commit_is_a_full_hash_and_here(repo: Path, qn_run: Program, tidy: None) -> None:
    id = run_it(qn_run, "--episodes", "2")

    def of(place: Any, commit: object) -> None:
        edit(id, lambda doc: place(doc["facts"]["metadata"]).update(commit=commit))

    no_hash = "is not the full hash of a commit"
    for commit in ("--upload-pack=touch executed", "HEAD", f"{'a' * 40}\n"):
        of(lambda facts: facts["code"][0], commit)
        refused(rerun(id, "--at-commit"), no_hash)
    of(lambda facts: facts["code"][0], None)
    of(lambda facts: facts["git"], "--upload-pack=touch executed")
    refused(rerun(id, "--at-commit"), no_hash)
    assert not (repo / "executed").exists()
    of(lambda facts: facts["git"], "a" * 40)
    refused(rerun(id, "--at-commit"), f"commit {'a' * 12} does not exist here")
    of(lambda facts: facts["git"], None)
    refused(rerun(id, "--at-commit"), "no commit was recorded")


@pytest.mark.parametrize(
    "commit", ["A" * 40, "a" * 39, "a" * 41, "", None, "-" * 40, "a" * 64 + "\n"]
)
def test_what_is_no_hash(commit: object) -> None:
    with pytest.raises(UnsupportedError, match="is not the full hash of a commit"):
        check_commit(commit)


@pytest.mark.slow
def test_a_commit_of_no_branch_takes_trust(
    repo: Path, git: Git, qn_run: Program, tidy: None
) -> None:
    (repo / "note").write_text("1")
    git("add", "-A")
    git("commit", "-qm", "fetched from somebody")
    id = run_it(qn_run, "--episodes", "2")
    git("update-ref", "refs/remotes/them/main", "HEAD")
    git("reset", "-q", "--hard", "HEAD~1")
    refused(rerun(id, "--at-commit"), "is in no branch of yours (--trust")
    assert rerun(id, "--at-commit", *TRUST).returncode == 0


@pytest.mark.parametrize("name", ["uncommitted.patch", "untracked.patch"])
@pytest.mark.parametrize(
    "patch",
    [
        "--- a/../../executed\n+++ b/../../executed\n@@ -0,0 +1 @@\n+x\n",
        "--- /dev/null\n+++ b/.git/hooks/x\n@@ -0,0 +1 @@\n+x\n",
        "nonsense\n",
    ],
)
def test_a_patch_that_leads_out_of_the_tree(
    patch: str, name: str, repo: Path, git: Git, tidy: None
) -> None:
    with (
        pytest.raises(UnsupportedError, match=f"{name}: does not apply"),
        worktree(str(repo), git("rev-parse", "HEAD"), [(name, patch.encode())]),
    ):
        pass
    assert not list(repo.rglob("executed"))


@pytest.mark.slow
def test_a_patch_is_the_one_that_the_record_names(repo: Path, qn_run: Program, tidy: None) -> None:
    generous(repo)
    id = run_it(qn_run, "--episodes", "2")
    (repo / f"experiments/runs/{id}/uncommitted.patch").write_text("nonsense\n")
    refused(rerun(id, "--at-commit", *TRUST), "not the text that the record names", 3)


@pytest.mark.slow
def test_a_redacted_patch_is_no_patch(repo: Path, qn_run: Program, tidy: None) -> None:
    with (repo / "src/qn_tracking/errors.py").open("a") as out:
        out.write('\nAPI_KEY = "gh' + "p_" + "a1B2" * 9 + '"\n')
    id = run_it(qn_run, "--episodes", "2")
    refused(rerun(id, "--at-commit", *TRUST), "secrets were taken out of its uncommitted patch")
    assert rerun(id).returncode == 0


def test_a_redacted_configuration_is_none(project: Path, qn_run: Program) -> None:
    with track(
        {"environment": {"type": "static"}, "brain": {"name": "mlp"}, "api_key": "s3cret99"}, seed=1
    ) as run:
        run.episode(success=True)
    edit(run.id, lambda doc: doc["subject"].update(packages=["qn_tracking.nematode"]))
    refused(rerun(run.id), "its configuration held secrets, which are not stored")


def test_a_configuration_that_was_edited_contradicts_its_digest(
    project: Path, qn_run: Program
) -> None:
    id = run_it(qn_run, "--episodes", "2")
    path = Path(f"experiments/runs/{id}/config.yml")
    path.write_text(path.read_text().replace("max_steps: 30", "max_steps: 31"))
    refused(rerun(id), "is not the text that the record names", 3)
    path.unlink()
    edit(id, lambda doc: doc["config"]["data"].update(max_steps=31))
    refused(rerun(id), "does not have the digest", 3)


@pytest.mark.slow
def test_a_plugin_of_its_own_is_never_loaded(repo: Path, qn_run: Program, tidy: None) -> None:
    (repo / "mine.py").write_text(
        "from qn_tracking import hookimpl\n"
        "open('executed', 'a').write('x')\n"
        "class Sink:\n    @hookimpl\n    def run_end(self): pass\n"
    )
    with (repo / "small.yml").open("a") as out:
        out.write("plugins: ['mine:Sink', progress]\n")
    id = run_it(qn_run, "--episodes", "2")
    (repo / "executed").unlink()
    refused(rerun(id), "plugin mine:Sink: a re-run loads no plugin of a folder")
    done = rerun(id, "--at-commit", *TRUST, "--no-plugin", "mine:Sink")
    assert done.returncode == 0, done.stderr
    assert "without progress" in done.stderr
    assert not (repo / "executed").exists()


def test_an_id_is_no_path(project: Path) -> None:
    assert rerun("--", "../x").returncode == rerun("a/../../b").returncode == 2


@pytest.mark.slow
def test_a_package_is_a_name(repo: Path, qn_run: Program, tidy: None) -> None:
    id = run_it(qn_run, "--episodes", "2")
    edit(id, lambda doc: doc["subject"].update(packages=["../../evil"]))
    refused(rerun(id, "--at-commit"), "'../../evil' is not the name of a package")


def test_runs_of_other_programs_are_not_run(project: Path, qn_run: Program) -> None:
    with track({"a": 1}, seed=1, blocked=["metadata"]) as run:
        run.episode(success=True)
    refused(rerun(run.id), "was recorded by a script, and how that was started is not in the rec")
    # That a simulation understands its configuration does not make it the one that ran.
    config = yaml.safe_load((project / "small.yml").read_text())
    loops = {
        "packages": Subject(environment="static", brain="mlp", packages=("mine",)),
        "brain": Subject(environment="static", brain="dqn", packages=("qn_tracking",)),
        "environment": Subject(environment="cart", brain="mlp", packages=("qn_tracking",)),
    }
    for field, subject in loops.items():
        with track(config, seed=1, subject=subject) as run:
            run.episode(success=True)
        for options in ((), ("--dry-run",)):
            refused(rerun(run.id, *options), f"{run.id}: subject.{field}: ")
    assert len(list(Path("experiments").glob("*.json"))) == 4
    id = run_it(qn_run, "--episodes", "2")
    edit(id, lambda doc: doc.update(status="imported"))
    refused(rerun(id), "another program ran it")
    edit(id, lambda doc: doc.update(status="completed", seed=None))
    refused(rerun(id), "no seed was recorded")


# ----------------------------------------------------------------------------------- the worktree


@pytest.mark.slow
def test_a_signal_takes_the_worktree_away(repo: Path, qn_run: Program, tidy: None) -> None:
    slow = "\nimport time\n_was = StaticEnvironment.end\n" + (
        "def _slow(self):\n    time.sleep(0.05)\n    return _was(self)\n"
        "StaticEnvironment.end = _slow\n"
    )
    with (repo / "src/qn_tracking/nematode/world.py").open("a") as out:
        out.write(slow)
    subprocess.run(["git", "commit", "-qam", "slow"], check=True)
    id = run_it(qn_run, "--episodes", "1000")  # 50 s of it
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        child = subprocess.Popen([str(BIN / "qn-exp"), "rerun", id, "--at-commit", "--json"])
        try:
            while not list(repo.glob("tmp/*/run-*/experiments/runs/*/episodes.jsonl")):
                assert child.poll() is None
                time.sleep(0.02)
            child.send_signal(number)
            assert child.wait(300) == code
        finally:
            child.kill()
    assert list(Path("experiments").glob("*.json")) == [Path(f"experiments/{id}.json")]


@pytest.mark.slow
def test_what_a_killed_process_left_is_swept(repo: Path, git: Git, tidy: None) -> None:
    program = (
        "import os, sys; from qn_tracking.reproduce.worktree import worktree\n"
        "with worktree('.', sys.argv[1]) as tree:\n    os.kill(os.getpid(), 9)"
    )
    commit = git("rev-parse", "HEAD")
    for gone in (False, True):
        subprocess.run([str(BIN / "python"), "-c", program, commit])
        assert len(git("worktree", "list").splitlines()) == 2
        if gone:  # as after a restart of the machine
            for place in (repo / "tmp").iterdir():
                shutil.rmtree(place)
        with worktree(str(repo), commit) as tree:
            assert (Path(tree) / "src/qn_tracking/records/model.py").exists()
            assert len(git("worktree", "list").splitlines()) == 2
            # One that lives is left alone.
            with worktree(str(repo), commit):
                assert len(git("worktree", "list").splitlines()) == 3


def test_a_worktree_that_is_not_ours_stays(repo: Path, git: Git) -> None:
    git("worktree", "add", "-q", "--detach", "../theirs-" + repo.name)
    theirs = repo.parent / f"theirs-{repo.name}"
    shutil.rmtree(theirs)  # on a disk that is not mounted now
    with worktree(str(repo), git("rev-parse", "HEAD")):
        pass
    assert "theirs-" in git("worktree", "list")


def test_outside_of_a_repository(project: Path) -> None:
    with (
        pytest.raises(UnsupportedError, match="not a git repository"),
        worktree(str(project), "a" * 40),
    ):
        pass


# -------------------------------------------------------------------------------- the environment


def wheel(folder: Path, name: str, version: str) -> None:
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as out:
        out.writestr(f"{name}.py", f"VERSION = '{version}'\n")
        meta = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        out.writestr(f"{info}/METADATA", meta)
        tag = "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        out.writestr(f"{info}/WHEEL", tag)
        out.writestr(f"{info}/RECORD", "")


@pytest.fixture
def index(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Packages of this folder, and no others."""
    folder = project / "wheels"
    folder.mkdir()
    wheel(folder, "tiny", "1.0")
    wheel(folder, "tiny", "2.0")
    for name in ("PIP_CONFIG_FILE", "PIP_NO_INDEX", "PIP_FIND_LINKS", "UV_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    return folder


@pytest.mark.slow
def test_the_recorded_versions_are_installed(project: Path, index: Path) -> None:
    python = environment("qn-tracking==9\ntiny==1.0\n", str(project / "environment"))
    program = "import tiny, sys; print(tiny.VERSION, sys.prefix)"
    done = subprocess.run([python, "-I", "-c", program], capture_output=True, text=True)
    assert done.stdout.split() == ["1.0", str(project / "environment")], done.stderr


@pytest.mark.slow
def test_what_cannot_be_had_is_named(repo: Path, index: Path, qn_run: Program, tidy: None) -> None:
    from hashlib import sha256

    id = run_it(qn_run, "--episodes", "2")
    text = "absent-one==1.0\ntiny==2.0\n"
    Path(f"experiments/runs/{id}/packages.txt").write_text(text)

    def change(doc: dict[str, Any]) -> None:
        for one in doc["attachments"]:
            if one["name"] == "packages.txt":
                one["sha256"] = sha256(text.encode()).hexdigest()

    edit(id, change)
    done = rerun(id, "--env", "recorded")
    refused(done, "packages.txt: not available: absent-one==1.0")


@pytest.mark.parametrize(
    "line", ["-r /etc/passwd", "--index-url=http://x", "tiny", "tiny @ file:///x", "Tiny==1;x"]
)
def test_a_list_of_packages_holds_nothing_else(line: str, project: Path) -> None:
    with pytest.raises(UnsupportedError, match="is not a package and its version"):
        environment(line, str(project / "environment"))


def test_a_python_that_is_not_here(project: Path) -> None:
    with pytest.raises(UnsupportedError, match="Python 3.2 is not installed"):
        environment("tiny==1.0", str(project / "environment"), version="3.2.1")


# ----------------------------------------------------------------------------------- the comparison


def episode(index: int, **fields: Any) -> Episode:
    for name in ("counts", "metrics"):
        fields[name] = FrozenDict(fields.get(name, {}))
    return Episode(index=index, **fields)


@pytest.mark.parametrize(
    ("one", "other", "field"),
    [
        ({"reward": 0.0}, {"reward": -0.0}, "reward"),
        ({"steps": 1}, {"steps": 2}, "steps"),
        ({"success": None}, {"success": False}, "success"),
        ({"metrics": {"a": 1.0, "b": 2.0}}, {"metrics": {"b": 2.5, "a": 1.0}}, "metrics.b"),
        ({"counts": {"n": 1}}, {}, "counts.n"),
    ],
)
def test_the_first_difference(one: Any, other: Any, field: str) -> None:
    same = episode(0, reward=float("nan"), metrics={"x": float("inf")})
    found = first_difference((same, episode(1, **one)), (same, episode(1, **other)))
    assert found is not None
    assert (found.episode, found.field) == (1, field)
    assert first_difference((same, episode(1, **one)), (same, episode(1, **one))) is None


def test_one_run_is_over_before_the_other() -> None:
    both = (episode(0), episode(1))
    found = first_difference(both, both[:1])
    assert found is not None
    assert (found.episode, found.field, found.present) == (1, "episode", (True, False))
