"""README: its commands work, and print what it says, whatever the numbers of this machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import yaml
from attrs import fields

from qn_tracking import config as configuration
from qn_tracking.tracking.manager import make_manager, make_simulation
from qn_tracking_gymnasium import schema

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
FENCED = r"```\w*\n(.*?)```"


def block(name: str) -> str:
    found = re.search(rf"<!-- tested: {re.escape(name)} -->\n{FENCED}", README, re.DOTALL)
    assert found, name
    return found[1]


def printed(name: str) -> list[str]:
    """What README shows below a command."""
    found = re.search(
        rf"<!-- tested: {re.escape(name)} -->\n{FENCED}\n\n{FENCED}", README, re.DOTALL
    )
    assert found, name
    return words(found[2])


def words(text: str) -> list[str]:
    """What is said, line by line: ids are hexadecimal, and curves are no letters. What this
    machine is slow at is left out.
    """
    text = re.sub(r"(?m)^ +slow plugins .*\n", "", text)
    text = re.sub(r"\d{8}T\d{6}Z-\w+|\b[0-9a-f]{8}\b", "", text)
    return [" ".join(re.findall(r"[^\W\d]+", line)) for line in text.splitlines()]


def test_its_commands_print_what_it_says(tmp_path: Path) -> None:
    # README shows whole tables: the width of a terminal, which also pytest-xdist sets, would cut them.
    own = {n: text for n, text in os.environ.items() if n != "COLUMNS" and n[:4] != "GIT_"}
    env = {
        **own,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "LC_ALL": "C.UTF-8",
    }
    git = ("git", "-c", "user.name=T", "-c", "user.email=t@example.org")
    subprocess.run([*git, "init", "-q", "-b", "main", "."], cwd=tmp_path, check=True)
    commit = [*git, "commit", "-q", "--allow-empty", "-m", "start"]
    subprocess.run(commit, cwd=tmp_path, check=True)
    for name in ("loop.py", "vector.py"):
        (tmp_path / name).write_text(block(name), encoding="utf-8")
    for name in ("loop", "vector", "run", "benchmark"):
        done = subprocess.run(
            ["bash", "-euc", block(name)], cwd=tmp_path, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert words(done.stdout) == printed(name)


def test_its_configuration_can_be_run() -> None:
    found = re.search(rf"A configuration of your own:\n\n{FENCED}", README, re.DOTALL)
    assert found
    config = configuration.from_mapping(yaml.safe_load(found[1]))
    simulation = make_simulation(config, make_manager(config=config))
    assert set(simulation.subject.packages) == {"qn_tracking_gymnasium"}


def test_it_tells_every_option() -> None:
    sections = (schema.EnvironmentSection, schema.QLearningSection, schema.Sb3Section)
    for section in (*sections, schema.ScheduleSection):
        for option in fields(section):
            assert re.search(rf"\b{option.name}\b", README), option.name
