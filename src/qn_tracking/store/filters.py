"""Which experiments are meant: conditions that must all hold, and what a time or an age means."""

from __future__ import annotations

import re

from qn_tracking.errors import UsageError
from qn_tracking.ids import microseconds
from qn_tracking.records.limits import MAX_INT, STATUSES
from qn_tracking.store import query
from qn_tracking.store.fields import place_in_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date
    from typing import Any, TypedDict, Unpack

    from qn_tracking.store.index import Index

    Texts = str | Iterable[str]
    Time = str | date

    class Conditions(TypedDict, total=False):
        """The keywords of `Filters`."""

        env_type: Texts
        brain_type: Texts
        family: Texts
        status: Texts
        min_success_rate: float | None
        since: Time | None
        until: Time | None
        tag: Texts
        config: Texts
        commit: Texts
        dirty: bool | None
        seed: int | Iterable[int]
        where: Texts


NAMES = (
    *("env_type", "brain_type", "family", "status", "min_success_rate", "since", "until"),
    *("tag", "config", "commit", "dirty", "seed", "where"),
)
"""The keywords of `Filters`, which are the options of `qn-exp list`."""
_NO_TEXT = ("min_success_rate", "since", "until", "dirty", "seed")
_COLUMNS = {"env_type": "environment", "brain_type": "brain"}
_COLUMNS |= {name: name for name in ("family", "status", "seed")}


class Filters:
    """The conditions of `qn-exp list`; the names are those of its options.

    A text may be several, of which any must match, except `tag` and `where`: all must. `since` and
    `until` take an ISO time, UTC unless it names a zone, an age such as `7d`, or a `datetime`; both
    ends are included, and an end that is a day is the whole day. Raises UsageError.
    """

    def __init__(self, **given: Unpack[Conditions]) -> None:
        if unknown := given.keys() - {*NAMES}:
            raise TypeError(f"unexpected conditions: {', '.join(sorted(unknown))}")
        values: dict[str, Any] = {**given}
        for name in NAMES:
            value = values.get(name)
            values[name] = value if name in _NO_TEXT else _texts(name, value or ())
        share = values["min_success_rate"]
        if share is not None and not 0 <= share <= 1:
            raise UsageError(
                f"expected a share from 0 to 1, got {share!r}", file="--min-success-rate"
            )
        for name in ("since", "until"):
            if hasattr(values[name], "isoformat"):
                values[name] = values[name].isoformat()
        since, until = values["since"], values["until"]
        self._from = None if since is None else moment(since)
        self._to = None if until is None else moment(until, end=True)
        values["commit"] = [text.lower() for text in values["commit"]]
        for text in values["commit"]:
            if not 4 <= len(text) <= 64 or text.strip("0123456789abcdef"):
                raise UsageError(f"--commit {text}: expected 4 to 64 hexadecimal digits")
        values["status"] = checked_statuses(values["status"])
        seed = values["seed"]
        values["seed"] = [seed] if isinstance(seed, int) else list(seed or ())
        for one in values["seed"]:
            if type(one) is int and abs(one) > MAX_INT:
                raise UsageError(f"{one} is beyond 2**53", file="--seed")
        self._values = {name: values[name] for name in NAMES}

    def stated(self) -> dict[str, Any]:
        """The conditions that were set, by the names of their options."""
        found = {name.replace("_", "-"): value for name, value in self._values.items()}
        return {name: value for name, value in found.items() if value not in (None, [])}

    def conditions(self, index: Index) -> list[query.Condition]:
        """For a query. Raises UsageError for an expression that makes no sense."""
        of = self._values
        out = [query.any_of(_COLUMNS[name], of[name]) for name in _COLUMNS if of[name]]
        if of["dirty"] is not None:
            out.append(query.any_of("dirty", [int(of["dirty"])]))
        if of["min_success_rate"] is not None:
            out.append(query.at_least("success_rate", of["min_success_rate"]))
        if self._from is not None:
            out.append(query.at_least("at", place_in_time(self._from)))
        if self._to is not None:
            out.append(query.below("at", place_in_time(self._to)))
        if of["config"]:
            out.append(query.either([query.config_is(name) for name in of["config"]]))
        if of["commit"]:
            out.append(query.either([query.begins("commit", text) for text in of["commit"]]))
        out.extend(query.tagged(index, text) for text in of["tag"])
        for text in of["where"]:
            from qn_tracking.store.where import parse

            out.extend(query.conditions(index, parse(text)))
        return out


def checked_statuses(given: Sequence[str], known: Sequence[str] = STATUSES) -> list[str]:
    """Statuses, each given by itself or with commas. Raises UsageError for an unknown one."""
    statuses = [word for text in given for word in text.split(",")]
    for word in statuses:
        if word not in known:
            from qn_tracking.errors import did_you_mean

            hint = did_you_mean(word, known) or f"known: {', '.join(known)}"
            raise UsageError(f"--status: no status {word!r}", hint=hint)
    return statuses


def _texts(name: str, given: Texts) -> list[str]:
    texts = [given] if isinstance(given, str) else list(given)
    option = f"--{name.replace('_', '-')}"
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UsageError("not valid Unicode text", file=option) from None
        if "\x00" in text:
            raise UsageError("holds a NUL character", file=option)
    return texts


# ------------------------------------------------------------------------------------------- times

_AGES = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_LENGTHS = {0: 86400 * 10**6, 2: 3600 * 10**6, 4: 60 * 10**6}
"""Microseconds that a time stands for, by how many digits follow the day."""


def moment(text: str, *, end: bool = False) -> int:
    """Microseconds since 1970 of an ISO time or an age such as `7d`; the end of it if asked.

    A time stands for all of its week, day, hour, minute or second, as it is given. Raises
    UsageError.
    """
    number, unit = text[:-1], text[-1:]
    if unit in _AGES and number.isascii() and number.isdigit() and len(number) < 7:
        import time

        return int((time.time() - int(number) * _AGES[unit]) * 1_000_000)
    try:
        at = microseconds(text)
    except (ValueError, OverflowError):
        raise UsageError(
            f"{text[:40]!r} is not a time",
            hint="2026-01-31, 2026-01-31T12:00 or an age such as 7d",
        ) from None
    if end and re.fullmatch(r"\d{4}-?W\d\d", text):
        return at + 7 * 86400 * 10**6
    clock = re.sub(
        r"(Z|[+-][0-9:.]+)$", "", text[11:] if len(text) > 11 and text[10] in "T " else text[9:]
    )
    if "." in clock or "," in clock:
        length = 1
    else:
        digits = sum(c.isdigit() for c in clock) if len(text) > 10 else 0
        length = _LENGTHS.get(digits, 1_000_000)
    return at + (length if end else 0)
