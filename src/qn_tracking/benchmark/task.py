"""The task of a configuration: what is to be solved, without the brain that solves it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from qn_tracking.errors import PluginError, QnError, describe
from qn_tracking.records.codec import canonical, digest, plain
from qn_tracking.records.model import MAX_INT, Config
from qn_tracking.tracking.installed import SIMULATION

if TYPE_CHECKING:
    import pluggy

TASK, SCRIPT = "task", "script"
REWARD = "reward"
"""The section of a configuration with its training reward, which is free unless the task has it."""


def task_of(config: Config, manager: pluggy.PluginManager) -> dict[str, Any] | None:
    """The task as JSON data, nested like the configuration; None if no provider names one, and no
    script has declared one.

    A simulation other than the built-in one is part of it. Raises what the provider raises as
    ConfigError, and PluginError for a provider that fails or returns anything but plain data.
    """
    try:
        found = manager.hook.task(config=config)
    except QnError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(describe(error), file=config.label, field="task") from error
    if found is None:
        return declared(config)
    if not isinstance(found, Mapping):
        cause = f"expected a mapping, got {type(found).__name__}"
        raise PluginError(cause, file=config.label, field="task")
    simulation = config.settings.get("simulation", SIMULATION)
    try:
        task: dict[str, Any] = normal(plain(found))
    except (TypeError, ValueError) as error:
        raise PluginError(str(error), file=config.label, field="task") from None
    return task if simulation == SIMULATION else {"simulation": simulation, **task}


def declared(config: Config) -> dict[str, Any] | None:
    """The task that a script has declared: the section `task` of its configuration.

    It is marked as what a script says, so that it is never the task of a simulation.
    """
    found = config.data.get(TASK)
    named = isinstance(found, Mapping) and type(found.get("environment")) is str
    if not named or "simulation" in config.settings:
        return None
    task: dict[str, Any] = normal(plain(found))
    return {**task, "simulation": SCRIPT}


def training_reward(data: Mapping[str, Any], task: Mapping[str, Any] | None) -> Any:
    """The training reward of a configuration's data as it is written; None if it is in the task."""
    return None if task is None or REWARD in task else data.get(REWARD)


def task_digest(task: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of a task."""
    return digest(canonical(normal(plain(task))))


def normal(value: Any) -> Any:
    """JSON data in which 200.0 is 200: how a number is written makes no other task."""
    if type(value) is dict:
        return {key: normal(item) for key, item in value.items()}
    if type(value) is list:
        return [normal(item) for item in value]
    if type(value) is float and value.is_integer() and abs(value) < MAX_INT:
        return int(value)
    return value


def differences(task: Mapping[str, Any], closed: Mapping[str, Any]) -> tuple[str, ...]:
    """What a task has otherwise than the closed one, a sentence for each key."""
    mine, its = dict(_leaves(normal(plain(task)))), dict(_leaves(normal(plain(closed))))
    return tuple(
        f"config.{key}: {_shown(mine, key)}, the task has {_shown(its, key)}"
        for key in dict.fromkeys([*its, *mine])
        if key not in mine or key not in its or canonical(mine[key]) != canonical(its[key])
    )


def _leaves(value: Any, field: str = "") -> Iterator[tuple[str, Any]]:
    if type(value) is dict and value:
        for key, item in value.items():
            yield from _leaves(item, f"{field}.{key}" if field else key)
    else:
        yield field, value


def _shown(leaves: Mapping[str, Any], key: str) -> str:
    if key not in leaves:
        return "nothing"
    value = leaves[key]
    return value if type(value) is str else canonical(value).decode()
