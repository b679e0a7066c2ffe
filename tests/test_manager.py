"""Plugins are found, loaded and checked by name; what does not fit is said before the run."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conftest import Program
from qn_tracking import Study, make_manager, run as run_, track
from qn_tracking.api.run import Run
from qn_tracking.config import from_mapping, load
from qn_tracking.errors import ConfigError, PluginSetupError, QnError, UsageError
from qn_tracking.tracking.manager import BUILTIN, list_plugins, make_simulation
from qn_tracking.tracking.wanted import choose, project as settings

SINK = '''
from qn_tracking import hookimpl

class Sink:
    """Writes down what it hears."""

    def __init__(self, file="heard.txt"):
        self.file = file

    @hookimpl
    def run_start(self, run):
        self.say("run_start")

    @hookimpl
    def episode_end(self, episode):
        self.say(f"episode_end {episode.index}")

    @hookimpl
    def run_end(self, experiment):
        self.say(f"run_end {experiment.status}")

    def say(self, text):
        with open(self.file, "a") as out:
            print(text, file=out)
'''


@pytest.fixture(autouse=True)
def _fresh_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("mysink", "broken", "pack"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def install(
    folder: Path, name: str, entries: str, modules: dict[str, str], version: str = "1.2"
) -> None:
    """A distribution as an installer leaves it."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[qn_tracking]\n{entries}\n")
    for module, text in modules.items():
        (folder / f"{module}.py").write_text(text)


def test_a_class_of_this_folder_is_made_for_each_run(project: Path) -> None:
    Path("mysink.py").write_text(SINK)
    for _ in range(2):
        with track({"a": 1}, plugins=["mysink:Sink"]) as run:
            run.episode()
    assert Path("heard.txt").read_text().split("\n")[:-1] == [
        "run_start", "episode_end 0", "run_end completed",
    ] * 2  # fmt: skip


def test_a_module_is_a_plugin_too(project: Path) -> None:
    Path("mysink.py").write_text(
        "from qn_tracking import hookimpl\nimport sys\nheard = []\n"
        "@hookimpl\ndef episode_end(run, episode): heard.append(episode.index)\n"
        "me = sys.modules[__name__]\n"
    )
    with track({"a": 1}, plugins=["mysink:me"]) as run:
        run.episode()
        run.episode()
    assert sys.modules["mysink"].heard == [0, 1]


@pytest.mark.parametrize(
    ("body", "name", "said"),
    [
        (SINK, "mysink:Nope", "cannot be imported: AttributeError"),
        (SINK, "nope:Sink", "no module nope in this folder"),
        (SINK, "os:system", "no module os in this folder"),
        (SINK, "mysink:", "expected MODULE:ATTRIBUTE"),
        (SINK, "../mysink:Sink", "expected MODULE:ATTRIBUTE"),
        (SINK, "json_storag", "unknown plugin (did you mean json_storage?)"),
        (SINK, "zzz", "unknown plugin (known: metadata, json_storage, progress"),
        ("1/0", "mysink:Sink", "cannot be imported: ZeroDivisionError"),
        ("raise SystemExit(0)", "mysink:Sink", "cannot be imported: SystemExit"),
        ("class Sink: pass", "mysink:Sink", "implements no hook"),
        ("class Sink:\n  def run_start(self, run): pass", "mysink:Sink", "implements no hook"),
        (
            SINK + "\n    def run_facts(self, run): return {}",
            "mysink:Sink",
            "run_facts is not marked (put @hookimpl before it)",
        ),
        (
            SINK.replace("episode_end(self, episode)", "episode_end(self, epsiode)"),
            "mysink:Sink",
            "(episode_end takes run, episode)",
        ),
        (
            SINK.replace("def episode_end", "def episode_ends"),
            "mysink:Sink",
            "unknown hook episode_ends (did you mean episode_end?)",
        ),
        (SINK.replace('file="heard.txt"', "file"), "mysink:Sink", "cannot be made: TypeError"),
    ],
)
def test_a_plugin_that_does_not_fit_is_said_at_once(
    project: Path, body: str, name: str, said: str
) -> None:
    Path("mysink.py").write_text(body)
    with pytest.raises(PluginSetupError) as caught:
        make_manager([name])
    assert str(caught.value).startswith(f"plugin {name}: ")
    assert said in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_wrapper_is_refused(project: Path) -> None:
    Path("mysink.py").write_text(
        "from qn_tracking import hookimpl\nclass Sink:\n"
        "  @hookimpl(wrapper=True)\n  def episode_end(self, episode): return (yield)\n"
    )
    with pytest.raises(PluginSetupError, match="wrappers are not supported"):
        track({"a": 1}, plugins=["mysink:Sink"])


