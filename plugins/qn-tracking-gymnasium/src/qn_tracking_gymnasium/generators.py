"""Global random state of the process, which a library uses during an episode."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


class Generators:
    """The state of the generators of `random`, NumPy and PyTorch that belongs to a run.

    Other code of the process uses the same generators. While `active`, they have the state of the
    run; afterwards their earlier state is restored, so that neither affects the other. PyTorch uses
    one thread meanwhile, because splitting a sum among threads changes its last bit.
    """

    def __init__(self) -> None:
        self._state: tuple[Any, ...] | None = None

    @contextmanager
    def active(self) -> Iterator[None]:
        """The generators have the state of the run."""
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
