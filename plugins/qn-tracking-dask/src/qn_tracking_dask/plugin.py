"""The entry point: makes the executor for `--executor dask://…`."""

from __future__ import annotations

from concurrent.futures import Executor

from qn_tracking import hookimpl
from qn_tracking_dask.address import scheduler


class Dask:
    """Makes the executor of a study on a Dask cluster."""

    @hookimpl
    def make_executor(self, spec: str, jobs: int | None) -> Executor | None:
        """Connects to the cluster, or starts a local one, before the study is declared.

        Raises UsageError for an invalid `spec`, StorageError for a file that cannot be
        read, and PluginError if no scheduler answers within a few seconds.
        """
        if spec.partition("://")[0] != "dask":
            return None
        address = scheduler(spec)
        # This import takes half a second.
        from qn_tracking_dask.executor import DaskExecutor

        return DaskExecutor(spec, address, jobs)