def test_installed_plugins_by_entry_point(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "site", "qn-x", "remote = mysink:Sink\nbad = nowhere:X", {"mysink": SINK})
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with track({"plugins": {"remote": {"file": "other.txt"}}}) as run:
        run.episode()
    assert Path("other.txt").read_text().startswith("run_start\n")
    rows = {row.name: row for row in list_plugins({"remote": {}}, ())}
    assert (rows["remote"].version, rows["remote"].distribution) == ("1.2", "qn-x")
    assert rows["remote"].hooks == ("episode_end", "run_end", "run_start")
    assert (rows["remote"].kind, rows["remote"].on) == ("sink", True)
    assert rows["bad"].error is not None
    assert not rows["json_storage"].on
    assert rows["nematode"].kind == "provider"
    with pytest.raises(
        PluginSetupError, match="plugin bad: cannot be imported: ModuleNotFoundError"
    ):
        make_manager(["bad"])


def test_two_distributions_with_one_name(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "one", "qn-one", "remote = mysink:Sink", {"mysink": SINK})
    install(tmp_path / "two", "qn-two", "remote = other:Sink", {"other": SINK})
    monkeypatch.syspath_prepend(str(tmp_path / "one"))
    monkeypatch.syspath_prepend(str(tmp_path / "two"))
    with pytest.raises(PluginSetupError, match="claimed by qn-one and qn-two"):
        make_manager(["remote"])


PROVIDER = """
from qn_tracking import hookimpl, Subject

class Corridor:
    @hookimpl
    def make_simulation(self, config):
        if config.data["environment"]["type"] != "corridor":
            return None
        if "length" not in config.data["environment"]:
            raise {error}
        return Walk(config.data["environment"]["length"])

class Walk:
    warnings = ()
    subject = Subject(environment="corridor", brain="feet", packages=("corridor",))

    def __init__(self, length):
        self.length = length

    def episodes(self, count, seed):
        for i in range(count):
            yield {{"success": True, "steps": self.length, "reward": 1.0}}
"""


