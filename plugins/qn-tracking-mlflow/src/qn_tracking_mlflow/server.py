"""The tracking server, or the database in place of one: every call to MLflow is made here.

Whatever goes wrong is one line that names the server. MLflow's own client tries again for minutes
where nobody answers; so `connect` asks first, once.
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
"""Metrics that MLflow takes in one call; of parameters and tags a tenth."""
_SECONDS = 5.0
_MANY = 500


def uri_of(given: object) -> str:
    """The URI given, or that of MLFLOW_TRACKING_URI. Raises ConfigError if there is neither.

    MLflow would make a database in the current folder instead.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") if given is None else given
    if type(uri) is str and uri and "\x00" not in uri:
        return uri
    cause = "no tracking server is named" if uri in (None, "") else f"expected text, got {uri!r}"
    hint = "MLFLOW_TRACKING_URI, or the option uri"
    raise ConfigError(cause, file="plugin mlflow", field="uri", hint=hint)


class Server:
    """A server that answers. Raises StorageError, here and in every method, for one that does not.

    To be used from one thread at a time.
    """

    def __init__(self, uri: str) -> None:
        self.name = f"mlflow {redact_text(uri)}"
        if "mlflow" not in sys.modules:
            # What is tracked here is told to nobody but this server.
            os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        with self._asking():
            import mlflow

            self._client = mlflow.MlflowClient(uri)
            self._store: Any = self._client._tracking_client.store
            self._look()

    def _look(self) -> None:
        credentials = getattr(self._store, "get_host_creds", None)
        if credentials is None:
            return  # a database
        from mlflow.utils.rest_utils import http_request

        # Any answer will do: what the server thinks of us, the first call tells.
        http_request(
            credentials(),
            "/health",
            "GET",
            max_retries=0,
            timeout=_SECONDS,
            raise_on_status=False,
        )

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except QnError:
            raise
        except Exception as error:
            raise StorageError(_cause(error), file=self.name) from None

    # -------------------------------------------------------------------------------- experiments

    def experiment(self, name: str) -> str:
        """The id of the experiment of that name, which is made if there is none."""
        with self._asking():
            found = self._client.get_experiment_by_name(name)
            if found is None:
                try:
                    return str(self._client.create_experiment(name))
                except Exception:  # somebody else was first, or it cannot be
                    found = self._client.get_experiment_by_name(name)
                    if found is None:
                        raise
            if found.lifecycle_stage != "active":
                hint = "restore it, or name another"
                raise StorageError(f"experiment {name} is deleted", file=self.name, hint=hint)
            return str(found.experiment_id)

    def experiment_named(self, name: str) -> str:
        """The id of the experiment of that name. Raises StorageError if there is none."""
        with self._asking():
            found = self._client.get_experiment_by_name(name)
        if found is None:
            raise StorageError(f"no experiment {name}", file=self.name)
        return str(found.experiment_id)

    def experiment_names(self) -> dict[str, str]:
        """The names of the experiments by their ids."""
        with self._asking():
            return {
                str(one.experiment_id): str(one.name)
                for one in _pages(self._client.search_experiments)
            }

    # --------------------------------------------------------------------------------------- runs

    def create(self, experiment: str, id: str, started: int, tags: Mapping[str, str]) -> str:
        """A new run, called after our id; returns MLflow's."""
        with self._asking():
            run = self._client.create_run(
                experiment, start_time=started, tags=dict(tags), run_name=id
            )
            return str(run.info.run_id)

    def find(self, id: str) -> Run | None:
        """The run that an experiment of ours is there, whatever its own id and experiment are."""
        wanted = f"tags.`{names.ID_TAG}` = '{id}'"  # an id holds no quote
        with self._asking():
            everywhere = [one.experiment_id for one in _pages(self._client.search_experiments)]
            for at in range(0, len(everywhere), _MANY):
                found = self._client.search_runs(
                    everywhere[at : at + _MANY], wanted, max_results=1, order_by=["start_time ASC"]
                )
                if found:
                    return found[0]
        return None

    def runs(self, experiment: str) -> Iterator[Run]:
        """The runs of an experiment, oldest first."""
        with self._asking():
            yield from _pages(self._client.search_runs, [experiment], order_by=["start_time ASC"])

    def run(self, run_id: str) -> Run:
        """One run, by MLflow's id."""
        with self._asking():
            return self._client.get_run(run_id)

    def history(self, run_id: str, name: str) -> list[Value]:
        """Every value of a metric, by step and time."""
        with self._asking():
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
        """Adds to a run, in as many calls as it takes. What is there already stays one."""
        from mlflow.entities import Metric, Param, RunTag

        with self._asking():
            for at in range(0, len(values), PER_CALL):
                part = [Metric(*value) for value in values[at : at + PER_CALL]]
                self._client.log_batch(run_id, metrics=part)
            # It splits these itself.
            self._client.log_batch(
                run_id,
                params=[Param(*pair) for pair in (params or {}).items()],
                tags=[RunTag(*pair) for pair in (tags or {}).items()],
            )

    def end(self, run_id: str, status: str, ended: int) -> None:
        """Says how the run ended, and when."""
        from mlflow.entities import RunStatus

        with self._asking():
            # The client's own method prints on standard output.
            self._store.update_run_info(run_id, RunStatus.from_string(status), ended, None)

    # ---------------------------------------------------------------------------------- artifacts

    def upload(self, run_id: str, path: str) -> None:
        """Puts a file among our artifacts of a run, in place of one of its name."""
        with self._asking():
            self._client.log_artifact(run_id, path, names.FOLDER)

    def files(self, run_id: str) -> list[str]:
        """The names of our artifacts of a run."""
        with self._asking():
            found: Iterable[Any] = self._client.list_artifacts(run_id, names.FOLDER)
            return [str(one.path).rpartition("/")[2] for one in found if not one.is_dir]

    def download(self, run_id: str, name: str, folder: str) -> str:
        """Fetches one of our artifacts into a folder; returns the file."""
        with self._asking():
            return str(self._client.download_artifacts(run_id, f"{names.FOLDER}/{name}", folder))


def _pages(search: Any, *arguments: Any, **options: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(*arguments, max_results=1000, page_token=token, **options)
        yield from page
        token = page.token
        if not token:
            return


def _cause(error: BaseException) -> str:
    """In one line what lies at the bottom: MLflow wraps `connection refused` three times."""
    bottom = error
    while bottom.__cause__ is not None or bottom.__context__ is not None:
        bottom = bottom.__cause__ or bottom.__context__ or bottom
    if isinstance(bottom, OSError) and bottom.strerror:
        text = bottom.strerror.lower()
    elif hasattr(error, "error_code"):  # an MlflowException
        text = str(error)
    else:
        text = describe(error)
    line = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    return redact_text(line if len(line) <= 300 else f"{line[:297]}...")
