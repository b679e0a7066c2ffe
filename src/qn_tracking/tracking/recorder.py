"""The recorder turns any loop into hooks.

    with Recorder(config, manager=manager) as run:
        for ... in ...:
            run.episode(success=True, steps=12, reward=3.5, loss=0.1)

It numbers the episodes, checks their numbers, keeps the summary and the digests, and calls the
plugins. It installs no signal handler and swallows no exception.
"""

from __future__ import annotations

import os
import sys
import time
from _thread import RLock
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from math import isfinite
from time import perf_counter
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, Self, cast

import orjson
from attrs import evolve
from pluggy import PluginManager

from qn_tracking import ids
from qn_tracking.errors import (
    QnError,
    UsageError,
    short,
    storable,
)
from qn_tracking.files import (
    FEW,
    close_spare,
    fill_standard_descriptors,
    most_descriptors,
    own_arguments,
    spare_descriptors,
)
from qn_tracking.records import codec
from qn_tracking.records.limits import (
    MAX_EPISODE,
    MAX_NAME,
    MAX_NAMES,
    MAX_TEXT,
)
from qn_tracking.records.model import (
    EMPTY,
    MAX_INT,
    Artifact,
    Config,
    Episode,
    ErrorInfo,
    Experiment,
    Failure,
    FrozenDict,
    Logged,
    Membership,
    Origin,
    Subject,
    episode_of,
)
from qn_tracking.records.stats import sealed
from qn_tracking.redact import (
    masked_fields,
    redact_text,
    redact_within,
    said_of,
)
from qn_tracking.tracking import arguments
from qn_tracking.tracking.emit import Emitter, slow, storage_of
from qn_tracking.tracking.ending import at_prompt, error_info, last_error, status_of, together
from qn_tracking.tracking.facts import Facts
from qn_tracking.tracking.identity import run_info
from qn_tracking.tracking.phases import Phases, phase_name
from qn_tracking.tracking.warned import (
    MAX_WARNING,
    MAX_WARNINGS,
    Warned,
    print_on_stderr,
    warn_on_stderr,
)

if TYPE_CHECKING:
    from qn_tracking.records.batch import Batch
    from qn_tracking.records.series import SeriesTally
    from qn_tracking.tracking.tee import Tee
    from qn_tracking.tracking.vector import Checked

NO_SUBJECT = Subject()
STATUSES = ("completed", "failed", "interrupted")
MAX_KEYWORDS = 1_000
"""Different keywords of a run that are looked at for misspellings."""
MAX_ARTIFACTS = 10_000

_process = os.getpid()
"""The id of this process, without asking the system for it at each episode."""


def _in_child() -> None:
    global _process
    _process = os.getpid()


os.register_at_fork(after_in_child=_in_child)


class Clock(Protocol):
    """The clocks of a recorder, both in seconds: since 1970 in UTC, and of a stopwatch."""

    def time(self) -> float: ...

    def perf_counter(self) -> float: ...


