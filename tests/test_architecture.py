"""The architecture: a layer imports lower layers only, no module imports itself in a circle, and
nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from string import Template

import pytest

import qn_tracking
from qn_tracking import plugin

ROOT = Path(qn_tracking.__file__).parent
LAYERS = (
    ("errors",),
    (
        "ids",
        "project",
        "records.limits",
        "records.schema",
        "tracking.installed",
        "code",
        "machine",
        "repository",
    ),
    ("records.model", "inference"),
    (
        "records.submission",
        "records.codec",
        "records.stats",
        "records.provenance",
        "records.rounding",
        "redact",
        "render",
    ),
    ("config", "tracking.hookspecs", "tracking.outbox", "studies.comparison"),
    ("tracking.emit", "studies.groups"),
    ("tracking.recorder", "store"),
    ("tracking.callback", "benchmark"),
    ("builtin", "nematode"),
    ("tracking.manager", "reproduce"),
    ("tracking.runner",),
    ("studies.remote", "studies.plan", "reproduce.rerun", "reproduce.verification"),
    ("studies.declare", "studies.execute"),
    ("api",),
    ("cli", "testing"),
    ("plugin",),
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


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_lower_layers(module: str) -> None:
    own = _layer(module)
    assert own, f"{module} is in no layer"
    for other in _imports(MODULES[module]):
        if _layer(other) != own:
            assert LAYER[_layer(other)] < LAYER[own], f"{module} imports {other}"


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
    assert ours <= {"qn_tracking.cli.options", "qn_tracking.cli.output"}


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
