"""The recorder turns any loop into hooks and a record."""

from __future__ import annotations

import asyncio
import copy
import json
import math
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qn_tracking import (
    Attachment,
    Episode,
    Experiment,
    Experiments,
    Recorder,
    RunInfo,
    Subject,
    hookimpl,
    make_manager,
    track,
)
from qn_tracking.errors import PluginError, PluginSetupError, StorageError, UsageError
from qn_tracking.records.model import PluginUse
from qn_tracking.records.stats import Tally
from qn_tracking.store.read import Lines
from qn_tracking.tracking.emit import slow


class _Plugin:
    """Hears everything."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.episodes: list[Episode] = []
        self.experiment: Experiment | None = None

    @hookimpl
    def run_start(self, run: RunInfo) -> dict[str, Any]:
        self.heard.append("run_start")
        return {"seen": run.seed}

    @hookimpl
    def episode_end(self, episode: Episode) -> None:
        self.heard.append("episode_end")
        self.episodes.append(episode)

    @hookimpl
    def run_end(self, experiment: Experiment) -> None:
        self.heard.append("run_end")
        self.experiment = experiment


def recorder(*plugins: object, **options: Any) -> Recorder:
    manager = make_manager()
    for i, plugin in enumerate(plugins):
        manager.register(plugin, name=f"p{i}")
    options.setdefault("warn", lambda text: None)
    options.setdefault("name_slow", False)  # what a busy machine is slow at is no matter here
    return Recorder({"a": 1}, manager=manager, **options)


def test_a_loop_becomes_hooks_and_a_record() -> None:
    plugin = _Plugin()
    with recorder(plugin, seed=3, tags={"k": "v"}, notes="n") as run:
        for i in range(3):
            run.episode(success=i > 0, steps=i, reward=i / 2, termination="end", loss=0.25)
    assert plugin.heard == ["run_start", *["episode_end"] * 3, "run_end"]
    assert [e.index for e in plugin.episodes] == [0, 1, 2]
    record = plugin.experiment
    assert record is run.experiment
    assert record is not None
    assert (record.status, record.seed, record.results.episodes) == ("completed", 3, 3)
    assert record.facts["p0"] == {"seen": 3}
    assert record.tags == {"k": "v"}
    assert record.results.metrics["loss"].mean == 0.25
    assert record.wall_seconds > 0


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RuntimeError("boom"), "failed"),
        (KeyboardInterrupt(), "interrupted"),
        (SystemExit(0), "completed"),
        (SystemExit(None), "completed"),
        (SystemExit(1), "failed"),
        (SystemExit(143), "interrupted"),
        (SystemExit("said"), "failed"),
    ],
)
def test_the_end_has_a_status_and_the_error_passes(error: BaseException, status: str) -> None:
    plugin = _Plugin()
    with pytest.raises(type(error)) as caught, recorder(plugin) as run:
        run.episode(success=True)
        raise error
    assert caught.value is error
    assert plugin.experiment is not None
    assert plugin.experiment.status == status
    assert plugin.experiment.results.episodes == 1
    if status == "failed":
        assert plugin.experiment.error is not None
        assert plugin.experiment.error.type == type(error).__name__
        assert "test_recorder" in plugin.experiment.error.traceback


def test_secrets_in_an_error_are_not_stored() -> None:
    plugin = _Plugin()
    with pytest.raises(RuntimeError), recorder(plugin):
        raise RuntimeError("no access to https://me:hunter2@example.org")
    assert plugin.experiment is not None
    assert plugin.experiment.error is not None
    assert "hunter2" not in plugin.experiment.error.message
    assert "hunter2" not in plugin.experiment.error.traceback


def test_numbers_of_other_libraries_are_the_numbers_they_hold() -> None:
    class Tensor:
        ndim = 0

        def item(self) -> float:
            return 0.5

    plugin = _Plugin()
    with recorder(plugin) as run:
        run.episode(
            success=np.bool_(True), steps=np.int64(7), reward=np.float32(0.1), seed=np.uint32(5),
            counts={"foods": np.int8(2)}, metrics={"a": np.array(1.5), "b": Tensor(), "c": 2},
        )  # fmt: skip
    one = plugin.episodes[0]
    assert (one.success, one.steps, one.seed, one.counts["foods"]) == (True, 7, 5, 2)
    assert one.reward == float(np.float32(0.1))
    assert one.metrics == {"a": 1.5, "b": 0.5, "c": 2.0}
    assert all(type(value) is float for value in one.metrics.values())
    assert json.loads(one.exact)["reward"] == one.reward


@pytest.mark.parametrize(
    ("fields", "error", "named"),
    [
        ({"loss": "0.5"}, TypeError, "loss"),
        ({"loss": None}, TypeError, "loss"),
        ({"loss": np.zeros(2)}, TypeError, "loss"),
        ({"loss": 1j}, TypeError, "loss"),
        ({"reward": "1"}, TypeError, "reward"),
        ({"steps": 1.5}, TypeError, "steps"),
        ({"steps": True}, TypeError, "steps"),
        ({"steps": -1}, ValueError, "steps"),
        ({"steps": 2**53}, OverflowError, "steps"),
        ({"seed": "7"}, TypeError, "seed"),
        ({"success": 1}, TypeError, "success"),
        ({"termination": 3}, TypeError, "termination"),
        ({"counts": {"foods": 1.0}}, TypeError, "foods"),
        ({"counts": {"foods": 2**60}}, OverflowError, "foods"),
        ({"termination": "\ud800"}, ValueError, "termination"),
    ],
)
def test_what_cannot_be_recorded_is_named_and_not_counted(
    fields: dict[str, Any], error: type[Exception], named: str
) -> None:
    plugin = _Plugin()
    with recorder(plugin) as run:
        with pytest.raises(error, match=named):
            run.episode(**fields)
        run.episode(success=True)
    assert [e.index for e in plugin.episodes] == [0]


def test_numbers_that_are_not_finite_are_kept_as_text_with_one_warning() -> None:
    said: list[str] = []
    plugin = _Plugin()
    with recorder(plugin, warn=said.append) as run:
        run.episode(reward=float("nan"), loss=math.inf)
        run.episode(reward=-math.inf)
    assert len(said) == 1
    first = json.loads(plugin.episodes[0].exact)
    assert (first["reward"], first["metrics"]["loss"]) == ("NaN", "Infinity")
    assert json.loads(plugin.episodes[1].exact)["reward"] == "-Infinity"
    assert math.isnan(plugin.episodes[0].reward or 0)


@pytest.mark.parametrize(
    ("value", "kept", "number"),
    [
        (2**60 + 1, "1152921504606846977", 2.0**60),
        (-(2**70), "-1180591620717411303424", -(2.0**70)),
        (np.uint64(2**64 - 1), "18446744073709551615", 2.0**64),
        (Decimal("0.1"), "0.1", 0.1),
        (Decimal("1E+400"), "1E+400", math.inf),
        (Decimal("0.5"), 0.5, 0.5),
        (Decimal("sNaN"), "NaN", math.nan),
        (Decimal("-Infinity"), "-Infinity", -math.inf),
        (Fraction(1, 3), "1/3", 1 / 3),
        (Fraction(1, 4), 0.25, 0.25),
        (Fraction(1, 3**500), repr(float(Fraction(1, 3**500))), float(Fraction(1, 3**500))),
        (10**5000, "Infinity", math.inf),
        (np.longdouble(1) / 3, str(np.longdouble(1) / 3), float(np.longdouble(1) / 3)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_number_that_json_would_round_is_kept_as_text(
    project: Path, value: Any, kept: Any, number: float
) -> None:
    said: list[str] = []
    with track({"a": 1}, seed=1, warn=said.append) as run:
        for _ in range(3):
            run.episode(steps=1, reward=value, clock=value)
            run.log({"clock": value})
    store = Experiments("experiments")
    for episode in Lines(f"experiments/runs/{run.id}/episodes.jsonl"):
        exact = json.loads(episode.exact)
        assert [exact["reward"], exact["metrics"]["clock"]] == [kept, kept]
        assert str([episode.reward, episode.metrics["clock"]]) == str([number, number])
    assert [str(one) for one in store.series(run.id).columns()["value"]] == [str(number)] * 3
    assert store.check().findings == ()
    rounded = [text for text in said if "would be rounded; kept as text" in text]
    assert len(rounded) == (type(kept) is str and kept not in ("NaN", "-Infinity")) * 2


def test_an_episode_outside_of_a_run_is_a_mistake() -> None:
    run = recorder()
    with pytest.raises(UsageError, match="between start"):
        run.episode()
    run.start()
    with pytest.raises(UsageError, match="started before"):
        run.start()
    run.end()
    with pytest.raises(UsageError):
        run.episode()
    assert run.end() is run.experiment


def test_a_record_cannot_be_changed_by_a_sink() -> None:
    problems: list[type[Exception]] = []

    class Vandal:
        @hookimpl
        def episode_end(self, episode: Episode) -> None:
            for change in (
                lambda: setattr(episode, "reward", 100.0),
                lambda: episode.metrics.update(loss=0),  # type: ignore[attr-defined]
                lambda: episode.counts.__setitem__("foods", 9),  # type: ignore[attr-defined]
            ):
                try:
                    change()
                except (TypeError, AttributeError) as error:
                    problems.append(type(error))

    plugin = _Plugin()
    with recorder(Vandal(), plugin) as run:
        run.episode(reward=1.0, loss=0.5, counts={"foods": 1})
    assert len(problems) == 3
    assert plugin.episodes[0].metrics == {"loss": 0.5}


def test_the_callers_own_mapping_stays_the_callers() -> None:
    plugin = _Plugin()
    with recorder(plugin) as run:
        metrics = {"loss": 1.0}
        run.episode(metrics=metrics)
        metrics["loss"] = 2.0
    assert plugin.episodes[0].metrics == {"loss": 1.0}


def test_the_digest_does_not_see_clocks_paths_or_hosts(tmp_path: Path) -> None:
    def digests(folder: Path, pause: float) -> Any:
        folder.mkdir()
        with track({"x": 1}, seed=1, experiments_dir=folder) as run:
            for i in range(3):
                run.episode(success=True, steps=i, reward=i / 3, timing={"wall": pause})
        assert run.experiment is not None
        return run.experiment.digests

    assert digests(tmp_path / "a", 0.1) == digests(tmp_path / "b", 0.2)


class Raises:
    """Raises in one hook."""

    def __init__(self, hook: str, error: BaseException) -> None:
        self.heard: list[str] = []
        self._hook, self._error = hook, error

    def _hear(self, hook: str) -> None:
        self.heard.append(hook)
        if hook == self._hook:
            raise self._error

    @hookimpl
    def run_start(self) -> None:
        self._hear("run_start")

    @hookimpl
    def episode_end(self) -> None:
        self._hear("episode_end")

    @hookimpl
    def run_facts(self) -> None:
        self._hear("run_facts")

    @hookimpl
    def run_end(self) -> None:
        self._hear("run_end")


BOOM = (RuntimeError("boom"), SystemExit(0))


@pytest.mark.parametrize("error", BOOM)
def test_a_plugin_that_raises_at_the_start_stops_the_run(error: BaseException) -> None:
    # p2 is called first: pluggy calls the latest first.
    bad, plugin = Raises("run_start", error), _Plugin()
    with pytest.raises(PluginError, match=r"^plugin p0: run_start: "), recorder(bad, plugin):
        pytest.fail("the run went on")
    assert plugin.heard == ["run_start", "run_end"]
    assert plugin.experiment is not None
    assert plugin.experiment.status == "failed"
    assert bad.heard == ["run_start"]


@pytest.mark.parametrize("error", BOOM)
def test_a_plugin_that_raises_in_the_middle_is_quarantined(error: BaseException) -> None:
    said: list[str] = []
    bad, plugin = Raises("episode_end", error), _Plugin()
    with recorder(bad, plugin, warn=said.append) as run:
        for _ in range(3):
            run.episode(success=True)
    assert bad.heard == ["run_start", "episode_end", "run_end"]
    assert len(said) == 1
    assert said[0].startswith("plugin p0: episode_end: ")
    assert plugin.experiment is not None
    assert [(f.plugin, f.hook) for f in plugin.experiment.failures] == [("p0", "episode_end")]
    assert plugin.experiment.results.episodes == 3


def test_a_plugin_that_raises_for_facts_costs_its_facts_only() -> None:
    bad, plugin = Raises("run_facts", RuntimeError("boom")), _Plugin()
    with recorder(bad, plugin) as run:
        run.episode()
    assert plugin.experiment is not None
    assert plugin.experiment.failures[0].hook == "run_facts"


@pytest.mark.parametrize("error", BOOM)
def test_everyone_hears_the_end_and_the_failures_come_together(error: BaseException) -> None:
    one, two, plugin = Raises("run_end", error), Raises("run_end", error), _Plugin()
    with pytest.raises(PluginError) as caught, recorder(one, plugin, two):
        pass
    assert "plugin p0" in str(caught.value)
    assert "plugin p2" in str(caught.value)
    assert plugin.heard[-1] == "run_end"


def test_a_failure_at_the_end_never_masks_the_simulations_own() -> None:
    said: list[str] = []
    with (
        pytest.raises(ZeroDivisionError),
        recorder(Raises("run_end", RuntimeError("boom")), warn=said.append),
    ):
        raise ZeroDivisionError
    assert said == ["plugin p0: run_end: RuntimeError: boom"]


def test_facts_may_be_futures_and_warnings(tmp_path: Path) -> None:
    from concurrent.futures import Future

    good: Future[Any] = Future()
    good.set_result({"x": (1, 2)})
    bad: Future[Any] = Future()
    bad.set_exception(OSError("gone"))
    said: list[str] = []

    class Facts:
        @hookimpl
        def run_start(self) -> dict[str, Any]:
            return {"good": good, "bad": bad, "warnings": ["look out"], "worse": object()}

    with recorder(Facts(), warn=said.append) as run:
        run.episode()
    assert run.experiment is not None
    assert run.experiment.facts["p0"] == {"good": {"x": (1, 2)}, "bad": None, "worse": None}
    assert "look out" in said
    assert "look out" in run.experiment.warnings
    assert len(run.experiment.failures) == 2


def test_a_fork_does_not_record_twice(project: Path) -> None:
    program = """
