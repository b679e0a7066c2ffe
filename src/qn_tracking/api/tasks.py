"""Configurations with their tasks: the category of each, its division, and what differs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from attrs import frozen

from qn_tracking import config as configuration
from qn_tracking.benchmark.category import categorize
from qn_tracking.benchmark.division import division
from qn_tracking.benchmark.protocol import Protocol
from qn_tracking.benchmark.task import task_digest, task_of
from qn_tracking.errors import QnError
from qn_tracking.tracking.manager import VALIDATORS, make_manager


@frozen(kw_only=True)
class ConfigTask:
    """A configuration: its category, its task with the digest, and its division.

    `differs` says what keeps it out of the closed division, with the budget of the task. `category`
    is None if it has none, or cannot be read; `error` says why. Without a provider that names a
    task, `task` is None; by a protocol without divisions, so is `division`.
    """

    config: str
    category: str | None = None
    task: Mapping[str, Any] | None = None
    digest: str | None = None
    division: str | None = None
    differs: tuple[str, ...] = ()
    error: str | None = None


def config_tasks(protocol: Protocol, sources: Iterable[str] | None) -> list[ConfigTask]:
    """The configurations of these names or paths; without any, all that come with packages."""
    names = configuration.shipped() if sources is None else sources
    return [_config_task(protocol, name) for name in names]


def _config_task(protocol: Protocol, source: str) -> ConfigTask:
    try:
        config = configuration.load(source)
        manager = make_manager(VALIDATORS, config=config)
        task = task_of(config, manager)
        category = categorize(config, protocol, manager)
    except QnError as error:
        return ConfigTask(config=source, error=str(error))
    found = division(protocol, category.environment, task, episodes=config.settings.get("episodes"))
    return ConfigTask(
        config=source,
        category=str(category),
        task=task,
        digest=None if task is None else task_digest(task),
        division=None if found is None else found.name,
        differs=() if found is None else found.differs,
    )
