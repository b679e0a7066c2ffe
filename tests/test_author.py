"""What a plugin's author gets: a package that works at once, commands, configurations."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from conftest import BIN, SMALL, Program
from test_manager import install


def installed(folder: Path, package: Path) -> dict[str, str]:
    """The environment in which a package is installed, as an editable install leaves it."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    points = project["entry-points"]["qn_tracking"]
    install(folder, project["name"], "\n".join(f"{k} = {v}" for k, v in points.items()), {})
    return {"PYTHONPATH": f"{folder}{os.pathsep}{package / 'src'}"}


def test_a_new_plugin_passes_its_own_tests(qn_run: Program, tmp_path: Path) -> None:
    done = qn_run("--new-plugin", "qn-tracking-hello-you")
    assert done.returncode == 0, done.stderr
    package = tmp_path / "qn-tracking-hello-you"
    environment = {**os.environ, **installed(tmp_path / "site", package)}
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", package.name],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert tests.returncode == 0, tests.stdout
    # And it does what it says that it does.
    _, _, command = done.stdout.partition("  qn-run ")
    run = qn_run(*shlex.split(command), "--runs", "3", env=environment)
    assert run.returncode == 0, run.stderr
    (line,) = Path("hello_you.jsonl").read_text().splitlines()
    assert json.loads(line)["episodes"] == 3


def test_what_it_writes_is_what_is_said(qn_run: Program) -> None:
    told = json.loads(qn_run("--new-plugin", "hello", "--json").stdout)
    files = [str(path) for path in Path("hello").rglob("*") if path.is_file()]
    assert sorted(told["files"]) == sorted(files)
    assert not any("$" in Path(name).read_text() for name in files)


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("../x", 2, "not the name of a package"),
        ("Hello", 2, "not the name of a package"),
        ("", 2, "not the name of a package"),
        ("json", 2, "json is taken (qn-tracking-json?)"),
        ("class", 2, "class is taken"),
        ("qn-tracking-progress", 2, "there is a plugin progress"),
        ("there", 3, "there: file exists"),
    ],
)
def test_a_name_that_will_not_do(qn_run: Program, name: str, code: int, said: str) -> None:
    Path("there").mkdir()
    before = sorted(Path.cwd().rglob("*"))
    done = qn_run("--new-plugin", name)
    assert done.returncode == code
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(Path.cwd().rglob("*")) == before


COMMANDS = """
from qn_tracking import hookimpl

class Commands:
    @hookimpl
    def register_commands(self, commands):
        for name in ("push", "push all"):
            commands.add("qn-exp", name, help="send " + name, arguments=self.arguments,
                         run=lambda args, name=name: self.run(args, name))
        commands.add("qn-bench", "push", help="send a benchmark", arguments=self.arguments,
                     run=lambda args: 7)

    def arguments(self, parser):
        parser.add_argument("what", nargs="*")
        parser.add_argument("--twice", action="store_true")

    def run(self, args, name):
        print(name, args.what, args.twice, args.json, args.experiments_dir, args.command)
        return 5
"""


@pytest.fixture
def pushing(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages, with one that adds commands."""
    site = project / "site"
    install(site, "pusher", "command.push = pusher:Commands", {"pusher": COMMANDS})
    monkeypatch.setenv("PYTHONPATH", str(site))
    return site


def call(program: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(BIN / program), *args], capture_output=True, text=True)


def test_a_plugin_adds_commands_of_one_word_or_two(pushing: Path) -> None:
    done = call("qn-exp", "push", "a", "b", "--twice", "--json")
    assert (done.returncode, done.stdout) == (5, "push ['a', 'b'] True True None push\n")
    done = call("qn-exp", "push", "all", "--experiments-dir", "e")
    assert (done.returncode, done.stdout) == (5, "push all [] False False e push all\n")
    assert call("qn-bench", "push").returncode == 7
    for args in (["push", "--help"], ["push", "all", "--help"]):
        assert "--twice" in call("qn-exp", *args).stdout
    helped = call("qn-exp", "--help").stdout
    assert "  push all " in helped
    assert "send push all" in helped


def test_a_program_that_needs_no_plugin_imports_none(pushing: Path) -> None:
    (pushing / "pusher.py").write_text("raise RuntimeError('imported')")
    assert call("qn-exp", "list").returncode == 0
    unknown = call("qn-exp", "pus")
    assert unknown.returncode == 2
    assert "unknown command pus" in unknown.stderr
    broken = call("qn-exp", "push")
    assert broken.returncode == 2
    assert broken.stderr == (
        "error: plugin command.push: cannot be imported: RuntimeError: imported\n"
    )
    # Help is for finding out what is wrong, too.
    helped = call("qn-exp", "--help")
    assert helped.returncode == 0
    assert "cannot be imported: RuntimeError" in helped.stdout


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("1/0", 1, "error: plugin command.push: register_commands: ZeroDivisionError"),
        ("raise SystemExit(0)", 1, "register_commands: SystemExit"),
        (
            "commands.add('qn-exp', 'list', help='', arguments=print, run=print)",
            2,
            "command 'list' is not that of the entry point",
        ),
        ("pass", 2, "unknown command push"),
    ],
)
def test_a_plugin_that_cannot_add_its_commands(
    pushing: Path, body: str, code: int, said: str
) -> None:
    (pushing / "pusher.py").write_text(
        "from qn_tracking import hookimpl\nclass Commands:\n"
        f"  @hookimpl\n  def register_commands(self, commands): {body}\n"
    )
    done = call("qn-exp", "push")
    assert done.returncode == code
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert call("qn-exp", "--help").returncode == 0


def test_a_plugin_ships_configurations(qn_run: Program, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install(site, "shipper", "configs.mine = shipper.configs", {})
    folder = site / "shipper" / "configs"
    folder.mkdir(parents=True)
    (site / "shipper" / "__init__.py").write_text("")
    (folder / "tiny_maze.yml").write_text(SMALL)
    (folder / "mlp_dynamic_small.yml").write_text("not: that one")
    env = {"PYTHONPATH": str(site)}
    listed = json.loads(qn_run("--list-configs", "--json", env=env).stdout)
    assert {"name": "tiny_maze", "about": "A static maze that is over in no time."} in listed
    done = qn_run("tiny_maze", "--runs", "2", "--track-experiment", "--json", env=env)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["config"]["label"] == "tiny_maze"
    # The package's own cannot be put aside.
    assert qn_run("mlp_dynamic_small", "--dry-run", env=env).returncode == 0
    assert "shipped: tiny_maze" in qn_run("tiny_maz", env=env).stderr
    # It is no plugin that could be turned on.
    assert "configs.mine" not in qn_run("--list-plugins", env=env).stdout


def test_a_plugin_whose_configurations_are_gone_ships_none(qn_run: Program, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install(site, "shipper", "configs.mine = nowhere.at.all", {})
    done = qn_run("--list-configs", env={"PYTHONPATH": str(site)})
    assert done.returncode == 0
    assert "mlp_dynamic_small" in done.stdout
