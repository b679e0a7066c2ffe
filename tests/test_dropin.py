"""Scripts written for another tool record here with their import line changed alone."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import wait_until
from qn_tracking import Experiments, Study, track
from qn_tracking.errors import UsageError
from qn_tracking.tensorboard import WITHOUT_MEANING, SummaryWriter, table
from test_docs import ROOT, block

PAGE = (ROOT / "docs" / "coming-from.md").read_text(encoding="utf-8")

WRITER = """\
import math
import numpy as np
from torch.utils.tensorboard import SummaryWriter

options = {"env_id": "CartPole-v1", "exp_name": "ppo", "seed": 3, "lr": 2.5e-4, "anneal": True}
writer = SummaryWriter("runs/CartPole-v1__ppo__3")
rows = "\\n".join(f"|{key}|{value}|" for key, value in options.items())
writer.add_text("hyperparameters", "|param|value|\\n|-|-|\\n" + rows)
for step in range(0, 100, 10):
    writer.add_scalar("charts/episodic_return", np.array([step / 10], np.float32), step)
    writer.add_scalar("charts/episodic_length", np.array([step]), step)
    writer.add_scalar("losses/value_loss", 1 / (step + 1), step)
    writer.add_scalars("speed", {"learn": 2, "act": 3.5}, step)
writer.add_scalar("losses/value_loss", math.nan, 100)
for name in range(3):
    writer.add_histogram("weights", np.zeros(3), name)
writer.add_hparams({"late": "yes"}, {"score": 7.0})
with open(f"{writer.log_dir}/model", "w") as file:
    file.write("weights")
writer.flush()
writer.close()
"""
WANDB = """\
import wandb

run = wandb.init(
    project="control", name="first", group="night", tags=["small"], notes="a try",
    config={"seed": 3, "lr": 0.1}, save_code=True, monitor_gym=True,
)
wandb.config.update({"gamma": 0.9})
wandb.config.batch = 32
assert (run.url, wandb.run.id, wandb.config["lr"], run.config.batch) == (None, run.id, 0.1, 32)
wandb.define_metric("frames")
wandb.define_metric("eval/*", step_metric="frames", summary="max")
for n in range(5):
    wandb.log({"charts/episodic_return": n, "charts/episodic_length": 10 * n, "nested": {"a": n}})
    wandb.log({"loss": 1 / (n + 1)}, commit=False)
    wandb.log({"eval/score": n, "frames": 1000 * n, "picture": wandb.Histogram([1, 2])})
wandb.log({"late": 1.0}, step=50)
wandb.watch(None)
wandb.config.after = "x"
run.summary["best"] = 4
with open("model", "w") as file:
    file.write("weights")
