"""An episode of a recorded run, seen: what `Experiments.replay` returns."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal

from attrs import frozen

from qn_tracking.errors import PluginError, QnError, UnsupportedError, UsageError, describe
from qn_tracking.files import format_of
from qn_tracking.records.divergence import Divergence, close, first_difference
from qn_tracking.records.model import Episode
from qn_tracking.records.stats import outcome_of
from qn_tracking.reproduce.original import Original, load_original
from qn_tracking.reproduce.rerun import simulation_of
from qn_tracking.tracking.hookspecs import View, hookimpl
from qn_tracking.tracking.manager import make_view
from qn_tracking.tracking.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable

    from pluggy import PluginManager

    from qn_tracking.api.folder import Folder
    from qn_tracking.records.model import Simulation

    Progress = Callable[[int, int], None]

FORMATS = ("svg", "gif")
SPEED = 10.0
"""Steps a second."""
Outcome = Literal["identical", "same outcome", "different", "not compared"]


@frozen(kw_only=True)
class Replay:
    """An episode that was run again, with those before it, and its frames.

    A frame is plain data, as the plugin that shows it makes it: of the built-in simulation where
    everything is, before the first step and after each. `outcome` is about all the episodes that
    were run: `same outcome` if only floating point differs, `not compared` if those of the record
    are not here. `first_difference` is None if nothing differs. A notebook shows the animation by
    itself.
    """

    id: str
    episode: Episode
    outcome: Outcome
    first_difference: Divergence | None
    frames: Sequence[dict[str, Any]]
    view: View
    plugin: str

    def _repr_svg_(self) -> str | None:
        """What a notebook shows."""
        with suppress(UnsupportedError):
            found = self.view.draw(self.frames, "svg", speed=SPEED, caption=self.caption)
            return found.decode()
        return None

    @property
    def caption(self) -> str:
        """What it shows, in one line."""
        one = self.episode
        parts = [f"episode {one.index}: {one.termination or 'over'}"]
        if one.steps is not None:
            parts.append(f" after {one.steps} steps")
        if isinstance(one.reward, float):
            parts.append(f", reward {one.reward:.2f}")
        return "".join(parts)

    def text(
        self, number: int, *, columns: int, lines: int, unicode: bool = True, colour: bool = False
    ) -> str:
        """A frame as text for a terminal of that size."""
        space = {"columns": columns, "lines": lines}
        with _naming(self.plugin):
            return self.view.text(self.frames[number], **space, unicode=unicode, colour=colour)

    def save(
        self, path: str | os.PathLike[str], *, speed: float = SPEED, replace: bool = True
    ) -> str:
        """Writes an animation of `speed` steps a second, as svg or gif; returns the path.

        Raises UsageError for another ending, or for a file that is there unless it may be replaced;
        UnsupportedError for a gif without Pillow; and StorageError.
        """
        from qn_tracking.store.transfer import check_output
        from qn_tracking.store.write import published

        name = os.fspath(path)
        format = check_format(name)
        check_output(name, replace)
        with _naming(self.plugin):
            data = self.view.draw(self.frames, format, speed=speed, caption=self.caption)
        with published(name, replace=replace) as stream:
            stream.write(data)
        return name


@contextmanager
def _naming(plugin: str) -> Iterator[None]:
    """What a plugin raises that is no error of the project's own becomes one that names it."""
    try:
        yield
    except QnError:
        raise
    except Exception as error:
        raise PluginError(describe(error), file=f"plugin {plugin}") from error


def check_format(path: str) -> str:
    """The format that the ending of a path names. Raises UsageError for another one."""
    return format_of(path, FORMATS, "animation")


def replay(store: Folder, id: str, number: int | None, progress: Progress | None = None) -> Replay:
    """Runs the episodes of a run up to this one; see `Experiments.replay`."""
    original = load_original(store.folder, id, store.warn)
    count = original.count
    number = count - 1 if number is None else number
    if not 0 <= number < count:
        raise UsageError(f"no episode {number}", file=id, hint=f"they are 0 to {count - 1}")
    manager, simulation = simulation_of(original, ())
    view, plugin = make_view(simulation)
    seen = _Seen(progress, number + 1)
    manager.register(seen, name="replay")

    def watch() -> list[dict[str, Any]]:
        with _naming(plugin):
            return view.watch()

    frames = _run(original, manager, simulation, number, watch)
    if len(seen.episodes) <= number or not frames:
        raise UnsupportedError(f"the simulation did not come to episode {number}", file=id)
    outcome, first = _compared(original, seen.episodes)
    return Replay(
        id=original.id,
        episode=seen.episodes[-1],
        outcome=outcome,
        first_difference=first,
        frames=frames,
        view=view,
        plugin=plugin,
    )


class _Seen:
    """Collects the episodes of a run."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.episodes: list[Episode] = []
        self._progress, self._total = progress, total

    @hookimpl
    def episode_end(self, episode: Episode) -> None:
        self.episodes.append(episode)
        if self._progress is not None:
            self._progress(len(self.episodes), self._total)


def _run(
    original: Original,
    manager: PluginManager,
    simulation: Simulation,
    number: int,
    watch: Callable[[], list[dict[str, Any]]],
) -> list[dict[str, Any]]:
    """The frames of an episode. Nothing is stored, and no evaluation is run: it changes nothing."""
    config, _ = original.simulated
    recorder = Recorder(
        config,
        manager=manager,
        subject=simulation.subject,
        seed=original.seed,
        episodes=original.planned,
    )
    frames: list[dict[str, Any]] = []
    try:
        with recorder, closing(_of_main_phase(simulation, original)) as produced:
            for index in range(number + 1):
                if index == number:
                    frames = watch()
                fields = next(produced, None)
                if fields is None:
                    break
                recorder.episode(**fields)
            recorder.end("interrupted")
    except QnError:
        raise
    except Exception as error:
        raise UnsupportedError(
            f"the simulation failed: {describe(error)}", file=original.id
        ) from error
    return frames


def _of_main_phase(simulation: Simulation, original: Original) -> Generator[Any]:
    _, seed = original.simulated
    for fields in simulation.episodes(original.planned, seed):
        if fields.get("phase") is None:
            yield fields


def _compared(original: Original, episodes: Sequence[Episode]) -> tuple[Outcome, Divergence | None]:
    if original.episodes is None:
        return "not compared", None
    recorded = original.episodes[: len(episodes)]
    first = first_difference(recorded, episodes)
    if first is None:
        return "identical", None
    same = all(
        outcome_of(one) == outcome_of(other) and close(one.reward, other.reward)
        for one, other in zip(recorded, episodes, strict=True)
    )
    return "same outcome" if same else "different", first
