"""The sweeps of faults: their log has each call in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


def test_a_call_that_another_thread_has_cut_in_two_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "slow"))
    from whole_calls import joined

    log = [
        "11 fsync(4</a>) = 0",
        "11 fsync(4</a> <unfinished ...>",
        "12 fsync(5</b>) = 0",
        "11 <... fsync resumed>) = -1 EIO (Input/output error) (INJECTED)",
        "12 write(1, <unfinished ...>",
    ]
    assert joined(log) == [
        "11 fsync(4</a>) = 0",
        "11 fsync(4</a>) = -1 EIO (Input/output error) (INJECTED)",
        "12 fsync(5</b>) = 0",
        "12 write(1, <unfinished ...>",
    ]
    del sys.modules["whole_calls"]
