"""The documents describe what the programs do."""

from __future__ import annotations

import importlib.util
import inspect
import re
import runpy
import shlex
import shutil
import sys
import xml.etree.ElementTree
from argparse import Action, ArgumentParser, _SubParsersAction
from pathlib import Path
from types import ModuleType

import attrs
import pytest

from conftest import Program, command, version_1
from qn_tracking.benchmark.protocol import Protocol
from qn_tracking.cli import bench, exp, run as qn_run_program
from qn_tracking.config import shipped
from qn_tracking.nematode import world
from qn_tracking.nematode.brain import Brain
from qn_tracking.nematode.world import Environment
from qn_tracking.records import model, submission
from qn_tracking.tracking import hookspecs

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text(encoding="utf-8")
HOOKS = (DOCS / "hooks.md").read_text(encoding="utf-8")
RECORDS = (DOCS / "records.md").read_text(encoding="utf-8")
COMMANDS = (DOCS / "commands.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
OURS = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")], key=str)
PAGES = sorted([*OURS, *ROOT.glob("plugins/*/*.md")], key=str)


def block(text: str, name: str) -> str:
    """The fenced block that follows a marker."""
    match = re.search(rf"<!-- {re.escape(name)} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    assert match, f"no block {name}"
    return match[1]


def script(name: str) -> ModuleType:
    """A program of `docs/` as a module."""
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ------------------------------------------------------------------------------------------ hooks


@pytest.mark.parametrize("hook", hookspecs.HOOKS)
def test_every_hook_is_documented_with_its_arguments(hook: str) -> None:
    names = list(inspect.signature(getattr(hookspecs, hook)).parameters)
    row = f"| `{hook}` | {', '.join(f'`{name}`' for name in names)} |"
    assert row in HOOKS


def test_there_are_no_other_hooks() -> None:
    specs = {name for name, value in vars(hookspecs).items() if hasattr(value, "qn_tracking_spec")}
    assert specs == set(hookspecs.HOOKS)


@pytest.mark.parametrize("protocol", [Brain, Environment])
def test_methods_of_the_parts_of_a_simulation_are_documented(protocol: type) -> None:
    table = HOOKS.partition(f"| `{protocol.__name__}` |")[2].partition("\n\n")[0]
    documented = re.findall(r"`(\w+)(?:\(([\w, ]*)\))?`(?=[^|]*\|[^|]*\|)", table)
    known = dict.fromkeys(protocol.__annotations__, "")
    for name, method in inspect.getmembers(protocol, inspect.isfunction):
        if not name.startswith("_"):
            known[name] = ", ".join(list(inspect.signature(method).parameters)[1:])
    assert {name: arguments for name, arguments in documented if name in known} == known


@pytest.mark.parametrize("record", [submission.Category, submission.Finding, world.Outcome])
def test_the_result_of_a_hook_is_documented_with_its_fields(record: type) -> None:
    (call,) = re.findall(rf"`{record.__name__}\(([^`]*)\)`", HOOKS)
    assert set(re.findall(r"(\w+)=", call)) == {field.name for field in attrs.fields(record)}


@pytest.mark.parametrize("name", ["run", "episode", "benchmark"])
def test_the_documented_fields_of_an_argument_exist(name: str) -> None:
    records = {"run": model.RunInfo, "episode": model.Episode, "benchmark": submission.Submission}
    known = {field.name for field in attrs.fields(records[name])}
    item = HOOKS.partition(f"\n- `{name}` is ")[2].partition("\n- ")[0]
    fields = item.partition(": ")[2].partition(", where each")[0].partition(" is its")[0]
    documented = set(re.findall(r"`(\w+)`", fields))
    assert documented
    assert documented <= known
    if name == "run":
        assert documented == known


def test_the_example_of_a_rule_exists() -> None:
    assert 'rules["minimum_runs"]' in HOOKS
    assert {"minimum_runs", "environments"} <= {field.name for field in attrs.fields(Protocol)}


def test_the_attachment_of_the_page_is_stored(project: Path) -> None:
    (project / "maze.py").write_text(block(HOOKS, "tested: attachment"))
    args = ["small.yml", "--episodes", "1", "--track-experiment", "--plugins", "maze:Layout"]
    done = command("qn-run", *args)
    assert done.returncode == 0, done.stderr
    assert "warning: maze" not in done.stderr
    (stored,) = project.glob("experiments/runs/*/layout.txt")
    assert stored.read_bytes() == b"#####\n#  ##\n"


# --------------------------------------------------------------------------------------- commands


def programs() -> dict[str, ArgumentParser]:
    """The parser of each program."""
    parsers = {
        name: module.PROGRAM.whole_parser()
        for name, module in (("qn-bench", bench), ("qn-exp", exp))
    }
    return {**parsers, "qn-run": qn_run_program.parser()}


PROGRAMS = programs()


def actions() -> list[tuple[str, str, Action]]:
    """Program, command and option of the two programs that have commands."""
    rows = []
    for program in ("qn-bench", "qn-exp"):
        (below,) = (a for a in PROGRAMS[program]._actions if isinstance(a, _SubParsersAction))
        rows += [
            (program, name, action)
            for name, one in below.choices.items()
            for action in one._actions
        ]
    return rows


def test_every_option_is_documented() -> None:
    section = COMMANDS.partition("\n## qn-exp")[0]
    options = {
        option: action.help
        for action in PROGRAMS["qn-run"]._actions
        for option in action.option_strings
        if option not in ("-h", "--help")
    }
    assert [name for name in options if f"`{name}" not in section] == []
    assert [name for name, said in options.items() if not said] == []


def test_every_command_is_documented_with_its_options() -> None:
    missing = []
    for program, name, action in actions():
        section = COMMANDS.partition(f"## {program}\n")[2].partition("\n## ")[0]
        if f"| `{name}" not in section:
            missing.append(f"{program} {name}")
        missing += [
            f"{program} {name} {option}"
            for option in action.option_strings
            if option not in ("-h", "--help") and f"`{option}" not in section
        ]
    assert missing == []


def shown_commands() -> list[str]:
    """Every command in an indented line of our pages, without what follows in the line."""
    commands: dict[str, None] = {}
    for page in OURS:
        for line in re.findall(
            r"^    (qn-\w+ .*)$", page.read_text(encoding="utf-8"), re.MULTILINE
        ):
            for part in line.split(" && "):
                commands[re.split(r"\s+#\s|\s{3,}", part)[0]] = None
    return [one for one in commands if one.startswith("qn-") and "COMMAND" not in one]


@pytest.mark.parametrize("line", shown_commands())
def test_every_command_that_a_page_shows_can_be_given(line: str) -> None:
    program, *args = shlex.split(line.replace("[options]", ""))
    PROGRAMS[program].parse_args(args)


# ---------------------------------------------------------------------------------------- records


@pytest.mark.parametrize("record", [model.Experiment, model.Results, model.Spread, model.Digests])
def test_every_field_of_a_record_is_documented(record: type) -> None:
    for field in attrs.fields(record):
        if field.metadata.get("stored", True):
            assert f"`{field.name}`" in RECORDS, field.name


def test_the_schema_version_of_the_page_is_that_of_the_records() -> None:
    assert (
        f"| `schema` | version of the schema of records, {model.RECORD.version} today |" in RECORDS
    )


def test_shipped_configurations_begin_with_a_description() -> None:
    for path in shipped().values():
        with Path(path).open(encoding="utf-8") as lines:
            assert next(lines).startswith("# ")


# ---------------------------------------------------------------------------------- code on pages


def test_the_hook_of_ten_lines_works(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mysink", raising=False)  # of another test
    code = block(CONTRIBUTING, "tested: mysink.py")
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    (project / "mysink.py").write_text(code)
    done = command(*shlex.split(block(CONTRIBUTING, "tested: command")))
    assert done.returncode == 0, done.stderr
    assert "episode 0: starved after" in done.stdout


def test_the_loop_of_the_readme_works(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (project / "loop.py").write_text(block(README, "tested: loop.py"))
    runpy.run_path("loop.py")
    assert (project / "experiments" / f"{capfd.readouterr().out.strip()}.json").exists()


NOTEBOOK = (DOCS / "notebook.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_study_of_the_readme_concludes_what_it_says(project: Path) -> None:
    """Its numbers may differ with the processor, its words and its verdict not."""
    task = README.partition("## Find the better of two")[2].partition("\n## ")[0]
    lines = [line.strip() for line in task.splitlines() if line.startswith("    ")]
    for line in (line for line in lines if line.startswith("qn-")):
        done = command(*shlex.split(line))
        assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    heads, *rows, metric, test, verdict = lines[-6:]
    (shown,) = (line for line in printed if line.startswith("ARM"))
    assert sorted(shown.split()) == sorted(heads.split())
    assert {row.split()[0] for row in rows} == {
        line.split()[0] for line in printed if line.startswith("learning_rate")
    }
    assert {metric, test} <= set(printed)
    assert printed[-1].startswith(verdict.partition(", ")[0])


def run_notebook(*names: str) -> None:
    """Runs blocks of the page about notebooks, in their order, as one program.

    Without names, all but those that need pandas.
    """
    variables: dict[str, object] = {}
    pattern = r"<!-- tested: notebook (\w+) -->\n```python\n(.*?)```"
    for name, code in re.findall(pattern, NOTEBOOK, re.DOTALL):
        if name in names if names else name.isdigit():
            exec(compile(code, f"notebook {name}", "exec"), variables)


@pytest.mark.slow
def test_the_page_about_notebooks_works(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(ROOT / "benchmarks", "benchmarks", ignore=shutil.ignore_patterns(".*"))
    version_1(Path())
    run_notebook()
    printed = capfd.readouterr().out
    assert "11 of 15\n" in printed
    assert "C 0.6 5 runs\n" in printed
    assert "0.0 usually beats 0.6: p " in printed
    assert "2 runs finished\n" in printed
    assert "1 1 modular 20261123T155231Z-eb0d948f" in printed
    assert printed.count("'imported'") == 15


def test_the_tables_of_the_page_about_notebooks_work(project: Path) -> None:
    pytest.importorskip("pandas")
    run_notebook("1", "2", "3", "pandas")


def test_every_block_that_is_marked_as_tested_is_tested() -> None:
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("*.py"))
    for page in OURS:
        for name in re.findall(r"<!-- tested: (.*) -->", page.read_text(encoding="utf-8")):
            known = (
                name.startswith("notebook ") or f'tested: {name}"' in tests or f'"{name}"' in tests
            )
            assert known, f"{page.name}: {name}"


def test_the_readme_has_one_command_each() -> None:
    for name in ("run", "test"):
        line = block(README, name).strip()
        assert "\n" not in line
        assert line.startswith("python3 -m venv .venv && ")


# ------------------------------------------------------------------------------ picture and links


def test_the_picture_is_that_of_its_text() -> None:
    picture = script("picture")
    assert picture.main(["--check"]) == 0
    assert xml.etree.ElementTree.parse(picture.PICTURE).getroot().tag.endswith("svg")
    assert "](docs/output.svg)" in README


def test_the_learning_curves_are_those_of_the_submissions() -> None:
    curves = script("curves")
    assert curves.main(["--check", "curves"]) == 0
    pages = README + "".join(path.read_text() for path in (ROOT / "docs").glob("*.md"))
    for name in curves.PICTURES:
        for dark in (False, True):
            path = curves.file(name, dark)
            assert xml.etree.ElementTree.parse(path).getroot().tag.endswith("svg")
            assert path.name in pages


@pytest.mark.slow
def test_every_picture_is_that_of_the_submissions_and_of_the_study() -> None:
    assert script("curves").main(["--check"]) == 0


def test_the_worm_is_that_of_its_actions() -> None:
    replay = script("replay")
    assert replay.main(["--check"]) == 0
    assert f'src="docs/{replay.PICTURE.name}"' in README
    assert f"qn-run {replay.CONFIG} --seed {replay.SEED} --track" in block(README, "run")
    assert f"qn-exp replay @1 --episode {replay.EPISODE}" in README


def _values(text: str) -> tuple[list[str], list[float]]:
    """The text without its numbers, and the numbers."""
    number = r"-?\d[\d,]*(?:\.\d+)?"
    return re.split(number, text), [float(n.replace(",", "")) for n in re.findall(number, text)]


@pytest.mark.slow
def test_the_text_of_the_picture_is_what_the_commands_print(qn_run: Program) -> None:
    """Another processor may change the last bit, and what is learned: up to a quarter there."""
    picture = script("picture")
    text = picture.TEXT.read_text(encoding="utf-8")
    parts = re.split(r"^\$ (.*)\n", text, flags=re.MULTILINE)[1:]
    assert parts[0] in block(README, "run")
    shutil.copytree(ROOT / "benchmarks", "benchmarks", ignore=shutil.ignore_patterns(".*"))
    version_1(Path())
    assert parts[::2] == list(picture.COMMANDS)
    for line, shown in zip(parts[::2], parts[1::2], strict=True):
        done = command(*shlex.split(line))
        printed, expected = (
            [row for row in picture.VARYING.sub("…", out).strip().splitlines() if "▁" not in row]
            for out in (done.stdout, shown)
        )
        for row, other in zip(printed, expected, strict=True):
            (words, numbers), (known, values) = _values(row), _values(other)
            assert words == known
            assert numbers == pytest.approx(values, rel=0.25, abs=0.1)


def test_generated_pages_are_up_to_date() -> None:
    """`python docs/reference.py` writes them from docstrings and layers."""
    assert script("reference").main(["--check"]) == 0


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        other = page.parent / name if name else page
        assert other.exists(), target
        assert not anchor or anchor in _anchors(other), target


def test_the_readme_links_to_every_page() -> None:
    for page in OURS:
        if page.name not in ("README.md", "BENCHMARKS.md"):
            assert f"]({page.relative_to(ROOT)})" in README


@pytest.mark.parametrize("folder", sorted(ROOT.glob("plugins/*/")), ids=lambda path: path.name)
def test_every_plugin_is_documented_with_its_test_command(folder: Path) -> None:
    assert f"(plugins/{folder.name}/README.md)" in README
    text = (folder / "README.md").read_text(encoding="utf-8")
    assert re.search(
        rf"^    pip install .*'./plugins/{folder.name}\[test\]' && pytest plugins/{folder.name}$",
        text,
        re.MULTILINE,
    )
