"""Makes the environment that a configuration names."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import gymnasium
from attrs import frozen
from gymnasium.envs.registration import EnvSpec

from qn_tracking.plugin import ConfigError, UsageError, did_you_mean
from qn_tracking_gymnasium.ending import names
from qn_tracking_gymnasium.schema import EnvironmentSection, thawed

_OURS = {
    "id": "environment.id",
    "max_episode_steps": "environment.max_steps",
    "disable_env_checker": "the checker is always off, because it slows down every step",
    "render_mode": "a run renders nothing",
}
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@frozen(kw_only=True)
class Recipe:
    """An environment that was made once as a check: `make` returns a new one each time.

    `least` is its registered reward threshold, if it has one. `package` is the package of the
    environment. `warnings` are Gymnasium's, from the first time.
    """

    make: Callable[[], gymnasium.Env[Any, Any]]
    least: float | None
    package: str
    warnings: tuple[str, ...] = ()


def recipe(section: EnvironmentSection, *, file: str) -> Recipe:
    """Check a section by making the environment once.

    A configuration may be untrusted: `module:Env-v0`, by which Gymnasium imports any module, is
    refused, and so are displays. Raises ConfigError with the field.
    """

    def refuse(cause: str, name: str, hint: str | None = None) -> ConfigError:
        return ConfigError(cause, file=file, field=f"environment.{name}", hint=hint)

    try:
        names(section.info)
    except UsageError as error:
        raise refuse(error.cause.removeprefix("info: "), "info", error.hint) from None
    if ":" in section.id:
        raise refuse(
            "a module before the id is not allowed, because it would be imported",
            "id",
            "use environment.package for an installed package",
        )
    for name in section.kwargs:
        if name in _OURS:
            raise refuse("cannot be set here", f"kwargs.{name}", _OURS[name])
    registered = spec_of(section, file=file)
    kwargs = thawed(section.kwargs)

    def made() -> gymnasium.Env[Any, Any]:
        # The checker is for authors of environments, and slows down every step.
        return gymnasium.make(
            section.id, max_episode_steps=section.max_steps, disable_env_checker=True, **kwargs
        )

    def make() -> gymnasium.Env[Any, Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they were shown before
            return made()

    messages: tuple[str, ...]
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            env = made()
            messages = tuple(dict.fromkeys(_line(one.message) for one in caught))
    except (Exception, SystemExit) as error:
        missing = isinstance(error, (ImportError, gymnasium.error.DependencyNotInstalled))
        name = "kwargs" if kwargs and not missing else "id"
        # Gymnasium's message repeats all arguments; its cause is the environment's own message.
        inner = error.__cause__ if isinstance(error, TypeError) else None
        raise refuse(f"{section.id} cannot be made: {_line(inner or error)}", name) from None
    try:
        spec = env.spec
        if section.max_steps is None and registered.max_episode_steps is None:
            messages += (
                f"{section.id} has no registered limit of steps: without environment.max_steps an "
                "episode may not end",
            )
        threshold = None if spec is None else spec.reward_threshold
        return Recipe(
            make=make,
            least=None if threshold is None else float(threshold),
            package=type(env.unwrapped).__module__.partition(".")[0],
            warnings=messages,
        )
    finally:
        with suppress(Exception):
            env.close()


def spec_of(section: EnvironmentSection, *, file: str) -> EnvSpec:
    """Return what is registered under the id. Raises ConfigError with the field."""
    if section.package is not None:
        cause = _imported(section.package)
        if cause is not None:
            raise ConfigError(cause, file=file, field="environment.package")
    if section.id not in gymnasium.registry:
        raise ConfigError(
            f"no environment {section.id!r}",
            file=file,
            field="environment.id",
            hint=did_you_mean(section.id, gymnasium.registry)
            or "environment.package names the package that registers it",
        )
    return gymnasium.registry[section.id]


def task(section: EnvironmentSection, *, file: str) -> dict[str, Any]:
    """Return what is to be solved, with the registered limit, threshold, arguments and wrappers.

    They may differ between versions of Gymnasium, and then so does the task. The threshold counts
    only where `success_reward` is not set, and only if `info` has no success, so that both stand
    side by side. `info` names metrics, which change no task. Raises ConfigError with the field.
    """
    spec = spec_of(section, file=file)
    wrappers = [
        {"name": wrapper.name, "kwargs": _plain_of(wrapper.kwargs)}
        for wrapper in spec.additional_wrappers
    ]
    least = section.success_reward
    limit = spec.max_episode_steps if section.max_steps is None else section.max_steps
    return {
        "environment": {
            "type": section.type,
            "id": section.id,
            "package": section.package,
            "kwargs": {**_plain_of(spec.kwargs), **thawed(section.kwargs)},
            "wrappers": wrappers,
            "max_steps": limit,
            "success_reward": least,
            "reward_threshold": spec.reward_threshold if least is None else None,
        }
    }


def _plain_of(kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (kwargs or {}).items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(type(key) is str and _is_plain(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def _imported(name: str) -> str | None:
    """Import an installed package that requires Gymnasium; return the problem, if any.

    An untrusted configuration must not import any other package.
    """
    from importlib import import_module
    from importlib.metadata import PackageNotFoundError, requires

    if not name.isidentifier():
        return f"expected the import name of a package, got {name!r}"
    try:
        wanted = requires(name) or []
    except PackageNotFoundError:
        return f"{name} is not installed"
    if not any(re.match(r"gymnasium\b(?!-)", one, re.IGNORECASE) for one in wanted):
        return f"{name} does not require gymnasium, so it is not imported"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import_module(name)
    except (Exception, SystemExit) as error:
        return f"{name} cannot be imported: {_line(error)}"
    return None


def _line(error: BaseException | Warning | str) -> str:
    text = _COLOUR.sub("", str(error)).removeprefix("WARN: ")
    first = " ".join(text.split())
    return (first if len(first) <= 300 else first[:299] + "…") or type(error).__name__