artifact = wandb.Artifact("policy", type="model")
artifact.add_file("model")
wandb.log_artifact(artifact)
wandb.finish()
"""
CHANGED = {
    "from torch.utils.tensorboard import": "from qn_tracking.tensorboard import",
    "import wandb": "import qn_tracking.wandb as wandb",
}


def changed(script: str) -> str:
    """The script with its import line changed, and nothing else."""
    for before, after in CHANGED.items():
        script = script.replace(before, after)
    return script


def run(script: str, *, fails: bool = False) -> subprocess.CompletedProcess[str]:
    Path("train.py").write_text(script)
    done = subprocess.run([sys.executable, "train.py"], capture_output=True, text=True)
    assert fails or "Traceback" not in done.stderr, done.stderr
    return done


def warned(done: subprocess.CompletedProcess[str]) -> list[str]:
    """What was said, without what is about the repository that is not there."""
    return [line for line in done.stderr.splitlines() if " git: " not in line]


def the_record() -> Any:
    (id,) = Experiments("experiments").find().ids
    return Experiments("experiments").get(id)


def points(name: str) -> list[tuple[int, float]]:
    store = Experiments("experiments")
    found = store.series(store.find().ids, [name]).columns()
    return list(zip(found["step"], found["value"], strict=True))


def test_a_script_for_summary_writer(project: Path) -> None:
    done = run(changed(WRITER))
    assert done.returncode == 0
    assert [line for line in warned(done) if "add_histogram" in line] == [
        "warning: tensorboard: add_histogram: is not recorded by qn-tracking"
    ]
    found = the_record()
    assert (found.status, found.seed, found.tags) == (
        "completed",
        3,
        {"name": "CartPole-v1__ppo__3"},
    )
    assert (found.subject.environment, found.subject.brain) == ("CartPole-v1", "ppo")
    assert found.config.data["lr"] == 2.5e-4
    assert found.config.data["anneal"] is True
    assert found.facts["tensorboard"]["config"] == {"late": "yes"}
    assert points("losses/value_loss")[:2] == [(0, 1.0), (10, 1 / 11)]
    assert points("losses/value_loss")[-1][1] != points("losses/value_loss")[-1][1]
    assert points("speed/act") == [(step, 3.5) for step in range(0, 100, 10)]
    assert points("score") == [(101, 7.0)]
    assert points("charts/episodic_return") == [(10 * n, float(n)) for n in range(10)]
    assert (found.results.episodes, found.results.avg_reward, found.results.avg_steps) == (
        10,
        4.5,
        45,
    )
    assert Path("runs/CartPole-v1__ppo__3/model").read_text() == "weights"
    assert Experiments("experiments").check().faults == 0


def test_a_script_for_wandb(project: Path) -> None:
    done = run(changed(WANDB))
    assert done.returncode == 0
    said = "\n".join(warned(done))
    assert said.count("monitor_gym") == said.count("watch") == said.count("picture") == 1
    found = the_record()
    assert (found.status, found.seed, found.notes) == ("completed", 3, "a try")
    assert found.tags == {"project": "control", "name": "first", "group": "night", "small": ""}
    assert found.config.data == {"lr": 0.1, "gamma": 0.9, "batch": 32}
    assert points("loss") == [(2 * n + 1, 1 / (n + 1)) for n in range(5)]
    assert points("nested.a") == [(2 * n, n) for n in range(5)]
    assert points("eval/score") == [(1000 * n, n) for n in range(5)]
    assert points("late") == [(50, 1.0)]
    assert (found.results.episodes, found.results.avg_reward, found.results.total_steps) == (
        5,
        2,
        100,
    )
    (artifact,) = found.artifacts
    assert (artifact.path, artifact.size, artifact.kept) == ("model", 7, True)
    assert (artifact.name, artifact.type) == ("policy/model", "model")
    facts = found.facts["wandb"]
    assert facts["config"] == {"after": "x"}
    assert facts["summary"] == {"best": 4}
    assert facts["artifacts"][0]["files"] == {"model": "model"}
    assert Experiments("experiments").check().faults == 0


BOTH = """\
import wandb
from torch.utils.tensorboard import SummaryWriter

wandb.init(project="control", sync_tensorboard=True, config={"lr": 0.1}, name="both")
writer = SummaryWriter("runs/both")
for step in range(4):
    writer.add_scalar("loss", step / 2, step)
wandb.log({"extra": 1})
writer.close()
"""


def test_a_writer_writes_into_the_run_of_wandb(project: Path) -> None:
    """As CleanRL does: the writer is closed and the run left to the program's end."""
    done = run(changed(BOTH))
    assert (done.returncode, warned(done)) == (0, [])
    found = the_record()
    assert (found.status, found.config.data) == ("completed", {"lr": 0.1})
    assert sorted(found.series) == ["extra", "loss"]


# --------------------------------------------------------------------------- how a program can end

OPEN = {
    "writer": changed(
        "from torch.utils.tensorboard import SummaryWriter\nwriter = SummaryWriter('runs/a')\n"
        "writer.add_scalar('loss', 1.0, 0)\n"
    ),
    "wandb": changed("import wandb\nwandb.init(config={'a': 1})\nwandb.log({'loss': 1.0})\n"),
}
ENDS = {
    "": "interrupted",
    "import sys; sys.exit(1)": "interrupted",
    "raise KeyboardInterrupt": "interrupted",
    "raise ValueError('too large')": "failed",
}


