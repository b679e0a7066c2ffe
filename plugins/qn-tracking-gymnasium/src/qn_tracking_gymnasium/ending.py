"""The end of an episode, and its recording."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from math import isnan
from typing import Any, NoReturn, Protocol

from attrs import frozen

from qn_tracking import Recorder
from qn_tracking.plugin import MAX_INT, UsageError, scalar

SUCCESS_KEYS = ("is_success", "success")
"""The keys of `info` for success: Gymnasium-Robotics uses the first, Meta-World the second."""


def wrappers(env: Any) -> Iterator[Any]:
    """Return the wrappers of an environment, or of a vector, from the outermost on."""
    from gymnasium import Wrapper
    from gymnasium.vector import VectorWrapper

    while isinstance(env, (Wrapper, VectorWrapper)):
        yield env
        env = env.env


class Run(Protocol):
    """A `qn_tracking.Recorder`, or an object with the same method `episode`."""

    def episode(self, **fields: Any) -> None:
        """Record an episode; the keyword arguments are those of `Recorder.episode`."""


@frozen(kw_only=True)
class Ending:
    """The end of an episode.

    `steps` and `reward` (the sum) cover the whole episode; `terminated`, `truncated` and `info`
    are from its last step.
    """

    steps: int
    reward: float
    terminated: bool
    truncated: bool
    info: Mapping[str, Any]


Success = Callable[[Ending], bool | None] | float | None
"""A function, or the least sum of rewards of a success; None uses `info`."""


def other_process() -> UsageError:
    """The error for a wrapper in another process, such as a worker of a vector."""
    return UsageError(
        "TrackEpisodes cannot record from another process than its run's",
        hint="put TrackVectorEpisodes around the vector, or use qn_tracking_sb3.Track",
    )


class Shared:
    """An argument of a wrapper in `env.spec`: Gymnasium copies a spec, and the copies share it."""

    def __init__(self, value: Any) -> None:
        self.value: Any = value.value if isinstance(value, Shared) else value

    def __deepcopy__(self, memo: Any) -> Shared:
        return self

    def __reduce__(self) -> NoReturn:
        raise other_process()


class EpisodeWriter:
    """Records endings as episodes of a run, and the name of the environment.

    `names` are those of the metrics, by their keys in `info`. Raises UsageError for an invalid
    `success` or `info`.
    """

    def __init__(
        self, run: Run, success: Success, info: Mapping[str, str] | Iterable[str], spec: Any
    ) -> None:
        self._run = run
        self._episode = run.episode
        self._warn = getattr(run, "warn", None)
        self._decide = success if callable(success) else None
        self._least = None if callable(success) or success is None else _number(success)
        self.names = names(info)
        if isinstance(run, Recorder):
            run.describe(environment=getattr(spec, "id", ""))

    def refuse_twice(self, inner: object) -> None:
        """Raises UsageError for a wrapper further in that records on the same run."""
        writer = getattr(inner, "_writer", None)
        if isinstance(writer, EpisodeWriter) and writer._run is self._run:
            raise UsageError(
                "the environment is tracked on this run already",
                hint="its episodes would be recorded twice",
            )

    def check_process(self) -> None:
        """Raises UsageError in a forked process, where the run would record nothing in silence."""
        if isinstance(self._run, Recorder) and self._run.forked:
            raise other_process()

    def write(self, ending: Ending, seed: int | None) -> None:
        """Record an episode. Keys that `info` lacks are absent from the metrics."""
        self.check_process()
        values = {name: single(ending.info.get(key)) for key, name in self.names.items()}
        self._episode(
            seed=seed,
            success=self._success(ending),
            termination="terminated" if ending.terminated else "truncated",
            steps=ending.steps,
            reward=ending.reward,
            metrics={name: value for name, value in values.items() if value is not None},
        )

    def warn_abandoned(self, steps: int) -> None:
        """Warn about the first episode that a reset cut short."""
        if self._warn is not None:
            self._warn(
                f"reset() after {steps} steps: an episode without an end is not recorded; if "
                "another wrapper ends it, put the tracking around that one (one warning)"
            )

    def _success(self, ending: Ending) -> bool | None:
        if self._decide is not None:
            return self._decide(ending)
        if self._least is not None:
            return ending.reward >= self._least
        return success_in(ending.info)


def success_in(info: Mapping[str, Any]) -> bool | None:
    """Return the success in `info`, a truth value or a number; None without one, or for NaN.

    Raises TypeError for any other type.
    """
    for key in SUCCESS_KEYS:
        value = single(info.get(key))
        if value is not None:
            if not isinstance(value, (bool, int, float)):
                kind = type(value).__name__
                raise TypeError(f"info[{key!r}]: expected true, false or a number, got {kind}")
            return None if isnan(value) else bool(value)
    return None


def single(value: Any) -> Any:
    """Return the number in a scalar, or in an array or tensor of one element; else the value."""
    return scalar(value.reshape(()) if getattr(value, "shape", ()) == (1,) else value)


def reward_of(value: Any) -> float:
    """Return a reward, also of an array of one element. Raises TypeError for what is no number."""
    number = single(value)
    try:
        if not isinstance(number, (str, bytes)):
            return float(number)
    except (TypeError, ValueError):
        pass
    raise TypeError(f"reward: expected a number, got {type(value).__name__}")


def check_seed(seed: Any) -> None:
    """Raises UsageError, before the episode, for a seed that a record cannot store."""
    value = scalar(seed)
    if value is not None and type(value) is int and not 0 <= value < MAX_INT:
        raise UsageError(f"reset: seed {value} cannot be recorded", hint="use one below 2**53")


def _number(success: Any) -> float:
    value = scalar(success)
    if type(value) not in (int, float) or isnan(value):
        raise UsageError(f"success: expected a function or a number, got {success!r}")
    return float(value)


def names(info: Mapping[str, str] | Iterable[str]) -> dict[str, str]:
    """Return the names in the record by keys of `info`. Raises UsageError for invalid names."""
    if isinstance(info, str):
        raise UsageError(f"info: expected a list or a mapping of names, got {info!r}")
    found = dict(info) if isinstance(info, Mapping) else {key: key for key in info}
    for name in found.values():
        if type(name) is not str:
            raise UsageError(f"info: expected names, got {name!r}")
        if name in ("steps", "reward"):
            raise UsageError(f"info: {name} is recorded already", hint="give it another name")
    if len(set(found.values())) < len(found):
        raise UsageError("info: two keys have the same name")
    return found
