"""The hooks: the functions that a plugin may implement.

Two kinds of plugin. *Sinks* implement the hooks of a run and are on only when they are named.
*Providers* implement the others, are found by the name of their entry point (`brain.lstm`,
`environment.office`, `view.office`, `executor.dask`, `command.mlflow`) and are imported only when
that name is asked for.

A plugin takes those arguments of a hook that it wants, by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import pluggy

from qn_tracking.records.model import (
    Artifact,
    Config,
    Episode,
    Experiment,
    Logged,
    RunInfo,
    Simulation,
)
from qn_tracking.tracking.installed import GROUP

if TYPE_CHECKING:
    # A tracked run has no use for them, and they take milliseconds.
    from argparse import ArgumentParser, Namespace
    from concurrent.futures import Executor

    from qn_tracking.records.submission import Category, Finding, Submission

PROJECT = GROUP
"""Name of the pluggy project and of the entry point group."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""A decorator for a method, or a function of a module, that implements the hook of that name."""


class Commands(Protocol):
    """Where a plugin puts its commands."""

    def add(
        self,
        program: str,
        name: str,
        *,
        help: str,
        arguments: Callable[[ArgumentParser], None],
        run: Callable[[Namespace], int],
    ) -> None:
        """A command of `qn-exp` or `qn-bench`.

        `name` is that of the entry point, `push` for `command.push`, or two words that begin with
        it, `push one`; `help` is a phrase without a capital. `run` returns the exit code, from 0 to
        255; None is 0.
        """


class View(Protocol):
    """Shows episodes of a simulation: what `make_view` returns."""

    def watch(self) -> list[dict[str, Any]]:
        """From now on, this list holds the frames of the episode that was begun last.

        A frame is plain data; the first one is the state before the first step, and each step adds
        one.
        """

    def text(
        self, frame: Mapping[str, Any], *, columns: int, lines: int, unicode: bool, colour: bool
    ) -> str:
        """A frame for a terminal of that size, in ASCII unless it may be `unicode`."""

    def draw(
        self, frames: Sequence[Mapping[str, Any]], format: str, *, speed: float, caption: str
    ) -> bytes:
        """An animation of `speed` steps a second, as `svg` or `gif`.

        Raises UnsupportedError for a format that it cannot draw.
        """


@hookspec
def run_start(run: RunInfo, warn: Callable[[str], None]) -> Mapping[str, Any] | None:
    """The run is about to start; facts about it may be returned.

    `warn` shows one line to the user at once. It may be called later and from any thread; warnings
    before the end of the run are stored in the record. A value of the facts may be a Future, which
    is resolved before the record is made, or an Attachment. If a plugin raises, the run does not
    start.
    """


@hookspec
def episode_end(run: RunInfo, episode: Episode) -> None:
    """An episode is over.

    If a plugin raises, there is one warning, and it is not called again in this run until
    `run_end`.
    """


@hookspec
def episodes_end(run: RunInfo, episodes: Sequence[Episode]) -> None:
    """Many episodes are over at once: those of a vector of environments, by `Recorder.episodes`.

    A plugin without this hook gets `episode_end` for each of them; one with it gets only this.
    `episodes` has them also as columns, which are faster: see `Batch`. If a plugin raises, there is
    one warning, and it is not called again in this run until `run_end`.
    """


@hookspec
def artifact_added(run: RunInfo, artifact: Artifact) -> None:
    """The loop has recorded a file that it wrote, such as weights.

    Files that were recorded before the start come after it. If a plugin raises, there is one
    warning, and it is not called again in this run until `run_end`.
    """


@hookspec
def metrics_logged(run: RunInfo, metrics: Logged) -> None:
    """The loop has logged values between its episodes, by `Recorder.log`.

    If a plugin raises, there is one warning, and it is not called again in this run until
    `run_end`. There is no hook for each step of a simulation, which it would slow down many times
    over: a loop logs what it wants to keep, as often as it wants.
    """


@hookspec
def run_facts(run: RunInfo) -> Mapping[str, Any] | None:
    """The last episode is over and the record is about to be made; more facts may be returned.

    If a plugin raises, there is one warning, and the record is made without those facts.
    """


@hookspec
def run_end(experiment: Experiment) -> None:
    """The run is over, however it ended.

    Every plugin is called, also if another one raises; failures are reported together afterwards.
    """


@hookspec(firstresult=True)
def make_simulation(config: Config, hook: Any) -> Simulation | None:
    """The runner needs a simulation; None if this configuration is not yours.

    `hook` calls the other providers: `hook.make_brain(config=config)`.
    """


@hookspec(firstresult=True)
def make_environment(config: Config) -> Any:
    """A simulation needs the environment that its configuration names; None if it is not yours."""


@hookspec(firstresult=True)
def make_brain(config: Config) -> Any:
    """A simulation needs the brain that its configuration names; None if it is not yours."""


@hookspec(firstresult=True)
def categorize(config: Config, rules: Mapping[str, Any], hook: Any) -> Category | None:
    """A benchmark needs the category of its configuration; None if this one is not yours.

    `rules` is the protocol's version as data. The provider of the simulation
    is asked, and may use the configuration only, not what a submission claims.
    """


@hookspec(firstresult=True)
def task(config: Config) -> Mapping[str, Any] | None:
    """A benchmark needs the task of its configuration; None if this one is not yours.

    The task is what is to be solved: dynamics, limits, the end of an episode, and what counts as
    a success. Returns these keys of the configuration as plain data, nested as they are there, with
    defaults filled in. All that is left out is brain. The training reward is left out where success
    ranks, and is part of the task where reward does.
    """


@hookspec(firstresult=True)
def make_executor(spec: str, jobs: int | None) -> Executor | None:
    """The executor of a study, for `--executor SCHEME://…`; None if it is not yours.

    `jobs` is how many runs may run side by side, None for as many as the executor likes. The
    executor is used as a context manager, from one thread. Its method `interrupt()`, if it has
    one, is called when its runs should end after their episode.
    """


@hookspec(firstresult=True)
def make_view(simulation: Simulation) -> View | None:
    """`qn-exp replay` shows an episode of a simulation; None if this one is not yours.

    The plugin `view.NAME` is asked, where NAME is the environment of the simulation's `subject`.
    What it does must not change what the simulation yields.
    """


@hookspec
def register_commands(commands: Commands) -> None:
    """A program got a command that it does not know, or completes one: add your commands.

    `commands.add("qn-exp", "push", help="…", arguments=…, run=…)`; `arguments` gets an
    `argparse.ArgumentParser` to add to, `run` the parsed arguments, and returns the exit code. See
    `qn_tracking.plugin` for what the arguments of every command hold.
    """


@hookspec
def check_benchmark(
    benchmark: Submission, others: Sequence[Submission], rules: Mapping[str, Any]
) -> Sequence[Finding]:
    """A benchmark is about to be submitted, or is validated or verified: what is wrong with it?

    `others` are the other entries of the folder, read when they are looked at. If a plugin raises,
    that is an error of the benchmark: a validator that raises never accepts a submission.
    """
    return ()


RUN_HOOKS = (
    "run_start",
    "episode_end",
    "episodes_end",
    "metrics_logged",
    "artifact_added",
    "run_facts",
    "run_end",
)
MAKE_HOOKS = (
    "make_simulation",
    "make_environment",
    "make_brain",
    "make_executor",
    "make_view",
    "categorize",
    "task",
    "register_commands",
)
VALIDATION_HOOKS = ("check_benchmark",)
HOOKS = (*RUN_HOOKS, *MAKE_HOOKS, *VALIDATION_HOOKS)
