"""Turns a loop that somebody else drives into one that is asked for its episodes, one by one."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any

from qn_tracking.plugin import EpisodeFields


class RunOver(BaseException):
    """Raised inside of the environment, to end the loop that plays in it: no error of anybody."""


class Relay:
    """A thread that plays, and waits after each episode until the next one is asked for.

    The two never work at the same time, so the order of everything is the same in each run. What
    the loop raises comes out of `next`. `close` ends the thread: at once where it waits, else at
    its next step.
    """

    def __init__(self, play: Callable[[], None]) -> None:
        self._play = play
        self._thread: Thread | None = None
        self._asked: SimpleQueue[None] = SimpleQueue()
        self._told: SimpleQueue[EpisodeFields | BaseException] = SimpleQueue()
        self._over = False

    def episode(self, **fields: Any) -> None:
        """The player's side: an episode is over."""
        self._told.put(EpisodeFields(**fields))  # type: ignore[typeddict-item]
        self._asked.get()
        self.check()

    def check(self) -> None:
        """The player's side, at every step. Raises RunOver if nobody wants more."""
        if self._over:
            raise RunOver

    def next(self) -> EpisodeFields:
        """The next episode. Raises what the player raised, RuntimeError if it just stopped."""
        if self._thread is None:
            self._thread = Thread(target=self._run, name="qn-tracking-trainer", daemon=True)
            self._thread.start()
        else:
            self._asked.put(None)
        try:
            told = self._told.get()
        except KeyboardInterrupt:
            self.close()
            raise
        if isinstance(told, BaseException):
            raise told
        return told

    def close(self) -> None:
        """Nobody wants more. Returns when the thread has ended."""
        self._over = True
        self._asked.put(None)
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._play()
            self._told.put(RuntimeError("the training ended before the run"))
        except RunOver:
            pass
        except BaseException as error:
            self._told.put(error)
