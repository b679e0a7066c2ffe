"""What hosts keep their options in, as plain data: mappings, objects with fields, sequences, names.

Kinds of other packages are recognised by what they have, so that none of them is imported.
"""

from __future__ import annotations

import os
from collections import UserString
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from functools import partial
from math import isfinite
from types import SimpleNamespace
from typing import Any

from qn_tracking.errors import ConfigError, describe, short
from qn_tracking.records.codec import canonical, check_text, scalar
from qn_tracking.records.limits import MAX_DEPTH as STORED_DEPTH, MAX_INT
from qn_tracking.redact import MARK

MAX_BYTES = 4 << 20
MAX_DEPTH = STORED_DEPTH - 2
"""A record holds it two levels down."""
MAX_NODES = 100_000
_SAID_AS_TEXT = (
    *(("torch", "device"), ("torch", "dtype"), ("numpy", "dtype"), ("uuid", "UUID")),
    *(("decimal", "Decimal"), ("fractions", "Fraction"), ("datetime", "timedelta")),
)
"""No text, but one text says all of it, as of a date."""
CHARACTERS = 100
"""Of a text that count as one more value: aliases repeat texts, too."""


def plain_options(value: Any, file: str) -> Any:
    """The same as dict, list, str, int, float, bool and None, within the bounds of a file.

    Raises ConfigError with the dotted field of what a configuration cannot hold.
    """
    return _Reader(file).read(value, "", 0)


