"""The contract of every sink."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from math import nan
from pathlib import Path
from typing import Any

import pytest

from qn_tracking.records.model import (
    Subject,
)
from qn_tracking.testing.builders import EPISODE, HOSTILE, ended, record, started
from qn_tracking.tracking.hookspecs import RUN_HOOKS
from qn_tracking.tracking.manager import implemented, make_manager, register


class SinkContract:
    """What every sink must do. Define `make_sink`, and `received` if it can be asked."""

    def make_sink(self, tmp_path: Path) -> object:
        """Make a new sink, which has not started."""
        raise NotImplementedError

    def received(self, sink: Any) -> int | None:
        """Return how many episodes arrived at the sink's destination; None if unknown."""
        return None

    def _arrived(self, sink: object, episodes: int) -> None:
        assert self.received(sink) in (None, episodes)

    def _sent(self, tmp_path: Path, episodes: Sequence[Mapping[str, Any]], **options: Any) -> None:
        """A run with these episodes, as `record` makes it, reaches the destination."""
        sink = self.make_sink(tmp_path)
        *_, experiment = record(episodes, sinks=[sink], experiments_dir=tmp_path / "e", **options)
        assert experiment.failures == ()
        self._arrived(sink, len(episodes))

    def test_it_implements_only_hooks_of_a_run(self, tmp_path: Path) -> None:
        found = implemented(self.make_sink(tmp_path))
        assert set(found) & set(RUN_HOOKS), "no hook is marked with @hookimpl"
        # A provider is a separate object, made without the options of a sink.
        assert set(found) <= set(RUN_HOOKS), "a hook is misspelt, or does not belong to a run"
        # Checks arguments, and methods without @hookimpl.
        register(make_manager(), "sink", self.make_sink(tmp_path))

    def test_a_run_with_episodes(self, tmp_path: Path) -> None:
        self._sent(tmp_path, [EPISODE] * 5)

    def test_many_episodes_at_once(self, tmp_path: Path) -> None:
        sink = self.make_sink(tmp_path)
        recorder = started(sink, tmp_path)
        recorder.episodes([EPISODE] * 3)
        recorder.episode(**EPISODE)
        recorder.episodes(success=[True, False], reward=[0.5, 1.5], loss=[0.25, 0.5])
        ended(recorder)
        self._arrived(sink, 6)

    def test_episodes_of_another_phase(self, tmp_path: Path) -> None:
        """`received` counts those of the main phase, or all: a sink may leave the others out."""
        sink = self.make_sink(tmp_path)
        recorder = started(sink, tmp_path)
        recorder.episode(**EPISODE)
        with recorder.phase("evaluation"):
            recorder.episode(**EPISODE)
            recorder.episodes([EPISODE] * 2)
        recorder.episode(**EPISODE)
        ended(recorder)
        assert self.received(sink) in (None, 2, 5)

    def test_values_between_episodes_and_artifacts(self, tmp_path: Path) -> None:
        sink = self.make_sink(tmp_path)
        file = tmp_path / "weights.bin"
        file.write_bytes(b"1")
        recorder = started(sink, tmp_path)
        recorder.log({"loss": 0.5, "other/loss": nan})
        recorder.episode(**EPISODE)
        recorder.artifact(file)
        recorder.log({"loss": float("inf")}, step=7)
        ended(recorder)
        self._arrived(sink, 1)

    def test_a_run_without_any(self, tmp_path: Path) -> None:
        self._sent(tmp_path, [])

    def test_fields_that_do_not_apply_are_absent(self, tmp_path: Path) -> None:
        self._sent(tmp_path, [{}, {"steps": 3}, {"metrics": {"only_here": 1.0}}], seed=None)

    def test_numbers_that_are_not_finite(self, tmp_path: Path) -> None:
        odd = {"reward": nan, "metrics": {"loss": float("inf"), "tiny": -5e-324, "huge": 1e308}}
        self._sent(tmp_path, [odd], warn=lambda text: None)

    @pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
    def test_text_is_data(self, tmp_path: Path, text: str) -> None:
        self._sent(
            tmp_path,
            [{"termination": text, "metrics": {text: 1.0}, "counts": {f"n {text}": 2}}],
            config={"name": text, text: {text: [text]}},
            subject=Subject(environment=text, brain=text),
            tags={text: text},
            notes=text,
        )

    @pytest.mark.parametrize("status", ["failed", "interrupted"])
    def test_a_run_that_failed_or_was_interrupted(self, tmp_path: Path, status: str) -> None:
        error = RuntimeError("the simulation broke") if status == "failed" else None
        self._sent(tmp_path, [EPISODE] * 2, status=status, error=error)

    def test_runs_one_after_the_other_and_side_by_side(self, tmp_path: Path) -> None:
        folders = [tmp_path / name for name in "abc"]
        for folder in folders:
            folder.mkdir()
        first, *both = (self.make_sink(folder) for folder in folders)
        record([EPISODE] * 3, sinks=[first], experiments_dir=tmp_path / "e")
        recorders = [started(sink, tmp_path, seed) for seed, sink in enumerate(both)]
        for count in range(4):
            recorders[0].episode(**EPISODE)
            if count % 2:
                recorders[1].episode(**EPISODE)
        for recorder in recorders:
            ended(recorder)
        for sink, episodes in zip([first, *both], (3, 4, 2), strict=True):
            self._arrived(sink, episodes)

    def test_no_thread_keeps_the_program_from_ending(self, tmp_path: Path) -> None:
        before = set(threading.enumerate())
        record([EPISODE], sinks=[self.make_sink(tmp_path)], experiments_dir=tmp_path / "e")
        left = [one for one in set(threading.enumerate()) - before if not one.daemon]
        assert left == []
