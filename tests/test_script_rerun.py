"""`qn-exp rerun` of a script: what was started is started again, and compared."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

import qn_tracking
from conftest import Program
from qn_tracking import Experiments, UnsupportedError, track
from qn_tracking.errors import UsageError
from qn_tracking.records.divergence import Divergence
from qn_tracking.records.provenance import Script
from qn_tracking.reproduce import sandbox
from qn_tracking.reproduce.script import (
    Comparing,
    check_script,
    present_code,
    replay_script,
)
from qn_tracking.store.read import Lines
from qn_tracking.tracking.joining import AGAIN, Rerunning

Git = Callable[..., str]
# Without bubblewrap such code is refused, unless that is wanted.
TRUST = ("--trust",) if sandbox.missing() is None else ("--trust", "--no-sandbox")

TRAIN = """\
import argparse
import random

import agent
from qn_tracking import track

parser = argparse.ArgumentParser()
parser.add_argument("--seed", type=int)
parser.add_argument("--count", type=int, default=6)
args = parser.parse_args()
with track({"gamma": agent.GAMMA}, seed=args.seed) as run:
    chance = random.Random(run.seed)
    for n in range(args.count):
        steps = agent.play(n, chance)
        run.episode(success=steps < 9, steps=steps, reward=agent.GAMMA**steps)
open("weights.txt", "w").write("written beside the code")
"""
AGENT = """\
GAMMA = 0.9


def play(n, chance):
    return chance.randrange(1, 12)
"""


@pytest.fixture
def repository(project: Path, git: Git, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a script in a folder and its module in another one."""
    (project / ".gitignore").write_text("gitconfig\nsmall.yml\nweights.txt\n__pycache__/\n")
    (project / "examples").mkdir()
    (project / "examples/train.py").write_text(TRAIN)
    (project / "lib").mkdir()
    (project / "lib/agent.py").write_text(AGENT)
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    places = [str(project / "lib"), str(Path(qn_tracking.__file__).parents[1])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(places))
    return project


def start(*words: str, env: dict[str, str] | None = None) -> str:
    """Runs a program; returns the id of the run that it has recorded."""
    before = set(Path("experiments").glob("*.json"))
    done = subprocess.run(
        [sys.executable, *words], env={**os.environ, **(env or {})}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (new,) = set(Path("experiments").glob("*.json")) - before
    return new.stem


def rerun(qn_exp: Program, *args: str) -> dict[str, Any]:
    done = qn_exp("rerun", "--json", *args)
    assert done.returncode in (0, 1), done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_a_script_comes_out_again_until_a_line_of_it_changes(
    repository: Path, git: Git, qn_exp: Program
) -> None:
    id = start("examples/train.py", "--seed", "7")
    again = rerun(qn_exp, id)
    assert (again["outcome"], again["how"]) == ("identical", ["in the present code"])
    assert {path.stem for path in Path("experiments").glob("*.json")} == {id, again["id"]}
    new = Experiments("experiments").get(again["id"])
    assert new.origin is not None
    assert (new.origin.id, new.seed) == (id, 7)
    assert rerun(qn_exp, again["id"])["outcome"] == "identical"

    later = AGENT.replace("return ", "return (n == 4) + ")
    (repository / "lib/agent.py").write_text(later)
    git("commit", "-qam", "a step more in the fifth episode")
    done = qn_exp("rerun", id)
    assert done.returncode == 1
    assert "first at episode 4: steps: " in done.stdout
    assert "git.commit" in done.stdout
    done = qn_exp("rerun", id, "--at-commit")
    assert (done.returncode, done.stdout[:10]) == (0, "identical:")
    assert git("status", "--porcelain") == "?? experiments/"
    assert len(git("worktree", "list").splitlines()) == 1


LOGGING = """\
from qn_tracking import track

with track({}, seed=1) as run:
    for n in range(EPISODES):
        run.log({"loss": 1 / (n + 1), "rate": 0.1, "gap": float("nan")})
        run.episode(reward=float(n))
    for n in range(EVALUATIONS):
        run.episode(reward=n / 2, phase="evaluation")
    run.log({"loss": 0.0})
"""


def logging(path: Path, episodes: int, evaluations: int, *changes: tuple[str, str]) -> None:
    text = LOGGING.replace("EPISODES", str(episodes)).replace("EVALUATIONS", str(evaluations))
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)