import os, sys
from qn_tracking import track
with track({"a": 1}, seed=1) as run:
    run.episode(success=True)
    pid = os.fork()
    run.episode(success=True)
    if pid == 0:
        sys.exit(3)
    os.waitpid(pid, 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (record,) = Path("experiments").glob("*.json")
    assert json.loads(record.read_text())["results"]["episodes"] == 2
    (journal,) = Path("experiments/runs").glob("*/episodes.jsonl")
    assert [json.loads(line)["index"] for line in journal.read_text().splitlines()] == [0, 1]


def test_a_run_that_would_be_copied_says_in_a_sentence_why_it_cannot_be(project: Path) -> None:
    run = track({"a": 1})
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=f"^run {run.id} cannot be copied or sent to another"):
            attempt(run)


def test_an_error_in_an_error_of_its_class_has_its_text() -> None:
    inner = UsageError("no", hint="yes")
    assert str(UsageError(inner)) == "no (yes)"  # type: ignore[arg-type]


def test_names_fill_in_what_the_host_does_not_say(project: Path) -> None:
    with track({"a": 1}, subject=Subject(brain="mine")) as run:
        run.describe(environment="maze", brain="other")
        run.describe(environment="later")
    assert run.experiment is not None
    assert run.experiment.subject == Subject(environment="maze", brain="mine")


