"""The client of a scheduler. All of it runs in one event loop."""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pickle import loads
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from attrs import define

from qn_tracking.plugin import PluginError, QnError, describe, warn_on_stderr

if TYPE_CHECKING:
    from distributed import Client, LocalCluster

GONE = "the scheduler is gone"
SILENT = "the scheduler does not answer"
PATIENCE = float(os.environ.get("QN_DASK_PATIENCE", 10.0))
"""Seconds to wait for an answer of a scheduler."""
PAUSE = 2.0
"""Seconds between two checks of the cluster."""
CLOSE_SECONDS = 2.0
"""Seconds to disconnect from a scheduler."""


_PACKAGES = {"qn_tracking": "qn-tracking", "qn_tracking_dask": "qn-tracking-dask"}
"""The distributions that every worker needs, by the names of their modules."""


def _version(package: str) -> str | None:
    with suppress(PackageNotFoundError):
        return version(package)
    return None


@define(eq=False)
class _Pending:
    """A future, the task of the event loop that completes it, and whether its call has started."""

    future: Future[Any]
    follower: asyncio.Task[None]
    begun: bool = False

    def begin(self) -> bool:
        """Sets the future running, once; returns False if it was cancelled before."""
        if not self.begun:
            self.begun = True
            self.future.set_running_or_notify_cancel()
        return not self.future.cancelled()


