"""The arms of a study, from values of fields that are swept.

The values are written short on a command line: `0.001,0.003`, `geomspace(1e-4,1e-2,5)`. Nothing is
evaluated: what is no known function is YAML.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from math import isfinite
from typing import Any

from attrs import frozen

from qn_tracking.errors import UsageError, did_you_mean, short
from qn_tracking.records.codec import alike
from qn_tracking.yaml_core import parse as parse_yaml

MOST = 1000
"""Values of a field."""
NOT_SWEPT = {
    "seed": "--seeds gives the seeds that all arms share",
    "episodes": "all arms have the same number of episodes: --episodes N",
    "runs": "all arms have the same number of episodes: --episodes N",
    "plugins": "all arms have the same plugins",
}
_CALL = re.compile(r"([A-Za-z_]\w*)\s*\((.*)\)", re.DOTALL)
_CLOSES = {"(": ")", "[": "]", "{": "}"}

Factors = Mapping[str, Sequence[Any]]


@frozen(kw_only=True)
class Choice:
    """What makes an arm: the place of its configuration, the values of its fields, its name."""

    config: int
    values: Mapping[str, Any]
    name: str

    @property
    def overrides(self) -> list[str]:
        """As `FIELD=VALUE`, where the value is JSON, and so YAML."""
        return [
            f"{field}={json.dumps(value, ensure_ascii=False)}"
            for field, value in self.values.items()
        ]


def choices(labels: Sequence[str], factors: Factors, *, paired: bool = False) -> list[Choice]:
    """Every combination of the configurations and the values; `paired` takes the first values of
    all fields together, then the second ones.

    Raises UsageError for fields that cannot be swept, and for values that cannot be paired.
    """
    for field, given in factors.items():
        if field in NOT_SWEPT:
            raise UsageError("cannot be swept", file=_where(field), hint=NOT_SWEPT[field])
        if not 1 <= len(given) <= MOST:
            raise UsageError(f"{len(given)} values, expected 1 to {MOST}", file=_where(field))
        if not paired:
            _distinct(given, field)
    if paired:
        if len(factors) < 2:
            raise UsageError("--zip needs two fields or more to pair", hint="--sweep FIELD=VALUES")
        counts = {field: len(values) for field, values in factors.items()}
        if len(set(counts.values())) > 1:
            some = ", ".join(f"{field} has {count}" for field, count in counts.items())
            raise UsageError(f"--zip needs as many values of each field: {some}")
        _distinct([*zip(*factors.values(), strict=True)], ", ".join(factors))
    rows = zip(*factors.values(), strict=True) if paired else product(*factors.values())
    fields, names = short_fields(list(factors)), _stems(labels)
    found = []
    settings = [dict(zip(factors, row, strict=True)) for row in rows]
    for place, label in enumerate(names):
        for values in settings:
            words = [label] if len(names) > 1 or not values else []
            words += [f"{fields[field]}={text_of(value)}" for field, value in values.items()]
            found.append(Choice(config=place, values=values, name=" ".join(words)))
    return found


def one_choice(label: str, values: Mapping[str, Any]) -> Choice:
    """The arm of one value for each field. Raises UsageError as `choices`, and for no field."""
    if not values:
        raise UsageError("expected a value of a field at least", field="values")
    return choices([label], {field: [value] for field, value in values.items()})[0]


def _where(field: str) -> str:
    return f"--sweep {short(field)}"


def _distinct(values: Sequence[Any], field: str) -> None:
    """Raises UsageError for values, or for values that stand together, that are equal, or are the
    same in the name of an arm and in the command of a script.
    """
    seen: dict[str, Any] = {}
    for value in values:
        for text in (alike(value), f"name {_shown(value, text_of)}"):
            if text in seen:
                first, again = (_shown(one, _exact) for one in (seen[text], value))
                twice = f"{_shown(value, text_of)} is given twice"
                cause = twice if first == again else f"{first} and {again} are the same"
                raise UsageError(cause, file=_where(field))
            seen[text] = value


def _shown(value: Any, text: Callable[[Any], str]) -> str:
    return ", ".join(map(text, value)) if type(value) is tuple else text(value)


def _exact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def text_of(value: Any) -> str:
    """A value as it stands in the name of an arm."""
    return (
        value
        if type(value) is str
        else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    )


def short_fields(fields: Sequence[str]) -> dict[str, str]:
    """Each field by as few of its last parts as say which one it is."""
    out = {}
    for field in fields:
        parts = field.split(".")
        ends = [".".join(parts[-n:]) for n in range(1, len(parts) + 1)]
        unique = [
            end for end in ends if sum(f".{other}".endswith(f".{end}") for other in fields) == 1
        ]
        out[field] = (unique or [field])[0]
    return out


def _stems(labels: Sequence[str]) -> list[str]:
    """The names of files without their endings; where those meet, as given, or with a number."""
    stems = [os.path.splitext(os.path.basename(label))[0] for label in labels]
    numbered = [f"{stem} {place}" for place, stem in enumerate(stems, 1)]
    return next((some for some in (stems, list(labels)) if len(set(some)) == len(some)), numbered)


# ------------------------------------------------------------------------------------- the grammar


def factors(texts: Sequence[str]) -> dict[str, list[Any]]:
    """The fields and values that `FIELD=VALUES`, given any number of times, mean.

    Raises UsageError for what is malformed, ConfigError for a value that is no YAML.
    """
    found: dict[str, list[Any]] = {}
    for text in texts:
        field, equals, values = text.partition("=")
        field = field.strip()
        if not equals or not all(field.split(".")):
            hint = "such as --sweep brain.config.learning_rate=0.001,0.003"
            raise UsageError("expected FIELD=VALUES", file=_where(text), hint=hint)
        if field in found:
            raise UsageError("is given twice", file=_where(field), hint="with commas, once")
        found[field] = parse(values, _where(field))
    return found


def parse(text: str, where: str) -> list[Any]:
    """The values in a list with commas; a comma in brackets or quotes is part of a value."""
    found: list[Any] = []
    for item in split(text, where):
        call = _CALL.fullmatch(item)
        if call is None:
            found.append(parse_yaml(item, where))
            continue
        name, inside = call.groups()
        if name not in FUNCTIONS:
            hint = did_you_mean(name, FUNCTIONS) or "in quotes it is text"
            raise UsageError(f"unknown function {short(name)!r}", file=where, hint=hint)
        given = [parse_yaml(one, where) for one in split(inside, where)]
        try:
            found += FUNCTIONS[name](*_numbers(given))
        except (TypeError, ValueError) as error:
            cause = str(error) if type(error) is ValueError else "expected " + USAGE[name]
            raise UsageError(f"{short(item)}: {cause}", file=where) from None
        except OverflowError:
            raise UsageError(f"{short(item)}: too large", file=where) from None
    return found


def split(text: str, where: str) -> list[str]:
    """The parts between commas that are in no brackets and no quotes."""
    parts, start = [], 0
    open_: list[str] = []
    quote, before = "", ""
    for place, c in enumerate(text):
        if quote:
            if c == quote and not (quote == '"' and before == "\\"):
                quote = ""
            before = "" if before == "\\" else c
            continue
        if c in "\"'" and _begins(text[start:place], before, bool(open_)):
            quote = c
        elif c in _CLOSES:
            open_.append(_CLOSES[c])
        elif c in ")]}" and (not open_ or open_.pop() != c):
            raise UsageError(f"{c} without its opening bracket", file=where, hint=_QUOTE)
        elif c == "," and not open_:
            parts.append(text[start:place].strip())
            start = place + 1
        before = c if not c.isspace() else before
    if quote:
        raise UsageError(f"a quote {quote} is not closed", file=where)
    if open_:
        raise UsageError(f"{open_[-1]} is missing", file=where, hint=_QUOTE)
    parts.append(text[start:].strip())
    if not all(parts):
        raise UsageError("a value is empty", file=where, hint='"" is an empty text, null is none')
    return parts


_QUOTE = "text with brackets needs quotes"


def _begins(so_far: str, before: str, inside: bool) -> bool:
    """Whether a quote begins here: where a value does, or again in a quoted value (`''`)."""
    if inside:
        return before in "([{,:"
    return not so_far.strip() or so_far.lstrip()[0] in "\"'"


def _numbers(values: Sequence[Any]) -> Sequence[Any]:
    if not all(type(value) in (int, float) for value in values):
        raise ValueError("expected numbers")
    return values


def _range(first: Any, stop: Any = None, step: Any = 1) -> list[Any]:
    if not all(type(value) in (int, type(None)) for value in (first, stop, step)):
        raise ValueError("expected whole numbers (linspace takes others)")
    if step == 0:
        raise ValueError("the step is 0")
    found = range(first) if stop is None else range(first, stop, step)
    _count(len(found))
    return list(found)


def _linspace(first: Any, last: Any, count: Any) -> list[Any]:
    return _spaced(first, last, count, lambda share: first + (last - first) * share)


def _geomspace(first: Any, last: Any, count: Any) -> list[Any]:
    if first * last <= 0:
        raise ValueError("expected two ends of the same sign, neither of them 0")
    return _spaced(first, last, count, lambda share: first * (last / first) ** share)


def _spaced(first: Any, last: Any, count: Any, at: Callable[[float], float]) -> list[Any]:
    """Both ends exactly; between them 12 digits, so that names stay short. Whole if all are."""
    if type(count) is not int:
        raise ValueError("expected a whole number of values")
    _count(count)
    inner = [float(f"{at(i / (count - 1)):.12g}") for i in range(1, count - 1)]
    found = [first, *inner, *([last] if count > 1 else [])]
    if not all(map(isfinite, found)):
        raise OverflowError
    whole = type(first) is type(last) is int and all(value == int(value) for value in inner)
    return [int(value) if whole else float(value) for value in found]


def _count(count: int) -> None:
    if not 1 <= count <= MOST:
        raise ValueError(f"{count} values, expected 1 to {MOST}")


FUNCTIONS: dict[str, Callable[..., list[Any]]] = {
    "geomspace": _geomspace,
    "linspace": _linspace,
    "range": _range,
}
USAGE = {
    "geomspace": "geomspace(FIRST, LAST, COUNT)",
    "linspace": "linspace(FIRST, LAST, COUNT)",
    "range": "range(STOP), range(FIRST, STOP) or range(FIRST, STOP, STEP)",
}
