"""Which experiments are meant: conditions that must all hold, and what a time or an age means."""

from __future__ import annotations

import re

from qn_tracking.errors import UsageError
from qn_tracking.ids import microseconds
from qn_tracking.records.limits import STATUSES
from qn_tracking.store import query
from qn_tracking.store.entry import place_in_time
from qn_tracking.store.where import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date
    from typing import Any, TypedDict

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


class Filters:
    """The conditions of `qn-exp list`; the names are those of its options.

    A text may be several, of which any must match, except `tag` and `where`: all must. `since` and
    `until` take an ISO time, UTC unless it names a zone, an age such as `7d`, or a `datetime`; both
    ends are included, and an end that is a day is the whole day. Raises UsageError.
    """

    def __init__(
        self,
        *,
        env_type: Texts = (),
        brain_type: Texts = (),
        family: Texts = (),
        status: Texts = (),
        min_success_rate: float | None = None,
        since: Time | None = None,
        until: Time | None = None,
        tag: Texts = (),
        config: Texts = (),
        commit: Texts = (),
        dirty: bool | None = None,
        seed: int | Iterable[int] = (),
        where: Texts = (),
    ) -> None:
        self.env_type = _texts("env-type", env_type)
        self.brain_type = _texts("brain-type", brain_type)
        self.family = _texts("family", family)
        self.status = checked_statuses(_texts("status", status))
        if min_success_rate is not None and not 0 <= min_success_rate <= 1:
            raise UsageError(
                f"expected a share from 0 to 1, got {min_success_rate!r}", file="--min-success-rate"
            )
        self.min_success_rate = min_success_rate
        self.since = None if since is None else _stated(since)
        self.until = None if until is None else _stated(until)
        self._from = None if self.since is None else moment(self.since)
        self._to = None if self.until is None else moment(self.until, end=True)
        self.tag = _texts("tag", tag)
        self.config = _texts("config", config)
        self.commit = [text.lower() for text in _texts("commit", commit)]
        for text in self.commit:
            if not 4 <= len(text) <= 64 or text.strip("0123456789abcdef"):
                raise UsageError(f"--commit {text}: expected 4 to 64 hexadecimal digits")
        self.dirty = dirty
        self.seed = list(seed) if hasattr(seed, "__iter__") else [int(seed)]
        self.where = _texts("where", where)

    def stated(self) -> dict[str, Any]:
        """The conditions that were set, by the names of their options."""
        names = [name for name in vars(self) if name[0] != "_"]
        found = {name.replace("_", "-"): getattr(self, name) for name in names}
        return {name: value for name, value in found.items() if value not in (None, [])}

    def conditions(self, index: Index) -> list[query.Condition]:
        """For a query. Raises UsageError for an expression that makes no sense."""
        out = [
            query.any_of(column, values)
            for column, values in (
                ("environment", self.env_type),
                ("brain", self.brain_type),
                ("family", self.family),
                ("status", self.status),
                ("seed", self.seed),
                ("dirty", [] if self.dirty is None else [int(self.dirty)]),
            )
            if values
        ]
        if self.min_success_rate is not None:
            out.append(query.at_least("success_rate", self.min_success_rate))
        if self._from is not None:
            out.append(query.at_least("at", place_in_time(self._from)))
        if self._to is not None:
            out.append(query.below("at", place_in_time(self._to)))
        if self.config:
            out.append(query.either([query.config_is(name) for name in self.config]))
        if self.commit:
            out.append(query.either([query.begins("commit", text) for text in self.commit]))
        out.extend(query.tagged(index, text) for text in self.tag)
        for text in self.where:
            out.extend(query.conditions(index, parse(text)))
        return out


def checked_statuses(given: Sequence[str], known: Sequence[str] = STATUSES) -> list[str]:
    """Statuses, each given by itself or with commas. Raises UsageError for an unknown one."""
    statuses = [word for text in given for word in text.split(",")]
    for word in statuses:
        if word not in known:
            from qn_tracking.errors import did_you_mean

            hint = did_you_mean(word, known) or f"known: {', '.join(known)}"
            raise UsageError(f"--status {word}", hint=hint)
    return statuses


def _texts(name: str, given: Texts) -> list[str]:
    texts = [given] if isinstance(given, str) else list(given)
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise UsageError("not valid Unicode text", file=f"--{name}") from None
        if "\x00" in text:
            raise UsageError("holds a NUL character", file=f"--{name}")
    return texts


# ------------------------------------------------------------------------------------------- times

_AGES = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_LENGTHS = {0: 86400 * 10**6, 2: 3600 * 10**6, 4: 60 * 10**6}
"""Microseconds that a time stands for, by how many digits follow the day."""


def _stated(time: Time) -> str:
    return time if isinstance(time, str) else time.isoformat()


def moment(text: str, *, end: bool = False) -> int:
    """Microseconds since 1970 of an ISO time or an age such as `7d`; the end of it if asked.

    A time stands for all of its day, hour, minute or second, as it is given. Raises UsageError.
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
    clock = re.sub(
        r"(Z|[+-][0-9:.]+)$", "", text[11:] if len(text) > 11 and text[10] in "T " else text[9:]
    )
    if "." in clock or "," in clock:
        length = 1
    else:
        digits = sum(c.isdigit() for c in clock) if len(text) > 10 else 0
        length = _LENGTHS.get(digits, 1_000_000)
    return at + (length if end else 0)