def test_threads_take_turns(project: Path) -> None:
    with track({"a": 1}, seed=1) as run:

        def work() -> None:
            for _ in range(200):
                run.episode(success=True)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    (journal,) = Path("experiments/runs").glob("*/episodes.jsonl")
    assert [json.loads(line)["index"] for line in journal.read_text().splitlines()] == list(
        range(800)
    )


def test_an_artifact_is_named_by_its_digest(project: Path) -> None:
    Path("out.csv").write_bytes(b"a,b\n")
    with track({"a": 1}) as run:
        found = run.artifact("out.csv")
        with pytest.raises(StorageError, match="nope.csv: no such file"):
            run.artifact("nope.csv")
    assert (found.size, found.sha256[:8]) == (4, "5be08c96")
    (record,) = Path("experiments").glob("*.json")
    assert json.loads(record.read_text())["artifacts"] == [
        {"path": "out.csv", "size": 4, "sha256": found.sha256}
    ]


def test_a_host_that_changes_directory_still_finds_its_record(project: Path) -> None:
    Path("elsewhere").mkdir()
    with track({"a": 1}) as run:
        os.chdir("elsewhere")
        run.episode()
    assert (project / "experiments" / f"{run.id}.json").exists()
    assert list((project / "elsewhere").iterdir()) == []