@pytest.mark.slow
@pytest.mark.parametrize("tool", OPEN)
@pytest.mark.parametrize("end", ENDS)
def test_a_run_that_is_left_open_ends_honestly(project: Path, tool: str, end: str) -> None:
    done = run(OPEN[tool] + end + "\n", fails="raise" in end)
    found = the_record()
    assert found.status == ENDS[end]
    assert found.series["loss"].last == 1.0
    ending = {"writer": "close()", "wandb": "finish()"}[tool]
    assert (f"the program ended without {ending}" in done.stderr) == ("raise" not in end)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("try:\n    raise ValueError('a')\nfinally:\n    {close}\n", "failed"),
        (
            "try:\n    raise KeyboardInterrupt\nexcept KeyboardInterrupt:\n    {close}\n",
            "interrupted",
        ),
        ("with {held}:\n    raise ValueError('a')\n", "failed"),
        ("with {held}:\n    pass\n", "completed"),
        ("{close}\n{close}\n", "completed"),
    ],
)
@pytest.mark.parametrize("tool", OPEN)
def test_a_run_that_is_ended_says_how(project: Path, tool: str, text: str, status: str) -> None:
    words = {
        "writer": {"close": "writer.close()", "held": "writer"},
        "wandb": {"close": "wandb.finish()", "held": "wandb.run"},
    }
    run(OPEN[tool] + text.format(**words[tool]), fails=status == "failed")
    assert the_record().status == status


def test_an_exit_code_says_that_a_run_failed(project: Path) -> None:
    run(OPEN["wandb"] + "wandb.finish(exit_code=3)\n")
    assert the_record().status == "failed"


def test_an_error_before_the_first_value_is_recorded(project: Path) -> None:
    run(
        OPEN["wandb"].replace("wandb.log({'loss': 1.0})", "raise ValueError('no such world')"),
        fails=True,
    )
    found = the_record()
    assert (found.status, found.error.message) == ("failed", "no such world")
    assert found.config.data == {"a": 1}


