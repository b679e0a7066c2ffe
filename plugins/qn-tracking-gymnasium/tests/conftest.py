"""Recorders, loops without a wrapper, and the installed programs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from qn_tracking import Episode, Recorder, hookimpl, make_manager

BIN = Path(sys.executable).parent


class Recorded:
    """A sink that keeps its episodes."""

    def __init__(self) -> None:
        self.episodes: list[Episode] = []
        self.warnings: list[str] = []

    @hookimpl
    def episode_end(self, episode: Episode) -> None:
        self.episodes.append(episode)

    def values(self, *names: str) -> list[tuple[Any, ...]]:
        return [tuple(getattr(one, name) for name in names) for one in self.episodes]


@contextmanager
def _recording(**more: Any) -> Iterator[tuple[Recorder, Recorded]]:
    """A real recorder, and a sink with its episodes and warnings."""
    recorded, manager = Recorded(), make_manager()
    manager.register(recorded, name="recorded")
    options: dict[str, Any] = {"warn": recorded.warnings.append, "name_slow": False, **more}
    with Recorder({"a": 1}, manager=manager, command=["test"], **options) as run:
        yield run, recorded


def _play(
    env: gymnasium.Env[Any, Any], seeds: range, actions: int = 7
) -> list[tuple[int, float, str]]:
    """Steps, sum of rewards and end of an episode for each seed, counted by hand."""
    found = []
    env.action_space.seed(actions)
    for seed in seeds:
        env.reset(seed=seed)
        steps, total, over, ended = 0, 0.0, False, False
        while not over:
            _, reward, ended, cut, _ = env.step(env.action_space.sample())
            steps, total, over = steps + 1, total + float(reward), ended or cut
        found.append((steps, total, "terminated" if ended else "truncated"))
    return found


@pytest.fixture
def recording() -> Callable[[], Any]:
    """`with recording() as (run, recorded)`."""
    return _recording


@pytest.fixture
def play() -> Callable[..., list[tuple[int, float, str]]]:
    """`play(env, seeds)`."""
    return _play


@pytest.fixture
def program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs one of the installed programs in an empty folder."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "gitconfig").write_text("[user]\n\tname = T\n\temail = t@example.org\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)

    def run(name: str, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BIN / name), *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **env},
        )

    return run
