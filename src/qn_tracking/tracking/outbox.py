"""For sinks on a network: a thread sends items in batches, and repeats until they arrive.

A simulation must not wait for a server. `put` costs less than a microsecond. `close` returns the
items that could not be delivered, for the sink to keep.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Condition, Thread
from time import monotonic
from typing import Generic, TypeVar

Item = TypeVar("Item")

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 10.0
"""Seconds between tries; the pause doubles after each failure."""


class Outbox(Generic[Item]):
    """A queue in memory, and the thread that empties it.

    `deliver` gets at most `size` items at a time, in order, at the latest `seconds` after the first
    of them was put in. If it raises, it gets the same items again, some of which may have arrived.
    It is called from one thread only, which is not the caller's.
    """

    def __init__(
        self,
        deliver: Callable[[list[Item]], None],
        *,
        size: int = 500,
        seconds: float = 1.0,
    ) -> None:
        self.error: BaseException | None = None
        """The error of the last try, or None; TimeoutError if `close` timed out."""
        self._deliver = deliver
        self._size, self._seconds = size, seconds
        self._items: deque[Item] = deque()
        self.put = self._items.append
        """Add an item. Never blocks, never raises."""
        self._change = Condition()
        self._end: float | None = None
        self._over = False
        self._thread = Thread(target=self._work, name="qn-tracking-outbox", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        return len(self._items)

    def close(self, timeout: float) -> list[Item]:
        """Deliver the remaining items; return those that are left after `timeout` seconds.

        Returned items may still arrive, because a running delivery is not cancelled. A second call,
        after an interrupt of the first, can only shorten the timeout.
        """
        with self._change:
            end = monotonic() + timeout
            self._end = end if self._end is None else min(self._end, end)
            self._change.notify()
        # A hanging `deliver` is abandoned: the thread ends with the program.
        self._thread.join(max(self._end - monotonic(), 0.0) + 0.1)
        with self._change:
            self._over = True
            left = list(self._items)
            if left and self.error is None:
                self.error = TimeoutError(f"not delivered within {round(timeout, 1):g} s")
        return left

    def _work(self) -> None:
        pause = 0.0
        while True:
            with self._change:
                if self._end is None:
                    self._change.wait(pause or self._seconds)
                elif pause:
                    self._change.wait(min(pause, max(self._end - monotonic(), 0.0)))
                end = self._end
            pause = self._empty(pause)
            if end is not None and (not self._items or monotonic() >= end or self._over):
                return

    def _empty(self, pause: float) -> float:
        """Deliver until the queue is empty or a try fails; return the pause before the next try."""
        items = self._items
        while items and not self._over:
            batch = [items[i] for i in range(min(self._size, len(items)))]
            try:
                self._deliver(batch)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # also a client that calls sys.exit: try again
                self.error = error
                return min(max(2 * pause, FIRST_PAUSE), LONGEST_PAUSE)
            with self._change:
                if self._over:  # `close` has returned the items
                    break
                self.error = None
                for _ in batch:
                    items.popleft()
        return 0.0