def test_a_provider_serves_without_being_named_and_is_imported_only_when_asked_for(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = PROVIDER.format(error="ValueError('no length')")
    entries = "environment.corridor = corridor:Corridor\nbrain.never = never:X"
    install(tmp_path / "site", "qn-c", entries, {"corridor": text, "never": "1/0"})
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    config = from_mapping({"environment": {"type": "corridor", "length": 4}})
    simulation = make_simulation(config, make_manager(config=config))
    assert simulation.subject.environment == "corridor"
    assert [e["steps"] for e in simulation.episodes(2, 0)] == [4, 4]
    bad = from_mapping({"environment": {"type": "corridor"}})
    with pytest.raises(QnError, match="plugin environment.corridor: make_simulation: ValueError"):
        make_simulation(bad, make_manager(config=bad))
    blocked = make_manager(config=config, blocked=("environment.corridor",))
    with pytest.raises(ConfigError):
        make_simulation(config, blocked)


def test_a_brain_of_a_third_party_enters_by_the_same_hook(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brain = '''
from qn_tracking import hookimpl

class Provider:
    @hookimpl
    def make_brain(self, config):
        return Still() if config.data["brain"]["name"] == "still" else None

class Still:
    """Never moves."""
    name = "still"
    family = "classical"
    def reset(self, seed): pass
    def begin(self): pass
    def act(self, strength, angle): return 3
    def learn(self, reward, done): pass
    def end(self): return {"calm": 1.0}
'''
    install(tmp_path / "site", "qn-still", "brain.still = still:Provider", {"still": brain})
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    text = Path("small.yml").read_text().replace("name: mlp", "name: still")
    Path("still.yml").write_text(
        text.replace("  config: {hidden_dim: 8, num_hidden_layers: 1}\n", "")
    )
    config = load("still.yml")
    simulation = make_simulation(config, make_manager(config=config))
    (episode,) = simulation.episodes(1, 0)
    assert (episode["success"], episode["steps"]) == (False, 30)
    assert episode["metrics"]["calm"] == 1.0
    assert simulation.subject.brain == "still"
    assert "still" in simulation.subject.packages


def test_where_plugins_are_switched(project: Path, qn_run: Program) -> None:
    Path("mysink.py").write_text(SINK)
    Path("pyproject.toml").write_text(
        '[tool.qn-tracking]\nplugins = ["json_storage"]\nexperiments_dir = "kept"\n'
    )
    Path("c.yml").write_text(
        Path("small.yml").read_text() + 'plugins: {"mysink:Sink": {file: h.txt}, metadata: }\n'
    )
    done = qn_run("c.yml", "--episodes", "2", "--quiet", "--no-plugin", "metadata")
    assert done.returncode == 0, done.stderr
    assert len(list(Path("kept").glob("*.json"))) == 1
    assert Path("h.txt").read_text().count("episode_end") == 2
    sub = project / "deep" / "er"
    sub.mkdir(parents=True)
    assert settings(str(sub)).experiments_dir == str(project / "kept")
    rows = json.loads(qn_run("--list-plugins", "c.yml", "--json").stdout)
    assert {row["name"]: row["on"] for row in rows} == {
        "metadata": True, "json_storage": True, "progress": False, "nematode": True,
        "mysink:Sink": True, "resources": False,
        "benchmark_validation": True, "view.static": True, "view.dynamic": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tool.qn-tracking]\nplugin = []", "unknown key (did you mean plugins?)"),
        ("[tool.qn-tracking]\nplugins = 3", "expected a list of names"),
        ("[tool.qn-tracking]\nexperiments_dir = 3", "expected text"),
        ("[tool.qn-tracking\n", "TOML"),
    ],
)
def test_settings_of_the_project_that_are_wrong(project: Path, text: str, said: str) -> None:
    Path("pyproject.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        settings()
    assert said in str(caught.value)


def _fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.write_text("tool = 'qn-tracking'"), "tool: expected a table"),
        (lambda path: path.write_text("[tool]\nqn-tracking = 5"), "expected a table"),
        (lambda path: path.write_bytes(b"[tool.qn-tracking]\n# \xff\n"), "encoding is not UTF-8"),
        (lambda path: path.write_text("[tool.qn-tracking]\na = " + "[" * 9999), "TOML: "),
        (_fifo, "is a FIFO, not a file"),
        (Path.mkdir, "is a directory, not a file"),
    ],
)
def test_a_pyproject_that_cannot_be_read_is_one_line_for_every_command(
    qn_run: Program, qn_exp: Program, make: Callable[[Path], object], said: str
) -> None:
    make(Path("pyproject.toml"))
    for done in (qn_run("small.yml", "--dry-run"), qn_exp("list")):
        assert done.returncode == 2
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert "pyproject.toml: " in done.stderr
        assert said in done.stderr


def test_a_pyproject_may_begin_with_a_byte_order_mark(project: Path) -> None:
    text = '[tool.qn-tracking]\nexperiments_dir = "kept"\n'
    Path("pyproject.toml").write_text(text, encoding="utf-8-sig")
    assert settings().experiments_dir == str(project / "kept")


def test_a_pyproject_of_other_tools_is_not_checked(project: Path) -> None:
    Path("pyproject.toml").write_bytes(b"[tool.other]\n# \xff")
    assert settings().file is None


@pytest.mark.parametrize("section", ["3", "[1]", "[progress, progress]", "{progress: 3}", "['']"])
def test_a_plugins_section_that_is_wrong(project: Path, section: str) -> None:
    Path("c.yml").write_text(f"plugins: {section}\n")
    with pytest.raises(ConfigError, match="c.yml: plugins"):
        choose(load("c.yml"), settings(), ())


