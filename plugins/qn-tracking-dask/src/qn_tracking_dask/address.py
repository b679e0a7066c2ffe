"""The forms of `--executor dask://…`, and the address of the scheduler."""

from __future__ import annotations

import json
import os
import re

from qn_tracking.plugin import StorageError, UsageError

FORMS = "dask://HOST:PORT, dask://tls://HOST:PORT, dask://FILE.json or dask://local"

_HOST_PORT = re.compile(
    r"(?:(?P<scheme>tcp|tls)://)?(?P<host>\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[\w.-]+):(?P<port>[0-9]{1,5})"
)


def scheduler(spec: str) -> str | None:
    """Return the address of a scheduler as Dask writes it, `tcp://HOST:PORT`; None for `local`.

    A name that ends in `.json` is the scheduler file that `dask scheduler --scheduler-file` writes.
    Raises UsageError for any other form, StorageError for a file without an address.
    """
    _, _, place = spec.partition("://")
    if place == "local":
        return None
    if place.endswith(".json"):
        file = os.path.expanduser(place)
        return _address(_read_address(file), file)
    return _address(place, f"--executor {spec}")


def _address(text: str, file: str) -> str:
    found = _HOST_PORT.fullmatch(text)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise UsageError("not the address of a scheduler", file=file, hint=f"one of {FORMS}")
    return f"{found['scheme'] or 'tcp'}://{found['host']}:{found['port']}"


def _read_address(file: str) -> str:
    try:
        with open(file, encoding="utf-8") as stream:
            content = json.load(stream)
    except OSError as error:
        raise StorageError((error.strerror or str(error)).lower(), file=file) from None
    except ValueError as error:
        raise StorageError(f"not JSON: {error}", file=file) from None
    address = content.get("address") if isinstance(content, dict) else None
    if type(address) is not str:
        raise StorageError("expected text", file=file, field="address")
    return address
