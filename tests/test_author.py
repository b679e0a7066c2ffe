"""What a plugin's author gets: a package that works at once, commands, configurations."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from conftest import BIN, SMALL, Program
from qn_tracking.records.model import Subject
from qn_tracking.testing import ExecutorContract, SimulationContract, SinkContract
from test_docs import HOOKS, block
from test_manager import install

pytestmark = pytest.mark.slow


def installed(folder: Path, package: Path) -> dict[str, str]:
    """The environment in which a package is installed, as an editable install leaves it."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    points = project["entry-points"]["qn_tracking"]
    install(folder, project["name"], "\n".join(f"{k} = {v}" for k, v in points.items()), {})
    return {"PYTHONPATH": f"{folder}{os.pathsep}{package / 'src'}"}


# The others are like what the templates import, or like what pytest collects.
@pytest.mark.parametrize(
    "name",
    [
        "hello-you",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("episode", "path", "none", "test-sink-contract")
        ),
    ],
)
def test_a_new_plugin_passes_its_own_tests(qn_run: Program, tmp_path: Path, name: str) -> None:
    done = qn_run("--new-plugin", f"qn-tracking-{name}")
    assert done.returncode == 0, done.stderr
    package = tmp_path / f"qn-tracking-{name}"
    environment = {**os.environ, **installed(tmp_path / "site", package)}
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", package.name],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert tests.returncode == 0, tests.stdout
    # And it does what it says that it does.
    _, _, command = done.stdout.partition("  qn-run ")
    run = qn_run(*shlex.split(command), "--episodes", "3", env=environment)
    assert run.returncode == 0, run.stderr
    short = name.replace("-", "_")
    (line,) = Path(f"{short}.jsonl").read_text().splitlines()
    assert json.loads(line)["episodes"] == 3
    # As README.md has it, in a configuration.
    section = (package / "README.md").read_text().partition("```yaml\n")[2].partition("```")[0]
    Path("with.yml").write_text(SMALL + section)
    run = qn_run("with.yml", "--episodes", "2", env=environment)
    assert run.returncode == 0, run.stderr
    assert json.loads(Path("runs.jsonl").read_text())["episodes"] == 2


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
        ("qn-tracking-class", 2, "qn_tracking_class is taken"),
        ("qn-tracking-2d", 2, "a plugin cannot be called 2d"),
        ("qn-tracking-null", 2, "a plugin cannot be called null"),
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
        parser.add_argument("--level", type=int, choices=(1, 2))

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
    assert (done.returncode, done.stdout) == (5, "push ['a', 'b'] True True experiments push\n")
    done = call("qn-exp", "push", "all", "--experiments-dir", "e")
    assert (done.returncode, done.stdout) == (5, "push all [] False False e push all\n")
    assert call("qn-bench", "push").returncode == 7
    wrong = call("qn-exp", "push", "--level", "3")
    assert (wrong.returncode, wrong.stderr) == (2, "error: --level: no 3 (one of 1, 2)\n")
    for args in (["push", "--help"], ["push", "all", "--help"]):
        assert "--twice" in call("qn-exp", *args).stdout
    assert "  push  plugin pusher\n" in call("qn-exp", "--help").stdout


