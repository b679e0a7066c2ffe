"""Calling hooks with failures isolated: loud at the start, quarantined in the middle, all reached
at the end.

pluggy stops at the first plugin that raises and does not say which; so the implementations are
taken from it once per run and called one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from inspect import iscoroutinefunction, isgeneratorfunction
from time import perf_counter
from typing import Any

from attrs import define
from pluggy import HookImpl, PluginManager

from qn_tracking.errors import PluginError, PluginSetupError, QnError, describe
from qn_tracking.records.model import Episode, Experiment, Failure, PluginUse, RunInfo

SLOW_SHARE = 0.05
SLOW_SECONDS = 0.2
"""A plugin that took a larger share of a run, and longer, is named at its end. Of a run that is
over at once, what a disk takes to make its record safe is a large share, and nobody waits for it.
"""


def slow(uses: Iterable[PluginUse], seconds: float) -> list[tuple[str, float]]:
    """The plugins that took much of so many seconds, and their shares."""
    return [
        (use.name, use.seconds / seconds)
        for use in uses
        if use.seconds > max(SLOW_SHARE * seconds, SLOW_SECONDS)
    ]


@define(eq=False)
class _Plugin:
    name: str
    call: Callable[..., Any]
    seconds: float = 0.0
    # After an interrupt, one that knows what it has is told again; another hears it at most once.
    again: int = 0
    heard: int = -1


class Emitter:
    """The plugins of one run, in the order in which they are called.

    `busy` is the plugin that is being called now and `since` the `perf_counter` of its call, for
    a watchdog in another thread. Whatever a plugin raises is its failure, SystemExit too.
    KeyboardInterrupt always passes, and what a signal handler of the host's raised.
    """

    def __init__(self, manager: PluginManager, warn: Callable[[str], None]) -> None:
        self.failures: list[Failure] = []
        self.busy: _Plugin | None = None
        self.since = 0.0
        self._warn = warn
        self._start = _plugins(manager, "run_start", ("run", "warn"))
        self._episode = _plugins(manager, "episode_end", ("run", "episode"))
        self._facts = _plugins(manager, "run_facts", ("run",))
        self._end = _plugins(manager, "run_end", ("experiment",))
        self._all = (*self._start, *self._episode, *self._facts, *self._end)

    def run_start(self, run: RunInfo) -> dict[str, Mapping[str, Any]]:
        """The facts of every plugin, by its name.

        The first that raises stops the start: a QnError as it is, anything else as PluginError.
        Only those that did start will hear the end.
        """
        facts: dict[str, Mapping[str, Any]] = {}
        names = {plugin.name for plugin in self._start}
        started = {plugin.name for plugin in self._end} - names
        try:
            for plugin in self._start:
                said = self._call(plugin, run, self._warn)
                started.add(plugin.name)
                if said is not None:
                    facts[plugin.name] = _mapping(said, plugin.name, "run_start")
        except QnError:
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            if _of_the_host(error):
                raise
            raise PluginError(
                describe(error), file=f"plugin {plugin.name}", field="run_start"
            ) from error
        finally:
            self._end = [plugin for plugin in self._end if plugin.name in started]
        return facts

    def episode_end(self, run: RunInfo, episode: Episode, *, again: bool = False) -> None:
        """Tells every plugin that is not quarantined; `again`, those that have not heard of it.

        An interrupt passes at once, the others not having heard.
        """
        since = perf_counter()
        index = episode.index
        for plugin in self._episode:
            if again and plugin.heard >= index:
                continue
            self.busy = plugin
            self.since = since
            plugin.heard = index - plugin.again
            try:
                plugin.call(run, episode)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                if _of_the_host(error):
                    raise
                self._quarantine(plugin, "episode_end", error)
            now = perf_counter()
            plugin.seconds += now - since
            since = now
        self.busy = None

    def run_facts(self, run: RunInfo) -> dict[str, Mapping[str, Any]]:
        """The last facts, by plugin; one that raises is warned of and left out."""
        facts: dict[str, Mapping[str, Any]] = {}
        for plugin in self._facts:
            try:
                said = self._call(plugin, run)
                if said is not None:
                    facts[plugin.name] = _mapping(said, plugin.name, "run_facts")
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                if _of_the_host(error):
                    raise
                self._quarantine(plugin, "run_facts", error)
        return facts

    def run_end(self, experiment: Experiment) -> list[tuple[Failure, BaseException]]:
        """Tells everyone who heard the start; returns the failures of this hook.

        Also where somebody interrupts one of them: the interrupt passes after the last, and what
        had failed is said.
        """
        interrupt: BaseException | None = None
        failed: list[tuple[Failure, BaseException]] = []
        for plugin in self._end:
            try:
                self._call(plugin, experiment)
            except KeyboardInterrupt as error:
                interrupt = error
            except BaseException as error:
                if _of_the_host(error):
                    interrupt = error
                    continue
                failure = Failure(plugin=plugin.name, hook="run_end", error=describe(error))
                failed.append((failure, error))
        if interrupt is not None:
            for failure, _ in failed:
                self._warn(f"plugin {failure.plugin}: {failure.hook}: {failure.error}")
            raise interrupt
        return failed

    @contextmanager
    def waiting_for(self, name: str) -> Iterator[None]:
        """Says that a plugin is at work, while its pending facts are waited for."""
        self.busy, self.since = _Plugin(name, print), perf_counter()
        try:
            yield
        finally:
            self.busy = None

    def usage(self) -> tuple[PluginUse, ...]:
        """Every plugin that listens, and the seconds that it took so far."""
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
        self._facts = [other for other in self._facts if other.name != plugin.name]
        failure = Failure(plugin=plugin.name, hook=hook, error=describe(error))
        self.failures.append(failure)
        self._warn(
            f"plugin {failure.plugin}: {hook}: {failure.error} (off until the end of the run)"
        )


def _of_the_host(error: BaseException) -> bool:
    """Whether it was raised by a signal handler, which strikes wherever the program is."""
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


def _mapping(said: Any, name: str, hook: str) -> Mapping[str, Any]:
    if not isinstance(said, Mapping):
        raise PluginError(
            f"returned {type(said).__name__}, expected a mapping", file=f"plugin {name}", field=hook
        )
    return said


def _plugins(manager: PluginManager, hook: str, params: tuple[str, ...]) -> list[_Plugin]:
    implementations = getattr(manager.hook, hook).get_hookimpls()
    # pluggy keeps them in the reverse of the order in which it would call them.
    return [
        _Plugin(
            impl.plugin_name,
            _adapt(impl, params),
            again=int(getattr(impl.plugin, "knows_what_it_has", False)),
        )
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