class Connection:
    """Sends calls to a cluster and returns their results.

    If a worker is lost, the scheduler gives its task to another one, a limited number of times. If
    the scheduler is lost, all its tasks fail.
    """

    def __init__(self, spec: str) -> None:
        self._lost: QnError | None = None
        self._spec = spec
        self._stop_event = f"qn-tracking-{uuid4().hex}"
        self._pending: dict[str, _Pending] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._client: Client | None = None
        self._local: LocalCluster | None = None
        self._here: dict[str, str] = {}

    async def open(self, address: str | None, jobs: int | None) -> None:
        """Connects, or starts a cluster. Raises PluginError if no scheduler answers."""
        quiet = _keep_quiet()
        from distributed import Client
        from distributed.versions import VersionMismatchWarning

        from qn_tracking_dask.worker import TOPIC, versions

        if address is None:
            try:
                self._local = await _local_cluster(jobs, quiet=quiet)
            except (OSError, RuntimeError) as error:
                raise self._error("the cluster did not start", describe(error)) from error
        try:
            with warnings.catch_warnings():
                # A table of many lines; each worker reports the versions that matter.
                warnings.simplefilter("ignore", VersionMismatchWarning)
                # The client's own timeout does not cover a server with another protocol.
                async with asyncio.timeout(PATIENCE + 1):
                    self._client = Client(
                        self._local or address,
                        timeout=PATIENCE,
                        name="qn-tracking",
                        set_as_default=False,
                        asynchronous=True,
                    )
                    await self._client
        except (OSError, ImportError) as error:
            raise self._error("no scheduler answers", describe(error)) from error
        self._here = versions()
        self._client.subscribe_topic(TOPIC, self._on_event)
        self._watcher = asyncio.create_task(self._watch())

    def _error(self, cause: str, hint: str | None = None) -> PluginError:
        return PluginError(cause, file=f"--executor {self._spec}", hint=hint)

    # -------------------------------------------------------------------------------------- tasks

    def packed(self, function: Callable[..., Any], args: Any, kwargs: Any) -> bytes:
        """Return a call as bytes for a worker. Raises the errors of pickle."""
        from distributed.protocol.pickle import dumps

        from qn_tracking_dask.worker import Call

        packed: bytes = dumps(Call(self._stop_event, self._here, function, args, kwargs))
        return packed

    async def run(self, future: Future[Any], call: bytes) -> None:
        """Runs a packed call on a worker, and completes the future."""
        key = f"qn-run-{uuid4().hex}"
        follower = asyncio.current_task()
        assert follower is not None
        loop = asyncio.get_running_loop()

        def ended(future: Future[Any]) -> None:
            if future.cancelled():
                loop.call_soon_threadsafe(follower.cancel)

        pending = self._pending[key] = _Pending(future, follower)
        future.add_done_callback(ended)
        try:
            result = await self._result(key, call)
        except asyncio.CancelledError as cancelled:
            cause = cancelled.args[0] if cancelled.args else "disconnected before it ended"
            error: BaseException | None = self._error(cause)
        except BaseException as raised:  # on the worker, whatever it is
            error = raised
        else:
            error = None
        del self._pending[key]
        if pending.begin():
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

    async def _result(self, key: str, call: bytes) -> Any:
        """Return the result of a task. Raises its error, or PluginError if the cluster lost it."""
        from distributed.scheduler import KilledWorker

        assert self._client is not None
        if self._lost is not None:
            raise self._lost
        task = self._client.submit(loads, call, key=key, pure=False)
        try:
            return await task
        except ImportError as error:
            package = _PACKAGES.get((error.name or "").partition(".")[0])
            if package is None:
                raise
            hint = f"install {package} {_version(package)} there, and restart it"
            raise self._error(f"a worker has no {package}", hint) from None
        except KilledWorker as error:
            cause = f"its worker died, {error.allowed_failures + 1} times"
            raise self._error(cause) from None
        except CancelledError as error:
            raise self._why(getattr(error, "reason", "unknown")) from None
        finally:
            task.release()

    def _why(self, reason: str) -> QnError:
        """The error for a task that the client gave up."""
        assert self._client is not None
        if self._client.status != "running" or reason == "scheduler-connection-lost":
            self._lose(GONE)
        return self._lost or self._error(f"cancelled on the cluster: {reason}")

    def _on_event(self, event: tuple[float, Any]) -> None:
        """A run has started, of this study or of another one."""
        key = event[1].get("begun") if isinstance(event[1], dict) else None
        if key in self._pending:
            self._pending[key].begin()

    def _lose(self, cause: str) -> None:
        if self._lost is None:
            self._lost = self._error(cause)

    # ------------------------------------------------------------------------------------ cluster

    async def _watch(self) -> None:
        """Warns if the cluster has no workers, does not answer, or has workers with threads.

        And of workers with other versions of our packages.
        """
        assert self._client is not None
        empty = shared = silent = False
        seen: set[str] = set()
        while True:
            try:
                async with asyncio.timeout(PATIENCE):
                    threads = await self._client.nthreads()
            except OSError:
                if self._client.status != "running":
                    return  # the futures report it
                if not silent:
                    self._warn(f"{SILENT}; waiting for it")
                silent = True
            else:
                silent = False
                if not threads and not empty:
                    self._warn("there are no workers; waiting for one")
                empty = not threads
                if not shared and any(number > 1 for number in threads.values()):
                    shared = True
                    self._warn(
                        "some workers have several threads, in which runs take turns"
                        " (start them with --nthreads 1)"
                    )
                await self._compare_versions(sorted(threads.keys() - seen))
                seen |= threads.keys()
            await asyncio.sleep(PAUSE)

    async def _compare_versions(self, workers: list[str]) -> None:
        """Warns of workers with other versions of us; asks them by what is in every Python."""
        assert self._client is not None
        for package in _PACKAGES.values() if workers else ():
            here = _version(package)
            found: dict[str, Any] = {}
            with suppress(OSError):
                async with asyncio.timeout(PATIENCE):
                    found = await self._client.run(
                        version, package, workers=workers, on_error="return"
                    )
            others: dict[str, list[str]] = {}
            for worker, there in found.items():
                missing = isinstance(there, PackageNotFoundError)
                if here is not None and there != here and (missing or isinstance(there, str)):
                    others.setdefault("none" if missing else there, []).append(worker)
            for there, which in others.items():
                more = f" and {len(which) - 1} more" if which[1:] else ""
                self._warn(
                    f"worker {which[0]}{more}: has {package} {there}, the study was started with"
                    f" {here} (install it there, and restart the worker)"
                )

    def _warn(self, text: str) -> None:
        warn_on_stderr(f"--executor {self._spec}: {text}")

    async def interrupt(self) -> None:
        """Ends the runs in progress after their current episode.

        Runs that wait for another worker, because theirs was lost, are given up.
        """
        from distributed import Event

        assert self._client is not None
        waiting: set[str] = set()
        try:
            async with asyncio.timeout(PATIENCE):
                await Event(self._stop_event, client=self._client).set()
            while self._pending:
                async with asyncio.timeout(PATIENCE):
                    found = await self._client.processing()
                busy = {key for keys in found.values() for key in keys}
                before, waiting = waiting, {*self._pending} - busy
                # The result of one that has just ended may not have arrived yet: check twice.
                for key in before & waiting & {*self._pending}:
                    self._pending[key].follower.cancel("its worker was lost")
                await asyncio.sleep(PAUSE)
        except Exception:
            self._lose(SILENT)
            for pending in self._pending.values():
                pending.follower.cancel(SILENT)

    async def leave(self, *, cancel: bool, give_up: bool) -> None:
        """Waits for the running calls, or gives them up, and closes; never raises."""
        if cancel:
            for pending in self._pending.values():
                pending.future.cancel()
        followers = [pending.follower for pending in self._pending.values()]
        if give_up:
            for follower in followers:
                follower.cancel()
        await asyncio.gather(*followers, return_exceptions=True)
        if self._watcher is not None:
            self._watcher.cancel()
        for closing, seconds in (
            (self._clear_event(), CLOSE_SECONDS),
            (self._close_client(), CLOSE_SECONDS),
            # After four seconds it kills workers that do not end.
            (self._close_cluster(), 2 * PATIENCE),
        ):
            with suppress(Exception):
                async with asyncio.timeout(seconds):
                    await closing

    async def _clear_event(self) -> None:
        """Clears the event, which the scheduler would keep for ever."""
        if self._client is not None and self._lost is None:
            from distributed import Event

            await Event(self._stop_event, client=self._client).clear()

    async def _close_client(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def _close_cluster(self) -> None:
        if self._local is not None:
            await self._local.close()


async def _local_cluster(jobs: int | None, *, quiet: bool) -> LocalCluster:
    from dask.system import CPU_COUNT
    from distributed import LocalCluster

    from qn_tracking_dask.worker import Attendant

    return await LocalCluster(
        n_workers=jobs or CPU_COUNT,
        threads_per_worker=1,
        memory_limit=0,
        # There is an HTTP server in any case: use a free port.
        dashboard_address="127.0.0.1:0",
        scheduler_kwargs={"dashboard": False},
        plugins=(Attendant(quiet=quiet),),
        asynchronous=True,
    )


def _keep_quiet() -> bool:
    """Hides Dask's log on stderr; returns False if the user has configured it.

    Must be called before the first import of `distributed`, which sets up its loggers.
    """
    import dask

    own = {"logging", "logging-file-config"}
    config = dask.config.config
    names = ("distributed", "distributed.client", "distributed.gc", "tornado.application")
    ours = dict.fromkeys(names, "critical")
    if not own & {*config, *config.get("distributed", {})}:
        dask.config.set({"logging": ours})
    return bool(config.get("logging") == ours)
