"""A loop that drives by itself, asked for its episodes one by one."""

from __future__ import annotations

import signal
import threading
from time import sleep

import pytest

from qn_tracking_gymnasium.relay import Relay


def test_player_and_consumer_never_work_at_the_same_time() -> None:
    order: list[str] = []

    def play() -> None:
        for number in range(100):
            order.append(f"played {number}")
            relay.episode(steps=number)

    relay = Relay(play)
    for number in range(5):
        assert relay.next() == {"steps": number}
        order.append(f"taken {number}")
    relay.close()
    assert order == [f"{what} {number}" for number in range(5) for what in ("played", "taken")]


def test_what_the_player_raises_comes_out() -> None:
    def play() -> None:
        relay.episode(steps=1)
        raise ZeroDivisionError("of the player")

    relay = Relay(play)
    relay.next()
    with pytest.raises(ZeroDivisionError, match="of the player"):
        relay.next()
    relay.close()


def test_a_player_that_just_stops_is_an_error() -> None:
    relay = Relay(lambda: None)
    with pytest.raises(RuntimeError, match="the training ended before the run"):
        relay.next()
    relay.close()


def test_an_interrupt_ends_a_player_that_is_at_work() -> None:
    def play() -> None:
        while True:
            relay.check()
            sleep(0.005)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    relay = Relay(play)
    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            relay.next()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert "qn-tracking-trainer" not in {thread.name for thread in threading.enumerate()}


def test_closing_before_the_first_episode_starts_nothing() -> None:
    relay = Relay(lambda: pytest.fail("played"))
    relay.close()
    assert "qn-tracking-trainer" not in {thread.name for thread in threading.enumerate()}
