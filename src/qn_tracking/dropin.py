"""A run behind the words of another tool: what `qn_tracking.tensorboard` and `.wandb` share.

The run begins with the first value: what is known of the configuration until then is stored as the
configuration, and what comes later as facts.
"""

from __future__ import annotations

import atexit
import sys
import traceback  # noqa: F401  (at exit, importing it would make Ctrl-C exit with 1)
from collections.abc import Callable, Mapping
from contextlib import suppress
from threading import RLock
from typing import Any

from attrs import evolve

from qn_tracking import config as configuration
from qn_tracking.errors import ConfigError, QnError, UsageError, short, storable
from qn_tracking.records.codec import plain
from qn_tracking.records.limits import MAX_INT, MAX_NAME
from qn_tracking.records.model import Config
from qn_tracking.redact import redact_config, redact_text, redact_value
from qn_tracking.tracking.arguments import item
from qn_tracking.tracking.ending import last_error, status_of
from qn_tracking.tracking.recorder import Recorder
from qn_tracking.tracking.track import track

EPISODES = {"episodic_return": "reward", "episodic_length": "steps"}
"""Last parts of names whose values are those of an episode that is over."""
MAIN = ("", "charts", "rollout", "train", "training")
"""First parts of such names in the main phase; any other part is the name of a phase."""
MAX_TEXTS, MAX_TEXT = 100, 10_000
"""Texts that a record keeps as facts, and characters of each."""


