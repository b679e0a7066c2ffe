"""The records of a run: its configuration, its episodes, and the experiment that is stored.

`Config` and `RunInfo` exist before the first episode, an `Episode` after each one, and an
`Experiment` once the run has ended, in whatever way. All are frozen, including the mappings inside,
so that a plugin cannot change what another plugin sees. The fields of `Experiment` are those of
`experiments/<id>.json`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from operator import attrgetter
from typing import Any, ClassVar, NewType, NoReturn, Protocol, TypedDict, cast

from attrs import Attribute, field, fields, frozen

from qn_tracking.records.limits import MAX_INT as MAX_INT
from qn_tracking.records.schema import RECORD

Measure = NewType("Measure", float)
"""A number that may be NaN or infinite; JSON stores those three values as text."""


class FrozenDict(dict[str, Any]):
    """A dict that cannot be changed. It pickles, compares and serialises like a dict."""

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
    """Return the value with every mapping as a `FrozenDict` and every list as a tuple."""
    if isinstance(value, Mapping):
        return FrozenDict({key: freeze(item) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return tuple(freeze(item) for item in value)
    return value


def _frozen_mapping() -> Any:
    return field(factory=FrozenDict, converter=freeze)


def mapping_if_any() -> Any:
    """A field of names and values that is stored where there are any."""
    return field(factory=FrozenDict, converter=FrozenDict, metadata={"stored": "if any"})


class Value:
    """What has the same fields is equal; its fields are those of its class by attrs.

    attrs writes and compiles these methods for each class, at every import: with them, the classes
    here would take twice the time, which is a tenth of what a short script takes to start.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        shown = [
            f"{one.name}={getattr(self, one.name)!r}" for one in _fields(type(self)) if one.repr
        ]
        return f"{type(self).__qualname__}({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        if other.__class__ is not self.__class__:
            return NotImplemented
        compared = _compared(cast(Any, self).__class__)
        return bool(compared(self) == compared(other))

    def __hash__(self) -> int:
        return hash((self.__class__, _compared(cast(Any, self).__class__)(self)))


def _fields(kind: Any) -> tuple[Attribute[Any], ...]:
    found: tuple[Attribute[Any], ...] = fields(kind)
    return found


@cache
def _compared(kind: Any) -> Callable[[object], Any]:
    """The values of an object that make it equal to another one."""
    return attrgetter(*[one.name for one in _fields(kind) if one.eq])


@frozen(kw_only=True, eq=False, repr=False)
class Config(Value):
    """A configuration as read and as resolved.

    `data` configures the simulation: the file with the overrides applied, without the keys that
    configure the tracking, which are in `settings`. `digest` covers `data`, and the name of the
    simulation if the file has one, so that files with the same meaning have the same digest.
    `differences` says what another loader of YAML makes of the file.
    """

    label: str
    sha256: str | None = None
    digest: str | None = None
    path: str | None = field(default=None, metadata={"stored": False})
    overrides: Mapping[str, Any] = _frozen_mapping()
    settings: Mapping[str, Any] = _frozen_mapping()
    data: Mapping[str, Any] = _frozen_mapping()
    text: str = field(default="", repr=False, metadata={"stored": False})
    differences: tuple[str, ...] = field(default=(), metadata={"stored": False})


@frozen(kw_only=True, eq=False, repr=False)
class Subject(Value):
    """The names of the environment and the brain, the family of the brain, and the device.

    `family` is `quantum` or `classical`, or empty if neither applies; `device` is `cpu`, `gpu` or
    `qpu`; `backend` names the QPU or its simulator. `packages` are the import names of the packages
    or modules that provided the simulation, the environment and the brain.
    """

    environment: str = ""
    brain: str = ""
    family: str = ""
    device: str = "cpu"
    backend: str | None = None
    packages: tuple[str, ...] = ()


@frozen(kw_only=True, eq=False, repr=False)
class Membership(Value):
    """The place of a run in its study; `attempt` is the number of earlier attempts at it."""

    id: str
    index: int
    attempt: int = 0


@frozen(kw_only=True, eq=False, repr=False)
class Life(Value):
    """A time during which a run ran, before it was interrupted and resumed.

    `sha256` is of its record, which is in `lives/` of the folder of the run. `seconds` and
    `episodes` are those of the run up to its end, `ended`; the next life began at `resumed`.
    """

    status: str
    ended: str
    resumed: str
    seconds: float
    episodes: int
    sha256: str


@frozen(kw_only=True, eq=False, repr=False)
class RunInfo(Value):
    """A run that is about to start. Configuration and command line contain no secrets.

    `lives` are the earlier ones of a run that is resumed: its episodes go on counting.
    """

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
    lives: tuple[Life, ...] = field(default=(), metadata={"stored": "if any"})
    experiments_dir: str | None = field(default=None, metadata={"stored": False})


