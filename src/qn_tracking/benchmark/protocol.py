"""The rules in force, as data: `benchmarks/protocol.yml`, or the same file as it was shipped."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal

from attrs import field, fields, frozen

from qn_tracking.benchmark.places import protocol_file
from qn_tracking.benchmark.task import task_digest
from qn_tracking.errors import ConfigError, UsageError, did_you_mean
from qn_tracking.files import load
from qn_tracking.records.codec import structure
from qn_tracking.records.model import FrozenDict, freeze
from qn_tracking.yaml_core import parse

BUILT_IN = "nematode"


def _positive(instance: object, attribute: object, value: Any) -> None:
    if value <= 0:
        raise ValueError(f"must be positive, got {value}")


def _share(instance: object, attribute: object, value: Any) -> None:
    if not 0 < value < 1:
        raise ValueError(f"must be between 0 and 1, got {value}")


def _part(instance: object, attribute: object, value: Any) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"must be from 0 to 1, got {value}")


@frozen(kw_only=True)
class ClosedTask:
    """A task that entries are ranked in, with its budget: exactly so many episodes, and so many
    runs at least. `digest` is of the task, which stands beside it to be read and compared.
    """

    digest: str
    episodes: int = field(validator=_positive)
    runs: int = field(validator=_positive)
    task: Mapping[str, Any] = field(converter=freeze)


@frozen(kw_only=True)
class Protocol:
    """One version of the rules; the file explains each.

    `inference` names the statistics: `student` for normal values, `guarded` for values in a range.
    `verified_share` is the part of the runs that others must have executed again for *verified*.
    `tasks` are those of the closed division, by the name of the environment; without any, all
    entries are ranked together. `seeds` says what the seeds of a study derive from.
    `archive` has the ids of the submissions that the version keeps once it is no longer in force;
    without it, it keeps any.
    `environments` holds the rules of simulations, by the name of the simulation; its provider
    reads them in `categorize`.
    """

    version: int = field(validator=_positive)
    minimum_runs: int = field(validator=_positive)
    minimum_episodes: int = field(validator=_positive)
    final_episodes: int = field(validator=_positive)
    final_fraction: float = field(validator=_share)
    time_threshold: float = field(validator=_share)
    time_window: int = field(validator=_positive)
    plateau_delta: float = field(validator=_share)
    plateau_minimum_episodes: int = field(validator=_positive)
    alpha: float = field(validator=_share)
    margin: float = field(validator=_share)
    minimum_to_compare: int = field(validator=_positive)
    low_success: float = field(validator=_share)
    unusual_spread: float = field(validator=_positive)
    outlier_deviations: float = field(validator=_positive)
    maximum_name: int = field(validator=_positive)
    maximum_notes: int = field(validator=_positive)
    inference: Literal["student", "guarded"] = "student"
    verified_share: float = field(default=0.0, validator=_part)
    environments: Mapping[str, Mapping[str, Any]] = field(factory=FrozenDict, converter=freeze)
    tasks: Mapping[str, ClosedTask] = field(factory=FrozenDict, converter=FrozenDict)
    seeds: Literal["configuration", "task"] = "configuration"
    archive: tuple[str, ...] | None = None

    def environment_of(self, digest: str) -> str | None:
        """The name of the environment whose task has this digest; None if none has."""
        return next((name for name, one in self.tasks.items() if one.digest == digest), None)

    def check_plan(self, runs: int, episodes: int) -> None:
        """Refuses a submission that could not be valid. Raises UsageError before anything runs."""
        for asked, least, option in (
            (runs, self.minimum_runs, "--n-seeds"),
            (episodes, self.minimum_episodes, "--episodes"),
        ):
            if asked < least:
                raise UsageError(
                    f"{option} {asked}: a submission needs at least {least}",
                    hint=f"protocol version {self.version}",
                )


@frozen(kw_only=True)
class Rulebook:
    """All versions of the protocol."""

    current: int
    versions: tuple[Protocol, ...]

    @property
    def now(self) -> Protocol:
        """The version that new submissions declare."""
        return self.version(self.current)

    def version(self, number: int) -> Protocol:
        """A version. Raises UsageError for one that there is not."""
        for protocol in self.versions:
            if protocol.version == number:
                return protocol
        known = ", ".join(str(protocol.version) for protocol in self.versions)
        raise UsageError(f"no protocol version {number}", hint=f"known: {known}")


def rulebook(benchmarks: str | None = None) -> Rulebook:
    """The rules of a folder of benchmarks, or those that come with the package.

    Raises ConfigError.
    """
    name = protocol_file(benchmarks)
    try:
        info = os.stat(name)
    except OSError as error:
        raise ConfigError((error.strerror or "cannot be read").lower(), file=name) from None
    return _read(name, (info.st_mtime_ns, info.st_size, info.st_ino))


def _upgraded(doc: Any) -> Any:
    """Rules under today's names, whichever names a file has them by.

    Before there was a section `environments`, the rules of the built-in simulation stood among the
    others. A key that is nearly a known one is a mistake, and stays for the error message.
    """
    versions = doc.get("versions") if isinstance(doc, dict) else None
    names = [one.name for one in fields(Protocol)]
    for rules in versions if isinstance(versions, list) else ():
        if isinstance(rules, dict):
            rules.pop("time_minimum_episodes", None)  # no rule used it
            if "minimum_sessions" in rules:
                rules.setdefault("minimum_runs", rules.pop("minimum_sessions"))
            if "environments" not in rules:
                own = [key for key in rules if key not in names and not did_you_mean(key, names)]
                rules["environments"] = {BUILT_IN: {key: rules.pop(key) for key in own}}
    return doc


def _check_tasks(protocol: Protocol, path: str, field: str) -> None:
    """Raises ConfigError for a digest that is not of its task, and for a task that is there twice.

    A rule by digest alone could not be read, and one without a digest not be quoted.
    """
    seen: dict[str, str] = {}
    for name, closed in protocol.tasks.items():
        made = task_digest(closed.task)
        if made != closed.digest:
            cause = f"is not that of the task, {made}"
            raise ConfigError(cause, file=path, field=f"{field}.{name}.digest")
        if made in seen:
            raise ConfigError(f"is the task of {seen[made]}", file=path, field=f"{field}.{name}")
        seen[made] = name


@cache
def _read(path: str, stamp: tuple[int, ...]) -> Rulebook:
    """The rules in a file; read again where its `stamp` has changed."""
    try:
        text = load(path, error=ConfigError)[0].decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError("encoding is not UTF-8", file=path, hint="save it as UTF-8") from None
    except FileNotFoundError:
        raise ConfigError("no such file", file=path) from None
    book = structure(_upgraded(parse(text, path)), Rulebook, file=path)
    for i, protocol in enumerate(book.versions):
        _check_tasks(protocol, path, f"versions[{i}].tasks")
    numbers = [protocol.version for protocol in book.versions]
    if len(set(numbers)) < len(numbers):
        raise ConfigError("a version is there twice", file=path, field="versions")
    if book.current not in numbers:
        raise ConfigError(f"no version {book.current}", file=path, field="current")
    return book
