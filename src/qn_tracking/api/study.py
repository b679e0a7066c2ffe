"""A study from Python: the same configuration run with many seeds.

    >>> from qn_tracking import Study
    >>> study = Study.declare("mlp_dynamic_small", n_seeds=10, episodes=50)  # doctest: +SKIP
    >>> study.run(jobs=2).finished  # doctest: +SKIP
    10
    >>> [one.results.final_success_rate for one in study.results()]  # doctest: +SKIP

A study is declared in `experiments/studies/<id>/study.json` before its first run starts, so that no
run can be left out afterwards. Runs that are missing or failed are run by `resume()`.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, Self

    from qn_tracking.benchmark.reports import Submitted
    from qn_tracking.records import submission
    from qn_tracking.records.model import Config, Experiment
    from qn_tracking.records.submission import Contribution
    from qn_tracking.store.studies import RunState
    from qn_tracking.studies.execute import StudyOutcome, StudyProgress, StudySummary
    from qn_tracking.studies.plan import Plan


class Study:
    """A declared set of runs. Make one with `Study.declare` or `Study.load`.

    `record` is what the file of the study holds; `experiments_dir` the folder of its runs.
    """

    def __init__(
        self, record: submission.Study, experiments_dir: str, plan: Plan | None = None
    ) -> None:
        self.record = record
        self.experiments_dir = experiments_dir
        self._plan = plan
        self._declared = plan is None

    @classmethod
    def plan(
        cls,
        config: Config | Mapping[str, Any] | str | os.PathLike[str],
        *,
        n_seeds: int | None = None,
        seeds: Sequence[int] | None = None,
        seed: int | None = None,
        episodes: int | None = None,
        overrides: Sequence[str] = (),
        plugins: Sequence[str] = (),
        blocked: Sequence[str] = (),
        tags: Mapping[str, str] | None = None,
        notes: str | None = None,
        experiments_dir: str | os.PathLike[str] | None = None,
        contribution: Contribution | Callable[[], Contribution] | None = None,
        benchmarks_dir: str = "benchmarks",
        command: Sequence[str] | None = None,
    ) -> Self:
        """A study that is checked and not yet written; `run` declares it.

        The runs have exactly the `seeds`, or `n_seeds` seeds derived from `seed` (default: the
        configuration's, or a random one). `overrides` are `dotted.field=VALUE`. With a
        `contribution` the numbers default to those of the protocol in `benchmarks_dir`, and what it
        forbids is refused. Raises ConfigError, UsageError or PluginError.
        """
        from qn_tracking.studies.declare import study_of
        from qn_tracking.studies.plan import make_plan
        from qn_tracking.tracking.installed import TRACKER

        plan = make_plan(
            config,
            overrides=overrides,
            plugins=[*TRACKER, *plugins],
            blocked=blocked,
            experiments_dir=experiments_dir,
        )
        record = study_of(
            plan,
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
        return cls(record, plan.experiments_dir, plan)

    @classmethod
    def declare(
        cls, config: Config | Mapping[str, Any] | str | os.PathLike[str], **options: Any
    ) -> Self:
        """A study that is written down; `options` are those of `plan`. Raises StorageError."""
        study = cls.plan(config, **options)
        study.save()
        return study

    @classmethod
    def load(cls, id: str, *, experiments_dir: str | os.PathLike[str] | None = None) -> Self:
        """A study that was declared before. Raises UsageError if there is none of that id."""
        from qn_tracking.project import experiments_dir as of_project
        from qn_tracking.store import studies

        folder = os.fspath(experiments_dir or of_project() or "experiments")
        return cls(studies.load(folder, id), folder)

    def __repr__(self) -> str:
        return f"Study({self.id!r})"

    @property
    def id(self) -> str:
        """The id of the study; those of its runs begin with it."""
        return self.record.id

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the simulation has to say about its configuration. Raises as `run` does."""
        return tuple(self._planned().simulation.warnings)

    @property
    def about(self) -> dict[str, Any]:
        """What would run, as plain data."""
        record = self.record
        numbers: dict[str, Any] = {
            "runs": record.runs,
            "episodes": record.episodes,
            "seed": record.seed,
        }
        if record.seed is None:
            numbers = {**numbers, "seeds": list(record.seeds)}
        plan = self._planned()
        more = {"plugins": list(plan.plugins), "warnings": list(plan.simulation.warnings)}
        return {**plan.about, **numbers, **more}

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

        plan = self._planned()
        warn = warn or warn_on_stderr
        for text in plan.simulation.warnings:
            warn(text)
        # Before the study is written: the executor may not be available.
        with opened(executor, jobs, plan.blocked, warn) as pool:
            self.save()
            if started is not None:
                started()
            return execute(
                self.record,
                plan,
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

    def _planned(self) -> Plan:
        if self._plan is None:
            from qn_tracking.studies.declare import plan_again
            from qn_tracking.tracking.runner import pin_numeric_threads

            pin_numeric_threads()
            self._plan = plan_again(self.record, self.experiments_dir)
        return self._plan