@frozen(kw_only=True, eq=False, repr=False, init=False, slots=False)
class Episode(Value):
    """One episode. A value that does not apply is None or absent, never 0.

    `reward` is the sum of the rewards; `counts` and `metrics` come from the simulation. `timing` is
    in seconds and enters neither digest. `exact` is the canonical JSON of all fields but `timing`,
    made once and shared by the digest and every sink.
    """

    phase: ClassVar[str | None] = None
    """None for the main phase; see `PhaseEpisode`."""
    after: ClassVar[int | None] = None

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

    # Written out, because readers make a million of them: attrs' own of a frozen class sets each
    # field by itself, and takes more than twice the time.
    def __init__(
        self,
        *,
        index: int,
        seed: int | None = None,
        success: bool | None = None,
        termination: str | None = None,
        steps: int | None = None,
        reward: Measure | None = None,
        counts: Mapping[str, int] = EMPTY,
        metrics: Mapping[str, Measure] = EMPTY,
        timing: Mapping[str, float] = EMPTY,
        exact: bytes = b"",
    ) -> None:
        _set_fields(
            self,
            {
                "index": index,
                "seed": seed,
                "success": success,
                "termination": termination,
                "steps": steps,
                "reward": reward,
                "counts": counts,
                "metrics": metrics,
                "timing": timing,
                "exact": exact,
            },
        )


_set_fields = vars(Episode)["__dict__"].__set__


@frozen(kw_only=True, eq=False, repr=False, slots=False)
class PhaseEpisode(Episode):
    """An episode of another phase than the main one.

    `phase` is the name of the phase, `index` the place among its episodes, and `after` how many
    episodes of the main phase came before.
    """

    # Not among the fields of every episode: a loop that has no phases does not pay for them.
    phase: str  # type: ignore[misc]
    after: int  # type: ignore[misc]


def episode_of(fields: dict[str, Any]) -> Episode:
    """The episode with these fields, all of them; those of a `PhaseEpisode` make it one.

    The dict becomes the episode's own. The loop of a simulation waits for this.
    """
    episode = _new(PhaseEpisode if "phase" in fields else Episode)
    _set_fields(episode, fields)
    return episode


_new: Callable[[type[Episode]], Episode] = object.__new__


def of_phase(episode: Episode, phase: str, after: int) -> PhaseEpisode:
    """The episode as one of a phase."""
    return PhaseEpisode(**vars(episode), phase=phase, after=after)


class Logged:
    """One call of `Recorder.log`: values by name, at a step of their own.

    `episode` is the index of the episode then current, `at` the seconds since the start. `exact` is
    the canonical JSON of all of it but `at`, shared by the digest and every sink.
    """

    __slots__ = ("at", "episode", "exact", "step", "values")

    def __init__(
        self, *, step: int, episode: int, at: float, values: Mapping[str, float], exact: bytes
    ) -> None:
        self.step, self.episode, self.at = step, episode, at
        self.values, self.exact = values, exact


@frozen(kw_only=True, eq=False, repr=False)
class SeriesSummary(Value):
    """A logged series: its `n` values from `first_step` to `last_step`, and the `last` of them.

    `curve` are means over equally many values, at most 200, each up to the step in `steps`. The
    file of the series has all values.
    """

    n: int
    first_step: int
    last_step: int
    last: Measure
    mean: Measure
    sd: Measure | None = None
    min: Measure | None = None
    max: Measure | None = None
    steps: tuple[int, ...] = ()
    curve: tuple[Measure, ...] = ()


@frozen(kw_only=True, eq=False, repr=False)
class Spread(Value):
    """A metric over the `n` episodes that have it: mean, standard deviation, extremes.

    `n` is None in a record that was imported from another program without that number.
    """

    n: int | None
    mean: Measure
    sd: Measure | None = None
    min: Measure | None = None
    max: Measure | None = None


@frozen(kw_only=True, eq=False, repr=False)
class Results(Value):
    """The summary of all episodes. A value that no episode has is None or absent."""

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


@frozen(kw_only=True, eq=False, repr=False)
class Digests(Value):
    """SHA-256 over the episodes in order, independent of clocks, paths and hosts.

    `exact` covers every number of every episode. `outcome` covers success, termination, steps and
    counts, which should agree between machines whose floating point differs in the last bit.
    `series` covers what was logged between the episodes.
    """

    exact: str
    outcome: str
    series: str | None = field(default=None, metadata={"stored": "if any"})


@frozen(kw_only=True, eq=False, repr=False)
class Phase(Value):
    """The episodes of a phase beside the main one, such as an evaluation."""

    results: Results
    digests: Digests


