"""What a run is called and belongs to, and all that is known of it before its first episode.

A name and a group are the tags `name` and `group`: they are listed, filtered and changed later as
every tag is, and a record without them is as it was before there were any.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from qn_tracking import config as configuration, ids
from qn_tracking.errors import UsageError, did_you_mean, storable
from qn_tracking.records.limits import MAX_START
from qn_tracking.records.model import MAX_INT, Config, Membership, RunInfo, Subject
from qn_tracking.redact import redact_arguments, redact_config, redact_text, redact_value


def tags_of(tags: Any, **named: Any) -> Mapping[str, str]:
    """Tags by key, of a mapping or a list; those of a list have no value.

    The `named` ones are tags as well.

    Raises UsageError for what is no text, and for a name that says two things.
    """
    found: dict[Any, Any] = {}
    if isinstance(tags, Mapping):
        found = dict(tags)
    elif tags is not None:
        listed: list[Any] = list(tags)
        if isinstance(tags, str) or not all(isinstance(key, str) for key in listed):
            raise UsageError("tags: expected texts by name, or a list", hint='tags=["first"]')
        found = dict.fromkeys(listed, "")
    for key, value in named.items():
        if value is None:
            continue
        if not isinstance(value, str) or not value:
            raise UsageError(f"{key}: expected text, got {value!r}")
        if found.setdefault(key, value) != value:
            raise UsageError(f"{key}: given twice, as an argument and as a tag")
    return found


def subject_of(subject: Subject | None, **named: Any) -> Subject:
    """The names of environment, brain and family. Raises UsageError if both say them."""
    given = {key: value for key, value in named.items() if value != ""}
    for key, value in given.items():
        if not isinstance(value, str):
            raise UsageError(f"{key}: expected text, got {type(value).__name__}")
    if subject is None:
        return Subject(**given)
    if given:
        raise UsageError(f"{next(iter(given))}: given beside subject", hint="give one of them")
    return subject


HERE = {
    **dict.fromkeys(("project", "job_type", "entity"), "tags={…}"),
    **dict.fromkeys(("run_name", "display_name", "experiment_name", "comment"), "name="),
    **dict.fromkeys(("dir", "log_dir", "logdir", "tracking_uri"), "experiments_dir="),
    **dict.fromkeys(("params", "hparams", "hparam_dict", "settings"), "the first argument"),
    **dict.fromkeys(("description", "comments"), "notes="),
}
"""What arguments of other trackers are called here."""


def check_keywords(function: Callable[..., Any], given: Iterable[str], own: Iterable[str]) -> None:
    """Raises TypeError for a keyword that neither the function nor `own` has."""
    known = [*own, *inspect.signature(function).parameters]
    for word in given:
        if word not in known:
            names = [name for name in known if name not in ("self", "manager")]
            hint = f"here: {HERE[word]}" if word in HERE else did_you_mean(word, names)
            raise TypeError(f"track() has no argument {word!r}" + (f" ({hint})" if hint else ""))


def run_info(
    config: Config | Mapping[str, Any] | str | os.PathLike[str],
    *,
    id: str | None,
    started: str,
    subject: Subject,
    seed: int | None,
    episodes: int | None,
    tags: Mapping[str, str],
    notes: str | None,
    command: Sequence[str],
    study: Membership | None,
    experiments_dir: str | os.PathLike[str] | None,
) -> RunInfo:
    """What is known of a run before its first episode, without secrets.

    Raises ConfigError for the configuration, and UsageError for what cannot be recorded.
    """
    config = configuration.of_host(config)
    for name, number in (("seed", seed), ("episodes", episodes)):
        if number is not None and (type(number) is not int or not 0 <= number < MAX_INT):
            raise UsageError(f"{name}: expected a whole number below 2**53, got {number!r}")
    if not all(type(text) is str for pair in dict(tags).items() for text in pair):
        raise UsageError("tags: expected texts by name")
    if notes is not None and type(notes) is not str:
        raise UsageError(f"notes: expected text, got {type(notes).__name__}")
    if len(notes or "") + sum(len(text) for pair in tags.items() for text in pair) > MAX_START:
        raise UsageError(f"tags and notes are larger than {MAX_START >> 20} MiB")
    return RunInfo(
        id=ids.new_id() if id is None else ids.check_id(id),
        started=started,
        config=redact_config(config),
        subject=subject,
        seed=config.settings.get("seed") if seed is None else seed,
        episodes=episodes,
        tags={storable(key): storable(redact_value(value, key)) for key, value in tags.items()},
        notes=None if notes is None else redact_text(storable(notes)),
        command=tuple(map(storable, redact_arguments(command))),
        study=study,
        # Absolute now: the host may change its directory before the end.
        experiments_dir=None if experiments_dir is None else os.path.abspath(experiments_dir),
    )
