"""The architecture: a layer imports lower layers only, no module imports itself in a circle, and
nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from string import Template

import pytest

import qn_tracking
from conftest import version_1
from qn_tracking import Experiments, plugin, track

ROOT = Path(qn_tracking.__file__).parent
LAYERS = (
    ("errors", "importing", "records.limits"),
    ("files",),
    (
        "ids",
        "project",
        "records.schema",
        "records.facts",
        "tracking.installed",
        "code",
        "machine",
        "repository",
    ),
    ("program", "records.model", "inference", "shipped"),
    (
        "records.submission",
        "records.codec",
        "records.stats",
        "records.provenance",
        "redact",
        "render",
    ),
    ("options", "devices", "uncommitted"),
    ("captured", "yaml_core"),
    (
        "capture",
        "config",
        "records.divergence",
        "records.batch",
        "records.series",
        "tracking.hookspecs",
        "tracking.outbox",
        "studies.comparison",
    ),
    (
        "tracking.arguments",
        "tracking.identity",
        "tracking.warned",
        "tracking.wanted",
        "tracking.joining",
        "tracking.emit",
        "tracking.ending",
        "tracking.evaluation",
        "studies.sweep",
        "studies.sentences",
        "studies.windows",
        "studies.levels",
    ),
    ("studies.arms", "tracking.vector", "tracking.phases", "tracking.facts"),
    ("studies.effects",),
    ("studies.groups",),
    ("store",),
    ("tracking.tee", "tracking.made"),
    ("tracking.recorder",),
    ("tracking.callback", "benchmark"),
    ("builtin", "nematode"),
    ("tracking.manager", "reproduce", "nematode_view"),
    ("tracking.runner", "tracking.track", "tracking.forkserver"),
    ("tracking.pool", "studies.plan", "reproduce.rerun", "reproduce.verification"),
    ("studies.remote",),
    ("studies.declare", "studies.execute"),
    ("studies.scripts",),
    ("studies.processes",),
    ("api",),
    ("cli", "testing"),
    ("plugin",),
    ("dropin",),
    ("tensorboard", "wandb_run"),
    ("wandb",),
)
"""From the lowest to the highest; a name stands for a module, or for a package and what is in it."""

LAYER = {name: place for place, names in enumerate(LAYERS) for name in names}


def _modules() -> dict[str, Path]:
    """Every module but the packages' own, by its name below `qn_tracking`."""
    paths = [path for path in ROOT.rglob("*.py") if path.name != "__init__.py"]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}


MODULES = _modules()


def _layer(module: str) -> str:
    """The name in `LAYERS` that a module belongs to."""
    parts = module.split(".")
    names = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    return next((name for name in names if name in LAYER), "")