@pytest.mark.slow
def test_what_was_logged_and_evaluated_is_compared_as_well(
    repository: Path, qn_exp: Program
) -> None:
    script = repository / "logs.py"
    logging(script, 3, 2)
    id = start("logs.py")
    again = rerun(qn_exp, id)
    assert (again["outcome"], again["series"]) == (
        "identical",
        {"loss": None, "rate": None, "gap": None},
    )

    logging(script, 3, 2, ("1 / (n + 1)", "1 / (n + 1 + n // 2)"), ("0.1", "0.1 * run.done"))
    done = qn_exp("rerun", id)
    assert (done.returncode, done.stdout[:10]) == (0, "identical:")
    assert "series: 2 of 3 differ" in done.stdout
    assert "  loss: first at step 2: 0.3333333333333333, now 0.25\n" in done.stdout
    assert "__main__.digest" in done.stdout

    logging(script, 3, 2, ("reward=n / 2", "reward=n / 4"))
    again = rerun(qn_exp, id)
    first = again["first_difference"]
    assert (again["outcome"], again["series"]["loss"]) == ("different", None)
    assert (first["phase"], first["episode"], first["field"]) == ("evaluation", 1, "reward")
    done = qn_exp("rerun", id)
    assert "first at phase evaluation, episode 1: reward: 0.5, now 0.25\n" in done.stdout
    assert "not here" not in done.stdout


KILLED = """\
import os
import random
from qn_tracking import track

with track({}, seed=1) as run:
    chance = random.Random(run.seed)
    for n in range(5):
        run.episode(reward=chance.random())
        if n == 2 and not os.path.exists("once"):
            open("once", "w").close()
            os.kill(os.getpid(), 9)
"""


@pytest.mark.slow
def test_a_script_that_was_killed_is_run_again_once_it_has_a_record(
    repository: Path, qn_exp: Program
) -> None:
    (repository / "killed.py").write_text(KILLED)
    assert subprocess.run([sys.executable, "killed.py"]).returncode == -9
    (folder,) = Path("experiments/runs").iterdir()
    done = qn_exp("rerun", folder.name)
    assert (done.returncode, done.stderr.count("\n")) == (4, 1)
    assert f"was killed, and has no record yet (qn-exp recover {folder.name})" in done.stderr
    assert qn_exp("recover", folder.name).returncode == 0
    again = rerun(qn_exp, folder.name)
    assert (again["outcome"], again["episodes"]) == ("identical", 3)


@pytest.mark.slow
def test_a_script_without_episodes_is_compared_by_its_series(
    repository: Path, qn_exp: Program
) -> None:
    script = repository / "logs.py"
    logging(script, 0, 0)
    id = start("logs.py")
    done = qn_exp("rerun", id)
    assert (done.returncode, done.stdout[:30]) == (0, "identical: every number of 1 se"[:30])
    logging(script, 0, 0, ('"loss": 0.0', '"loss": 0.5'))
    assert rerun(qn_exp, id)["outcome"] == "different"
    Path(f"experiments/runs/{id}/series.jsonl").unlink()  # as in a clone
    done = qn_exp("rerun", id)
    assert (done.returncode, done.stdout[:10]) == (1, "different:")
    assert "the series of the original are not here" in done.stderr


@pytest.mark.slow
def test_a_script_that_evaluates_only_is_compared_by_its_phases(
    repository: Path, qn_exp: Program
) -> None:
    script = repository / "logs.py"
    logging(script, 0, 2)
    id = start("logs.py")
    assert rerun(qn_exp, id)["outcome"] == "identical"
    logging(script, 0, 0)
    assert rerun(qn_exp, id)["outcome"] == "different"


def test_the_whole_command_is_shown_before_it_starts(project: Path, qn_exp: Program) -> None:
    Path("train.py").write_text(
        "import sys\nfrom qn_tracking import track\n"
        "with track({'a': 1}, seed=1) as run: run.episode(success=True)\n"
    )
    start("train.py", "--out", "a; rm -r ~", "\u202e", *("x" * 9 for _ in range(20)))
    shown = f"python train.py --out 'a; rm -r ~' '\\u202e' {' '.join(['x' * 9] * 20)}"
    done = qn_exp("rerun", "@1")
    assert f"running {shown} in the present code\n" in done.stderr
    assert shown in qn_exp("rerun", "@1", "--dry-run").stdout


