"""The one converter between records and JSON: exact types out, exact types in.

Writing needs attrs and orjson only; cattrs is imported by the first `structure`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from math import isfinite
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union

import attrs
import orjson

from qn_tracking.errors import ConfigError, QnError, did_you_mean
from qn_tracking.records.model import MAX_INT, FrozenDict, Measure

T = TypeVar("T")
MAX_DEPTH = 64


# ---------------------------------------------------------------------------------------- writing


def plain(value: Any, where: str = "", depth: int = 0) -> Any:
    """The value as JSON data: records become dicts, numbers that are not finite become text.

    Raises TypeError, ValueError or OverflowError naming the place of what JSON cannot hold: an
    unknown type, a key that is not text, nesting beyond 64, an integer beyond 2**53.
    """
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is str:
        return check_text(value, where)
    if kind is int:
        if -MAX_INT <= value <= MAX_INT:
            return value
        raise OverflowError(f"{where or 'value'}: {value} is beyond 2**53 and would be rounded")
    if kind is float:
        return value if isfinite(value) else not_finite(value)
    if depth > MAX_DEPTH:
        raise ValueError(f"{where}: nested deeper than {MAX_DEPTH}")
    if attrs.has(kind):
        return {
            a.name: plain(getattr(value, a.name), f"{where}.{a.name}".lstrip("."), depth + 1)
            for a in attrs.fields(kind)
            if a.metadata.get("stored", True)
        }
    if isinstance(value, Mapping):
        for key in value:
            if type(key) is not str:
                raise TypeError(f"{where or 'mapping'}: key {key!r} is not text")
            check_text(key, where)
        return {k: plain(v, f"{where}.{k}".lstrip("."), depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    if isinstance(value, (bool, int, float, str)):  # NumPy's float64, an IntEnum
        return plain(_base(value), where, depth)
    item = scalar(value)
    if item is not value:
        return plain(item, where, depth)
    raise TypeError(f"{where or 'value'}: {kind.__name__} cannot be stored in a record")


def _base(value: Any) -> Any:
    return next(kind(value) for kind in (bool, int, float, str) if isinstance(value, kind))


def scalar(value: Any) -> Any:
    """The Python number inside a NumPy scalar, 0-d array or one-element tensor, else the value."""
    item = getattr(value, "item", None)
    if item is None or getattr(value, "ndim", 0) != 0:
        return value
    return item()


def check_text(value: str, where: str) -> str:
    """The text, if UTF-8 can hold it; ValueError naming the place otherwise."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{where or 'value'}: not valid Unicode text") from None
    return value


def not_finite(value: float) -> str:
    """The text that stands for a number JSON has no notation for."""
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def document(record: Any) -> bytes:
    """A record as indented JSON with a final newline, in the order of its fields; re-parsed.

    A list of numbers or texts stays on one line: columns of a thousand lines help nobody's diff.
    """
    out: list[bytes] = []
    _indented(plain(record), b"\n", out)
    out.append(b"\n")
    data = b"".join(out)
    orjson.loads(data)
    return data


def _indented(value: Any, line: bytes, out: list[bytes]) -> None:
    is_mapping = type(value) is dict
    nested = is_mapping or (
        type(value) is list and any(type(item) in (dict, list) for item in value)
    )
    if not nested or not value:
        out.append(orjson.dumps(value))
        return
    deeper = line + b"  "
    for i, item in enumerate(value):
        out.append((b"," if i else b"{" if is_mapping else b"[") + deeper)
        if is_mapping:
            out.append(orjson.dumps(item) + b": ")
            item = value[item]
        _indented(item, deeper, out)
    out.append(line + (b"}" if is_mapping else b"]"))


def canonical(value: Any) -> bytes:
    """The one byte string for a value: sorted keys, no spaces, shortest float notation."""
    return orjson.dumps(plain(value), option=orjson.OPT_SORT_KEYS)


