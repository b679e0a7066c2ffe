"""Experiments that were found, and their episodes: sequences that become tables."""

from __future__ import annotations

from qn_tracking.errors import StorageError, UnsupportedError, UsageError
from qn_tracking.records.limits import MAIN_PHASE, MAX_INT, NOT_FINITE
from qn_tracking.store import query
from qn_tracking.store.fields import FIELDS, NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from qn_tracking.api.folder import Folder
    from qn_tracking.api.picture import Picture
    from qn_tracking.records.model import Episode, Experiment
    from qn_tracking.store.fields import Field
    from qn_tracking.store.filters import Filters
    from qn_tracking.store.index import Index

    Row = dict[str, Any]

FRAME = tuple(field for field in FIELDS if field.show not in ("tags", "curve", ""))
"""Fields of a table of experiments; tags have columns of their own."""


class Selection:
    """Experiments that were found, in order; a sequence of records that is read when it is used.

    `for experiment in selection` reads one record after the other. `ids`, `rows()` and the tables
    come from the index and open no file. A run that has no record, because it is going on or has
    crashed, is counted and in the tables; a loop passes over it with a warning.
    """

    def __init__(
        self,
        store: Folder,
        filters: Filters | None,
        *,
        ids: Sequence[str] = (),
        sort: str | None = None,
        limit: int = 0,
        fresh: bool = False,
        columns: Sequence[str] = (),
    ) -> None:
        self._store = store
        self._filters = filters
        self._named = list(ids)
        self._sort = sort
        if limit and not 0 <= limit < MAX_INT:
            raise UsageError(f"limit: expected 0 or more, got {limit}")
        self._limit = limit
        self._fresh = fresh
        self._columns = list(columns)
        self._found: Found | None = None

    def _load(self) -> Found:
        if self._found is None:
            self._found = self._store.consult(self._ask, fresh=self._fresh)
            for _, problem in self._found.problems:
                self._store.warn(problem)
        return self._found

    def _ask(self, index: Index) -> Found:
        if self._filters is None:
            rows, more = query.select(index, [query.named(self._named)])
            place = {id: i for i, id in enumerate(self._named)}
            rows.sort(key=lambda row: place[row["id"]])
        else:
            conditions = self._filters.conditions(index)
            sort = query.order(index, self._sort)
            rows, more = query.select(index, conditions, sort=sort, limit=self._limit)
        return Found(index, rows, more, self._columns)

    # ------------------------------------------------------------------------------- a sequence

    def __len__(self) -> int:
        return len(self._load().rows)

    def __iter__(self) -> Iterator[Experiment]:
        for id in self.ids:
            try:
                experiment = self._store.get(id)
            except (StorageError, UnsupportedError) as error:
                self._store.warn(f"left out: {error}")
                continue
            yield experiment

    def __getitem__(self, place: int) -> Experiment:
        if isinstance(place, slice):
            raise TypeError("one place, not a slice: find(limit=5), or select(found.ids[:5])")
        return self._store.get(self.ids[place])

    def __repr__(self) -> str:
        return f"<Selection of {len(self)} in {self._store.folder}>"

    @property
    def ids(self) -> list[str]:
        """The ids, in order."""
        return [row["id"] for row in self._load().rows]

    @property
    def folder(self) -> str:
        """The folder of the experiments."""
        return self._store.folder

    @property
    def filters(self) -> Filters:
        """The conditions that were set; none for experiments that were named."""
        from qn_tracking.store.filters import Filters

        return self._filters or Filters()

    @property
    def total(self) -> int:
        """How many experiments the folder holds."""
        return self._load().total

    @property
    def more(self) -> bool:
        """Whether a limit has left some out."""
        return self._load().more

    @property
    def problems(self) -> list[tuple[str, str]]:
        """Names of files that cannot be read, and why."""
        return self._load().problems

    @property
    def columns(self) -> list[tuple[str, Field | None]]:
        """The columns that were asked for, in order, with the field of the index that each is."""
        return self._load().columns

    def cells(self) -> list[Row]:
        """A row for each experiment as the index has it: its fields, and the columns asked for."""
        return self._load().cells()

    def folded(self) -> list[tuple[Row, str]]:
        """The same with one row for the runs of a study, each with how many runs that is; empty
        for a run of its own. Nothing is left out; a study that a limit has cut is whole.
        """
        rows = self.cells()
        if not any(".s" in row["id"] for row in rows):
            return [(row, "") for row in rows]
        from functools import partial

        from qn_tracking.api.fold import folded
        from qn_tracking.store.study_files import summary

        return folded(rows, partial(summary, self.folder), self._whole if self.more else None)

    def _whole(self, study: str) -> list[Row]:
        """All runs of a study that meet the conditions, beyond the limit, too."""

        def ask(index: Index) -> list[Row]:
            of_it = query.begins("id", f"{study}.s")
            rows, more = query.select(index, [*self.filters.conditions(index), of_it])
            return Found(index, rows, more, self._columns).cells()

        return self._store.consult(ask)

    def documents(self) -> list[Row]:
        """The experiments as plain data, each with the path of its record."""
        found = self._load()
        numbers = [row.n for row in found.rows]
        documents = self._store.consult(lambda index: index.documents(numbers))
        out = []
        for row in found.rows:
            doc = documents.get(row.n)
            if doc is not None:
                path = f"{self._store.folder}/{row['id']}.json"
                recorded = doc.get("ended") is not None or "digests" in doc
                out.append({"path": path if recorded else None, **doc})
        return out

    # --------------------------------------------------------------------------------- as tables

    def rows(self, columns: Sequence[str] | None = None) -> list[Row]:
        """A dict for each experiment: with `columns`, these; else every field of the index.

        A column is a field of the index (`qn-exp list --columns help` names them), a metric, any
        stored field, or all below one: `results.metrics.*`, `config.*`. `started` is a datetime in
        UTC, times are seconds, rates are from 0 to 1; a tag `KEY` is the column `tags.KEY`.
        Raises UsageError for a column that no experiment has.
        """
        if columns is not None and list(columns) != self._columns:
            return self._with(columns).rows(columns)
        if columns is None and self._columns:
            return self._with(()).rows()
        found = self._load()
        if columns:
            names = [(name, field) for name, field in found.columns]
            return [
                {name: _typed(field, row[name]) for name, field in names} for row in found.cells()
            ]
        out = []
        for row in found.cells():
            flat = {field.name: _typed(field, row[field.name]) for field in FRAME}
            tags = _typed(NAMES["tags"], row["tags"])
            out.append({**flat, **{f"tags.{key}": value for key, value in tags.items()}})
        return out

    def _with(self, columns: Sequence[str]) -> Selection:
        from copy import copy

        other = copy(self)
        other._columns, other._found = list(columns), None
        return other

    def to_pandas(self, columns: Sequence[str] | None = None) -> Any:
        """A DataFrame with a row for each experiment; see `rows`. Raises UnsupportedError without
        pandas.
        """
        return frame("pandas", self.rows(columns), columns or [field.name for field in FRAME])

    def to_polars(self, columns: Sequence[str] | None = None) -> Any:
        """The same as a Polars DataFrame. Raises UnsupportedError without Polars."""
        return frame("polars", self.rows(columns), columns or [field.name for field in FRAME])

    def plot(self, metric: str = "success", **options: Any) -> Picture:
        """A picture of them; the options are those of `Experiments.plot`."""
        store: Any = self._store  # `Experiments`, which has more than this module knows
        made: Picture = store.plot(self, metric=metric, **options)
        return made

    def episodes(self, *, phase: str | None = None) -> Episodes:
        """The episodes of all of them, or those of a phase, in order.

        Experiments whose episodes are not here are left out with a warning.
        """
        return Episodes(self._store, self.ids, named=False, phase=phase)


