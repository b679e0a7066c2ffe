"""A run in the words of W&B, and what scripts put into it: see `qn_tracking.wandb`."""

from __future__ import annotations

import atexit
import glob
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from os.path import basename, isdir, isfile, join, relpath
from shutil import rmtree
from tempfile import mkdtemp
from threading import RLock
from time import time
from typing import IO, Any, NoReturn, Self

from qn_tracking.dropin import DropIn, mapping
from qn_tracking.errors import StorageError, UsageError, storable
from qn_tracking.tracking.ending import status_of
from qn_tracking.tracking.recorder import Recorder
from qn_tracking.tracking.warned import warn_on_stderr

WITHOUT_MEANING = frozenset(
    (
        *("alert", "link_artifact", "link_model", "log_code", "mark_preempting", "restore"),
        *("status", "unwatch", "upsert_artifact", "watch"),
    )
)
"""Calls that record nothing here, and say so once."""
READERS = frozenset(("Api", "agent", "controller", "sweep", "use_artifact"))
"""What reads from W&B's server, or lets it decide: there is none."""


class Config(Mapping[str, Any]):
    """The configuration of a run: `config.lr`, `config["lr"]`, `update`."""

    def __init__(self, values: dict[str, Any]) -> None:
        object.__setattr__(self, "_values", values)

    _values: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(f"config has no {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self._values[name] = value

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._values[str(name)] = value

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)

    def as_dict(self) -> dict[str, Any]:
        """A copy as a dictionary."""
        return dict(self._values)

    def update(self, values: Any, allow_val_change: bool | None = None) -> None:
        """Sets values by name, from a mapping or an object with fields."""
        self._values.update(mapping(values))

    def setdefaults(self, values: Any) -> None:
        """Sets the values whose names are not there."""
        for name, value in mapping(values).items():
            self._values.setdefault(name, value)


class Summary(Config):
    """The last value of each name that was logged, and what the script sets itself."""


class Artifact:
    """Named files, of which `log_artifact` keeps copies."""

    def __init__(
        self, name: str, type: str, description: str | None = None, metadata: Any = None
    ) -> None:
        self.name, self.type, self.description = name, type, description
        self.metadata = mapping(metadata)
        self.files: dict[str, str] = {}

    def add_file(self, local_path: str, name: str | None = None, **others: Any) -> None:
        """Adds a file. Raises StorageError if there is none."""
        path = os.fspath(local_path)
        if not isfile(path):
            raise StorageError("no such file", file=path)
        self.files[name or basename(path)] = path

    def add_dir(self, local_path: str, name: str | None = None, **others: Any) -> None:
        """Adds the files of a folder, and of those in it. Raises StorageError if there is none."""
        path = os.fspath(local_path)
        if not isdir(path):
            raise StorageError("no such folder", file=path)
        for file in _files(path):
            self.files[join(name or "", relpath(file, path))] = file

    @contextmanager
    def new_file(
        self, name: str, mode: str = "w", encoding: str | None = None
    ) -> Iterator[IO[Any]]:
        """Opens a new file, which is added when it is closed."""
        folder = mkdtemp(prefix="qn-")
        atexit.register(rmtree, folder, ignore_errors=True)
        path = join(folder, basename(name))
        with open(path, mode, encoding=encoding) as file:
            yield file
        self.files[name] = path

    def add_reference(self, uri: str, name: str | None = None, **others: Any) -> None:
        """Keeps the address of a file that is not here, as a fact."""
        self.files[name or basename(uri)] = uri

    def wait(self, timeout: float | None = None) -> Self:
        """Nothing is on its way."""
        return self


def _files(folder: str) -> list[str]:
    return sorted(join(place, name) for place, _, names in os.walk(folder) for name in names)


class Metric:
    """What `define_metric` returns."""

    def __init__(self, name: str, step_metric: str | None) -> None:
        self.name, self.step_metric = name, step_metric