@pytest.mark.slow
def test_what_no_commit_has_is_run_with_trust_alone_in_a_copy_of_the_code(
    repository: Path, qn_exp: Program
) -> None:
    (repository / "lib/agent.py").write_text(AGENT.replace("12", "13"))
    (repository / "examples/other.py").write_text(TRAIN)
    id = start("examples/other.py", "--seed", "7")
    (repository / "lib/agent.py").write_text(AGENT)
    (repository / "examples/other.py").unlink()
    (repository / "weights.txt").unlink()
    done = qn_exp("rerun", id)
    assert (done.returncode, done.stdout) == (4, "")
    assert f"{id}: no script examples/other.py here" in done.stderr or "other.py" in done.stderr
    assert "--trust" in qn_exp("rerun", id, "--at-commit").stderr
    again = rerun(qn_exp, id, "--at-commit", *TRUST)
    assert again["outcome"] == "identical"
    assert again["how"][-1] == ("isolated" if len(TRUST) == 1 else "no isolation")
    assert not (repository / "weights.txt").exists()
    second = rerun(qn_exp, again["id"], "--at-commit", *TRUST)
    assert second["outcome"] == "identical"


@pytest.mark.slow
def test_the_seed_of_a_study_is_handed_back(
    repository: Path, qn_run: Program, qn_exp: Program
) -> None:
    words = (sys.executable, "examples/train.py")
    done = qn_run("--name", "s", "--seeds", "3,4", "--", *words)
    assert done.returncode == 0, done.stderr
    found = json.loads(qn_exp("rerun", "s", "--json").stdout)
    assert found["outcomes"] == {"identical": 2}


@pytest.mark.slow
def test_of_a_program_with_several_runs_each_is_compared_with_its_own(
    repository: Path, qn_exp: Program
) -> None:
    (repository / "lib/many").mkdir()
    (repository / "lib/many/__init__.py").write_text("")
    (repository / "lib/many/__main__.py").write_text(
        "import random\nfrom qn_tracking import track\n"
        "for seed in (1, 2):\n"
        "    chance = random.Random(seed)\n"
        "    with track({}, seed=seed) as run:\n"
        "        for _ in range(4):\n            run.episode(reward=chance.random())\n"
    )
    subprocess.run([sys.executable, "-m", "many"], check=True, capture_output=True)
    for id in Experiments("experiments").find().ids:
        assert rerun(qn_exp, id)["outcome"] == "identical"


@pytest.mark.slow
def test_a_run_that_ended_early_is_compared_as_far_as_it_came(
    repository: Path, qn_exp: Program
) -> None:
    (repository / "examples/train.py").write_text(
        TRAIN.replace(
            "        steps",
            "        if n == 3 and args.seed == 7: raise SystemExit(130)\n        steps",
        )
    )
    subprocess.run([sys.executable, "examples/train.py", "--seed", "7"], capture_output=True)
    (id,) = Experiments("experiments").find().ids
    (repository / "examples/train.py").write_text(TRAIN)
    again = rerun(qn_exp, id)
    assert (again["outcome"], again["episodes"]) == ("identical", 3)


@pytest.mark.slow
def test_a_script_with_randomness_of_no_seed_is_different_and_may_be_the_cause(
    repository: Path, qn_exp: Program
) -> None:
    (repository / "examples/train.py").write_text(
        "import os\n\nfrom qn_tracking import track\n\n"
        "with track({}, seed=1) as run:\n"
        "    run.episode(reward=int.from_bytes(os.urandom(6)))\n"
    )
    subprocess.run([sys.executable, "examples/train.py"], check=True)
    done = qn_exp("rerun", "@1", "--trust", "--no-sandbox")
    assert done.returncode == 1, done.stderr
    assert "random numbers that do not derive from its seed" in done.stdout


@pytest.mark.slow
def test_a_script_outside_of_git_is_run_where_it_is(
    project: Path, qn_exp: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "train.py").write_text(TRAIN)
    (project / "agent.py").write_text(AGENT)
    monkeypatch.setenv("PYTHONPATH", str(Path(qn_tracking.__file__).parents[1]))
    id = start("train.py", "--seed", "7")
    monkeypatch.chdir(project / "experiments")
    assert rerun(qn_exp, id, "--experiments-dir", ".")["outcome"] == "identical"


# ---------------------------------------------------------------------------- without a process