# --------------------------------------------------------------------- what must not cost a record


def test_times_are_numbers_too(project: Path) -> None:
    with track({"a": 1}, seed=1) as run:
        for bad in (float("nan"), "1", None):
            with pytest.raises((TypeError, ValueError), match=r"timing\.t"):
                run.episode(timing={"t": bad})  # type: ignore[dict-item]
        run.episode(timing={"t": np.float64(0.5)})
    (journal,) = Path("experiments/runs").glob("*/episodes.jsonl")
    assert json.loads(journal.read_text())["timing"]["t"] == 0.5


class Colour(str, Enum):  # noqa: UP042 - its text is not its value
    RED = "red"


class Box:
    """An object of a host that happens to have an attribute called item."""

    item = "sword"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"metrics": {"steps": 1.0, "x": 1.0}}, "metrics.steps: the name is taken"),
        ({"metrics": {"reward": 1.0}}, "metrics.reward: the name is taken"),
        ({"metrics": {"foods": 1.0}, "counts": {"foods": 1}}, "metrics.foods: the name is taken"),
        ({"metrics": {"loss": 1.0}, "loss": 2.0}, "metrics.loss: the name is taken"),
        ({"timing": {"at": 3.0}}, "timing.at: the name is taken"),
        ({"timing": {"t": -1}}, "timing.t: -1.0 is no time in seconds"),
        ({"timing": {"t": float("inf")}}, "timing.t: inf is no time in seconds"),
        ({"timing": {3: 1.0}}, "timing: 3: expected text as a name, got int"),
        ({"metrics": {1: 2.0}}, "metrics: 1: expected text as a name, got int"),
        ({"counts": {None: 2}}, "counts: None: expected text as a name, got NoneType"),
        ({"metrics": {"train": {"loss": 1.0}}}, "metrics.train: expected a number"),
        ({"loss": "0.5"}, "loss: expected a number, got str"),
        ({"loss": Box()}, "loss: expected a number, got Box"),
        ({"counts": {"k": 2.0}}, "counts.k: expected a whole number, got float"),
        ({"termination": "\ud800"}, "termination: "),
        ({"metrics": {"\ud800": 1.0}}, "metrics: "),
        ({"counts": {"\ud800": 1}}, "counts: "),
    ],
    ids=range(17),
)
def test_what_an_episode_cannot_hold_is_refused_by_its_key(
    fields: dict[str, Any], said: str
) -> None:
    with recorder() as run:
        with pytest.raises((TypeError, ValueError)) as caught:
            run.episode(**fields)
        assert str(caught.value).startswith(said)
        assert "\n" not in str(caught.value)
        str(caught.value).encode()  # can be printed
        run.episode(reward=1.0)
        assert run.end().results.episodes == 1


def test_a_clash_of_names_does_not_list_them_all() -> None:
    names = [f"m{i}" for i in range(300)]
    with recorder() as run, pytest.raises(ValueError, match="the name is taken") as caught:
        run.episode(counts=dict.fromkeys(names, 1), metrics=dict.fromkeys(names, 1.0))
    assert len(str(caught.value)) < 100


def test_names_of_hosts_own_kinds_are_text() -> None:
    with recorder() as run:
        run.episode(metrics={np.str_("a"): 1.0}, counts={Colour.RED: 2})
        made = run.end()
    assert set(made.results.metrics) == {"a", "red"}


@pytest.mark.parametrize("word", ["sucess", "stpes", "step", "rewards", "terminaton", "metrcs"])
def test_a_keyword_one_letter_off_is_warned_of_once(word: str) -> None:
    with recorder() as run:
        for _ in range(3):
            run.episode(**{word: 1.0})
        made = run.end()
    said = [text for text in made.warnings if "did you mean" in text]
    assert len(said) == 1
    assert word in said[0]
    assert word in made.results.metrics


@pytest.mark.parametrize("word", ["speed", "loss", "foods", "epsilon", "rewarded"])
def test_other_keywords_are_metrics_without_a_word(word: str) -> None:
    with recorder() as run:
        run.episode(**{word: 1.0})
        assert run.end().warnings == ()


def test_counts_called_as_a_field_are_kept_beside_it() -> None:
    with recorder() as run:
        for _ in range(3):
            run.episode(success=True, steps=2, reward=1.0, counts={"steps": 9, "reward": 9})
    assert run.experiment is not None
    results = run.experiment.results
    assert (results.total_steps, results.avg_steps, results.avg_reward) == (6, 2.0, 1.0)
    means = {name: spread.mean for name, spread in results.metrics.items()}
    assert means == {"steps": 2.0, "reward": 1.0, "counts.steps": 9.0, "counts.reward": 9.0}


def test_the_largest_numbers_still_have_a_mean() -> None:
    with recorder() as run:
        for _ in range(3):
            run.episode(reward=sys.float_info.max)
    assert run.experiment is not None
    assert run.experiment.results.avg_reward == sys.float_info.max


