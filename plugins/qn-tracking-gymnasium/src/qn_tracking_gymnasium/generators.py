"""The global state of this process that a library cannot do without, lent to it."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


class Generators:
    """What a run has drawn so far from the generators of `random`, NumPy and PyTorch.

    Others of this process draw from them, too: while the run is at work they are its own, and
    afterwards they are as they were, so that neither notices the other. PyTorch works on one thread
    meanwhile: how a sum is split among threads changes its last bit.
    """

    def __init__(self) -> None:
        self._state: tuple[Any, ...] | None = None

    @contextmanager
    def lent(self) -> Iterator[None]:
        """The run is at work."""
        torch = sys.modules.get("torch")
        threads: int | None = None if torch is None else torch.get_num_threads()
        theirs = _state(torch)
        if self._state is not None:
            _restore(self._state, torch)
        if torch is not None:
            torch.set_num_threads(1)
        try:
            yield
        finally:
            torch = sys.modules.get("torch")  # the run may have imported it
            self._state = _state(torch)
            _restore(theirs, torch)
            if torch is not None and threads is not None:
                torch.set_num_threads(threads)


def _state(torch: Any) -> tuple[Any, ...]:
    return (
        random.getstate(),
        np.random.get_state(legacy=False),
        None if torch is None else torch.get_rng_state(),
    )


def _restore(state: tuple[Any, ...], torch: Any) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])
    if torch is not None and state[2] is not None:  # None: it was not imported then
        torch.set_rng_state(state[2])