@frozen(kw_only=True, eq=False, repr=False)
class Attachment(Value):
    """A text that belongs to the run; the record stores its digest."""

    name: str
    size: int
    sha256: str
    data: bytes = field(default=b"", repr=False, eq=False, metadata={"stored": False})


@frozen(kw_only=True, eq=False, repr=False)
class Artifact(Value):
    """A file that the loop wrote or used: path, size in bytes and SHA-256 at the time.

    `files` is how many files a folder had; its SHA-256 is that of the list of them. The bytes are
    here if it is `kept`. `source` is the id of the run whose artifact this run has used.
    """

    path: str
    size: int
    sha256: str
    name: str | None = field(default=None, metadata={"stored": "if any"})
    type: str | None = field(default=None, metadata={"stored": "if any"})
    files: int | None = field(default=None, metadata={"stored": "if any"})
    kept: bool = field(default=False, metadata={"stored": "if any"})
    source: str | None = field(default=None, metadata={"stored": "if any"})


@frozen(kw_only=True, eq=False, repr=False)
class Failure(Value):
    """A plugin that raised in one of its hooks; `storage`: the one that stores the record."""

    plugin: str
    hook: str
    error: str
    storage: bool = False


@frozen(kw_only=True, eq=False, repr=False)
class PluginUse(Value):
    """A sink that was active, and the seconds that its hooks took during the run."""

    name: str
    seconds: float = 0.0


@frozen(kw_only=True, eq=False, repr=False)
class ErrorInfo(Value):
    """The error that ended a run."""

    type: str
    message: str
    traceback: str = ""


@frozen(kw_only=True, eq=False, repr=False)
class Origin(Value):
    """The source of a record that was imported, or that a rerun made.

    `kind` is `import` or `rerun`; `id` is that of the source record, `sha256` the digest of its
    file, `format` the program and version that wrote it. `original` holds its fields, unchanged;
    `notes` lists the fields whose meaning differs here.
    """

    kind: str
    id: str
    format: str | None = None
    sha256: str | None = None
    notes: tuple[str, ...] = ()
    original: Mapping[str, Any] | None = field(default=None, converter=freeze)


@frozen(kw_only=True, eq=False, repr=False)
class Experiment(Value):
    """A run that has ended.

    `status` is `completed`, `failed` or `interrupted`; `crashed` if the record was recovered from
    the journal; `imported` if it came from another program. `facts` holds what each plugin reported
    about the run, under the plugin's name. `results` and `digests` are those of the main phase;
    `phases` has those of every other one, by name. `cost` is what the simulation has counted of the
    run: `parameters` that its brain learns, `circuits` executed, their `shots`, `qubits`, `depth`;
    what it does not count is absent. `recount` is set if an interrupt came while an episode was
    being counted: a sink that stores all episodes must count them again. `lives` are those before
    the last, of a run that was resumed; facts, warnings and failures are those of the last.
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
    series: Mapping[str, SeriesSummary] = mapping_if_any()
    digests: Digests | None = None
    phases: Mapping[str, Phase] = mapping_if_any()
    tags: Mapping[str, str] = _frozen_mapping()
    notes: str | None = None
    config: Config
    command: tuple[str, ...] = ()
    study: Membership | None = None
    lives: tuple[Life, ...] = field(default=(), metadata={"stored": "if any"})
    error: ErrorInfo | None = None
    warnings: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()
    plugins: tuple[PluginUse, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    origin: Origin | None = None
    facts: Mapping[str, Any] = _frozen_mapping()
    cost: Mapping[str, int] = mapping_if_any()
    recount: bool = field(default=False, eq=False, metadata={"stored": False})


class EpisodeFields(TypedDict, total=False):
    """What a simulation yields for an episode: the keyword arguments of `Recorder.episode`."""

    seed: int
    success: bool
    termination: str
    steps: int
    reward: float
    counts: Mapping[str, int]
    metrics: Mapping[str, float]
    phase: str | None


class Simulation(Protocol):
    """What the runner runs: it yields episodes and does not depend on tracking.

    The plugin that makes a simulation checks the configuration first, and raises ConfigError. One
    method is optional: `cost()` returns, once a run is over, what it has cost, as whole numbers by
    name (see `Experiment.cost`).
    """

    @property
    def subject(self) -> Subject:
        """The environment, brain and device of this simulation."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings to show before the first episode."""

    def episodes(self, count: int, seed: int) -> Iterator[EpisodeFields]:
        """Start a new run of `count` episodes; the same seed yields the same episodes."""


class Evaluated(Simulation, Protocol):
    """A simulation that can also show what it has learned, with learning off."""

    def evaluate(self, count: int) -> Iterator[EpisodeFields]:
        """`count` episodes of the run that is going on, between two of its own.

        Nothing is learned from them, their worlds are none of the run's own, and the run goes on
        as if they had not been.
        """
