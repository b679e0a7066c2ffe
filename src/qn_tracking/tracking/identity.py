"""What a run is called and belongs to, from the arguments of `track()`.

A name and a group are the tags `name` and `group`: they are listed, filtered and changed later as
every tag is, and a record without them is as it was before there were any.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from qn_tracking.errors import UsageError, did_you_mean
from qn_tracking.records.model import Subject


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
