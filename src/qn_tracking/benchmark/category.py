"""The category of a configuration: the provider of its simulation decides, it is never declared."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from qn_tracking.benchmark.task import SCRIPT, declared, task_digest, task_of
from qn_tracking.errors import ConfigError, PluginError, QnError, describe
from qn_tracking.records.codec import plain
from qn_tracking.records.model import Config
from qn_tracking.records.submission import Category

if TYPE_CHECKING:
    import pluggy

    from qn_tracking.benchmark.protocol import Protocol

# It becomes the name of a folder.
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def categorize(config: Config, protocol: Protocol, manager: pluggy.PluginManager) -> Category:
    """The category of a configuration: that of its task, if the protocol has the task.

    Of a script that has declared its task it is the name of that and `script`.

    Raises ConfigError if no provider knows one, PluginError for a provider that fails.
    """
    try:
        found = manager.hook.categorize(config=config, rules=plain(protocol), hook=manager.hook)
    except QnError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(describe(error), file=config.label, field="categorize") from error
    if found is not None and not isinstance(found, Category):
        got = type(found).__name__
        raise PluginError(f"expected a Category, got {got}", file=config.label, field="categorize")
    if found is None and (claimed := declared(config)) is not None:
        # What brain a script has is its own claim, which no configuration gives.
        environment = re.sub(r"[^a-z0-9_]+", "-", str(claimed["environment"]).lower()).strip("-_")
        found = Category(environment=environment[:64], family=SCRIPT)
    if not isinstance(found, Category):
        raise ConfigError(
            "no provider knows the category of this configuration",
            file=config.label,
            hint="see the hook categorize; of a script, track(…, task={…})",
        )
    for name in (found.environment, found.family):
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{name!r} is no name of a category", file=config.label)
    if protocol.tasks and (task := task_of(config, manager)) is not None:
        named = protocol.environment_of(task_digest(task))
        return found if named is None else Category(environment=named, family=found.family)
    return found