class _Reader:
    def __init__(self, file: str) -> None:
        self._file = file
        self._nodes = 0

    def _fail(self, path: str, cause: str, hint: str | None = None) -> ConfigError:
        return ConfigError(cause, file=self._file, field=path or None, hint=hint)

    def _count(self, path: str, more: int) -> None:
        if self._nodes + more > MAX_NODES:
            raise self._fail(path, f"more than {MAX_NODES:,} values")

    def read(self, value: Any, path: str, depth: int) -> Any:
        self._count(path, 1)
        self._nodes += 1
        if depth > MAX_DEPTH:
            raise self._fail(path, f"nested deeper than {MAX_DEPTH}")
        if isinstance(value, Enum):
            value = value.value
        if value is None or type(value) is bool:
            return value
        if isinstance(value, (str, UserString, os.PathLike)):
            return self._text(value, path)
        if callable(getattr(type(value), "isoformat", None)):
            return self._text(value.isoformat(), path)
        if any(_derives(type(value), *one) for one in _SAID_AS_TEXT):
            return self._text(str(value), path)
        if hasattr(type(value), "get_secret_value"):  # of pydantic: never looked at
            return MARK
        if getattr(type(value), "__pydantic_root_model__", False):
            return self.read(value.root, path, depth + 1)
        if callable(getattr(type(value), "to_list", None)):  # a column of pandas or Polars
            value = value.to_list()
        members = _members(value)
        if members is not None:
            return self._mapping(*members, path, depth)
        if _is_sequence(value):
            size = self._get(len, value, path)
            self._count(path, size)
            places = [(i, f"{path}[{i}]") for i in range(size)]
            item = value.__getitem__
            return [self.read(self._get(item, i, here), here, depth + 1) for i, here in places]
        return self._name(value, path, depth) if callable(value) else self._number(value, path)

    def _mapping(
        self, keys: Iterable[Any], get: Callable[[Any], Any], path: str, depth: int
    ) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key in self._get(list, keys, path):
            name = key.value if isinstance(key, Enum) else key
            if not isinstance(name, str):
                raise self._fail(path, f"a key must be text, got {key!r}")
            name = self._text(name, path)
            here = f"{path}.{name}".lstrip(".")
            if name in data:
                raise self._fail(here, f"duplicate key, again as {key!r}")
            data[name] = self.read(self._get(get, key, here), here, depth + 1)
        return data

    def _get(self, get: Callable[[Any], Any], key: Any, path: str) -> Any:
        """A member, which some hosts compute when it is asked for, or declare to be missing."""
        try:
            return get(key)
        except Exception as error:
            cause = describe(error).partition("\n")[0]
            raise self._fail(path, f"has no value: {cause}", "set it, or leave it out") from None

    def _text(self, value: Any, path: str) -> str:
        if isinstance(value, str):
            text = str.__str__(value)
        else:
            text = os.fsdecode(value) if isinstance(value, os.PathLike) else str(value)
        try:
            self._count(path, len(text) // CHARACTERS)
            self._nodes += len(text) // CHARACTERS
            return check_text(text, path)
        except ValueError:
            raise self._fail(path, "not valid Unicode text") from None

    def _name(self, value: Any, path: str, depth: int) -> str:
        """The qualified name of what can be called; of a partial, with its arguments."""
        if isinstance(value, partial):
            words = [*value.args, *value.keywords.values()]
            given = [canonical(one).decode() for one in self.read(words, path, depth + 1)]
            places = len(value.args)
            named = map("=".join, zip(value.keywords, given[places:], strict=True))
            function = self._name(value.func, path, depth + 1)
            return f"{function}({', '.join([*given[:places], *named])})"
        names = (getattr(value, kind, None) for kind in ("__qualname__", "__name__"))
        known = (name for name in names if isinstance(name, str))
        return self._text(next(known, type(value).__qualname__), path)

    def _number(self, value: Any, path: str) -> Any:
        number = self._get(scalar, value, path)
        if isinstance(number, bool):
            return bool(number)
        if isinstance(number, str):
            return self._text(number, path)
        if isinstance(number, int):
            if not -MAX_INT < number < MAX_INT:
                raise self._fail(path, f"{short(str(number), 40)} is beyond 2**53")
            return int(number)
        if isinstance(number, float):
            if not isfinite(number):
                raise self._fail(path, f"{number} is not a finite number")
            return float(number)
        cause = f"expected text, a number, a list or a mapping, got {type(value).__name__}"
        raise self._fail(path, cause, "leave it out")


def _is_sequence(value: Any) -> bool:
    """Lists, tuples, ranges, deques and the like, arrays and tensors; bytes are none."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return False
    dimensions = getattr(value, "ndim", 0)
    return isinstance(value, Sequence) or (type(dimensions) is int and dimensions > 0)


def _members(value: Any) -> tuple[Iterable[Any], Callable[[Any], Any]] | None:
    """The keys of a mapping, or the fields of an object, and how to get one of them."""
    kind = type(value)
    if isinstance(value, Mapping):
        return value, value.__getitem__
    if hasattr(kind, "keys") and hasattr(kind, "__getitem__"):
        return value.keys(), value.__getitem__
    names = _field_names(value, kind)
    return None if names is None else (names, partial(getattr, value))


def _field_names(value: Any, kind: type) -> Iterable[str] | None:
    """Of a namespace, dataclass, attrs class, pydantic model, msgspec struct or named tuple."""
    if isinstance(value, SimpleNamespace) or _derives(kind, "argparse", "Namespace"):
        return list(vars(value))
    if (declared := getattr(kind, "__dataclass_fields__", None)) is not None:
        # Class variables, and what only `__init__` takes, are among them.
        return [name for name, one in declared.items() if one._field_type.name == "_FIELD"]
    if (declared := getattr(kind, "__attrs_attrs__", None)) is not None:
        return [one.name for one in declared]
    for names in ("__pydantic_fields__", "model_fields", "__fields__", "__struct_fields__"):
        if (declared := getattr(kind, names, None)) is not None:
            return [*declared, *(getattr(value, "__pydantic_extra__", None) or ())]
    named: Iterable[str] | None = getattr(kind, "_fields", None)
    return named if isinstance(value, tuple) else None


def _derives(kind: type, module: str, name: str) -> bool:
    return any(base.__module__ == module and base.__name__ == name for base in kind.__mro__)