class Odd:
    """Says what no record can hold as it is."""

    @hookimpl
    def run_start(self) -> dict[Any, Any]:
        return {
            1: 2,
            "text": "bad \udcff",
            "up": Attachment(name="../../evil.txt", size=1, sha256="", data=b"x"),
            "taken": Attachment(name="episodes.jsonl", size=1, sha256="", data=b"x"),
            "fine": Attachment(name="fine.txt", size=1, sha256="", data=b"x"),
            "twice": Attachment(name="fine.txt", size=1, sha256="", data=b"y"),
            "warnings": ["bad \udcff"],
        }


def test_odd_facts_cost_themselves_only(project: Path) -> None:
    run = track({"a": 1}, seed=1, tags={"t": "\udcff"}, notes="\udcff", warn=lambda text: None)
    run._manager.register(Odd(), name="odd")
    run = Recorder(
        {"a": 1}, manager=run._manager, experiments_dir="experiments", warn=lambda text: None
    )
    Path(os.fsdecode(b"f\xe9.csv")).write_text("x")
    with pytest.raises(RuntimeError), run:
        run.episode()
        run.artifact(b"f\xe9.csv")  # type: ignore[arg-type]
        raise RuntimeError("bad \udcff")
    (record,) = Path("experiments").glob("*.json")
    doc = json.loads(record.read_text())
    assert doc["results"]["episodes"] == 1
    assert doc["facts"]["odd"]["fine"]["file"] == "fine.txt"
    assert {f["plugin"] for f in doc["failures"]} == {"odd"}
    assert len(doc["failures"]) == 5
    assert doc["error"]["message"] == "bad \\udcff"
    assert not list(project.parent.rglob("evil.txt"))


class BadText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_error_whose_text_cannot_be_had() -> None:
    said: list[str] = []
    with recorder(Raises("episode_end", BadText()), warn=said.append) as run:
        run.episode()
    assert run.experiment is not None
    assert run.experiment.status == "completed"
    assert "its text is not available" in said[0]


def test_a_warning_that_nobody_can_read_ends_no_run(project: Path) -> None:
    program = """
import os
from qn_tracking import track
os.close(2)
with track({"a": 1}, seed=1) as run:
    run.episode(reward=float("nan"))
"""
    # 120 is Python's own word for a stream that it could not flush at its exit.
    assert subprocess.run([sys.executable, "-c", program]).returncode in (0, 120)
    (record,) = Path("experiments").glob("*.json")
    assert json.loads(record.read_text())["status"] == "completed"


INTERRUPTED = """
import os, signal, sys, threading, time
from qn_tracking import track
begun = threading.Event()
def later():
    begun.wait()
    time.sleep(float(sys.argv[1]))
    os.kill(os.getpid(), signal.SIGINT)
run = track({"a": 1}, seed=1, blocked=("metadata",))
threading.Thread(target=later, daemon=True).start()
with run:
    while True:
        run.episode(success=True, steps=3, reward=0.5, loss=0.25, entropy=0.5)
        begun.set()
"""


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.05 + i * 0.0037 for i in range(8)])
def test_an_interrupted_loop_records_what_its_journal_holds(project: Path, seconds: float) -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, str(seconds)], capture_output=True)
    assert done.returncode == -2 or b"KeyboardInterrupt" in done.stderr
    (record,) = Path("experiments").glob("*.json")
    doc = json.loads(record.read_text())
    assert doc["status"] == "interrupted"
    tally = Tally()
    for episode in Lines(f"experiments/runs/{doc['id']}/episodes.jsonl"):
        tally.add(episode)
    assert tally.results().episodes == doc["results"]["episodes"]
    assert tally.digests().exact == doc["digests"]["exact"]


def test_an_interrupt_while_facts_are_waited_for_costs_the_facts_only() -> None:
    class Never:
        def result(self, timeout: float | None = None) -> None:
            if timeout:
                raise KeyboardInterrupt
            raise TimeoutError

    class Slow:
        @hookimpl
        def run_start(self) -> dict[str, Any]:
            return {"never": Never()}

    plugin = _Plugin()
    with pytest.raises(KeyboardInterrupt), recorder(Slow(), plugin) as run:
        run.episode()
    assert plugin.heard[-1] == "run_end"
    assert plugin.experiment is not None
    assert plugin.experiment.status == "interrupted"
    assert plugin.experiment.facts["p0"] == {"never": None}


def test_an_interrupt_at_the_end_is_heard_after_everyone() -> None:
    plugin = _Plugin()
    with (
        pytest.raises(KeyboardInterrupt),
        recorder(plugin, Raises("run_end", KeyboardInterrupt())),
    ):
        pass
    assert plugin.heard[-1] == "run_end"


