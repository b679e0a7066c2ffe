"""Turns the training loop of a library into an iterator of episodes."""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any

from qn_tracking.plugin import EpisodeFields


class RunOver(BaseException):
    """Raised inside the environment to end the training loop; it is not an error."""


class Relay:
    """A thread that trains, and waits after each episode for the request of the next one.

    The two threads never work at the same time, so that the order of events is the same in each
    run. `next` raises the errors of the training. `close` ends the thread: at once if it waits,
    else at its next step.
    """

    def __init__(self, play: Callable[[], None]) -> None:
        self._play = play
        self._thread: Thread | None = None
        self._requests: SimpleQueue[None] = SimpleQueue()
        self._results: SimpleQueue[EpisodeFields | BaseException] = SimpleQueue()
        self._over = False

    def episode(self, **fields: Any) -> None:
        """Called by the training thread at the end of an episode."""
        self._results.put(EpisodeFields(**fields))  # type: ignore[typeddict-item]
        self._requests.get()
        self.check()

    def check(self) -> None:
        """Called by the training thread at every step. Raises RunOver at the end of the run."""
        if self._over:
            raise RunOver

    def next(self) -> EpisodeFields:
        """Return the next episode. Raises the error of the training, RuntimeError if it ended."""
        if self._thread is None:
            self._thread = Thread(target=self._run, name="qn-tracking-trainer", daemon=True)
            self._thread.start()
        else:
            self._requests.put(None)
        try:
            result = self._results.get()
        except KeyboardInterrupt:
            self.close()
            raise
        if isinstance(result, BaseException):
            raise result
        return result

    def close(self) -> None:
        """End the thread, and wait for it."""
        self._over = True
        self._requests.put(None)
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            self._play()
            self._results.put(RuntimeError("the training ended before the run"))
        except RunOver:
            pass
        except BaseException as error:
            self._results.put(error)
