"""A study from Python: one or several arms, which are configurations, run with the same seeds.

    >>> from qn_tracking import Study
    >>> rates = {"brain.config.learning_rate": [0.001, 0.003]}
    >>> study = Study.declare("mlp_dynamic_small", sweep=rates, n_seeds=10)  # doctest: +SKIP
    >>> study.run(jobs=2).finished  # doctest: +SKIP
    20
    >>> [one.results.final_success_rate for one in study.results()]  # doctest: +SKIP

A study is declared in `experiments/studies/<id>/study.json` before its first run starts, so that no
run can be left out afterwards. Runs that are missing or failed are run by `resume()`.
"""

from __future__ import annotations

import os
import sys
from typing import cast

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Self

    from qn_tracking.benchmark.reports import Submitted
    from qn_tracking.inference.multiplicity import Correction
    from qn_tracking.inference.planning import Design
    from qn_tracking.records import submission
    from qn_tracking.records.model import Config, Experiment
    from qn_tracking.records.submission import Contribution
    from qn_tracking.store.studies import RunState
    from qn_tracking.studies.arms import StudyComparison, StudyTable
    from qn_tracking.studies.execute import StudyOutcome, StudyProgress, StudySummary
    from qn_tracking.studies.plan import Plan, Source
    from qn_tracking.tracking.installed import Named


