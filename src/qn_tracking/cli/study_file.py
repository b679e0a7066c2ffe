"""A study in a file: the options of `qn-run` under their names, below the one key `study`.

    study:
      configs: [a.yml, b.yml]
      sweep: {brain.config.learning_rate: "geomspace(1e-4, 1e-2, 5)"}
      seeds: 1-20
      name: rate

Paths of configurations are relative to the file. What is on the command line wins.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qn_tracking.errors import ConfigError, did_you_mean
from qn_tracking.files import load
from qn_tracking.yaml_core import parse

OPTIONS = (
    "sweep", "zip", "seeds", "n-seeds", "seed", "episodes", "name", "question", "baseline",
    "metric", "jobs", "executor", "set", "plugins", "no-plugin", "tag", "notes",
    "experiments-dir", "save-benchmark", "contributor", "github", "benchmark-notes",
    "tuned-by", "benchmarks-dir",
)  # fmt: skip
KEYS = ("configs", "command", *OPTIONS)


def arguments(path: str, over: Sequence[str] = ()) -> list[str] | None:
    """The command line that the file of a study stands for; None if it is a configuration.

    What is in `over`, words of a command line, is left out: the command line wins. Raises
    ConfigError for a file of a study with what is no option.
    """
    try:
        text = load(path, error=ConfigError)[0].decode("utf-8-sig")
    except (OSError, UnicodeDecodeError, ConfigError):
        return None  # what is wrong with it, reading it as a configuration says
    if "study:" not in text and '"study"' not in text:
        return None
    data = parse(text, path)
    if not isinstance(data, dict) or "study" not in data or "environment" in data:
        return None
    for key in data:
        if key != "study":
            hint = f"as an option of the study it is study.{key}" if key in KEYS else "only `study`"
            raise ConfigError("beside the options of a study", file=path, field=key, hint=hint)
    if not isinstance(data["study"], dict):
        raise ConfigError("expected options by name", file=path, field="study")
    return list(_words(_less(data["study"], over), path))


def _less(given: Mapping[str, Any], over: Sequence[str]) -> dict[str, Any]:
    """The options that no word of a command line replaces: a swept field, and seeds of any kind."""
    said = [word.partition("=")[0].removeprefix("--") for word in over if word.startswith("--")]
    gone = {"seeds": ("n-seeds", "seed"), "n-seeds": ("seeds",)}
    without = {name for option in said for name in gone.get(option, ())}
    kept = {key: value for key, value in given.items() if key not in without}
    if isinstance(kept.get("sweep"), dict):
        swept = {word.removeprefix("--sweep=").partition("=")[0] for word in over}
        kept["sweep"] = {name: some for name, some in kept["sweep"].items() if name not in swept}
    return kept


def _words(given: Mapping[str, Any], path: str) -> Iterator[str]:
    for key, value in given.items():
        if key not in KEYS:
            cause = "is no option of a study"
            hint = did_you_mean(str(key), KEYS) or f"known: {', '.join(KEYS)}"
            raise ConfigError(cause, file=path, field=f"study.{key}", hint=hint)
        if key in OPTIONS:
            yield from _option(key, value, path)
    for config in _texts(given.get("configs", ()), "configs", path):
        beside = os.path.join(os.path.dirname(path), config)
        yield beside if os.path.exists(beside) else config
    if isinstance(given.get("command"), str):
        hint = 'such as [python, train.py, --seed, "{seed}"]'
        cause = "expected a list of words: no shell takes a text apart"
        raise ConfigError(cause, file=path, field="study.command", hint=hint)
    if "command" in given:
        yield from ("--", *_texts(given["command"], "command", path))


def _option(key: str, value: Any, path: str) -> Iterator[str]:
    if value is True:
        yield f"--{key}"
    elif isinstance(value, dict):
        for name, one in value.items():
            if one in ([], None) and key == "sweep":
                raise ConfigError("no values", file=path, field=f"study.sweep.{name}")
            yield f"--{key}"
            yield f"{name}={_value(key, one)}"
    elif isinstance(value, list) and key in ("set", "tag", "plugins", "no-plugin", "tuned-by"):
        for text in _texts(value, key, path):
            yield from (f"--{key}", text)
    elif isinstance(value, list) and key == "seeds":
        yield from (f"--{key}", ",".join(_texts(value, key, path)))
    elif isinstance(value, (str, int, float)) and value is not False:
        yield from (f"--{key}", str(value))
    elif value is not None and value is not False:
        kind = "fields, each with its values" if key == "sweep" else "a text or a number"
        raise ConfigError(f"expected {kind}", file=path, field=f"study.{key}")


def _value(key: str, value: Any) -> str:
    """What stands after `FIELD=`: text as it is, so that it may be `geomspace(…)`, else JSON."""
    if key == "sweep" and isinstance(value, list):
        return ",".join(map(_json, value))
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    # Escapes of what is beyond \uffff are two, which YAML does not read as one.
    return json.dumps(value, ensure_ascii=False)


def _texts(values: Any, key: str, path: str) -> list[str]:
    values = [values] if isinstance(values, str) else values
    if not isinstance(values, (list, tuple)) or any(isinstance(v, (list, dict)) for v in values):
        raise ConfigError("expected a list of texts", file=path, field=f"study.{key}")
    return [value if isinstance(value, str) else json.dumps(value) for value in values]