@cache
def _imports(path: Path) -> set[str]:
    """The modules of ours that a module imports when it runs, wherever in it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for line in block.body
        for node in ast.walk(line)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"{path.name}: a relative import hides which module is meant")
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("qn_tracking"):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}".removeprefix("qn_tracking.")
                names.add(whole if whole in MODULES else whole.rpartition(".")[0])
        elif isinstance(node, ast.Import):
            names.update(alias.name.removeprefix("qn_tracking.") for alias in node.names)
    return names & MODULES.keys()


def test_every_module_is_in_a_layer() -> None:
    assert [module for module in MODULES if not _layer(module)] == []


def test_a_module_imports_only_lower_layers() -> None:
    wrong = [
        f"{module} imports {other}"
        for module, path in MODULES.items()
        for other in _imports(path)
        if _layer(other) != _layer(module) and LAYER[_layer(other)] >= LAYER[_layer(module)]
    ]
    assert wrong == []


def test_there_are_no_circles() -> None:
    graph = {module: _imports(path) for module, path in MODULES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


PLUGINS = sorted((ROOT.parents[1] / "plugins").glob("*/src/**/*.py"))
TEMPLATES = sorted((ROOT / "templates").rglob("*.py.txt"))


@pytest.mark.parametrize("path", [*PLUGINS, *TEMPLATES], ids=lambda path: path.name)
def test_a_plugin_imports_only_public_names(path: Path) -> None:
    """They are those of `qn_tracking` and of `qn_tracking.plugin`; tests have `testing` as well."""
    public = {"qn_tracking": qn_tracking.__all__, "qn_tracking.plugin": plugin.__all__}
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(Template(text).safe_substitute(_NAMES))):
        if isinstance(node, ast.Import):
            assert not [one.name for one in node.names if one.name.startswith("qn_tracking.")]
        elif isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "qn_tracking":
            if node.module == "qn_tracking.testing":
                continue
            assert node.module in public, f"{path.name} imports {node.module}"
            assert {one.name for one in node.names} <= {*public[node.module]}


def _command_plugins() -> list[tuple[Path, str]]:
    """The sources of each plugin that adds commands, and its entry point."""
    found = []
    for path in sorted((ROOT.parents[1] / "plugins").glob("*/pyproject.toml")):
        points = tomllib.loads(path.read_text())["project"]["entry-points"]["qn_tracking"]
        found += [
            (path.parent / "src", point)
            for name, point in points.items()
            if name.startswith("command.")
        ]
    return found


@pytest.mark.parametrize(
    ("source", "point"), _command_plugins(), ids=lambda value: str(value)[-30:]
)
def test_commands_of_a_plugin_need_no_command_of_ours(
    source: Path, point: str, tmp_path: Path
) -> None:
    """They register, and add their arguments, without a module of `cli` but the shared pieces."""
    module, _, name = point.partition(":")
    loaded = _loaded(
        f"import sys; sys.path.insert(0, {str(source)!r})\n"
        f"from {module} import {name}\n"
        "from argparse import ArgumentParser\n"
        "class Commands:\n"
        "    def add(self, program, name, *, help, arguments, run):\n"
        "        arguments(ArgumentParser(prog=f'{program} {name}'))\n"
        f"{name}().register_commands(Commands())",
        tmp_path,
    )
    assert module in loaded
    ours = {name for name in loaded if name.startswith("qn_tracking.cli.")}
    assert ours <= {f"qn_tracking.cli.{name}" for name in ("options", "output", "parser")}


_NAMES = dict.fromkeys(("name", "module", "short", "kind"), "name")


def test_no_module_without_a_noun() -> None:
    last = {module.rpartition(".")[2] for module in MODULES}
    assert not last & {"utils", "helpers", "common", "misc"}


def _loaded(code: str, folder: Path) -> set[str]:
    program = f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=folder
    )
    return set(done.stdout.split())


def test_a_tracked_loop_imports_nothing_heavy(tmp_path: Path) -> None:
    loaded = _loaded(
        "from qn_tracking import track\n"
        "with track({'a': 1}, seed=1) as run: run.episode(success=True)",
        tmp_path,
    )
    assert "qn_tracking.builtin.json_storage" in loaded
    assert not loaded & {"cattrs", "numpy", "git", "psutil", "sqlite3", "yaml", "subprocess"}


def test_an_untracked_run_imports_no_store(tmp_path: Path) -> None:
    loaded = _loaded(
        "from qn_tracking.cli.run import main\n"
        "assert main(['mlp_dynamic_small', '--episodes', '1', '--quiet']) == 0",
        tmp_path,
    )
    assert "qn_tracking.tracking.recorder" in loaded
    assert not loaded & {
        "git",
        "psutil",
        "sqlite3",
        "qn_tracking.store",
        "qn_tracking.builtin.metadata",
    }
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------- the commands

SHARED = {
    "completing",
    "command",
    "options",
    "output",
    "parser",
    "signals",
    "run_print",
    "study_print",
    "study_index",
}
"""The modules of `cli` that several commands share."""
MODES = {"run": {"run_options", "study", "study_file", "new_plugin"}}
"""`qn-run` is one command; parts of what it does are in modules of their own."""


def test_commands_are_a_small_part() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in ROOT.rglob("*.py")}
    commands = sum(count for path, count in lines.items() if path.parent == ROOT / "cli")
    assert commands <= 0.15 * sum(lines.values())


def test_no_command_imports_another_command() -> None:
    wrong = {}
    for module in (name for name in MODULES if name.startswith("cli.")):
        name = module.removeprefix("cli.")
        others = {one.removeprefix("cli.") for one in _imports(MODULES[module]) if "cli." in one}
        wrong[name] = others - SHARED - MODES.get(name, set())
    assert {name: others for name, others in wrong.items() if others} == {}


EVERY_JOB = """
import io
import sys


class NoCommands:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("qn_tracking.cli"):
            raise ImportError(name)


sys.meta_path.insert(0, NoCommands())

from qn_tracking import Experiments, Leaderboard, Study, run
from qn_tracking.records.submission import Contribution


def warn(text):
    pass


# qn-run
first = run("small.yml", episodes=3, seed=1, warn=warn)
second = run("small.yml", episodes=3, seed=2, overrides=["brain.config.gamma=0.5"], warn=warn)
study = Study.plan("small.yml", n_seeds=2, seed=5, episodes=3)
assert study.about["runs"] == 2
study = Study.declare("small.yml", seeds=[42, 7], episodes=3)
assert study.run(jobs=1, warn=warn).finished == 2
assert [one.seed for one in Study.load(study.id).results()] == [42, 7]
assert study.summary().counts == {"completed": 2}

# qn-exp
experiments = Experiments("experiments", warn=warn)
assert len(experiments.find(where="seed < 3", sort="seed")) == 2
assert experiments.get(first.id).digests == first.digests
assert experiments.document(first.id)["labels"] == {"tags": {}, "notes": []}
assert b"mlp" in experiments.config_text(first.id)
assert len(list(experiments.episodes([first.id, second.id]))) == 6
assert experiments.compare([first.id, second.id]).ids == [first.id, second.id]
assert len(experiments.compare(by="config", where="seed > 0").groups) == 2
assert not experiments.diff(first.id, second.id, resolved=True).same
assert len(experiments.best("reward", by="config")) == 2
assert experiments.export("all.zip", format="bundle").count == 4
assert experiments.export(io.BytesIO(), format="csv", rows="episodes").count == 12
came = Experiments("there", warn=warn).import_("all.zip")
assert len([one for one in came if not one.study]) == 4
assert experiments.stats()["experiments"] == 4
assert [one.index for one in experiments.tail(first.id, last=1) if one] == [2]
assert experiments.tag(first.id, {"a": "b"})["tags"] == {"a": "b"}
assert experiments.note(first.id, "seen")["notes"][0]["text"] == "seen"
experiments.remove(second.id)
assert experiments.trash() == [second.id]
experiments.restore(second.id)
assert experiments.crashed() == []
assert experiments.check().faults == 0
assert experiments.rerun(first.id).id != first.id
dead = experiments.find(limit=1).ids[0]
__import__("os").unlink(f"experiments/{dead}.json")
assert experiments.recover(dead).results.episodes == 3

