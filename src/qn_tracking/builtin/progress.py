"""The sink that shows how far a run is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
from collections import deque
from time import perf_counter
from typing import TextIO

from qn_tracking.records.model import Episode, Experiment, RunInfo
from qn_tracking.render.text import clip, duration
from qn_tracking.tracking.hookspecs import hookimpl

BAR_SECONDS = 0.1
LINE_SECONDS = 10.0
WINDOW = 20


class Progress:
    """Episodes done, success rate and reward of the last 20, time left; on standard error."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._pause = BAR_SECONDS if self._live else LINE_SECONDS
        self._began = self._next = 0.0
        self._done = 0
        self._recent: deque[Episode] = deque(maxlen=WINDOW)
        self._drawn = False

    @hookimpl
    def run_start(self) -> None:
        self._began = perf_counter()
        self._next = self._began + self._pause

    @hookimpl
    def episode_end(self, run: RunInfo, episode: Episode) -> None:
        self._done += 1
        self._recent.append(episode)
        now = perf_counter()
        if now >= self._next:
            self._next = now + self._pause
            self._show(self.line(run.episodes, now - self._began))

    def line(self, episodes: int | None, elapsed: float) -> str:
        """The state in one line, without a line end."""
        parts = [f"{self._done}/{episodes}" if episodes else f"{self._done} episodes"]
        if episodes and self._live:
            filled = 20 * self._done // episodes
            parts.insert(0, "[" + "#" * filled + "-" * (20 - filled) + "]")
        known = [e.success for e in self._recent if e.success is not None]
        if known:
            parts.append(f"success {sum(known) / len(known):.0%}")
        rewards = [e.reward for e in self._recent if e.reward is not None]
        if rewards:
            parts.append(f"reward {sum(rewards) / len(rewards):.2f}")
        if episodes and self._done:
            parts.append(f"{duration(elapsed / self._done * (episodes - self._done))} left")
        return "  ".join(parts)

    def _show(self, line: str) -> None:
        if self._live:
            width = shutil.get_terminal_size().columns
            self._stream.write("\r\x1b[K" + clip(line, max(width - 1, 1)))
            self._drawn = True
        else:
            self._stream.write(line + "\n")
        self._stream.flush()

    def clear(self) -> None:
        """Takes the bar away, for another line to be printed."""
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._drawn = False

    @hookimpl
    def run_end(self, experiment: Experiment) -> None:
        self.clear()
