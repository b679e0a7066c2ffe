"""Folders that packages are imported from, for the front of another Python's path."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from os.path import basename, dirname, isdir, isfile, join

from qn_tracking.code import is_installed, source_of
from qn_tracking.repository import work_tree


def source_roots(tree: str, packages: Sequence[str]) -> tuple[str, ...]:
    """The folders of a checkout that hold these packages, in the order of the packages.

    A package that is not in the checkout has none.
    """
    around: dict[str, str] = {}
    for package in packages:
        place = source_of(package)
        repository = work_tree(dirname(place)) if place and not is_installed(place) else None
        if place and repository:
            around[package] = os.path.relpath(dirname(place), repository)
    plugins = join(tree, "plugins")
    named = sorted(os.listdir(plugins)) if isdir(plugins) else []
    usual = ["src", ".", *(join("plugins", name, "src") for name in named)]
    roots: dict[str, None] = {}
    for package in packages:
        places = [around[package], *usual] if package in around else usual
        for folder in places:
            root = os.path.normpath(join(tree, folder))
            if isfile(join(root, package, "__init__.py")) or isfile(join(root, f"{package}.py")):
                roots[root] = None
                break
    return tuple(roots)


def present_roots(packages: Sequence[str], place: str) -> tuple[str, ...]:
    """The folders of the installed code of these packages; `place` is a folder for links."""
    roots: dict[str, None] = {}
    for package in packages:
        source = source_of(package)
        if source is None:
            continue
        if not is_installed(source):
            roots[dirname(source)] = None
            continue
        # The rest of site-packages belongs to another environment.
        alone = join(place, "source")
        os.makedirs(alone, exist_ok=True)
        with suppress(FileExistsError):
            os.symlink(source, join(alone, basename(source)))
        roots[alone] = None
    return tuple(roots)
