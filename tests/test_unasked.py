"""Nothing runs that was not asked for: a hostile current folder, and commands that run in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

from conftest import BIN, SMALL, Program
from qn_tracking import ConfigError, PluginSetupError, Study, UsageError, run, track
from qn_tracking.api.run import Run

SRC = str(Path(__file__).resolve().parents[1] / "src")
TRAP = "open({mark!r}, 'a').write(__name__ + '\\n')\nraise ImportError('a trap')\n"
THIRD_PARTY = (
    *("numpy", "scipy", "attr", "attrs", "cattrs", "orjson", "pluggy", "psutil", "yaml", "git"),
    *("pandas", "polars", "pyarrow", "argcomplete", "qulacs", "torch", "cupy"),
)
HOOKS_OF_OTHERS = ("sitecustomize", "usercustomize", "conftest", "setup", "noxfile", "evil")
ENTRY_POINTS = {
    "command.evil": "evil:Command",
    "brain.mlp": "evil:Brain",
    "simulation.nematode": "evil:Simulation",
    "simulation.evil": "evil:Simulation",
    "executor.evil": "evil:Executor",
    "configs.evil": "evil.configs",
    "evilsink": "evil:Sink",
}
SINK = """\
from pathlib import Path
def append(name):
    with open(name, "a") as out:
        out.write("x")
append("imported")
from qn_tracking import hookimpl
class Sink:
    @hookimpl
    def episode_end(self, episode): append("heard")
class Maker:
    @hookimpl
    def make_simulation(self, config): append("heard")
