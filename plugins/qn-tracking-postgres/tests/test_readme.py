"""The README does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from qn_tracking_postgres.command import PostgresCommand

if TYPE_CHECKING:
    from conftest import Query

TEXT = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def _blocks(kind: str, language: str) -> list[str]:
    found = re.findall(rf"<!-- tested: {kind} -->\n```{language}\n(.*?)```", TEXT, re.DOTALL)
    assert found
    return found


def test_the_example_and_the_questions(
    project: Path, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    (example,) = _blocks("command", "sh")
    done = subprocess.run(["sh", "-euc", example], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "1 of 1 experiments on the server" in done.stdout
    by_brain, by_gamma, curve, unfinished, digests = (
        query(question) for question in _blocks("sql", "sql")
    )
    assert [row[:3] for row in by_brain] == [("dynamic", "mlp", 1)]
    assert by_gamma == unfinished == []
    assert [episode for _, episode, _, _ in curve] == [0, 10, 20, 30]
    assert [agree for _, agree in digests] == [True]


def test_every_command_and_option_is_told() -> None:
    names = []

    class Commands:
        def add(self, program: str, name: str, **more: object) -> None:
            names.append(name.split()[1])

    PostgresCommand().register_commands(Commands())
    for name in names:
        assert re.search(rf"^\| `{name}\b", TEXT, re.MULTILINE), name
    from inspect import signature

    from qn_tracking_postgres.sink import Postgres

    for option in signature(Postgres).parameters:
        assert f"| `{option}` |" in TEXT
