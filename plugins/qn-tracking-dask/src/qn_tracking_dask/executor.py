"""Tasks of a Dask cluster behind `concurrent.futures`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from threading import Thread
from typing import Any

from qn_tracking_dask.connection import PATIENCE, Connection


class DaskExecutor(Executor):
    """Runs functions as tasks of a Dask cluster.

    The client has its own thread, so that no caller waits for the network and Ctrl-C interrupts
    none of Dask's code. A future is running once its task has started on a worker; before that, it
    can be cancelled. `interrupt` ends the runs in progress (calls of `run_remotely`) after their
    current episode. Every future ends, whatever happens to the cluster.
    """

    def __init__(self, spec: str, address: str | None, jobs: int | None) -> None:
        """Connects to the scheduler at `address`, or starts a local cluster of `jobs` processes.

        Raises PluginError if no scheduler answers within a few seconds.
        """
        self._connection = Connection(spec)
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._run, name="qn-tracking-dask", daemon=True)
        self._thread.start()
        try:
            self._soon(self._connection.open(address, jobs)).result()
        except BaseException:
            self.shutdown(wait=False, cancel_futures=True)
            raise

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Sends a call to the cluster; if its scheduler is gone, the future has the error."""
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        call = self._connection.packed(fn, args, kwargs)
        future: Future[Any] = Future()
        self._soon(self._connection.run(future, call))
        return future

    def interrupt(self) -> None:
        """Ends the runs in progress after their current episode; returns at once."""
        self._soon(self._connection.interrupt())

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Disconnects from the cluster, and stops a local one.

        With `cancel_futures` and without `wait`, running calls are abandoned too, and this returns
        within a few seconds in any case.
        """
        self._closed = True
        if not self._thread.is_alive():
            return
        give_up = cancel_futures and not wait
        leaving = self._soon(self._connection.leave(cancel=cancel_futures, give_up=give_up))
        leaving.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._loop.stop))
        if wait or give_up:
            leaving.result()
            self._thread.join(PATIENCE)

    def _run(self) -> None:
        # The futures report the errors of the client's own tasks.
        self._loop.set_exception_handler(lambda loop, context: None)
        self._loop.run_forever()
        self._loop.close()

    def _soon(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)