"""

# What Python itself imports before any module of a program that `-m` starts.
PYTHONS_OWN = "import sys, runpy, importlib.util; print(*sys.modules)"


@pytest.fixture
def hostile(project: Path) -> Callable[[], list[str]]:
    """A folder with a trap for every import there could be; returns which were stepped on."""
    mark = project / "stepped.txt"
    trap = TRAP.format(mark=str(mark))
    for name in {*sys.stdlib_module_names, *THIRD_PARTY, *HOOKS_OF_OTHERS}:
        Path(f"{name}.py").write_text(trap)
    Path("qn_tracking").mkdir()
    Path("qn_tracking/__init__.py").write_text(trap)
    points = "".join(f"{name} = {value}\n" for name, value in ENTRY_POINTS.items())
    for folder in ("evil-1.0.dist-info", "evil.egg-info"):
        Path(folder).mkdir()
        for about in ("METADATA", "PKG-INFO"):
            Path(folder, about).write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
        Path(folder, "entry_points.txt").write_text(f"[qn_tracking]\n{points}")
    entry = "".join(f"{json.dumps(n)} = {json.dumps(v)}\n" for n, v in ENTRY_POINTS.items())
    Path("pyproject.toml").write_text(
        f"[project]\nname = 'evil'\n[project.entry-points.qn_tracking]\n{entry}"
        "[tool.pytest.ini_options]\naddopts = '-p evil'\n"
    )
    Path("evil.pth").write_text("import evil\n")
    return lambda: mark.read_text().split() if mark.exists() else []


def without_what_is_not_installed() -> None:
    """Else an import of what no other folder has finds it here, which is last on the path."""
    for path in Path().glob("*.py"):
        if path.stem not in (*HOOKS_OF_OTHERS, "mine") and PathFinder.find_spec(path.stem) is None:
            path.unlink()


HARMLESS = (
    ("qn-run", "--help"),
    ("qn-exp", "--help"),
    ("qn-bench", "--help"),
    ("qn-exp", "list", "--help"),
    ("qn-run", "--list-plugins"),
    ("qn-run", "--list-plugins", "--hooks"),
    ("qn-run", "--list-configs"),
    ("qn-run", "small.yml", "--dry-run"),
    ("qn-run", "small.yml", "--episodes", "2", "--track-experiment"),
    ("qn-run", "small.yml", "--episodes", "2", "--n-seeds", "2", "--jobs", "2"),
    ("qn-exp", "list"),
    ("qn-exp", "stats"),
    ("qn-exp", "rerun", "@1"),
    ("qn-bench", "leaderboard"),
)


def _all(start: Callable[[str], list[str]], env: dict[str, str]) -> None:
    for program, *args in HARMLESS:
        done = subprocess.run(
            [*start(program), *args], capture_output=True, text=True, env={**os.environ, **env}
        )
        assert done.returncode == 0, (program, args, done.stderr)
        assert "evil" not in done.stdout


@pytest.mark.slow
def test_no_command_imports_what_it_finds_in_the_current_folder(
    hostile: Callable[[], list[str]],
) -> None:
    _all(lambda program: [str(BIN / program)], {"PYTHONPATH": SRC})
    assert hostile() == []


@pytest.mark.slow
def test_neither_does_one_that_is_started_as_a_module(hostile: Callable[[], list[str]]) -> None:
    """But for what Python imports before it, and a package of our own name: `python -P -m` does
    not look for them here.
    """
    own = subprocess.run([sys.executable, "-I", "-c", PYTHONS_OWN], capture_output=True, text=True)
    module = {"qn-run": "run", "qn-exp": "exp", "qn-bench": "bench"}
    env = {"PYTHONPATH": SRC}
    _all(lambda name: [sys.executable, "-P", "-m", f"qn_tracking.cli.{module[name]}"], env)
    for name in own.stdout.split():
        Path(f"{name}.py").unlink(missing_ok=True)
    Path("qn_tracking").rename("not_qn_tracking")
    _all(lambda name: [sys.executable, "-m", f"qn_tracking.cli.{module[name]}"], env)
    assert hostile() == []


def test_completion_imports_nothing_of_it(hostile: Callable[[], list[str]]) -> None:
    for program, line in (("qn-run", "qn-run --plu"), ("qn-exp", "qn-exp ev")):
        asked = {
            **os.environ, "_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": "offered",
            "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line, "COMP_POINT": str(len(line)),
            "PYTHONPATH": SRC,
        }  # fmt: skip
        subprocess.run([str(BIN / program)], env=asked, capture_output=True, check=True)
        assert ("--plugins" in Path("offered").read_text()) == (program == "qn-run")
    assert hostile() == []


def test_an_entry_point_of_the_current_folder_is_not_an_installed_plugin(
    hostile: Callable[[], list[str]], qn_run: Program, qn_exp: Program
) -> None:
    Path("mine.py").write_text(SINK)
    without_what_is_not_installed()
    assert "unknown command evil" in qn_exp("evil").stderr
    with_own = ("--episodes", "1", "--plugins", "mine:Sink")
    assert qn_run("small.yml", *with_own).returncode == 0
    Path("other.yml").write_text(f"simulation: evil\n{SMALL}")
    done = qn_run("other.yml", *with_own)
    assert (done.returncode, "unknown simulation 'evil'" in done.stderr) == (2, True)
    assert hostile() == []


def test_the_folder_comes_last_when_a_plugin_of_it_is_asked_for(
    hostile: Callable[[], list[str]], qn_run: Program
) -> None:
    """In the workers of a study as well."""
    Path("mine.py").write_text(f"import numpy, json, wave\n{SINK}")
    without_what_is_not_installed()
    for more in ((), ("--n-seeds", "2", "--jobs", "2")):
        done = qn_run(
            "small.yml", "--episodes", "1", "--plugins", "mine:Sink", *more, process=True,
            env={"PYTHONPATH": SRC},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert Path("heard").read_text() == "xxx"
    assert hostile() == []
    done = qn_run("small.yml", "--episodes", "1", "--plugins", "wave:Sink")
    assert "wave is the name of an installed module" in done.stderr
    assert hostile() == []


@pytest.fixture
def outside(
    project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A configuration outside of the current folder that turns on `mine:Sink`, which is in it."""
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    Path("mine.py").write_text(SINK)
    path = tmp_path_factory.mktemp("outside") / "their.yml"
    path.write_text(f"plugins: ['mine:Sink']\n{SMALL}")
    return path


@pytest.mark.parametrize("more", [[], ["--n-seeds", "2"], ["--json"], ["--no-plugin", "metadata"]])
def test_a_dry_run_imports_code_of_the_folder_only_if_plugins_names_it(
    outside: Path, qn_run: Program, more: list[str]
) -> None:
    inside = Path("mine.yml")
    inside.write_text(outside.read_text())
    for config in (inside, outside):
        done = qn_run(str(config), "--dry-run", *more)
        assert done.returncode == 0, done.stderr
        assert not Path("imported").exists()
        if "--json" in more:
            assert json.loads(done.stdout)["unchecked"] == ["mine:Sink"]
        else:
            assert "unchecked code of this folder: mine:Sink (--plugins mine:Sink" in done.stderr
    done = qn_run(str(inside), "--dry-run", "--plugins", "mine:Sink", *more)
    assert done.returncode == 0
    assert "unchecked" not in done.stdout + done.stderr
    assert Path("imported").exists()


def test_a_dry_run_says_that_an_unchecked_plugin_may_make_the_simulation(
    outside: Path, qn_run: Program
) -> None:
    Path("toy.yml").write_text("plugins: ['mine:Maker']\ntoy: 1\n")
    done = qn_run("toy.yml", "--dry-run")
    assert done.returncode == 2
    assert "(--plugins mine:Maker imports what may make it)" in done.stderr
    assert not Path("imported").exists()


