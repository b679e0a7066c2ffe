"""The fields that the index keeps of every experiment in columns of its own.

Each is one line of `FIELDS`. The table of the database, the rows that are written to it, what
`--where` finds there, what `--sort` and `--columns` understand, how a list shows it and what a
table of experiments has as columns all come from that line.
"""

from __future__ import annotations

from qn_tracking.errors import StorageError
from qn_tracking.records.limits import NOT_FINITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Dumps = Callable[[Any], str]


def label_key(label: str) -> str:
    """A configuration's name without folder and ending, as `--config` asks for it."""
    name = label.rsplit("/", 1)[-1]
    for ending in (".yml", ".yaml"):
        name = name.removesuffix(ending)
    return name


TEXT, WHOLE, NUMBER, MEASURE = (str,), (int,), (int, float), (int, float, str)
"""Types of a field in JSON; a measure that is not finite is text."""
FLAG, LIST, MAPPING = (bool,), (list,), (dict,)

_SQL = {TEXT: "TEXT", WHOLE: "INTEGER", NUMBER: "REAL", MEASURE: "REAL", FLAG: "INTEGER"}


class Field:
    """A field of the index.

    `path` is where a record has it, `kinds` its types there. `title` heads its column in a table,
    `show` says how a cell shows it. A `listed` field is in every list; of a table that is too wide,
    cells are cut to `least` characters, and the columns with the highest `drop` left out first.
    An `indexed` field is found without looking at every row. `also` is another name for it.
    `convert` makes the value of the column; of a `lenient` field another type counts as absent.
    """

    def __init__(
        self,
        name: str,
        path: str,
        kinds: tuple[type, ...],
        title: str = "",
        *,
        show: str = "text",
        listed: bool = False,
        drop: int = 0,
        least: int | None = None,
        indexed: bool = False,
        also: str = "",
        convert: Callable[[Any, Dumps], Any] | None = None,
        lenient: bool = False,
    ) -> None:
        self.name = name
        self.path = tuple(path.split("."))
        self.kinds = kinds
        self.title = title or name.upper().replace("_", " ")
        self.show = show
        self.listed = listed
        self.drop = drop
        self.least = least
        self.indexed = indexed
        self.also = also
        self.convert = convert
        self.lenient = lenient
        self.sortable = kinds not in (LIST, MAPPING)
        self.right = kinds in (WHOLE, NUMBER, MEASURE)

    @property
    def sql(self) -> str:
        """The definition of the column."""
        return f'"{self.name}" {_SQL.get(self.kinds, "TEXT")}'

    @property
    def plain(self) -> bool:
        """Whether the column holds just what the record does, so that `--where` may ask it."""
        return self.convert is None and (self.indexed or self.name in ("id", "notes"))


FIELDS = (
    Field("id", "id", TEXT, "ID", listed=True),
    Field("started", "started", TEXT, "STARTED (UTC)", show="time", listed=True, drop=3),
    Field("status", "status", TEXT, show="status", listed=True, drop=1, indexed=True),
    Field("environment", "subject.environment", TEXT, listed=True, drop=6, least=11, indexed=True),
    Field("brain", "subject.brain", TEXT, listed=True, drop=4, least=5, indexed=True),
    Field("family", "subject.family", TEXT, drop=12, least=6, indexed=True),
    Field("config", "config.label", TEXT, listed=True, drop=9, least=6, indexed=True,
          convert=lambda label, _: label_key(label)),
    Field("config_file", "config.label", TEXT, drop=14, least=8),
    Field("digest", "config.digest", TEXT, drop=15, least=8, indexed=True),
    Field("commit", "facts.metadata.git.commit", TEXT, drop=13, least=8, indexed=True,
          lenient=True, convert=lambda commit, _: commit),
    Field("dirty", "facts.metadata.git.dirty", FLAG, show="flag", drop=16, indexed=True,
          lenient=True, convert=lambda dirty, _: int(dirty)),
    Field("seed", "seed", WHOLE, listed=True, drop=10, least=6, indexed=True),
    Field("episodes", "results.episodes", WHOLE, show="episodes", listed=True, drop=5),
    Field("planned", "episodes", WHOLE, drop=17),
    Field("success_rate", "results.success_rate", NUMBER, "SUCCESS", show="rate", listed=True,
          drop=2, indexed=True, also="success"),
    Field("final_success_rate", "results.final_success_rate", NUMBER, "FINAL", show="rate",
          drop=2, also="final"),
    Field("reward", "results.avg_reward", MEASURE, show="number", listed=True, drop=7,
          indexed=True),
    Field("steps", "results.total_steps", WHOLE, drop=8),
    Field("wall_seconds", "wall_seconds", NUMBER, "TIME", show="duration", drop=8,
          also="duration"),
    Field("curve", "results.curve", LIST, show="curve", listed=True, drop=8,
          convert=lambda curve, dumps: dumps(curve)),
    Field("curve_of", "results.curve_of", TEXT, show="", drop=18),
    Field("tags", "tags", MAPPING, show="tags", listed=True, drop=11, least=8),
    Field("notes", "notes", TEXT, drop=12, least=8),
)  # fmt: skip
"""In the order of the columns of a list."""

