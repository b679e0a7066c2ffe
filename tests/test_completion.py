"""What a shell is offered for the word before the cursor, asked as bash asks it by argcomplete."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from argparse import SUPPRESS, ArgumentParser, _SubParsersAction
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import BIN, SMALL
from qn_tracking import Experiments, Study, track
from qn_tracking.cli import bench, completing, exp, run

pytest.importorskip("argcomplete")

BREAKS = " \t\n\"'><=;|&(:"
CONFIG = "brain:\n  name: x\n  config: {gamma: 0.9, layers: 2}\n"


def completed(line: str, **env: str) -> list[str]:
    """What is offered; nothing else may be printed, and no answer is no failure."""
    read, write = os.pipe()
    try:
        done = subprocess.run(
            ["bash", "-c", 'exec "$@" 8>&$0', str(write), str(BIN / line.split()[0])],
            env={
                **os.environ, "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\v",
                "_ARGCOMPLETE_SHELL": "bash", "_ARGCOMPLETE_COMP_WORDBREAKS": BREAKS,
                "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9", **env,
            },
            capture_output=True, text=True, stdin=subprocess.DEVNULL, pass_fds=[write], timeout=300,
        )  # fmt: skip
    finally:
        os.close(write)
    with open(read, encoding="utf-8") as stream:
        said = stream.read()
    assert (done.stdout, done.stderr) == ("", "")
    return [word.rstrip(" ") for word in said.split("\v") if word]


@pytest.fixture
def recorded(project: Path) -> list[str]:
    """Three runs with tags, of which one has a phase and an artifact; a study; the latest first."""
    ids = []
    for gamma in ("0.9", "0.99", "1.0"):
        with track(
            {"brain": {"name": "x", "gamma": float(gamma)}}, blocked=("metadata",),
            tags={"sweep": gamma, "group one": "a"}, subject={"brain": "x", "environment": "maze"},
        ) as tracked:  # fmt: skip
            tracked.episode(success=True, steps=3, reward=1.0, metrics={"loss": 0.5})
        ids.insert(0, tracked.id)
    Path("weights.bin").write_bytes(b"w")
    Experiments().attach(ids[0], "weights.bin")
    list(Experiments().find())  # an index, as any command leaves one
    return ids


def test_runs_are_offered_by_place_and_id(recorded: list[str]) -> None:
    assert completed("qn-exp show ") == ["@1", "@2", "@3", *recorded]
    assert completed(f"qn-exp show {recorded[1][:-1]}") == [recorded[1]]
    assert completed("qn-exp diff @1 @") == ["@1", "@2", "@3"]
    assert completed(f"qn-exp artifact {recorded[0]} ") == ["weights.bin"]
    os.rename("experiments", "other")
    assert completed("qn-exp show @") == []
    assert completed("qn-exp show --experiments-dir other @2") == ["@2"]


def test_fields_and_tags_are_those_that_are_stored(recorded: list[str]) -> None:
    assert completed("qn-exp list --columns id,brain.g") == ["id,brain.gamma"]
    assert completed("qn-exp list --where brain.g") == ["brain.gamma"]
    assert completed("qn-exp list --where 'seed = 1 and (brain.g") == ["seed = 1 and (brain.gamma"]
    assert completed("qn-exp list --where 'seed = ") == []
    assert "results.metrics.loss.mean" in completed("qn-exp best --by results.m")
    assert completed("qn-exp best --by cat") == ["category"]
    assert completed("qn-exp best --metric lo") == ["loss"]
    assert completed("qn-exp list --sort success_rate:") == ["asc"]
    assert completed("qn-exp list --tag s") == ["sweep="]
    assert completed("qn-exp list --tag sweep=") == ["1.0", "0.99", "0.9"]
    assert completed(f"qn-exp tag {recorded[0]} --remove g") == ["group\\ one"]
    assert completed("qn-exp list --env-type ") == ["maze"]
    assert completed("qn-exp list --status completed,r") == ["completed,running"]


def test_configurations_plugins_and_formats(project: Path) -> None:
    Path("mine.yml").write_text(CONFIG)
    Path("mine.txt").touch()
    Path("more").mkdir()
    offered = completed("qn-run m")
    assert {"mine.yml", "more/", "mlp_dynamic_small"} < set(offered)
    assert "mine.txt" not in offered
    assert completed("qn-run mine.yml --set brain.config.") == [
        "brain.config.gamma=", "brain.config.layers=",
    ]  # fmt: skip
    assert completed("qn-run --plugins metadata,js") == ["metadata,json_storage"]
    assert completed("qn-exp export --format b") == ["bundle"]
    assert completed("qn-exp di") == ["diff"]
    assert completed("qn-exp list --exp") == ["--experiments-dir"]
    assert completed("qn-run --notes ") == []


def test_studies_and_their_arms(project: Path) -> None:
    Path("mine.yml").write_text(SMALL)
    Study.declare("mine.yml", seeds=[1], sweep={"brain.config.hidden_dim": "4,8"}, name="lr")
    assert completed("qn-run --extend ") == ["lr"]
    assert completed("qn-exp show l") == ["lr"]
    arms = completed("qn-exp show lr --baseline ")
    assert arms == ["hidden_dim=4", "hidden_dim=8"]
    assert completed("qn-exp show nothing --baseline ") == []


def test_submissions_are_offered(project: Path) -> None:
    place = Path("benchmarks/dynamic_small/quantum")
    place.mkdir(parents=True)
    id = "20260101T000000Z-00000000"
    doc = {"id": id, "contribution": {"contributor": "Ada L"}, "subject": {"brain": "qmlp"}}
    (place / f"{id}.json").write_text(json.dumps(doc))
    assert completed("qn-bench show ") == [id]
    assert completed("qn-bench leaderboard dynamic_small/") == ["dynamic_small/quantum"]
    assert completed("qn-bench contributor ") == ["Ada\\ L"]
    assert completed("qn-bench list --brain ") == ["qmlp"]


def hostile(kind: str) -> None:
    """A folder of experiments that is none."""
    if kind == "nothing":
        return
    if kind == "file":
        Path("experiments").write_text("x")
        return
    Path("experiments/studies").mkdir(parents=True)
    index = Path("experiments/.index.sqlite")
    if kind == "fifo":
        os.mkfifo(index)
        os.mkfifo("experiments/20260101T000000Z-00000000.json")
        os.mkfifo("pyproject.toml")
    elif kind == "broken":
        index.write_bytes(b"SQLite format 3\0" + bytes(200))
        Path("experiments/20260101T000000Z-00000000.json").write_text("{")
        Path("pyproject.toml").write_text("[tool.qn-tracking\n")
    elif kind == "loop":
        index.symlink_to(".index.sqlite")
        Path("experiments/runs").symlink_to("/proc/self/fd")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(index))


@pytest.mark.parametrize("kind", ["nothing", "file", "fifo", "broken", "loop", "socket"])
def test_whatever_lies_there_nothing_is_printed(project: Path, kind: str) -> None:
    hostile(kind)
    for line in ("qn-exp show ", "qn-exp list --where a", "qn-exp list --tag "):
        completed(line)
    completed("qn-bench show ", COMP_POINT="none")


def test_text_of_strangers_is_no_part_of_a_command(project: Path) -> None:
    names = {"$(touch pwned)": "a", "esc\x1b[2J": "b", "right\u202eleft": "c", "a;b": "\x07"}
    with track({"a": 1}, blocked=("metadata",), tags=names) as tracked:
        tracked.episode(success=True)
    list(Experiments().find())
    assert set(completed("qn-exp list --tag ")) == {"\\$\\(touch\\ pwned\\)=", "a\\;b="}
    assert completed("qn-exp list --tag 'a;b=") == []


def test_a_key_leaves_the_folder_as_it_was(recorded: list[str]) -> None:
    os.unlink("experiments/.index.sqlite")
    before = sorted(Path("experiments").rglob("*"))
    assert completed("qn-exp show @") == ["@1", "@2", "@3"]
    assert completed("qn-exp list --tag ") == []
    assert sorted(Path("experiments").rglob("*")) == before


def test_a_folder_that_another_process_holds_is_not_waited_for(recorded: list[str]) -> None:
    import sqlite3

    db = sqlite3.connect("experiments/.index.sqlite", isolation_level=None)
    db.execute("BEGIN EXCLUSIVE")
    try:
        assert completed("qn-exp show @") == ["@1", "@2", "@3"]
        assert completed("qn-exp list --tag ") == []
    finally:
        db.close()


def test_no_numeric_library_is_imported(recorded: list[str]) -> None:
    for name in ("numpy", "attrs", "orjson"):
        Path(f"hidden/{name}").mkdir(parents=True)
        Path(f"hidden/{name}/__init__.py").write_text("raise SystemExit(9)\n")
    path = str(Path("hidden").absolute())
    assert completed("qn-exp show @", PYTHONPATH=path) == ["@1", "@2", "@3"]
    assert completed("qn-exp list --tag s", PYTHONPATH=path) == ["sweep="]
    assert "mlp_dynamic_small" in completed("qn-run mlp", PYTHONPATH=path)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_in_bash_as_the_documentation_turns_it_on(recorded: list[str]) -> None:
    script = (
        'eval "$(register-python-argcomplete qn-run qn-exp qn-bench)"\n'
        "COMP_LINE='qn-exp tag @1 swe' COMP_POINT=17 COMP_TYPE=9\n"
        "_python_argcomplete qn-exp\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", script], env={**os.environ, "PATH": path},
        capture_output=True, text=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("sweep=\n", "")


# ------------------------------------------------------------------------------------- every option

FREE = frozenset(
    ("N", "M", "K", "R", "S", "LIST", "TEXT", "WHEN", "AGE", "BYTES", "ACCOUNT", "SPEC", "TYPE")
) | {"FIELD=COLUMN,…"}
"""What an argument takes that only its user knows."""
NEW = frozenset(("name", "new_plugin", "verifier", "main_branch"))
"""Names that are new, or of people and branches."""


def arguments(parser: ArgumentParser) -> Iterator[tuple[ArgumentParser, object]]:
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for below in action.choices.values():
                yield from arguments(below)
        elif action.nargs != 0 and action.choices is None and action.help != SUPPRESS:
            yield parser, action


@pytest.mark.parametrize(
    "parser",
    [
        run.parser,
        exp.PROGRAM.whole_parser,
        bench.PROGRAM.whole_parser,
    ],
)
def test_every_argument_is_completed_or_free_text(parser: Callable[[], ArgumentParser]) -> None:
    left = [
        f"{one.prog}: {action.dest} {action.metavar}"
        for one, action in arguments(parser())
        if completing.completer_of(one.prog, action) is completing._nothing
        and action.metavar not in FREE
        and action.dest not in NEW
    ]
    assert left == []
