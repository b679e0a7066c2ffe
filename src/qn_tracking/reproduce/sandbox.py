"""Bubblewrap around a process: what code that is not trusted can see, and what it cannot."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import all_suffixes
from os.path import dirname, isdir, isfile, join

from qn_tracking.code import is_installed
from qn_tracking.reproduce.process import minimal_environment, run_tool
from qn_tracking.reproduce.worktree import is_worktree

# Where an environment imports from: its path, and the tables of setuptools' editable installations.
_PATHS = (
    "import json, sys; modules = {getattr(f, '__module__', None) for f in sys.meta_path}; "
    "tables = [getattr(sys.modules.get(m), 'MAPPING', None) for m in modules]; "
    "places = [p for t in tables if isinstance(t, dict) for p in t.values()]; "
    "print('\\n' + json.dumps([sys.path, [p for p in places if isinstance(p, str)]]))"
)


def program() -> str | None:
    """The path of bubblewrap, if it is installed and works here."""
    found = shutil.which("bwrap")
    if found is None:
        return None
    probe = [found, "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev"]
    try:
        done = subprocess.run(
            [*probe, "true"], stdin=subprocess.DEVNULL, capture_output=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found if done.returncode == 0 else None


def sandboxed(folder: str, python: str, roots: Sequence[str]) -> list[str]:
    """The beginning of a command that runs in `folder` without network, other processes and home,
    with a read-only system and its own /tmp; empty if there is no sandbox here.

    In the hidden folders it sees the Python, the code of `roots`, and what that Python imports.
    """
    bubblewrap = program()
    if bubblewrap is None:
        return []
    out = [bubblewrap, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    out += ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    places = ("/tmp", "/var/tmp", "/run", "/home", "/root", os.path.expanduser("~"))  # noqa: S108
    hidden = {os.path.realpath(name) for name in places} - {"/"}
    for name in sorted(hidden):
        if isdir(name):
            out += ["--tmpfs", name]
    needed = [sys.prefix, sys.base_prefix]
    for name in (python, sys.executable):
        needed += [dirname(dirname(name)), dirname(dirname(os.path.realpath(name)))]
    for name in roots:
        # A temporary worktree holds what was committed; beside other code there may be secrets.
        needed += [name] if is_worktree(name) else _code_in(name, hidden)
    if python == sys.executable:
        needed += _imported(python, hidden)
    shown = dict.fromkeys(place for name in needed for place in (name, os.path.realpath(name)))
    for place in shown:
        if _below(place, hidden) and not _around(place, hidden):
            out += ["--ro-bind-try", place, place]
    return [*out, "--bind", folder, folder, "--chdir", folder, "--"]


def _below(place: str, folders: Iterable[str]) -> bool:
    """Whether a path is one of these folders, or in one."""
    return any(f"{place}/".startswith(f"{folder.rstrip('/')}/") for folder in folders)


def _around(place: str, hidden: set[str]) -> bool:
    """Whether a path is, or holds, a folder that must stay hidden, such as a home."""
    real = os.path.realpath(place)
    return any(_below(name, (real,)) for name in hidden)


def _imported(python: str, hidden: set[str]) -> list[str]:
    """The code in hidden folders that an environment imports from outside of itself: editable
    installations, and what else a `.pth` file names.

    Only for the user's own environment, for its files decide what the sandbox may read.
    """
    import json  # a path that is no UTF-8 is no JSON for orjson

    env = minimal_environment()
    code, output = run_tool([python, "-I", "-B", "-c", _PATHS], env, 60)
    if code != 0:
        return []  # the run fails with the reason
    path, table = json.loads(output.splitlines()[-1])
    out: list[str] = []
    for name in path:
        own = _below(name, (sys.prefix, sys.base_prefix))
        if not own and _below(os.path.realpath(name), hidden):
            out += [name] if isfile(name) or is_installed(name) else _code_in(name, hidden)
    for name in table:
        if isfile(join(name, "__init__.py")):
            out.append(name)
        elif isdir(name):
            out += _code_in(name, hidden)
        else:
            # The table names a module without the ending of its file.
            out += filter(isfile, (name, *(f"{name}{suffix}" for suffix in all_suffixes())))
    return out


def _code_in(folder: str, hidden: set[str], deeper: int = 2) -> list[str]:
    """The modules and packages of a folder and of the namespaces in it; no other file, and nothing
    of a home or the like.
    """
    out: list[str] = []
    if _around(folder, hidden):
        return out
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return out
    for entry in entries:
        if not entry.is_dir():
            if entry.name.endswith(tuple(all_suffixes())):
                out.append(entry.path)
        elif entry.name.endswith((".egg-info", ".dist-info")):
            out.append(entry.path)
        elif entry.name.isidentifier() and entry.name != "__pycache__":
            if isfile(join(entry.path, "__init__.py")):
                out.append(entry.path)
            elif deeper:
                out += _code_in(entry.path, hidden, deeper - 1)
    return out
