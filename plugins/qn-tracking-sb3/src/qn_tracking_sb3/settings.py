"""The arguments of a model, as a configuration."""

from __future__ import annotations

import inspect
from math import isfinite
from typing import Any

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm

_NOT_SETTINGS = ("self", "env", "verbose", "tensorboard_log", "_init_setup_model", "args", "kwargs")


def settings(model: BaseAlgorithm) -> dict[str, Any]:
    """Return the algorithm, the environment and the arguments of a model, as plain data.

    A schedule is given by its values at the start and at the end of the training. An object that is
    neither a number nor text nor a collection of them is given by its class. A number that is not
    finite becomes text, such as `inf`, because a configuration cannot contain it.
    """
    found: dict[str, Any] = {}
    for name in inspect.signature(type(model).__init__).parameters:
        if name in _NOT_SETTINGS:
            continue
        if name == "policy":
            found[name] = type(model.policy).__name__
        elif hasattr(model, name):
            found[name] = _plain(getattr(model, name))
    environment = model.get_env()
    spec = environment.get_attr("spec", 0)[0] if environment is not None else None
    return {
        "environment": {
            "id": getattr(spec, "id", None),
            "kwargs": _plain(dict(getattr(spec, "kwargs", {}))),
            "count": model.n_envs,
        },
        "algorithm": type(model).__name__,
        "settings": found,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if inspect.isclass(value):
        return value.__name__
    if callable(value):
        try:  # the argument is the remaining fraction of the training
            first, last = float(value(1.0)), float(value(0.0))
        except (TypeError, ValueError):
            return getattr(value, "__name__", type(value).__name__)
        return _plain(first if first == last else {"start": first, "end": last})
    return str(value) if type(value).__module__ == "torch" else type(value).__name__
