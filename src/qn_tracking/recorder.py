"""The recorder turns any loop into hooks.

    with Recorder(config, manager=manager) as run:
        for ... in ...:
            run.episode(success=True, steps=12, reward=3.5, loss=0.1)

It numbers the episodes, checks their numbers, keeps the summary and the digests, and tells the
plugins. It installs no signal handler and swallows no exception.
"""

from __future__ import annotations

import os
import sys
import time
from _thread import allocate_lock
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from time import perf_counter
from types import TracebackType
from typing import Any, Self

import orjson
from pluggy import PluginManager

from qn_tracking import codec, config as configuration, ids
from qn_tracking.emit import Emitter
from qn_tracking.errors import PluginError, QnError, StorageError, UsageError, printable
from qn_tracking.model import (
    EMPTY,
    MAX_INT,
    Artifact,
    Attachment,
    Config,
    Episode,
    ErrorInfo,
    Experiment,
    Failure,
    FrozenDict,
    RunInfo,
    Subject,
    freeze,
)
from qn_tracking.redact import redact_arguments, redact_config, redact_text
from qn_tracking.stats import Tally

NO_SUBJECT = Subject()
FACTS_TIMEOUT = 15.0
"""Seconds that the end of a run waits for facts that are still being found out."""


def warn_on_stderr(text: str) -> None:
    """One line, `warning: …`, on standard error."""
    print(f"warning: {printable(text)}", file=sys.stderr, flush=True)