def test_managers_share_nothing() -> None:
    one, other = make_manager(list(BUILTIN)), make_manager(list(BUILTIN))
    assert one.get_plugin("json_storage") is not other.get_plugin("json_storage")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"fil": "x"}, r"unknown option 'fil' \(did you mean file\?\)"),
        ({"zzz": "x"}, r"unknown option 'zzz' \(known: file\)"),
    ],
)
def test_an_option_that_a_plugin_does_not_have(
    project: Path, options: dict[str, str], said: str
) -> None:
    Path("mysink.py").write_text(SINK)
    with pytest.raises(PluginSetupError, match=said):
        make_manager({"mysink:Sink": options})


def test_options_are_given_where_a_plugin_is_named(project: Path) -> None:
    Path("mysink.py").write_text(SINK)
    name = "mysink:Sink"
    config = {"a": 1, "plugins": {name: {"file": "of the configuration"}}}
    given: tuple[tuple[Any, str], ...] = (
        ([name], "of the configuration"),
        ({name: None}, "of the configuration"),
        ({name: {"file": "mine"}}, "mine"),
    )
    for number, (plugins, expected) in enumerate(given):
        with track(config, plugins=plugins, id=f"run-{number}") as run:
            run.episode()
        assert Path(expected).exists()
    starts: tuple[Any, ...] = (track, Run, partial(Study.plan, n_seeds=2), run_)
    for start in starts:
        with pytest.raises(PluginSetupError, match="unknown option 'fil'"):
            start({"a": 1}, plugins={name: {"fil": 1}})
        for wrong in (name, [3], {name: 3}):
            with pytest.raises((UsageError, ConfigError), match="^plugins"):
                start({"a": 1}, plugins=wrong)


def test_the_short_list_of_plugins_says_what_the_long_one_does(
    project: Path, qn_run: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(project / "site", "Pack-Age", "pack = pack:Sink\nbrain.x = pack:Sink", {"pack": SINK})
    install(project / "site", "odd", "broken = broken:Sink", {"broken": "raise SystemExit(3)"})
    monkeypatch.syspath_prepend(str(project / "site"))
    chosen = ("--plugins", "pack", "--no-plugin", "nematode")
    short = qn_run("--list-plugins", *chosen).stdout.splitlines()
    long = qn_run("--list-plugins", "--hooks", *chosen).stdout.splitlines()
    assert [line.split()[:5] for line in short if "broken" not in line] == [
        line.split()[:5] for line in long if "broken" not in line
    ]
    assert [line.split() for line in short if line.startswith("pack")] == [
        ["pack", "1.2", "Pack-Age", "sink", "on"]
    ]
    (broken,) = (line for line in long if line.startswith("broken"))
    assert "cannot be imported: SystemExit: 3" in broken


@pytest.mark.slow
def test_built_in_plugins_may_come_from_any_distribution(project: Path, qn_run: Program) -> None:
    """They are loaded as installed ones are: here the table of built-in ones is empty."""
    site = project / "site"
    entries = "\n".join(f"{name} = {value}" for name, value in BUILTIN.items())
    install(
        site, "built-in", entries,
        {"sitecustomize": "from qn_tracking.tracking import installed\ninstalled.BUILTIN.clear()"},
    )  # fmt: skip
    env = {"PYTHONPATH": str(site)}
    listed = qn_run("--list-plugins", env=env).stdout
    assert listed.count("built-in") == len(BUILTIN)
    done = qn_run(
        "small.yml", "--episodes", "3", "--plugins", "progress", "--track-experiment", env=env
    )
    assert done.returncode == 0, done.stderr
    done = qn_run("small.yml", "--episodes", "3", "--n-seeds", "2", "--jobs", "2", env=env)
    assert done.returncode == 0, done.stderr
    records = [json.loads(path.read_text()) for path in Path("experiments").glob("*.json")]
    assert len(records) == 3
    assert all(record["facts"]["metadata"]["packages"] for record in records)
