"""The tracking server, or a database instead of one: this module makes all requests to MLflow.

Every error is one line that names the server. MLflow's own client repeats a request for minutes if
no server answers, so `Server` first makes one request of its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from qn_tracking.plugin import ConfigError, QnError, StorageError, describe, redact_text
from qn_tracking_mlflow import names
from qn_tracking_mlflow.content import Value

if TYPE_CHECKING:
    from mlflow.entities import Run

PER_CALL = 1000
"""The number of metrics that MLflow accepts in one request."""
_SECONDS = 5.0
_MANY = 500


def uri_of(given: object) -> str:
    """Return the given URI, or MLFLOW_TRACKING_URI. Raises ConfigError if there is neither.

    Otherwise MLflow would create a database in the current folder.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") if given is None else given
    if type(uri) is str and uri and "\x00" not in uri:
        return uri
    cause = "no tracking server is named" if uri in (None, "") else f"expected text, got {uri!r}"
    hint = "MLFLOW_TRACKING_URI, or the option uri"
    raise ConfigError(cause, file="plugin mlflow", field="uri", hint=hint)


class UnreachableError(StorageError):
    """The server does not answer; it may work later."""


class SlowError(UnreachableError):
    """The server did not answer in time."""


class Server:
    """A server that answers. Every method raises StorageError if a request fails.

    Use it from one thread at a time.
    """

    def __init__(self, uri: str) -> None:
        self.name = f"mlflow {redact_text(uri)}"
        if "mlflow" not in sys.modules:
            # Send data to this server only.
            os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        with self._errors():
            import mlflow

            self._client = mlflow.MlflowClient(uri)
            self._store: Any = self._client._tracking_client.store
            self.ping()

    def ping(self) -> None:
        """Raises UnreachableError if no server answers, which MLflow's client takes minutes for."""
        credentials = getattr(self._store, "get_host_creds", None)
        if credentials is None:
            return  # a database
        from mlflow.utils.rest_utils import http_request

        # Any answer is enough; the first request reports whether it accepts us.
        with self._errors(UnreachableError):
            http_request(
                credentials(),
                "/health",
                "GET",
                max_retries=0,
                timeout=_SECONDS,
                raise_on_status=False,
            )

    @contextmanager
    def _errors(self, kind: type[StorageError] = StorageError) -> Iterator[None]:
        try:
            yield
        except QnError:
            raise
        except Exception as error:
            if isinstance(_bottom(error), TimeoutError):
                kind = SlowError
            raise kind(_cause(error), file=self.name) from None

    # -------------------------------------------------------------------------------- experiments

    def experiment(self, name: str) -> str:
        """Return the id of the experiment with that name; create it if there is none."""
        with self._errors():
            found = self._client.get_experiment_by_name(name)
            if found is None:
                try:
                    return str(self._client.create_experiment(name))
                except Exception:  # another process was first, or the request is not allowed
                    found = self._client.get_experiment_by_name(name)
                    if found is None:
                        raise
            if found.lifecycle_stage != "active":
                hint = "restore it, or use another name"
                raise StorageError(f"experiment {name} is deleted", file=self.name, hint=hint)
            return str(found.experiment_id)

    def experiment_named(self, name: str) -> str:
        """Return the id of the experiment with that name. Raises StorageError without one."""
        with self._errors():
            found = self._client.get_experiment_by_name(name)
        if found is None:
            raise StorageError(f"no experiment {name}", file=self.name)
        return str(found.experiment_id)

    def experiment_names(self) -> dict[str, str]:
        """Return the names of all experiments by their ids."""
        with self._errors():
            return {
                str(one.experiment_id): str(one.name)
                for one in _pages(self._client.search_experiments)
            }

    # --------------------------------------------------------------------------------------- runs

    def create(self, experiment: str, id: str, started: int, tags: Mapping[str, str]) -> str:
        """Create a run named after our id; return MLflow's id."""
        with self._errors():
            run = self._client.create_run(
                experiment, start_time=started, tags=dict(tags), run_name=id
            )
            return str(run.info.run_id)

    def find(self, id: str) -> Run | None:
        """Return the run with our id, in any experiment of MLflow; None without one."""
        wanted = f"tags.`{names.ID_TAG}` = '{id}'"  # an id has no quote
        with self._errors():
            everywhere = [one.experiment_id for one in _pages(self._client.search_experiments)]
            for at in range(0, len(everywhere), _MANY):
                found = self._client.search_runs(
                    everywhere[at : at + _MANY], wanted, max_results=1, order_by=["start_time ASC"]
                )
                if found:
                    return found[0]
        return None

    def parent(self, experiment: str, study: str, started: int) -> str:
        """Return the running parent of the runs of a study; create it if there is none."""
        wanted = f"tags.`{names.STUDY_TAG}` = '{study}' and tags.`{names.KIND_TAG}` = 'study'"
        with self._errors():
            found = self._client.search_runs(
                [experiment], wanted, max_results=1, order_by=["start_time ASC"]
            )
        if found:
            run_id = str(found[0].info.run_id)
            self.end(run_id, "RUNNING", None)
            return run_id
        tags = {names.STUDY_TAG: study, names.KIND_TAG: "study"}
        return self.create(experiment, study, started, tags)

    def end_parent(self, experiment: str, parent: str, ended: int) -> None:
        """End the parent of a study, unless one of its runs goes on."""
        wanted = f"tags.`{names.PARENT_TAG}` = '{parent}' and attributes.status = 'RUNNING'"
        with self._errors():
            going_on = self._client.search_runs([experiment], wanted, max_results=1)
        if not going_on:
            self.end(parent, "FINISHED", ended)

    def runs(self, experiment: str) -> Iterator[Run]:
        """Yield the runs of an experiment, oldest first."""
        with self._errors():
            yield from _pages(self._client.search_runs, [experiment], order_by=["start_time ASC"])

    def run(self, run_id: str) -> Run:
        """Return a run by MLflow's id."""
        with self._errors():
            return self._client.get_run(run_id)

    def history(self, run_id: str, name: str) -> list[Value]:
        """Return all values of a metric, by step and time."""
        with self._errors():
            found = [
                (str(one.key), float(one.value), int(one.timestamp), int(one.step))
                for one in self._client.get_metric_history(run_id, name)
            ]
        return sorted(found, key=lambda value: (value[3], value[2], repr(value[1])))

    def log(
        self,
        run_id: str,
        values: Sequence[Value] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Add values, parameters and tags to a run. Sending a value again changes nothing."""
        from mlflow.entities import Metric, Param, RunTag

        with self._errors():
            for at in range(0, len(values), PER_CALL):
                part = [Metric(*value) for value in values[at : at + PER_CALL]]
                self._client.log_batch(run_id, metrics=part)
            # The client splits these by itself.
            self._client.log_batch(
                run_id,
                params=[Param(*pair) for pair in (params or {}).items()],
                tags=[RunTag(*pair) for pair in (tags or {}).items()],
            )

    def end(self, run_id: str, status: str, ended: int | None) -> None:
        """Set the status and the end of a run."""
        from mlflow.entities import RunStatus

        with self._errors():
            # The client's method prints on standard output.
            self._store.update_run_info(run_id, RunStatus.from_string(status), ended, None)

    # ---------------------------------------------------------------------------------- artifacts

    def upload(self, run_id: str, path: str) -> None:
        """Add a file to our artifacts of a run, or replace it."""
        with self._errors():
            self._client.log_artifact(run_id, path, names.FOLDER)

    def files(self, run_id: str) -> list[str]:
        """Return the names of our artifacts of a run."""
        with self._errors():
            found: Iterable[Any] = self._client.list_artifacts(run_id, names.FOLDER)
            return [str(one.path).rpartition("/")[2] for one in found if not one.is_dir]

    def download(self, run_id: str, name: str, folder: str) -> str:
        """Download one of our artifacts to a folder; return the path."""
        with self._errors():
            return str(self._client.download_artifacts(run_id, f"{names.FOLDER}/{name}", folder))


def _pages(search: Any, *arguments: Any, **options: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(*arguments, max_results=1000, page_token=token, **options)
        yield from page
        token = page.token
        if not token:
            return


def _bottom(error: BaseException) -> BaseException:
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__ or error
    return error


def _cause(error: BaseException) -> str:
    """Return the root cause in one line: MLflow wraps `connection refused` three times."""
    bottom = _bottom(error)
    if isinstance(bottom, OSError) and bottom.strerror:
        text = bottom.strerror.lower()
    elif hasattr(error, "error_code"):  # an MlflowException
        text = str(error)
    else:
        text = describe(error)
    line = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    return redact_text(line if len(line) <= 300 else f"{line[:297]}...")