def test_a_fork_among_threads_goes_on(project: Path) -> None:
    program = """
import os, threading, time
from qn_tracking import track
over = threading.Event()
with track({"a": 1}, seed=1) as run:
    def work():
        while not over.is_set():
            run.episode(success=True)
    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(20):
        pid = os.fork()
        if pid == 0:
            run.episode(success=True)
            os._exit(0)
        os.waitpid(pid, 0)
    over.set()
    thread.join()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_an_episode_inside_of_an_episode_is_a_mistake() -> None:
    class Nested:
        @hookimpl
        def episode_end(self) -> None:
            run.episode()

    run = recorder(Nested())
    with run:
        run.episode()
    assert run.experiment is not None
    assert "inside of episode_end" in run.experiment.failures[0].error


def test_one_manager_is_at_one_run_at_a_time() -> None:
    manager = make_manager()
    with Recorder({"a": 1}, manager=manager) as run, pytest.raises(UsageError, match="another run"):
        Recorder({"a": 1}, manager=manager).start()
    with Recorder({"a": 1}, manager=manager):
        pass
    assert run.experiment is not None


@pytest.mark.parametrize(
    "options",
    [{"seed": 7.5}, {"seed": True}, {"seed": "7"}, {"seed": -1}, {"episodes": 2**60},
     {"tags": {"a": 1}}, {"notes": 5}, {"id": "../x"}],
)  # fmt: skip
def test_arguments_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        recorder(**options)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


class _Talkative:
    """Says all that it can, and more than a record holds."""

    @hookimpl
    def run_start(self, run: RunInfo, warn: Callable[[str], None]) -> dict[str, Any]:
        for i in range(3_000):
            warn(f"{i} " + "w" * (2 << 20 if i == 7 else 1))
        return {"deep": nested(63), "deepest": nested(62), "large": "x" * (17 << 20), "small": 1}

    @hookimpl
    def run_facts(self, run: RunInfo) -> dict[str, Any]:
        data = bytes((64 << 20) + 1)
        return {"file": Attachment(name="f.bin", size=len(data), sha256="0" * 64, data=data)}


@pytest.mark.slow
def test_nothing_is_written_that_readers_refuse(project: Path) -> None:
    said: list[str] = []
    manager = make_manager(("json_storage",))
    manager.register(_Talkative(), name="talk")
    with (
        pytest.raises(RuntimeError),
        Recorder({"a": 1}, manager=manager, experiments_dir="experiments", warn=said.append) as run,
    ):
        for i in range(3_000):
            run.episode(steps=1, termination=f"{i}", counts={f"c{i}": 1}, metrics={f"m{i}": 1.0})
        run.episode(termination="t" * 5_000, metrics={"n" * 5_000: 1.0})
        with pytest.raises(ValueError, match=r"^metrics: 9,000,\d+ bytes are too many"):
            run.episode(metrics={"n" * 9_000_000: 1.0})
        with pytest.raises(ValueError, match="timing: too many"):
            run.episode(timing={"n" * 300: 1.0})
        raise RuntimeError("e" * (70 << 20))
    store = Experiments("experiments")
    assert store.check().findings == ()
    found = store.get(run.id)
    assert found.error is not None
    assert len(found.error.message) < 110_000
    assert found.results.terminations["(others)"] == 2_001
    assert len(found.results.terminations) == 1_001
    assert {"steps", "c0"} <= found.results.metrics.keys()
    assert len(found.results.metrics) == 1_000
    facts = found.facts["talk"]
    assert (facts["deep"], facts["large"], facts["file"], facts["small"]) == (None, None, None, 1)
    assert facts["deepest"] == nested(62)
    assert len(found.warnings) == 1_001
    assert sum(map(len, found.warnings)) < 100_000
    for told in (
        "more than 1,000 different terminations; the others are counted as (others)",
        "more than 1,000 names of metrics, or too long ones; the others have no summary",
        "a termination of more than 1,000 characters is cut",
        "plugin talk: file: ValueError: attachment f.bin: larger than 64 MiB",
        "plugin talk: large: ValueError: the facts are larger than 16 MiB",
    ):
        assert said.count(told) == 1


def test_what_would_make_a_record_too_large_is_refused_at_the_start(project: Path) -> None:
    for options in ({"notes": "n" * (25 << 20)}, {"tags": {"t": "n" * (25 << 20)}}):
        with pytest.raises(UsageError, match="larger than 24 MiB"):
            track({"a": 1}, **options).start()
    assert not list(Path("experiments").glob("*.json"))
    assert not list(Path("experiments").glob("runs/*"))


def test_an_end_that_makes_no_sense() -> None:
    with recorder() as run:
        with pytest.raises(UsageError, match="status 'banana'"):
            run.end("banana")
        with pytest.raises(UsageError, match="expected an exception"):
            run.end(error="oops")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="artifact after the end"):
        run.artifact("x")


def test_tags_and_notes_lose_their_secrets() -> None:
    token = "ghp_" + "a1B2" * 9
    with recorder(tags={"token": "abc", "k": token}, notes=f"see {token}") as run:
        pass
    assert run.run.tags == {"token": "[redacted]", "k": "[redacted]"}
    assert run.run.notes == "see [redacted]"
    assert [text for text in run.warnings if "secret" in text] == [
        f"{field}: is taken for a secret and not stored"
        for field in ("tags.token", "tags.k", "notes")
    ]


def test_what_is_masked_in_a_configuration_is_said_at_the_start() -> None:
    config = {"api_key": "s3cret99", "brain": {"password": "a"}, "start_token": "<s>"}
    run = Recorder(config, manager=make_manager(), warn=lambda text: None).start()
    told = "is taken for a secret and not stored: the run cannot be repeated from its record"
    assert run.warnings == [f"config: {field}: {told}" for field in ("api_key", "brain.password")]
    assert run.run.config.data["start_token"] == "<s>"
    run.end()


@pytest.mark.parametrize("body", ["yield", "return (yield)"])
def test_a_generator_is_no_hook(body: str) -> None:
    scope: dict[str, Any] = {"hookimpl": hookimpl}
    exec(f"class P:\n  @hookimpl\n  def episode_end(self): {body}\n", scope)
    with pytest.raises(PluginSetupError, match="would never run"):
        recorder(scope["P"]())


def test_an_interrupt_at_the_end_hides_no_failure() -> None:
    said: list[str] = []
    with (
        pytest.raises(KeyboardInterrupt),
        recorder(
            Raises("run_end", KeyboardInterrupt()),
            Raises("run_end", OSError("disk full")),
            warn=said.append,
        ),
    ):
        pass
    assert said == ["plugin p1: run_end: OSError: disk full"]


def test_a_plugin_may_warn_whenever_it_likes() -> None:
    class Warns:
        @hookimpl
        def run_start(self, run: RunInfo, warn: Callable[[str], None]) -> None:
            self.warn = warn
            warn("the server of ftp://me:pass@host is away")

        @hookimpl
        def episode_end(self) -> None:
            thread = threading.Thread(target=self.warn, args=("still away\n",))
            thread.start()
            thread.join()

        @hookimpl
        def run_end(self) -> None:
            self.warn("kept elsewhere")

    class Takes:  # one of the arguments only
        @hookimpl
        def run_start(self, warn: Callable[[str], None]) -> None:
            warn("so do I")

    said: list[str] = []
    heard: list[int] = []
    with recorder(Warns(), Takes(), warn=said.append) as run:
        heard.append(len(said))
        run.episode()
        heard.append(len(said))
    assert heard == [2, 3]
    assert run.experiment is not None
    kept = ("the server of ftp://[redacted]@host is away", "so do I", "still away\n")
    assert sorted(run.experiment.warnings) == sorted(kept)
    assert said[-1] == "kept elsewhere"


def test_a_plugin_that_takes_its_time_is_named_at_the_end() -> None:
    class Slow:
        @hookimpl
        def episode_end(self) -> None:
            time.sleep(0.15)

        @hookimpl
        def run_end(self) -> None:
            time.sleep(0.15)

    class Quick:
        @hookimpl
        def episode_end(self) -> None:
            pass

    said: list[str] = []
    for name_slow in (True, False):
        manager = make_manager()
        manager.register(Slow(), name="slow")
        manager.register(Quick(), name="quick")
        with Recorder({"a": 1}, manager=manager, warn=said.append, name_slow=name_slow) as run:
            run.episode()
    (text,) = (one for one in said if one.startswith("plugin slow took "))
    assert text.endswith("% of the run")


STUBBORN = """
import os, signal, sys, threading, time
from qn_tracking import Recorder, hookimpl, make_manager
class Sink:
    heard = []
    @hookimpl
    def episode_end(self, episode): self.heard.append(episode.index)
