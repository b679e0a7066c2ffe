"""What a tired user reads and types: every command has examples, and each of them is understood."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from argparse import ArgumentParser, _SubParsersAction
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import BIN, command as run_command
from qn_tracking import track
from qn_tracking.cli import bench, exp


def commands() -> Iterator[tuple[str, str, ArgumentParser]]:
    for prog, module in (("qn-exp", exp), ("qn-bench", bench)):
        whole = module.PROGRAM.whole_parser()
        for action in whole._actions:
            if isinstance(action, _SubParsersAction):
                yield from ((prog, name, below) for name, below in action.choices.items())


def examples(prog: str, text: str) -> list[list[str]]:
    """The commands of `examples:`, without what is said beside them, and what comes after a pipe."""
    found = []
    for line in text.splitlines():
        if line.startswith(f"  {prog} "):
            words = shlex.split(re.split(r"\s{2,}", line.strip())[0])
            end = next((place for place, word in enumerate(words) if word in "|>"), len(words))
            found.append(words[:end])
    return found


@pytest.mark.parametrize(
    ("prog", "name", "parser"), [pytest.param(*one, id=" ".join(one[:2])) for one in commands()]
)
def test_every_command_has_examples_that_it_understands(
    prog: str, name: str, parser: ArgumentParser
) -> None:
    found = examples(prog, f"{parser.epilog}")
    assert found
    assert any(words[1] == name for words in found)
    for words in found:
        if words[1] == name:
            parser.parse_args(words[2:])
    assert "examples:" in parser.format_help()
    assert all(len(line) <= 100 for line in f"{parser.epilog}".splitlines() if "takes" not in line)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("qn-exp export --format cvs", "--format: no 'cvs' (did you mean csv?)"),
        ("qn-exp plot x --x q", "--x: no 'q' (one of episode, step, time)"),
        (
            "qn-exp list --status complete",
            "--status: no status 'complete' (did you mean completed?)",
        ),
        ("qn-bench leaderboard --metric rewrd", "--metric: no 'rewrd' (did you mean reward?)"),
        (
            "qn-exp show @1 --experiments-dir nowhere",
            "nowhere: no such folder (--experiments-dir names another; a run that is recorded"
            " makes it)",
        ),
    ],
)
def test_a_mistake_is_one_line_with_what_was_meant(project: Path, words: str, said: str) -> None:
    Path("experiments").mkdir()
    done = run_command(*words.split())
    assert (done.returncode in (2, 3), done.stdout, done.stderr) == (True, "", f"error: {said}\n")


def test_signs_that_a_terminal_lacks_are_shown_as_ascii(project: Path) -> None:
    """A user's own text is escaped, signs of the program's own are read as before."""
    with track({"a": 1}, blocked=("metadata",), notes="é ∑ \u202e → …") as run:
        run.episode(success=True)
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for words, expected in (
        (["list", "--help"], "--columns NAME,..."),
        (["show", "@1"], "\\xe9 \\u2211 \\u202e -> ..."),
    ):
        done = subprocess.run(
            [str(BIN / "qn-exp"), *words], env=env, capture_output=True, text=True, check=True
        )
        assert expected in done.stdout
        assert done.stdout.isascii()
    done = subprocess.run(
        [str(BIN / "qn-exp"), "show", "@1", "--json"], env=env, capture_output=True, check=True
    )
    assert done.stdout.isascii()
    assert json.loads(done.stdout)["notes"] == "é ∑ \u202e → …"
