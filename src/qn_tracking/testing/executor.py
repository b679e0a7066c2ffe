"""The contract of every executor."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Executor
from operator import add, truediv
from pathlib import Path
from typing import ClassVar

import pytest

from qn_tracking import config as configuration, ids
from qn_tracking.errors import QnError
from qn_tracking.records.model import (
    Membership,
)
from qn_tracking.studies.remote import RemoteRun, run_remotely
from qn_tracking.tracking.pool import Task


class ExecutorContract:
    """The contract of every executor. Define a fixture `executor`, new for each test."""

    config: ClassVar[str] = "mlp_dynamic_small"
    patience: ClassVar[float] = 10.0
    """Seconds after which a shutdown counts as hanging."""

    def _task(self, index: int, episodes: int) -> Task:
        id = ids.new_id()
        return Task(
            id=id,
            config=configuration.load(self.config),
            episodes=episodes,
            seed=index,
            plugins={},
            blocked=(),
            experiments_dir="experiments",
            tags={},
            notes=None,
            command=(),
            membership=Membership(id=id, index=index),
        )

    def test_it_returns_results(self, executor: Executor) -> None:
        futures = [executor.submit(add, number, 1) for number in range(20)]
        assert [future.result(60) for future in futures] == list(range(1, 21))

    def test_a_repeated_call_runs_again(self, executor: Executor) -> None:
        times = [executor.submit(time.time_ns).result(60) for _ in range(3)]
        assert len(set(times)) == 3

    def test_it_returns_errors(self, executor: Executor) -> None:
        future = executor.submit(truediv, 1, 0)
        assert isinstance(future.exception(60), ZeroDivisionError)
        assert executor.submit(add, 1, 1).result(60) == 2

    def test_a_run_has_the_same_result_as_a_local_one(self, executor: Executor) -> None:
        tasks = [self._task(index, 5) for index in range(3)]
        there = [
            future.result(120) for future in [executor.submit(run_remotely, task) for task in tasks]
        ]
        for task, played in zip(tasks, there, strict=True):
            here = run_remotely(task)
            assert isinstance(played, RemoteRun)
            assert (played.id, played.status) == (task.id, "completed"), played.error
            assert len(played.episodes) == 5
            assert played.exact == here.exact

    def test_it_returns_a_failed_run(self, executor: Executor) -> None:
        from attrs import evolve

        wrong = configuration.from_mapping({"environment": {"type": "nope"}, "brain": {}})
        played = executor.submit(run_remotely, evolve(self._task(0, 1), config=wrong)).result(120)
        assert played.status == "failed"
        assert played.error is not None

    def test_interrupt_ends_a_run_after_its_episode(self, executor: Executor) -> None:
        interrupt = getattr(executor, "interrupt", None)
        if interrupt is None:
            pytest.skip("this executor has no interrupt")
        future = executor.submit(run_remotely, self._task(0, 1_000_000))
        end = time.monotonic() + 60
        while not future.running() and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(1.0)
        interrupt()
        played = future.result(60)
        assert played.status == "interrupted"
        assert len(played.episodes) < 1_000_000

    def test_shutdown_without_wait_returns_at_once(
        self, executor: Executor, tmp_path: Path
    ) -> None:
        """Running work is not waited for; it ends by itself."""
        executor.submit(add, 1, 1).result(60)
        released = tmp_path / "released"
        # If shutdown waits, this ends the work before its 30 s.
        given_up = threading.Timer(self.patience, released.touch)
        try:
            # A built-in function, because a worker may lack the packages of the tests.
            begun = executor.submit(exec, _WORK.format(path=str(released)))
            end = time.monotonic() + 60
            while not (begun.running() or begun.done()) and time.monotonic() < end:
                time.sleep(0.01)
            assert not begun.done()
            given_up.start()
            executor.shutdown(wait=False, cancel_futures=True)
            assert not released.exists(), "it waited for its work"
        finally:
            given_up.cancel()
            released.touch()
        with pytest.raises((RuntimeError, QnError)):
            executor.submit(add, 1, 1)


_WORK = """
import os, time
end = time.monotonic() + 30
while not os.path.exists({path!r}) and time.monotonic() < end:
    time.sleep(0.02)
"""
"""Waits until a file exists, at most 30 s."""