def strike():
    time.sleep(0.05)
    while not over:
        time.sleep(0.0007)
        os.kill(os.getpid(), signal.SIGINT)
over, caught, done = False, 0, 0
manager = make_manager(["json_storage"])
manager.register(sink := Sink(), name="sink")
run = Recorder({"a": 1}, manager=manager, seed=1, experiments_dir="experiments").start()
thread = threading.Thread(target=strike, daemon=True)
thread.start()
while True:
    try:
        while done < 60_000:
            done += 1
            run.episode(success=True, steps=done, reward=0.5, loss=0.25)
        over = True
        thread.join()
        break
    except KeyboardInterrupt:
        caught += 1
run.end()
print(caught, len(sink.heard), sink.heard == sorted(set(sink.heard)))
"""


@pytest.mark.slow
def test_a_loop_that_goes_on_after_each_interrupt_loses_nothing(project: Path) -> None:
    done = subprocess.run([sys.executable, "-c", STUBBORN], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    caught, heard, in_order = done.stdout.split()
    assert int(caught) > 20
    assert in_order == "True"
    (record,) = Path("experiments").glob("*.json")
    doc = json.loads(record.read_text())
    assert (doc["status"], doc["failures"]) == ("completed", [])
    tally = Tally()
    for episode in Lines(f"experiments/runs/{doc['id']}/episodes.jsonl"):
        tally.add(episode)
    assert tally.results().episodes == doc["results"]["episodes"]
    assert tally.digests().exact == doc["digests"]["exact"]
    # But for the instant between its being called and its first line, the sink heard all of them.
    assert doc["results"]["episodes"] - int(heard) <= int(caught)


HANDLED = """
import os, signal, sys, threading, time
from qn_tracking import track
def handle(number, frame):
    run.end("interrupted") if sys.argv[1] == "end" else None
    sys.exit(143)
signal.signal(signal.SIGTERM, handle)
begun = threading.Event()
def later():
    begun.wait()
    time.sleep(float(sys.argv[2]))
    os.kill(os.getpid(), signal.SIGTERM)
run = track({"a": 1}, seed=1, blocked=("metadata",)).start(at_exit=True)
threading.Thread(target=later, daemon=True).start()
while True:
    run.episode(success=True, steps=3, reward=0.5, loss=0.25)
    begun.set()
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["end", "exit"])
@pytest.mark.parametrize("seconds", [0.05 + i * 0.0037 for i in range(5)])
def test_a_signal_handler_of_the_host_may_end_it_anywhere(
    project: Path, how: str, seconds: float
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANDLED, how, str(seconds)],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 143, done.stderr
    (record,) = Path("experiments").glob("*.json")
    doc = json.loads(record.read_text())
    assert (doc["status"], doc["failures"]) == ("interrupted", [])
    count = sum(1 for _ in Lines(f"experiments/runs/{doc['id']}/episodes.jsonl"))
    assert count == doc["results"]["episodes"] > 0


def test_a_plugin_may_end_the_run_after_the_episode() -> None:
    class Ends:
        @hookimpl
        def episode_end(self, episode: Episode) -> None:
            if episode.index == 1:
                assert run.end("interrupted") is None

    plugin = _Plugin()
    run = recorder(Ends(), plugin).start()
    run.episode()
    run.episode()
    assert run.experiment is not None
    assert (run.experiment.status, run.experiment.results.episodes) == ("interrupted", 2)
    assert len(plugin.episodes) == 2
    with pytest.raises(UsageError, match="episode outside of a run"):
        run.episode()