@pytest.mark.parametrize("tool", OPEN)
def test_a_kill_keeps_what_was_logged(project: Path, tool: str) -> None:
    more = {"writer": "writer.add_scalar('loss', n, n)", "wandb": "wandb.log({'loss': n}, step=n)"}
    wait = "print('here', flush=True)\nimport time\ntime.sleep(600)\n"
    Path("train.py").write_text(OPEN[tool] + f"for n in range(1, 100): {more[tool]}\n" + wait)
    process = subprocess.Popen([sys.executable, "train.py"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    wait_until(process.stdout.readline, process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    store = Experiments("experiments")
    (id,) = store.crashed()
    assert [value for _, value in points("loss")] == [1.0, *range(1, 100)]
    assert store.recover(id).series["loss"].n == 100


# ------------------------------------------------------------------------------- the smaller print


def test_halves_of_an_episode_are_never_two(project: Path) -> None:
    """Return and length are one episode in any order; a return alone is one, too."""
    with SummaryWriter("runs/a") as writer:
        for name, step in (
            ("charts/episodic_return", 1),
            ("losses/a", 1),
            ("charts/SPS", 1),
            ("charts/episodic_length", 1),  # of the first
            ("charts/episodic_length", 1),
            ("charts/episodic_return", 1),  # of the second, of another environment
            ("charts/episodic_return", 2),
            ("charts/episodic_return", 2),  # two without lengths
            ("charts/mean_episodic_return", 3),
        ):
            writer.add_scalar(name, 5, step)
    found = the_record()
    assert found.results.episodes == 4
    assert (found.results.total_steps, found.results.avg_reward) == (10, 5)


def test_episodes_of_another_place_are_a_phase(project: Path) -> None:
    with SummaryWriter("runs/a") as writer:
        for n in range(3):
            writer.add_scalar("charts/episodic_return", 1.0, 10 * n)
            writer.add_scalar("eval/episodic_return", 9.0, n)
    found = the_record()
    assert (found.results.episodes, found.results.avg_reward) == (3, 1)
    assert (found.phases["eval"].results.episodes, found.phases["eval"].results.avg_reward) == (
        3,
        9,
    )


def test_hyperparameters_before_a_value_are_the_configuration(project: Path) -> None:
    with SummaryWriter(comment="small") as writer:
        assert Path(writer.log_dir).is_dir()
        writer.add_hparams({"lr": 0.1, "depth": 3}, {})
        writer.add_text("about", "two layers")
        writer.add_scalar("loss", 1.0)
        writer.add_scalar("loss", 2.0)
        writer.add_scalar("loss", "much", "x")
        writer.add_hparams({"lr": 0.1, "depth": 4}, {"score": 1})
    found = the_record()
    assert (dict(found.config.data), dict(found.tags)) == (
        {"lr": 0.1, "depth": 3},
        {"comment": "small"},
    )
    facts = found.facts["tensorboard"]
    assert (facts["config"], facts["texts"]) == ({"depth": 4}, {"about": "two layers"})
    assert points("loss") == [(0, 1.0), (1, 2.0)]


def test_what_cannot_be_stored_is_left_out_of_the_configuration(project: Path) -> None:
    with SummaryWriter("runs/a") as writer:
        writer.add_hparams({"lr": 0.1, "names": {1, 2}, "api_key": "sk-a8f3bc0d91e7"}, {"score": 1})
    found = the_record()
    assert found.config.data["lr"] == 0.1
    assert "names" not in found.config.data
    assert "a8f3bc0d91e7" not in json.dumps(dict(found.config.data))
    assert any("names" in text for text in found.warnings)


def test_what_is_late_and_secret_is_not_stored(project: Path) -> None:
    with SummaryWriter("runs/a") as writer:
        writer.add_scalar("loss", 1.0, 0)
        writer.add_hparams({"password": "hunter2-a8f3bc"}, {})
    assert "hunter2" not in Path(f"experiments/{writer.run.id}.json").read_text()


@pytest.mark.parametrize("name", sorted(WITHOUT_MEANING))
def test_what_has_no_meaning_here_is_taken(project: Path, name: str) -> None:
    with SummaryWriter("runs/a") as writer:
        getattr(writer, name)("tag", None, global_step=3)
    assert [text for text in the_record().warnings if name in text]


def test_an_unknown_method_is_an_error(project: Path) -> None:
    with SummaryWriter("runs/a") as writer, pytest.raises(AttributeError, match="add_scaler"):
        writer.add_scaler("a", 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("|param|value|\n|-|-|\n|a|1|\n|b|True|", {"a": 1, "b": True}),
        ("|p|v|\n|:--|:-:|\n|a|x y|\n|b||\n|c|[1, 2]|", {"a": "x y", "b": "", "c": [1, 2]}),
        ("|a|b|c|\n|-|-|-|\n|1|2|3|", {}),
        ("a text\nof\nlines", {}),
        ("", {}),
    ],
)
def test_a_table_is_read_as_options(text: str, expected: dict[str, Any]) -> None:
    assert table(text) == expected


def test_a_disabled_run_records_nothing(project: Path) -> None:
    script = changed(WANDB).replace('project="control"', 'mode="disabled"')
    script = script.replace("wandb.run.id", "run.id")
    assert run(script).returncode == 0
    assert not Path("experiments").exists()


def test_calls_of_wandb_without_a_run_or_a_server_are_one_line_each(project: Path) -> None:
    import qn_tracking.wandb as wandb

    assert wandb.run is None
    for call in (lambda: wandb.log({"a": 1}), lambda: wandb.config, lambda: wandb.Api()):
        with pytest.raises(UsageError, match=r"wandb\.\w+"):
            call()
    wandb.finish()


def test_a_second_run_follows_the_first(project: Path) -> None:
    import qn_tracking.wandb as wandb

    first = wandb.init(config={"a": 1})
    assert wandb.init() is first
    with wandb.init(config={"a": 2}, reinit=True) as second:
        second.log({"loss": 1.0})
        Path(second.dir, "notes.txt").write_text("x")
    store = Experiments("experiments")
    assert [store.get(one.id).config.data["a"] for one in (first, second)] == [1, 2]
    (artifact,) = store.get(second.id).artifacts
    assert artifact.path.endswith("notes.txt")


def test_a_drop_in_imports_no_other_tool(project: Path) -> None:
    code = (
        "import sys, qn_tracking.wandb, qn_tracking.tensorboard\n"
        "print({name.split('.')[0] for name in sys.modules} & "
        "{'wandb', 'tensorboard', 'tensorboardX', 'torch', 'numpy'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


# --------------------------------------------------------------------- the page, and the examples


@pytest.mark.parametrize("name", ["here.py", "writer.py", "sweeper.py"])
def test_the_same_ten_lines_record_the_same(project: Path, name: str) -> None:
    script = block(PAGE, f"tested: {name}")
    assert len(script.split("\n\n")[-1].splitlines()) <= 10
    assert warned(run(changed(script))) == []
    found = the_record()
    assert (found.status, found.seed, found.config.data) == ("completed", 1, {"lr": 0.01})
    assert found.tags["name"] == "first"
    assert points("losses/value") == [(step, 1 / (step + 1)) for step in range(100)]
    assert (found.results.episodes, found.results.total_steps) == (10, sum(range(9, 100, 10)))


STUBS = {
    "torch.utils.tensorboard": """
class SummaryWriter:
    def __init__(self, folder):
        import os
        os.makedirs(folder)
        self.file = open("values.jsonl", "w")
    def add_text(self, *text): pass
    def add_scalar(self, name, value, step):
        import json
        print(json.dumps([name, float(value)]), file=self.file)
    def close(self):
        self.file.close()
""",
    "wandb": """
import json
import math
def init(*, name, **options):
    global file
    file = open("values.jsonl", "w")
    class run:
        log_artifact = print
    run.name = name
    return run
def log(values, step=None):
    for name, value in values.items():
        print(json.dumps([name, float(value)]), file=file)
def define_metric(*names, **options): pass
class Artifact:
    def __init__(self, *names, **options): pass
    def add_file(self, path): open(path).close()
def finish(): file.close()
""",
}
"""As much of the other tools as the examples need: it writes down the values."""
EXAMPLES = {
    "ppo": (
        "torch.utils.tensorboard",
        "from qn_tracking.tensorboard import SummaryWriter  # torch.utils.tensorboard",
        "from torch.utils.tensorboard import SummaryWriter",
    ),
    "dqn": ("wandb", "import qn_tracking.wandb as wandb  # wandb", "import wandb"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_that_of_the_other_tool_but_for_its_import(project: Path, name: str) -> None:
    """The values that the other tool gets are those that the record has."""
    tool, ours, theirs = EXAMPLES[name]
    source = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
    code = source.partition('"""')[2].partition('"""')[2]
    assert [line for line in code.splitlines() if "qn_tracking" in line] == [ours]
    (project / "corridor.py").write_bytes((ROOT / "examples" / "corridor.py").read_bytes())
    assert warned(run(source)) == []
    path = project / tool.replace(".", "/")
    path.mkdir(parents=True)
    (path / "__init__.py").write_text(STUBS[tool])
    (project / "runs").rename(project / "before") if name == "ppo" else None
    assert run(source.replace(ours, theirs)).returncode == 0
    expected = [json.loads(line) for line in Path("values.jsonl").read_text().splitlines()]
    names = dict.fromkeys(name for name, _ in expected)
    assert set(the_record().series) == set(names)
    for one in names:
        assert [value for _, value in points(one)] == [v for other, v in expected if other == one]
    found = the_record()
    assert (found.status, found.seed, found.subject.environment) == ("completed", 1, "Corridor")
    count = sum(name == "charts/episodic_return" for name, _ in expected)
    assert found.results.episodes == count
    assert found.subject.brain == name


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_learns(project: Path, name: str) -> None:
    source = (ROOT / "examples" / f"{name}.py").read_text(encoding="utf-8")
    (project / "corridor.py").write_bytes((ROOT / "examples" / "corridor.py").read_bytes())
    run(source)
    returns = [value for _, value in points("charts/episodic_return")]
    assert sum(returns[-50:]) / 50 > sum(returns[:10]) / 10 + 0.2


# ---------------------------------------------------------------------- in a study, and in processes

ARGS = """\
import argparse
from torch.utils.tensorboard import SummaryWriter

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--seed", type=int)
args = parser.parse_args()
writer = SummaryWriter(f"runs/{args.lr}-{args.seed}")
writer.add_hparams(vars(args), {})
for step in range(3):
    writer.add_scalar("charts/episodic_return", args.seed + args.lr, step)
writer.close()
"""


def test_a_script_with_a_changed_import_joins_the_study_that_runs_it(project: Path) -> None:
    Path("train.py").write_text(changed(ARGS))
    script = [sys.executable, "train.py", "--lr", "{lr}", "--seed", "{seed}"]
    study = Study.script(script, sweep={"lr": [0.1, 0.2]}, seeds=[1, 2], name="rate")
    study.run()
    found = study.results()
    assert [one.status for one in found] == ["completed"] * 4
    assert sorted((one.seed, one.config.data["lr"]) for one in found) == [
        (1, 0.1),
        (1, 0.2),
        (2, 0.1),
        (2, 0.2),
    ]
    assert all(one.results.avg_reward == one.seed + one.config.data["lr"] for one in found)


def test_a_forked_process_records_nothing(project: Path) -> None:
    script = OPEN["writer"] + (
        "import os, sys\n"
        "if os.fork() == 0:\n"
        "    writer.add_scalar('loss', 7.0, 1)\n    writer.close()\n    sys.exit()\n"
        "os.wait()\nwriter.add_scalar('loss', 2.0, 1)\nwriter.close()\n"
    )
    run(script)
    assert points("loss") == [(0, 1.0), (1, 2.0)]
    assert the_record().status == "completed"


def test_writers_of_several_threads_lose_nothing(project: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with SummaryWriter("runs/a") as writer, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: writer.add_scalar("loss", n, n), range(200)))
    assert sorted(points("loss")) == [(n, n) for n in range(200)]


@pytest.mark.parametrize(
    ("config", "kept"),
    [
        ({"plugins": ["no-such"], "lr": 1}, {"lr": 1}),
        ({"episodes": 3, "runs": 4, "lr": 1}, {"lr": 1}),
        ({"seed": "first", "lr": 1}, {"lr": 1}),
        ({"seed": None, "lr": 1}, {"lr": 1}),
        ({3: "a", "lr": 1}, {"3": "a", "lr": 1}),
        ({"deep": {"a": [1, {"b": 2}]}}, {"deep": {"a": (1, {"b": 2})}}),
        ({"many": float("nan"), "lr": 1}, {"lr": 1}),
    ],
)
def test_any_options_of_a_script_are_taken(project: Path, config: Any, kept: Any) -> None:
    import qn_tracking.wandb as wandb

    with wandb.init(config=config) as one:
        one.log({"loss": 1.0})
    assert the_record().config.data == kept
    assert the_record().seed is None


def test_facts_of_a_script_are_in_its_record(project: Path) -> None:
    with track({"a": 1}, seed=1) as one:
        one.add_facts("data", {"rows": 3, "name": "small"})
        one.add_facts("data", {"rows": 1200})
        one.add_facts("token", {"password": "hunter2-a8f3bc"})
    assert the_record().facts["data"] == {"rows": 1200, "name": "small"}
    assert "hunter2" not in Path(f"experiments/{one.id}.json").read_text()
    assert Experiments("experiments").find(where="facts.data.rows > 1000").ids == [one.id]
    with pytest.raises(UsageError, match="after the end"):
        one.add_facts("data", {})


def test_facts_that_a_script_calls_as_a_plugin_does_replace_none(project: Path) -> None:
    said: list[str] = []
    with track({}, seed=1, warn=said.append) as one:
        one.add_facts("metadata", {"system": "mine"})
        one.add_facts("metadata", {"git": 1})
        one.episode(success=True)
        for wrong in ([1], "ab", {1: 2}):
            with pytest.raises(TypeError, match="add_facts: "):
                one.add_facts("data", wrong)  # type: ignore[arg-type]
    found = the_record()
    assert dict(found.facts["own_metadata"]) == {"system": "mine", "git": 1}
    assert found.facts["metadata"]["system"]["python"]
    said = [text for text in said if not text.startswith("git")]
    assert said == ["add_facts: metadata: a plugin's name; kept as own_metadata"]


def test_odd_values_and_names_do_not_stop_the_loop(project: Path) -> None:
    long = "eval" * 200
    with SummaryWriter("runs/a") as writer:
        for name, value in (
            ("none", None),
            ("array", [1.0, 2.0]),
            ("big", 10**400),
            ("red \x1b[31m\n", 1.0),
            ("lone \ud800/episodic_return", 2.0),
            (f"{long}/episodic_return", 3.0),
            ("charts/episodic_length", math.inf),
            ("charts/episodic_length", -1),
            ("charts/episodic_return", math.nan),
        ):
            writer.add_scalar(name, value, 3.7)
    found = the_record()
    assert found.status == "completed"
    assert found.results.episodes == 1
    assert len(found.phases) == 2
    assert {"none", "array"}.isdisjoint(found.series)
    assert found.series["red \x1b[31m\n"].last_step == 3
    assert Experiments("experiments").check().faults == 0


def test_a_folder_that_cannot_be_made_leaves_no_run(project: Path) -> None:
    Path("runs").write_text("a file")
    done = run(OPEN["writer"], fails=True)
    assert done.stderr.splitlines()[-1].startswith("qn_tracking.errors.StorageError: runs/a: ")
    assert not Path("experiments").exists()


LATER = """
import wandb

run = wandb.init(project="control", tags=["a"], config={"lr": 0.1})
run.log({"loss": 1.0})
run.name, run.notes = "renamed", "looks good"
run.tags += ("b",)
artifact = wandb.Artifact("report", type="text", metadata={"rows": 3, "bad": object()})
with artifact.new_file("sub/lines.txt") as file:
    file.write("three lines")
run.log_artifact(artifact, aliases=["best"])
open("model.pt", "w").write("weights")
wandb.log_model("model.pt", "policy")
wandb.summary["best"] = 0.5
wandb.summary["odd"] = object()
wandb.summary["text \\ud800"] = "\\ud800"
wandb.termwarn("nearly done")
try:
    wandb.finish()
    wandb.log({"loss": 2.0})
except wandb.Error:
    print(wandb.__version__, run.path)
"""


def test_what_a_script_of_wandb_sets_later_and_keeps_is_there(project: Path) -> None:
    done = run(changed(LATER))
    assert done.returncode == 0, done.stderr
    assert warned(done) == [
        "warning: wandb: metadata: bad: object cannot be stored in a record; left out",
        "wandb: nearly done",
        "warning: wandb: summary: odd: object cannot be stored in a record; left out",
    ]
    found = the_record()
    assert dict(found.tags) == {"a": "", "b": "", "name": "renamed", "project": "control"}
    assert found.notes == "looks good"
    facts = found.facts["wandb"]
    assert dict(facts["summary"]) == {"best": 0.5, "text \\ud800": "\\ud800"}
    assert [dict(one["metadata"]) for one in facts["artifacts"]] == [{"rows": 3}, {}]
    names = [one.name for one in found.artifacts]
    assert names == ["report/sub/lines.txt", "policy/model.pt"]
    path = Experiments("experiments").artifact(found.id, names[0], "lines.txt")
    assert Path(path).read_text() == "three lines"


THREADS = """
import sys
import threading
import wandb

sys.setswitchinterval(1e-6)
run = wandb.init()


def work(name):
    for n in range(200):
        wandb.log({name: n})


threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
wandb.finish()
"""


def test_threads_of_wandb_share_one_counter(project: Path) -> None:
    assert warned(run(changed(THREADS))) == []
    steps = [step for n in range(4) for step, _ in points(f"t{n}")]
    assert sorted(steps) == list(range(800))
