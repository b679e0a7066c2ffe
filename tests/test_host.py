"""Hosts as they are: loops in their own words, scripts that end in every way there is."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from argparse import Namespace
from array import array
from collections import UserList, UserString, deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import InitVar, dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from functools import lru_cache, partial
from operator import itemgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple
from uuid import UUID

import numpy as np
import pytest
from attrs import define

from qn_tracking import Callback, Experiments, track
from qn_tracking.config import as_config, load
from qn_tracking.errors import ConfigError, UsageError
from qn_tracking.testing import record
from test_docs import ROOT, block

LOOPS = (ROOT / "docs" / "loops.md").read_text(encoding="utf-8")


def the_record() -> dict[str, Any]:
    (path,) = Path("experiments").glob("*.json")
    return json.loads(path.read_text())  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["plain.py", "callback.py", "script.py"])
def test_the_examples_make_a_record(project: Path, name: str) -> None:
    (project / name).write_text(block(LOOPS, f"tested: {name}"))
    done = subprocess.run([sys.executable, name], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # No repository is here; and on a slow disk, the storage may be named as slow.
    assert all(" git: " in line or " of the run" in line for line in done.stderr.splitlines())
    found = the_record()
    assert found["id"] == done.stdout.strip()
    assert found["status"] == "completed"
    assert found["results"]["episodes"] == (5 if name == "script.py" else 3)


def test_the_example_of_series_logs_them(project: Path) -> None:
    (project / "series.py").write_text(block(LOOPS, "tested: series.py"))
    done = subprocess.run([sys.executable, "series.py"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "300 29.9\n"), done.stderr


def test_the_example_of_many_environments(project: Path) -> None:
    (project / "batch.py").write_text(block(LOOPS, "tested: batch.py"))
    done = subprocess.run([sys.executable, "batch.py"], capture_output=True, text=True)
    assert done.stdout == "5 0.6\n", done.stderr


def test_the_loop_of_the_page_about_phases(project: Path) -> None:
    (project / "phases.py").write_text(block(LOOPS, "tested: phases.py"))
    done = subprocess.run([sys.executable, "phases.py"], capture_output=True, text=True)
    assert done.stdout.split() == ["0.475", "1.0", "20"], done.stderr


def test_the_example_of_a_name(project: Path) -> None:
    (project / "named.py").write_text(block(LOOPS, "tested: named.py"))
    done = subprocess.run([sys.executable, "named.py"], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


def test_the_example_of_weights(project: Path) -> None:
    (project / "weights.py").write_text(block(LOOPS, "tested: weights.py"))
    done = subprocess.run([sys.executable, "weights.py"], capture_output=True, text=True)
    assert done.stdout == "b'0.1 0.2'\nTrue\n", done.stderr


def test_the_example_with_a_manager_stores_nothing(project: Path) -> None:
    (project / "own.py").write_text(block(LOOPS, "tested: manager.py"))
    done = subprocess.run([sys.executable, "own.py"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "episode 0: 7 steps\n")
    assert not Path("experiments").exists()


# ---------------------------------------------------------------------------------- a host script

HOST = """
import os, random, signal, sys, time
from qn_tracking import track

CONFIG = {"brain": {"name": "mlp", "layers": [64, 64]}, "output": "exports"}
asked = []

def on_interrupt(number, frame):
    asked.append(number)
    os.write(1, b"stop? [y/n]\\n")  # `print` may be what it has interrupted
    if sys.stdin.readline().strip() == "y":
        finish(130)

def setup():
    signal.signal(signal.SIGINT, on_interrupt)
    global run
    run = track(CONFIG, episodes=PLANNED).start(at_exit=True)
    os.makedirs("somewhere/else", exist_ok=True)
    os.chdir("somewhere/else")

def play(index):
    time.sleep(PAUSE)
    run.episode(steps=random.randint(1, 9), success=True)
    print("episode", index, flush=True)

def finish(code):
    sys.exit(code)

def main():
    setup()
    for index in range(EPISODES):
        play(index)
    AT_THE_END