COLUMNS = ("at", *(field.name for field in FIELDS), "labels")
"""The columns of the table `run`: besides the fields, what rows are ordered by, and the labels
that were added later. In `tags` and `notes` these are included."""

NAMES = {name: field for field in FIELDS for name in (field.name, field.also) if name}
"""Fields by every name that they have."""

BY_PATH = {field.path: field for field in FIELDS if field.plain}
"""Fields that `--where` asks of a column."""

SORTS = {name: field for name, field in NAMES.items() if field.sortable}
"""Names that `--sort` takes, besides the stored fields."""


# Fields below the same section: it is looked up once for all of them.
_SECTIONS: dict[tuple[tuple[str, ...], bool], list[Field]] = {}
for _field in FIELDS:
    _SECTIONS.setdefault((_field.path[:-1], _field.lenient), []).append(_field)


PARTS = ("config", "results", "metrics", "facts", "rest")
"""A document is kept in parts, for a question about one field reads only the part that holds it."""

STEP = "\x1f"
"""Between the names of a path; no name has it."""
HOMES = ("config", "results", "facts")
"""Fields of a record that have a part of their own."""


class Column:
    """Where the index keeps a field: a table, and the SQL of the value in it.

    `raw` is the same as JSON where that distinguishes true from 1; a plain column holds no true.
    """

    __slots__ = ("expression", "kind", "table")

    def __init__(self, table: str, expression: str, kind: str | None) -> None:
        self.table = table
        self.expression = expression
        self.kind = kind


def place_in_time(micro: int) -> int:
    """The first place in the order of experiments that starts at a time, in microseconds since
    1970; times before 1970 or after 2112 are all in one place.
    """
    return min(max(micro, 0), 2**52) * 1024


def values(doc: dict[str, Any], file: str, dumps: Dumps) -> dict[str, Any]:
    """The fields of a document by name. Raises StorageError for one of another type.

    So does a summary that is not one of numbers: tables of many runs take these as they are.
    """
    out: dict[str, Any] = {}
    for (path, lenient), fields in _SECTIONS.items():
        section: Any = doc
        for i, step in enumerate(path):
            section = section.get(step)
            if type(section) is not dict:
                if section is not None and not lenient:
                    raise _unexpected(section, file, path[: i + 1])
                section = {}
                break
        for field in fields:
            value = section.get(field.path[-1])
            if value is None:
                pass
            elif type(value) not in field.kinds:
                if not lenient:
                    raise _unexpected(value, file, field.path)
                value = None
            elif type(value) is int and not -(2**63) <= value < 2**63:
                raise StorageError("a number beyond 64 bits", file=file, field=".".join(field.path))
            elif field.convert is not None:
                value = field.convert(value, dumps)
            out[field.name] = value
    _check_summaries(doc.get("results") or {}, file)
    return out


def _check_summaries(results: dict[str, Any], file: str) -> None:
    """Raises StorageError for a curve, a metric or a termination without its numbers."""
    for i, value in enumerate(results.get("curve") or ()):
        if not _measured(value):
            raise _unexpected(value, file, ("results", "curve", str(i)))
    for name, kind in (("terminations", WHOLE), ("metrics", MAPPING)):
        found = results.get(name) or {}
        if type(found) is not dict:
            raise _unexpected(found, file, ("results", name))
        for key, value in found.items():
            if type(value) not in kind:
                raise _unexpected(value, file, ("results", name, key))
    for name, spread in (results.get("metrics") or {}).items():
        for key, value in spread.items():
            if value is not None and not _measured(value):
                raise _unexpected(value, file, ("results", "metrics", name, key))


def _measured(value: Any) -> bool:
    kind = type(value)
    return kind is float or kind is int or (kind is str and value in NOT_FINITE)


def _unexpected(value: Any, file: str, path: tuple[str, ...]) -> StorageError:
    kinds = {bool: "true or false", int: "number", float: "number", str: "text", list: "list"}
    kind = kinds.get(type(value), "mapping")
    return StorageError(f"unexpected {kind}", file=file, field=".".join(path))
