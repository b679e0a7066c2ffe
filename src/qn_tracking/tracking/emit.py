"""Calls the hooks of a run, and isolates plugins that fail.

A plugin that fails at the start stops the run; one that fails later is not called again until the
end; at the end all are called. pluggy stops at the first plugin that raises, and does not report
which one it was. So the implementations are taken from it once for each run and called one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from inspect import iscoroutinefunction, isgeneratorfunction
from itertools import chain
from time import perf_counter
from typing import TYPE_CHECKING, Any

from pluggy import HookImpl, PluginManager

from qn_tracking.errors import PluginError, PluginSetupError, QnError, describe
from qn_tracking.records.model import (
    Artifact,
    Episode,
    Experiment,
    Failure,
    Logged,
    PluginUse,
    RunInfo,
)
from qn_tracking.tracking.installed import TRACKER

if TYPE_CHECKING:
    from qn_tracking.records.batch import Batch

SLOW_SHARE = 0.05
SLOW_SECONDS = 0.2
"""A plugin that took a larger share of a run than this, and longer than this, is named at its end.

In a very short run, the time that a disk needs to store the record is a large share, and harmless.
"""
TRACKER_SECONDS = 5.0
"""The same of the built-in tracker: below, nothing that a user does would make it faster."""


def slow(uses: Iterable[PluginUse], seconds: float) -> list[tuple[str, float]]:
    """The plugins that took much of so many seconds, and their shares."""
    return [
        (use.name, use.seconds / seconds)
        for use in uses
        if seconds > 0
        and use.seconds
        > max(SLOW_SHARE * seconds, TRACKER_SECONDS if use.name in TRACKER else SLOW_SECONDS)
    ]


class _Plugin:
    __slots__ = ("call", "last", "late", "name", "plugin", "seconds", "stores")

    def __init__(self, name: str, call: Callable[..., Any], plugin: object = None) -> None:
        self.name, self.call, self.seconds = name, call, 0.0
        self.stores = bool(getattr(plugin, "stores", False))
        self.plugin = plugin
        self.late = bool(getattr(plugin, "starts_after_storage", False))
        """Whether its `run_start` needs the folder of the run."""
        self.last: Episode | Batch | None = None
        """The last episode, or batch, that need not be given to it again after an interrupt."""


def storage_of(manager: PluginManager) -> Any:
    """The plugin that stores the record, None if there is none.

    It has the attribute `stores = True`, and after the end `saved`, whether the record was written,
    `path`, where, and `journal`, where its episodes are. After an interrupt it gets the last
    episode again, which it may have stored already.
    """
    return next((one for one in manager.get_plugins() if getattr(one, "stores", False)), None)


class Emitter:
    """The plugins of one run, in the order in which they are called.

    `busy` is the plugin that is being called now and `since` the `perf_counter` of its call, for
    a watchdog in another thread. Anything that a plugin raises is a failure of that plugin, also
    SystemExit. KeyboardInterrupt always passes, and so does what a signal handler raised.
    """

    ended: Experiment

    def __init__(self, manager: PluginManager, warn: Callable[[str], None]) -> None:
        self.failures: list[Failure] = []
        self.busy: _Plugin | None = None
        self.since = 0.0
        self._warn = warn
        self._start = _plugins(manager, "run_start", ("run", "warn"))
        self._start.sort(key=lambda plugin: plugin.late)
        self._episode = _plugins(manager, "episode_end", ("run", "episode"))
        self._batch = _plugins(manager, "episodes_end", ("run", "episodes"))
        self._logged = _plugins(manager, "metrics_logged", ("run", "metrics"))
        self._artifact = _plugins(manager, "artifact_added", ("run", "artifact"))
        self._facts = _plugins(manager, "run_facts", ("run",))
        self._end = _plugins(manager, "run_end", ("experiment",))
        # One that takes no batch gets each episode; both in the order of `episode_end`.
        batched = {plugin.name: plugin for plugin in self._batch}
        single = [one for one in self._episode if one.name not in batched]
        both = [one for one in self._batch if one.stores], single, self._batch
        self._of_batch = [*both[0], *both[1], *(one for one in both[2] if not one.stores)]
        hooks = (self._start, self._episode, self._batch, self._logged, self._artifact)
        self._all = (*chain(*hooks), *self._facts, *self._end)

    def run_start(self, run: RunInfo) -> dict[str, Mapping[str, Any]]:
        """The facts of every plugin, by its name.

        The first that raises stops the start: a QnError as it is, anything else as PluginError.
        `run_end` is called only for plugins whose `run_start` returned.
        """
        facts: dict[str, Mapping[str, Any]] = {}
        names = {plugin.name for plugin in self._start}
        started = {plugin.name for plugin in self._end} - names
        try:
            for plugin in self._start:
                facts_of = self._call(plugin, run, self._warn)
                started.add(plugin.name)
                if facts_of is not None:
                    facts[plugin.name] = _mapping(facts_of, plugin.name, "run_start")
        except (QnError, KeyboardInterrupt):
            raise
        except BaseException as error:
            if from_a_handler(error):
                raise
            raise PluginError(
                describe(error), file=f"plugin {plugin.name}", field="run_start"
            ) from error
        finally:
            self._end = [plugin for plugin in self._end if plugin.name in started]
        return facts

    def episode_end(self, run: RunInfo, episode: Episode, *, again: bool = False) -> None:
        """Calls every plugin that is not quarantined.

        An interrupt passes at once, before the next plugin is called. With `again`, after an
        interrupt, only those are called that did not get this episode, and the one that stores.
        """
        since = perf_counter()
        try:
            for plugin in self._episode:
                if again and plugin.last is episode:
                    continue
                self.busy = plugin
                self.since = since
                plugin.last = None if plugin.stores else episode
                try:
                    plugin.call(run, episode)
                except BaseException as error:
                    if isinstance(error, KeyboardInterrupt) or from_a_handler(error):
                        raise
                    self._quarantine(plugin, "episode_end", error)
                now = perf_counter()
                plugin.seconds += now - since
                since = now
        finally:
            self.busy = None

    def episodes_end(self, run: RunInfo, batch: Batch, *, again: bool = False) -> None:
        """As `episode_end`, of many at once; a plugin without that hook gets each of them."""
        for plugin in self._of_batch:
            if again and plugin.last is batch:
                continue
            takes_all = plugin in self._batch
            try:
                if takes_all:
                    plugin.last = None if plugin.stores else batch
                    self._call(plugin, run, batch)
                else:
                    self._call_each(plugin, run, batch, again)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt) or from_a_handler(error):
                    raise
                self._quarantine(plugin, "episodes_end" if takes_all else "episode_end", error)

    def _call_each(self, plugin: _Plugin, run: RunInfo, batch: Batch, again: bool) -> None:
        begin = 0
        if again:
            places = (i + 1 for i, episode in enumerate(batch) if episode is plugin.last)
            begin = next(places, 0)
        self.busy, self.since = plugin, perf_counter()
        try:
            for episode in batch[begin:] if begin else batch:
                plugin.last = None if plugin.stores else episode
                plugin.call(run, episode)
            plugin.last = None if plugin.stores else batch
        finally:
            plugin.seconds += perf_counter() - self.since
            self.busy = None

    def metrics_logged(self, run: RunInfo, metrics: Logged) -> None:
        """Calls every plugin that is not quarantined; an interrupt passes at once."""
        self._each(self._logged, "metrics_logged", self._call, run, metrics)

    def artifact_added(self, run: RunInfo, artifact: Artifact) -> None:
        """Calls every plugin that is not quarantined; an interrupt passes at once."""
        self._each(self._artifact, "artifact_added", self._call, run, artifact)

    def _each(
        self, plugins: list[_Plugin], hook: str, call: Callable[..., None], *args: Any
    ) -> None:
        for plugin in plugins:
            try:
                call(plugin, *args)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                if from_a_handler(error):
                    raise
                self._quarantine(plugin, hook, error)

    def run_facts(self, run: RunInfo) -> dict[str, Mapping[str, Any]]:
        """The last facts, by plugin; one that raises is warned of and left out."""
        facts: dict[str, Mapping[str, Any]] = {}

        def ask(plugin: _Plugin, run: RunInfo) -> None:
            found = self._call(plugin, run)
            if found is not None:
                facts[plugin.name] = _mapping(found, plugin.name, "run_facts")

        self._each(self._facts, "run_facts", ask, run)
        return facts

    def run_end(self, experiment: Experiment) -> list[tuple[Failure, BaseException]]:
        """Calls every plugin that has started; returns the failures of this hook.

        What the storage has counted again, in `ended` then, is what the others get. After an
        interrupt they are still called; then their failures are warned of, and the interrupt
        passes.
        """
        self.ended = experiment
        interrupt: BaseException | None = None
        failed: list[tuple[Failure, BaseException]] = []
        for plugin in self._end:
            try:
                self._call(plugin, self.ended)
            except KeyboardInterrupt as error:
                interrupt = error
            except BaseException as error:
                if from_a_handler(error):
                    interrupt = error
                    continue
                failure = _failure(plugin, "run_end", error)
                failed.append((failure, error))
            finally:
                stored = getattr(plugin.plugin, "experiment", None) if plugin.stores else None
                if isinstance(stored, Experiment):
                    self.ended = stored
        if interrupt is not None:
            for failure, _ in failed:
                self._warn(f"plugin {failure.plugin}: {failure.hook}: {failure.error}")
            raise interrupt
        return failed

    @contextmanager
    def waiting_for(self, name: str) -> Iterator[None]:
        """Names a plugin as busy while its pending facts are waited for."""
        self.busy, self.since = _Plugin(name, print), perf_counter()
        try:
            yield
        finally:
            self.busy = None

    def usage(self) -> tuple[PluginUse, ...]:
        """Every active plugin, and the seconds that its hooks have taken so far."""
        seconds: dict[str, float] = {}
        for plugin in self._all:
            seconds[plugin.name] = seconds.get(plugin.name, 0.0) + plugin.seconds
        return tuple(PluginUse(name=name, seconds=spent) for name, spent in seconds.items())

    def _call(self, plugin: _Plugin, *args: Any) -> Any:
        self.busy = plugin
        self.since = perf_counter()
        try:
            return plugin.call(*args)
        finally:
            plugin.seconds += perf_counter() - self.since
            self.busy = None

    def _quarantine(self, plugin: _Plugin, hook: str, error: BaseException) -> None:
        self._episode = [other for other in self._episode if other.name != plugin.name]
        for name in ("_batch", "_of_batch", "_logged", "_artifact", "_facts"):
            left = [other for other in getattr(self, name) if other.name != plugin.name]
            setattr(self, name, left)
        failure = _failure(plugin, hook, error)
        self.failures.append(failure)
        self._warn(
            f"plugin {failure.plugin}: {hook}: {failure.error} (off until the end of the run)"
        )


def from_a_handler(error: BaseException) -> bool:
    """Whether a signal handler raised it, which may happen at any line of the program."""
    import signal

    handlers = {
        getattr(signal.getsignal(number), "__code__", None) for number in signal.valid_signals()
    }
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in handlers:
            return True
        trace = trace.tb_next
    return False


def _failure(plugin: _Plugin, hook: str, error: BaseException) -> Failure:
    return Failure(plugin=plugin.name, hook=hook, error=describe(error), storage=plugin.stores)


def _mapping(value: Any, name: str, hook: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        cause = f"returned {type(value).__name__}, expected a mapping"
        raise PluginError(cause, file=f"plugin {name}", field=hook)
    return value


def _plugins(manager: PluginManager, hook: str, params: tuple[str, ...]) -> list[_Plugin]:
    implementations = getattr(manager.hook, hook).get_hookimpls()
    # pluggy keeps them in the reverse of the order in which it would call them.
    return [
        _Plugin(impl.plugin_name, _adapt(impl, params), impl.plugin)
        for impl in reversed(implementations)
    ]


def _adapt(impl: HookImpl, params: tuple[str, ...]) -> Callable[..., Any]:
    """The implementation, taking all parameters of the hook by position."""
    if impl.wrapper or impl.hookwrapper:
        raise PluginSetupError("hook wrappers are not supported", file=f"plugin {impl.plugin_name}")
    function = impl.function
    if isgeneratorfunction(function) or iscoroutinefunction(function):
        raise PluginSetupError(
            f"{impl.function.__name__} is a generator or a coroutine and would never run",
            file=f"plugin {impl.plugin_name}",
        )
    if impl.argnames == params:
        return function
    places = [params.index(name) for name in impl.argnames]
    if len(places) == 1:
        place = places[0]
        return lambda *args: function(args[place])
    return lambda *args: function(*(args[place] for place in places))