@pytest.mark.parametrize(
    ("script", "cause"),
    [
        (Script(kind="notebook", name=""), "recorded in a notebook: the order of its cells"),
        (Script(kind="interactive", name=""), "recorded at a prompt"),
        (Script(kind="text", name=""), "python -c, or from standard input"),
        (Script(), "how that was started is not in the record"),
        (Script(kind="script", name="a.py", arguments=("[redacted]",)), "held secrets"),
    ],
)
def test_what_cannot_be_started_again_is_said_in_one_sentence(script: Script, cause: str) -> None:
    with pytest.raises(UnsupportedError, match=cause):
        check_script("20260101T000000Z-00000000", script, "train.py")


@pytest.mark.parametrize(
    "start",
    ["{python} -c '{code}'", "echo '{code}' | {python}", "echo '{code}' | {python} /dev/stdin"],
)
def test_a_program_that_is_in_no_file_is_refused(project: Path, start: str) -> None:
    code = "import qn_tracking as q; r = q.track({}).start(); r.episode(steps=1); r.end()"
    shell = start.format(python=sys.executable, code=code)
    subprocess.run(["sh", "-c", shell], check=True, capture_output=True)
    (id,) = Experiments("experiments").find().ids
    with pytest.raises(UnsupportedError, match="python -c, or from standard input"):
        Experiments("experiments").rerun(id)


@pytest.mark.parametrize(
    "script",
    [
        Script(kind="module", name="pip", arguments=("install", "evil")),
        Script(kind="module", name="../evil"),
        Script(kind="module", name="-c"),
        Script(kind="script", name="../evil.py"),
        Script(kind="script", name="/evil.py"),
        Script(kind="script", name="good.py", folder="../..", in_repository=True, path=("../..",)),
    ],
)
def test_the_record_of_a_stranger_starts_nothing_but_code_of_the_folder(
    project: Path, script: Script
) -> None:
    """`good.py` is there: it is started in the folder itself, with no other path."""
    code = project / "code"
    code.mkdir()
    (code / "good.py").write_text(
        "import os, sys\n"
        f"assert os.getcwd() == {str(code)!r}\n"
        f"assert {str(project.parent)!r} not in sys.path\n"
        "sys.exit('was started')\n"
    )
    (project / "evil.py").write_text("open('executed', 'w')\n")
    with pytest.raises(UnsupportedError, match="no (script|module)|was started"):
        replay_script(
            sys.executable, script, str(code), roots=(), seed=1, place=str(project), own=True
        )
    assert not list(project.rglob("executed"))


LIBRARY = os.path.dirname(os.__file__)
RUN = "experiments/runs/20260101T000000Z-00000000"


@pytest.mark.parametrize(
    "script",
    [
        Script(kind="module", name="timeit", folder=LIBRARY, in_repository=True),
        Script(kind="module", name="timeit", in_repository=True),
        Script(kind="module", name="tool", folder="env/lib/python3.12/site-packages"),
        Script(kind="module", name="tool", path=("env/lib/python3.12/site-packages",)),
        Script(kind="script", name="env/lib/python3.12/site-packages/tool/__main__.py"),
        Script(kind="script", name="env/lib/python3.12/random.py"),
        Script(kind="script", name=f"{RUN}/output.txt"),
        Script(kind="module", name="random", folder=RUN, in_repository=True, path=(".",)),
        Script(kind="script", name="link/evil.py"),
    ],
)
def test_neither_what_is_installed_nor_what_a_bundle_brings_is_started(
    project: Path, script: Script
) -> None:
    """What is installed runs any code that its arguments say; the rest a stranger has written."""
    code = project / "code"
    _hostile(project, code)
    script = evolve(script, arguments=("import here",))
    with pytest.raises(UnsupportedError, match="has no (script|module)"):
        _replayed(project, code, script)
    assert not (project / "executed").exists()


@pytest.mark.parametrize("place", [RUN, "x:../outside", "link/outside", "../outside"])
def test_what_a_script_imports_is_its_own_code(project: Path, place: str) -> None:
    """Neither the recorded import path nor the folder in which it starts puts other code first."""
    code = project / "code"
    _hostile(project, code)
    for kind, name in (("script", "good.py"), ("module", "good")):
        script = Script(kind=kind, name=name, folder=place, in_repository=True, path=(".", place))
        with pytest.raises(UnsupportedError, match="was started"):
            _replayed(project, code, script)
    assert not (project / "executed").exists()


