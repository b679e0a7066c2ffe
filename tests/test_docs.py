"""What the documents say is so."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
from argparse import Action, _SubParsersAction
from pathlib import Path

import attrs
import pytest

from conftest import BIN
from qn_tracking.benchmark.protocol import Protocol
from qn_tracking.cli import bench, exp, run as qn_run_program
from qn_tracking.cli.command import whole_parser
from qn_tracking.config import shipped
from qn_tracking.nematode import world
from qn_tracking.nematode.brain import Brain
from qn_tracking.nematode.world import Environment
from qn_tracking.records import model, submission
from qn_tracking.tracking import hookspecs

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
HOOKS = (ROOT / "docs" / "hooks.md").read_text(encoding="utf-8")
RECORDS = (ROOT / "docs" / "records.md").read_text(encoding="utf-8")
COMMANDS = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def block(text: str, name: str) -> str:
    """The fenced block that follows a marker."""
    found = re.search(rf"<!-- {re.escape(name)} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    assert found, f"no block {name}"
    return found[1]


@pytest.mark.parametrize("hook", hookspecs.HOOKS)
def test_every_hook_is_told_with_its_arguments(hook: str) -> None:
    names = list(inspect.signature(getattr(hookspecs, hook)).parameters)
    row = f"| `{hook}` | {', '.join(f'`{name}`' for name in names)} |"
    assert row in HOOKS


@pytest.mark.parametrize("protocol", [Brain, Environment])
def test_what_a_simulation_asks_of_its_parts_is_told(protocol: type) -> None:
    table = HOOKS.partition(f"| `{protocol.__name__}` |")[2].partition("\n\n")[0]
    told = re.findall(r"`(\w+)(?:\(([\w, ]*)\))?`(?=[^|]*\|[^|]*\|)", table)
    known = dict.fromkeys(protocol.__annotations__, "")
    for name, method in inspect.getmembers(protocol, inspect.isfunction):
        if not name.startswith("_"):
            known[name] = ", ".join(list(inspect.signature(method).parameters)[1:])
    assert {name: arguments for name, arguments in told if name in known} == known


@pytest.mark.parametrize("record", [submission.Category, submission.Finding, world.Outcome])
def test_what_a_hook_returns_is_told_with_its_fields(record: type) -> None:
    (call,) = re.findall(rf"`{record.__name__}\(([^`]*)\)`", HOOKS)
    assert set(re.findall(r"(\w+)=", call)) == {field.name for field in attrs.fields(record)}


def test_the_fields_of_a_benchmark_that_are_told_are_there() -> None:
    names = {field.name for field in attrs.fields(submission.Benchmark)}
    told = HOOKS.partition("the submission as it was read: ")[2].partition(", where each")[0]
    assert set(re.findall(r"`(\w+)`", told)) <= names
    assert 'rules["small_grid"]' in HOOKS
    assert "small_grid" in {field.name for field in attrs.fields(Protocol)}


def test_the_attachment_of_the_page_is_kept(project: Path) -> None:
    (project / "maze.py").write_text(block(HOOKS, "tested: attachment"))
    args = ["small.yml", "--episodes", "1", "--track-experiment", "--plugins", "maze:Layout"]
    done = subprocess.run([BIN / "qn-run", *args], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "warning: maze" not in done.stderr
    (kept,) = project.glob("experiments/runs/*/layout.txt")
    assert kept.read_bytes() == b"#####\n#  ##\n"


def test_there_are_no_other_hooks() -> None:
    specs = {name for name, value in vars(hookspecs).items() if hasattr(value, "qn_tracking_spec")}
    assert specs == set(hookspecs.HOOKS)


@pytest.mark.parametrize("action", qn_run_program.parser()._actions, ids=lambda a: a.dest)
def test_every_option_is_told(action: Action) -> None:
    for option in action.option_strings:
        if option not in ("-h", "--help"):
            assert f"`{option}" in COMMANDS.partition("\n## qn-exp")[0]
            assert action.help


def actions() -> list[tuple[str, str, Action]]:
    """Program, command and option of the two programs that have commands."""
    found = []
    for program, module in (("qn-bench", bench), ("qn-exp", exp)):
        whole = whole_parser(program, module.ABOUT, module.COMMANDS, module.common)
        (below,) = (a for a in whole._actions if isinstance(a, _SubParsersAction))
        found += [
            (program, name, action)
            for name, one in below.choices.items()
            for action in one._actions
        ]
    return found


@pytest.mark.parametrize(
    ("program", "name", "action"), actions(), ids=lambda x: getattr(x, "dest", x)
)
def test_every_command_is_told_with_its_options(program: str, name: str, action: Action) -> None:
    section = COMMANDS.partition(f"## {program}\n")[2].partition("\n## ")[0]
    assert f"| `{name}" in section
    for option in action.option_strings:
        assert option in ("-h", "--help") or f"`{option}" in section


@pytest.mark.parametrize("record", [model.Experiment, model.Results, model.Spread, model.Digests])
def test_every_field_of_a_record_is_told(record: type) -> None:
    for field in attrs.fields(record):
        if field.metadata.get("stored", True):
            assert f"`{field.name}`" in RECORDS, field.name


def test_the_hook_of_ten_lines_works(project: Path) -> None:
    code = block(CONTRIBUTING, "tested: mysink.py")
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    (project / "mysink.py").write_text(code)
    program, *args = shlex.split(block(CONTRIBUTING, "tested: command"))
    done = subprocess.run([str(BIN / program), *args], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "episode 0: starved after" in done.stdout


def test_the_loop_of_the_readme_works(project: Path) -> None:
    (project / "loop.py").write_text(block(README, "tested: loop.py"))
    done = subprocess.run([sys.executable, "loop.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (project / "experiments" / f"{done.stdout.strip()}.json").exists()


def test_the_readme_has_one_command_each() -> None:
    for name in ("run", "test"):
        command = block(README, name).strip()
        assert "\n" not in command
        assert command.startswith("python3 -m venv .venv && ")


def test_shipped_configurations_say_what_they_are() -> None:
    for path in shipped().values():
        with Path(path).open(encoding="utf-8") as lines:
            assert next(lines).startswith("# ")


PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("plugins/*/*.md")],
    key=str,
)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target and not target.startswith("#"):
            assert (page.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("folder", sorted(ROOT.glob("plugins/*/")), ids=lambda path: path.name)
def test_every_plugin_is_told_and_says_how_it_is_tested(folder: Path) -> None:
    assert f"(plugins/{folder.name}/README.md)" in README
    text = (folder / "README.md").read_text(encoding="utf-8")
    command = f"pip install './plugins/{folder.name}[test]' && pytest plugins/{folder.name}"
    assert f"    {command}\n" in text
