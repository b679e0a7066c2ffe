"""Conversion between records and JSON, with exact types in both directions.

Writing needs only attrs and orjson; the first call of `structure` imports cattrs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from math import isfinite
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union

import attrs
import orjson

from qn_tracking.errors import ConfigError, QnError, StorageError, did_you_mean, short
from qn_tracking.records.limits import MAX_BYTES, MAX_DEPTH, MAX_INT, NOT_FINITE, not_finite
from qn_tracking.records.model import Attachment, FrozenDict, Measure

T = TypeVar("T")


# ---------------------------------------------------------------------------------------- writing


def plain(value: Any, where: str = "", depth: int = 0) -> Any:
    """Return the value as JSON data: records become dicts, NaN and infinities become text.

    Raises TypeError, ValueError or OverflowError with the path to what JSON cannot store: an
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
            if (stored := a.metadata.get("stored", True)) is True
            or (stored and getattr(value, a.name))  # "if any"
        }
    if isinstance(value, Mapping):
        for key in value:
            if type(key) is not str:
                raise TypeError(f"{where or 'mapping'}: key {key!r} is not text")
            check_text(key, where)
        return {k: plain(v, f"{where}.{k}".lstrip("."), depth + 1) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    for base in (int, float, str):  # NumPy's float64, an IntEnum
        if isinstance(value, base):
            return plain(base(value), where, depth)
    item = scalar(value)
    if item is not value:
        return plain(item, where, depth)
    raise TypeError(f"{where or 'value'}: {kind.__name__} cannot be stored in a record")


def scalar(value: Any) -> Any:
    """Return the Python number in a NumPy scalar, 0-d array or tensor; else the value, also one
    that is masked, which has no number.
    """
    item = getattr(value, "item", None)
    if not callable(item) or getattr(value, "ndim", 0) != 0:
        return value
    return value if getattr(value, "mask", False) else item()


def check_text(value: str, where: str) -> str:
    """Return the text if UTF-8 can encode it, or raise ValueError with its path."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{where or 'value'}: not valid Unicode text") from None
    return value


def document(record: Any) -> bytes:
    """Return a record as indented JSON with a final newline, in the order of its fields.

    A list of numbers or texts stays on one line, so that a column of episodes is one line of a
    diff. The result is parsed once, as a check. Raises StorageError for more than readers accept.
    """
    out: list[bytes] = []
    _indented(plain(record), b"\n", out)
    out.append(b"\n")
    data = b"".join(out)
    if len(data) > MAX_BYTES:
        raise StorageError(f"would be larger than {MAX_BYTES >> 20} MiB, which no reader accepts")
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
    """Return the JSON of a value with sorted keys, no spaces and the shortest floats."""
    return orjson.dumps(plain(value), option=orjson.OPT_SORT_KEYS)


def alike(value: Any) -> str:
    """The text of a value, the same for values that are equal: 1, 1.0 and true, in lists too."""
    return json.dumps(_as_numbers(value), sort_keys=True)


def _as_numbers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_numbers(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_numbers(item) for item in value]
    return int(value) if isinstance(value, (bool, float)) and value % 1 == 0 else value


def digest(data: bytes) -> str:
    """Return the SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def attachment(name: str, data: bytes) -> Attachment:
    """A text of a run, with its size and digest."""
    return Attachment(name=name, size=len(data), sha256=digest(data), data=data)


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
    """Build an attrs class from plain data: exact types, unknown keys refused.

    An int is accepted for a float; nothing else is converted. Raises `error` with the file, the
    dotted field of the first problem, its cause and, for a mistyped key, the nearest known one.
    `also` are keys beside those of the class that the user may have meant.
    """
    try:
        return _converter().structure(data, cls)  # type: ignore[no-any-return]
    except (ExceptionGroup, ValueError, QnError) as raised:
        raise _explained(raised, file, field, error, also) from None


def _explained(
    raised: Exception, file: str, field: str, kind: type[QnError], also: Sequence[str]
) -> QnError:
    """The first problem inside cattrs' groups of exceptions, as one error with its field.

    Each note on an exception is one step of the path to the problem, the innermost first.
    """
    from cattrs.errors import AttributeValidationNote, ForbiddenExtraKeysError

    path = field
    while True:
        for note in reversed(getattr(raised, "__notes__", ())):
            part = note.name if isinstance(note, AttributeValidationNote) else note.index
            path += f"[{part}]" if type(part) is int else f".{part}"
        if not isinstance(raised, ExceptionGroup):
            break
        parts = raised.exceptions
        raised = next((e for e in parts if isinstance(e, ForbiddenExtraKeysError)), parts[0])
    hint = None
    if isinstance(raised, ForbiddenExtraKeysError):
        key = min(map(str, raised.extra_fields))
        known = [a.name for a in _stored(raised.cl)]
        cause = f"unknown key {key!r}"
        hint = did_you_mean(key, known) or f"known: {', '.join(known)}"
        if path == field:
            hint = did_you_mean(key, also) or hint
    elif isinstance(raised, KeyError):
        cause = "missing"
    elif isinstance(raised, QnError):  # a check of the class across its fields
        cause, hint = raised.cause, raised.hint
        path += f".{raised.field}" if raised.field else ""
    elif isinstance(raised, (ValueError, TypeError)):
        cause = str(raised.args[0]) if raised.args else type(raised).__name__
    else:
        raise raised
    return kind(cause, file=file, field=path.removeprefix(".") or None, hint=hint)


def _stored(cls: type) -> list[attrs.Attribute[Any]]:
    return [a for a in attrs.fields(cls) if a.metadata.get("stored", True)]


def _got(value: Any) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    if value is None or type(value) is bool:
        return {None: "nothing", True: "true", False: "false"}[value]
    return short(repr(value))


def _exact(kind: type, name: str) -> Any:
    def hook(value: Any, _: Any) -> Any:
        if type(value) is not kind:
            raise ValueError(f"expected {name}, got {_got(value)}")
        return value

    return hook


def _bounded(value: Any) -> Any:
    """Return the value, or refuse an integer that a reader of JSON would round."""
    if type(value) is int and not -MAX_INT <= value <= MAX_INT:
        raise ValueError("an integer beyond 2**53")
    return value


def _whole(value: Any, _: Any) -> Any:
    if type(value) is not int:
        raise ValueError(f"expected a whole number, got {_got(value)}")
    return _bounded(value)


def _float(value: Any, _: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is int:
        return float(_bounded(value))
    raise ValueError(f"expected a number, got {_got(value)}")


def _measure(value: Any, _: Any) -> float:
    return float(value) if value in NOT_FINITE else _float(value, _)


def _anything(value: Any, _: Any) -> Any:
    """Freeze a value of any type, and check its integers."""
    if isinstance(value, Mapping):
        return FrozenDict(_each(value.items(), _anything, Any))
    if isinstance(value, (list, tuple)):
        return tuple([item for _, item in _each(enumerate(value), _anything, Any)])
    return _bounded(value)


def _each(items: Iterable[tuple[Any, Any]], hook: Any, kind: Any) -> Iterator[tuple[Any, Any]]:
    """Pass each item through a hook; an error gets the key of the item as a note."""
    for key, item in items:
        try:
            yield key, hook(item, kind)
        except Exception as error:
            from cattrs.errors import IterableValidationNote

            error.add_note(IterableValidationNote("", key, kind))
            raise


def _mapping(value: Any) -> Mapping[Any, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a mapping, got {_got(value)}")
    return value


@cache
def _converter() -> Any:
    from cattrs import Converter

    converter = Converter()
    converter.register_structure_hook(bool, _exact(bool, "true or false"))
    converter.register_structure_hook(int, _whole)
    converter.register_structure_hook(str, _exact(str, "text"))
    converter.register_structure_hook(float, _float)
    converter.register_structure_hook(Measure, _measure)
    converter.register_structure_hook(Any, _anything)
    for predicate, factory in (
        (attrs.has, _class_hook),
        (lambda kind: getattr(kind, "__origin__", kind) in (Mapping, dict), _mapping_hook),
        (lambda kind: getattr(kind, "__origin__", kind) is tuple, _tuple_hook),
        (lambda kind: getattr(kind, "__origin__", None) is Literal, _literal_hook),
        (lambda kind: getattr(kind, "__origin__", type(kind)) in (Union, UnionType), _union_hook),
    ):
        converter.register_structure_hook_factory(predicate, factory)
    return converter


def _class_hook(cls: Any, converter: Any) -> Any:
    """The hook that cattrs generates, for mappings only; a validator's error names its field."""
    from cattrs.gen import make_dict_structure_fn, override

    attrs.resolve_types(cls)
    overrides = {}
    for a in attrs.fields(cls):
        if not a.metadata.get("stored", True):
            overrides[a.name] = override(omit=True)
        elif a.validator is not None:
            overrides[a.name] = override(struct_hook=_validated(a, converter))
    build = make_dict_structure_fn(
        cls,
        converter,
        _cattrs_forbid_extra_keys=True,
        **overrides,  # type: ignore[arg-type]
    )
    return lambda value, _: build(_mapping(value), cls)


def _validated(a: attrs.Attribute[Any], converter: Any) -> Any:
    hook = converter.get_structure_hook(a.type)

    def validated(value: Any, kind: Any) -> Any:
        result = hook(value, kind)
        a.validator(None, a, result)  # type: ignore[misc]
        return result

    return validated


def _mapping_hook(kind: Any, converter: Any) -> Any:
    item = getattr(kind, "__args__", (str, Any))[1]
    hook = converter.get_structure_hook(item)

    def structure_mapping(value: Any, _: Any) -> Any:
        for key in _mapping(value):
            if type(key) is not str:
                raise ValueError(f"expected text as a key, got {_got(key)}")
        return FrozenDict(_each(value.items(), hook, item))

    return structure_mapping


def _tuple_hook(kind: Any, converter: Any) -> Any:
    args = getattr(kind, "__args__", (Any, ...))
    fixed = None if args[-1] is ... else len(args)
    item = args[0]  # tuples of a fixed length have one type of item, too
    hook = converter.get_structure_hook(item)

    def structure_tuple(value: Any, _: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"expected a list, got {_got(value)}")
        if fixed is not None and len(value) != fixed:
            raise ValueError(f"expected {fixed} values, got {len(value)}")
        return tuple([entry for _, entry in _each(enumerate(value), hook, item)])

    return structure_tuple


def _literal_hook(kind: Any, _: Any) -> Any:
    def structure_literal(value: Any, _: Any) -> Any:
        if not any(type(value) is type(option) and value == option for option in kind.__args__):
            names = [str(option) for option in kind.__args__]
            raise QnError(
                f"expected one of {', '.join(names)}, got {_got(value)}",
                hint=did_you_mean(str(value), names),
            )
        return value

    return structure_literal


def _union_hook(kind: Any, converter: Any) -> Any:
    """The first type of the union that accepts the value; the last one's error otherwise."""
    optional = NoneType in kind.__args__
    *others, last = ((t, converter.get_structure_hook(t)) for t in kind.__args__ if t != NoneType)

    def structure_union(value: Any, _: Any) -> Any:
        if value is None and optional:
            return None
        for option, hook in others:
            with suppress(ValueError, ExceptionGroup, QnError):
                return hook(value, option)
        return last[1](value, last[0])

    return structure_union
