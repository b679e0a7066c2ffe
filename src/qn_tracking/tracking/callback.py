"""A recorder as an object that a host calls, in the host's own words.

    callback = Callback(track(config), steps="n_steps", reward="info.return", metrics=["loss"])
    trainer.on_episode_end = callback

What a host calls differently is mapped here, so that records of all hosts have the same fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any

from qn_tracking.errors import UsageError, did_you_mean
from qn_tracking.tracking.recorder import Recorder

Source = str | Callable[[Any], Any]
"""Where in a report a value is: a name, dotted for one inside another, or a function of it."""

FIELDS = ("success", "termination", "steps", "reward", "seed")


class Callback:
    """Called with what the host reports of an episode: a mapping, or an object with attributes.

    `success`, `termination`, `steps`, `reward` and `seed` say where each is found; `counts`,
    `metrics` and `timing` are names of the record mapped to where they are found, or names that are
    the same in both. What is None does not apply to the episode. The first call starts the run if
    it has not started; a run without `end` ends with the program (see `Recorder.start`).

    Raises UsageError for an invalid name, and for a name that the host does not report.
    """

    def __init__(
        self,
        run: Recorder,
        *,
        success: Source | None = None,
        termination: Source | None = None,
        steps: Source | None = None,
        reward: Source | None = None,
        seed: Source | None = None,
        counts: Mapping[str, Source] | Iterable[str] = (),
        metrics: Mapping[str, Source] | Iterable[str] = (),
        timing: Mapping[str, Source] | Iterable[str] = (),
    ) -> None:
        if not isinstance(run, Recorder):
            raise UsageError(f"run: expected a recorder, got {type(run).__name__}")
        self.run = run
        given = dict(zip(FIELDS, (success, termination, steps, reward, seed), strict=True))
        self._fields = {name: source for name, source in given.items() if source is not None}
        self._groups = {
            group: _sources(group, names)
            for group, names in (("counts", counts), ("metrics", metrics), ("timing", timing))
            if names
        }
        for name, source in chain(self._fields.items(), *map(dict.items, self._groups.values())):
            if not (isinstance(source, str) or callable(source)):
                raise UsageError(f"{name}: expected a name or a function, got {source!r}")

    def __call__(self, report: Any = None) -> None:
        """An episode is over. Raises as `Recorder.episode` does."""
        if not self.run.started:
            self.run.start(at_exit=True)
        values_of: dict[str, Any] = {
            name: _found(report, source, name) for name, source in self._fields.items()
        }
        for group, sources in self._groups.items():
            values = {name: _found(report, source, name) for name, source in sources.items()}
            values_of[group] = {name: value for name, value in values.items() if value is not None}
        self.run.episode(**values_of)


def _sources(group: str, names: Mapping[str, Source] | Iterable[str]) -> dict[str, Source]:
    if isinstance(names, str):
        raise UsageError(f"{group}: expected names, got one text", hint=f"[{names!r}]")
    return dict(names) if isinstance(names, Mapping) else {name: name for name in names}


def _found(report: Any, source: Source, name: str) -> Any:
    if not isinstance(source, str):
        return source(report)
    if isinstance(report, Mapping) and source in report:
        return report[source]  # also where the name itself has a dot
    value = report
    for part in source.split("."):
        try:
            value = value[part] if isinstance(value, Mapping) else getattr(value, part)
        except (KeyError, AttributeError):
            known = value if isinstance(value, Mapping) else dir(value)
            near = did_you_mean(part, [key for key in known if isinstance(key, str)])
            raise UsageError(f"{name}: the host reports no {source!r}", hint=near) from None
    return value