# qn-bench
board = Leaderboard("benchmarks", warn=warn)
rows = board.entries("static_maze")
id = rows[0].entry.id
assert board.get(id).id == id == board.details(id).entry.id
assert board.tasks(["mlp_dynamic_small"])[0].category
assert board.submissions() and board.contributor(rows[0].entry.contributor)
assert all(report.valid for report in board.validate())
assert board.compare(id, rows[1].entry.id).verdict
assert board.quantum_against_classical("static_maze").verdict
board.regenerate()
assert not any(page.changed for page in board.regenerate(check=True))
board.outdated()
assert board.verify(id, sample=1, repeat=True, present_code=True, dry_run=True)
made = board.submit([first.id], Contribution(contributor="Ada", notes="small"))
assert not made.valid
assert not [name for name in sys.modules if name.startswith("qn_tracking.cli")]
"""


@pytest.mark.slow
def test_every_job_of_a_command_is_done_without_one(project: Path) -> None:
    top = ROOT.parents[1]
    shutil.copytree(top / "benchmarks", "benchmarks", ignore=shutil.ignore_patterns(".*"))
    version_1(project)
    for page in ("README.md", "BENCHMARKS.md"):
        shutil.copy(top / page, page)
    done = subprocess.run([sys.executable, "-c", EVERY_JOB], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --------------------------------------------------------------------------- one place for a fact


def _changed(folder: Path, file: str, before: str, line: str) -> Path:
    """A copy of the package in which one file has one more line; what `PYTHONPATH` takes."""
    package = folder / "src" / "qn_tracking"
    shutil.copytree(ROOT, package, ignore=shutil.ignore_patterns("__pycache__"))
    path = package / file
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1
    path.write_text(text.replace(before, f"{line}\n{before}"), encoding="utf-8")
    return package.parent


def _with(package: Path, *command: str) -> str:
    """What a command prints that runs the code of a changed package."""
    env = {**os.environ, "PYTHONPATH": str(package)}
    words = [sys.executable, *command]
    done = subprocess.run(words, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _recorded(seed: int) -> str:
    with track({"a": 1}, seed=seed, blocked=("metadata",)) as one:
        for steps in (2, 4):
            one.episode(success=True, steps=steps * seed)
    return one.id


def test_a_column_of_a_list_is_one_line_of_one_file(project: Path, tmp_path: Path) -> None:
    """A store that is indexed already has the column as well."""
    low, high = _recorded(1), _recorded(2)
    assert Experiments("experiments").find().ids == [high, low]
    package = _changed(
        tmp_path,
        "store/fields.py",
        '    Field("tags", "tags"',
        '    Field("average", "results.avg_steps", MEASURE, listed=True, indexed=True),',
    )
    listing = ("-m", "qn_tracking.cli.exp", "list")
    _, head, *rows = _with(package, *listing).splitlines()
    assert "AVERAGE" in head
    assert len(rows) == 2
    shown = _with(package, *listing, "--columns", "id,average", "--sort", "average:asc")
    assert [line.split() for line in shown.splitlines()[2:]] == [[low, "3.0"], [high, "6.0"]]
    chosen = ("--where", "results.avg_steps > 3", "--columns", "id,average", "--json")
    found = json.loads(_with(package, *listing, *chosen))
    assert found["experiments"] == [{"id": high, "average": 6.0}]


def test_an_optional_field_of_a_record_is_one_line_of_one_file(
    project: Path, tmp_path: Path
) -> None:
    """Records that are stored and indexed already are read as before."""
    old = _recorded(1)
    assert Experiments("experiments").find().ids == [old]
    package = _changed(
        tmp_path, "records/model.py", "    recount: bool = field(", "    mood: str | None = None"
    )
    code = """
import sys
from attrs import evolve
from qn_tracking import Experiments
from qn_tracking.records.codec import document
store = Experiments("experiments")
old = store.get(sys.argv[1])
assert old.mood is None
new = evolve(old, id="new", mood="good", attachments=())
with open("experiments/new.json", "wb") as file:
    file.write(document(new))
assert store.get("new").mood == "good"
assert store.find(where="mood = 'good'").rows(["id", "mood"]) == [{"id": "new", "mood": "good"}]
assert sorted(store.find().ids) == sorted([old.id, "new"])
"""
    _with(package, "-c", code, old)
