"""The code of packages: names, places and digests. Nothing of a package is imported."""

from __future__ import annotations

import os
from hashlib import sha256
from os.path import basename, dirname, exists, join

from qn_tracking.errors import UnsupportedError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def source_digest(place: str) -> str:
    """SHA-256 over the names and contents of the source files of a package, or of one file."""
    seen = sha256()
    for name in source_files(place):
        inside = os.path.relpath(name, os.path.dirname(place))
        with open(name, "rb") as stream:
            content = sha256(stream.read()).hexdigest()
        seen.update(f"{inside}\0{content}\n".encode("utf-8", "surrogateescape"))
    return seen.hexdigest()


def source_files(place: str) -> list[str]:
    """The source files of a package in order, or the one file."""
    if not os.path.isdir(place):
        return [place]
    return sorted(
        os.path.join(folder, name)
        for folder, folders, names in os.walk(place)
        if "__pycache__" not in folder
        for name in names
        if not name.endswith((".pyc", ".pyo"))
    )


def packages_of(names: Sequence[object]) -> tuple[str, ...]:
    """The top-level packages of import names. Raises UnsupportedError for an invalid name."""
    packages: dict[str, None] = {}
    for name in names:
        if type(name) is not str or not name.isascii() or not _dotted(name):
            shown = printable(name)[:60]
            raise UnsupportedError(f"{shown!r} is not the name of a package", field="code")
        packages[name.partition(".")[0]] = None
    return tuple(packages)


def _dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def source_of(package: str) -> str | None:
    """The folder or the file of an installed top-level package."""
    import importlib.util

    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.origin or not exists(spec.origin):
        return None
    return dirname(spec.origin) if basename(spec.origin) == "__init__.py" else spec.origin


def is_installed(place: str) -> bool:
    """Whether a path is of an installed package, and not of a checkout that is worked in."""
    return any(part in ("site-packages", "dist-packages") for part in place.split(os.sep))


def module_in(root: str, name: str) -> str | None:
    """The folder or the file of a module below a folder, by its import name."""
    return _there(join(root, *name.split(".")))


def _there(place: str) -> str | None:
    return next((path for path in (place, f"{place}.py") if exists(path)), None)


def installed_digests() -> Callable[[str], str | None]:
    """A function that returns the digest of the installed code of a package, by import name.

    It returns None for a package that is not installed, and reads each package once. Names may
    come from a stranger's submission: of a package no more than its place is looked up.
    """
    from functools import cache

    @cache
    def digest(name: str) -> str | None:
        place = place_of(name)
        return None if place is None else source_digest(place)

    return digest


def place_of(name: str) -> str | None:
    """The folder or the file of an installed package by its import name; None without one."""
    try:
        (top,) = packages_of([name])
    except UnsupportedError:
        return None
    place = source_of(top)
    for part in name.split(".")[1:]:
        place = join(place or "", part)
    return _there(place) if place else None
