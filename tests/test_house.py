"""The floors of the house: a lower one never imports a higher one, rooms of one floor not each
other, and nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import qn_tracking

ROOT = Path(qn_tracking.__file__).parent
FLOORS = {
    "errors": 1,
    "model": 2,
    "emit": 3,
    "outbox": 2,
    "ids": 2,
    "submission": 3,
    "redact": 3,
    "stats": 3,
    "inference": 3,
    "render": 3,
    "codec": 3,
    "config": 4,
    "comparison": 4,
    "hookspecs": 4,
    "recorder": 5,
    "store": 5,
    "benchmark": 6,
    "callback": 6,
    "builtin": 7,
    "nematode": 7,
    "manager": 8,
    "reproduce": 8,
    "runner": 9,
    "elsewhere": 10,
    "cli": 11,
    "testing": 11,
}


def _imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            raise AssertionError(f"{path.name}: a relative import hides which room is meant")
        if isinstance(node, ast.ImportFrom) and node.module:
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names.update(whole if node.module == "qn_tracking" else [node.module])
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return {name.split(".")[1] for name in names if name.startswith("qn_tracking.")}


def _rooms() -> list[Path]:
    return [path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py"]


@pytest.mark.parametrize("path", _rooms(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_room_imports_only_lower_floors(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert room in FLOORS, f"{room} is a room without a floor"
    for other in _imports(path) - {room}:
        assert FLOORS[other] < FLOORS[room], f"{room} imports {other}"


def test_no_room_without_a_noun() -> None:
    assert not {path.stem for path in _rooms()} & {"utils", "helpers", "common", "misc"}


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
        "assert main(['mlp_dynamic_small', '--runs', '1', '--quiet']) == 0",
        tmp_path,
    )
    assert "qn_tracking.recorder" in loaded
    assert not loaded & {
        "git",
        "psutil",
        "sqlite3",
        "qn_tracking.store",
        "qn_tracking.builtin.metadata",
    }
    assert list(tmp_path.iterdir()) == []
