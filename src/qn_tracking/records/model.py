"""The records: what a run is, what an episode was, what is kept of both.

`Config` and `RunInfo` exist before episode 0, an `Episode` after each, an `Experiment` when the run
is over, however it ended. All are frozen, down to the mappings inside: a plugin cannot change what
another plugin sees. The fields of `Experiment` are those of `experiments/<id>.json`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NewType, NoReturn, Protocol, TypedDict

from attrs import field, frozen

from qn_tracking.records.schema import RECORD

MAX_INT = 2**53
"""Integers of a record stay below it: beyond, readers of JSON begin to round."""

Measure = NewType("Measure", float)
"""A number that may be NaN or infinite; JSON holds those three as text."""


class FrozenDict(dict[str, Any]):
    """A dict that refuses to change; it pickles, compares and serialises as a dict does."""

    __slots__ = ()

    def _refuse(self, *args: object, **kwargs: object) -> NoReturn:
        raise TypeError("a record cannot be changed")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[FrozenDict], tuple[dict[str, Any]]]:
        return (FrozenDict, (dict(self),))

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self))


EMPTY = FrozenDict()


def freeze(value: Any) -> Any:
    """The same value with every mapping a `FrozenDict` and every list a tuple."""
    if isinstance(value, Mapping):
        return FrozenDict({key: freeze(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return tuple(freeze(item) for item in value)
    return value


def _frozen_mapping() -> Any:
    return field(factory=FrozenDict, converter=freeze)


@frozen(kw_only=True)
class Config:
    """A configuration as read, and as resolved.

    `data` is what runs: the file with the overrides applied, without the keys that speak of the
    tracking and not of the simulation, which are in `settings`. `digest` is over `data`, and
    the simulation if the file names one, so that two files that mean the same have the same digest.
    """

    label: str
    sha256: str | None = None
    digest: str | None = None
    path: str | None = field(default=None, metadata={"stored": False})
    overrides: Mapping[str, Any] = _frozen_mapping()
    settings: Mapping[str, Any] = _frozen_mapping()
    data: Mapping[str, Any] = _frozen_mapping()
    text: str = field(default="", repr=False, metadata={"stored": False})


@frozen(kw_only=True)
class Subject:
    """What was run: names of environment and brain, the family, the device.

    `family` is `quantum`, `classical` or empty where that means nothing; `device` is `cpu`, `gpu`
    or `qpu`; `backend` names the QPU or its simulator. `packages` are the import names of the
    packages, or modules, that provided simulation, environment and brain.
    """

    environment: str = ""
    brain: str = ""
    family: str = ""
    device: str = "cpu"
    backend: str | None = None
    packages: tuple[str, ...] = ()


@frozen(kw_only=True)
class Membership:
    """The study that a run is a run of; `attempt` counts those that crashed before it."""

    id: str
    index: int
    attempt: int = 0


@frozen(kw_only=True)
class RunInfo:
    """A run that is about to start; its configuration and command line without secrets."""

    id: str
    started: str
    config: Config
    subject: Subject = Subject()
    seed: int | None = None
    episodes: int | None = None
    tags: Mapping[str, str] = _frozen_mapping()
    notes: str | None = None
    command: tuple[str, ...] = ()
    study: Membership | None = None
    experiments_dir: str | None = field(default=None, metadata={"stored": False})


@frozen(kw_only=True)
class Episode:
    """One episode. What does not apply is None or absent, never 0.

    `reward` is the sum of the rewards, `counts` and `metrics` are the simulation's own. `timing`
    holds seconds and is outside both digests. `exact` is the canonical JSON of all but `timing`,
    made once and shared by the digest and every sink.
    """

    index: int
    seed: int | None = None
    success: bool | None = None
    termination: str | None = None
    steps: int | None = None
    reward: Measure | None = None
    counts: Mapping[str, int] = EMPTY
    metrics: Mapping[str, Measure] = EMPTY
    timing: Mapping[str, float] = EMPTY
    exact: bytes = field(default=b"", repr=False, eq=False, metadata={"stored": False})


@frozen(kw_only=True)
class Spread:
    """A metric over the episodes that have it: how many, mean, standard deviation, extremes.

    `n` is None where another program did not say how many.
    """

    n: int | None
    mean: Measure
    sd: Measure | None = None
    min: Measure | None = None
    max: Measure | None = None


@frozen(kw_only=True)
class Results:
    """The summary of all episodes. What no episode had is absent."""

    episodes: int = 0
    success_rate: float | None = None
    final_success_rate: float | None = None
    final_window: int | None = None
    total_steps: int | None = None
    avg_steps: Measure | None = None
    avg_reward: Measure | None = None
    terminations: Mapping[str, int] = _frozen_mapping()
    metrics: Mapping[str, Spread] = field(factory=FrozenDict, converter=FrozenDict)
    curve: tuple[Measure, ...] = ()
    curve_of: str | None = None


@frozen(kw_only=True)
class Digests:
    """SHA-256 over the episodes in order; neither sees clocks, paths or hosts.

    `exact` covers every number of every episode, `outcome` only success, termination, steps and
    counts: what should agree between machines whose floating point differs in the last bit.
    """

    exact: str
    outcome: str


@frozen(kw_only=True)
class Attachment:
    """A text that belongs to the run, named in the record by its digest."""

    name: str
    size: int
    sha256: str
    data: bytes = field(default=b"", repr=False, eq=False, metadata={"stored": False})


@frozen(kw_only=True)
class Artifact:
    """A file that the host exported: its path, size in bytes and SHA-256 when it was recorded."""

    path: str
    size: int
    sha256: str


@frozen(kw_only=True)
class Failure:
    """A plugin that raised in one of its hooks."""

    plugin: str
    hook: str
    error: str


@frozen(kw_only=True)
class PluginUse:
    """A sink that listened, and the seconds of the run that it took."""

    name: str
    seconds: float = 0.0


@frozen(kw_only=True)
class ErrorInfo:
    """The error that ended a run."""

    type: str
    message: str
    traceback: str = ""


@frozen(kw_only=True)
class Origin:
    """Where a record came from, if not from a run that was tracked here.

    `kind` is `import` or `rerun`; `id` names the other record, `sha256` is of its file as it was,
    `format` the program and generation that wrote it. `original` holds its fields, unchanged, and
    `notes` says what they mean differently.
    """

    kind: str
    id: str
    format: str | None = None
    sha256: str | None = None
    notes: tuple[str, ...] = ()
    original: Mapping[str, Any] | None = field(default=None, converter=freeze)


@frozen(kw_only=True)
class Experiment:
    """A run that is over.

    `status` is `completed`, `failed` or `interrupted`; `crashed` for one that was put together from
    its journal; `imported` for one of another program. `facts` holds what each plugin said of the
    run, under the plugin's name. `doubtful`: an interrupt struck while episodes were counted, and
    whoever has kept them all knows better.
    """

    schema: int = RECORD.version
    id: str
    status: str
    started: str
    ended: str
    wall_seconds: float | None = None
    steps_per_second: float | None = None
    seed: int | None = None
    episodes: int | None = None
    subject: Subject = Subject()
    results: Results = Results()
    digests: Digests | None = None
    tags: Mapping[str, str] = _frozen_mapping()
    notes: str | None = None
    config: Config
    command: tuple[str, ...] = ()
    study: Membership | None = None
    error: ErrorInfo | None = None
    warnings: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    plugins: tuple[PluginUse, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    origin: Origin | None = None
    facts: Mapping[str, Any] = _frozen_mapping()
    doubtful: bool = field(default=False, eq=False, metadata={"stored": False})


class EpisodeFields(TypedDict, total=False):
    """What a simulation yields of an episode: keyword arguments of `Recorder.episode`."""

    seed: int
    success: bool
    termination: str
    steps: int
    reward: float
    counts: Mapping[str, int]
    metrics: Mapping[str, float]


class Simulation(Protocol):
    """What the runner runs. It knows nothing of tracking: it yields episodes.

    Whatever can be wrong with its configuration is said by whoever makes it, before this exists.
    """

    @property
    def subject(self) -> Subject:
        """What this simulation is."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know before the first episode."""

    def episodes(self, count: int, seed: int) -> Iterator[EpisodeFields]:
        """A fresh run of `count` episodes; the same seed yields the same ones."""