class Recorder:
    """One run, from the start to the record.

    `config` is a mapping, the path of a YAML file, the name of a shipped configuration, or a
    `Config`. As a context manager it starts on entry and ends on exit: `completed`, `interrupted`
    (KeyboardInterrupt, or SystemExit with 128 + a signal), else `failed`. A loop that cannot be
    indented calls `start()` and `end()` itself.

    Raises ConfigError for the configuration, and from `start` what a plugin raised there.
    """

    def __init__(
        self,
        config: Config | Mapping[str, Any] | str | os.PathLike[str],
        *,
        manager: PluginManager,
        subject: Subject = NO_SUBJECT,
        seed: int | None = None,
        runs: int | None = None,
        tags: Mapping[str, str] = EMPTY,
        notes: str | None = None,
        experiments_dir: str | os.PathLike[str] | None = None,
        command: Sequence[str] | None = None,
        warn: Callable[[str], None] = warn_on_stderr,
    ) -> None:
        config = configuration.as_config(config)
        for name, number in (("seed", seed), ("runs", runs)):
            if number is not None and not 0 <= number <= MAX_INT:
                raise UsageError(f"{name} {number} is not between 0 and 2**53")
        self.warnings: list[str] = []
        self.experiment: Experiment | None = None
        self._show = warn
        self._emitter = Emitter(manager, self.warn)
        self.run = RunInfo(
            id=ids.new_id(),
            started=ids.utc(time.time()),
            config=redact_config(config),
            subject=subject,
            seed=config.settings.get("seed") if seed is None else seed,
            runs=runs,
            tags=tags,
            notes=notes,
            command=redact_arguments(sys.argv if command is None else command),
            # Absolute now: the host may change its directory before the end.
            experiments_dir=None if experiments_dir is None else os.path.abspath(experiments_dir),
        )
        self._tally = Tally()
        self._artifacts: list[Artifact] = []
        self._facts: dict[str, Mapping[str, Any]] = {}
        self._count = 0
        self._told_not_finite = False
        self._state = "new"
        self._began = 0.0
        # One writer: a forked copy of this process keeps silent, threads take turns.
        self._pid = os.getpid()
        self._lock = allocate_lock()

    @property
    def id(self) -> str:
        """The id of the run, and of its record."""
        return self.run.id

    @property
    def busy(self) -> tuple[str, float] | None:
        """The plugin that is being called now and for how many seconds, for a watchdog."""
        listener = self._emitter.busy
        return None if listener is None else (listener.name, perf_counter() - self._emitter.since)

    def warn(self, text: str) -> None:
        """Says a warning and keeps it for the record."""
        text = redact_text(text)
        self.warnings.append(text)
        self._show(text)

    # ------------------------------------------------------------------------------------- start

    def start(self) -> Self:
        """Tells the plugins; a plugin that cannot start stops the run here."""
        if self._state != "new":
            raise UsageError(f"run {self.id} was started before")
        self._began = perf_counter()
        try:
            self._facts = self._emitter.run_start(self.run)
        except BaseException as error:
            self._state = "over"
            self._tell_end(self._seal("failed", error, started=False))
            raise
        self._state = "running"
        return self

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
        **more: float,
    ) -> None:
        """An episode is over. Any further keyword is a metric.

        `reward` is the sum of the rewards; `timing` holds seconds. NumPy and tensor scalars are
        taken as the numbers they hold. Raises TypeError, ValueError or OverflowError naming the
        argument that cannot be recorded; such an episode is not counted.
        """
        if success is not None and success is not True and success is not False:
            success = _flag("success", success)
        if termination is not None and type(termination) is not str:
            raise TypeError(f"termination: expected text, got {type(termination).__name__}")
        if steps is not None and (type(steps) is not int or not 0 <= steps < MAX_INT):
            steps = _count("steps", steps)
        if seed is not None and (type(seed) is not int or not 0 <= seed < MAX_INT):
            seed = _count("seed", seed)
        finite = True
        if reward is not None:
            if type(reward) is not float:
                reward = _number("reward", reward)
            finite = isfinite(reward)
        if counts:
            counts = FrozenDict(
                {
                    key: value
                    if type(value) is int and -MAX_INT < value < MAX_INT
                    else _whole(key, value)
                    for key, value in counts.items()
                }
            )
        if metrics or more:
            numbers = {**metrics, **more} if more else metrics
            checked = {}
            for key, value in numbers.items():
                if type(value) is not float:
                    value = _number(key, value)
                if not isfinite(value):
                    finite = False
                checked[key] = value
            metrics = FrozenDict(checked)
        with self._lock:
            if self._state != "running" or self._pid != os.getpid():
                self._not_running()
                return
            at = perf_counter() - self._began
            fields: dict[str, Any] = {
                "counts": counts,
                "index": self._count,
                "metrics": metrics,
                "reward": reward,
                "seed": seed,
                "steps": steps,
                "success": success,
                "termination": termination,
            }
            if not finite:
                self._not_finite()
                fields = codec.plain(fields)
            try:
                exact = orjson.dumps(fields, option=orjson.OPT_SORT_KEYS)
            except TypeError as error:  # a key that is not text, text that is not Unicode
                raise TypeError(f"episode {self._count}: {error}") from None
            episode = Episode(
                index=self._count,
                seed=seed,
                success=success,
                termination=termination,
                steps=steps,
                reward=reward,  # type: ignore[arg-type]
                counts=counts,
                metrics=metrics,  # type: ignore[arg-type]
                timing=FrozenDict(timing, at=at) if timing else FrozenDict(at=at),
                exact=exact,
            )
            self._count += 1
            self._tally.add(episode)
            self._emitter.episode_end(self.run, episode)

    def _not_running(self) -> None:
        if self._pid != os.getpid():
            return  # the parent records
        raise UsageError("episode outside of a run", hint="call it between start() and end()")

    def _not_finite(self) -> None:
        if not self._told_not_finite:
            self._told_not_finite = True
            self.warn(f"episode {self._count}: a number is NaN or infinite; kept as text")

    def artifact(self, path: str | os.PathLike[str]) -> Artifact:
        """Records path, size and SHA-256 of a file that the host exported.

        Raises StorageError if it cannot be read.
        """
        from hashlib import sha256

        name = os.fspath(path)
        try:
            with open(name, "rb") as stream:
                seen, size = sha256(), 0
                while block := stream.read(1 << 20):
                    seen.update(block)
                    size += len(block)
        except OSError as error:
            raise StorageError((error.strerror or str(error)).lower(), file=name) from None
        found = Artifact(path=name, size=size, sha256=seen.hexdigest())
        self._artifacts.append(found)
        return found

    # --------------------------------------------------------------------------------------- end

    def end(
        self, status: str = "completed", error: BaseException | None = None
    ) -> Experiment | None:
        """Seals the record and tells the plugins; None in a forked copy of the process.

        Raises the failure of a plugin at the end, unless `error` is given: the simulation's own
        error is never masked.
        """
        with self._lock:
            if self._pid != os.getpid() or self._state == "over":
                return self.experiment
            if self._state == "new":
                raise UsageError(f"run {self.id} was not started")
            self._state = "over"
        self.experiment = self._seal(status, error)
        failed = self._tell_end(self.experiment)
        if failed and error is None:
            raise _together(failed)
        return self.experiment

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        status, error = _status(error)
        self.end(status, error)

    def _tell_end(self, experiment: Experiment) -> list[tuple[Failure, BaseException]]:
        failed = self._emitter.run_end(experiment)
        for failure, _ in failed:
            self._show(f"plugin {failure.plugin}: {failure.hook}: {failure.error}")
        return failed

    def _seal(
        self, status: str, error: BaseException | None, *, started: bool = True
    ) -> Experiment:
        seconds = perf_counter() - self._began
        facts = {name: dict(said) for name, said in self._facts.items()}
        if started:
            for name, said in self._emitter.run_facts(self.run).items():
                facts.setdefault(name, {}).update(said)
        attachments = [_attachment("config.yml", self.run.config.text.encode())]
        resolved = {name: self._resolve(name, said, attachments) for name, said in facts.items()}
        results = self._tally.results()
        run = self.run
        return Experiment(
            id=run.id,
            status=status,
            started=run.started,
            ended=ids.utc(time.time()),
            wall_seconds=seconds,
            steps_per_second=results.total_steps / seconds if results.total_steps else None,
            seed=run.seed,
            runs=run.runs,
            subject=run.subject,
            results=results,
            digests=self._tally.digests(),
            tags=run.tags,
            notes=run.notes,
            config=run.config,
            command=run.command,
            error=None if error is None else _error_info(error),
            warnings=tuple(self.warnings),
            failures=tuple(self._emitter.failures),
            plugins=self._emitter.usage(),
            artifacts=tuple(self._artifacts),
            attachments=tuple(attachments),
            facts=resolved,
        )

    def _resolve(
        self, name: str, said: Mapping[str, Any], attachments: list[Attachment]
    ) -> Mapping[str, Any]:
        """Facts with Futures waited for, attachments taken out, and warnings said."""
        out: dict[str, Any] = {}
        for key, value in said.items():
            try:
                if hasattr(value, "result"):
                    value = value.result(FACTS_TIMEOUT)
                if key == "warnings":
                    for text in value:
                        self.warn(text)
                    continue
                out[key] = codec.plain(_detach(value, attachments), key)
            except (Exception, SystemExit) as error:
                out[key] = None
                cause = f"{type(error).__name__}: {error}"
                self._emitter.failures.append(Failure(plugin=name, hook="run_facts", error=cause))
                self.warn(f"plugin {name}: {key}: {cause}")
        return FrozenDict(freeze(out))


