"""What is put in arrives, in order and once, also at a server that fails for a while."""

from __future__ import annotations

from threading import Event
from time import sleep

from qn_tracking.tracking.outbox import Outbox


def test_all_arrives_in_order_and_in_batches() -> None:
    batches: list[list[int]] = []
    box: Outbox[int] = Outbox(batches.append, size=7, seconds=0.01)
    for number in range(100):
        box.put(number)
    assert box.close(300) == []
    assert [number for batch in batches for number in batch] == list(range(100))
    assert max(map(len, batches)) <= 7


def test_it_goes_out_before_the_end() -> None:
    arrived = Event()
    box: Outbox[str] = Outbox(lambda batch: arrived.set(), seconds=0.01)
    box.put("now")
    assert arrived.wait(300)
    assert box.close(300) == []


def test_a_server_that_comes_back_gets_everything_in_order() -> None:
    seen: list[int] = []
    tries = 0

    def deliver(batch: list[int]) -> None:
        nonlocal tries
        tries += 1
        if tries <= 2:
            raise ConnectionError("down")
        seen.extend(batch)

    box: Outbox[int] = Outbox(deliver, size=10, seconds=0.01)
    for number in range(25):
        box.put(number)
    assert box.close(300) == []
    assert seen == list(range(25))
    assert box.error is None


def test_a_client_that_exits_is_tried_again_like_others() -> None:
    said: list[BaseException | None] = []

    def deliver(batch: list[int]) -> None:
        if not said:
            said.append(None)
            raise SystemExit(2)
        said.append(box.error)

    box: Outbox[int] = Outbox(deliver, seconds=0.01)
    box.put(1)
    assert box.close(300) == []
    assert isinstance(said[1], SystemExit)
    assert box.error is None


def test_what_cannot_be_delivered_is_given_back() -> None:
    tried = Event()

    def deliver(batch: list[int]) -> None:
        tried.set()
        raise ConnectionError("down")

    box: Outbox[int] = Outbox(deliver, seconds=0.01)
    for number in range(5):
        box.put(number)
    assert tried.wait(300)
    assert box.close(0.5) == [0, 1, 2, 3, 4]
    assert isinstance(box.error, ConnectionError)
    assert box.close(0.5) == [0, 1, 2, 3, 4]


def test_a_delivery_that_hangs_is_left_behind_with_its_items() -> None:
    hold = Event()
    box: Outbox[int] = Outbox(lambda batch: hold.wait(300) and None, seconds=0.01)
    box.put(1)
    assert box.close(0.2) == [1]
    assert isinstance(box.error, TimeoutError)
    hold.set()


def test_a_server_that_answers_too_slowly_is_told_as_such() -> None:
    asked = Event()

    def deliver(batch: list[int]) -> None:
        asked.set()
        sleep(0.1)

    box: Outbox[int] = Outbox(deliver, size=1, seconds=0.01)
    for number in range(100):
        box.put(number)
    assert asked.wait(300)
    left = box.close(0.5)
    assert left == list(range(100 - len(left), 100))
    assert len(left) > 0
    assert str(box.error) == "not delivered within 0.5 s"


def test_what_has_arrived_in_time_leaves_no_error() -> None:
    box: Outbox[int] = Outbox(lambda batch: None, seconds=0.01)
    box.put(1)
    assert box.close(300) == []
    assert box.close(0) == []
    assert box.error is None
