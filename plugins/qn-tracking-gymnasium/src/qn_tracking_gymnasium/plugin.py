"""The hooks, for configurations with `environment.type: gymnasium`.

Heavy imports happen only when something is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from qn_tracking.plugin import Config, ConfigError, hookimpl

if TYPE_CHECKING:
    from qn_tracking.plugin import Category
    from qn_tracking_gymnasium.chance import RandomPolicy
    from qn_tracking_gymnasium.qlearning import QLearning
    from qn_tracking_gymnasium.sb3 import Sb3
    from qn_tracking_gymnasium.schema import Document, EnvironmentSection
    from qn_tracking_gymnasium.simulation import GymnasiumSimulation

POLICIES = ("random", "qlearning", "sb3")


class Gymnasium:
    """Provider of any registered environment, and of its simulation."""

    @hookimpl
    def make_simulation(self, config: Config, hook: Any) -> GymnasiumSimulation | None:
        """Make the simulation of a policy in an environment, and check both.

        Raises ConfigError with the field.
        """
        if not _ours(config):
            return None
        from qn_tracking_gymnasium.environment import recipe
        from qn_tracking_gymnasium.policy import Policy, Trainer
        from qn_tracking_gymnasium.simulation import GymnasiumSimulation

        section = _environment(config)
        policy = hook.make_brain(config=config)
        if not isinstance(policy, (Policy, Trainer)):
            name = _document(config).brain.name
            raise ConfigError(
                f"unknown policy {name!r}" if policy is None else f"{name!r} is not a policy",
                file=config.label,
                field="brain.name",
                hint=f"known: {', '.join(POLICIES)}, and those of installed plugins",
            )
        made = recipe(section, file=config.label)
        env = made.make()
        try:
            policy.prepare(env)
        finally:
            env.close()
        return GymnasiumSimulation(section, made, policy)

    @hookimpl
    def categorize(self, config: Config, rules: Mapping[str, Any], hook: Any) -> Category | None:
        """Return the id in lower case, followed by the other settings of the task.

        `CartPole-v1` with `max_steps: 200` is `cartpole-v1-steps200`.
        """
        if not _ours(config):
            return None
        from qn_tracking.plugin import Category
        from qn_tracking_gymnasium.category import name

        section = _environment(config)
        brain = hook.make_brain(config=config)
        return None if brain is None else Category(environment=name(section), family=brain.family)

    @hookimpl
    def task(self, config: Config) -> Mapping[str, Any] | None:
        """Return the environment with its limits, arguments and the rule for a success.

        The rewards are those of the environment, so that they are part of it.
        """
        if not _ours(config):
            return None
        from qn_tracking_gymnasium.environment import task

        return task(_environment(config), file=config.label)


class Policies:
    """Provider of the policies of this package."""

    @hookimpl
    def make_brain(self, config: Config) -> RandomPolicy | QLearning | Sb3 | None:
        """Make `random`, `qlearning` or `sb3`, for Gymnasium only. Raises ConfigError."""
        if not _ours(config):
            return None
        from qn_tracking.plugin import structure
        from qn_tracking_gymnasium import schema

        brain = _document(config).brain
        given, file, field = brain.config or {}, config.label, "brain.config"
        match brain.name:
            case "random":
                from qn_tracking_gymnasium.chance import RandomPolicy

                if given:
                    raise ConfigError("random has no options", file=file, field=field)
                return RandomPolicy()
            case "qlearning":
                from qn_tracking_gymnasium.qlearning import QLearning

                section = structure(given, schema.QLearningSection, file=file, field=field)
                return QLearning(section, file=file)
            case "sb3":
                from qn_tracking_gymnasium.sb3 import Sb3

                chosen = structure(given, schema.Sb3Section, file=file, field=field)
                return Sb3(chosen, file=file)
        return None


def _ours(config: Config) -> bool:
    section = config.data.get("environment")
    return isinstance(section, Mapping) and section.get("type") == "gymnasium"


def _document(config: Config) -> Document:
    from qn_tracking.plugin import SETTINGS, structure
    from qn_tracking_gymnasium.schema import Document

    return structure(config.data, Document, file=config.label, also=SETTINGS)


def _environment(config: Config) -> EnvironmentSection:
    from qn_tracking.plugin import structure
    from qn_tracking_gymnasium.schema import EnvironmentSection

    given = _document(config).environment
    return structure(given, EnvironmentSection, file=config.label, field="environment")