main()
"""


def host(episodes: int, end: str, *, planned: int | None = None, pause: float = 0.0) -> None:
    text = HOST.replace("EPISODES", str(episodes)).replace("AT_THE_END", end)
    text = text.replace("PLANNED", str(planned)).replace("PAUSE", str(pause))
    Path("host.py").write_text(text)


@pytest.mark.parametrize(
    ("end", "runs", "code", "status"),
    [
        ("run.end(); sys.exit(0)", None, 0, "completed"),
        ("run.end('failed'); sys.exit(3)", 4, 3, "failed"),
        ("sys.exit(0)", 4, 0, "completed"),
        ("sys.exit(0)", 5, 0, "interrupted"),
        ("sys.exit(0)", None, 0, "interrupted"),
        ("finish(1)", 9, 1, "interrupted"),
        ("raise ValueError('broken')", 4, 1, "failed"),
        ("raise KeyboardInterrupt", 4, None, "interrupted"),
        ("pass", 9, 0, "interrupted"),
        ("[].pop() if not run.end() else None", None, 0, "completed"),
    ],
)
def test_however_the_script_ends_there_is_one_record(
    project: Path, end: str, runs: int | None, code: int | None, status: str
) -> None:
    host(4, end, planned=runs)
    done = subprocess.run([sys.executable, "host.py"], capture_output=True, text=True)
    # For an interrupt, versions of Python differ.
    assert done.returncode == code or (code is None and done.returncode), done.stderr
    found = the_record()
    assert (found["status"], found["results"]["episodes"]) == (status, 4)
    unexpected = status == "interrupted" and "Keyboard" not in end
    assert ("the program ended before the run did" in done.stderr) == unexpected
    if status == "failed" and "raise" in end:
        assert found["error"]["message"] == "broken"
    assert not Path("somewhere/else/experiments").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "status"), [("y", "interrupted"), ("n", "completed")])
def test_a_script_that_asks_at_an_interrupt_is_left_alone(
    project: Path, answer: str, status: str
) -> None:
    host(30, "run.end()", planned=30, pause=0.02)
    process = subprocess.Popen(
        [sys.executable, "host.py"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "episode 0\n"
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(answer + "\n", timeout=300)
    assert "stop? [y/n]" in out
    assert process.returncode == (130 if answer == "y" else 0), said
    found = the_record()
    assert found["status"] == status
    # Every episode that the host has told of is there, and no other.
    assert found["results"]["episodes"] in (told := out.count("episode") + 1, told + 1)


def test_a_script_that_is_killed_keeps_its_episodes(project: Path) -> None:
    host(1000, "run.end()", pause=0.01)
    process = subprocess.Popen([sys.executable, "host.py"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for index in range(5):
        assert process.stdout.readline() == f"episode {index}\n"
    process.kill()
    process.communicate()
    (journal,) = Path("experiments").glob("runs/*/episodes.jsonl")
    assert len(journal.read_bytes().splitlines()) >= 5


def test_a_fork_of_the_script_ends_nothing(project: Path) -> None:
    host(2, "os.fork() or sys.exit(0); os.wait(); run.end()", planned=9)
    done = subprocess.run([sys.executable, "host.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert the_record()["status"] == "completed"


def test_an_interrupt_that_nobody_catches_ends_it_as_without_us(project: Path) -> None:
    codes = []
    for first in ("", "from qn_tracking import track; track({}).start(at_exit=True)\n"):
        Path("host.py").write_text(f"{first}raise KeyboardInterrupt")
        codes.append(subprocess.run([sys.executable, "host.py"], capture_output=True).returncode)
    assert codes[0] == codes[1] == -signal.SIGINT
    assert the_record()["status"] == "interrupted"


def test_what_cannot_be_saved_at_exit_is_one_line(project: Path) -> None:
    Path("host.py").write_text(
        "import shutil\nfrom qn_tracking import track\n"
        "run = track({}, episodes=1, blocked=['metadata']).start(at_exit=True)\nrun.episode()\n"
        "shutil.rmtree('experiments')\nopen('experiments', 'w').close()\n"
    )
    done = subprocess.run([sys.executable, "host.py"], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ") or "\nerror: " in done.stderr
    (saved,) = project.glob("*.saved/episodes.jsonl")
    assert f"the episodes are in {saved}" in done.stderr


def test_a_generator_that_nobody_closes_leaves_a_run_to_recover(project: Path) -> None:
    Path("host.py").write_text(
        "from qn_tracking import track\ndef runs():\n with track({}, blocked=['metadata']) as run:\n"
        "  for i in range(9):\n   run.episode(steps=i)\n   yield i\n"
        "found = runs()\nnext(found)\nnext(found)\n"
    )
    done = subprocess.run([sys.executable, "host.py"], capture_output=True, text=True)
    (id,) = (path.name for path in Path("experiments/runs").iterdir())
    said = f"warning: run {id} was going on when the program ended (qn-exp recover {id})\n"
    assert (done.returncode, done.stderr) == (0, said)
    assert Experiments("experiments").recover(id).results.episodes == 2


def test_it_ends_at_exit_only_if_asked_to(project: Path) -> None:
    Path("host.py").write_text(
        "from qn_tracking import track\nrun = track({'a': 1}).start()\nrun.episode()\n"
    )
    assert subprocess.run([sys.executable, "host.py"]).returncode == 0
    assert list(Path("experiments").glob("*.json")) == []


@pytest.mark.parametrize("words", [None, [], [1, None]])
def test_a_program_inside_another_need_not_have_arguments(
    project: Path, monkeypatch: pytest.MonkeyPatch, words: list[Any] | None
) -> None:
    if words is None:
        monkeypatch.delattr(sys, "argv")
    else:
        monkeypatch.setattr(sys, "argv", words)
    with track({"a": 1}) as run:
        run.episode(steps=1)
    assert run.experiment is not None
    assert run.experiment.command == tuple(map(str, words or ()))


# -------------------------------------------------------------------------------------- callbacks


class Report:
    """What some hosts report: an object."""

    def __init__(self, **fields: Any) -> None:
        vars(self).update(fields)


@pytest.mark.parametrize("kind", [dict, Report], ids=["mapping", "object"])
def test_the_hosts_words_are_mapped(project: Path, kind: Any) -> None:
    callback = Callback(
        track({"a": 1}, episodes=2),
        steps="n",
        reward="inner.total",
        success=lambda report: True,
        termination="why",
        counts={"foods": "eaten"},
        metrics=["loss"],
        timing={"brain": "inner.seconds"},
    )
    for n in (1, 2):
        callback(
            kind(n=n, inner=kind(total=n / 2, seconds=0.1), why="goal", eaten=3, loss=None, x=1)
        )
    experiment = callback.run.end()
    assert experiment is not None
    results = experiment.results
    assert (results.total_steps, results.avg_reward, results.success_rate) == (3, 0.75, 1.0)
    assert results.terminations == {"goal": 2}
    assert results.metrics["foods"].mean == 3
    assert "loss" not in results.metrics  # None: it does not apply
    assert "x" not in results.metrics


class Reason(Enum):
    """Why an episode ended, as some hosts say it."""

    GOAL = "goal_reached"
    OTHER = 3


class TextReason(str, Enum):  # noqa: UP042  (many hosts are older than StrEnum)
    """And others."""

    GOAL = "goal_reached"


@pytest.mark.parametrize("reason", [Reason.GOAL, TextReason.GOAL, np.str_("goal_reached")])
def test_a_reason_of_the_hosts_own_is_its_text(reason: Any) -> None:
    _, (episode,), _ = record([{"termination": reason}])
    assert type(episode.termination) is str
    assert episode.termination == "goal_reached"
    with pytest.raises(TypeError, match="termination: expected text, got int"):
        record([{"termination": Reason.OTHER}])


def test_a_name_that_the_host_does_not_report_is_said_at_once(project: Path) -> None:
    callback = Callback(track({"a": 1}), steps="n_stepz")
    with pytest.raises(UsageError, match=r"steps: .* no 'n_stepz' \(did you mean n_steps\?\)"):
        callback({"n_steps": 3})
    callback.run.end()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"metrics": "loss"}, r"metrics: expected names, got one text \(\['loss'\]\)"),
        ({"steps": 3}, "steps: expected a name or a function, got 3"),
        ({"counts": {"foods": 3}}, "foods: expected a name or a function, got 3"),
    ],
)
def test_what_is_no_name_is_said_before_the_first_episode(
    project: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        Callback(track({"a": 1}), **options)
    with pytest.raises(UsageError, match="run: expected a recorder, got NoneType"):
        Callback(None)  # type: ignore[arg-type]


def test_a_name_with_a_dot_is_found_too(project: Path) -> None:
    callback = Callback(track({"a": 1}), steps="info.n")
    callback({"info.n": 3})
    callback({"info": {"n": 4}})
    experiment = callback.run.end()
    assert experiment is not None
    assert experiment.results.total_steps == 7


def test_whoever_starts_the_run_starts_it_once(project: Path) -> None:
    with track({"a": 1}) as run:
        Callback(run, steps="n")({"n": 1})
    assert run.experiment is not None
    assert run.experiment.results.episodes == 1
    with pytest.raises(UsageError, match="episode outside of a run"):
        Callback(run)()


# --------------------------------------------------------------------------------- configurations


@dataclass
class Options:
    """Where some hosts keep theirs."""

    gamma: float
    folder: Path
    shared: ClassVar[int] = 1
    once: InitVar[int] = 2


class Key(str, Enum):  # noqa: UP042
    """Names of options."""

    GAMMA = "gamma"


class Pair(NamedTuple):
    gamma: float
    folder: Path


@define
class Attributes:
    gamma: float
    folder: str


@pytest.mark.parametrize(
    "source",
    [
        Namespace(gamma=0.9, folder=Path("out")),
        SimpleNamespace(gamma=0.9, folder="out"),
        Options(gamma=0.9, folder=Path("out")),
        {"gamma": 0.9, "folder": Path("out")},
        Pair(gamma=0.9, folder=Path("out")),
        Attributes(gamma=0.9, folder="out"),
        {Key.GAMMA: np.float64(0.9), np.str_("folder"): np.str_("out")},
    ],
    ids=lambda source: type(source).__name__,
)
def test_whatever_a_host_keeps_its_options_in(source: Any) -> None:
    assert as_config(source).data == {"gamma": 0.9, "folder": "out"}
    assert as_config({"all": source}).data == {"all": {"gamma": 0.9, "folder": "out"}}


def train() -> None:
    """What a program does with its options."""


def test_options_as_programs_have_them() -> None:
    found = as_config(Namespace(func=train, kind=dict, why=Reason.GOAL, flags=[TextReason.GOAL]))
    assert found.data == {
        "func": "train", "kind": "dict", "why": "goal_reached", "flags": ("goal_reached",),
    }  # fmt: skip
    with pytest.raises(
        ConfigError, match=r"log: expected text, .* got TextIOWrapper \(leave it out"
    ):
        as_config(Namespace(log=sys.__stdout__))


def of_packages() -> Iterator[tuple[str, Any]]:
    """The same options as `{"gamma": 0.9, "layers": [64, 64]}`."""
    data = {"gamma": 0.9, "layers": [64, 64]}
    with suppress(ImportError):
        from omegaconf import OmegaConf

        yield "omegaconf", OmegaConf.create({"gamma": "${other}", "layers": [64, 64], "other": 0.9})
    with suppress(ImportError):
        from ml_collections import ConfigDict, FrozenConfigDict

        yield from (("ml_collections", kind(data)) for kind in (ConfigDict, FrozenConfigDict))
    with suppress(ImportError):
        from pydantic import create_model

        yield (
            "pydantic",
            create_model("Options", gamma=(float, ...), layers=(list[int], ...))(**data),
        )


@pytest.mark.parametrize("name", ["omegaconf", "ml_collections", "pydantic"])
def test_options_of_other_packages(name: str) -> None:
    pytest.importorskip(name)
    for source in [one for package, one in of_packages() if package == name]:
        for found in (as_config(source).data, as_config({"in": [source]}).data["in"][0]):
            assert (found["gamma"], found["layers"]) == (0.9, (64, 64))


def test_what_omegaconf_declares_to_be_missing_is_named() -> None:
    omegaconf = pytest.importorskip("omegaconf")
    for value in ("???", "${nowhere}"):
        with pytest.raises(ConfigError, match=r"^config: brain\.gamma: has no value: [^\n]*$"):
            as_config(omegaconf.OmegaConf.create({"brain": {"gamma": value}}))


def test_a_secret_of_pydantic_is_not_looked_at() -> None:
    pydantic = pytest.importorskip("pydantic")
    assert as_config({"key": pydantic.SecretStr("hush")}).data == {"key": "[redacted]"}


class Column:
    """As of Polars: no `Sequence`, without dimensions, and with an `item` for one value alone."""

    def __init__(self, values: list[int]) -> None:
        self._values = values

    def item(self) -> int:
        (one,) = self._values
        return one

    def to_list(self) -> list[int]:
        return self._values


class Many:
    """A host's value that has no single number."""

    def item(self) -> int:
        raise ValueError("more than one")