class Found:
    """What a selection has loaded."""

    def __init__(
        self, index: Index, rows: list[query.Row], more: bool, names: Sequence[str]
    ) -> None:
        self.rows = rows
        self.more = more
        self.total = index.total()
        self.problems = index.problems()
        self.columns: list[tuple[str, Field | None]] = []
        self._extra: dict[str, dict[int, Any]] = {}
        numbers = [row.n for row in rows]
        for name, field, path in expanded(index, names):
            self.columns.append((name, field))
            if field is None and path is not None:
                self._extra[name] = index.values(index.find(path), numbers)

    def cells(self) -> list[Row]:
        extra = self._extra
        return [
            {
                **row.values,
                **{name: row[field.name] for name, field in self.columns if field},
                **{name: values.get(row.n) for name, values in extra.items()},
            }
            for row in self.rows
        ]


def expanded(
    index: Index, names: Sequence[str]
) -> Iterator[tuple[str, Field | None, tuple[Any, ...] | None]]:
    """The columns that are meant: their names, and the field of the index or the stored field.

    Raises UsageError for one that no experiment has.
    """
    for name in names:
        if name in NAMES:
            yield name, NAMES[name], None
            continue
        from qn_tracking.store import where
        from qn_tracking.store.best import metric_path

        if name.endswith(".*"):
            try:
                above = index.resolve(where.field(name[:-2]))
            except UsageError as error:
                raise _unknown(name, error) from None
            above = ("config", "data") if above == ("config",) else above
            stored = [path for path in index.fields() if path[: len(above)] == above]
            inner = {path[:-1] for path in stored}
            leaves = [path for path in stored if path not in inner]
            if above[:2] == ("results", "metrics"):
                leaves = [path for path in leaves if path[-1] == "mean"]
            if not leaves:
                raise UsageError(f"no stored field {name}", file="--columns")
            for path in sorted(leaves):
                yield index.shown(path), None, path
        else:
            try:
                yield name, None, metric_path(index, name)
            except UsageError as error:
                raise _unknown(name, error) from None


def _unknown(name: str, error: UsageError) -> UsageError:
    from qn_tracking.errors import did_you_mean

    cause = error.__cause__
    hint = did_you_mean(name, NAMES) or (cause.hint if isinstance(cause, UsageError) else None)
    return UsageError(f"no column {name!r}", file="--columns", hint=hint or f"known: {_known()}")


