"""Builders of records, and a manual clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qn_tracking import config as configuration
from qn_tracking.records.model import (
    Config,
    Episode,
    Experiment,
    RunInfo,
)
from qn_tracking.tracking.hookspecs import hookimpl
from qn_tracking.tracking.manager import make_manager, register
from qn_tracking.tracking.recorder import Recorder


class FakeClock:
    """A clock for `Recorder(clock=…)` that moves only by `advance`."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self._start, self._passed = start, 0.0

    def time(self) -> float:
        """Return seconds since 1970."""
        return self._start + self._passed

    def perf_counter(self) -> float:
        """Return seconds since this clock was made."""
        return self._passed

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self._passed += seconds


class _Received:
    """Keeps what a sink receives."""

    def __init__(self) -> None:
        self.run: RunInfo
        self.episodes: list[Episode] = []

    @hookimpl
    def run_start(self, run: RunInfo) -> None:
        self.run = run

    @hookimpl
    def episode_end(self, episode: Episode) -> None:
        self.episodes.append(episode)


def make_config(data: Mapping[str, Any] | None = None) -> Config:
    """Make a configuration from a mapping, by default a small one."""
    return configuration.from_mapping(
        {"policy": {"epsilon": 0.1}, "steps": 20} if data is None else data
    )


def record(
    episodes: Sequence[Mapping[str, Any]] = (),
    *,
    sinks: Sequence[object] = (),
    status: str = "completed",
    error: BaseException | None = None,
    config: Config | Mapping[str, Any] | None = None,
    clock: FakeClock | None = None,
    **options: Any,
) -> tuple[RunInfo, tuple[Episode, ...], Experiment]:
    """A run through a real recorder: what its sinks received.

    `episodes` are keyword arguments of `Recorder.episode`; a second passes before each. `options`
    are those of `Recorder`. Raises what a sink raised at the start or at the end.
    """
    manager = make_manager()
    received = _Received()
    for number, sink in enumerate((*sinks, received)):
        register(manager, f"sink{number}", sink)
    manager.check_pending()
    clock = clock or FakeClock()
    options = {"seed": 1, "command": ["test"], **options}
    given = config if isinstance(config, Config) else make_config(config)
    recorder = Recorder(given, manager=manager, clock=clock, **options).start()
    for episode in episodes:
        clock.advance(1.0)
        recorder.episode(**episode)
    experiment = recorder.end(status, error)
    assert experiment is not None
    return received.run, tuple(received.episodes), experiment


def started(sink: object, tmp_path: Path, seed: int = 1) -> Recorder:
    """A run that has started, for a sink."""
    manager = make_manager()
    register(manager, "sink", sink)
    return Recorder(
        make_config(),
        manager=manager,
        seed=seed,
        experiments_dir=tmp_path / "e",
        warn=lambda text: None,
    ).start()


def ended(recorder: Recorder) -> None:
    """Ends a run in which no sink has failed."""
    experiment = recorder.end()
    assert experiment is not None
    assert experiment.failures == ()


def make_run(**fields: Any) -> RunInfo:
    """Make a run that is about to start; `fields` are options of `Recorder`, and `config`."""
    return record(**fields)[0]


def make_episode(index: int = 0, **fields: Any) -> Episode:
    """Make an episode; `fields` are keyword arguments of `Recorder.episode`."""
    return record([{}] * index + [fields or EPISODE])[1][-1]


def make_experiment(episodes: Sequence[Mapping[str, Any]] | int = 3, **fields: Any) -> Experiment:
    """Make a run that has ended, from its episodes or their number; `fields` as in `record`."""
    given = [EPISODE] * episodes if isinstance(episodes, int) else episodes
    return record(given, **fields)[2]


EPISODE: Mapping[str, Any] = {
    "success": True,
    "termination": "goal_reached",
    "steps": 12,
    "reward": 3.5,
    "seed": 7,
    "counts": {"hits": 2},
    "metrics": {"loss": 0.25},
}
"""An episode with all fields."""

HOSTILE = (
    "plain",
    "",
    "naïve 虫 🪱",
    "'; DROP TABLE experiments; --",
    "[/nope] | `tick` <b>&amp; \\1 %s {x} ${y}",
    "../../etc/passwd",
    "line\nline\r\x1b[31m\x00\u202e",
)
"""Texts that cause errors where text is not treated as data."""