def test_a_value_that_gives_no_number_is_named() -> None:
    with pytest.raises(ConfigError, match=r"x: has no value: ValueError: more than one"):
        as_config({"x": Many()})


def step(size: float, end: float = 0.0) -> None:
    """A schedule, as options contain them."""


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (range(3), (0, 1, 2)),
        (deque([1, 2]), (1, 2)),
        (UserList([1]), (1,)),
        (array("d", [1.5]), (1.5,)),
        (np.arange(4).reshape(2, 2), ((0, 1), (2, 3))),
        (np.array(["a"]), ("a",)),
        (np.array(3), 3),
        (np.array("a"), "a"),
        (np.str_("a"), "a"),
        (UserString("a"), "a"),
        (np.dtype("float32"), "float32"),
        (date(2026, 1, 2), "2026-01-02"),
        (datetime(2026, 1, 2, 3, tzinfo=UTC), "2026-01-02T03:00:00+00:00"),
        (timedelta(seconds=90), "0:01:30"),
        (Decimal("0.10"), "0.10"),
        (Fraction(1, 3), "1/3"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Column([1, 2]), (1, 2)),
        (math.sqrt, "sqrt"),
        (np.tanh, "tanh"),
        (np.float32, "float32"),
        ([].append, "list.append"),
        (UserList.append, "UserList.append"),
        (Pair(1, Path("x"))._asdict, "Pair._asdict"),
        (lru_cache(train), "train"),
        (itemgetter(1), "itemgetter"),
        (partial(step, 0.5, end=np.float32(0.25)), "step(0.5, end=0.25)"),
        (partial(partial(step, 1), end=[1, math.sqrt]), 'step(1, end=[1,"sqrt"])'),
    ],
    ids=lambda value: type(value).__name__,
)
def test_sequences_texts_and_whatever_can_be_called(value: Any, kept: Any) -> None:
    assert as_config({"x": value}).data == {"x": kept}