class Recorder:
    """One run, from the start to the record.

    `config` is a mapping, the path of a YAML file, the name of a shipped configuration, or a
    `Config`. As a context manager it starts on entry and ends on exit: `completed`, `interrupted`
    (KeyboardInterrupt, SystemExit with 128 + a signal, a cancelled task, a closed generator), else
    `failed`. A loop that cannot be indented calls `start()` and `end()` itself. `name_slow`: a
    plugin that took much of the run is named at its end. `resume` is the id of a run that was
    interrupted or has crashed, which goes on: config, seed and so on must be those that it has.
    `capture_output`: what the process and its children print is kept in `output.txt` in the folder
    of the run, while it is shown as before.
    `runs` is the former name of `episodes`.

    Raises ConfigError for the configuration, and from `start` what a plugin raised there.
    """

    def __init__(
        self,
        config: Config | Mapping[str, Any] | str | os.PathLike[str],
        *,
        manager: PluginManager,
        subject: Subject = NO_SUBJECT,
        seed: int | None = None,
        episodes: int | None = None,
        tags: Mapping[str, str] = EMPTY,
        notes: str | None = None,
        experiments_dir: str | os.PathLike[str] | None = None,
        command: Sequence[str] | None = None,
        id: str | None = None,
        resume: str | None = None,
        study: Membership | None = None,
        origin: Origin | None = None,
        clock: Clock = time,
        warn: Callable[[str], None] = warn_on_stderr,
        name_slow: bool = True,
        capture_output: bool = False,
        runs: int | None = None,
    ) -> None:
        if runs is not None:  # the former word for episodes
            if episodes is not None:
                raise UsageError("runs: the former name of episodes, which is given too")
            episodes = runs
        self._warned = Warned(warn)
        self.warnings = self._warned.texts
        self.experiment: Experiment | None = None
        self._name_slow = name_slow
        self._capture, self._tee = capture_output, cast("Tee | None", None)
        self._manager = manager
        self._emitter = Emitter(manager, self.warn)
        self.run = run_info(
            config,
            id=id,
            started=ids.utc(clock.time()),
            subject=subject,
            seed=seed,
            episodes=episodes,
            tags=tags,
            notes=notes,
            command=own_arguments() if command is None else command,
            study=study,
            experiments_dir=experiments_dir,
        )
        if resume is not None and not isinstance(resume, str):
            cause = f"expected the id of a run, got {type(resume).__name__}"
            raise UsageError(f"resume: {cause}", hint="'@1' is the latest")
        if resume is not None and (id is not None or study is not None):
            raise UsageError("resume: this run has an id", hint="a study runs it, or id= is given")
        self._origin = origin
        self._at_exit, self._before = False, cast("BaseException | None", None)
        self._clock, self._now = clock, clock.perf_counter
        self._phases = Phases(self.warn)
        self._phase: str | None = None
        self._series: SeriesTally | None = None
        self._logged: Callable[..., Logged]
        self._log_step = 0
        self._artifacts: list[Artifact] = []
        self._facts = Facts(self._warned)
        self.cost: Mapping[str, int] = EMPTY
        """What the simulation has counted of the run; set it before the end."""
        self._count = 0
        self._keywords: set[str] = set()
        self._names: set[str] = set()
        self._state = "new"
        self._began = self._since = 0.0
        # One writer: a forked copy of this process keeps silent, threads take turns.
        self._pid = _process
        # Re-entrant: a signal handler may end the run in the middle of an episode.
        self._lock = RLock()
        self._inside = self._was_running = False
        self._current: Episode | Batch | None = None
        self._recount = False
        self._last_words: tuple[str, BaseException | ErrorInfo | None] | None = None
        self._ran, self._had = 0.0, 0
        self._spare: list[int] = []
        if resume is not None:
            self._take_up(resume)

    def _take_up(self, id: str) -> None:
        """Becomes the run of this id, with all that it has so far."""
        if storage_of(self._manager) is None or self.run.experiments_dir is None:
            raise UsageError("resume needs json_storage and a folder of experiments")
        from qn_tracking.records import series
        from qn_tracking.store import lives

        past = lives.load(self.run.experiments_dir, id, self.run, self.warn)
        self.run, self._count = past.run, past.tally.count
        self._phases.main, self._phases.others = past.tally, past.phases
        self._artifacts = list(past.artifacts)
        self._series, self._log_step, self._logged = past.series, past.step, series.logged
        self._ran, self._had = past.seconds, len(self._artifacts)

    @property
    def id(self) -> str:
        """The id of the run, and of its record."""
        return self.run.id

    @property
    def seed(self) -> int | None:
        """The seed of the run; in a script that a study runs, the study's."""
        return self.run.seed

    @property
    def done(self) -> int:
        """How many episodes of the main phase there are, those of earlier lives among them."""
        return self._count

    @property
    def started(self) -> bool:
        """Whether the run has begun; it may be over."""
        return self._state != "new"

    @property
    def forked(self) -> bool:
        """Whether this is the copy in a forked process, which records nothing."""
        return self._pid != _process

    def describe(self, *, environment: str = "", brain: str = "", family: str = "") -> None:
        """Fills in names of the record that are empty."""
        known = self.run.subject
        subject = evolve(
            known,
            environment=known.environment or storable(environment),
            brain=known.brain or storable(brain),
            family=known.family or storable(family),
        )
        self.run = evolve(self.run, subject=subject)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            hint = f" (here: {arguments.HERE[name]})" if name in arguments.HERE else ""
            raise AttributeError(f"a run has no {name!r}{hint}", name=name, obj=self)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"run {self.id} cannot be copied or sent to another process: it records where it was "
            "started (record what the others return; for a vector of environments, use "
            "TrackVectorEpisodes of qn-tracking-gymnasium)"
        )

    @property
    def busy(self) -> tuple[str, float] | None:
        """The plugin that is being called now and for how many seconds, for a watchdog."""
        plugin = self._emitter.busy
        return None if plugin is None else (plugin.name, perf_counter() - self._emitter.since)

    def warn(self, text: str) -> None:
        """Says a warning and keeps it for the record."""
        self._warned.say(text)

    # ------------------------------------------------------------------------------------- start

    def start(self, *, at_exit: bool = False) -> Self:
        """Starts the run and calls `run_start`; a plugin that cannot start stops the run here.

        With `at_exit`, a run that has not ended when the program ends is ended then: `failed`
        with the error that ended the program, `completed` if all declared `episodes` are
        there, else `interrupted`. At an interactive prompt, where an error ends nothing, all
        declared `episodes` make it `completed`.
        """
        if self._state != "new":
            raise UsageError(f"run {self.id} was started before")
        if getattr(self._manager, "qn_run", None) is not None:
            raise UsageError(
                "this manager is still at another run", hint="make a manager for each run"
            )
        self._manager.qn_run = self.id  # type: ignore[attr-defined]
        self._began, self._since = self._now() - self._ran, perf_counter()
        fill_standard_descriptors()
        self._warned.some(self.run.config.differences, "values that PyYAML reads otherwise")
        self._warned.some(said_of(self.run.config), "fields that are taken for secrets")
        for field in (
            *masked_fields(self.run.tags, "tags"),
            *masked_fields(self.run.notes, "notes"),
        ):
            self.warn(f"{field}: is taken for a secret and not stored")
        try:
            self._facts.at_start = self._emitter.run_start(self.run)
        except BaseException as error:
            self._state = "over"
            # A life that could not begin leaves a resumed run as it was: it can be tried again.
            status = self.run.lives[-1].status if self.run.lives else "failed"
            self._call_run_end(self._seal(status, error, started=False), masked=True)
            raise
        self._state, self._was_running = "running", True
        if 0 <= (most := most_descriptors()) < FEW:
            self.warn(f"`ulimit -n` is {most}: a run may need more open files")
        else:
            self._spare = spare_descriptors()
        for artifact in self._artifacts[self._had :]:
            self._emitter.artifact_added(self.run, artifact)
        if self._capture:
            self._capture_output()
        if at_exit:
            import atexit
            import traceback  # noqa: F401  (at exit, importing it would make Ctrl-C exit with 1)

            self._at_exit, self._before = True, last_error()
            atexit.register(self._end_at_exit)
        return self

    def _capture_output(self) -> None:
        from qn_tracking.store import output
        from qn_tracking.tracking.tee import Tee

        path = output.path(self.run.experiments_dir or "", self.id)
        if storage_of(self._manager) is not None and os.path.isdir(os.path.dirname(path)):
            self._tee = Tee(path, self.warn)
        else:
            self.warn("capture_output: no plugin stores this run; nothing is kept")

    def _end_at_exit(self) -> None:
        if self._state != "running" or self.forked:
            return
        last = last_error()
        whole = self._count == self.run.episodes
        # At a prompt the last error may be that of any statement, long before the end.
        if last is not None and last is not self._before and not (whole and at_prompt()):
            status, error = status_of(last)
        elif whole:
            status, error = "completed", None
        else:
            # How the program ended cannot be known here, `sys.exit` above all.
            status, error = "interrupted", None
            self.warn("the program ended before the run did; call end() where it is complete")
        try:
            self.end(status, error)
        except QnError as failure:  # no caller is left to catch it
            print_on_stderr(f"error: {failure}")

    def __enter__(self) -> Self:
        return self.start()

    # ----------------------------------------------------------------------------------- episode

    def episode(
        self,
        *,
        success: bool | None = None,
        termination: str | None = None,
        steps: int | None = None,
        reward: float | None = None,
        seed: int | None = None,
        counts: Mapping[str, int] = EMPTY,
        metrics: Mapping[str, float] = EMPTY,
        timing: Mapping[str, float] = EMPTY,
        phase: str | None = None,
        **more: float,
    ) -> None:
        """An episode is over. Any further keyword is a metric.

        `reward` is the sum of the rewards; `timing` holds seconds; `phase` names the phase that it
        belongs to, None for the one of `phase()`, or the main one. NumPy and tensor scalars are
        taken as the numbers they hold. Raises TypeError, ValueError or OverflowError naming the
        argument that cannot be recorded; such an episode is not counted.
        """
        if success is not None and success is not True and success is not False:
            success = arguments.flag("success", success)
        if termination is not None and type(termination) is not str:
            termination = arguments.text_of("termination", termination)
        if termination is not None and len(termination) > MAX_TEXT:
            termination = short(termination, MAX_TEXT)
            self._warned.once(
                "termination", f"a termination of more than {MAX_TEXT:,} characters is cut"
            )
        if steps is not None and (type(steps) is not int or not 0 <= steps < MAX_INT):
            steps = arguments.count("steps", steps)
        if seed is not None and (type(seed) is not int or not 0 <= seed < MAX_INT):
            seed = arguments.count("seed", seed)
        finite = True
        texts: dict[str, str] = {}
        if reward is not None:
            if type(reward) is not float:
                reward, text = arguments.measured("reward", reward)
                if text is not None:
                    texts = {"reward": text}
            finite = isfinite(reward)
        if counts:
            counts = FrozenDict(
                {
                    key if type(key) is str else arguments.name("counts", key): value
                    if type(value) is int and -MAX_INT < value < MAX_INT
                    else arguments.whole(f"counts.{key}", value)
                    for key, value in counts.items()
                }
            )
        if metrics or more:
            numbers = {**metrics, **more} if metrics else more
            if numbers.keys() != self._names or len(numbers) < len(metrics) + len(more):
                self._check_names(metrics, more)
            for key, value in numbers.items():
                # Of an infinity and of NaN this difference is NaN.
                if type(value) is not float or type(key) is not str or value - value != 0.0:
                    numbers, inexact, all_finite = arguments.numbers(numbers, more)
                    texts, finite = {**texts, **inexact}, finite and all_finite
                    break
            if counts and not numbers.keys().isdisjoint(counts):
                raise arguments.taken(numbers.keys() & counts.keys(), "in counts and in metrics")
            metrics = FrozenDict(numbers)
        if timing:
            timing = {
                key if type(key) is str else arguments.name("timing", key): arguments.seconds(
                    key, value
                )
                for key, value in timing.items()
            }
            if len(timing) > MAX_NAMES or max(map(len, timing)) > MAX_NAME:
                raise ValueError("timing: too many names, or too long ones")
        # Before the lock, which in a forked copy may be held by a thread that is not there.
        if self._state != "running" or self._pid != _process:
            self._not_running()
            return
        with self._lock:
            if self._inside:
                raise UsageError("episode inside of episode_end")
            self._inside = True
            try:
                if self._current is not None:
                    self._catch_up()
                if phase is None:
                    phase = self._phase
                index, tally = self._count, self._phases.main
                if phase is not None:
                    phase, tally = self._phases.of(phase)
                    index = index if phase is None else tally.count
                at = self._now() - self._began
                fields: dict[str, Any] = {
                    "counts": counts,
                    "index": index,
                    "metrics": metrics,
                    "reward": reward,
                    "seed": seed,
                    "steps": steps,
                    "success": success,
                    "termination": termination,
                }
                if phase is not None:
                    fields["after"], fields["phase"] = self._count, phase
                stored = fields if finite and not texts else self._stored(fields, finite, texts)
                try:
                    exact = orjson.dumps(stored, option=orjson.OPT_SORT_KEYS)
                except TypeError:  # text that is not Unicode
                    raise arguments.not_unicode(stored) from None
                if len(exact) > MAX_EPISODE:
                    raise arguments.too_large(stored)
                fields["timing"] = FrozenDict(timing, at=at) if timing else FrozenDict(at=at)
                fields["exact"] = exact
                episode = episode_of(fields)
                # From here on the episode counts, whatever interrupts: see `_catch_up`.
                self._current = episode
                if phase is None:
                    self._count += 1
                self._emitter.episode_end(self.run, episode)
                tally.add(episode)
                self._current = None
            finally:
                self._inside = False
            if self._last_words is not None:
                self.end(*self._last_words)

    def _stored(
        self, fields: Mapping[str, Any], finite: bool, texts: dict[str, str]
    ) -> dict[str, Any]:
        """The fields of an episode with numbers that JSON cannot hold as texts."""
        stored = dict(fields)
        if not finite:
            self._warned.once(
                "not finite",
                f"episode {fields['index']}: a number is NaN or infinite; kept as text",
            )
            stored = codec.plain(stored)
        if texts:
            key, text = next(iter(texts.items()))
            self._warned.once(
                "inexact",
                f"episode {fields['index']}: {key}: {text} would be rounded; kept as text",
            )
            stored["reward"] = texts.pop("reward", stored["reward"])
            stored["metrics"] = {**stored["metrics"], **texts}
        return stored

    def episodes(
        self,
        rows: Iterable[Mapping[str, Any]] = (),
        /,
        *,
        phase: str | None = None,
        **columns: Any,
    ) -> None:
        """Many episodes are over at once, as in a vector of environments.

        Either `rows`, each with the arguments of an `episode()`, or columns of them: lists, arrays
        or tensors with a value for each episode, `episodes(success=…, reward=…, loss=…)`. What is
        recorded is the same as of so many calls of `episode()`, several times faster; `timing.at`
        is the same for all. Where a number is NaN, infinite or not exact, they are recorded one by
        one. Raises as `episode()`, and ValueError for columns of different lengths; then none is
        recorded of the columns, or of the stretch of rows with the same names.
        """
        from qn_tracking.tracking import vector

        given = vector.stretches(rows)
        for stretch, size in chain(given, ((columns, None),)) if columns else given:
            listed = vector.listed(stretch)
            checked = vector.check(listed, size)
            if checked.plain:
                self._batch(checked, phase)
            else:
                for i in range(checked.size):
                    self.episode(**vector.single(listed, i), phase=phase)

    def _batch(self, checked: Checked, phase: str | None) -> None:
        from qn_tracking.records.batch import Batch

        if checked.metrics.keys() != self._names:
            self._check_names({}, dict.fromkeys(checked.metrics, 0.0))
        if self._state != "running" or self._pid != _process:
            self._not_running()
            return
        if not checked.size:
            return
        with self._lock:
            if self._inside:
                raise UsageError("episodes inside of episode_end")
            self._inside = True
            try:
                if self._current is not None:
                    self._catch_up()
                if phase is None:
                    phase = self._phase
                first, tally = self._count, self._phases.main
                if phase is not None:
                    phase, tally = self._phases.of(phase)
                    first = first if phase is None else tally.count
                batch = Batch(
                    checked.size,
                    first=first,
                    at=self._now() - self._began,
                    columns=checked.own,
                    counts=checked.counts,
                    metrics=checked.metrics,
                    timing=checked.timing,
                    phase=phase,
                    after=None if phase is None else self._count,
                )
                if max(map(len, batch.exact)) > MAX_EPISODE:
                    raise ValueError("episodes: one is too large for a line")
                self._current = batch
                if phase is None:
                    self._count += checked.size
                self._emitter.episodes_end(self.run, batch)
                tally.extend(batch)
                self._current = None
            finally:
                self._inside = False
            if self._last_words is not None:
                self.end(*self._last_words)

    @contextmanager
    def phase(self, name: str) -> Iterator[Self]:
        """Episodes inside of it belong to a phase of this name, such as `evaluation`.

        They are kept apart from the episodes of the main phase, which are those of no phase: each
        phase counts from 0, and has a summary of its own in `phases` of the record. Names are
        free but for `main`, the main phase; one that comes again goes on. A phase inside of
        another one is not a part of it. It holds for the whole recorder: loops side by side pass
        `episode(phase=…)` instead.

        Raises TypeError or ValueError for a name that cannot be recorded.
        """
        before, self._phase = self._phase, phase_name(name)
        try:
            yield self
        finally:
            self._phase = before

    def log(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs values between episodes, such as a loss: each name is a series of its own.

        `step` is the position on its axis; without it, a counter of this run that every call
        advances by one. Time and the episode then current are kept, too. Series and the metrics of
        episodes are separate: both may have the same name. NumPy and tensor scalars are taken as
        the numbers they hold; NaN and infinities are kept, with one warning for each name. What is
        no number is left out, with one warning for each name. Raises TypeError if `metrics` is no
        mapping or `step` no whole number.
        """
        if not isinstance(metrics, Mapping):
            raise TypeError(f"log: expected numbers by name, got {type(metrics).__name__}")
        if step is not None and (type(step) is not int or not -MAX_INT < step < MAX_INT):
            step = arguments.whole("step", step)
        if self._state != "running" or self._pid != _process:
            self._not_running("log")
            return
        values, texts, odd = arguments.logged(metrics, self._warned.once)
        with self._lock:
            if self._inside:
                raise UsageError("log inside of a hook")
            if step is None:  # here, or two threads would have the same
                step = self._log_step
            elif step < self._log_step - 1:
                self._look_back(step, values)
            for key in odd:
                self._warned.once(
                    f"not finite {key}", f"log: {key}: is NaN or infinite at step {step}"
                )
            if self._series is None:
                from qn_tracking.records import series

                self._series, self._logged = series.SeriesTally(self.warn), series.logged
            one = self._logged(step, self._count, self._now() - self._began, values, texts)
            self._inside = True
            try:
                self._log_step = step + 1
                self._series.add(one)
                self._emitter.metrics_logged(self.run, one)
            except BaseException:  # an interrupt, or what a signal handler raises
                self._recount = True
                raise
            finally:
                self._inside = False
            if self._last_words is not None:
                self.end(*self._last_words)

    def _look_back(self, step: int, values: Iterable[str]) -> None:
        """Warns of a series whose steps go back; one of another axis may well be further."""
        for name in values:
            last = None if self._series is None else self._series.last_step(name)
            if last is not None and step < last:
                self._warned.once("back", f"log: {name}: step {step} after step {last}")
                return

    def _catch_up(self) -> None:
        """Finishes an episode that a Ctrl-C, or an exception of a signal handler, has interrupted.

        Plugins that have not got it are called now. Counting may have been interrupted as well:
        then the journal is correct.
        """
        current = self._current
        assert current is not None
        self._recount = True
        episodes = (current,) if isinstance(current, Episode) else tuple(current)
        if current.phase is None:
            self._count = episodes[-1].index + 1
        _, tally = self._phases.of(current.phase)
        if isinstance(current, Episode):
            self._emitter.episode_end(self.run, current, again=True)
        else:
            self._emitter.episodes_end(self.run, current, again=True)
        for episode in episodes:
            if tally.count <= episode.index:
                tally.add(episode)
        self._current = None

    def _not_running(self, call: str = "episode") -> None:
        if self.forked:
            return  # the parent records
        raise UsageError(f"{call} outside of a run", hint="call it between start() and end()")

    def _check_names(self, metrics: Mapping[str, float], more: Mapping[str, float]) -> None:
        """Checks names that the episode before did not have, and warns of misspelt keywords.

        A keyword that is an argument with one letter wrong becomes a metric. Raises ValueError for
        a name that is taken.
        """
        if not more.keys().isdisjoint(metrics):
            raise arguments.taken(more.keys() & metrics.keys(), "as a keyword and in metrics")
        if not metrics.keys().isdisjoint(("steps", "reward")):
            own = metrics.keys() & {"steps", "reward"}
            raise arguments.taken(own, "an argument of episode()")
        self._names = {*metrics, *more}
        if self._state != "running" or len(self._keywords) >= MAX_KEYWORDS:
            return
        for word in sorted(more.keys() - self._keywords):
            self._keywords.add(word)
            meant = next(
                (name for name in arguments.NAMES if arguments.one_letter_off(word, name)), None
            )
            if meant is not None:
                text = f"episode {self._count}: {word}: recorded as a metric"
                self.warn(f"{text} (did you mean {meant}?)")

    def log_artifact(
        self,
        path: str | os.PathLike[str],
        type: str | None = None,
        *,
        name: str | None = None,
        keep: bool = True,
        keep_up_to: int | None = None,
    ) -> Artifact | None:
        """Records a file or a folder that the loop wrote, such as weights, and keeps a copy.

        The copy is in `experiments/.artifacts`, once for all runs that keep the same. Without
        `keep`, or if it has more than `keep_up_to` bytes (1 GiB), only path, size and SHA-256 are
        recorded. `type` is a word of your choice; `name`, by which it is fetched, is the last part
        of the path. What cannot be read is a warning, and None: the loop goes on.
        """
        if self._state != "running" or self._pid != _process:
            self._not_running("log_artifact")
            return None
        from qn_tracking.tracking.made import made

        place = self.run.experiments_dir if keep and storage_of(self._manager) else None
        found = made(path, type, name=name, limit=keep_up_to, place=place, warned=self._warned)
        return None if found is None else self._add_artifact(found)

    def use_artifact(
        self, id: str, name: str, *, into: str | os.PathLike[str] | None = None
    ) -> str:
        """The path of a copy of an artifact of another run, which this run uses from now on.

        `id` is the id of the run, or the beginning of it that no other one has.
        The record names where it comes from; `qn-exp show` shows the chain. The copy is written to
        the path `into`, which must be free, or else to a folder that is removed when the program
        ends. Raises UsageError for an unknown name, UnsupportedError if its bytes are not here,
        and StorageError.
        """
        if self._state != "running":
            self._not_running("use_artifact")
        root = self.run.experiments_dir
        if root is None:
            raise UsageError("use_artifact needs a folder of experiments")
        if id != self.id:
            from qn_tracking.store.reference import resolve

            id = resolve(root, id)
        from qn_tracking.tracking.made import copied

        output, found = copied(root, id, name, into)
        if not self.forked and id != self.id:  # of an earlier life of its own it is no source
            self._add_artifact(evolve(found, source=id))
        return output

    def artifact(self, path: str | os.PathLike[str]) -> Artifact:
        """Records path, size and SHA-256 of a file: `log_artifact(path, keep=False)` is newer.

        Raises StorageError if it cannot be read.
        """
        from qn_tracking.store import artifacts

        if self._state == "over":
            raise UsageError("artifact after the end of the run")
        return self._add_artifact(artifacts.take(os.fsdecode(path), None, say=self.warn))

    def _add_artifact(self, found: Artifact) -> Artifact:
        if len(self._artifacts) < MAX_ARTIFACTS:
            self._artifacts.append(found)
            if self._state == "running" and not self.forked:
                with self._lock:
                    self._emitter.artifact_added(self.run, found)
        else:
            self._warned.once(
                "artifacts", f"more than {MAX_ARTIFACTS:,} artifacts; the others are not kept"
            )
        return found

    def add_facts(self, name: str, facts: Mapping[str, Any]) -> None:
        """Adds facts to the record, under a name of the host's own; a later value wins.

        They are text, numbers, lists and mappings, and are stored without secrets at the end of the
        run. What is something else is left out then, with a warning. The names of the built-in
        plugins are theirs: `own_` is put before one. Raises UsageError after the end of the run,
        and TypeError for what is no mapping by text.
        """
        if self._state == "over":
            raise UsageError("add_facts after the end of the run")
        self._facts.add(name, facts)

    # --------------------------------------------------------------------------------------- end

    def end(
        self, status: str = "completed", error: BaseException | ErrorInfo | None = None
    ) -> Experiment | None:
        """Completes the record and calls `run_end`; returns None in a forked copy of the process.

        Raises the failure of a plugin at the end, unless `error` is given: the simulation's own
        error, an exception or a description of one from another process, is never hidden. An
        interrupt meanwhile is raised after every plugin was called.
        """
        if status not in STATUSES:
            raise UsageError(f"status {status!r}", hint=f"one of {', '.join(STATUSES)}")
        if error is not None and not isinstance(error, (BaseException, ErrorInfo)):
            raise UsageError(f"error: expected an exception, got {type(error).__name__}")
        if self.forked:
            return None
        with self._lock:
            if self._state == "over":
                return self.experiment
            if self._state == "new":
                raise UsageError(f"run {self.id} was not started")
            if getattr(sys, "meta_path", None) is None:
                # A generator with a run in it, which is only now collected: Python is being taken
                # apart, nothing can be imported, and half a record would be none.
                text = f"run {self.id} was going on when the program ended"
                print_on_stderr(f"warning: {text} (qn-exp recover {self.id})")
                return None
            if self._inside:  # of an episode, by a signal handler or a plugin: then after it
                self._last_words = status, error
                return None
            if self._current is not None:
                self._catch_up()
            self._state = "over"
        close_spare(self._spare)
        if self._at_exit:
            import atexit

            atexit.unregister(self._end_at_exit)
        interrupt: KeyboardInterrupt | None = None
        try:
            self.experiment = self._seal(status, error)
        except KeyboardInterrupt as raised:  # while facts were waited for: then without them
            interrupt = raised
            self._facts.patience = 0.0
            self.experiment = self._seal("interrupted", error or raised)
        masked = error is not None or interrupt is not None
        failed = self._call_run_end(self.experiment, masked=masked)
        if interrupt is not None and error is None:
            raise interrupt
        if failed and error is None:
            raise together(failed)
        return self.experiment

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        status, error = status_of(error)
        self.end(status, error)

    def _call_run_end(
        self, experiment: Experiment, *, masked: bool
    ) -> list[tuple[Failure, BaseException]]:
        """Calls every plugin; failures are shown here only if another error will be raised."""
        try:
            failed = self._emitter.run_end(experiment)
        finally:
            self._manager.qn_run = None  # type: ignore[attr-defined]
            if self.experiment is not None:
                self.experiment = self._emitter.ended
        shown = failed if masked else []
        texts = [f"plugin {one.plugin}: {one.hook}: {one.error}" for one, _ in shown]
        if self._name_slow and self._was_running:
            shares = slow(self._emitter.usage(), perf_counter() - self._since)
            texts += [f"plugin {name} took {share:.0%} of the run" for name, share in shares]
        for text in texts:
            self._warned.show(redact_text(text))
        return failed

    def _seal(
        self, status: str, error: BaseException | ErrorInfo | None, *, started: bool = True
    ) -> Experiment:
        seconds = self._now() - self._began
        captured = self._tee is not None and self._tee.stop()
        attachments = [codec.attachment("config.yml", self.run.config.text.encode())]
        if captured:
            from qn_tracking.store import output

            with suppress(QnError):  # it was removed
                printed = output.load(self.run.experiments_dir or "", self.id)
                attachments.append(codec.attachment(output.NAME, printed))
        facts = self._facts.sealed(self._emitter, self.run, attachments, ask=started)
        digests, series = self._phases.main.digests(), self._series
        if series is not None:
            digests = evolve(digests, series=series.digest())
        return sealed(
            self.run,
            self._phases.main.results(),
            self._phases.summaries(),
            seconds,
            status=status,
            ended=ids.utc(self._clock.time()),
            digests=digests,
            series=EMPTY if series is None else series.summaries(),
            error=None if error is None else error_info(error),
            warnings=tuple(self.warnings),
            failures=tuple(
                evolve(failure, error=redact_within(failure.error, MAX_WARNING))
                for failure in self._emitter.failures[:MAX_WARNINGS]
            ),
            plugins=self._emitter.usage(),
            artifacts=tuple(self._artifacts),
            attachments=tuple(attachments),
            origin=self._origin,
            facts=facts,
            cost=self.cost,
            recount=self._recount,
        )