class Run:
    """One run, in the words of W&B; `recorder` is that of qn-tracking, None if disabled."""

    url = None
    resumed = False
    sweep_id = None
    offline = True
    starting_step = 0

    def __init__(
        self,
        name: str | None = None,
        tags: Iterable[str] = (),
        notes: str | None = None,
        labels: Mapping[str, str | None] | None = None,
        config: Mapping[str, Any] | None = None,
        disabled: bool = False,
    ) -> None:
        found = {key: value for key, value in (labels or {}).items() if value}
        self.project, self.group = found.get("project", ""), found.get("group", "")
        self.job_type, self.entity = found.get("job_type", ""), ""
        self.tags, self.notes, self.disabled = tuple(tags), notes, disabled
        texts = {**dict.fromkeys(map(str, self.tags), ""), **found}
        if name:
            texts["name"] = name
        self.held = None if disabled else DropIn("wandb", "finish()", tags=texts, notes=notes)
        self.config = Config({} if self.held is None else self.held.config)
        self.config.update(config)
        self.summary = Summary({})
        self.at_finish: Callable[[Run], None] = lambda run: None
        self.step, self._lock = 0, RLock()
        self._logged: dict[str, Any] = {}
        self._metrics: list[Metric] = []
        self._axes: dict[str, int] = {}
        self._artifacts: list[dict[str, Any]] = []
        self._dir = ""
        self.id = "disabled"
        if self.held is not None:
            self.id, self.held.at_end = self.held.run.id, self._record_rest
        self.name = name or self.id
        self.path, self.start_time = f"{self.project}/{self.id}", time()
        self._first = self._labels()

    def _labels(self) -> tuple[str, tuple[str, ...], str | None]:
        return self.name, tuple(self.tags), self.notes

    def _relabel(self) -> None:
        """Name, tags and notes that the script has set since it made the run."""
        name, tags, notes = self._labels()
        if self.held is not None and (name, tags, notes) != self._first:
            texts = dict.fromkeys(map(str, tags), "")
            if name != self._first[0]:
                texts["name"] = str(name)
            self.held.label(texts, None if notes is None else str(notes))

    @property
    def recorder(self) -> Recorder | None:
        """The recorder of the run; None if the run is disabled."""
        return None if self.held is None else self.held.run

    @property
    def dir(self) -> str:
        """A folder for files of the script; what is in it at the end is recorded as artifacts."""
        if not self._dir:
            self._dir = os.path.abspath(join("exports", "wandb", self.id))
            os.makedirs(self._dir, exist_ok=True)
        return self._dir

    def project_name(self) -> str:
        """The project."""
        return self.project

    def get_url(self) -> None:
        """There is no page of the run."""

    def log(
        self,
        data: Mapping[str, Any],
        step: int | None = None,
        commit: bool | None = None,
        sync: bool | None = None,
    ) -> None:
        """Values of series, at a step, by default one further with each call.

        `commit=False` stays at the step. A name whose `define_metric` names another axis has the
        last value of that as its step. Mappings in it are joined with a dot. Raises TypeError if
        `data` is no mapping.
        """
        if not isinstance(data, Mapping):
            raise TypeError(f"log: expected a mapping, got {type(data).__name__}")
        if self.held is None:
            self.summary.update(_flat(data))
        elif not self.held.run.forked:  # a lock may be held by a thread that is not there
            with self._lock:
                self._log(self.held, _flat(data), step, commit)

    def _log(
        self, held: DropIn, values: dict[str, Any], step: int | None, commit: bool | None
    ) -> None:
        where = self.step if step is None else int(step)
        self._note_axes(values)
        groups: dict[int, dict[str, Any]] = {}
        for name, value in values.items():
            groups.setdefault(self._axis(name, where), {})[name] = value
        for at, part in groups.items():
            held.log(part, at)
        for name, value in values.items():
            if not isinstance(value, Media):
                self.summary[name] = self._logged[name] = value
        self.step = max(self.step, where)
        if commit or (commit is None and step is None):
            self.step += 1

    def _note_axes(self, values: Mapping[str, Any]) -> None:
        for axis in {one.step_metric for one in self._metrics if one.step_metric} & values.keys():
            try:
                self._axes[axis] = int(values[axis])
            except (TypeError, ValueError, OverflowError):
                assert self.held is not None
                self.held.warn_once(f"axis {axis}", f"{axis}: no whole number, and so no step")

    def _axis(self, name: str, default: int) -> int:
        for one in reversed(self._metrics):
            if one.step_metric and name != one.step_metric and fnmatchcase(name, one.name):
                return self._axes.get(one.step_metric, default)
        return default

    def define_metric(
        self, name: str, step_metric: str | Metric | None = None, **others: Any
    ) -> Metric:
        """Names the axis of a series, or of all whose names match `name`, such as `loss/*`.

        A record has the last value, mean, minimum and maximum of each series in any case.
        """
        axis = step_metric.name if isinstance(step_metric, Metric) else step_metric
        self._metrics.append(Metric(name, axis))
        return self._metrics[-1]

    def log_artifact(
        self,
        artifact_or_path: Artifact | str,
        name: str | None = None,
        type: str | None = None,
        aliases: Iterable[str] | None = None,
        tags: Iterable[str] | None = None,
    ) -> Artifact:
        """Keeps files as artifacts of the run, and as a fact how the script calls them.

        Each is called NAME/FILE here. One that cannot be read is a warning.
        """
        artifact = artifact_or_path
        if not isinstance(artifact, Artifact):
            path = os.fspath(artifact)
            artifact = Artifact(name or basename(path), type or "unspecified")
            (artifact.add_dir if isdir(path) else artifact.add_file)(path)
        if self.held is None:
            return artifact
        self.held.begin()
        for file, path in artifact.files.items():
            if isfile(path):
                self.held.run.log_artifact(path, artifact.type, name=f"{artifact.name}/{file}")
        self._artifacts.append(
            {
                "name": storable(artifact.name),
                "type": storable(artifact.type),
                "aliases": [storable(text) for text in aliases or ()],
                "files": self.held.storable("files", artifact.files),
                "metadata": self.held.storable("metadata", artifact.metadata),
            }
        )
        self.held.run.add_facts("wandb", {"artifacts": self._artifacts})
        return artifact

    def log_model(
        self, path: str, name: str | None = None, aliases: Iterable[str] | None = None
    ) -> None:
        """Keeps a file or a folder as an artifact of the type `model`."""
        self.log_artifact(os.fspath(path), name, "model", aliases)

    def save(
        self, glob_str: str = "", base_path: str | None = None, policy: str = "live"
    ) -> list[str]:
        """Keeps the files that match, as they are now."""
        found = sorted(path for path in glob.glob(os.fspath(glob_str)) if isfile(path))
        if self.held is not None:
            self.held.begin()
            for path in found:
                self.held.run.log_artifact(path)
        return found

    def finish(self, exit_code: int | None = None, quiet: bool | None = None) -> None:
        """Ends the run: `completed`, or as the exception says that is being handled.

        An exit code other than 0 means `failed`, one above 128 `interrupted`, as of a shell.
        """
        self._finish(*status_of(SystemExit(exit_code)) if exit_code else (None, None))

    def _finish(self, status: str | None, error: BaseException | None) -> None:
        self.at_finish(self)
        if self.held is not None:
            self.held.end(status, error)

    def _record_rest(self) -> None:
        """Files in `dir`, labels, and what the script has set in the summary."""
        assert self.held is not None
        self._relabel()
        for path in _files(self._dir) if self._dir else ():
            self.held.run.log_artifact(path, name=relpath(path, self._dir))
        own = {
            name: value
            for name, value in self.summary.items()
            if name not in self._logged or self._logged[name] is not value
        }
        self.held.facts("summary", own)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._finish(*status_of(error))

    def __getattr__(self, name: str) -> Any:
        if name in READERS:
            return reader(name)
        if name not in WITHOUT_MEANING:
            raise AttributeError(f"run has no attribute {name!r}")
        return silent(name, self)


class Media:
    """A picture, a table, a histogram: made, and not recorded."""

    def __init__(self, *args: Any, **options: Any) -> None:
        pass

    def add_data(self, *row: Any) -> None:
        """Adds nothing to what is not recorded."""


_said: set[str] = set()


def silent(name: str, run: Run | None) -> Callable[..., None]:
    """A call that records nothing and says so once."""

    def call(*args: Any, **options: Any) -> None:
        if run is not None and run.held is not None:
            run.held.meaningless(name)
        elif run is None and name not in _said:
            _said.add(name)
            warn_on_stderr(f"wandb: {name}: is not recorded by qn-tracking")

    return call


def reader(name: str) -> Callable[..., NoReturn]:
    """A call that raises UsageError."""

    def call(*args: Any, **options: Any) -> NoReturn:
        hint = "qn-run --sweep" if name in ("agent", "controller", "sweep") else "Experiments"
        raise UsageError(f"wandb.{name}: there is no server", hint=hint)

    return call


def _flat(data: Mapping[Any, Any], above: str = "") -> dict[str, Any]:
    """The values of mappings in it, too, with names joined by dots."""
    out: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            out.update(_flat(value, f"{above}{key}."))
        else:
            out[f"{above}{key}"] = value
    return out