def test_keys_that_are_one_text_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"a\.goal_reached: duplicate key"):
        as_config({"a": {"goal_reached": 1, Reason.GOAL: 2}})


def test_what_is_too_large_for_a_configuration_is_refused_at_once() -> None:
    itself: list[Any] = []
    itself += [itself, itself]
    for value, said in (
        (range(10**12), "x: more than 100,000 values"),
        (np.zeros((1_000, 1_000)), "more than 100,000 values"),
        (itself, "nested deeper"),
        (["a" * (1 << 20)] * 1_000, "more than 100,000 values"),
        ("a" * (5 << 20), "larger than 4 MiB"),
    ):
        with pytest.raises(ConfigError, match=said):
            as_config({"x": value})


@pytest.mark.parametrize("value", ["\udcff", Path("\udcff"), {"\udcff": 1}, ["\ud800"]])
def test_text_that_is_none_is_said(value: Any) -> None:
    with pytest.raises(ConfigError, match="not valid Unicode text"):
        as_config({"file": value})


def test_a_value_that_the_host_may_read_otherwise_is_warned_of_at_the_start(project: Path) -> None:
    Path("c.yml").write_text("rate: 3e-4\nsteps: 1_000_000\n")
    run = track("c.yml")
    run.start()
    assert "c.yml: rate: 3e-4 is read as 0.0003; PyYAML reads '3e-4'" in run.warnings
    run.end()
    # Who asked for the data has it from here.
    with track(load("c.yml")) as run:
        assert not [text for text in run.warnings if "PyYAML" in text]