PROMPT = """from qn_tracking import track
run = track({"a": 1}, episodes=PLANNED, blocked=("metadata",)).start(at_exit=True)
run.episode()
no_such_name
run.episode()
exit()
"""


@pytest.mark.parametrize(("planned", "status"), [(2, "completed"), (3, "failed")])
def test_a_mistake_at_a_prompt_does_not_fail_a_whole_run(
    project: Path, planned: int, status: str
) -> None:
    text = PROMPT.replace("PLANNED", str(planned))
    done = subprocess.run(
        [sys.executable, "-i"], input=text, capture_output=True, text=True, cwd=project
    )
    assert "NameError" in done.stderr
    (record,) = project.glob("experiments/*.json")
    assert json.loads(record.read_bytes())["status"] == status


async def _forever(run: Recorder) -> None:
    with run:
        run.episode()
        await asyncio.sleep(3600)


async def _times_out(run: Recorder) -> None:
    await asyncio.wait_for(_forever(run), 0.01)


async def _sibling_fails(run: Recorder) -> None:
    async def fail() -> None:
        await asyncio.sleep(0.01)
        raise ZeroDivisionError

    async with asyncio.TaskGroup() as group:
        group.create_task(_forever(run))
        group.create_task(fail())


async def _closes_a_generator(run: Recorder) -> None:
    async def generate() -> AsyncIterator[int]:
        with run:
            run.episode()
            yield 1

    made = generate()
    await anext(made)
    await made.aclose()


async def _group_inside(run: Recorder) -> None:
    async def stop() -> None:
        raise KeyboardInterrupt

    with run:
        run.episode()
        async with asyncio.TaskGroup() as group:
            group.create_task(stop())


async def _fails_inside(run: Recorder) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with run:
        run.episode()
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            group.create_task(asyncio.sleep(3600))


@pytest.mark.parametrize(
    ("main", "status", "error"),
    [
        (_times_out, "interrupted", "CancelledError"),
        (_sibling_fails, "interrupted", "CancelledError"),
        (_closes_a_generator, "interrupted", "GeneratorExit"),
        (_group_inside, "interrupted", "KeyboardInterrupt"),
        (_fails_inside, "failed", "ExceptionGroup"),
    ],
)
def test_how_a_task_ends_is_how_its_run_ends(
    main: Callable[[Recorder], Any], status: str, error: str
) -> None:
    run = recorder()
    with suppress(BaseException):
        asyncio.run(main(run))
    assert run.experiment is not None
    assert (run.experiment.status, run.experiment.results.episodes) == (status, 1)
    assert run.experiment.error is not None
    assert run.experiment.error.type == error


CTRL_C = """
import asyncio, os, signal
from qn_tracking import track

async def loop():
    with track({"a": 1}, blocked=("metadata",)) as run:
        run.episode()
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(3600)

async def group():
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(loop())
        tasks.create_task(asyncio.sleep(3600))

asyncio.run(MAIN())
"""


@pytest.mark.parametrize("main", ["loop", "group"])
def test_ctrl_c_in_asyncio_is_an_interrupt(project: Path, main: str) -> None:
    # Whoever starts the tests in the background has the signal ignored.
    command = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    done = subprocess.run(
        [sys.executable, "-c", command + CTRL_C.replace("MAIN", main)],
        capture_output=True, text=True, cwd=project,
    )  # fmt: skip
    assert "KeyboardInterrupt" in done.stderr
    (record,) = project.glob("experiments/*.json")
    found = json.loads(record.read_bytes())
    assert (found["status"], found["error"]["type"]) == ("interrupted", "KeyboardInterrupt")


def test_a_recorder_that_is_over_is_let_go() -> None:
    import gc
    import weakref

    run = recorder(_Plugin()).start(at_exit=True)
    run.end()
    gone = weakref.ref(run)
    del run
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("error", [asyncio.CancelledError(), GeneratorExit(), BaseException("x")])
def test_whatever_a_plugin_raises_costs_that_plugin_only(error: BaseException) -> None:
    plugin = _Plugin()
    said: list[str] = []
    with recorder(Raises("episode_end", error), plugin, warn=said.append) as run:
        run.episode()
        run.episode()
    assert len(plugin.episodes) == 2
    assert run.experiment is not None
    assert run.experiment.status == "completed"
    assert [failure.hook for failure in run.experiment.failures] == ["episode_end"]


def test_a_run_that_was_refused_leaves_no_process(project: Path) -> None:
    import psutil

    class Refuses:
        @hookimpl(trylast=True)
        def run_start(self) -> None:
            raise ValueError("no")

    before = len(os.listdir("/proc/self/fd"))
    children = {one.pid for one in psutil.Process().children()}
    for _ in range(3):
        manager = make_manager(["metadata"])
        manager.register(Refuses(), name="refuses")
        with pytest.raises(PluginError):
            Recorder({"a": 1}, manager=manager, warn=lambda text: None).start()
    assert {one.pid for one in psutil.Process().children()} == children
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_built_in_tracker_is_named_only_where_somebody_could_help_it() -> None:
    def names(seconds: float, **uses: float) -> list[str]:
        plugins = [PluginUse(name=name, seconds=spent) for name, spent in uses.items()]
        return [name for name, _ in slow(plugins, seconds)]

    assert names(1.0, json_storage=0.9, metadata=0.9, sink=0.9) == ["sink"]
    assert names(60.0, json_storage=6.0, sink=2.0) == ["json_storage"]
    assert names(0.0, sink=1.0) == []