def _detach(value: Any, attachments: list[Attachment]) -> Any:
    if isinstance(value, Attachment):
        attachments.append(value)
        return {"file": value.name, "size": value.size, "sha256": value.sha256}
    if isinstance(value, Mapping):
        return {key: _detach(item, attachments) for key, item in value.items()}
    return value


def _attachment(name: str, data: bytes) -> Attachment:
    return Attachment(name=name, size=len(data), sha256=codec.digest(data), data=data)


def _status(error: BaseException | None) -> tuple[str, BaseException | None]:
    """What an exception that ends the `with` block says of the run."""
    if error is None:
        return "completed", None
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", error
    if isinstance(error, SystemExit):
        if error.code in (None, 0):
            return "completed", None
        # A shell's convention: a program that a signal ended exits with 128 and its number.
        if type(error.code) is int and error.code > 128:
            return "interrupted", error
    return "failed", error


def _error_info(error: BaseException) -> ErrorInfo:
    import traceback

    text = "".join(traceback.format_exception(error))
    return ErrorInfo(
        type=type(error).__name__,
        message=redact_text(_storable(str(error))),
        traceback=redact_text(_storable(text)),
    )


def _storable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _together(failed: list[tuple[Failure, BaseException]]) -> QnError:
    """All failures of the end as one error: of storage if one is, the exit code being its own."""
    storage = [error for _, error in failed if isinstance(error, StorageError)]
    if len(failed) == 1 and isinstance(failed[0][1], QnError):
        return failed[0][1]
    causes = "; ".join(f"plugin {failure.plugin}: {failure.error}" for failure, _ in failed)
    kind = StorageError if storage else PluginError
    return kind(causes, field="run_end")


def _flag(key: str, value: Any) -> bool:
    item = codec.scalar(value)
    if type(item) is not bool:
        raise TypeError(f"{key}: expected true or false, got {type(value).__name__}")
    return item


def _number(key: str, value: Any) -> float:
    """The value as a float, exactly, or an error naming the key."""
    item = codec.scalar(value)
    kind = type(item)
    if kind is float or isinstance(item, float):
        return float(item)
    if kind is int or kind is bool or isinstance(item, int):
        if not -MAX_INT <= item <= MAX_INT:
            raise OverflowError(f"{key}: {item} is beyond 2**53 and would be rounded")
        return float(item)
    raise TypeError(f"{key}: expected a number, got {type(value).__name__}")


def _whole(key: str, value: Any) -> int:
    item = codec.scalar(value)
    if type(item) is not int:
        raise TypeError(f"{key}: expected a whole number, got {type(value).__name__}")
    if not -MAX_INT < item < MAX_INT:
        raise OverflowError(f"{key}: {item} is beyond 2**53 and would be rounded")
    return item


def _count(key: str, value: Any) -> int:
    number = _whole(key, value)
    if number < 0:
        raise ValueError(f"{key}: expected 0 or more, got {number}")
    return number
