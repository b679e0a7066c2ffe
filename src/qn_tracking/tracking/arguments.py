"""What a loop passes to `episode()` and `log()`: checked, and taken as what a record can hold.

NumPy and tensor scalars are taken as the numbers they hold. Errors name the argument by its key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from math import inf, isfinite, nan
from typing import Any

import orjson

from qn_tracking.errors import printable, storable
from qn_tracking.records.limits import as_number, not_finite
from qn_tracking.records.model import MAX_INT

NAMES = (
    "success", "termination", "steps", "reward", "counts", "metrics", "timing", "phase",
)  # fmt: skip
"""What a keyword of `episode()` may be a misspelling of; `seed` is too near to `speed`."""


HERE = {
    **dict.fromkeys(
        ("add_scalar", "add_scalars", "log_metric", "log_metrics"), "log({name: value}, step)"
    ),
    **dict.fromkeys(("log_param", "log_params", "add_hparams", "config"), "track({…}) takes them"),
    **dict.fromkeys(("add_text", "log_dict", "log_text", "log_table"), "add_facts(name, {…})"),
    "summary": "add_facts(name, {…}); of each series last, mean, min and max are kept",
    **dict.fromkeys(("log_artifacts", "log_model", "save"), "log_artifact(path, type)"),
    **dict.fromkeys(("close", "finish", "stop", "end_run"), "end()"),
    **dict.fromkeys(
        ("add_tags", "set_tag", "set_tags", "tags"), "track(…, tags={…}), or qn-exp tag"
    ),
    **dict.fromkeys(("name", "group", "notes"), "track(…, name=…, group=…, notes=…)"),
    "flush": "nothing: a value is on disk when log() returns",
    "define_metric": "nothing: each series has its own steps",
}
"""What the calls of other trackers are called here."""


def one_letter_off(word: str, name: str) -> bool:
    """Whether a word is a name with one letter added, left out, replaced, or two exchanged."""
    if word == name or abs(len(word) - len(name)) > 1:
        return False
    same = (a == b for a, b in zip(word, name, strict=False))
    begin = next((i for i, here in enumerate(same) if not here), min(len(word), len(name)))
    a, b = word[begin:], name[begin:]
    return a[1:] == b or a == b[1:] or a[1:] == b[1:] or (a[:2] == b[1::-1] and a[2:] == b[2:])


def name(where: str, key: Any) -> str:
    """A name in a mapping as text; `numpy.str_` and members of a `str` enum are text."""
    if not isinstance(key, str):
        raise TypeError(f"{where}: {key!r}: expected text as a name, got {type(key).__name__}")
    return text_of(where, key)


def taken(names: set[str], why: str) -> ValueError:
    """The error that names the first of the metrics whose name is taken."""
    first = min(names)
    others = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    return ValueError(f"metrics.{printable(first)}: the name is taken: {why}{others}")


def not_unicode(fields: Mapping[str, Any]) -> ValueError:
    """The error that names the field of an episode that JSON cannot hold."""
    for field, value in fields.items():
        names = value if isinstance(value, Mapping) else () if value is None else (value,)
        for text in names:
            if isinstance(text, str) and storable(text) != text:
                return ValueError(f"{field}: {printable(text)}: not valid Unicode")
    return ValueError("a value cannot be stored as JSON")


def too_large(fields: Mapping[str, Any]) -> ValueError:
    """The error that names the largest field of an episode that no line can hold."""
    sizes = {name: len(orjson.dumps(value)) for name, value in fields.items()}
    name = max(sizes, key=sizes.__getitem__)
    return ValueError(f"{name}: {sizes[name]:,} bytes are too many for an episode")


def item(value: Any) -> Any:
    """The Python number in a NumPy or tensor scalar, or in an array of one value, of any shape.

    Other values are returned as they are; so is one that is masked, which is no number.
    """
    get = getattr(value, "item", None)
    if not callable(get):
        return value
    mask = getattr(value, "mask", None)
    if mask is not None and hasattr(mask, "all") and bool(mask.all()):
        return value
    try:
        return get()
    except (TypeError, ValueError, RuntimeError):  # more than one value
        return value


def flag(key: str, value: Any) -> bool:
    """True or false. Raises TypeError."""
    found = item(value)
    if type(found) is not bool:
        raise TypeError(f"{key}: expected true or false, got {type(value).__name__}")
    return found


def text_of(key: str, value: Any) -> str:
    """The value as text; hosts have reasons of their own, such as members of an Enum."""
    if isinstance(value, Enum):
        value = value.value
    if not isinstance(value, str):
        raise TypeError(f"{key}: expected text, got {type(value).__name__}")
    return str.__str__(value)


def measured(key: str, value: Any) -> tuple[float, str | None]:
    """The value as the nearest float, and its text if that is not exact; or an error with the key.

    Clocks count nanoseconds, and money comes in decimals: neither is a reason to end a training.
    """
    found = item(value)
    if isinstance(found, float):
        return float(found), None
    if isinstance(found, int) and -MAX_INT <= found <= MAX_INT:
        return float(found), None
    from decimal import Decimal
    from numbers import Real

    if not isinstance(found, (Real, Decimal)):
        raise TypeError(f"{key}: expected a number, got {type(value).__name__}")
    try:
        number = float(found)
    except OverflowError:
        number = inf if found > 0 else -inf  # type: ignore[operator]
    except ValueError:  # a signalling NaN
        number = nan
    if number != number or (number == found and not isinstance(found, int)):
        return number, None
    try:
        text = str(found)
        as_number(text)
    except ValueError:  # too long
        text = repr(number) if isfinite(number) else not_finite(number)
    return number, text


def numbers(
    values: Mapping[Any, Any], keywords: Mapping[str, Any]
) -> tuple[dict[str, float], dict[str, str], bool]:
    """Metrics as floats, the texts of those that are not exact, and whether all are finite.

    Errors name those that are not `keywords` as `metrics.NAME`.
    """
    checked, texts, finite = {}, {}, True
    for key, value in values.items():
        if type(key) is not str:
            key = name("metrics", key)
        if type(value) is not float:
            value, text = measured(key if key in keywords else f"metrics.{key}", value)
            if text is not None:
                texts[key] = text
        if not isfinite(value):
            finite = False
        checked[key] = value
    return checked, texts, finite


def logged(
    values: Mapping[Any, Any], once: Callable[[str, str], None]
) -> tuple[dict[str, float], dict[str, str], list[str]]:
    """Values of `log` as floats, the texts of those that are not exact, and names of infinite ones.

    What is no number is left out. `once` says a warning, the first of its kind.
    """
    checked, texts, infinite = {}, {}, []
    for key, value in values.items():
        if type(key) is not str:
            key = name("log", key)
        if type(value) is not float:
            try:
                value, text = measured(f"log: {key}", value)
            except TypeError as error:
                once(f"not a number {key}", f"{error}; left out")
                continue
            if text is not None:
                texts[key] = text
                once(f"inexact {key}", f"log: {key}: {text} would be rounded; kept as text")
        if not isfinite(value):
            infinite.append(key)
        checked[key] = value
    return checked, texts, infinite


def whole(key: str, value: Any) -> int:
    """A whole number. Raises TypeError, or OverflowError from 2**53 on."""
    found = item(value)
    if type(found) is not int:
        raise TypeError(f"{key}: expected a whole number, got {type(value).__name__}")
    if not -MAX_INT < found < MAX_INT:
        raise OverflowError(f"{key}: {found} is beyond 2**53 and would be rounded")
    return found


def seconds(key: str, value: Any) -> float:
    """A time in seconds. Raises TypeError or ValueError."""
    if key == "at":
        raise ValueError("timing.at: the name is taken: the recorder measures it")
    number, _ = measured(f"timing.{key}", value)
    if not 0 <= number < inf:
        raise ValueError(f"timing.{key}: {number} is no time in seconds")
    return number


def count(key: str, value: Any) -> int:
    """A whole number from 0 on. Raises TypeError, ValueError or OverflowError."""
    number = whole(key, value)
    if number < 0:
        raise ValueError(f"{key}: expected 0 or more, got {number}")
    return number