def test_files_of_other_kinds_mean_the_same(project: Path) -> None:
    Path("a.yml").write_text("brain: {gamma: 0.9}\nlayers: [1, 2]\nseed: 3\nday: 1979-05-27\n")
    Path("a.json").write_text(
        '{\n\t"brain": {"gamma": 0.9},\n\t"layers": [1, 2], "seed": 3, "day": "1979-05-27"}'
    )
    Path("a.toml").write_text("layers = [1, 2]\nseed = 3\nday = 1979-05-27\n[brain]\ngamma = 0.9\n")
    found = [load(name) for name in ("a.yml", "a.json", "a.toml")]
    assert len({config.digest for config in found}) == 1
    assert {config.settings["seed"] for config in found} == {3}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", '{"a": 1, "a": 2}', "a.json: a: duplicate key"),
        ("a.json", '{"a": 1', "a.json: 1:8: JSON: Expecting"),
        ("a.json", '{"a": NaN}', "a.json: a: nan is not a finite number"),
        ("a.json", '{"a": ' + "[" * 100_000, "a.json: "),
        ("a.json", "[1]", "a.json: expected a mapping"),
        ("a.json", '{"a": 36893488147419103232}', "beyond 2**53"),
        ("a.toml", "a = ", "a.toml: TOML: "),
        ("a.toml", "a = " + "[" * 100_000, "a.toml: "),
        ("a.toml", "a = 1" + "0" * 5_000, "a.toml: "),
        ("a.json", '{"a": "\\ud800"}', "not valid Unicode text"),
    ],
    ids=range(10),
)
def test_a_file_that_will_not_do_is_one_line(
    project: Path, name: str, text: str, said: str
) -> None:
    Path(name).write_text(text)
    with pytest.raises(ConfigError) as raised:
        load(name)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_json_configuration_can_be_read_again_from_its_record(project: Path) -> None:
    Path("a.json").write_text('{"gamma": 0.9}')
    with track("a.json", seed=1) as run:
        run.episode(steps=1)
    done = subprocess.run(
        [str(Path(sys.executable).parent / "qn-exp"), "show", "@1", "--config"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout == '{"gamma": 0.9}'
