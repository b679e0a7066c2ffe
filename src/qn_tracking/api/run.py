"""One run of a configuration, from Python: what `qn-run CONFIG` does.

>>> from qn_tracking import run
>>> experiment = run("mlp_dynamic_small", episodes=20, seed=1)  # doctest: +SKIP
>>> experiment.results.success_rate  # doctest: +SKIP
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from qn_tracking.records.model import Config, Experiment
    from qn_tracking.tracking.installed import Named


class Run:
    """A run that is checked and may be executed, once.

    `overrides` are `dotted.field=VALUE`; `plugins` are turned on beside the project's and the
    configuration's: names, or a mapping of names to options; `("metadata", "json_storage")` to
    record the run. After `evaluate_every` episodes each, `evaluate_episodes` show what was learned
    by then, in the phase `evaluation`. `capture_output` is that of `Recorder`. With `dry_run` no
    code of the current folder is imported but that of `plugins`, and nothing can be executed.
    Raises ConfigError, UsageError or PluginError for what cannot run; nothing has been written
    then.
    """

    def __init__(
        self,
        config: Config | Mapping[str, Any] | str | os.PathLike[str],
        *,
        episodes: int | None = None,
        seed: int | None = None,
        overrides: Sequence[str] = (),
        plugins: Named = (),
        blocked: Sequence[str] = (),
        tags: Mapping[str, str] | None = None,
        notes: str | None = None,
        experiments_dir: str | os.PathLike[str] | None = None,
        dry_run: bool = False,
        evaluate_every: int | None = None,
        evaluate_episodes: int | None = None,
        capture_output: bool = False,
    ) -> None:
        from qn_tracking.studies.plan import make_plan

        self.plan = make_plan(
            config,
            overrides=overrides,
            plugins=plugins,
            blocked=blocked,
            experiments_dir=experiments_dir,
            dry_run=dry_run,
            evaluate_every=evaluate_every,
            evaluate_episodes=evaluate_episodes,
        )
        self.episodes = self.plan.episodes(episodes)
        self.seed = self.plan.seed(seed)
        """The seed that is given or configured; None if it is going to be random."""
        self.tags, self.notes = dict(tags or {}), notes
        self.capture_output = capture_output
        self.experiment: Experiment | None = None
        """The record, once the run has ended."""
        self._recorder: Any = None
        self._resume: str | None = None

    @classmethod
    def load(
        cls,
        id: str,
        *,
        plugins: Sequence[str] = (),
        experiments_dir: str | os.PathLike[str] | None = None,
        dry_run: bool = False,
        capture_output: bool = False,
    ) -> Run:
        """A run that was interrupted or has crashed, to go on with.

        Its episodes are run again first, and compared: a simulation does not keep its state.
        `plugins` are turned on beside those of its configuration; of the current folder they must
        be named if the record is not below it. Raises UsageError for a run that cannot go on, or is
        still running, UnsupportedError for one that a script has recorded, and StorageError.
        """
        from qn_tracking.errors import UsageError
        from qn_tracking.project import experiments_dir as folder_of
        from qn_tracking.reproduce.original import load_original
        from qn_tracking.store import lives, paths
        from qn_tracking.store.reference import resolve
        from qn_tracking.tracking.installed import TRACKER, requests
        from qn_tracking.tracking.wanted import check_asked
        from qn_tracking.tracking.warned import warn_on_stderr

        folder = folder_of(experiments_dir)
        id = resolve(folder, id)
        lives.check(folder, id)
        hint = f'start the script again, with track(…, resume="{id}")'
        original = load_original(folder, id, warn_on_stderr, least=0, hint=hint)
        config, seed = original.simulated
        names = requests(config.settings.get("plugins"), config.label)
        record = os.path.abspath(paths.record(folder, id))
        check_asked({name: record for name in names if ":" in name and name not in plugins})
        run = cls(
            config,
            episodes=original.document["episodes"],
            seed=seed,
            plugins=[*TRACKER, *plugins],
            experiments_dir=folder,
            dry_run=dry_run,
            capture_output=capture_output,
        )
        subject = run.plan.simulation.subject
        for field in ("environment", "brain"):
            if original.document["subject"].get(field) != getattr(subject, field):
                cause = "its configuration makes another one here"
                raise UsageError(cause, file=id, field=f"subject.{field}")
        run._resume = id
        return run

    @property
    def about(self) -> dict[str, Any]:
        """What would run, as plain data."""
        return {
            **({} if self._resume is None else {"resumes": self._resume}),
            **self.plan.about,
            "episodes": self.episodes,
            "seed": self.seed,
            "plugins": list(self.plan.plugins),
            "warnings": list(self.plan.warnings),
        }

    @property
    def busy(self) -> tuple[str, float] | None:
        """The plugin that is being called, and for how many seconds; None if there is none."""
        return None if self._recorder is None else self._recorder.busy

    @property
    def storage(self) -> Any:
        """The plugin that stores the record: `saved`, `path` and `journal`. None if none does."""
        from qn_tracking.tracking.emit import storage_of

        return storage_of(self.plan.manager)

    @property
    def path(self) -> str | None:
        """The file of the record, below the folder as it was given; None if it was not stored."""
        storage = self.storage
        if storage is None or not storage.saved:
            return None
        folder = self.plan.experiments_dir
        return os.path.join(folder, os.path.relpath(storage.path, os.path.abspath(folder)))

    def add_sink(self, name: str, plugin: object) -> None:
        """Adds a plugin object, unless a plugin of that name is on or blocked."""
        if name not in self.plan.requests and name not in self.plan.blocked:
            self.plan.manager.register(plugin, name=name)

    def execute(
        self,
        *,
        stop: Callable[[], bool] | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> Experiment:
        """Runs the episodes; returns the record.

        Once `stop` returns True, the run ends after its episode. `warn` gets one line of text, and
        prints it on standard error by default. What the simulation raises passes, once the record
        of what was run is stored. Raises PluginError or StorageError for a plugin that failed at
        the start or the end.
        """
        from qn_tracking.errors import UsageError
        from qn_tracking.studies.plan import seed_or_new
        from qn_tracking.tracking import runner
        from qn_tracking.tracking.recorder import Recorder
        from qn_tracking.tracking.warned import warn_on_stderr

        if self.plan.unchecked:
            raise UsageError("a dry run is not executed")
        seed = seed_or_new(self.seed)
        recorder = self._recorder = Recorder(
            self.plan.config,
            manager=self.plan.manager,
            subject=self.plan.simulation.subject,
            seed=seed,
            episodes=self.episodes,
            tags=self.tags,
            notes=self.notes,
            experiments_dir=self.plan.experiments_dir,
            resume=self._resume,
            warn=warn or warn_on_stderr,
            capture_output=self.capture_output,
        )
        try:
            runner.run_simulation(
                self.plan.simulation,
                recorder,
                episodes=self.episodes,
                seed=seed,
                stop=stop or (lambda: False),
            )
        finally:
            self.experiment = recorder.experiment
        assert self.experiment is not None
        return self.experiment


def run(
    config: Config | Mapping[str, Any] | str | os.PathLike[str],
    *,
    track: bool = True,
    stop: Callable[[], bool] | None = None,
    warn: Callable[[str], None] | None = None,
    **options: Any,
) -> Experiment:
    """Runs a configuration and returns the record, which is stored unless `track` is false.

    `options` are those of `Run`, `stop` and `warn` those of `Run.execute`.
    """
    from qn_tracking.tracking.installed import TRACKER, named

    plugins = named(options.pop("plugins", ()), *(TRACKER if track else ()))
    return Run(config, plugins=plugins, **options).execute(stop=stop, warn=warn)
