"""The sink that shows how far a run is: one line on a terminal, plain lines in a file or pipe."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TextIO

from qn_tracking.records.model import Episode, Experiment, RunInfo
from qn_tracking.render.progress import REDRAW_SECONDS, Display, bar, time_left
from qn_tracking.render.text import counted
from qn_tracking.tracking.hookspecs import hookimpl

WINDOW = 20


class Progress:
    """Episodes done, success rate and mean reward of the last 20, and the time that is left.

    It writes on standard error.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._display = Display(stream, delay=REDRAW_SECONDS)
        self._done = self._before = 0
        self._recent: deque[Episode] = deque(maxlen=WINDOW)

    @hookimpl
    def run_start(self, run: RunInfo) -> None:
        self._done = self._before = run.lives[-1].episodes if run.lives else 0
        self._display.restart()

    @hookimpl
    def episode_end(self, run: RunInfo, episode: Episode) -> None:
        if episode.phase is not None:  # an evaluation is no progress
            return
        self._done += 1
        self._recent.append(episode)
        self._display(lambda: self.line(run.episodes, self._display.elapsed))

    @hookimpl
    def episodes_end(self, run: RunInfo, episodes: Sequence[Episode]) -> None:
        for episode in episodes[-WINDOW:]:
            self.episode_end(run, episode)
        if episodes[-1].phase is None:
            self._done += len(episodes[:-WINDOW])

    def line(self, episodes: int | None, elapsed: float) -> str:
        """The state in one line, without a line end."""
        parts = [f"{self._done}/{episodes}" if episodes else counted(self._done, "episode")]
        if episodes and self._display.live:
            parts.insert(0, bar(self._done, episodes))
        known = [e.success for e in self._recent if e.success is not None]
        if known:
            parts.append(f"success {sum(known) / len(known):.0%}")
        rewards = [e.reward for e in self._recent if e.reward is not None]
        if rewards:
            parts.append(f"reward {sum(rewards) / len(rewards):.2f}")
        now, total = self._done - self._before, (episodes or 0) - self._before
        if episodes and (left := time_left(elapsed, now, total)):
            parts.append(left)
        return "  ".join(parts)

    def clear(self) -> None:
        """Takes the line away, for another one to be printed."""
        self._display.clear()

    @hookimpl
    def run_end(self, experiment: Experiment) -> None:
        self.clear()