class Study:
    """A declared set of runs. Make one with `Study.declare` or `Study.load`.

    `record` is what the file of the study holds; `experiments_dir` the folder of its runs.
    """

    def __init__(
        self,
        record: submission.Study,
        experiments_dir: str,
        plans: Sequence[Plan] | None = None,
    ) -> None:
        self.record = record
        self.experiments_dir = experiments_dir
        self._plans = plans
        self._given: Config | None = None
        self._declared = plans is None

    @classmethod
    def plan(
        cls,
        config: Source | Sequence[Source],
        *,
        sweep: Mapping[str, Sequence[Any] | str] | None = None,
        paired: bool = False,
        name: str | None = None,
        question: str | None = None,
        baseline: str | None = None,
        metric: str = "final_success_rate",
        n_seeds: int | None = None,
        seeds: Sequence[int] | None = None,
        seed: int | None = None,
        episodes: int | None = None,
        overrides: Sequence[str] = (),
        plugins: Named = (),
        blocked: Sequence[str] = (),
        tags: Mapping[str, str] | None = None,
        notes: str | None = None,
        experiments_dir: str | os.PathLike[str] | None = None,
        evaluate_every: int | None = None,
        evaluate_episodes: int | None = None,
        contribution: Contribution | Callable[[], Contribution] | None = None,
        benchmarks_dir: str = "benchmarks",
        command: Sequence[str] | None = None,
    ) -> Self:
        """A study that is checked and not yet written; `run` declares it.

        `config` is one configuration or several; `sweep` maps fields to their values (a list, or
        text such as `geomspace(1e-4, 1e-2, 5)`): each combination is an arm, or with `paired` the
        first values of all fields are one, then the second ones. `baseline` is the name of an arm
        that the others are compared with, else each is with each; `metric` decides.

        All arms have the same seeds: the `seeds`, or `n_seeds` seeds derived from `seed` (default:
        the configuration's, or a random one). `overrides` are `dotted.field=VALUE`;
        `evaluate_every` and `evaluate_episodes` are those of `Run`. With a `contribution` the
        numbers default to those of the protocol in `benchmarks_dir`, and what it forbids is
        refused. Raises ConfigError, UsageError or PluginError.
        """
        from qn_tracking.studies.declare import study_of
        from qn_tracking.studies.plan import make_plans
        from qn_tracking.tracking.installed import TRACKER, named

        arms, plans = make_plans(
            list(config) if isinstance(config, (list, tuple)) else [cast("Source", config)],
            sweep or {},
            paired=paired,
            overrides=overrides,
            plugins=named(plugins, *TRACKER),
            blocked=blocked,
            experiments_dir=experiments_dir,
            evaluate_every=evaluate_every,
            evaluate_episodes=evaluate_episodes,
        )
        record = study_of(
            plans,
            arms=arms,
            name=name,
            question=question,
            baseline=baseline,
            metric=metric,
            n_seeds=n_seeds,
            seeds=seeds,
            seed=seed,
            episodes=episodes,
            tags=tags or {},
            notes=notes,
            command=sys.argv if command is None else command,
            contribution=contribution,
            benchmarks_dir=benchmarks_dir,
        )
        return cls(record, plans[0].experiments_dir, plans)

    @classmethod
    def declare(cls, config: Source | Sequence[Source], **options: Any) -> Self:
        """A study that is written down; `options` are those of `plan`. Raises StorageError."""
        study = cls.plan(config, **options)
        study.save()
        return study

    @classmethod
    def load(
        cls,
        id: str,
        *,
        experiments_dir: str | os.PathLike[str] | None = None,
        config: Config | Mapping[str, Any] | str | os.PathLike[str] | None = None,
        overrides: Sequence[str] = (),
    ) -> Self:
        """A study that was declared before, by its id or name. Raises UsageError if there is none,
        StorageError if its file cannot be read or was changed.

        Secrets are not stored. If the configuration of a study of one arm holds some, and they are
        not in its file, give `config` and `overrides` again, the same as before.
        """
        from qn_tracking.project import experiments_dir as of_project
        from qn_tracking.store import studies

        folder = os.fspath(experiments_dir or of_project() or "experiments")
        study = cls(studies.load(folder, id), folder)
        if config is not None:
            from qn_tracking.config import as_config

            study._given = as_config(config, overrides)
        return study

    def __repr__(self) -> str:
        return f"Study({self.id!r})"

    @property
    def id(self) -> str:
        """The id of the study; those of its runs begin with it."""
        return self.record.id

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the simulation has to say about its configuration. Raises as `run` does."""
        found = (text for plan in self._planned() for text in plan.warnings)
        return tuple(dict.fromkeys(found))

    @property
    def about(self) -> dict[str, Any]:
        """What would run, as plain data; of several arms, with what they can show (`design`)."""
        record = self.record
        numbers: dict[str, Any] = {
            "runs": record.runs,
            "episodes": record.episodes,
            "seed": record.seed,
        }
        if record.seed is None:
            numbers = {**numbers, "seeds": list(record.seeds)}
        plans = self._planned()
        more = {"plugins": list(plans[0].plugins), "warnings": list(self.warnings)}
        if len(plans) == 1:
            return {**plans[0].about, **numbers, **more}
        from qn_tracking.records.codec import plain

        names = ("name", "question", "baseline", "metric", "test")
        return {
            **{name: getattr(record, name) for name in names},
            "arms": [
                {"name": arm.name, **plan.about, "overrides": plain(arm.config.overrides)}
                for arm, plan in zip(record.arms, plans, strict=True)
            ],
            **numbers,
            **more,
            "design": plain(self.design),
        }

    @property
    def design(self) -> Design | None:
        """What so many runs of so many arms can show; None of a single arm."""
        if len(self.record.arms) == 1:
            return None
        return self._design(self.record.baseline is not None)

    def _design(self, baseline: bool) -> Design:
        from qn_tracking.inference.planning import design
        from qn_tracking.studies.comparison import RATES

        record = self.record
        bounded = record.test != "brunner-munzel" or record.metric in RATES
        return design(
            len(record.seeds),
            len(record.arms),
            baseline=baseline,
            shared_seeds=True,
            bounded=bounded,
        )

    def can_show(self) -> tuple[str, ...]:
        """What a study of several arms can show, in sentences: before its first run, too."""
        if self.design is None:
            return ()
        from qn_tracking.studies.sentences import can_show

        with_baseline = self._design(True)
        return tuple(
            can_show(self.design, baseline=self.record.baseline, with_baseline=with_baseline)
        )

    def save(self) -> None:
        """Writes the study down; durable on return. A study that is written stays as it is."""
        if not self._declared:
            from qn_tracking.store import studies

            studies.declare(self.experiments_dir, self.record)
            self._declared = True

    def run(
        self,
        *,
        jobs: int | None = None,
        executor: str | None = None,
        started: Callable[[], None] | None = None,
        progress: Callable[[StudyProgress], None] | None = None,
        stop: Callable[[], bool] | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> StudyOutcome:
        """Runs every run that is not completed, `jobs` at the same time; returns what became of it.

        `executor` is `SCHEME://…` of an installed plugin, else the runs are processes of this
        machine. `started` is called once the study is written, `progress` and `stop` several times
        a second, all from this thread; once `stop` returns True, runs end after their episode.
        `warn` gets one line of text, and prints it on standard error by default. A run that fails
        does not raise: see the states that are returned. Raises UnsupportedError if another process
        runs the study or if its configuration held secrets, PluginError if the executor cannot be
        made.
        """
        from qn_tracking.studies.execute import execute, opened
        from qn_tracking.tracking.recorder import warn_on_stderr

        plans = self._planned()
        warn = warn or warn_on_stderr
        for text in self.warnings:
            warn(text)
        # Before the study is written: the executor may not be available.
        with opened(executor, jobs, self.record.blocked, warn) as pool:
            self.save()
            if started is not None:
                started()
            return execute(
                self.record,
                plans,
                pool,
                jobs=jobs,
                progress=progress or (lambda _: None),
                stop=stop or (lambda: False),
                warn=warn,
            )

    def resume(self, **options: Any) -> StudyOutcome:
        """Runs what is missing or has failed; `options` are those of `run`."""
        return self.run(**options)

    def runs(self) -> tuple[RunState, ...]:
        """The latest attempt at every run: its index, id and status."""
        from qn_tracking.store import studies

        return studies.states(self.experiments_dir, self.record)

    def results(self) -> tuple[Experiment, ...]:
        """The records of the runs that are completed, in the order of their seeds."""
        from qn_tracking.store import paths, read

        return tuple(
            read.experiment(paths.record(self.experiments_dir, state.id))
            for state in self.runs()
            if state.status == "completed"
        )

    @property
    def arms(self) -> tuple[submission.Arm, ...]:
        """The arms: the name of each, its configuration and its overrides."""
        return self.record.arms

    def table(self, metric: str | None = None) -> StudyTable:
        """A row for each arm, the best first: its runs, the metric with its interval, how episodes
        ended, its curve. The metric is by default the one that was declared.
        """
        from qn_tracking.studies.arms import metric_of, table

        runs = self._outcomes()
        return table(self.record, runs, metric or metric_of(self.record, runs))

    def compare(
        self,
        metric: str | None = None,
        *,
        baseline: str | None = None,
        correction: Correction = "holm",
    ) -> StudyComparison:
        """What may be concluded: each arm against the baseline that was declared, or all pairs.

        The test that was declared decides. Another `baseline` may be asked for by its name; that
        is then another family than the declared one.
        """
        from qn_tracking.studies.arms import compare
        from qn_tracking.studies.declare import arm_named

        if baseline is not None:
            baseline = arm_named([arm.name for arm in self.arms], baseline)
        return compare(
            self.record,
            self.table(metric),
            baseline=baseline or self.record.baseline,
            correction=correction,
        )

    def _outcomes(self) -> list[dict[str, Any]]:
        """The results of the latest attempt at every run that was begun."""
        from qn_tracking.store import index, studies

        folder, prefix = self.experiments_dir, f"{self.id}.s"
        found = index.consult(folder, lambda index: list(index.results(prefix)))
        return studies.latest(self.record, found)

    def summary(self) -> StudySummary:
        """How many runs have which status, their final success rates, and slow plugins."""
        from qn_tracking.studies.execute import summarize

        return summarize(self.experiments_dir, self.runs())

    def submit(
        self,
        benchmarks_dir: str = "benchmarks",
        contribution: Contribution | None = None,
        *,
        confirm: Callable[[Submitted], bool] | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> Submitted:
        """Makes a submission to the leaderboard of the runs; see `Leaderboard.submit`.

        The contribution is by default the one that was declared.
        """
        from qn_tracking.api.leaderboard import Leaderboard

        return Leaderboard(benchmarks_dir, warn=warn).submit(
            self.record, contribution, experiments=self.experiments_dir, confirm=confirm
        )

    def _planned(self) -> Sequence[Plan]:
        """A plan for each arm."""
        if self._plans is None:
            from qn_tracking.studies.declare import plans_again
            from qn_tracking.tracking.runner import pin_numeric_threads

            pin_numeric_threads()
            self._plans = plans_again(self.record, self.experiments_dir, self._given)
        return self._plans
