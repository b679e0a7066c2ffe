"""The project around a folder: its `pyproject.toml`, and what `[tool.qn-tracking]` there says.

This module is read at the start of every command; it imports nothing that takes time.
"""

from __future__ import annotations

import os

from qn_tracking.errors import ConfigError, did_you_mean
from qn_tracking.files import current_folder, load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FILE = "pyproject.toml"
TABLE = "tool.qn-tracking"
KEYS = ("plugins", "experiments_dir")
MAX_BYTES = 4 << 20


def settings(folder: str | None = None) -> tuple[str | None, dict[str, Any]]:
    """The nearest pyproject.toml from a folder upward, and its table `[tool.qn-tracking]`.

    The path is None where the nearest file has no such table; `experiments_dir` in the table is an
    absolute path. Raises ConfigError for a file that cannot be
    read, and for a table with unknown keys; tables of other tools are not checked.
    """
    place, below = os.path.abspath(folder or current_folder()), ""
    while place != below:
        path = os.path.join(place, FILE)
        raw = _read(path)
        if raw is not None:
            return (path, _table(raw, path)) if b"qn-tracking" in raw else (None, {})
        place, below = os.path.dirname(place), place
    return None, {}


def experiments_dir(given: str | os.PathLike[str] | None = None) -> str:
    """What is given, else what `[tool.qn-tracking]` names, else `experiments`."""
    return os.fspath(given or settings()[1].get("experiments_dir") or "experiments")


def _read(path: str) -> bytes | None:
    """The bytes of the file; None if it does not exist, or its folder cannot be searched."""
    if not os.path.exists(path):
        return None
    try:
        return load(path, MAX_BYTES, error=ConfigError, follow=True)[0]
    except FileNotFoundError:
        return None


def _table(raw: bytes, path: str) -> dict[str, Any]:
    import tomllib

    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError("encoding is not UTF-8", file=path, hint="save it as UTF-8") from None
    try:
        tool = tomllib.loads(text).get("tool", {})
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"TOML: {error}", file=path) from None
    if not isinstance(tool, dict):
        raise ConfigError("expected a table", file=path, field="tool")
    table = tool.get("qn-tracking", {})
    if not isinstance(table, dict):
        raise ConfigError("expected a table", file=path, field=TABLE)
    for key in table:
        if key not in KEYS:
            hint = did_you_mean(key, KEYS)
            raise ConfigError("unknown key", file=path, field=f"{TABLE}.{key}", hint=hint)
    name = table.get("experiments_dir")
    if name is not None and (type(name) is not str or not name or "\x00" in name):
        raise ConfigError("expected text", file=path, field=f"{TABLE}.experiments_dir")
    if name is not None:
        table["experiments_dir"] = os.path.join(os.path.dirname(path), name)
    return table
