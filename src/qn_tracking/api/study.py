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
from typing import cast

from qn_tracking.api.declaration import Declaration
from qn_tracking.files import own_arguments

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Executor
    from typing import Any, Self

    from qn_tracking.benchmark.reports import Submitted
    from qn_tracking.records import submission
    from qn_tracking.records.model import Config
    from qn_tracking.records.submission import Contribution
    from qn_tracking.studies.arms import Side, StudyTable
    from qn_tracking.studies.effects import Effect
    from qn_tracking.studies.execute import StudyOutcome, StudyProgress, StudySummary
    from qn_tracking.studies.plan import Source
    from qn_tracking.tracking.installed import Named


class Study(Declaration):
    """A declared set of runs. Make one with `Study.declare` or `Study.load`.

    `record` is what the file of the study holds; `experiments_dir` the folder of its runs.
    """

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
        dry_run: bool = False,
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
        refused. With `dry_run` no code of the current folder is imported but that of `plugins`, and
        nothing can be run. Raises ConfigError, UsageError or PluginError.
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
            dry_run=dry_run,
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
            command=own_arguments() if command is None else command,
            contribution=contribution,
            benchmarks_dir=benchmarks_dir,
        )
        study = cls(record, plans[0].experiments_dir, plans)
        study._benchmarks = benchmarks_dir
        return study

    @classmethod
    def script(
        cls,
        command: Sequence[str],
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
        tags: Mapping[str, str] | None = None,
        notes: str | None = None,
        experiments_dir: str | os.PathLike[str] | None = None,
    ) -> Self:
        """A study of a script of your own, not yet written; `run` declares it.

        `command` are the words of a command line, for no shell, such as `["python", "train.py",
        "--lr", "{lr}", "--seed", "{seed}"]`: `{lr}` is a field of `sweep`, `{seed}` the seed. The
        script runs in this folder; the first `track()` in it joins the study, and has its seed. The
        other arguments are those of `plan`. Raises UsageError.
        """
        from qn_tracking.project import experiments_dir as folder_of
        from qn_tracking.studies.scripts import script_study

        folder = folder_of(experiments_dir)
        record = script_study(
            command,
            sweep or {},
            folder,
            paired=paired,
            name=name,
            question=question,
            baseline=baseline,
            metric=metric,
            n_seeds=n_seeds,
            seeds=seeds,
            seed=seed,
            tags=tags or {},
            notes=notes,
            command=own_arguments(),
        )
        return cls(record, folder, ())

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
        plugins: Sequence[str] = (),
        dry_run: bool = False,
    ) -> Self:
        """A study that was declared before, by its id or name. Raises UsageError if there is none,
        StorageError if its file cannot be read or was changed.

        Secrets are not stored. If the configuration of a study of one arm holds some, and they are
        not in its file, give `config` and `overrides` again, the same as before. If the study is
        not below the current folder, `plugins` must name those of the current folder that it turns
        on. `dry_run` is that of `plan`.
        """
        from qn_tracking.errors import UsageError
        from qn_tracking.project import experiments_dir as folder_of
        from qn_tracking.store import studies

        folder = folder_of(experiments_dir)
        study = cls(studies.load(folder, id), folder)
        declared = {name for arm in study.arms for name in arm.plugins}
        for name in plugins:
            if name not in declared:
                raise UsageError("the study has not declared it", file=f"plugin {name}")
        study._asked, study._dry_run = tuple(plugins), dry_run
        if config is not None:
            from qn_tracking.config import as_config

            study._given = as_config(config, overrides)
        return study

    def __repr__(self) -> str:
        return f"Study({self.id!r})"

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
        does not raise: see the states that are returned. Arms that are added meanwhile run as well,
        after the others. Raises UnsupportedError if another process
        runs the study or if its configuration held secrets, PluginError if the executor cannot be
        made.
        """
        from qn_tracking.errors import UsageError
        from qn_tracking.store import studies
        from qn_tracking.studies.execute import execute, opened
        from qn_tracking.tracking.warned import warn_on_stderr

        if self.unchecked or self._dry_run:
            raise UsageError("a dry run is not executed")
        if jobs is not None and jobs < 1:
            raise UsageError(f"jobs: expected 1 or more, got {jobs}")
        warn = warn or warn_on_stderr
        for text in self.warnings:
            warn(text)
        progress, stop = progress or (lambda _: None), stop or (lambda: False)
        script = self.record.script is not None
        if script and executor not in (None, "local"):
            raise UsageError("executor: a script runs on this machine only")

        def run_all(pool: Executor | None) -> StudyOutcome:
            how: dict[str, Any] = {
                "jobs": jobs, "progress": progress, "stop": stop, "warn": warn
            }  # fmt: skip
            if not script:
                return execute(self.record, self._planned(), pool, **how)
            from qn_tracking.studies.processes import execute_script

            return execute_script(self.record, self.experiments_dir, **how)

        self._planned()
        # Before the study is written: the executor may not be available.
        with opened(executor, jobs, self.record.blocked, warn) as pool:
            self.save()
            if started is not None:
                started()
            while True:
                known = len(self.record.added)
                outcome = run_all(pool)
                now = studies.load(self.experiments_dir, self.id)
                if outcome.stopped or len(now.added) == known:
                    return outcome
                if len(now.added) > len(self.record.added):  # another process has added them
                    self.record, self._plans = now, None

    def extend(self, *, n_seeds: int | None = None, seeds: Sequence[int] | None = None) -> None:
        """Adds seeds for all arms, or `n_seeds` further ones that derive as the first did.

        That is recorded beside the study, and each look at its results counts: see `compare`. `run`
        runs them. Raises UsageError for seeds that are there already or cannot be, also those that
        the settings of a submission were chosen on, and StorageError. A study that was loaded as a
        `dry_run` has them without that they are written.
        """
        import time

        from qn_tracking import ids
        from qn_tracking.benchmark import tuning
        from qn_tracking.errors import UsageError
        from qn_tracking.store import studies

        record, chosen = self.record, "seeds" if n_seeds is None else "n_seeds"
        if (n_seeds is None) == (seeds is None):
            raise UsageError("expected either seeds or n_seeds", field="seeds")
        if seeds is None:
            if record.seed is None:
                last = max(record.seeds)
                hint = f"such as --seeds {last + 1}-{last + (n_seeds or 1)}"
                raise UsageError("its seeds were chosen: choose more", field="n_seeds", hint=hint)
            arms = [arm.config for arm in record.arms]
            digest = record.task or studies.seeds_digest(arms)
            first, more = len(record.seeds), n_seeds or 0
            seeds = [ids.run_seed(digest, record.seed, first + place) for place in range(more)]
        if record.contribution is not None and studies.wrong_seeds(seeds) is None:
            for cause, _ in tuning.problems(record.contribution.tuning, seeds):
                raise UsageError(cause, field=chosen)
        if self._dry_run:
            self.record = studies.with_seeds(record, seeds)
            return
        self.save()
        created = ids.utc(time.time())
        self.record = studies.extend(self.experiments_dir, record, seeds, created)

    def add(self, values: Mapping[str, Any], *, name: str | None = None) -> str:
        """Adds an arm with all seeds, for instance one that an optimiser proposes; returns its
        name. `run` runs it, also a `run` of another process that is not over yet.

        `values` are of dotted fields, as `sweep` has them; the rest is as in the first arm; of a
        script they are of all its fields. What was added after results could be seen was chosen by
        them: the arm is in the table, but no verdict of the study is of it. Raises ConfigError for
        an arm that cannot be made, UsageError for one that is there already, or for a study that
        is to be submitted.
        """
        import time

        from qn_tracking import ids
        from qn_tracking.errors import UsageError
        from qn_tracking.store import studies

        record = self.record
        if record.contribution is not None:
            raise UsageError("a submission is made of one configuration", field="arm")
        plans = list(self._planned())
        if record.script is not None:
            from qn_tracking.studies.scripts import added_arm as of_script

            arm = of_script(record, values, name)
        else:
            from qn_tracking.studies.declare import added_arm

            arm, plan = added_arm(plans[0], values, name)
            plans.append(plan)
        self.save()
        self.record = studies.add(self.experiments_dir, record, arm, ids.utc(time.time()))
        self._plans = plans
        return arm.name

    def prune(self, arm: str, reason: str | None = None) -> None:
        """Ends an arm that was added: its runs stop after their episode, and no other one begins.

        Its status in `runs` is `pruned` then, but for the runs that are completed. May be called
        while it runs, from `progress` of `run` or from another process. Raises UsageError for an
        arm that was declared, as all of its runs count.
        """
        import time

        from qn_tracking import ids
        from qn_tracking.redact import redact_text
        from qn_tracking.store import studies

        why = None if reason is None else redact_text(reason)
        studies.prune(self.experiments_dir, self.record, arm, why, ids.utc(time.time()))

    def resume(self, **options: Any) -> StudyOutcome:
        """Runs what is missing or has failed; `options` are those of `run`."""
        return self.run(**options)

    def run_ids(self) -> list[str]:
        """The ids of the latest attempts at the runs that were begun."""
        from qn_tracking.store import studies

        return [
            one.id
            for one in self.runs()
            if one.status != "missing"
            and (one.status != "pruned" or studies.begun(self.experiments_dir, one.id))
        ]

    def sides(self) -> list[Side]:
        """The runs of each arm: the latest attempt at every run that was begun."""
        from qn_tracking.store import index, studies
        from qn_tracking.studies.arms import Side

        folder, prefix, arms = self.experiments_dir, f"{self.id}.s", self.record.every_arm
        found = index.consult(folder, lambda index: list(index.results(prefix)))
        members: list[list[dict[str, Any]]] = [[] for _ in arms]
        for doc in studies.latest(self.record, found):
            members[self.record.place_of(doc["index"])].append(doc)
        seeds, declared = len(self.record.seeds), len(self.record.arms)
        over = studies.pruned(folder, self.record) if self.record.added else ()
        return [
            Side(
                name=arm.name,
                docs=tuple(docs),
                declared=seeds,
                added=place >= declared,
                pruned=place in over,
            )
            for place, (arm, docs) in enumerate(zip(arms, members, strict=True))
        ]

    def effects(self, table: StudyTable | None = None) -> tuple[Effect, ...]:
        """The main effects of the factors that were swept; empty unless the arms are all
        combinations of two factors or more. The metric is that of the table, by default the
        declared one.
        """
        from qn_tracking.studies.effects import main_effects
        from qn_tracking.studies.scripts import values_of

        script, values = self.record.script is not None, {}
        for arm in self.record.arms:
            swept = values_of(arm.config) if script else arm.config.overrides
            values[arm.name] = {"config": arm.config.label, **swept}
        for field in {field for some in values.values() for field in some}:
            # What all arms have in common is no factor.
            if len({str(some.get(field)) for some in values.values()}) == 1:
                values = {
                    name: {key: value for key, value in some.items() if key != field}
                    for name, some in values.items()
                }
        found = self.table(episodes=False) if table is None else table
        declared = [row for row in found.rows if not row.added]
        rows = sorted(declared, key=lambda row: found.order.index(row.name))
        return main_effects(rows, values, found.metric)

    def summary(self) -> StudySummary:
        """How many runs have which status, their final success rates, and slow plugins."""
        from qn_tracking.studies.execute import summarize

        return summarize(self.experiments_dir, self.runs())

    @property
    def tuning(self) -> submission.Tuning:
        """That settings were chosen by it, for the `Contribution` of a submission."""
        from qn_tracking.records.submission import Tuning

        return Tuning(study=self.id, digest=self.record.digest, seeds=self.record.seeds)

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
