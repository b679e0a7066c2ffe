"""Tables of other programs as experiments: `monitor.csv` of Stable-Baselines3, CSV and JSONL.

A row is an episode, or a call of `log`; the columns that no field is read from are its metrics, or
its values. The id derives from the content, so that importing a file again gives the same record.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import file_digest, sha256
from io import TextIOWrapper
from math import isfinite
from os.path import basename
from typing import Any

import orjson
from attrs import evolve, frozen

from qn_tracking.errors import StorageError, UsageError, did_you_mean, short, storable
from qn_tracking.ids import utc
from qn_tracking.records.codec import canonical, plain
from qn_tracking.records.limits import MAX_EPISODE, MAX_INT, MAX_NAME, MAX_NAMES
from qn_tracking.records.model import (
    Config,
    Digests,
    Episode,
    Experiment,
    FrozenDict,
    Logged,
    Measure,
    Origin,
    Subject,
)
from qn_tracking.records.series import SeriesTally, logged
from qn_tracking.records.stats import Tally
from qn_tracking.store import bundle

OF_EPISODE = ("reward", "steps", "success", "termination", "seed")
OF_CALL = ("step",)
FIELDS = (*OF_EPISODE, *OF_CALL, "time")
"""What a column can be read as; those of an episode and of a call exclude each other."""
SUFFIXES = (".csv", ".tsv", ".jsonl")
WANDB = ".wandb"
"""Files of W&B, which no library reads that is kept for it."""
MONITOR = "monitor.csv"
"""How the names of the files of `stable_baselines3.common.monitor` end."""
_MONITOR_COLUMNS = {"reward": "r", "steps": "l", "time": "t"}
_YES_NO = {"true": True, "1": True, "1.0": True, "yes": True} | dict.fromkeys(
    ("false", "0", "0.0", "no"), False
)


@frozen(kw_only=True)
class Table:
    """A record, and the lines of its episodes and of its series."""

    record: Experiment
    episodes: tuple[Episode, ...] = ()
    calls: tuple[Logged, ...] = ()


@frozen
class _Row:
    """What is in a line of a file, by column; empty cells are absent."""

    file: str
    number: int
    cells: Mapping[str, Any]
    at: float | None = None

    def wrong(self, column: str, expected: str) -> StorageError:
        cause = f"expected {expected}, got {short(repr(self.cells.get(column)), 40)}"
        return StorageError(cause, file=self.file, field=f"line {self.number}: {column}")

    def number_of(self, column: str | None) -> float | None:
        """The number of a column; None without one, or where the cell is empty."""
        if column is None or column not in self.cells:
            return None
        try:
            return float(self.cells[column])
        except (TypeError, ValueError, OverflowError):
            raise self.wrong(column, "a number") from None

    def whole(self, column: str | None, lowest: int = 0) -> int | None:
        value = self.number_of(column)
        if value is None or column is None:
            return None
        if not isfinite(value) or value % 1 or not lowest <= value < MAX_INT:
            raise self.wrong(column, "a whole number" + " from 0" * (not lowest))
        return int(value)

    def flag(self, column: str | None) -> bool | None:
        if column is None or column not in self.cells:
            return None
        found = _YES_NO.get(str(self.cells[column]).strip().lower())
        if found is None:
            raise self.wrong(column, "true or false")
        return found


def columns(texts: Sequence[str]) -> dict[str, str]:
    """What `FIELD=COLUMN,…`, given any number of times, means. Raises UsageError."""
    found: dict[str, str] = {}
    for text in (part for one in texts for part in one.split(",")):
        field, equals, column = text.partition("=")
        if not equals or not column:
            raise UsageError(
                f"{text!r}: expected FIELD=COLUMN", hint=f"fields: {', '.join(FIELDS)}"
            )
        if field in found:
            raise UsageError(f"{field}: given twice")
        found[field] = column
    return found


def check_columns(found: Mapping[str, str]) -> None:
    """Raises UsageError for a field that there is not, and for a row that would be two things."""
    for field in found:
        if field not in FIELDS:
            near = did_you_mean(field, FIELDS) or f"fields: {', '.join(FIELDS)}"
            raise UsageError(f"unknown field {field!r}", hint=near)
    of_episode = found.keys() & {*OF_EPISODE}
    if bool(of_episode) == ("step" in found):
        hint = f"an episode with {', '.join(OF_EPISODE)}, or logged values with step"
        raise UsageError("a row is either an episode or logged values", hint=hint)


def table(source: str, files: Sequence[str], found: Mapping[str, str]) -> Table:
    """The run of a table whose columns are `found`, or of monitors without.

    Raises StorageError naming file, line and column, or that what columns mean is not known.
    """
    if source.endswith(WANDB):
        hint = "export the run as CSV, and --map"
        raise StorageError("files of W&B cannot be read", file=source, hint=hint)
    if found:
        return mapped(source, found)
    with bundle.opened(files[0], follow=True) as stream:
        if stream.read(2) != b"#{":
            raise StorageError("its columns are not known", file=files[0], hint="--map reward=…")
    return monitor(files, source)


def monitor(paths: Sequence[str], source: str) -> Table:
    """The files of the environments of one training, their episodes in order of time.

    Raises StorageError naming what is wrong in one.
    """
    rows: list[_Row] = []
    headers: list[dict[str, Any]] = []
    for path in paths:
        with bundle.opened(path, follow=True) as stream:
            first = stream.readline(1 << 16)
            try:
                header = orjson.loads(first[1:]) if first[:1] == b"#" else None
            except orjson.JSONDecodeError:
                header = None
            start = header.get("t_start") if isinstance(header, dict) else None
            if not isinstance(start, (int, float)) or not 0 <= start < 1e11:
                raise StorageError("is no monitor.csv of Stable-Baselines3", file=path)
            headers.append({**(header or {}), "t_start": start})
            with TextIOWrapper(stream, "utf-8") as text:
                for row in _csv(path, text, ",", 1):
                    seconds = row.number_of("t")
                    if seconds is None or not 0 <= seconds < 1e11:
                        raise row.wrong("t", "seconds")
                    rows.append(evolve(row, at=start + seconds))
    rows.sort(key=lambda row: row.at or 0.0)
    known = {name for row in rows for name in row.cells}
    found = {field: name for field, name in _MONITOR_COLUMNS.items() if not rows or name in known}
    if rows and len(found) < len(_MONITOR_COLUMNS):
        raise StorageError("has not the columns r, l and t", file=paths[0])
    if "is_success" in known:
        found["success"] = "is_success"
    header = min(headers, key=lambda one: one["t_start"])
    rows = [evolve(row, at=(row.at or 0.0) - header["t_start"]) for row in rows]
    name = header.get("env_id")
    table = _table(rows, found, paths, source, "stable-baselines3 monitor", header["t_start"])
    extra = {key: short(value, MAX_NAME) for key, value in header.items() if type(value) is str}
    subject = Subject(environment=storable(name) if isinstance(name, str) else "")
    config = Config(label=basename(source), data={"environments": len(paths), **extra})
    return evolve(table, record=evolve(table.record, subject=subject, config=config))


def mapped(path: str, found: Mapping[str, str]) -> Table:
    """A CSV, TSV or JSONL file whose columns mean these fields.

    Raises StorageError naming line and column, or that there is no such column.
    """
    suffix = os.path.splitext(path)[1].lower()
    with bundle.opened(path, follow=True) as stream:
        modified = os.fstat(stream.fileno()).st_mtime
        if suffix == ".jsonl":
            rows = list(_jsonl(path, stream))
        elif suffix in SUFFIXES:
            text = TextIOWrapper(stream, "utf-8-sig", newline="")
            rows = list(_csv(path, text, "\t" if suffix == ".tsv" else ",", 0))
        else:
            raise StorageError("is no table", file=path, hint=f"one of {', '.join(SUFFIXES)}")
    if not rows:
        raise StorageError("has no rows", file=path)
    known = list(dict.fromkeys(name for row in rows for name in row.cells))
    for column in found.values():
        if column not in known:
            near = did_you_mean(column, known) or short(f"columns: {', '.join(known)}", 200)
            raise StorageError(f"no column {column!r} with values", file=path, hint=near)
    began = modified
    if "time" in found:
        times = [row.number_of(found["time"]) for row in rows]
        for row, time in zip(rows, times, strict=True):
            if time is None or not 0 <= time < 1e11:
                raise row.wrong(found["time"], "seconds")
        first = min(time for time in times if time is not None)
        # Of a clock, not of a stopwatch: since 1970.
        offset, began = (first, first) if first > 1e8 else (0.0, modified)
        rows = [evolve(row, at=(t or 0.0) - offset) for row, t in zip(rows, times, strict=True)]
    return _table(rows, found, [path], path, suffix[1:], began)


def _table(
    rows: Sequence[_Row],
    found: Mapping[str, str],
    paths: Sequence[str],
    source: str,
    format: str,
    began: float,
) -> Table:
    digest = _digest(paths)
    names, left_out = _numeric(rows, {*found.values()})
    notes = [f"{name}: left out, because not all of it is numbers" for name in left_out]
    if rows and rows[0].at is None:
        notes.append("no times: `started` and `ended` are when the file was changed last")
    seconds = max((row.at or 0.0 for row in rows), default=0.0)
    episodes: tuple[Episode, ...] = ()
    calls: tuple[Logged, ...] = ()
    series = SeriesTally()
    if "step" in found:
        calls = tuple(_call(row, found["step"], names) for row in rows)
        for call in calls:
            series.add(call)
    else:
        episodes = tuple(_episode(i, row, found, names) for i, row in enumerate(rows))
    tally = Tally.of(episodes)
    digests: Digests = tally.digests()
    asked = canonical({"columns": dict(found), "files": digest})
    record = Experiment(
        id=f"table-{sha256(asked).hexdigest()[:16]}",
        status="imported",
        started=utc(began),
        ended=utc(began + seconds),
        wall_seconds=seconds if rows and rows[0].at is not None else None,
        subject=Subject(),
        results=tally.results(),
        digests=evolve(digests, series=series.digest()) if calls else digests,
        series=series.summaries(),
        config=Config(label=basename(source)),
        origin=Origin(
            kind="import",
            id=storable(basename(source)),
            format=format,
            sha256=digest,
            notes=tuple(map(storable, notes)),
            original={"columns": dict(found)},
        ),
    )
    return Table(record=record, episodes=episodes, calls=calls)


def _digest(paths: Sequence[str]) -> str:
    """Of one file its own, of several that of theirs."""
    each = []
    for path in paths:
        with bundle.opened(path, follow=True) as stream:
            each.append(file_digest(stream, "sha256").hexdigest())
    return each[0] if len(each) == 1 else sha256("".join(sorted(each)).encode()).hexdigest()


def _numeric(rows: Sequence[_Row], used: set[str]) -> tuple[list[str], list[str]]:
    """The further columns that hold numbers, and those that do not."""
    names = dict.fromkeys(name for row in rows for name in row.cells if name not in used)
    out: tuple[list[str], list[str]] = [], []
    for name in names:
        try:
            for row in rows:
                row.number_of(name)
        except StorageError:
            out[1].append(name)
        else:
            taken = name in ("steps", "reward") or len(name) > MAX_NAME or len(out[0]) == MAX_NAMES
            out[taken].append(name)
    return out


def _values(row: _Row, names: Sequence[str]) -> dict[str, float]:
    found = ((name, row.number_of(name)) for name in names)
    return {name: value for name, value in found if value is not None}


def _call(row: _Row, column: str, names: Sequence[str]) -> Logged:
    step = row.whole(column, -MAX_INT + 1)
    if step is None:
        raise row.wrong(column, "a whole number")
    try:
        return logged(step, 0, row.at or 0.0, _values(row, names))
    except ValueError as error:
        raise StorageError(str(error), file=row.file, field=f"line {row.number}") from None


def _episode(index: int, row: _Row, found: Mapping[str, str], names: Sequence[str]) -> Episode:
    reward, end = row.number_of(found.get("reward")), found.get("termination")
    episode = Episode(
        index=index,
        seed=row.whole(found.get("seed")),
        success=row.flag(found.get("success")),
        termination=None if end is None or end not in row.cells else storable(row.cells[end]),
        steps=row.whole(found.get("steps")),
        reward=None if reward is None else Measure(reward),
        counts=FrozenDict(),
        metrics=FrozenDict({k: Measure(v) for k, v in _values(row, names).items()}),
        timing=FrozenDict() if row.at is None else FrozenDict(at=row.at),
    )
    fields = {name: value for name, value in plain(episode).items() if name != "timing"}
    exact = canonical(fields)
    if len(exact) > MAX_EPISODE:
        raise StorageError("is too large", file=row.file, field=f"line {row.number}")
    return evolve(episode, exact=exact)


def _csv(path: str, stream: TextIOWrapper, delimiter: str, above: int) -> Iterator[_Row]:
    reader = csv.reader(stream, delimiter=delimiter)
    try:
        header = [name.strip() for name in next(reader, [])]
        twice = next((name for name in header if name and header.count(name) > 1), None)
        if twice is not None:
            raise StorageError(f"column {twice!r} is there twice", file=path)
        for cells in reader:
            if not cells:
                continue
            number = reader.line_num + above
            if len(cells) != len(header):
                cause = f"{len(cells)} cells, but {len(header)} columns"
                raise StorageError(cause, file=path, field=f"line {number}")
            pairs = zip(header, cells, strict=True)
            yield _Row(path, number, {name: cell for name, cell in pairs if name and cell.strip()})
    except UnicodeDecodeError:
        raise StorageError("is not UTF-8", file=path) from None
    except csv.Error as error:
        raise StorageError(str(error), file=path, field=f"line {reader.line_num + above}") from None


def _jsonl(path: str, stream: Any) -> Iterator[_Row]:
    for number, text in enumerate(stream, 1):
        if not text.strip():
            continue
        try:
            doc = _object(text)
        except ValueError as error:
            raise StorageError(str(error), file=path, field=f"line {number}") from None
        if type(doc) is not dict:
            raise StorageError("expected a JSON object", file=path, field=f"line {number}")
        yield _Row(path, number, {name: value for name, value in doc.items() if value is not None})


def _object(text: str | bytes) -> Any:
    """JSON, also with the NaN and Infinity that Python's own module writes."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        import json

        with suppress(ValueError, RecursionError):
            return json.loads(text)
        raise
