"""The configurations that come with the package and with plugins, found without reading any."""

from __future__ import annotations

import os

from qn_tracking.tracking import installed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def shipped() -> dict[str, str]:
    """The paths of the configurations that come with the package and with plugins, by name.

    The package's own go first; a plugin whose folder is not there ships none.
    """
    found = own()
    for entry in installed.every():
        if entry.name.startswith(installed.CONFIGS):
            for folder in _folders(entry.value):
                found = {**_in(folder), **found}
    return dict(sorted(found.items()))


def own() -> dict[str, str]:
    """Those of the package alone."""
    return _in(os.path.join(os.path.dirname(__file__), "configs"))


def _in(folder: str) -> dict[str, str]:
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return {
        name.removesuffix(".yml"): os.path.join(folder, name)
        for name in names
        if name.endswith(".yml")
    }


def _folders(package: str) -> Sequence[str]:
    from importlib.util import find_spec

    try:
        spec = find_spec(package)  # imports the package that this one is in
    except KeyboardInterrupt:
        raise
    except BaseException:  # of a plugin that is broken, SystemExit too
        spec = None
    return [] if spec is None else list(spec.submodule_search_locations or ())
