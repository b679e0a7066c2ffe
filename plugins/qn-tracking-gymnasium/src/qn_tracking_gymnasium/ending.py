"""How an episode ended, and how that is told to a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import isnan
from typing import Any, Protocol

from attrs import frozen

from qn_tracking.plugin import MAX_INT, UsageError, scalar

SUCCESS_KEYS = ("is_success", "success")
"""Where an environment's `info` says it: Gymnasium-Robotics has the one, Meta-World the other."""


class Run(Protocol):
    """Whom episodes are told to: a `qn_tracking.Recorder`, or whatever has its `episode`."""

    def episode(self, **fields: Any) -> None:
        """An episode is over; the keyword arguments are those of `Recorder.episode`."""


@frozen(kw_only=True)
class Ending:
    """The end of an episode.

    `steps` and `reward` (the sum) are of the whole episode; `terminated`, `truncated` and `info`
    are what its last step returned.
    """

    steps: int
    reward: float
    terminated: bool
    truncated: bool
    info: Mapping[str, Any]


Success = Callable[[Ending], bool | None] | float | None
"""A function, or the least sum of rewards that is a success; None: what `info` says, if it does."""


class Teller:
    """Tells a run of endings.

    Raises UsageError for a `success` or an `info` that means nothing, before any episode.
    """

    def __init__(self, run: Run, success: Success, info: Mapping[str, str] | Iterable[str]) -> None:
        self._episode = run.episode
        self._warn = getattr(run, "warn", None)
        self._judge = success if callable(success) else None
        self._least = None if callable(success) or success is None else _number(success)
        self._names = names(info)

    def tell(self, ending: Ending, seed: int | None) -> None:
        """An episode is over. What `info` lacks is absent from the metrics."""
        info = ending.info
        metrics = {name: info[key] for key, name in self._names.items() if key in info}
        self._episode(
            seed=seed,
            success=self._success(ending),
            termination="terminated" if ending.terminated else "truncated",
            steps=ending.steps,
            reward=ending.reward,
            metrics=metrics,
        )

    def tell_abandoned(self, steps: int) -> None:
        """An episode was cut short by a reset, for the first time."""
        if self._warn is not None:
            self._warn(
                f"reset() after {steps} steps: an episode without an end is not recorded "
                "(said once)"
            )

    def _success(self, ending: Ending) -> bool | None:
        if self._judge is not None:
            return self._judge(ending)
        if self._least is not None:
            return ending.reward >= self._least
        return success_in(ending.info)


def success_in(info: Mapping[str, Any]) -> bool | None:
    """What an environment says of success, as a truth value or a number; None if nothing, or NaN.

    Raises TypeError for anything else.
    """
    for key in SUCCESS_KEYS:
        if key in info:
            value = scalar(info[key])
            if not isinstance(value, (bool, int, float)):
                kind = type(value).__name__
                raise TypeError(f"info[{key!r}]: expected true, false or a number, got {kind}")
            return None if isnan(value) else bool(value)
    return None


def check_seed(seed: Any) -> None:
    """Refuses, before the episode, a seed that no record could hold after it."""
    value = scalar(seed)
    if value is not None and type(value) is int and not 0 <= value < MAX_INT:
        raise UsageError(f"reset: seed {value} cannot be recorded", hint="use one below 2**53")


def _number(success: Any) -> float:
    value = scalar(success)
    if type(value) not in (int, float) or isnan(value):
        raise UsageError(f"success: expected a function or a number, got {success!r}")
    return float(value)


def names(info: Mapping[str, str] | Iterable[str]) -> dict[str, str]:
    """Names in a record by keys of `info`. Raises UsageError for what cannot be one."""
    if isinstance(info, str):
        raise UsageError(f"info: expected a list or a mapping of names, got {info!r}")
    found = dict(info) if isinstance(info, Mapping) else {key: key for key in info}
    for name in found.values():
        if type(name) is not str:
            raise UsageError(f"info: expected names, got {name!r}")
        if name in ("steps", "reward"):
            raise UsageError(f"info: {name} is counted already", hint="give it another name")
    if len(set(found.values())) < len(found):
        raise UsageError("info: two keys have one name")
    return found