@pytest.mark.parametrize("word", ["\0", "\ud800"])
def test_words_that_no_program_can_be_given_are_an_error(project: Path, word: str) -> None:
    (project / "good.py").write_text("")
    script = Script(kind="script", name="good.py", arguments=(word,))
    with pytest.raises(UnsupportedError, match="cannot be started"):
        _replayed(project, project, script)


def _hostile(project: Path, code: Path) -> None:
    """A folder of code with an environment, a link out of it, and a run of another person."""
    evil = f"open({str(project / 'executed')!r}, 'w')\n"
    for name in (
        *("evil.py", "outside/random.py", "code/env/lib/python3.12/random.py"),
        *("code/env/lib/python3.12/site-packages/tool/__main__.py", "code/timeit.py"),
        *(f"code/{RUN}/output.txt", f"code/{RUN}/random.py", f"code/{RUN}/good.py"),
    ):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(evil)
    (code / "good.py").write_text("import random, sys\nsys.exit('was started')\n")
    (code / "link").symlink_to(project)


def _replayed(project: Path, code: Path, script: Script) -> None:
    replay_script(
        sys.executable,
        script,
        str(code),
        roots=(),
        seed=1,
        place=str(project),
        own=True,
        data=str(code / "experiments"),
    )


def test_outside_of_git_a_record_names_no_folder_but_its_own(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, other = project / "here", project / "other"
    for folder in (here / "experiments", other):
        folder.mkdir(parents=True)
    (other / "train.py").write_text("")
    monkeypatch.chdir(here)
    script = Script(kind="script", name="train.py", folder="../../other")
    with pytest.raises(UnsupportedError, match=r"no script train\.py here"):
        present_code(script, "experiments")
    monkeypatch.chdir(other)
    assert present_code(script, str(here / "experiments")) == str(other)
    (here / "train.py").write_text("")
    own = Script(kind="script", name="train.py", folder="..")
    assert present_code(own, str(here / "experiments")) == str(here)
    above = Script(kind="script", name="other/train.py", folder="../..")
    with pytest.raises(UnsupportedError, match="the folder in which it was started"):
        present_code(above, str(here / "experiments"))


def test_options_of_python_are_no_code(project: Path) -> None:
    (project / "good.py").write_text("import sys\nsys.exit(str(sys.flags.optimize))\n")
    script = Script(kind="script", name="good.py", options=("-c", "open('x','w')", "-O", "-X"))
    with pytest.raises(UnsupportedError, match="the run failed: 1$"):
        replay_script(
            sys.executable, script, str(project), roots=(), seed=1, place=str(project), own=True
        )


def test_a_rerun_is_compared_while_it_runs(project: Path) -> None:
    rewards = [1.0, 2.0, 3.0, 4.0]
    said: list[Divergence] = []
    progress: list[tuple[int, int]] = []
    with track({}, seed=1) as run:
        for reward in rewards:
            run.episode(reward=reward)
    look = Comparing(
        list(Lines(f"experiments/runs/{run.id}/episodes.jsonl")),
        said.append,
        lambda *numbers: progress.append(numbers),
    )
    look("again")  # nothing is there yet
    with track({}, seed=1, experiments_dir="again") as run:
        for reward in (1.0, 2.0, 3.5, 4.5, 5.5):
            run.episode(reward=reward)
            look("again")
    assert [(one.episode, one.field, one.first, one.second) for one in said] == [
        (2, "reward", 3.0, 3.5)
    ]
    assert progress[-1] == (5, 5)


def test_track_knows_that_it_is_run_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = Rerunning(seed=7, experiments_dir=str(project / "there"))
    monkeypatch.setenv(AGAIN, given.variable())
    with track({"plugins": ["progress"]}, experiments_dir="here") as run:
        run.episode(success=True)
    with track({}, seed=8, resume="20260101T000000Z-00000000") as other:
        other.episode(success=True)
    assert other.id != "20260101T000000Z-00000000"
    assert (run.seed, other.seed) == (7, 8)
    assert sorted(Experiments("there").find().ids) == sorted([run.id, other.id])
    assert not Path("here").exists()
    assert run.experiment is not None
    assert "progress" not in [one.name for one in run.experiment.plugins]
    monkeypatch.setenv(AGAIN, "[]")
    with pytest.raises(UsageError, match=f"{AGAIN}: is not what a re-run sets"):
        track({})