def test_lists_of_plugins_import_nothing_of_the_folder(outside: Path, qn_run: Program) -> None:
    Path("pyproject.toml").write_text("[tool.qn-tracking]\nplugins = ['mine:Maker']\n")
    for more in ([], [str(outside), "--hooks"], ["--json"]):
        assert "mine:Maker" in qn_run("--list-plugins", *more).stdout
    assert not Path("imported").exists()
    done = qn_run("--list-plugins", "--hooks", "--plugins", "mine:Sink")
    assert "episode_end" in done.stdout
    assert "make_simulation  \n" not in done.stdout


def test_a_configuration_from_outside_turns_on_no_code_of_the_folder(
    outside: Path, qn_run: Program
) -> None:
    run_it = (str(outside), "--episodes", "2")
    for more in ([], ["--n-seeds", "2"]):
        done = qn_run(*run_it, *more)
        assert done.returncode == 2
        assert done.stderr == (
            f"error: plugin mine:Sink: is code of this folder, and {outside} is not in it "
            "(--plugins mine:Sink turns it on, --no-plugin mine:Sink off)\n"
        )
    assert qn_run(*run_it, "--no-plugin", "mine:Sink").returncode == 0
    assert not Path("imported").exists()
    assert qn_run(*run_it, "--plugins", "mine:Sink").returncode == 0
    assert Path("heard").read_text() == "xx"
    Path("linked.yml").symlink_to(outside)
    assert qn_run("linked.yml", "--episodes", "2").returncode == 2


def test_one_inside_does_and_so_does_the_program_that_passes_a_mapping(
    outside: Path, qn_run: Program
) -> None:
    Path("below").mkdir()
    Path("below/mine.yml").write_text(outside.read_text())
    assert qn_run("below/mine.yml", "--episodes", "2").returncode == 0
    assert Path("heard").read_text() == "xx"
    with track({"plugins": ["mine:Sink"]}) as recorder:
        recorder.episode(success=True, steps=1, reward=1.0)
    assert Path("heard").read_text() == "xxx"
    for call in (track, run):
        with pytest.raises(PluginSetupError, match="is not in it"):
            call(outside)


def test_settings_of_a_folder_above_turn_on_no_code_of_this_one(
    outside: Path, qn_run: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("below").mkdir()
    Path("mine.py").rename("below/mine.py")
    Path("pyproject.toml").write_text("[tool.qn-tracking]\nplugins = ['mine:Sink']\n")
    monkeypatch.chdir("below")
    done = qn_run("../small.yml", "--episodes", "2")
    assert (done.returncode, "is code of this folder" in done.stderr) == (2, True)
    Path("pyproject.toml").write_text(Path("../pyproject.toml").read_text())
    assert qn_run("../small.yml", "--episodes", "2").returncode == 0
    assert Path("heard").exists()


def test_an_installed_plugin_is_turned_on_by_any_configuration(
    outside: Path, qn_run: Program
) -> None:
    outside.write_text(outside.read_text().replace("mine:Sink", "json_storage"))
    assert qn_run(str(outside), "--episodes", "2").returncode == 0
    assert list(Path("experiments").glob("*.json"))


@pytest.mark.slow
def test_a_study_from_outside_is_resumed_with_the_plugins_that_are_named_again(
    outside: Path, qn_run: Program
) -> None:
    elsewhere = str(outside.parent / "experiments")
    begun = Study.declare(
        "small.yml", n_seeds=2, episodes=2, plugins=["mine:Sink"], experiments_dir=elsewhere
    )
    Path("imported").unlink()
    resume = ("--resume", begun.id, "--experiments-dir", elsewhere)
    done = qn_run(*resume, process=True)
    assert (done.returncode, "is code of this folder" in done.stderr) == (2, True)
    done = qn_run(*resume, "--plugins", "os:system", process=True)
    assert "plugin os:system: the study has not declared it" in done.stderr
    assert "unchecked" in qn_run(*resume, "--dry-run", process=True).stderr
    assert not Path("imported").exists()
    done = qn_run(*resume, "--plugins", "mine:Sink", process=True)
    assert done.returncode == 0, done.stderr
    assert Path("heard").read_text() == "xxxx"


def test_what_is_unchecked_is_not_executed(outside: Path) -> None:
    Path("mine.yml").write_text(outside.read_text())
    with pytest.raises(UsageError, match="dry run"):
        Run("mine.yml", dry_run=True).execute()
    with pytest.raises(UsageError, match="dry run"):
        Study.plan("mine.yml", n_seeds=2, dry_run=True).run()
    with pytest.raises(ConfigError):
        Run({"plugins": ["mine:Maker"], "toy": 1}, dry_run=True)
    assert not Path("imported").exists()