class DropIn:
    """One run, recorded in the words of the tool `tool`, whose call `ending` ends it.

    `config` may change until `begin`. Raises as `track` does.
    """

    def __init__(
        self, tool: str, ending: str, *, tags: Mapping[str, str], notes: str | None = None
    ) -> None:
        self.tool = tool
        self.run: Recorder = track({}, tags=tags, notes=notes)
        self.config: dict[str, Any] = {}
        self.complete = False
        """Whether a run that the program leaves open is complete all the same."""
        self.at_end: Callable[[], None] = lambda: None
        """Called before the run ends, however it does."""
        self._ending = ending
        self._stored: dict[str, Any] = {}
        self._texts: dict[str, str] = {}
        self._once: set[str] = set()
        self._halves: dict[str, tuple[int | None, dict[str, float]]] = {}
        self._lock = RLock()
        self._over = False
        self._error, self._last = sys.exception(), last_error()
        atexit.register(self._end_at_exit)

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return self._over

    def warn_once(self, key: str, text: str) -> None:
        """Warns the first time that the key is given."""
        if key not in self._once:
            self._once.add(key)
            self.run.warn(f"{self.tool}: {text}")

    def meaningless(self, call: str) -> None:
        """Warns once that a call records nothing."""
        self.warn_once(call, f"{call}: is not recorded by qn-tracking")

    def begin(self) -> None:
        """Starts the run, if it has not started, with the configuration that is known now."""
        with self._lock:
            if self.run.started or self.run.forked:
                return
            config = self._configuration()
            seed = config.settings.get("seed") if self.run.seed is None else self.run.seed
            self.run.run = evolve(self.run.run, config=redact_config(config), seed=seed)
            names = (self.config.get("env_id"), self.config.get("exp_name"))
            environment, brain = (name if isinstance(name, str) else "" for name in names)
            self.run.describe(environment=environment, brain=brain)
            self._stored = dict(self.config)
            self.run.start()

    def _configuration(self) -> Config:
        """What of it can be stored; the rest is left out with a warning."""
        try:
            return configuration.of_host(self.config)
        except ConfigError:
            kept: dict[str, Any] = {}
            found = configuration.of_host(kept)
            for key, value in self.config.items():
                try:
                    found = configuration.of_host({**kept, key: value})
                    kept[key] = value
                except ConfigError as error:
                    self.run.warn(f"{self.tool}: {error}; left out")
            return found

    def label(self, tags: Mapping[str, str], notes: str | None) -> None:
        """Tags that join those of the record, and its notes, if there are any."""
        known = self.run.run
        added = {storable(key): storable(redact_value(text, key)) for key, text in tags.items()}
        notes = known.notes if notes is None else redact_text(storable(notes))
        self.run.run = evolve(known, tags={**known.tags, **added}, notes=notes)

    def storable(self, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """What of the values a record can hold; the rest is left out with a warning."""
        kept: dict[str, Any] = {}
        for key, value in values.items():
            key = storable(str(key))
            try:
                kept[key] = storable(value) if isinstance(value, str) else plain(value, key, 4)
            except (TypeError, ValueError, OverflowError) as error:
                self.warn_once(f"{name} {key}", f"{name}: {error}; left out")
        return kept

    def facts(self, name: str, values: Mapping[str, Any]) -> None:
        """Adds facts to the record, as far as it can hold them."""
        kept = self.storable(name, values)
        if kept:
            self.run.add_facts(self.tool, {name: kept})

    def text(self, name: str, text: str) -> None:
        """Keeps a text as a fact; the last of a name counts."""
        if name not in self._texts and len(self._texts) == MAX_TEXTS:
            self.warn_once("texts", f"more than {MAX_TEXTS} texts; the others are not kept")
        else:
            self._texts[name] = short(text, MAX_TEXT)

    def log(self, values: Mapping[str, Any], step: Any = None) -> None:
        """Logs values as series, at a step or one further than the last.

        Those of an episode's end are the episode, too. What is no number is left out.
        """
        if self.run.forked:
            return  # the parent records; a lock may be held by a thread that is not here
        if self._over:
            self.warn_once("over", f"values after {self._ending} are not recorded")
            return
        self.begin()
        with self._lock:
            numbers = {storable(name): item(value) for name, value in values.items()}
            where = self._step(step)
            self.run.log(numbers, where)
            for name, value in numbers.items():
                self._episode_of(name, value, where)

    def _step(self, step: Any) -> int | None:
        if step is None:
            return None
        try:
            number = int(item(step))
            if abs(number) < MAX_INT:
                return number
        except (TypeError, ValueError, OverflowError):
            pass
        self.warn_once("step", f"step {short(repr(step), 40)}: no whole number; counted instead")
        return None

    def _episode_of(self, name: str, value: Any, step: int | None) -> None:
        """Return and length of an episode arrive in any order, at the same step."""
        place, _, last = name.rpartition("/")
        field = EPISODES.get(last)
        before, half = self._halves.get(place, (step, {}))
        if half and (before != step or field in half):
            self._record_half(place)
            half = {}
        if field is None or isinstance(value, bool) or not isinstance(value, (int, float)):
            return
        if field == "steps" and (value != value or not 0 <= value < MAX_INT or value % 1):
            return
        half = {**half, field: value}
        self._halves[place] = step, half
        if len(half) == len(EPISODES):
            self._record_half(place)

    def _record_half(self, place: str) -> None:
        _, fields = self._halves.pop(place)
        steps = fields.get("steps")
        self.run.episode(
            reward=fields.get("reward"),
            steps=None if steps is None else int(steps),
            phase=None if place in MAIN else short(place, MAX_NAME),
        )

    def end(self, status: str | None = None, error: BaseException | None = None) -> None:
        """Ends the run; without a status as the exception that is being handled says."""
        if self.run.forked:
            return
        with self._lock:
            if self._over:
                return
            self._over = True
            atexit.unregister(self._end_at_exit)
            if status is None:
                now = sys.exception()
                status, error = status_of(None if now is self._error else now)
            self.begin()
            for place in list(self._halves):
                self._record_half(place)
            self.at_end()
            late = {
                key: value
                for key, value in self.config.items()
                if key not in self._stored or not _same(self._stored[key], value)
            }
            self.facts("config", late)
            self.facts("texts", self._texts)
            self.run.end(status, error)

    def _end_at_exit(self) -> None:
        if self._over or self.run.forked:
            return
        last = last_error()
        if last is not None and last is not self._last:
            status, error = status_of(last)
        elif self.complete:
            status, error = "completed", None
        else:
            # How the program ended cannot be known here, `sys.exit` above all.
            status, error = "interrupted", None
            text = f"the program ended without {self._ending}; call it where the run is complete"
            self.run.warn(text)
        try:
            self.end(status, error)
        except QnError as failure:  # no caller is left to catch it
            with suppress(OSError, ValueError, AttributeError):
                print(f"error: {failure}", file=sys.stderr, flush=True)


def mapping(source: Any) -> dict[str, Any]:
    """Options by name, from a mapping or an object with fields. Raises UsageError."""
    if source is None:
        return {}
    if isinstance(source, Mapping):
        return {str(key): value for key, value in source.items()}
    try:
        return dict(vars(source))
    except TypeError:
        raise UsageError(f"config: expected a mapping, got {type(source).__name__}") from None


def _same(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # arrays: no single answer
        return one is other
