"""Executes a run of a simulation: its episodes, and those of its evaluations, with one seed."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import cast

from qn_tracking.errors import UnsupportedError, describe, short
from qn_tracking.records.codec import scalar
from qn_tracking.records.model import (
    MAX_INT,
    Episode,
    EpisodeFields,
    Evaluated,
    Experiment,
    Simulation,
)
from qn_tracking.tracking.evaluation import EVALUATION, evaluation_of
from qn_tracking.tracking.hookspecs import hookimpl
from qn_tracking.tracking.manager import make_manager
from qn_tracking.tracking.recorder import Recorder

HANG_SECONDS = 10.0
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def pin_numeric_threads() -> None:
    """One thread for each numeric library that is imported from now on.

    How a sum is split among threads changes its last bit, and small matrices are slower in many.
    """
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))


def run_simulation(
    simulation: Simulation,
    recorder: Recorder,
    *,
    episodes: int,
    seed: int,
    stop: Callable[[], bool] = lambda: False,
) -> Experiment:
    """Runs the episodes of one run; `stop` is asked after each.

    If the configuration has settings of an `evaluation`, episodes of that phase come in between.
    What the simulation raises passes, after the record of what there was is sealed. Raises the
    failure of a plugin at the start or at the end.

    A simulation does not keep its state: of a run that is resumed, the episodes that it has are run
    again before it starts, and compared. Raises UnsupportedError if one differs.
    """
    for text in simulation.warnings:
        recorder.warn(text)
    produced = _produced(simulation, episodes, seed, *evaluation_of(recorder.run.config))
    if recorder.run.lives:
        with _no_exit():
            _repeat(produced, recorder, stop)
    with _watchdog(recorder), recorder, _no_exit():
        for episode, last in produced:
            recorder.episode(**episode)
            if not last and stop():
                recorder.end("interrupted")
                break
        recorder.cost = _counted(simulation, recorder)
        produced.close()
    if recorder.experiment is None:  # a forked copy of the simulation has come back
        raise SystemExit(0)
    return recorder.experiment


def _produced(
    simulation: Simulation, episodes: int, seed: int, every: int, count: int
) -> Generator[tuple[EpisodeFields, bool]]:
    """Each episode of a run, those of its evaluations among them, and whether it is the last."""
    produced, done = simulation.episodes(episodes, seed), 0
    try:
        for episode in produced:
            own = episode.get("phase") is None
            done += own
            if done > episodes:
                raise RuntimeError(f"the simulation went on after {episodes} episodes")
            evaluates = bool(every) and own and done % every == 0
            yield episode, done == episodes and not evaluates
            shown = cast("Evaluated", simulation).evaluate(count) if evaluates else ()
            for n, one in enumerate(shown, 1):
                one["phase"] = EVALUATION
                yield one, done == episodes and n == count
        if done < episodes:
            raise RuntimeError(f"the simulation ended after {done} of {episodes} episodes")
    finally:
        close = getattr(produced, "close", None)
        if close is not None:
            close()


@contextmanager
def _no_exit() -> Iterator[None]:
    """It is no simulation's to end the program."""
    try:
        yield
    except SystemExit as error:
        raise RuntimeError(f"sys.exit({error.code!r}) in the simulation") from error


class _Latest:
    """The episode that was recorded last."""

    episode: Episode

    @hookimpl
    def episode_end(self, episode: Episode) -> None:
        self.episode = episode


def _repeat(
    produced: Iterator[tuple[EpisodeFields, bool]], recorder: Recorder, stop: Callable[[], bool]
) -> None:
    """Runs again what a run has, which is left as it is. Raises UnsupportedError if it differs."""
    from qn_tracking.store import lives, paths

    run, manager, latest = recorder.run, make_manager(), _Latest()
    assert run.experiments_dir is not None
    manager.register(latest, name="latest")
    scratch = Recorder(
        run.config, manager=manager, seed=run.seed, warn=lambda text: None, name_slow=False
    )
    with scratch:
        for before in lives.episodes(paths.run_folder(run.experiments_dir, run.id)):
            fields, _ = next(produced, (EpisodeFields(), True))
            scratch.episode(**fields)
            if latest.episode.exact != before.exact:
                raise _other(run.id, before, latest.episode)
            if stop():
                raise KeyboardInterrupt


def _other(id: str, before: Episode, now: Episode) -> UnsupportedError:
    from qn_tracking.records.divergence import first_difference

    found = first_difference([before], [now])
    field, was, became = "phase", before.phase, now.phase
    if found is not None:
        field, was, became = found.field, found.first, found.second
    return UnsupportedError(
        f"recorded {short(repr(was), 40)}, but run again it is {short(repr(became), 40)}",
        file=id,
        field=f"episode {before.index}: {field}",
        hint="by another code, or another machine: it cannot go on here",
    )


def cost_of(simulation: Simulation) -> Mapping[str, int]:
    """What a simulation has counted of the run that is over: numbers by name, 0 or more.

    Raises TypeError for anything else.
    """
    counted = getattr(simulation, "cost", None)
    found = {} if counted is None else {k: scalar(v) for k, v in dict(counted()).items()}
    for name, number in found.items():
        if type(name) is not str or type(number) is not int or not 0 <= number < MAX_INT:
            raise TypeError(f"cost: expected whole numbers, got {name!r}: {number!r}")
    return found


def _counted(simulation: Simulation, recorder: Recorder) -> Mapping[str, int]:
    """What a simulation has counted; nothing, and a warning, if it cannot: the episodes count."""
    try:
        return cost_of(simulation)
    except Exception as error:
        recorder.warn(f"the cost of this run is not stored: {describe(error)}")
        return {}


@contextmanager
def _watchdog(recorder: Recorder) -> Iterator[None]:
    """Warns once of a plugin whose hook does not return."""
    from threading import Event, Thread

    over = Event()

    def watch() -> None:
        named: set[str] = set()
        while not over.wait(1.0):
            busy = recorder.busy
            if busy is not None and busy[1] > HANG_SECONDS and busy[0] not in named:
                named.add(busy[0])
                recorder.warn(f"plugin {busy[0]} has been busy for {busy[1]:.0f} s")

    thread = Thread(target=watch, name="qn-tracking-watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(2.0)
