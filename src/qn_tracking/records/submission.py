"""The records of the second tier: a study of runs, a submission of it, what a validator finds.

A submission is self-contained: it holds every number of every episode, in columns, so that whatever
it claims is recomputed from it and never trusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from attrs import field, frozen

from qn_tracking.records.model import (
    Config,
    Digests,
    FrozenDict,
    Measure,
    Subject,
    freeze,
    mapping_if_any,
)
from qn_tracking.records.schema import (
    ADDITION,
    EXTENSION,
    GATHERED,
    PRUNING,
    STUDY,
    SUBMISSION,
    VERIFICATION,
)


@frozen(kw_only=True)
class Tuning:
    """Runs by which settings were chosen, as their `seeds`.

    `study` is the id of the declared study that they belong to, and `digest` that of its design;
    None for runs of no such study.
    """

    study: str | None = None
    digest: str | None = None
    seeds: tuple[int, ...]


@frozen(kw_only=True)
class Contribution:
    """Who submits, and what they say about it; also by which runs they chose the settings."""

    contributor: str
    github: str | None = None
    notes: str | None = None
    tuning: tuple[Tuning, ...] = field(default=(), metadata={"stored": "if any"})


@frozen(kw_only=True)
class Arm:
    """One configuration of a study: `text` as it was read, with the overrides of `config`.

    `config_file` is where it was read, relative to the folder of experiments; None for one that
    came with a package.
    """

    name: str
    config: Config
    text: str = field(repr=False)
    config_file: str | None = None
    subject: Subject
    plugins: Mapping[str, Mapping[str, Any]] = field(factory=FrozenDict, converter=freeze)


@frozen(kw_only=True)
class Study:
    """Runs declared before the first one starts, each arm with all the seeds; never rewritten.

    What decides is declared as well: the `metric`, the `test` (None for a single arm) and
    the `baseline`, the name of an arm. `digest` is of the design, None in files of before; `task`
    is that of the task which the seeds derive from, None if from what the arms share. What
    became of each run is in the records, which are called `<id>.s<index>`, and
    `<id>.s<index>.r<n>` for the n-th time it was tried again. The runs of one seed follow each
    other, in the order of the arms.

    `extended` is how often seeds were added later: those, too, are in `seeds` then, at the end.
    `added` are arms that were not declared: their runs are numbered from `runs` on, arm by arm.
    `script` is the command of a study of a script (see `studies.scripts`), and `folder` where it
    runs, relative to the folder of experiments; a script decides itself how many `episodes` it
    runs.
    """

    schema: int = STUDY.version
    id: str
    created: str
    name: str | None = None
    question: str | None = None
    runs: int
    episodes: int | None
    seed: int | None
    seeds: tuple[int, ...]
    script: tuple[str, ...] | None = None
    folder: str | None = None
    arms: tuple[Arm, ...]
    baseline: str | None = None
    metric: str = "final_success_rate"
    test: Literal["brunner-munzel", "half-run welch", "guarded paired"] | None = None
    digest: str | None = None
    task: str | None = field(default=None, metadata={"stored": "if any"})
    blocked: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(factory=FrozenDict, converter=freeze)
    notes: str | None = None
    command: tuple[str, ...] = ()
    contribution: Contribution | None = None
    extended: int = field(default=0, metadata={"stored": False})
    added: tuple[Arm, ...] = field(default=(), metadata={"stored": False})

    @property
    def every_arm(self) -> tuple[Arm, ...]:
        """The arms that were declared, then those that were added."""
        return self.arms + self.added

    @property
    def every_run(self) -> int:
        """How many runs there are with those of the arms that were added."""
        return self.runs + len(self.added) * len(self.seeds)

    def place_of(self, index: int) -> int:
        """The place of the arm of a run in `every_arm`."""
        if index < self.runs:
            return index % len(self.arms)
        return len(self.arms) + (index - self.runs) // len(self.seeds)

    def first_run(self, place: int) -> int:
        """The first run of the arm of this place in `every_arm`."""
        added = place - len(self.arms)
        return place if added < 0 else self.runs + added * len(self.seeds)

    def arm_of(self, index: int) -> Arm:
        """The arm of a run."""
        return self.every_arm[self.place_of(index)]

    def seed_of(self, index: int) -> int:
        """The seed of a run."""
        if index < self.runs:
            return self.seeds[index // len(self.arms)]
        return self.seeds[(index - self.runs) % len(self.seeds)]


@frozen(kw_only=True)
class Extension:
    """Seeds that were added to a study later, for all its arms."""

    schema: int = EXTENSION.version
    study: str
    created: str
    seeds: tuple[int, ...]


@frozen(kw_only=True)
class Addition:
    """An arm that was added to a study later, with all its seeds; its first run has the index."""

    schema: int = ADDITION.version
    study: str
    created: str
    first: int
    arm: Arm


@frozen(kw_only=True)
class Pruning:
    """That no further run of an added arm is wanted, and why."""

    schema: int = PRUNING.version
    study: str
    created: str
    arm: str
    reason: str | None = None


@frozen(kw_only=True)
class Members:
    """The runs of one arm of a study that was gathered, by their ids."""

    name: str
    runs: tuple[str, ...]


@frozen(kw_only=True)
class Gathered:
    """Runs chosen when they were done, which is no declaration: the results were known.

    `by` is the field that made the arms. The runs stay where they are, and may be in several.
    """

    schema: int = GATHERED.version
    id: str
    created: str
    name: str | None = None
    question: str | None = None
    by: str
    metric: str = "final_success_rate"
    arms: tuple[Members, ...]
    command: tuple[str, ...] = ()


@frozen(kw_only=True)
class Category:
    """Where a submission competes: derived from its configuration, never declared."""

    environment: str
    family: str

    def __str__(self) -> str:
        """`dynamic_small/quantum`, also the folder below `benchmarks/`."""
        return f"{self.environment}/{self.family}"


@frozen(kw_only=True)
class Columns:
    """The episodes of a run, a tuple of equal length for each field."""

    seed: tuple[int | None, ...]
    success: tuple[bool | None, ...]
    termination: tuple[str | None, ...]
    steps: tuple[int | None, ...]
    reward: tuple[Measure | None, ...]
    counts: Mapping[str, tuple[int | None, ...]] = field(factory=FrozenDict, converter=FrozenDict)
    metrics: Mapping[str, tuple[Measure | None, ...]] = field(
        factory=FrozenDict, converter=FrozenDict
    )


@frozen(kw_only=True)
class Run:
    """One learning run: the unit of inference. `cost` is what its simulation counted."""

    id: str
    seed: int
    started: str
    digests: Digests
    wall_seconds: float
    cpu_seconds: float | None = None
    peak_memory_bytes: int | None = None
    steps_per_second: float | None = None
    jobs: int | None = None
    cost: Mapping[str, int] = mapping_if_any()
    episodes: Columns


@frozen(kw_only=True)
class Estimate:
    """A metric over runs: n, mean, t-interval (ddof 1), interquartile mean, CVaR of the worst.

    Where the runs do not differ, `low` and `high` are Wilson's for the pooled count, and
    `pooled` says so.
    """

    n: int
    mean: float
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    pooled: bool = False
    iqm: float
    worst: float


@frozen(kw_only=True)
class GuardedEstimate(Estimate):
    """The same under guarded inference: the intervals hold near the ends of the metric's range.

    `method` is `gaffke` for the interval of the mean, or `t` for a metric without a range. The
    IQM has its own interval, None without a range. `t_low` and `t_high` are Student's, which are
    conventional: they cover far too little near an end.
    """

    method: str | None = None
    iqm_low: float | None = None
    iqm_high: float | None = None
    t_low: float | None = None
    t_high: float | None = None


@frozen(kw_only=True)
class ThresholdShare:
    """The share of runs whose primary metric reached the threshold: how often a run works.

    Its interval is exact (Clopper, Pearson 1934), over runs.
    """

    threshold: float
    reached: int
    runs: int
    share: float
    low: float
    high: float


@frozen(kw_only=True)
class StudyResult:
    """The study that a submission is made of, and what became of its runs."""

    id: str
    runs: int
    seed: int
    finished: int
    failed: int
    aborted: int


@frozen(kw_only=True)
class Source:
    """The commit that ran, and whether it was all that ran."""

    commit: str | None = None
    branch: str | None = None
    dirty: bool | str | None = None
    remote: str | None = None
    config_file: str | None = None
    config_tracked: bool | None = None


@frozen(kw_only=True)
class Program:
    """What starts the runs of a script again, in the repository of its commit.

    `arguments` hold `{seed}` where the seed is; without it the script has it from `run.seed`.
    `folder` and `path` are where it is started and what it imports from, `run` is which of the runs
    of its process counts. `seeds` is the digest that the seeds derive from, None for chosen ones.
    """

    kind: Literal["script", "module"]
    name: str
    options: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    folder: str = "."
    path: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(factory=FrozenDict, converter=freeze)
    run: int = 0
    seeds: str | None = None

    @property
    def module(self) -> str:
        """The import name of its file, from the top of the repository."""
        return self.name.removesuffix(".py").replace("/", ".")


@frozen(kw_only=True)
class Submission:
    """A submission.

    `aggregates` holds its claims by name: an `Estimate` of each metric, as JSON data, and totals.
    They are checked against its runs, and never shown. `task` is what its provider says is to be
    solved, nested like the configuration; it is derived again at every check. `program` is there
    for the runs of a script only. `packages` is the digest of the list of installed distributions,
    `versions` those of them that compute.
    """

    schema: int = SUBMISSION.version
    id: str
    protocol: int
    created: str
    category: Category
    contribution: Contribution
    subject: Subject
    config: Config
    text: str = field(repr=False)
    episodes: int
    study: StudyResult | None = None
    source: Source = Source()
    code: tuple[Mapping[str, Any], ...] = field(default=(), converter=freeze)
    packages: str | None = None
    versions: Mapping[str, str] | None = field(
        default=None, converter=freeze, metadata={"stored": "if any"}
    )
    system: Mapping[str, Any] = field(factory=FrozenDict, converter=freeze)
    task: Mapping[str, Any] | None = field(
        default=None, converter=freeze, metadata={"stored": "if any"}
    )
    program: Program | None = field(default=None, metadata={"stored": "if any"})
    aggregates: Mapping[str, Any] = field(converter=freeze)
    runs: tuple[Run, ...]

    @property
    def ran(self) -> tuple[str, ...]:
        """The import names of the packages that must run, or of the file of a script."""
        return self.subject.packages if self.program is None else (self.program.module,)


@frozen(kw_only=True)
class Finding:
    """What a validator finds: an `error` keeps a submission out, a `warning` does not."""

    rule: str
    level: Literal["error", "warning"]
    message: str
    field: str | None = None


def an_error(rule: str, message: str, field: str | None = None) -> Finding:
    """A finding that keeps a submission out."""
    return Finding(rule=rule, level="error", message=message, field=field)


def a_warning(rule: str, message: str, field: str | None = None) -> Finding:
    """A finding that does not."""
    return Finding(rule=rule, level="warning", message=message, field=field)


@frozen(kw_only=True)
class Checked:
    """A run that was executed for a verification: its outcome, and whether it agrees.

    `index` is its place in the submission, None for a fresh seed. `difference` names the first
    episode and field that differ. `cpu_seconds` are what it took here, `cost` is what was counted.
    """

    index: int | None = None
    seed: int
    digests: Digests
    agreement: Literal["exact", "outcome", "none"] | None = None
    difference: str | None = None
    successes: int | None = None
    episodes: int | None = None
    cpu_seconds: float | None = field(default=None, metadata={"stored": "if any"})
    cost: Mapping[str, int] = mapping_if_any()


@frozen(kw_only=True)
class Replicated:
    """Fresh seeds against the submission: the figures of the one-sided rule, and its power."""

    accepted: bool
    mean: float
    fresh_mean: float
    bound: float
    runs: int
    fresh: int
    false_alarm: float
    best_of_2n: float
    best_of_5n: float


@frozen(kw_only=True)
class Verification:
    """Who executed a submission again, where, and the outcome; a file beside the submission.

    `sha256` is that of the submission's file: a verification of another text counts for nothing.
    `code` is what ran: `commit` of it, or with `present` the code that was installed.
    """

    schema: int = VERIFICATION.version
    id: str
    submission: str
    sha256: str
    protocol: int
    level: Literal["integrity", "repeat", "replicate"]
    outcome: Literal["verified", "mismatch", "refused"]
    reasons: tuple[str, ...] = ()
    verifier: str
    github: str | None = None
    created: str
    commit: str | None = None
    present: bool = False
    isolation: str = ""
    code: tuple[Mapping[str, Any], ...] = field(default=(), converter=freeze)
    versions: Mapping[str, str] = field(factory=FrozenDict, converter=freeze)
    system: Mapping[str, Any] = field(factory=FrozenDict, converter=freeze)
    runs: tuple[Checked, ...] = ()
    replication: Replicated | None = None