def _known() -> str:
    return ", ".join(field.name for field in FIELDS) + ", or a stored field"


def _typed(field: Field | None, value: Any) -> Any:
    """A value of the index as Python has it."""
    show = "" if field is None else field.show
    if show == "tags":
        import json

        return json.loads(value) if value else {}
    if value is None:
        return None
    if show == "time":
        from datetime import UTC, datetime

        when = datetime.fromisoformat(value)
        return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    if show == "flag":
        return bool(value)
    if show == "curve":
        import json

        return json.loads(value)
    return float(value) if value in NOT_FINITE else value


class Episodes:
    """The episodes of runs, in order: a sequence of `Episode` that is read when it is used.

    Raises StorageError, when it is used, for a run whose episodes are not here.
    """

    def __init__(
        self,
        store: Folder,
        ids: Sequence[str],
        *,
        named: bool = True,
        phase: str | None = None,
    ) -> None:
        self._store = store
        self._ids = list(ids)
        self._named = named
        self._phase = phase

    def __iter__(self) -> Iterator[Episode]:
        for _, episode in self.pairs():
            yield episode

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def pairs(self) -> Iterator[tuple[str, Episode]]:
        """The episodes, each with the id of its run."""
        from qn_tracking.store import transfer

        ids = transfer.with_episodes(
            self._store.folder, self._ids, named=self._named, warn=self._store.warn
        )
        for id in ids:
            folder, phase = self._store.folder, self._phase
            # A phase of an older run may be called so, too.
            if phase == MAIN_PHASE and not any(
                e.phase == phase for e in transfer.of_phases(folder, id)
            ):
                phase = None
            if phase is None:
                found = transfer.episodes(folder, id, self._store.warn)
            else:
                found = (e for e in transfer.of_phases(folder, id) if e.phase == phase)
            for episode in found:
                yield id, episode

    def rows(self) -> list[Row]:
        """A dict for each episode: `id`, environment, brain, family, config_digest and run_seed of
        its run, then its own fields; `counts.NAME`, `metrics.NAME`, `timing.NAME` (seconds).
        """
        from qn_tracking.store import export, transfer

        abouts: dict[str, Row] = {}
        out = []
        for id, episode in self.pairs():
            if id not in abouts:
                abouts[id] = transfer.about(self._store.document(id))
            out.append(export.of_episode(abouts[id], episode))
        return out

    def to_pandas(self) -> Any:
        """A DataFrame with a row for each episode; see `rows`. Raises UnsupportedError without
        pandas.
        """
        return frame("pandas", self.rows(), ())

    def to_polars(self) -> Any:
        """The same as a Polars DataFrame. Raises UnsupportedError without Polars."""
        return frame("polars", self.rows(), ())


class Points:
    """The points of the series of runs, in order: a table that is read when it is used.

    Raises StorageError, when it is used, for a file that cannot be read; a run that logged nothing
    has no points.
    """

    def __init__(self, store: Folder, ids: Sequence[str], names: tuple[str, ...]) -> None:
        self._store = store
        self._ids = list(ids)
        self._names = names

    def columns(self) -> dict[str, list[Any]]:
        """The columns id, step, episode, at (seconds since the start), name and value."""
        from qn_tracking.store import paths, series

        table: dict[str, list[Any]] = {
            name: [] for name in ("id", "step", "episode", "at", "name", "value")
        }
        for id in self._ids:
            found = series.points(paths.run_folder(self._store.folder, id), self._names)
            table["id"] += [id] * len(found["step"])
            for name, values in found.items():
                table[name] += values
        return table

    def rows(self) -> list[Row]:
        """A dict for each point; see `columns`."""
        table = self.columns()
        return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]

    def to_pandas(self) -> Any:
        """A DataFrame with a row for each point; see `columns`. Raises UnsupportedError without
        pandas.
        """
        make = _maker("pandas")
        table: dict[str, Any] = dict(self.columns())
        import numpy as np

        for name in ("step", "episode"):  # several times faster than if pandas finds it out
            table[name] = np.array(table[name], dtype=np.int64)
        for name in ("at", "value"):
            table[name] = np.array(table[name], dtype=np.float64)
        return make(table)

    def to_polars(self) -> Any:
        """The same as a Polars DataFrame. Raises UnsupportedError without Polars."""
        return _maker("polars")(self.columns(), strict=False)


def frame(package: str, rows: list[Row], columns: Iterable[str]) -> Any:
    """Rows as a DataFrame of pandas or Polars. Raises UnsupportedError without the package."""
    make = _maker(package)
    names = dict.fromkeys([*(() if rows else columns), *(name for row in rows for name in row)])
    table = {name: [row.get(name) for row in rows] for name in names}
    return make(table) if package == "pandas" else make(table, strict=False)


def _maker(package: str) -> Callable[..., Any]:
    from importlib import import_module

    try:
        make: Callable[..., Any] = import_module(package).DataFrame
    except ImportError:
        raise UnsupportedError(
            f"{package} is not installed", hint=f"pip install {package}"
        ) from None
    return make