def digest(data: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


# ---------------------------------------------------------------------------------------- reading


def structure(
    data: Mapping[str, Any],
    cls: type[T],
    *,
    file: str,
    field: str = "",
    error: type[QnError] = ConfigError,
    also: Sequence[str] = (),
) -> T:
    """An attrs class from plain data: exact types, unknown keys refused.

    An int is taken for a float, nothing else for anything else. Raises `error` with the file, the
    dotted field of the first problem, its cause and, for a mistyped key, the near ones; `also` are
    keys beside those of the class that may have been meant.
    """
    try:
        return _converter().structure(data, cls)  # type: ignore[no-any-return]
    except _Problem as problem:
        path = _dotted([*([field] if field else []), *reversed(problem.path)])
        hint = problem.hint
        if not problem.path and problem.unknown is not None:
            hint = did_you_mean(problem.unknown, also) or hint
        raise error(problem.cause, file=file, field=path or None, hint=hint) from None
    except QnError as raised:  # the outermost class's own check across its fields
        path = _dotted([part for part in (field, raised.field) if part])
        raise error(raised.cause, file=file, field=path or None, hint=raised.hint) from None


class _Problem(Exception):
    """What is wrong with plain data; `path` grows from the inside out."""

    def __init__(self, cause: str, hint: str | None = None, unknown: str | None = None) -> None:
        super().__init__(cause)
        self.cause, self.hint, self.unknown = cause, hint, unknown
        self.path: list[str | int] = []


def _dotted(path: list[str | int]) -> str:
    parts = (f"[{part}]" if type(part) is int else f".{part}" for part in path)
    return "".join(parts).removeprefix(".")


def _got(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    if value is None or type(value) is bool:
        return {None: "nothing", True: "true", False: "false"}[value]
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def _exact(kind: type, name: str) -> Any:
    def hook(value: Any, _: Any) -> Any:
        if type(value) is not kind:
            raise _Problem(f"expected {name}, got {_got(value)}")
        return value

    return hook


def _bounded(value: Any) -> Any:
    """The value, unless it is an integer that a reader of JSON would round."""
    if type(value) is int and not -MAX_INT <= value <= MAX_INT:
        raise _Problem("an integer beyond 2**53")
    return value


def _whole(value: Any, _: Any) -> int:
    if type(value) is not int:
        raise _Problem(f"expected a whole number, got {_got(value)}")
    return int(_bounded(value))


def _anything(value: Any, _: Any) -> Any:
    """Frozen, and with no integer beyond the bound inside."""
    if isinstance(value, Mapping):
        out = {}
        for key, item in value.items():
            with _inside(key):
                out[key] = _anything(item, None)
        return FrozenDict(out)
    if isinstance(value, (list, tuple)):
        items = []
        for i, item in enumerate(value):
            with _inside(i):
                items.append(_anything(item, None))
        return tuple(items)
    return _bounded(value)


def _float(value: Any, _: Any) -> float:
    if type(value) is float or type(value) is int:
        return float(_bounded(value))
    raise _Problem(f"expected a number, got {_got(value)}")


_NOT_FINITE = ("NaN", "Infinity", "-Infinity")


def _measure(value: Any, cls: Any) -> float:
    return float(value) if type(value) is str and value in _NOT_FINITE else _float(value, cls)


@contextmanager
def _inside(part: str | int) -> Iterator[None]:
    """Whatever is wrong in here is wrong with that part."""
    try:
        yield
    except _Problem as problem:
        problem.path.append(part)
        raise
    except QnError as error:  # a class's own check across its fields
        inner = _Problem(error.cause, error.hint)
        inner.path = [*([error.field] if error.field else []), part]
        raise inner from None
    except (ValueError, TypeError) as error:  # a validator
        inner = _Problem(str(error.args[0]) if error.args else type(error).__name__)
        inner.path = [part]
        raise inner from None


def _mapping(value: Any) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise _Problem(f"expected a mapping, got {_got(value)}")
    return value


@cache
def _converter() -> Any:
    import cattrs

    converter = cattrs.Converter()
    register = converter.register_structure_hook_factory
    converter.register_structure_hook(bool, _exact(bool, "true or false"))
    converter.register_structure_hook(int, _whole)
    converter.register_structure_hook(str, _exact(str, "text"))
    converter.register_structure_hook(float, _float)
    converter.register_structure_hook(Measure, _measure)
    converter.register_structure_hook(Any, _anything)

    @register(attrs.has)
    def _(cls: Any) -> Any:
        def hook(value: Any, _: Any) -> Any:
            given = _mapping(value)
            fields = [a for a in attrs.fields(cls) if a.metadata.get("stored", True)]
            names = [a.name for a in fields]
            for key in given:
                if key not in names:
                    hint = did_you_mean(str(key), names) or f"known: {', '.join(names)}"
                    raise _Problem(f"unknown key {key!r}", hint, str(key))
            kwargs = {}
            for a in fields:
                if a.name in given:
                    with _inside(a.name):
                        kwargs[a.name] = converter.structure(given[a.name], types[a.name])
                        if a.validator is not None:
                            a.validator(None, a, kwargs[a.name])
                elif a.default is attrs.NOTHING:
                    with _inside(a.name):
                        raise _Problem("missing")
            return cls(**kwargs)

        attrs.resolve_types(cls)
        types = {a.name: a.type for a in attrs.fields(cls)}
        return hook

    @register(lambda kind: getattr(kind, "__origin__", kind) in (Mapping, dict, FrozenDict))
    def _(kind: Any) -> Any:
        item = getattr(kind, "__args__", (str, Any))[1]

        def hook(value: Any, _: Any) -> Any:
            out = {}
            for key, entry in _mapping(value).items():
                with _inside(key):
                    out[_exact(str, "text as a key")(key, str)] = converter.structure(entry, item)
            return FrozenDict(out)

        return hook

    @register(lambda kind: getattr(kind, "__origin__", kind) is tuple)
    def _(kind: Any) -> Any:
        args = getattr(kind, "__args__", (Any, ...))

        def hook(value: Any, _: Any) -> Any:
            if not isinstance(value, (list, tuple)):
                raise _Problem(f"expected a list, got {_got(value)}")
            if args[-1] is not ... and len(value) != len(args):
                raise _Problem(f"expected {len(args)} values, got {len(value)}")
            kinds = args[:1] * len(value) if args[-1] is ... else args
            out = []
            for i, (entry, item) in enumerate(zip(value, kinds, strict=True)):
                with _inside(i):
                    out.append(converter.structure(entry, item))
            return tuple(out)

        return hook

    @register(lambda kind: getattr(kind, "__origin__", None) is Literal)
    def _(kind: Any) -> Any:
        options = kind.__args__

        def hook(value: Any, _: Any) -> Any:
            if not any(type(value) is type(option) and value == option for option in options):
                names = [str(option) for option in options]
                raise _Problem(
                    f"expected one of {', '.join(names)}, got {_got(value)}",
                    did_you_mean(str(value), names),
                )
            return value

        return hook

    @register(lambda kind: isinstance(kind, UnionType) or getattr(kind, "__origin__", 0) is Union)
    def _(kind: Any) -> Any:
        options = [option for option in kind.__args__ if option is not NoneType]

        def hook(value: Any, _: Any) -> Any:
            if value is None and NoneType in kind.__args__:
                return None
            for option in options[:-1]:
                with suppress(_Problem):
                    return converter.structure(value, option)
            return converter.structure(value, options[-1])

        return hook

    return converter