def test_a_program_that_needs_no_plugin_imports_none(pushing: Path) -> None:
    (pushing / "pusher.py").write_text("raise RuntimeError('imported')")
    assert call("qn-exp", "list").returncode == 0
    unknown = call("qn-exp", "pus")
    assert unknown.returncode == 2
    assert unknown.stderr == "error: unknown command pus (did you mean push?)\n"
    unknown = call("qn-exp", "xyz")
    assert unknown.returncode == 2
    assert "(known: list, show, " in unknown.stderr
    assert unknown.stderr.endswith(", fsck, push)\n")
    broken = call("qn-exp", "push")
    assert broken.returncode == 2
    assert broken.stderr == (
        "error: plugin command.push: cannot be imported: RuntimeError: imported\n"
    )
    # Help names it, and does not import it.
    helped = call("qn-exp", "--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "  push  plugin pusher\n" in helped.stdout


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


@pytest.fixture
def completed() -> Callable[[str], set[str]]:
    """What a shell is offered for the last word of a line."""
    pytest.importorskip("argcomplete")

    def complete(line: str) -> set[str]:
        done = subprocess.run(
            [str(BIN / line.split()[0])],
            env={
                **os.environ, "_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": "offered",
                "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line, "COMP_POINT": str(len(line)),
            },
            capture_output=True, text=True,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        return {word.strip() for word in Path("offered").read_text().splitlines()}

    return complete


def test_commands_of_a_plugin_are_completed(
    pushing: Path, completed: Callable[[str], set[str]]
) -> None:
    assert completed("qn-exp pu") == {"push"}
    assert completed("qn-exp push a") == {"all"}
    assert "--twice" in completed("qn-exp push --")
    assert "--twice" in completed("qn-exp push all --")
    assert completed("qn-bench pus") == {"push"}
    assert "list" in completed("qn-exp ")


@pytest.mark.parametrize("names", [("push", "push all"), ("push all", "push"), ("push all",)])
def test_the_parser_of_all_commands_has_those_of_plugins(
    pushing: Path, names: tuple[str, ...]
) -> None:
    (pushing / "pusher.py").write_text(COMMANDS.replace('("push", "push all")', repr(names)))
    asked = (
        "from qn_tracking.cli.exp import PROGRAM\n"
        "whole = PROGRAM.with_added(PROGRAM.whole_parser())\n"
        "print(vars(whole.parse_args(['push', 'all', '--twice', '--json'])))\n"
        "print(vars(whole.parse_args(['list', '--json'])))\n"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pushed, listed = done.stdout.splitlines()
    assert "'twice': True" in pushed
    assert "'json': True" in pushed
    assert "'json': True" in listed


@pytest.fixture(params=["list", "list all"])
def impostor(pushing: Path, request: pytest.FixtureRequest) -> None:
    """A plugin with a command that is called like one of the program's own."""
    points = pushing / "pusher-1.2.dist-info" / "entry_points.txt"
    points.write_text("[qn_tracking]\ncommand.list = pusher:Commands\n")
    text = COMMANDS.replace('("push", "push all")', f'("{request.param}",)')
    (pushing / "pusher.py").write_text(text.replace('"qn-bench", "push"', '"qn-bench", "list"'))


@pytest.mark.usefixtures("impostor")
def test_a_plugin_never_replaces_a_command() -> None:
    for args in (["list"], ["list", "--help"]):
        done = call("qn-exp", *args)
        assert done.returncode == 0, done.stderr
        assert "--twice" not in done.stdout
    for program in ("qn-exp", "qn-bench"):
        helped = call(program, "--help")
        assert helped.returncode == 0
        assert f"  list  plugin pusher, hidden by {program} list\n" in helped.stdout
        assert helped.stderr == ""


@pytest.mark.usefixtures("impostor")
def test_nor_is_its_own_completed(completed: Callable[[str], set[str]]) -> None:
    offered = completed("qn-exp list --")
    assert "--json" in offered
    assert "--twice" not in offered


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
    done = qn_run("tiny_maze", "--episodes", "2", "--track-experiment", "--json", env=env)
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


@pytest.mark.parametrize(
    "body", ["raise RuntimeError('broken')", "import sys; sys.exit(0)", "import no_such_module"]
)
def test_a_plugin_that_cannot_be_imported_ships_none(
    qn_run: Program, tmp_path: Path, body: str
) -> None:
    site = tmp_path / "site"
    install(site, "shipper", "configs.mine = shipper.configs", {})
    (site / "shipper" / "configs").mkdir(parents=True)
    (site / "shipper" / "__init__.py").write_text(body)
    env = {"PYTHONPATH": str(site)}
    listed = qn_run("--list-configs", env=env)
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "mlp_dynamic_small" in listed.stdout
    unknown = qn_run("nosuch.yml", env=env)
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("error: nosuch.yml: no such file or directory (shipped: ")
    assert unknown.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ("return 1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(7)", "SystemExit: 7"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("raise SystemExit('bye')", "SystemExit: bye"),
        ("return 'done'", "returned str, expected an exit code from 0 to 255"),
        ("return 256", "returned 256, expected an exit code from 0 to 255"),
        ("self.parser.exit(7)", "Answered: 7"),
    ],
)
def test_what_a_command_did_not_expect_is_one_line(pushing: Path, run: str, said: str) -> None:
    text = COMMANDS.replace("return 5", run)
    (pushing / "pusher.py").write_text(
        text.replace(
            "arguments(self, parser):", "arguments(self, parser):\n        self.parser = parser"
        )
    )
    for words in (["push"], ["push", "all"]):
        done = call("qn-exp", *words)
        name = " ".join(words)
        assert done.stdout == f"{name} [] False False experiments {name}\n"
        assert done.stderr == f"error: plugin command.push: {said}\n"
        assert done.returncode == 1


@pytest.mark.parametrize(
    ("returned", "code"), [("None", 0), ("0", 0), ("255", 255), ("True", 1), ("False", 0)]
)
def test_what_a_command_returns_is_the_exit_code(pushing: Path, returned: str, code: int) -> None:
    (pushing / "pusher.py").write_text(COMMANDS.replace("return 5", f"return {returned}"))
    done = call("qn-exp", "push")
    assert (done.returncode, done.stderr) == (code, "")


ARGUMENTS = {
    "parser.add_argument('--json')": "ArgumentError: argument --json: conflicting option string",
    "parser.add_argument('--experiments-dir')": "ArgumentError: argument --experiments-dir: ",
    "1 / 0": "ZeroDivisionError: division by zero",
    "open('not there')": "FileNotFoundError: ",
    "raise SystemExit(7)": "SystemExit: 7",
    "raise SystemExit('bye')": "SystemExit: bye",
    "parser.exit(7)": "Answered: 7",
}
"""What a plugin does to the parser that it gets, and what is said then."""


@pytest.mark.parametrize("body", ARGUMENTS)
@pytest.mark.parametrize("words", [["push"], ["push", "all", "--help"]], ids=" ".join)
def test_arguments_that_cannot_be_added_are_one_line(
    pushing: Path, words: list[str], body: str
) -> None:
    (pushing / "pusher.py").write_text(
        COMMANDS.replace('parser.add_argument("what", nargs="*")', body)
    )
    done = call("qn-exp", *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: plugin command.push: {ARGUMENTS[body]}")
    assert done.stderr.count("\n") == 1
    assert call("qn-exp", "--help").returncode == 0


@pytest.mark.parametrize("body", ["parser.add_argument('--json')", "1 / 0"])
def test_arguments_that_cannot_be_added_do_not_spoil_completion(
    pushing: Path, completed: Callable[[str], set[str]], body: str
) -> None:
    (pushing / "pusher.py").write_text(
        COMMANDS.replace('parser.add_argument("what", nargs="*")', body).replace('"send ', '"1% ')
    )
    assert completed("qn-exp pu") == {"push"}
    assert "list" in completed("qn-exp ")


def test_help_that_cannot_be_printed_is_one_line(pushing: Path) -> None:
    told = COMMANDS.replace(
        '"--twice",', '"--loud", help="100% loud")\n        parser.add_argument("--twice",'
    )
    (pushing / "pusher.py").write_text(told)
    done = call("qn-exp", "push", "--help")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: plugin command.push: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("type", "code", "said"),
    [
        ("int", 2, "error: what: invalid int value: 'x' (see qn-exp push --help)\n"),
        ("open", 3, "error: x: no such file or directory\n"),
        ("exit", 1, "error: plugin command.push: SystemExit: x\n"),
        ("{}.__getitem__", 1, "error: plugin command.push: KeyError: 'x'\n"),
    ],
)
def test_an_argument_that_cannot_be_read_is_one_line(
    pushing: Path, type: str, code: int, said: str
) -> None:
    (pushing / "pusher.py").write_text(COMMANDS.replace('nargs="*"', f'nargs="*", type={type}'))
    done = call("qn-exp", "push", "x")
    assert (done.returncode, done.stdout, done.stderr) == (code, "", said)


def test_a_command_finds_the_folder_that_the_project_names(pushing: Path) -> None:
    Path("pyproject.toml").write_text('[tool.qn-tracking]\nexperiments_dir = "kept"\n')
    done = call("qn-exp", "push")
    assert done.stdout == f"push [] False False {Path('kept').absolute()} push\n"
    assert call("qn-exp", "push", "--experiments-dir", "e").stdout.endswith(" e push\n")


# -------------------------------------------------------------- what the page of the hooks shows


def test_the_command_of_the_page_counts_episodes(qn_run: Program, project: Path) -> None:
    code = {"counter": block(HOOKS, "tested: counter.py")}
    install(project / "site", "counter", "command.count = counter:Counter", code)
    env = {**os.environ, "PYTHONPATH": str(project / "site")}
    for runs in ("2", "3"):
        assert qn_run("small.yml", "--episodes", runs, "--track-experiment").returncode == 0

    def count(*args: str) -> tuple[int, str]:
        done = subprocess.run(
            [str(BIN / "qn-exp"), "count", *args], env=env, capture_output=True, text=True
        )
        return done.returncode, done.stdout or done.stderr

    assert count("--all") == (0, "5\n")
    assert count("@1") == (0, "3\n")
    assert count("@1", "@2", "@2") == (0, "5\n")
    assert count() == (2, "error: expected ids, or --all (qn-exp count --help)\n")
    assert count("--all", "--experiments-dir", "nowhere")[0] == 3


def test_the_simulation_of_the_page_keeps_its_contract(qn_run: Program, project: Path) -> None:
    code = {"coin": block(HOOKS, "tested: coin.py")}
    install(project / "site", "coin", "simulation.coin = coin:Coin", code)
    env = {**os.environ, "PYTHONPATH": str(project / "site")}
    Path("coin.yml").write_text(block(HOOKS, "tested: coin.yml"))
    done = qn_run("coin.yml", "--track-experiment", "--json", env=env)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["config"]["data"] == {"heads": 0.25}
    assert found["config"]["settings"] == {"simulation": "coin", "episodes": 20}
    assert found["subject"]["packages"] == ["coin"]
    wrong = qn_run("coin.yml", "--set", "heads=2.0", env=env)
    assert wrong.returncode == 2
    assert wrong.stderr == "error: coin.yml: heads: expected a number from 0 to 1\n"
    Path("test_coin.py").write_text(
        "from qn_tracking.testing import SimulationContract\n"
        "class TestCoin(SimulationContract):\n"
        "    config = {'simulation': 'coin', 'heads': 0.5}\n"
        "    wrong = ({'simulation': 'coin', 'heads': 2.0},)\n"
    )
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_coin.py"],
        env=env, capture_output=True, text=True,
    )  # fmt: skip
    assert tests.returncode == 0, tests.stdout


def test_the_sink_of_the_page_brings_every_episode(qn_run: Program) -> None:
    Path("sender.py").write_text(block(HOOKS, "tested: outbox"))
    done = qn_run("small.yml", "--episodes", "4", "--plugins", "sender:Sender")
    assert done.returncode == 0, done.stderr
    sent = [json.loads(line) for line in Path("server.txt").read_text().splitlines()]
    assert [one["index"] for one in sent] == [0, 1, 2, 3]
    Path("server.txt").unlink()
    Path("server.txt").mkdir()
    text = Path("sender.py").read_text().replace("close(10.0)", "close(0.5)")
    Path("sender.py").write_text(text)
    done = qn_run("small.yml", "--episodes", "4", "--plugins", "sender:Sender")
    assert done.returncode == 1
    assert "4 episodes did not arrive: [Errno 21] Is a directory" in done.stderr


@pytest.mark.parametrize("field", [field.name for field in attrs.fields(Subject)])
def test_every_field_of_a_subject_is_told(field: str) -> None:
    assert f"`{field}`" in HOOKS.partition("| `Subject` |")[2].partition("\n\n")[0]


@pytest.mark.parametrize("contract", [SinkContract, SimulationContract, ExecutorContract])
def test_what_a_contract_wants_defined_is_told(contract: type) -> None:
    (row,) = re.findall(rf"^\| `{contract.__name__}` \|.*$", HOOKS, re.MULTILINE)
    wanted = {
        name for name in vars(contract) if not name.startswith(("_", "test_")) and name != "make"
    }
    wanted |= set(contract.__annotations__)
    assert wanted <= set(re.findall(r"`(\w+)", row))
