"""An exception of a signal handler at a bad moment: passed on, with nothing lost or twice."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from qn_tracking import Experiment, Experiments, Recorder, hookimpl, make_manager, track
from qn_tracking.records.codec import document
from qn_tracking.records.stats import CHUNK


class Late(Exception):
    """What a handler of the script raises."""


@pytest.fixture(params=[Late, TimeoutError, KeyboardInterrupt])
def raised(request: pytest.FixtureRequest) -> Iterator[type[BaseException]]:
    def handler(number: int, frame: Any) -> None:
        raise request.param("too long")

    before = signal.signal(signal.SIGUSR1, handler)
    yield request.param
    signal.signal(signal.SIGUSR1, before)


CALLS: dict[str, Callable[[Recorder, int], None]] = {
    "episode": lambda run, n: run.episode(reward=float(n)),
    "phase": lambda run, n: run.episode(reward=float(n), phase="evaluation"),
    "batch": lambda run, n: run.episodes(reward=[n, n + 0.5]),
    "log": lambda run, n: run.log({"loss": n / 2}),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("after", [True, False])
def test_a_handler_that_raises_in_the_middle_of_a_write(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    raised: type[BaseException],
    call: str,
    after: bool,
) -> None:
    write = os.write

    def interrupted(fd: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", write)
        count = write(fd, data) if after else 0
        signal.raise_signal(signal.SIGUSR1)
        return count or write(fd, data)

    with track({"a": 1}, seed=1, warn=lambda text: None) as run:
        for n in range(12):
            for one in CALLS.values():
                if n % 5 == 2 and one is CALLS[call]:
                    monkeypatch.setattr(os, "write", interrupted)
                with suppress(raised):
                    one(run, n)
            monkeypatch.setattr(os, "write", write)
    found = run.experiment
    assert found is not None
    assert (found.status, found.failures) == ("completed", ())
    assert (found.results.episodes, found.phases["evaluation"].results.episodes) == (36, 12)
    store = Experiments("experiments")
    assert store.check().findings == ()
    rewards = [one.reward for one in store.episodes(run.id)]
    assert rewards == [float(x) for n in range(12) for x in (n, n, n + 0.5)]
    values = store.series(run.id).columns()["value"]
    assert values == [n / 2 for n in range(12)]


@pytest.mark.parametrize("name", ["phases.jsonl", "series.jsonl"])
def test_a_handler_that_raises_when_a_file_has_just_been_made(
    project: Path, monkeypatch: pytest.MonkeyPatch, raised: type[BaseException], name: str
) -> None:
    made = os.open

    def interrupted(path: Any, *args: Any, **options: Any) -> int:
        fd = made(path, *args, **options)
        if str(path).endswith(name):
            monkeypatch.setattr(os, "open", made)
            os.close(fd)
            signal.raise_signal(signal.SIGUSR1)
        return fd

    with track({"a": 1}, seed=1, warn=lambda text: None) as run:
        monkeypatch.setattr(os, "open", interrupted)
        for n in range(3):
            for one in CALLS.values():
                with suppress(raised):
                    one(run, n)
    assert run.experiment is not None
    assert run.experiment.failures == ()
    store = Experiments("experiments")
    assert store.check().findings == ()
    assert [one.reward for one in store.episodes(run.id, phase="evaluation")] == [0.0, 1.0, 2.0]
    # A call of `log` that was interrupted before it was written is not there.
    assert store.series(run.id).columns()["value"][-2:] == [0.5, 1.0]


class Sink:
    """Keeps what it gets at the end."""

    @hookimpl
    def run_end(self, experiment: Experiment) -> None:
        self.experiment = experiment


COUNTING = ("records/stats.py", "tracking/phases.py", "tracking/emit.py")


@pytest.mark.parametrize("step", [61, 89])
def test_what_is_returned_is_what_is_stored_wherever_counting_is_interrupted(
    project: Path, raised: type[BaseException], step: int
) -> None:
    nth, reached = 1, True
    while reached:
        sink, lines, reached = Sink(), 0, False

        def tracer(frame: Any, event: str, argument: Any) -> Any:
            nonlocal lines
            if not frame.f_code.co_filename.endswith(COUNTING):
                return None
            lines += event == "line"
            if lines == nth:  # noqa: B023
                lines += 1
                signal.raise_signal(signal.SIGUSR1)
            return tracer

        manager = make_manager(["json_storage"])
        manager.register(sink)
        run = Recorder(
            {"a": 1}, manager=manager, seed=1, experiments_dir="experiments", warn=lambda text: None
        ).start()
        run.episode(reward=1.0, phase="evaluation")
        run.episodes(reward=[float(n) for n in range(CHUNK - 1)])
        before = sys.gettrace()
        for one in CALLS.values():
            sys.settrace(tracer)
            try:
                one(run, 7)
            except raised:
                reached = True
            finally:
                sys.settrace(before)
        run.episode(reward=8.0)
        run.end()
        assert run.experiment is not None
        assert document(run.experiment) == Path(f"experiments/{run.id}.json").read_bytes()
        assert sink.experiment is run.experiment
        assert run.experiment.results.episodes == CHUNK + 3
        nth += step
    assert nth > 2 * step
