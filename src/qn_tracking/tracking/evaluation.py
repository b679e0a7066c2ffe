"""Evaluation: episodes between those of a run that show what was learned by then.

What it is to be is an option, kept in the settings of the configuration, so that workers and later
executions do the same; the configuration's digest does not depend on it.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import evolve

from qn_tracking.errors import UsageError
from qn_tracking.records.model import MAX_INT, Config, Simulation

EVALUATION = "evaluation"
"""The phase of these episodes, and the settings that ask for them."""


def evaluation_of(config: Config) -> tuple[int, int]:
    """After how many episodes each an evaluation comes, and its episodes; (0, 0) for none."""
    given = config.settings.get(EVALUATION)
    return (given["every"], given["episodes"]) if given else (0, 0)


def with_evaluation(
    config: Config, simulation: Simulation, every: int | None, episodes: int | None
) -> Config:
    """The configuration with an evaluation of `episodes` episodes after each `every` of the run.

    Raises UsageError if one of them is missing, and for a simulation that cannot evaluate.
    """
    if every is None and episodes is None:
        return config
    if every is None or episodes is None:
        raise UsageError("--evaluate-every and --evaluate-episodes belong together")
    for option, number in (("--evaluate-every", every), ("--evaluate-episodes", episodes)):
        if type(number) is not int or not 0 < number < MAX_INT:
            raise UsageError(f"{option}: expected a whole number from 1, got {number!r}")
    if not callable(getattr(simulation, "evaluate", None)):
        what = simulation.subject.environment or "this simulation"
        raise UsageError(f"--evaluate-every: {what} cannot evaluate")
    settings = {**config.settings, EVALUATION: {"every": every, "episodes": episodes}}
    return evolve(config, settings=settings)


def evaluating(config: Config, settings: object) -> Config:
    """The configuration with the evaluation in these settings of a record; no text has it."""
    given = settings.get(EVALUATION) if isinstance(settings, Mapping) else None
    if given is None:
        return config
    return evolve(config, settings={**config.settings, EVALUATION: given})
