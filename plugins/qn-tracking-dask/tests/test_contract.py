"""The executor keeps the contract of executors, on a cluster that is there and on its own."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from qn_tracking.errors import PluginError, StorageError, UsageError
from qn_tracking.testing import ExecutorContract
from qn_tracking_dask.address import scheduler
from qn_tracking_dask.plugin import Dask

if TYPE_CHECKING:
    from conftest import Cluster


def made(spec: str, jobs: int | None = None) -> Executor:
    executor = Dask().make_executor(spec=spec, jobs=jobs)
    assert executor is not None
    return executor


class TestOnACluster(ExecutorContract):
    @pytest.fixture
    def executor(self, shared: Cluster) -> Iterator[Executor]:
        with made(shared.spec) as executor:
            yield executor


class TestOnOneOfItsOwn(ExecutorContract):
    @pytest.fixture
    def executor(self) -> Iterator[Executor]:
        with made("dask://local", 1) as executor:
            yield executor


def test_workers_of_its_own_keep_quiet_on_the_terminal() -> None:
    for _ in range(2):
        with made("dask://local", 1) as executor:
            logs = executor.submit(logging.getLogger("distributed.worker").isEnabledFor, 40)
            assert logs.result() is False
            assert executor.submit(signal.getsignal, signal.SIGINT).result() == signal.SIG_IGN


def test_nothing_is_left_of_it(shared: Cluster) -> None:
    before = {*threading.enumerate()}
    executor = made(shared.spec)
    future = executor.submit(add, 1, 1)
    # What has been submitted is waited for, and nothing more is taken.
    executor.shutdown()
    assert future.result(0) == 2
    executor.shutdown()
    with pytest.raises(RuntimeError):
        executor.submit(add, 1, 1)
    left = {*threading.enumerate()} - before
    assert [one.name for one in left if one.name == "qn-tracking-dask"] == []


def test_what_has_not_begun_can_be_cancelled(cluster: Cluster) -> None:
    with made(cluster.start().spec) as executor:  # without workers
        future = executor.submit(add, 1, 1)
        assert not future.running()
        assert future.cancel()
        assert future.cancelled()


@pytest.mark.parametrize(
    ("spec", "address"),
    [
        ("dask://host:8786", "tcp://host:8786"),
        ("dask://node-1.cluster.example:1", "tcp://node-1.cluster.example:1"),
        ("dask://10.0.0.7:65535", "tcp://10.0.0.7:65535"),
        ("dask://[::1]:8786", "tcp://[::1]:8786"),
        ("dask://[fe80::1%eth0]:8786", "tcp://[fe80::1%eth0]:8786"),
        ("dask://tcp://host:8786", "tcp://host:8786"),
        ("dask://tls://host:8786", "tls://host:8786"),
        ("dask://tls://[::1]:8786", "tls://[::1]:8786"),
        ("dask://local", None),
    ],
)
def test_what_names_a_scheduler(spec: str, address: str | None) -> None:
    assert scheduler(spec) == address


@pytest.mark.parametrize(
    "place",
    ["", "host", "host:", ":8786", "host:0", "host:65536", "host:8786/", "user@host:8786",
     "::1:8786", "http://host:8787", "ho st:1", "local:", "LOCAL", "host:१", "h:8786\n", "[x]:1"],
)  # fmt: skip
def test_what_names_none(place: str) -> None:
    with pytest.raises(UsageError, match="one of dask://HOST:PORT, ") as raised:
        Dask().make_executor(spec=f"dask://{place}", jobs=None)
    assert "\n" not in str(raised.value)


def test_another_scheme_is_left_to_others() -> None:
    assert Dask().make_executor(spec="ray://host:1", jobs=None) is None


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        (None, StorageError, "no such file"),
        ("{", StorageError, "not JSON"),
        ("[]", StorageError, "address: expected text"),
        ('{"address": 3}', StorageError, "address: expected text"),
        ('{"address": "inproc://1/2"}', UsageError, "not the address of a scheduler"),
    ],
)
def test_a_scheduler_file_that_does_not_tell(
    tmp_path: Path, text: str | None, error: type[Exception], said: str
) -> None:
    file = tmp_path / "scheduler.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(error, match=said):
        scheduler(f"dask://{file}")


def test_where_no_scheduler_is(shared: Cluster) -> None:
    with pytest.raises(PluginError, match="no scheduler answers"):
        made("dask://127.0.0.1:9")
