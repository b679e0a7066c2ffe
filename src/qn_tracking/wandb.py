"""The calls of W&B that training scripts make, recorded as runs of qn-tracking.

    import qn_tracking.wandb as wandb

Change the import line of a script alone. Nothing is sent anywhere. docs/coming-from.md says what
becomes of each call.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

from qn_tracking.dropin import mapping
from qn_tracking.errors import QnError, UsageError, printable
from qn_tracking.ids import new_id
from qn_tracking.tensorboard import share
from qn_tracking.wandb_run import (
    READERS,
    WITHOUT_MEANING,
    Artifact as Artifact,
    Config as Config,
    Media,
    Run as Run,
    reader,
    silent,
)

MEDIA = frozenset(
    ("Audio", "Graph", "Histogram", "Html", "Image", "Molecule", "Object3D", "Plotly", "Table")
) | {"Video"}
"""Values that are no numbers: a script may make them, and logging one leaves it out."""
_current: list[Run] = []


class plot:
    """Diagrams of any kind, which are not recorded."""

    bar = confusion_matrix = histogram = line = line_series = pr_curve = roc_curve = scatter = Media


class util:
    """What scripts use to name a run."""

    generate_id = staticmethod(new_id)


Error = QnError
"""What the calls here raise."""
__version__ = "0.19.0"
"""The version of W&B whose calls these are: some libraries ask."""


class errors:
    """The errors by which scripts know that a run could not be made."""

    Error = CommError = UsageError = QnError


class Settings:
    """Takes any setting of W&B."""

    def __init__(self, **settings: Any) -> None:
        self.__dict__.update(settings)


def init(
    project: str | None = None,
    entity: str | None = None,
    *,
    name: str | None = None,
    group: str | None = None,
    job_type: str | None = None,
    tags: Iterable[str] | None = None,
    notes: str | None = None,
    config: Any = None,
    config_exclude_keys: Iterable[str] | None = None,
    config_include_keys: Iterable[str] | None = None,
    dir: str | os.PathLike[str] | None = None,
    id: str | None = None,
    mode: str | None = None,
    reinit: bool | str | None = None,
    resume: bool | str | None = None,
    sync_tensorboard: bool | None = None,
    save_code: bool | None = None,
    monitor_gym: bool | None = None,
    settings: Any = None,
    allow_val_change: bool | None = None,
    anonymous: str | None = None,
    force: bool | None = None,
    **others: Any,
) -> Run:
    """Makes a run, which begins with the first value; what is set until then is its configuration.

    `project`, `group`, `job_type`, `name` and each of `tags` become tags, `notes` the notes. With
    `mode="disabled"`, also as `WANDB_MODE`, nothing is recorded. While a run is open, it is
    returned, or with `reinit=True` finished. With `sync_tensorboard`, a `SummaryWriter` of
    `qn_tracking.tensorboard` writes into this run. What has no meaning here is named once.
    """
    if _current:
        if reinit not in (True, "finish_previous"):
            return _current[-1]
        _current[-1].finish()
    values = mapping(config)
    if config_include_keys is not None:
        values = {key: values[key] for key in config_include_keys if key in values}
    for key in config_exclude_keys or ():
        values.pop(key, None)
    made = Run(
        name=name,
        tags=[tags] if isinstance(tags, str) else tags or (),
        notes=notes,
        labels={"project": project, "group": group, "job_type": job_type},
        config=values,
        disabled="disabled" in (mode, os.environ.get("WANDB_MODE") if mode is None else None),
    )
    _current.append(made)
    made.at_finish = _finished
    held = made.held
    if held is not None:
        given = {"id": id, "resume": resume, "monitor_gym": monitor_gym, **others}
        named = sorted(key for key, value in given.items() if value)
        if named:
            held.meaningless(f"init({', '.join(f'{key}=…' for key in named)})")
        if sync_tensorboard:
            share(held)
    return made


def _finished(run: Run) -> None:
    if run in _current:
        _current.remove(run)
        share(None)


def _open(call: str) -> Run:
    if not _current:
        raise UsageError(f"wandb.{call} before wandb.init()")
    return _current[-1]


def _of_run(name: str) -> Callable[..., Any]:
    """The call of this name, of the run that is open. It raises UsageError if none is."""

    @wraps(getattr(Run, name))
    def call(*args: Any, **options: Any) -> Any:
        return getattr(_open(name), name)(*args, **options)

    return call


log, define_metric, log_artifact, log_model, save = map(
    _of_run, ("log", "define_metric", "log_artifact", "log_model", "save")
)


def finish(exit_code: int | None = None, quiet: bool | None = None) -> None:
    """As `Run.finish`, of the run that is open, if one is."""
    if _current:
        _current[-1].finish(exit_code)


def termlog(string: str = "", newline: bool = True, repeat: bool = True) -> None:
    """Prints a line on standard error."""
    if sys.stderr is not None:
        print(f"wandb: {printable(string)}", file=sys.stderr, end="\n" if newline else "")


termwarn = termerror = termlog


def login(*args: Any, **options: Any) -> bool:
    """No account is needed."""
    return True


def setup(*args: Any, **options: Any) -> None:
    """Nothing has to be set up."""


def __getattr__(name: str) -> Any:
    if name == "run":
        return _current[-1] if _current else None
    if name in ("config", "summary"):
        return getattr(_open(name), name)
    if name in MEDIA:
        return Media
    if name in READERS:
        return reader(name)
    if name in WITHOUT_MEANING:
        return silent(name, _current[-1] if _current else None)
    raise AttributeError(f"qn_tracking.wandb has no {name!r}")
